"""Noise keyed by (seed, index)."""

import numpy as np
import pytest

from cfgbench.generation import noise


def test_initial_noise_of_a_sample_is_the_same_in_any_batch() -> None:
    together = noise.initial(5, range(10), (1, 8, 8))
    np.testing.assert_array_equal(together[7], noise.initial(5, [7], (1, 8, 8))[0])


def test_streams_of_one_sample_and_of_neighbouring_keys_are_unrelated() -> None:
    draws = [
        noise.generator(seed, index, stream).standard_normal(4000)
        for seed in (0, 1, 2**63)
        for index in (0, 1)
        for stream in (noise.INITIAL, noise.PER_STEP)
    ]
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.08


def test_a_million_keys_give_a_million_different_first_draws() -> None:
    """Philox is a bijection of its counter for every key, so equal blocks could only come from colliding keys."""
    bits = np.random.Philox(key=[0, 0])
    state = bits.state
    seen = np.empty(1_000_000, dtype=np.uint64)
    for k in range(len(seen)):
        state["state"]["key"][:] = (k % 1000, k // 1000)
        state["state"]["counter"][:] = 0
        state["buffer_pos"] = 4
        bits.state = state
        seen[k] = bits.random_raw()
    assert len(np.unique(seen)) == len(seen)
    assert seen[2003] == np.random.Philox(key=[3, 2]).random_raw()


def test_per_step_noise_goes_on_where_it_stopped_and_is_standard_normal() -> None:
    steps = noise.StepNoise(0, range(2000))
    first, second = steps.draw((3,)), steps.draw((3,))
    assert not (first == second).any()
    assert abs(first.mean()) < 4 / np.sqrt(first.size)
    assert abs(first.var() - 1) < 4 * np.sqrt(2 / first.size)


@pytest.mark.parametrize("classes", [1, 4, 10])
def test_labels_are_balanced(classes: int) -> None:
    assert len(set(np.bincount(noise.labels(range(100 * classes), classes)))) == 1
