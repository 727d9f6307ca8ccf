"""The metrics by their definitions: loops over samples, no algebra, no chunks. Slow and obviously right."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

Array = npt.NDArray[Any]


def fid(x: Array, y: Array) -> float:
    """Heusel et al. 2017, with scipy's square root of the product of covariances."""
    s, r = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(s @ r)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(s + r) - 2 * np.trace(root).real)


def kid(x: Array, y: Array, degree: int = 3) -> float:
    """Binkowski et al. 2018."""

    def kernel(a: Array, b: Array) -> float:
        return float((np.dot(a, b) / len(a) + 1) ** degree)

    within_x = np.mean([kernel(a, b) for a, b in itertools.permutations(x, 2)])
    within_y = np.mean([kernel(a, b) for a, b in itertools.permutations(y, 2)])
    return float(within_x + within_y - 2 * np.mean([kernel(a, b) for a, b in itertools.product(x, y)]))


def inception_score(log_probs: Array) -> float:
    """Salimans et al. 2016."""
    p = np.exp(log_probs)
    marginal = p.mean(0)
    return float(np.exp(np.mean([sum(q * np.log(q / m) for q, m in zip(row, marginal, strict=True)) for row in p])))


def radius(points: Array, i: int, k: int) -> float:
    """Distance from point i to its k-th nearest other point."""
    return float(sorted(np.linalg.norm(points[i] - p) for j, p in enumerate(points) if j != i)[k - 1])


def in_ball(centres: Array, visitors: Array, k: int) -> Array:
    """Whether visitor j is within the k-th-neighbour ball of centre i, (centres, visitors)."""
    radii = [radius(centres, i, k) for i in range(len(centres))]
    return np.array([[np.linalg.norm(c - v) <= r for v in visitors] for c, r in zip(centres, radii, strict=True)])


def precision(x: Array, y: Array, k: int = 3) -> float:
    """Kynkaanniemi et al. 2019 for samples x and reference y."""
    return float(in_ball(y, x, k).any(axis=0).mean())


def recall(x: Array, y: Array, k: int = 3) -> float:
    """Kynkaanniemi et al. 2019 with the roles exchanged."""
    return float(in_ball(x, y, k).any(axis=0).mean())


def density(x: Array, y: Array, k: int = 5) -> float:
    """Naeem et al. 2020."""
    return float(in_ball(y, x, k).sum(axis=0).mean() / k)


def coverage(x: Array, y: Array, k: int = 5) -> float:
    """Naeem et al. 2020."""
    return float(in_ball(y, x, k).any(axis=1).mean())
