"""What a rule finds: a number with its interval, held against a threshold, and the verdict that follows.

A finding holds where the whole interval lies on the claimed side of the threshold, does not hold where it lies on the
other side, and is undecided where the threshold lies within. The threshold is the smallest effect that would count, so
that an effect of nearly nothing, well measured, decides against a claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, inf, isfinite, log10

import numpy as np

from cfgbench.scores.statistics import Estimate, mean_of

HOLDS = "holds on this testbed"
FAILS = "does not hold on this testbed"
UNDECIDED = "undecided for lack of power"
NEEDS = "needs what we do not have"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NEEDS)

EXACT = "counted, no error"
WITHIN = "95 %, one network, t with 19 degrees of freedom"
SEEDS = "95 %, mean of {n} training seeds, t with {df} degrees of freedom"
GROUPS = "95 %, mean of {n} groups of samples, t with {df} degrees of freedom"
EACH = "from the lowest to the highest end of the 95 % intervals of {n} networks"
MEDIANS = "95 % each, order statistics of {n} repeats"


@dataclass(frozen=True)
class Measured:
    """A number, its interval and how the interval was made."""

    value: float
    low: float
    high: float
    how: str
    networks: tuple[float, ...] = ()  # of each training seed, where it is a mean over them
    absolute: bool = False  # the size of such a mean


@dataclass(frozen=True)
class Finding:
    """A measured number held against a threshold, `above` or below which the claim puts it."""

    statement: str
    measured: Measured
    threshold: float
    above: bool = True

    @property
    def verdict(self) -> str:
        """Holds, does not hold or undecided."""
        low, high = self.measured.low - self.threshold, self.measured.high - self.threshold
        if not self.above:
            low, high = -high, -low
        return HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED


class LackingError(Exception):
    """Something that a rule reads is not there; the text says what, and how to get it."""


def together(findings: Sequence[Finding]) -> str:
    """The verdict on a claim that says all of this: one finding that does not hold decides against it."""
    verdicts = {finding.verdict for finding in findings}
    return next(verdict for verdict in (FAILS, UNDECIDED, HOLDS) if verdict in verdicts)


def exact(value: float) -> Measured:
    """A count or a ratio of counts."""
    return Measured(value, value, value, EXACT)


def within(estimate: Estimate) -> Measured:
    """A score or difference of one network with its jackknife interval; unbounded where it has none."""
    low, high = estimate.interval or (-inf, inf)
    return Measured(estimate.value, low, high, WITHIN)


def over_seeds(values: Sequence[float]) -> Measured:
    """The mean over networks that differ in their training seed, with Student's t interval of their spread.

    `shared_noise` widens it by the sampling error that the networks share.
    """
    count = len(values)
    return replace(_mean(values, SEEDS.format(n=count, df=count - 1)), networks=tuple(map(float, values)))


def over_groups(values: Sequence[float], level: float = 0.95) -> Measured:
    """The mean over equal groups of samples with Student's t interval of their spread."""
    count = len(values)
    return _mean(values, GROUPS.format(n=count, df=count - 1), level)


def in_each(estimates: Sequence[Estimate]) -> Measured:
    """The mean of several networks' estimates with the envelope of their own intervals.

    On one side of a threshold it says that each network shows this by itself.
    """
    intervals = [estimate.interval or (-inf, inf) for estimate in estimates]
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    return Measured(float(np.mean([e.value for e in estimates])), low, high, EACH.format(n=len(estimates)))


def spread(values: Sequence[float]) -> Measured:
    """The mean of some networks' exact numbers, from the lowest to the highest."""
    return Measured(float(np.mean(values)), min(values), max(values), f"lowest to highest of {len(values)} networks")


def size(measured: Measured) -> Measured:
    """The absolute value, for claims of no difference."""
    low, high = measured.low, measured.high
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return replace(measured, value=abs(measured.value), low=nearest, high=max(abs(low), abs(high)), absolute=True)


def standing(finding: Finding) -> float:
    """How far a number lies on the claimed side of its threshold, in half-widths of its interval there.

    Beyond 1 the claim holds, beyond -1 it does not, in between it is undecided; infinite for a count.
    """
    measured, sign = finding.measured, 1 if finding.above else -1
    gap = sign * (measured.value - finding.threshold)
    near = measured.value - measured.low if (gap > 0) == finding.above else measured.high - measured.value
    return gap / near if near > 0 else gap * float("inf") if gap else 0.0


def with_interval(measured: Measured) -> str:
    """`0.31 [0.24, 0.38]`, to two digits of the half interval; a count as it is."""
    if measured.how == EXACT:
        return f"{measured.value:.3g}"
    if not (isfinite(measured.low) and isfinite(measured.high)):
        return f"{measured.value:.3g} (no interval)"
    half = (measured.high - measured.low) / 2
    digits = max(0, 1 - floor(log10(half))) if half > 0 else 3
    value, low, high = (f"{number:z.{digits}f}" for number in (measured.value, measured.low, measured.high))
    return f"{value} [{low}, {high}]"


def _mean(values: Sequence[float], how: str, level: float = 0.95) -> Measured:
    if len(values) < 2:
        raise ValueError("a mean with an interval needs at least two values")
    found = mean_of(np.asarray(values, dtype=np.float64), level)
    low, high = found.interval or (found.value, found.value)
    return Measured(found.value, low, high, how)
