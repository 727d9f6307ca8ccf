"""Initial noise, per-step noise and labels keyed by (seed, index): the same in every cell, whatever the batch size,
order, worker or device.

Counter-based: sample i of seed k owns the Philox streams of key (k, i); stream 0 is its initial noise, stream 1 the
sampler's per-step noise, stream 2 the noise that a guidance method draws, stream 3 that of a stage which samples the
condition. numpy draws them on the CPU, in float64
(torch's CPU seeds keep 32 bits and collide).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

INITIAL, PER_STEP, GUIDANCE, CONDITION = 0, 1, 2, 3


def generator(seed: int, index: int, stream: int) -> np.random.Generator:
    """The generator of one stream of one sample; 2^192 draws apart from any other stream of that sample."""
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, 0, stream]))


def initial(seed: int, indices: Sequence[int], shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise (n, *shape), float64."""
    return np.stack([generator(seed, index, INITIAL).standard_normal(shape) for index in indices])


class StepNoise:
    """The per-step noise of a batch: each call draws the next (n, *shape), sample by sample."""

    def __init__(self, seed: int, indices: Sequence[int], stream: int = PER_STEP) -> None:
        self._seed, self._indices, self._stream = seed, indices, stream

    @cached_property
    def _generators(self) -> list[np.random.Generator]:
        """Made when first needed: most samplers and methods draw nothing."""
        return [generator(self._seed, index, self._stream) for index in self._indices]

    def draw(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal noise (n, *shape), float64."""
        return np.stack([rng.standard_normal(shape) for rng in self._generators])


def labels(indices: Sequence[int], num_classes: int) -> np.ndarray:
    """Balanced class labels (n,): sample i has label i mod classes."""
    return np.asarray(indices, dtype=np.int64) % num_classes
