"""What rules compare: scales of one curve, two curves at their tuned scales, and where a curve has its best scale.

A curve comes once per training seed; a comparison is paired within each network and then judged over the networks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cfgbench.claims.evidence import Arms, Evidence, at, scales
from cfgbench.claims.findings import LackingError
from cfgbench.reading.tables.matched import Unmatched, at_matched
from cfgbench.reading.tables.results import Arm
from cfgbench.records import CellRecord
from cfgbench.scores.statistics import Estimate


class Choice(NamedTuple):
    """The cells of one method at one scale, one per training seed."""

    records: tuple[CellRecord, ...]
    scale: float


def chosen(arms: Arms, scale: float) -> Choice:
    """These curves at a scale."""
    return Choice(tuple(at(arm, scale) for arm in arms), scale)


def tuned(evidence: Evidence, arms: Arms, score: str = "fid") -> Choice:
    """These curves at the one scale whose score is best on average over the networks."""
    return chosen(arms, min(scales(arms), key=lambda scale: _badness(evidence, chosen(arms, scale), score)))


def means(evidence: Evidence, choice: Choice, score: str) -> list[float]:
    """The score of each network."""
    return [evidence.value(score, record).value for record in choice.records]


def gaps(evidence: Evidence, score: str, first: Choice, second: Choice) -> list[Estimate]:
    """first - second, paired, of each network."""
    return [evidence.gap(score, a, b) for a, b in zip(first.records, second.records, strict=True)]


def gains(evidence: Evidence, first: Choice, second: Choice, score: str = "fid") -> list[float]:
    """By how much the first is better than the second, of each network."""
    sign = -1 if evidence.column(score).entry.lower_is_better else 1
    return [sign * gap.value for gap in gaps(evidence, score, first, second)]


def optimum(evidence: Evidence, arm: Arm, score: str = "fid") -> float:
    """The best scale between grid points: the vertex of the parabola through the best point and its neighbours.

    At an end of the grid it is that end.
    """
    sign = 1 if evidence.column(score).entry.lower_is_better else -1
    values = [sign * evidence.value(score, point.record).value for point in arm.points]
    best = int(np.argmin(values))
    if best in (0, len(values) - 1):
        return arm.points[best].scale
    (a, b, c), (fa, fb, fc) = (point.scale for point in arm.points[best - 1 : best + 2]), values[best - 1 : best + 2]
    left, right = (b - a) * (fb - fc), (b - c) * (fb - fa)
    return b if left == right else b - ((b - a) * left - (b - c) * right) / (2 * (left - right))


def at_equal(evidence: Evidence, pairs: Iterable[tuple[Arm, Arm]], score: str, by: str, ats: Choice) -> list[float]:
    """A score, first - second of each pair of curves, where both have the other score of the network's cell in `ats`.

    LackingError where a curve does not get there before it turns.
    """
    found = []
    for (first, second), record in zip(pairs, ats.records, strict=True):
        one = at_matched(first, second, evidence.column(score), evidence.column(by), record)
        if isinstance(one, Unmatched):
            raise LackingError(f"{by} at s = {ats.scale:g} on both curves: {one.reason}")
        found.append(one.gap.value)
    return found


def from_scale(arms: Arms, lowest: float) -> Arms:
    """These curves from a scale upwards."""
    return tuple(Arm(a.fields, a.method, a.axis, tuple(p for p in a.points if p.scale >= lowest)) for a in arms)


def each(function: Callable[[Arm], float], arms: Arms) -> list[float]:
    """A function of each network's curve."""
    return [function(arm) for arm in arms]


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """first - second, network by network."""
    return [a - b for a, b in zip(first, second, strict=True)]


def _badness(evidence: Evidence, choice: Choice, score: str) -> float:
    sign = 1 if evidence.column(score).entry.lower_is_better else -1
    return sign * float(np.mean(means(evidence, choice, score)))
