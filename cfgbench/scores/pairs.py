"""All pairs of points: squared distances, polynomial kernels, and what is summed or sorted over them.

Computed in float64 and chunk by chunk: no matrix of distances or kernel values exceeds `CHUNK` entries. Groups number
the points 0..B-1.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cfgbench.scores.statistics import Floats, Ints

CHUNK = 1_000_000  # entries of the largest temporary matrix: 8 MB, which caches hold


def kernel_sums(x: Floats, groups: Ints, degree: int) -> Floats:
    """Sums of the kernel over pairs of different points x (n, d), one of each group, (B, B).

    Each pair is computed once: rows with those that come after them count for both orders.
    """
    sums, member = -np.diag(group_sums(self_kernel(x, degree), groups)), np.eye(int(groups.max()) + 1)[groups]
    for rows in row_chunks(len(x), len(x)):
        own = member[rows].T @ (kernel(x[rows], x[rows], degree) @ member[rows])
        later = member[rows].T @ (kernel(x[rows], x[rows.stop :], degree) @ member[rows.stop :])
        sums += own + later + later.T
    return sums


def radii_without(points: Floats, groups: Ints, k: int) -> Floats:
    """Squared distance from each point (n, d) to its k-th nearest other, of all and without each group, (B + 1, n).

    From the k nearest in every group, which hold the k nearest outside any. -inf for the points of a removed group:
    their balls are empty.
    """
    x = points - points.mean(axis=0)
    members = [np.flatnonzero(groups == b) for b in range(int(groups.max()) + 1)]
    nearest = np.full((len(members), len(x), k), np.inf)
    for rows, distances in distances_to_others(x):
        for table, group in zip(nearest, members, strict=True):
            count = min(k, len(group))
            table[rows, :count] = np.partition(distances[:, group], count - 1)[:, :count]
    everyone = np.partition(np.concatenate(nearest, axis=1), k - 1)[:, k - 1]
    radii = [everyone]
    for b in range(len(members)):
        others = np.concatenate(np.delete(nearest, b, axis=0), axis=1)
        radii.append(np.where(groups == b, -np.inf, np.partition(others, k - 1)[:, k - 1]))
    return np.stack(radii)


def distances_to_others(x: Floats) -> Iterator[tuple[slice, Floats]]:
    """Chunks of rows with their squared distances to all of x, that to itself replaced by infinity."""
    for rows in row_chunks(len(x), len(x)):
        distances = squared_distances(x[rows], x)
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        yield rows, distances


def squared_distances(x: Floats, y: Floats) -> Floats:
    """(len(x), len(y))"""
    distances = x @ (-2 * y.T)
    distances += np.einsum("ij,ij->i", x, x)[:, None]
    distances += np.einsum("ij,ij->i", y, y)
    return distances


def kernel(x: Floats, y: Floats, degree: int) -> Floats:
    """(x.y / d + 1)^degree, (len(x), len(y)); by multiplication, as numpy's power is ten times slower."""
    base = x @ (y.T / x.shape[1]) + 1
    result: Floats = base.copy()
    for _ in range(degree - 1):
        result *= base
    return result


def self_kernel(x: Floats, degree: int) -> Floats:
    """The kernel of each row with itself, (len(x),)."""
    return np.asarray((np.einsum("ij,ij->i", x, x) / x.shape[1] + 1) ** degree)


def group_sums(values: npt.NDArray[Any], groups: Ints) -> Floats:
    """Sums of values (n,) or (n, d) over each group, in index order, (B,) or (B, d)."""
    columns = values.reshape(len(values), -1)
    sums = [
        columns[groups == b].sum(axis=0) for b in range(int(groups.max()) + 1)
    ]  # row by row, as `add.at` slowly does
    return np.reshape(sums, (-1, *values.shape[1:])).astype(np.float64)


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a matrix, each of at most `CHUNK` entries."""
    step = max(1, CHUNK // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
