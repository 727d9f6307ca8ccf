"""Scores of features: the Frechet distance against torchmetrics and scipy, precision and recall against prdc.

Every side gets the features of samples, and a reference that it has seen before: its mean and covariance, or whatever
it keeps. Seconds are for one value.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial

import numpy as np
import torch
from scipy.linalg import sqrtm

from cfgbench.bench.result import Result, in_turn, ratio, seconds_rows
from cfgbench.reading.tables.rows import Row
from cfgbench.scores import metrics
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.scores.statistics import Floats
from cfgbench.scores.torchmetrics_scores import PassThrough

SIZES = ((64, 10_000, 9), (768, 5_000, 5), (2048, 5_000, 3))  # dimensions, samples, rounds
FEW = (2048, 500, 3)
NEIGHBOURS = 3
KEPT, NEW = "ours, root of the reference kept", "ours, reference new"


def run(quick: bool = False) -> Result:
    """The distance at three dimensions and with fewer samples than dimensions; the four scores of neighbours."""
    rows: list[Row] = []
    findings = []
    for dimension, samples, rounds in ((16, 200, 1), (24, 20, 1)) if quick else (*SIZES, FEW):
        found, worst = distances(dimension, samples, rounds)
        case = f"distance, {dimension} dimensions, {samples} samples"
        rows += [{**row, "largest_relative_difference": worst} for row in seconds_rows(case, found)]
        goals = (2.3, 9.0) if (dimension, samples) == SIZES[-1][:2] else (None, None)
        for other, goal in zip(("torchmetrics", "scipy"), goals, strict=True):
            what = f"{other} over ours, Frechet {case.removeprefix('distance, ')}"
            findings.append(ratio(what, found[other], found[KEPT], goal))
        what = f"a reference seen first over one kept, Frechet {case.removeprefix('distance, ')}"
        findings.append(ratio(what, found[NEW], found[KEPT]))
    seconds, worst = neighbours(200 if quick else 5_000, 1 if quick else 3)
    case = "precision, recall, density and coverage, 64 dimensions"
    rows += [{**row, "largest_relative_difference": worst} for row in seconds_rows(case, seconds)]
    findings.append(ratio("prdc over ours, " + case, seconds["prdc"], seconds["ours"]))
    return Result(rows, findings)


def distances(dimension: int, samples: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds by side, and the largest relative difference of their values to ours."""
    x, y = features(samples, dimension, 0), features(max(samples, 2 * dimension), dimension, 1)
    kept = Reference(features=y)
    kept.root, kept.mean, kept.covariance  # noqa: B018  # made once, as a run does
    sides: dict[str, Callable[[], float]] = {
        KEPT: lambda: metrics.frechet_distance(Samples(x), kept),
        NEW: lambda: metrics.frechet_distance(Samples(x), Reference(features=y)),
        "torchmetrics": _torchmetrics(x, y),
        "scipy": _scipy(x, y.mean(axis=0), np.cov(y, rowvar=False)),
    }
    values: dict[str, float] = {}
    found = in_turn({name: partial(_keep, values, name, side) for name, side in sides.items()}, rounds, warm=False)
    ours = values[KEPT]
    return found, max(abs(value - ours) / abs(ours) for value in values.values())


def neighbours(samples: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """The same for the four scores of neighbours, the reference's radii kept on our side; prdc knows no such thing."""
    from prdc import compute_prdc

    x, y = features(samples, 64, 0), features(samples, 64, 1)
    groups, kept = np.arange(samples) % 2, Reference(features=y)
    kept.radii(NEIGHBOURS)
    names = ("precision", "recall", "density", "coverage")

    def ours() -> list[float]:
        drawn = Samples(x)
        return [getattr(metrics, name)(drawn, kept, groups, k=NEIGHBOURS).value for name in names]

    def theirs() -> list[float]:
        with redirect_stdout(io.StringIO()):  # it prints
            found = compute_prdc(y, x, NEIGHBOURS)
        return [float(found[name]) for name in names]

    pairs = zip(ours(), theirs(), strict=True)
    worst = max(abs(a - b) / abs(b) for a, b in pairs)
    return in_turn({"ours": ours, "prdc": theirs}, rounds, warm=False), worst


def _keep(values: dict[str, float], name: str, side: Callable[[], float]) -> None:
    values[name] = side()


def features(samples: int, dimension: int, seed: int) -> Floats:
    """Correlated features with a decaying spectrum, as those of images have."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, dimension + 1) ** -0.5
    mix = np.random.default_rng(7).normal(size=(dimension, dimension)) / np.sqrt(dimension)
    return np.asarray((rng.normal(size=(samples, dimension)) * scales) @ mix + 0.1 * seed)


def _torchmetrics(x: Floats, y: Floats) -> Callable[[], float]:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(PassThrough(x.shape[1]), reset_real_features=False).set_dtype(torch.float64)
    metric.update(torch.from_numpy(y), real=True)
    fake = torch.from_numpy(x)

    def value() -> float:
        metric.reset()
        metric.update(fake, real=False)
        return float(metric.compute())

    return value


def _scipy(x: Floats, mean: Floats, covariance: Floats) -> Callable[[], float]:
    """As the reference implementations of FID have it."""

    def value() -> float:
        own = np.cov(x, rowvar=False)
        root = np.real(sqrtm(own @ covariance))
        gap = x.mean(axis=0) - mean
        return float(gap @ gap + np.trace(own) + np.trace(covariance) - 2 * np.trace(root))

    return value
