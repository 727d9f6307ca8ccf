"""The sampling error that networks share, as the ledger's rules meet it: known answers, and coverage in simulation."""

import numpy as np
import pytest

from cfgbench.claims.findings import Finding, exact, over_seeds, size
from cfgbench.claims.shared_noise import with_shared_error
from cfgbench.scores.statistics import NUM_GROUPS, Floats


def worlds(groups: Floats) -> tuple[Finding, list[list[Finding]]]:
    """A finding on the means of networks' group values (networks, groups), and the same without each group."""
    total = groups.sum(axis=1)
    without = [(total - groups[:, b]) / (groups.shape[1] - 1) for b in range(groups.shape[1])]
    found = Finding("mean", over_seeds(groups.mean(axis=1).tolist()), 0)
    return found, [[Finding("mean", over_seeds(one.tolist()), 0)] for one in without]


def interval(groups: Floats) -> tuple[float, float]:
    found, elsewhere = worlds(groups)
    (wider,) = with_shared_error([found], elsewhere)
    return wider.measured.low, wider.measured.high


def test_networks_that_agree_because_they_share_their_noise_get_an_interval() -> None:
    shared = np.tile(np.random.default_rng(0).normal(size=NUM_GROUPS), (3, 1))
    found, _ = worlds(shared)
    assert found.measured.high - found.measured.low < 1e-12
    low, high = interval(shared)
    assert high - low == pytest.approx(2 * 2.093 * shared[0].std(ddof=1) / np.sqrt(NUM_GROUPS), rel=1e-3)


def test_the_value_stays_and_the_words_say_what_the_interval_holds() -> None:
    found, elsewhere = worlds(np.random.default_rng(1).normal(size=(3, NUM_GROUPS)))
    (wider,) = with_shared_error([found], elsewhere)
    assert wider.measured.value == pytest.approx(found.measured.value)
    assert "the sampling error that they share" in wider.measured.how


def test_a_size_stays_a_size_and_a_count_a_count() -> None:
    found, elsewhere = worlds(np.random.default_rng(2).normal(size=(3, NUM_GROUPS)))
    sized = Finding("size", size(found.measured), 1, above=False)
    (wider,) = with_shared_error([sized], [[Finding("size", size(one.measured), 1)] for (one,) in elsewhere])
    assert wider.measured.low >= 0
    assert wider.measured.value == pytest.approx(abs(found.measured.value))
    counted = Finding("count", exact(2), 1)
    assert with_shared_error([counted], [[counted]]) == (counted,)


def test_without_other_worlds_the_spread_of_the_networks_stands() -> None:
    found, _ = worlds(np.random.default_rng(3).normal(size=(3, NUM_GROUPS)))
    assert with_shared_error([found], []) == (found,)


def coverage(shared: float, between: float, repetitions: int, seed: int) -> tuple[float, float]:
    """Of the intervals from the spread alone, and of these; the truth is 0."""
    rng, plain, wide = np.random.default_rng(seed), 0, 0
    for _ in range(repetitions):
        common, own = rng.normal(size=NUM_GROUPS), rng.normal(size=(3, NUM_GROUPS))
        groups = np.sqrt(shared) * common + np.sqrt(1 - shared) * own + between * rng.normal(size=(3, 1))
        found, _ = worlds(groups)
        plain += found.measured.low <= 0 <= found.measured.high
        low, high = interval(groups)
        wide += low <= 0 <= high
    return plain / repetitions, wide / repetitions


@pytest.mark.parametrize(("shared", "between"), [(0.9, 0.0), (0.5, 0.1), (0.0, 0.3)])
def test_intervals_cover_whatever_the_networks_share(shared: float, between: float) -> None:
    plain, wide = coverage(shared, between, 400, seed=4)
    assert wide >= 0.93
    assert plain < 0.8 or shared < 0.9  # what the wider intervals are for
