"""How the cost of a sweep grows with samples, cells and steps, with the batch, with dimensions and with workers."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench import machine
from cfgbench.bench.frechet import features
from cfgbench.bench.result import Finding, Result, in_turn, ratio, seconds_rows
from cfgbench.bench.startup import Silent
from cfgbench.bench.sweep import Warm
from cfgbench.planning import experiment, plan
from cfgbench.planning.plan import NUM_GROUPS
from cfgbench.reading.tables.rows import Row
from cfgbench.running import runner
from cfgbench.scores import metrics
from cfgbench.scores.metrics import Reference, Samples

BASE: dict[str, Any] = {"samples": 1000, "cells": 4, "steps": 10, "batch": 100}
VARIED = {"samples": (1000, 2000, 4000), "cells": (4, 8, 16), "steps": (10, 20, 40), "batch": (20, 100, 500)}
DIMENSIONS, SCORED = (64, 256, 1024), 4000  # of features, and how many samples have them
METRICS = ("fid", "inception_score")


def run(quick: bool = False) -> Result:
    """Each of them varied alone; then the dimensions of features, and one worker against all."""
    base = {"samples": 200, "cells": 2, "steps": 1, "batch": 100} if quick else BASE
    varied = {"samples": (200, 400)} if quick else VARIED
    rows: list[Row] = []
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        folders = (Path(name) / str(number) for number in count())
        for what, values in varied.items():
            with Warm() as pool:
                sides = {str(v): _run({**base, what: v}, lambda: next(folders), pool) for v in values}
                found = in_turn(sides, 1 if quick else 3, warm=not quick)
            rows += seconds_rows(what, found)
            findings.append(_growth(f"seconds with {values[-1] // values[0]} times the {what}", found))
        one, all_cores = (_run(base, lambda: next(folders), workers) for workers in (1, machine.cores()))
        found = in_turn({str(machine.cores()): all_cores, "1": one}, 1 if quick else 3, warm=False)
        rows += seconds_rows("workers, with their start", found)
        findings.append(_growth(f"seconds of 1 worker over those of {machine.cores()}, with their start", found))
    scored = in_turn({str(d): _scoring(d, 200 if quick else SCORED) for d in DIMENSIONS[: 2 if quick else 3]}, 3)
    rows += seconds_rows("FID with its error bar, by dimensions", scored)
    findings.append(_growth("seconds of FID with its error bar, most over fewest dimensions", scored))
    return Result(rows, findings)


def _run(size: dict[str, int], folder: Callable[[], Path], pool: Warm | int) -> Callable[[], object]:
    scales = [round(1 + 0.05 * (k + 1), 2) for k in range(size["cells"])]
    sweep = {"model": "digits", "guidance_scale": scales, "sampler": "ddim", "steps": size["steps"]}
    body: dict[str, Any] = {
        "name": "growth",
        "num_samples": size["samples"],
        "batch_size": size["batch"],
        "metrics": METRICS,
    }
    body |= {"profile": None, "sweeps": [sweep]}
    made = plan.plan(experiment.parse(body, "cfgbench bench"))
    if isinstance(pool, int):
        return lambda: runner.run(made, runner.Options(folder(), workers=pool, profile=False), Silent())
    return lambda: runner.run(made, runner.Options(folder(), profile=False), Silent(), pool)


def _scoring(dimension: int, samples: int) -> Callable[[], object]:
    """The distance of samples and its replicates, the reference's root kept."""
    x, y = features(samples, dimension, 0), features(samples, dimension, 1)
    kept = Reference(features=y)
    kept.root  # noqa: B018  # made once, as a run does
    groups = np.arange(samples) % NUM_GROUPS
    return lambda: metrics.fid(Samples(x), kept, groups)


def _growth(what: str, seconds: Mapping[str, Sequence[float]]) -> Finding:
    """The last side over the first."""
    first, *_, last = seconds.values()
    return ratio(what, last, first)
