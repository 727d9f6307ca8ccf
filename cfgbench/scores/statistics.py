"""Error bars, paired differences and the tied set, from a score's value and its delete-group replicates.

A score computed on all samples, and again without each of B groups, is all that is needed: pseudo-values
`B value - (B - 1) replicate` behave like B independent measurements (Tukey 1958). Their mean is the bias-corrected
score, their spread its standard error, and Student's t with B - 1 degrees of freedom its interval. Two scores of the
same sample indices are compared through the differences of their pseudo-values, so shared noise cancels.

Two conditions make this honest, and `groups` provides both: groups are of equal size, and every group holds every
class equally (one class per group gives errors tens of times too big). All statements are conditional on the model
and on the reference set.

Nothing here needs torch: the reading half calls these functions on numbers from the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

NUM_GROUPS = 20
_MARGIN = 2.5  # standard errors between a score and an end of its range
_ROUNDING = 1e-12  # replicates that agree to this relative precision are the same number


@dataclass(frozen=True)
class Replicated:
    """A score on all samples, and without group b for b in range(B)."""

    value: float
    replicates: tuple[float, ...]


@dataclass(frozen=True)
class Estimate:
    """A bias-corrected score or difference with its error; p_value is two-sided, of the estimate being zero.

    Error, interval and p-value are None where the replicates do not vary, as for an accuracy of exactly 1: the
    jackknife then knows nothing about the error, which is not the same as an error of 0. Interval and p-value are
    also None close to an end of the score's range (see `estimate`).
    """

    value: float
    standard_error: float | None
    interval: tuple[float, float] | None
    p_value: float | None


@dataclass(frozen=True)
class TiedSet:
    """Indices of the best candidate and of all not shown worse than it (the best included), in ascending order.

    `p_values[i]` is one-sided, of candidate i being no worse than the best: None for the best itself and where the
    difference does not vary over the replicates, which counts as not shown.
    """

    best: int
    tied: tuple[int, ...]
    p_values: tuple[float | None, ...]


def groups(index: Ints, num_classes: int, num_groups: int = NUM_GROUPS) -> Ints:
    """The group of each sample index, when the label of index i is i % num_classes: every group has every class.

    With labels or prompts drawn at random, num_classes is 1; images of one prompt must share a group, so there the
    index to pass is the prompt's.
    """
    return (np.asarray(index) // num_classes) % num_groups


def largest_balanced(n: int, num_classes: int, num_groups: int = NUM_GROUPS) -> int:
    """The greatest N <= n whose groups are equal and hold every class equally; ValueError where there is none."""
    unit = num_classes * num_groups
    if n < unit:
        raise ValueError(f"{n} samples cannot fill {num_groups} groups of {num_classes} classes: {unit} are needed")
    return n - n % unit


def nested_sizes(n: int, num_classes: int, num_groups: int = NUM_GROUPS) -> tuple[int, ...]:
    """The sizes num_groups * num_classes * 2^k up to n, ascending: the sample counts at which any cells can meet."""
    unit = num_classes * num_groups
    return tuple(unit << k for k in range((n // unit).bit_length()))


def common_size(counts: Sequence[int], num_classes: int, num_groups: int = NUM_GROUPS) -> int:
    """The sample count at which cells are compared: their own if equal, else the largest rung that all reach."""
    smallest = largest_balanced(min(counts), num_classes, num_groups)
    if {largest_balanced(n, num_classes, num_groups) for n in counts} == {smallest}:
        return smallest
    return nested_sizes(smallest, num_classes, num_groups)[-1]


def pseudo_values(score: Replicated) -> Floats:
    """The B jackknife pseudo-values of a score."""
    replicates = np.asarray(score.replicates, dtype=np.float64)
    if len(replicates) < 2:
        raise ValueError(f"error bars need at least 2 replicates, not {len(replicates)}")
    return len(replicates) * score.value - (len(replicates) - 1) * replicates


def bias_corrected(value: float, replicates: Sequence[float]) -> float:
    """B value - (B - 1) mean(replicates): the score with its bias of order 1/N removed."""
    return float(pseudo_values(Replicated(value, tuple(replicates))).mean())


def extrapolated(whole: Replicated, n: int, part: Replicated, m: int) -> Replicated:
    """A score of n samples whose pseudo-values lack its bias of order 1/n^2 too, by its value for the first m of them.

    At n = 5 d the jackknife leaves a Frechet distance in d dimensions a bias that depends on the covariance and grows
    with d; against its error that is little at d = 64 and much at d = 512. This is Richardson's step. With m = n/2 the
    second half of the samples weighs twice the first, and errors are 5 % larger.
    """
    share = n**2 / (n**2 - m**2)
    replicates = zip(whole.replicates, part.replicates, strict=True)
    value = share * whole.value + (1 - share) * part.value
    return Replicated(value, tuple(share * a + (1 - share) * b for a, b in replicates))


def standard_error(replicates: Sequence[float]) -> float | None:
    """The delete-group jackknife error, sqrt((B - 1)/B sum (r_b - mean r)^2); None if the replicates are identical."""
    return _error(pseudo_values(Replicated(0.0, tuple(replicates))), float(np.max(np.abs(replicates))))


def t_interval(
    estimate: float, error: float | None, num_groups: int, level: float = 0.95
) -> tuple[float, float] | None:
    """The central interval of Student's t with num_groups - 1 degrees of freedom; None if the error is."""
    if error is None:
        return None
    half = float(stdtrit(num_groups - 1, (1 + level) / 2)) * error
    return estimate - half, estimate + half


def estimate(score: Replicated, level: float = 0.95, limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """The bias-corrected score with its error, interval and the p-value of its being zero.

    `limits` is the score's range, (0, 1) for a share. Within 2.5 standard errors of an end a t interval is too short
    too often (a share with five failures: 87 % coverage, any sample count), and none is given.
    """
    result = _estimate(pseudo_values(score), _magnitude(score), level)
    margin = min(result.value - limits[0], limits[1] - result.value)
    if result.standard_error is not None and margin < _MARGIN * result.standard_error:
        return replace(result, interval=None, p_value=None)
    return result


def paired_difference(a: Replicated, b: Replicated, level: float = 0.95) -> Estimate:
    """Bias-corrected a - b, for scores of the same sample indices and groups."""
    return _estimate(_paired(a, b), max(_magnitude(a), _magnitude(b)), level)


def independent_difference(a: Replicated, b: Replicated, level: float = 0.95) -> Estimate:
    """Bias-corrected a - b, for scores of unrelated samples: errors add in squares, t has the fewer groups' degrees."""
    first, second = estimate(a, level), estimate(b, level)
    gap, groups = first.value - second.value, min(len(a.replicates), len(b.replicates))
    if first.standard_error is None or second.standard_error is None:
        return Estimate(gap, None, None, None)
    error = float(np.hypot(first.standard_error, second.standard_error))
    return Estimate(gap, error, t_interval(gap, error, groups, level), 2 * float(stdtr(groups - 1, -abs(gap) / error)))


def tied_set(scores: Sequence[Replicated], lower_is_better: bool, alpha: float = 0.05, paired: bool = True) -> TiedSet:
    """All candidates not shown worse than the best, by one-sided t tests at alpha / (m - 1), paired or not."""
    compare = paired_difference if paired else independent_difference
    sign = 1.0 if lower_is_better else -1.0
    best = int(np.argmin([sign * pseudo_values(score).mean() for score in scores]))
    p_values = tuple(
        None if i == best else _p_worse(compare(score, scores[best]), sign, len(score.replicates))
        for i, score in enumerate(scores)
    )
    level = alpha / max(len(scores) - 1, 1)
    return TiedSet(best, tuple(i for i, p in enumerate(p_values) if p is None or p > level), p_values)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """P-values corrected for their number, so that any below alpha is an error with probability alpha at most.

    Holm 1979: as strict as Bonferroni about the family and never weaker than it, and right whatever the dependence,
    which paired comparisons with one common baseline have. An absent p-value stays absent and does not count.
    """
    present = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: dict[int, float] = {}
    highest = 0.0
    for rank, (p, i) in enumerate(present):
        highest = max(highest, min(1.0, (len(present) - rank) * p))
        corrected[i] = highest
    return tuple(corrected.get(i) for i in range(len(p_values)))


def cross_fitted(scores: Sequence[Replicated], lower_is_better: bool) -> Floats:
    """The pseudo-values (B,) of "the best of these", each from a score that was chosen without its group.

    The best of many scores on the samples that it was chosen by looks better than it is. Here the even groups choose
    and the odd ones judge, and the other way round.
    """
    sign = 1.0 if lower_is_better else -1.0
    pseudo = np.stack([pseudo_values(score) for score in scores])
    halves = np.arange(pseudo.shape[1]) % 2
    chosen = [int(np.argmin(sign * pseudo[:, halves != half].mean(axis=1))) for half in (0, 1)]
    return np.asarray(np.where(halves == 0, pseudo[chosen[0]], pseudo[chosen[1]]), dtype=np.float64)


def mean_of(values: Floats, level: float = 0.95) -> Estimate:
    """The mean of independent measurements (n,) with its t interval: of pseudo-values, or of trained networks."""
    return _estimate(np.asarray(values, dtype=np.float64), float(np.max(np.abs(values))), level)


def stratified_standard_error(influence: Floats, labels: Ints) -> float:
    """The error of a score with these first-order influences, (n,), when the count of every class is fixed.

    sqrt(sum over classes of n_c var_c) / n: only the spread within classes counts.
    """
    _, strata = np.unique(labels, return_inverse=True)
    counts = np.bincount(strata)
    if counts.min() < 2:
        raise ValueError("a stratified error needs at least 2 samples of every class")
    means = np.bincount(strata, weights=influence) / counts
    squares = np.bincount(strata, weights=(influence - means[strata]) ** 2)
    return float(np.sqrt(np.sum(counts * squares / (counts - 1))) / len(influence))


def _paired(a: Replicated, b: Replicated) -> Floats:
    if len(a.replicates) != len(b.replicates):
        raise ValueError(f"paired scores need the same groups, not {len(a.replicates)} and {len(b.replicates)}")
    return pseudo_values(a) - pseudo_values(b)


def _estimate(pseudo: Floats, magnitude: float, level: float) -> Estimate:
    value, error = float(pseudo.mean()), _error(pseudo, magnitude)
    p_value = None if error is None else 2 * float(stdtr(len(pseudo) - 1, -abs(value) / error))
    return Estimate(value, error, t_interval(value, error, len(pseudo), level), p_value)


def _error(pseudo: Floats, magnitude: float) -> float | None:
    """Standard error of the mean of pseudo-values; None if their spread is rounding of replicates of this magnitude."""
    if np.ptp(pseudo) <= len(pseudo) * _ROUNDING * magnitude:
        return None
    return float(pseudo.std(ddof=1) / np.sqrt(len(pseudo)))


def _magnitude(score: Replicated) -> float:
    return float(np.max(np.abs((score.value, *score.replicates))))


def _p_worse(excess: Estimate, sign: float, num_groups: int) -> float | None:
    """The one-sided p-value of a candidate being no worse than the best, from its difference to it."""
    if excess.standard_error is None:
        return None
    return float(stdtr(num_groups - 1, -sign * excess.value / excess.standard_error))
