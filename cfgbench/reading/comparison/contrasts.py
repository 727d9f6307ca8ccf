"""What differs between two cells or two cost classes, and whether that is shown.

Scores are compared in pairs where both cells drew the same samples (the same seed, or the same items of samples made
elsewhere): the noise they share cancels, whatever the model. Elsewhere the errors of both add up. A difference is
called one only if its 95 % interval excludes zero; of a speed, if the interval of the ratio excludes one.
"""

from dataclasses import dataclass
from math import hypot

import numpy as np
from scipy.special import bdtr

from cfgbench.reading.comparison.matching import Match, SpeedMatch
from cfgbench.reading.tables.compare import difference, latency, rungs, shown
from cfgbench.reading.tables.results import Column
from cfgbench.records import CellRecord, Timing
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Estimate

SAME = 1e-5  # scores of one cell on two machines agree to this, relative above 1
NOT_SHOWN = "no difference shown"


@dataclass(frozen=True)
class Contrast:
    """One score of two cells: second - first."""

    column: Column
    gap: Estimate | None
    paired: bool
    verdict: str  # better | worse | no difference shown | equal | no interval


@dataclass(frozen=True)
class SpeedContrast:
    """Seconds of two cost classes at one batch size; the interval of second / first is None with too few repeats."""

    first: Timing
    second: Timing
    ratio: float | None  # None where either was emulated
    interval: tuple[float, float] | None
    verdict: str  # faster | slower | no difference shown | too few repeats | not measured


def contrast(column: Column, match: Match) -> Contrast:
    """How a score of the second cell differs from that of the first."""
    together = paired(match.first, match.second)
    gap = _paired(column, match) if together else _unpaired(column, match)
    same = match.by == "id" and _largest_gap(column, match) <= SAME
    return Contrast(column, gap, together, "equal" if same else _verdict(column, gap))


def paired(a: CellRecord, b: CellRecord) -> bool:
    """Whether two cells hold samples of the same noise, or of the same items."""
    if a.pairing and b.pairing:
        return any(a.pairing[count] == b.pairing[count] for count in {*a.pairing} & {*b.pairing})
    made_here = not a.cell.made_elsewhere and not b.cell.made_elsewhere
    return made_here and a.cell.seed == b.cell.seed and a.num_classes == b.num_classes


def largest_gap(columns: tuple[Column, ...], match: Match) -> float | None:
    """The largest difference of any score of one cell on two machines, relative above 1; None for other cells."""
    return max((_largest_gap(column, match) for column in columns), default=0.0) if match.by == "id" else None


def speed_contrasts(match: SpeedMatch) -> list[SpeedContrast]:
    """One for every batch size and way of batching that both timed."""
    others = {(timing.batch_size, timing.batched): timing for timing in match.second.timings}
    measured = match.first.measured and match.second.measured
    both = ((timing, others.get((timing.batch_size, timing.batched))) for timing in match.first.timings)
    return [_speed_contrast(first, second, measured) for first, second in both if second is not None]


def median_interval(values: list[float]) -> tuple[float, float] | None:
    """The 95 % interval of a median from order statistics, free of any distribution; None below six values."""
    ordered = sorted(values)
    rank = max((k for k in range(len(ordered) // 2) if 2 * bdtr(k, len(ordered), 0.5) <= 0.05), default=None)
    return None if rank is None else (ordered[rank], ordered[-1 - rank])


def _paired(column: Column, match: Match) -> Estimate | None:
    other = match.second.model_copy(update={"id": f"{match.second.id} of the second folder"})
    return difference(column, other, match.first)


def _unpaired(column: Column, match: Match) -> Estimate | None:
    """The difference with the errors of both added; t with the fewer degrees of freedom."""
    sizes = [rungs(column, record) for record in (match.second, match.first)]
    if not all(sizes):
        return None
    finals = [rung[max(rung)] for rung in sizes]
    ends = [shown(column, rung) for rung in finals]
    if ends[0] is None or ends[1] is None:
        return None
    gap, errors = ends[0].value - ends[1].value, [end.standard_error for end in ends if end is not None]
    if errors[0] is None or errors[1] is None:
        return Estimate(gap, None, None, None)
    error, groups = hypot(errors[0], errors[1]), min(len(rung.replicates) for rung in finals)
    return Estimate(gap, error, statistics.t_interval(gap, error, groups), None)


def _verdict(column: Column, gap: Estimate | None) -> str:
    if gap is None or gap.interval is None:
        return "no interval"
    low, high = gap.interval
    if low <= 0 <= high:
        return NOT_SHOWN
    return "better" if (gap.value < 0) == column.entry.lower_is_better else "worse"


def _largest_gap(column: Column, match: Match) -> float:
    """Over all sample counts that both have."""
    a, b = (rungs(column, record) for record in (match.first, match.second))
    pairs = [(a[count].value, b[count].value) for count in {*a} & {*b}]
    return max((abs(x - y) / max(1.0, abs(x)) for x, y in pairs), default=float("inf") if a and b else 0.0)


def _speed_contrast(first: Timing, second: Timing, measured: bool) -> SpeedContrast:
    if not measured:
        return SpeedContrast(first, second, None, None, "not measured (emulated)")
    ratio = float(np.median(latency(second)) / np.median(latency(first)))
    own, other = median_interval(latency(first)), median_interval(latency(second))
    if own is None or other is None:
        return SpeedContrast(first, second, ratio, None, "too few repeats")
    low, high = other[0] / own[1], other[1] / own[0]
    word = NOT_SHOWN if low <= 1 <= high else "slower" if ratio > 1 else "faster"
    return SpeedContrast(first, second, ratio, (low, high), word)
