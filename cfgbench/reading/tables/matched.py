"""Two curves where they are equally good in another score: FID at matched inception score, at matched recall.

A curve is followed from its mildest scale up to where the matched score turns back; between neighbouring scales it is a
straight line. The value and every jackknife replicate go through the same lines, so the error of the difference covers
the interpolation, the error of the level, and the noise that both curves share. Where the matched score has no covering
interval of its own (recall), its replicates spread too much, and the interval errs on the wide side.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cfgbench.reading.tables.compare import common_size, paired, replicated, rungs
from cfgbench.reading.tables.results import Arm, Column
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Estimate, Floats, Replicated

MIN_CHANGE = 1e-9  # of the matched score between neighbours; less is standing still


class Matched(NamedTuple):
    """A difference first - second where both curves have this level of the matched score, and at which scales."""

    pseudo: Floats  # (B,) jackknife pseudo-values of the difference
    level: float
    scales: tuple[float, float]

    @property
    def gap(self) -> Estimate:
        """The difference with its interval."""
        return statistics.mean_of(self.pseudo)


class Unmatched(NamedTuple):
    """Why two curves cannot be compared there."""

    reason: str


class _Curve(NamedTuple):
    """A curve's scales (n,), and two scores of it, (n, 1 + B): the value and its replicates."""

    scales: Floats
    on: Floats
    score: Floats


def at_matched(first: Arm, second: Arm, score: Column, on: Column, at: CellRecord) -> Matched | Unmatched:
    """The difference of a score, first - second, where `on` has the level that it has in the cell `at`.

    `at` is usually the second curve's best cell. All cells must have drawn the same noise.
    """
    records = [*first.records, *second.records, at]
    count = min((common_size(column, records) or 0 for column in (score, on)), default=0)
    if not count or not all(rungs(column, r)[count].replicates for column in (score, on) for r in records):
        return Unmatched(f"not all cells have {score.label} and {on.label} with error bars")
    if not paired(records, count):
        return Unmatched("the curves are not of the same noise")
    level = _numbers(on, at, count)
    crossings = [_cross(_branch(_curve(arm, score, on, count), _off(arm)), level) for arm in (first, second)]
    if crossings[0] is None or crossings[1] is None:
        name = "first" if crossings[0] is None else "second"
        return Unmatched(f"the {name} curve does not reach {on.label} {level[0]:.3g} before it turns")
    (a, at_a), (b, at_b) = crossings[0], crossings[1]
    pseudo = statistics.pseudo_values(Replicated(float(a[0] - b[0]), tuple((a - b)[1:].tolist())))
    return Matched(pseudo, float(level[0]), (at_a, at_b))


def _curve(arm: Arm, score: Column, on: Column, count: int) -> _Curve:
    scales = np.array([point.scale for point in arm.points])
    return _Curve(scales, *(np.stack([_numbers(c, r, count) for r in arm.records]) for c in (on, score)))


def _numbers(column: Column, record: CellRecord, count: int) -> Floats:
    whole = replicated(column, rungs(column, record)[count])
    return np.array([whole.value, *whole.replicates])


def _branch(curve: _Curve, off: float) -> _Curve:
    """The curve from "off" on, where it has that, else from its start, up to where the matched score turns."""
    start = int(np.argmax(curve.scales >= off))
    moves = np.diff(curve.on[start:, 0])
    moving = np.flatnonzero(np.abs(moves) > MIN_CHANGE)
    if not len(moving):
        return _Curve(*(part[start : start + 1] for part in curve))
    back = np.flatnonzero(np.sign(moves) == -np.sign(moves[moving[0]]))
    end = start + (int(back[0]) if len(back) else len(moves)) + 1
    return _Curve(*(part[start:end] for part in curve))


def _off(arm: Arm) -> float:
    """The scale at which the arm's method is no guidance: 1 for CFG; where there is none, the arm's first."""
    ends = METHODS[arm.method].ends
    return next((scale for scale, method in ends.items() if method == "unguided"), arm.points[0].scale)


def _cross(curve: _Curve, level: Floats) -> tuple[Floats, float] | None:
    """The score (1 + B,) and the scale where the matched score has this level; None where it has not."""
    for i, (x0, x1) in enumerate(zip(curve.on, curve.on[1:], strict=False)):
        if abs(x1[0] - x0[0]) > MIN_CHANGE and min(x0[0], x1[0]) <= level[0] <= max(x0[0], x1[0]):
            share = (level - x0) / (x1 - x0)
            y0, y1, s0, s1 = curve.score[i], curve.score[i + 1], curve.scales[i], curve.scales[i + 1]
            return y0 + share * (y1 - y0), float(s0 + share[0] * (s1 - s0))
    return None


def levels(columns: Sequence[Column]) -> list[Column]:
    """The scores at which curves are matched, of those there are."""
    return [column for column in columns if column.name in ("inception_score", "recall")]
