"""Which of several scales is best, decided while samples come in: successive elimination by paired t tests.

There are K looks, fixed beforehand, and m candidates. At each look a candidate leaves when it is shown worse than the
leader by a one-sided t test at level alpha / (K (m - 1)), on the pseudo-values of their difference over the samples
that both have. It is settled when one candidate is left, or when the leader is shown less than delta behind every
other one that is left. By the union bound over looks and over the m - 1 pairs with the best, the leader is then
within delta of the best with confidence 1 - alpha, whatever the looks have in common: for each pair the wrong events
of leaving and of settling lie within one event of probability alpha / (K (m - 1)) at each look.

A t test knows nothing of what no sample has shown: of two shares near 1 that agree on all n samples it would say that
they are equal. So shares get a slack, the greatest difference that n samples hide with the probability of the level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log

import numpy as np
from scipy.special import stdtrit

from cfgbench.scores.statistics import Floats, Replicated, pseudo_values


@dataclass(frozen=True)
class Rules:
    """What is fixed before the first look."""

    delta: float  # a difference that does not matter, in the units of the score
    alpha: float  # of naming a scale that is more than delta worse than the best
    looks: int
    candidates: int  # at most
    lower_is_better: bool = True

    @property
    def level(self) -> float:
        """Of each comparison at each look."""
        return self.alpha / (self.looks * max(1, self.candidates - 1))


@dataclass(frozen=True)
class Look:
    """What is known at a look, by position among the candidates that took part in it."""

    best: int
    worse: tuple[int, ...]  # shown worse than the best
    settled: bool


def unseen(limits: tuple[float, float], rules: Rules, num_samples: int) -> float:
    """The slack of a score within these limits, -log(level) / n of their distance; 0 where there are none."""
    span = limits[1] - limits[0]
    return -log(rules.level) / num_samples * span if isfinite(span) else 0.0


def look(scores: Sequence[Replicated], rules: Rules, slack: float = 0.0) -> Look:
    """Judge candidates whose samples share noise, group by group; every bound is wider by the slack."""
    sign = 1.0 if rules.lower_is_better else -1.0
    pseudo = sign * np.stack([pseudo_values(score) for score in scores])
    best = int(np.argmin(pseudo.mean(axis=1)))
    lag, half = _lags(pseudo - pseudo[best], rules.level)
    half = half + slack
    worse = tuple(i for i in range(len(scores)) if i != best and lag[i] - half[i] > 0)
    left = [i for i in range(len(scores)) if i != best and i not in worse]
    return Look(best, worse, all(half[i] - lag[i] < rules.delta for i in left))


def _lags(gaps: Floats, level: float) -> tuple[Floats, Floats]:
    """How far each is behind the best (m,), and the half-width of the one-sided bounds of that."""
    groups = gaps.shape[1]
    error = gaps.std(axis=1, ddof=1) / np.sqrt(groups)
    return gaps.mean(axis=1), -float(stdtrit(groups - 1, level)) * error
