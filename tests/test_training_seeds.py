"""Means over training seeds: both sources of error counted once, and intervals that cover the next network."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cfgbench.scores import statistics
from cfgbench.scores.training_seeds import Difference, over_training_seeds, together

GROUPS = 20
Floats = NDArray[np.float64]


def drawn(rng: np.random.Generator, networks: int, between: float, own: float, shared: float) -> Floats:
    """Pseudo-values (networks, 20) around 0: spread of the networks, sampling error of each, and what they share.

    All three are standard deviations of a network's value.
    """
    scale = GROUPS**0.5
    noise = own * scale * rng.normal(size=(networks, GROUPS)) + shared * scale * rng.normal(size=GROUPS)
    return noise + between * rng.normal(size=(networks, 1))


def coverage(networks: int, errors: tuple[float, float, float], repetitions: int) -> tuple[float, float]:
    """How often the interval holds the truth: ours, and that of the spread of the networks' values alone."""
    rng, hits = np.random.default_rng(7), np.zeros(2)
    for _ in range(repetitions):
        pseudo = drawn(rng, networks, *errors)
        for i, found in enumerate((over_training_seeds(pseudo), statistics.mean_of(pseudo.mean(axis=1)))):
            assert found.interval is not None
            hits[i] += found.interval[0] <= 0 <= found.interval[1]
    return float(hits[0] / repetitions), float(hits[1] / repetitions)


@pytest.mark.parametrize("networks", [2, 3, 5])
@pytest.mark.parametrize("errors", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.3, 0.3, 1.0), (1.0, 1.0, 1.0)])
def test_intervals_cover_whatever_the_error_is_made_of(networks: int, errors: tuple[float, float, float]) -> None:
    assert coverage(networks, errors, 300)[0] >= 0.92


def test_the_spread_of_networks_alone_does_not_cover_where_they_share_their_noise() -> None:
    ours, spread_alone = coverage(3, (0.1, 0.1, 1.0), 300)
    assert spread_alone < 0.6
    assert ours >= 0.92


def test_the_squared_error_is_that_of_the_mean() -> None:
    """Many networks and repetitions: the mean of the squared error is the variance of the mean."""
    rng = np.random.default_rng(8)
    found = [over_training_seeds(drawn(rng, 6, 0.5, 0.7, 0.9)) for _ in range(1500)]
    squared = np.mean([(one.standard_error or 0.0) ** 2 for one in found])
    assert squared == pytest.approx((0.5**2 + 0.7**2) / 6 + 0.9**2, rel=0.05)
    assert np.var([one.value for one in found]) == pytest.approx(squared, rel=0.15)


def test_the_p_value_is_the_level_at_which_the_interval_ends_at_zero() -> None:
    pseudo = drawn(np.random.default_rng(9), 3, 0.5, 0.5, 0.5)
    half = over_training_seeds(pseudo)
    assert half.interval is not None
    moved = over_training_seeds(pseudo - half.interval[0])
    assert moved.p_value == pytest.approx(0.05, abs=1e-9)


def test_without_shared_error_it_is_the_t_interval_of_the_networks() -> None:
    pseudo = np.repeat([[1.0], [2.0], [4.0]], GROUPS, axis=1)
    ours, plain = over_training_seeds(pseudo), statistics.mean_of(np.array([1.0, 2.0, 4.0]))
    assert ours.interval == pytest.approx(plain.interval)
    assert ours.p_value == pytest.approx(plain.p_value)


def test_equal_networks_without_error_have_no_interval() -> None:
    found = over_training_seeds(np.full((3, GROUPS), 0.1))
    assert (found.standard_error, found.interval, found.p_value) == (None, None, None)


def test_networks_are_taken_together_or_not_at_all() -> None:
    one, other = Difference(np.ones((1, GROUPS))), Difference(np.ones((1, 10)))
    both = together([one, one])
    assert both is not None and both.pseudo.shape == (2, GROUPS)
    assert together([one, None]) is None
    assert together([one, other]) is None
