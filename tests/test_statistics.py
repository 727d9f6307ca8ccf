"""Error bars against known errors: exact cases first, then how often simulated intervals cover the truth."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from cfgbench.scores import metrics, statistics
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.scores.statistics import Replicated, groups

Array = npt.NDArray[Any]

CLASSES, DIMENSION, N, REFERENCE_N = 10, 8, 1000, 500
CENTRES = 1.6 * np.random.default_rng(5).normal(size=(CLASSES, DIMENSION))
LABELS, REFERENCE_LABELS = np.arange(N) % CLASSES, np.arange(REFERENCE_N) % CLASSES
GROUPS = groups(np.arange(N), CLASSES)
REFERENCE = Reference(CENTRES[REFERENCE_LABELS] + np.random.default_rng(6).normal(size=(REFERENCE_N, DIMENSION)))
SCORES = {
    m.__name__: m
    for m in (
        metrics.fid,
        metrics.kid,
        metrics.inception_score,
        metrics.precision,
        metrics.density,
        metrics.accuracy,
        metrics.clip_score,
    )
}
WITHOUT_INTERVAL = {m.__name__: m for m in (metrics.recall, metrics.coverage)}


def guided(seed: int, strength: float) -> Samples:
    """Samples of the class-conditional Gaussians, pushed apart and narrowed as guidance does; noise from the seed."""
    noise = np.random.default_rng((1, seed)).normal(size=(N, DIMENSION))  # never the reference's stream
    x = (1 + 0.2 * strength) * CENTRES[LABELS] + (1.1 - 0.3 * strength) * noise
    squares = ((x[:, None] - CENTRES) ** 2).sum(axis=2)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(CENTRES[LABELS], axis=1)
    return Samples(x, LABELS, log_softmax(-squares / 2, axis=1), 100 * (x * CENTRES[LABELS]).sum(axis=1) / lengths)


def mean_score(values: Array, blocks: Array) -> Replicated:
    """The mean of values, as a score."""
    return Replicated(values.mean(), tuple(values[blocks != b].mean() for b in range(blocks.max() + 1)))


@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 4))
def test_every_group_holds_every_class_equally(num_classes: int, num_groups: int, rounds: int) -> None:
    index = np.arange(num_classes * num_groups * rounds)
    table = np.zeros((num_groups, num_classes), dtype=int)
    np.add.at(table, (groups(index, num_classes, num_groups), index % num_classes), 1)
    assert (table == rounds).all()


@given(st.integers(0, 5000), st.integers(1, 30))
def test_balanced_sizes_are_whole_rounds_of_all_groups(n: int, num_classes: int) -> None:
    unit = 20 * num_classes
    if n < unit:
        with pytest.raises(ValueError, match=f"{unit} are needed"):
            statistics.largest_balanced(n, num_classes)
        assert statistics.nested_sizes(n, num_classes) == ()
        return
    largest, ladder = statistics.largest_balanced(n, num_classes), statistics.nested_sizes(n, num_classes)
    assert largest % unit == 0
    assert n - unit < largest <= n
    assert ladder[0] == unit
    assert ladder[-1] <= n < 2 * ladder[-1]
    assert all(b == 2 * a for a, b in pairwise(ladder))


def test_cells_meet_at_their_own_size_or_at_a_shared_rung() -> None:
    assert statistics.common_size([1800, 1800], 10) == 1800
    assert statistics.common_size([1850, 1800], 10) == 1800
    assert statistics.common_size([1800, 5000, 2000], 10) == 1600


@given(st.integers(0, 10**6))
def test_a_mean_has_the_textbook_error_interval_and_p_value(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.3, size=20)
    textbook = scipy.stats.ttest_1samp(values, 0)
    ours = statistics.estimate(mean_score(values, np.arange(20)))
    assert ours.value == pytest.approx(values.mean())
    assert ours.standard_error == pytest.approx(scipy.stats.sem(values))
    assert ours.interval == pytest.approx(tuple(textbook.confidence_interval()))
    assert ours.p_value == pytest.approx(textbook.pvalue)


def test_a_paired_difference_is_the_paired_t_test() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20)) + np.random.default_rng(1).normal(size=20)
    textbook = scipy.stats.ttest_rel(a, b)
    ours = statistics.paired_difference(mean_score(a, np.arange(20)), mean_score(b, np.arange(20)))
    assert ours.p_value == pytest.approx(textbook.pvalue)
    assert ours.interval == pytest.approx(tuple(textbook.confidence_interval()))


def test_bias_of_order_one_over_n_is_removed_exactly() -> None:
    values, blocks = np.random.default_rng(0).normal(size=40), np.arange(40) % 20
    score = Replicated(values.var(), tuple(values[blocks != b].var() for b in range(20)))
    by_single = Replicated(values.var(), tuple(np.delete(values, i).var() for i in range(40)))
    assert statistics.bias_corrected(by_single.value, by_single.replicates) == pytest.approx(values.var(ddof=1))
    assert abs(statistics.bias_corrected(score.value, score.replicates) - values.var(ddof=1)) < 0.02


def test_an_extrapolated_score_lacks_its_bias_of_second_order_and_keeps_its_mean() -> None:
    def biased(n: float) -> float:
        return 2.0 + 30 / n + 4000 / n**2

    def score(n: int) -> Replicated:
        return Replicated(biased(n), (biased(n * 19 / 20),) * 20)

    assert abs(statistics.bias_corrected(*_parts(score(200))) - 2) > 0.1
    for part in (40, 100):
        assert statistics.bias_corrected(*_parts(statistics.extrapolated(score(200), 200, score(part), part))) == (
            pytest.approx(2)
        )


def test_an_extrapolated_mean_weighs_the_second_half_twice() -> None:
    values = np.random.default_rng(0).normal(size=400)
    whole, half = (mean_score(values[:n], groups(np.arange(n), 1)) for n in (400, 200))
    found = statistics.bias_corrected(*_parts(statistics.extrapolated(whole, 400, half, 200)))
    assert found == pytest.approx((values[:200].mean() + 2 * values[200:].mean()) / 3)


def _parts(score: Replicated) -> tuple[float, tuple[float, ...]]:
    return score.value, score.replicates


def test_replicates_that_do_not_vary_give_no_error_rather_than_zero() -> None:
    perfect = Replicated(1.0, (1.0,) * 20)
    almost = Replicated(0.1 * 3, tuple(0.1 + 0.2 for _ in range(20)))
    for score in (perfect, almost):
        assert statistics.standard_error(score.replicates) is None
        ours = statistics.estimate(score)
        assert (ours.standard_error, ours.interval, ours.p_value) == (None, None, None)
    assert statistics.paired_difference(perfect, perfect).standard_error is None
    assert statistics.tied_set([perfect, perfect], lower_is_better=False).tied == (0, 1)


def test_a_shared_shift_leaves_no_error_of_the_difference() -> None:
    values = np.random.default_rng(0).normal(size=20)
    shifted = statistics.paired_difference(*(mean_score(values + c, np.arange(20)) for c in (0.7, 0.0)))
    assert shifted.value == pytest.approx(0.7)
    assert shifted.standard_error is None


def shares(failures: float, rounds: int) -> list[Replicated]:
    """Scores of 2,000 samples in 20 groups of which this many fail on average."""
    counts = np.random.default_rng(0).binomial(100, failures / 2000, size=(rounds, 20))
    return [mean_score(1 - row / 100, np.arange(20)) for row in counts]


@pytest.mark.parametrize("failures", [3, 5, 8, 12, 40])
def test_shares_near_one_show_intervals_that_cover_or_none(failures: int) -> None:
    estimates = [statistics.estimate(share, limits=(0, 1)) for share in shares(failures, 1000)]
    shown = [e for e in estimates if e.interval is not None]
    assert hits(shown, 1 - failures / 2000) >= scipy.stats.binom.ppf(1e-4, len(shown), 0.95)
    assert all(e.interval[1] < 1 for e in shown)


def test_without_limits_a_share_near_one_has_intervals_that_are_too_short() -> None:
    estimates = [statistics.estimate(share) for share in shares(5, 1000)]
    assert hits(estimates, 1 - 5 / 2000) < 900


def test_unlike_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="same groups, not 20 and 10"):
        statistics.paired_difference(Replicated(1, (1.0,) * 20), Replicated(1, (1.0,) * 10))
    with pytest.raises(ValueError, match="at least 2 replicates"):
        statistics.estimate(Replicated(1, (1.0,)))


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_tied_set_leaves_out_what_is_clearly_worse(lower_is_better: bool) -> None:
    noise = np.random.default_rng(0).normal(size=(4, 20))
    offsets = np.array([0.0, 5.0, 0.01, 9.0]) * (1 if lower_is_better else -1)
    scores = [mean_score(row + offset, np.arange(20)) for row, offset in zip(noise, offsets, strict=True)]
    ours = statistics.tied_set(scores, lower_is_better)
    assert ours.best in (0, 2)
    assert ours.tied == (0, 2)
    assert ours.p_values[ours.best] is None
    assert all(ours.p_values[i] < 1e-6 for i in (1, 3))
    assert statistics.tied_set(scores[:1], lower_is_better).tied == (0,)


def test_the_tied_set_holds_the_true_best_when_all_are_equal() -> None:
    rng, rounds, m = np.random.default_rng(0), 2000, 9
    kept = 0
    for _ in range(rounds):
        values = rng.normal(size=20) + 0.5 * rng.normal(size=(m, 20))
        kept += 0 in statistics.tied_set([mean_score(row, np.arange(20)) for row in values], True).tied
    assert kept / rounds >= 0.95


@cache
def fids(layout: Callable[[Array], Array]) -> tuple[float, float]:
    """Root mean square of the jackknife's error of FID, and the spread of FID, over 40 independent replicates."""
    scores = [metrics.fid(guided(seed, 0.5), REFERENCE, layout(np.arange(N))) for seed in range(1000, 1040)]
    errors = [statistics.standard_error(score.replicates) for score in scores]
    return float(np.sqrt(np.mean(np.square(errors)))), float(np.std([s.value for s in scores], ddof=1))


def test_the_jackknife_error_of_fid_is_the_spread_of_replicates() -> None:
    error, spread = fids(lambda index: groups(index, CLASSES))
    assert error == pytest.approx(spread, rel=0.15)


def test_one_class_per_group_makes_the_error_of_fid_useless() -> None:
    error, spread = fids(lambda index: index % 20)
    assert error > 5 * spread


@cache
def pooled(strength: float) -> Samples:
    """200,000 samples, from seeds no simulation uses."""
    parts = [guided(seed, strength) for seed in range(10_000, 10_200)]
    fields = ("features", "labels", "log_probs", "clip_scores")
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def kid_of_many(x: Array, y: Array) -> float:
    """KID with infinitely many x, from moment tensors: |E x^(j) - E y^(j)|^2 weighted as the cubic kernel expands."""
    specification = ("ni->i", "ni,nj->ij", "ni,nj,nk->ijk")
    moments = [
        [np.einsum(f, *[z] * (j + 1), optimize=True) / len(z) for z in (x, y)] for j, f in enumerate(specification)
    ]
    biased = sum(
        c * np.sum((a - b) ** 2) / DIMENSION**j for j, c, (a, b) in zip((1, 2, 3), (3, 3, 1), moments, strict=True)
    )
    diagonal = np.mean((np.sum(y**2, axis=1) / DIMENSION + 1) ** 3)
    return float(biased + (REFERENCE.kernel_mean(3) - diagonal) / len(y))


@cache
def truth(name: str, strength: float) -> float:
    """The score of infinitely many samples against the same reference."""
    many = pooled(strength)
    if name == "kid":
        return kid_of_many(many.features, REFERENCE.points)
    return SCORES[name](many, REFERENCE, groups(np.arange(len(many.features)), CLASSES)).value


@cache
def simulated(name: str, strength: float, repeats: int) -> tuple[Replicated, ...]:
    """The score of independent cells of N samples."""
    return tuple((SCORES | WITHOUT_INTERVAL)[name](guided(r, strength), REFERENCE, GROUPS) for r in range(repeats))


def hits(estimates: list[statistics.Estimate], target: float) -> int:
    """How many of the 95 % intervals hold the target."""
    return sum(e.interval is not None and e.interval[0] <= target <= e.interval[1] for e in estimates)


def hits_by_score(name: str, repeats: int) -> tuple[int, int, int]:
    """Intervals that hold the truth: of the score without and with guidance, and of their paired difference."""
    plain, strong = (simulated(name, s, repeats) for s in (0.0, 0.5))
    pairs = [statistics.paired_difference(a, b) for a, b in zip(strong, plain, strict=True)]
    return (
        hits([statistics.estimate(score) for score in plain], truth(name, 0.0)),
        hits([statistics.estimate(score) for score in strong], truth(name, 0.5)),
        hits(pairs, truth(name, 0.5) - truth(name, 0.0)),
    )


@pytest.mark.parametrize("name", SCORES)
def test_intervals_do_not_cover_too_rarely(name: str) -> None:
    fewest = scipy.stats.binom.ppf(1e-4, 40, 0.95)
    assert min(hits_by_score(name, 40)) >= fewest


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_95_percent_intervals_cover_90_to_99_percent_of_200_repeats(name: str) -> None:
    covered = hits_by_score(name, 200)
    assert min(covered) >= 180
    assert max(covered) <= 198


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_INTERVAL)
def test_jackknife_errors_of_recall_and_coverage_are_too_wide_to_show(name: str) -> None:
    scores = simulated(name, 0.0, 100)
    error = np.sqrt(np.mean([statistics.standard_error(score.replicates) ** 2 for score in scores]))
    assert error > 1.1 * np.std([score.value for score in scores], ddof=1)


def test_the_error_of_independent_scores_is_that_of_both_and_pairing_shared_noise_cuts_it() -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(20)
    values = (shared + 0.1 * rng.standard_normal(20) + offset for offset in (0.4, 0.0))
    a, b = (mean_score(value, np.arange(20)) for value in values)
    apart, together = statistics.independent_difference(a, b), statistics.paired_difference(a, b)
    errors = [statistics.estimate(score).standard_error or 0.0 for score in (a, b)]
    assert apart.standard_error == pytest.approx(np.hypot(*errors))
    assert together.value == pytest.approx(apart.value)
    assert (together.standard_error or 0.0) < 0.3 * (apart.standard_error or 0.0)
    assert statistics.tied_set([a, b], lower_is_better=True).tied == (1,)
    assert statistics.tied_set([a, b], lower_is_better=True, paired=False).tied == (0, 1)
