"""Guided samples of Gaussian mixtures with exact scores: how they spread, and what the class scores add up to."""

from collections.abc import Sequence

import numpy as np
import torch

from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.generation import guidance, noise, sampling
from cfgbench.generation.sampling import Request, Step
from cfgbench.models import Level
from cfgbench.models.gaussians import Gaussians, load
from cfgbench.running.worker import prepare
from cfgbench.scores import statistics
from cfgbench.testbeds import mixtures

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 9.0)
PLANE_SAMPLES, NESTED_SAMPLES = 2000, 4000
NESTED_STEPS = 250
SIGMAS = (0.1, 0.3, 1.0, 3.0, 10.0)


def plane() -> dict[str, Sequence[float]]:
    """Four classes in the plane, 2000 guided samples with the same noise at every scale, per group of 100: the variance
    within classes (trace, mean over classes) and the mean distance to the centre of the nearest other class."""
    chosen = mixtures.mixture("toy2d")
    centres = np.array([mixtures.moments(parts)[0] for parts in chosen.classes])
    labels = np.arange(PLANE_SAMPLES) % len(centres)
    groups = statistics.groups(np.arange(PLANE_SAMPLES), len(centres))
    series: dict[str, Sequence[float]] = {}
    for scale in SCALES:
        points = _samples("toy2d", scale, Diffusion(sampler="dpmpp_2m", steps=25), labels)
        parts = [(points[groups == group], labels[groups == group]) for group in range(statistics.NUM_GROUPS)]
        series[f"variance s={scale:g}"] = [_variance(x, y) for x, y in parts]
        series[f"distance s={scale:g}"] = [_distance(x, y, centres) for x, y in parts]
    return series


def nested() -> dict[str, Sequence[float]]:
    """N(0, 1) within N(0, 2) at s = 2, 4000 samples, 250 steps of DDIM (ODE) and of DDPM (SDE): the mean square per
    group of 200. In closed form it is 1/2 and 7/12 in the limit of many steps, and 2/3 for the powered density."""
    labels = np.zeros(NESTED_SAMPLES, dtype=int)
    groups = statistics.groups(np.arange(NESTED_SAMPLES), 1)
    series: dict[str, Sequence[float]] = {}
    for name, sampler in (("ode", "ddim"), ("sde", "ddpm")):
        squares = _samples("nested", 2.0, Diffusion(sampler=sampler, steps=NESTED_STEPS), labels)[:, 0] ** 2
        series[f"{name} variance s=2"] = [float(squares[groups == g].mean()) for g in range(statistics.NUM_GROUPS)]
    return series


def sum_over_classes() -> dict[str, Sequence[float]]:
    """Four classes in the plane, 1000 points at each of five noise levels: the class predictions, weighted by the exact
    classifier, against the unconditional prediction, largest error relative to its largest value; passes counted."""
    model = load("toy2d")
    rng = np.random.default_rng(0)
    errors = []
    for sigma in SIGMAS:
        x = torch.from_numpy(rng.standard_normal((1000, 2)) * np.hypot(2, sigma)) / np.hypot(1, sigma)
        errors.append(_error(model, x, Level(torch.tensor(0.0), sigma)))
    classes = len(model.mixture.classes)
    return {"relative error": [max(errors)], "passes per class": [_passes(classes) / classes]}


def _samples(mixture: str, scale: float, how: Diffusion, labels: np.ndarray) -> np.ndarray:
    """Guided samples (n, d) of seed 0."""
    method = Guidance(method="cfg", parameters={"guidance_scale": scale}) if scale != 1 else Guidance(method="unguided")
    model = ModelRef(name="gaussians", parameters={"mixture": mixture})
    cell = Cell(model=model, guidance=method, diffusion=how, dtype="fp64")
    latents, _ = sampling.sample(prepare(cell, labels, "cpu"), guidance.bind(method), 0, range(len(labels)))
    return latents.numpy()


def _variance(points: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([points[labels == label].var(axis=0, ddof=1).sum() for label in np.unique(labels)]))


def _distance(points: np.ndarray, labels: np.ndarray, centres: np.ndarray) -> float:
    away = np.linalg.norm(points[:, None] - centres, axis=2)
    away[np.arange(len(labels)), labels] = np.inf
    return float(away.min(axis=1).mean())


def _error(model: Gaussians, x: torch.Tensor, level: Level) -> float:
    classes = len(model.mixture.classes)
    posterior = model.class_log_probs(x, level).softmax(dim=1)
    parts = torch.stack([model.predict(x, level, torch.full((len(x),), c)) for c in range(classes)], dim=1)
    whole = model.predict(x, level, torch.full((len(x),), classes))
    return float(((posterior[:, :, None] * parts).sum(1) - whole).abs().max() / whole.abs().max())


def _passes(classes: int) -> float:
    """Network evaluations counted for one unconditional prediction made from the classes'."""
    cell = Cell(
        model=ModelRef(name="gaussians"),
        guidance=Guidance(method="unguided"),
        diffusion=Diffusion(sampler="ddim", steps=1),
        dtype="fp64",
    )
    labels = noise.labels(range(classes), classes)
    batch = prepare(cell, labels, "cpu")
    trajectory = sampling.start(batch, 0, range(classes))
    Step(trajectory, batch).predict_all(*(Request(torch.full((classes,), c)) for c in range(classes)))
    return trajectory.counts.nfe
