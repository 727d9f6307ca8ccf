"""What holds on average over networks that were trained alike but for their seed.

Two errors lie between the mean of a few networks' differences and the difference to expect of the next network: the
networks differ, and each is known from a finite sample. The spread of the networks' values holds both, but not the
part of the sampling error that all of them share because they are given the same noise and labels. That part is the
covariance of the networks' group values. Without it, three networks drawn with one noise agree with each other better
than with the truth: simulated 95 % intervals from their spread alone cover 13 to 96 %, those made here 94 to 99 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from cfgbench.scores import statistics
from cfgbench.scores.statistics import Estimate, Floats

_ROUNDING = 1e-12  # errors that are a smaller share of the values than this are none


@dataclass(frozen=True)
class Difference:
    """A difference by its pseudo-values, (networks, B): of one network, or of several that differ in their seed."""

    pseudo: Floats

    @property
    def estimate(self) -> Estimate:
        """The mean and its interval: for this network, or where there are several for networks yet to train."""
        return over_training_seeds(self.pseudo) if len(self.pseudo) > 1 else statistics.mean_of(self.pseudo[0])


def together(differences: Sequence[Difference | None]) -> Difference | None:
    """The differences of several networks as one; None where one is lacking or has other groups."""
    pseudo = [one.pseudo for one in differences if one is not None]
    whole = len(pseudo) == len(differences) and len({one.shape[1] for one in pseudo}) == 1
    return Difference(np.concatenate(pseudo)) if whole else None


def over_training_seeds(differences: Floats) -> Estimate:
    """The mean of differences whose pseudo-values are the rows of (networks, B), for networks yet to train.

    Variances by moments: the networks' values vary by between + within - shared, and their mean by this divided by
    their number, + shared. The first part has the degrees of freedom of the networks, the second those of the groups.
    """
    networks, groups = differences.shape
    values, sampling = differences.mean(axis=1), np.cov(differences) / groups
    shared = float(sampling.sum() - np.trace(sampling)) / (networks * (networks - 1))
    error = _Error((float(values.var(ddof=1)) / networks) ** 0.5, max(shared, 0.0) ** 0.5, (networks - 1, groups - 1))
    return _estimate(float(values.mean()), error, float(np.max(np.abs(differences))))


@dataclass(frozen=True)
class _Error:
    """The standard errors of a mean that come from few networks and from groups of samples."""

    networks: float
    groups: float
    degrees: tuple[int, int]

    def half_width(self, p_value: float) -> float:
        """Half of the interval that has this p-value at its ends: both halves, each by its own t, in squares."""
        first, second = (float(stdtrit(df, 1 - p_value / 2)) for df in self.degrees)
        return float(np.hypot(first * self.networks, second * self.groups))

    def p_value(self, mean: float) -> float:
        """The two-sided p-value of a mean of zero, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.half_width(middle) < abs(mean) else (middle, high)
        return high


def _estimate(mean: float, error: _Error, magnitude: float) -> Estimate:
    total = float(np.hypot(error.networks, error.groups))
    if total <= _ROUNDING * magnitude:
        return Estimate(mean, None, None, None)
    half = error.half_width(0.05)
    return Estimate(mean, total, (mean - half, mean + half), error.p_value(mean))
