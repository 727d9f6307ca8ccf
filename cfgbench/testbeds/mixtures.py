"""Class-conditional Gaussian mixtures in closed form: the data side of the `gaussians` testbed. No torch.

Noise is added in the variance-exploding convention x = x_0 + sigma n, where a component N(m, C) becomes
N(m, C + sigma^2 I).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import logsumexp

REFERENCE_SIZE = 4000


@dataclass(frozen=True)
class Components:
    """K weighted Gaussians: log_weights (K,) and means (K, d); covariances as axes (K, d, d) and variances (K, d)."""

    log_weights: np.ndarray
    means: np.ndarray
    axes: np.ndarray
    variances: np.ndarray


@dataclass(frozen=True)
class Mixture:
    """Equally likely classes, and what the model without a condition has learnt."""

    classes: tuple[Components, ...]
    background: Components  # the unconditional distribution


def mixture(mixture: str = "toy2d") -> Mixture:
    """A named mixture: `toy2d` to look at, `nested` N(0, 1) within N(0, 2), `general2` and `general16`."""
    return _BUILDERS[mixture]()


def num_classes(mixture: str = "toy2d") -> int:
    """How many classes a named mixture has."""
    return len(_BUILDERS[mixture]().classes)


@lru_cache(maxsize=1)
def alphas_cumprod() -> np.ndarray:
    """The schedule of Ho et al. 2020: 1000 linear betas from 1e-4 to 0.02, as cumulative products (1000,)."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def noise_levels(mixture: str = "toy2d") -> np.ndarray:
    """Sigma per training timestep (1000,), increasing."""
    return np.asarray(np.sqrt(1 / alphas_cumprod() - 1))


def reference(half: str, parameters: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Exact draws (n, d) with balanced labels (n,); the two halves have seeds of their own."""
    chosen = mixture(**parameters)
    count = REFERENCE_SIZE - REFERENCE_SIZE % len(chosen.classes)
    labels = np.arange(count) % len(chosen.classes)
    rng = np.random.default_rng({"heldout": 1, "train": 2}[half])
    return draw(chosen, labels, rng), labels


def draw(mixture: Mixture, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exact samples (n, d) of the classes in `labels` (n,)."""
    result = np.empty((len(labels), mixture.background.means.shape[1]))
    for label, parts in enumerate(mixture.classes):
        rows = np.flatnonzero(labels == label)
        choice = rng.choice(len(parts.means), size=len(rows), p=np.exp(parts.log_weights))
        scaled = rng.standard_normal((len(rows), result.shape[1])) * np.sqrt(parts.variances[choice])
        result[rows] = parts.means[choice] + np.einsum("nij,nj->ni", parts.axes[choice], scaled)
    return result


def moments(parts: Components) -> tuple[np.ndarray, np.ndarray]:
    """Exact mean (d,) and covariance (d, d) of a mixture."""
    weights = np.exp(parts.log_weights)
    mean = weights @ parts.means
    covariances = np.einsum("kij,kj,klj->kil", parts.axes, parts.variances, parts.axes)
    centred = parts.means - mean
    return mean, np.einsum("k,kij->ij", weights, covariances) + (centred.T * weights) @ centred


def log_density(parts: Components, x: np.ndarray) -> np.ndarray:
    """log p(x) of noise-free points x (n, d), shape (n,)."""
    projected = np.einsum("nkd,kde->nke", x[:, None] - parts.means, parts.axes)
    quadratic = (projected**2 / parts.variances + np.log(2 * np.pi * parts.variances)).sum(-1)
    return np.asarray(logsumexp(parts.log_weights - 0.5 * quadratic, axis=1))


def class_log_probs(mixture: Mixture, x: np.ndarray) -> np.ndarray:
    """The Bayes classifier's log p(c | x) (n, classes) for noise-free points x (n, d)."""
    joint = np.stack([log_density(parts, x) for parts in mixture.classes], axis=1)
    return np.asarray(joint - logsumexp(joint, axis=1, keepdims=True))


def _toy2d() -> Mixture:
    """Four classes of two round modes each on a circle of radius 2."""
    angles = np.deg2rad(np.arange(4)[:, None] * 90 + np.array([-22, 22]))
    means = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    weights = np.log(np.array([0.5, 0.5]))
    return _mixed([_components(weights, m, np.stack([0.25**2 * np.eye(2)] * 2)) for m in means])


def _nested() -> Mixture:
    one, two = (_components(np.zeros(1), np.zeros((1, 1)), np.full((1, 1, 1), v)) for v in (1.0, 2.0))
    return Mixture((one,), two)


def _general(d: int) -> Mixture:
    """Three classes of two components with unequal weights, means and full covariances, from a fixed seed."""
    rng = np.random.default_rng(d)
    factors = rng.standard_normal((3, 2, d, d)) / np.sqrt(d)
    covariances = np.einsum("ckij,cklj->ckil", factors, factors) * 0.5 + 0.1 * np.eye(d)
    means = rng.standard_normal((3, 2, d)) * 1.5
    weights = np.log(rng.dirichlet(np.full(2, 5.0), size=3))
    return _mixed([_components(w, m, c) for w, m, c in zip(weights, means, covariances, strict=True)])


def _components(log_weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> Components:
    variances, axes = np.linalg.eigh(covariances)
    return Components(log_weights, means, axes, variances)


def _mixed(classes: list[Components]) -> Mixture:
    log_weights = np.concatenate([parts.log_weights for parts in classes]) - np.log(len(classes))
    joined = (np.concatenate([getattr(parts, key) for parts in classes]) for key in ("means", "axes", "variances"))
    return Mixture(tuple(classes), Components(log_weights, *joined))


_BUILDERS: dict[str, Callable[[], Mixture]] = {
    "toy2d": _toy2d,
    "nested": _nested,
    "general2": lambda: _general(2),
    "general16": lambda: _general(16),
}
