"""Sample health: broken and burnt samples are counted, so that no average hides them."""

import hashlib

import numpy as np

from cfgbench.records import Health

SATURATED = 0.95  # share of a sample's pixels at 0 or 255 from which it counts as saturated


def examine(latents: np.ndarray, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Per-sample flags and counts of latents (n, ...) and decoded samples (n, ...), as arrays of a block."""
    flat = samples.reshape(len(samples), -1)
    images = samples.dtype == np.uint8
    extreme = ((flat == 0) | (flat == 255)).sum(1) if images else np.zeros(len(flat), dtype=int)
    return {
        "nan": ~np.isfinite(latents.reshape(len(latents), -1)).all(1),
        "constant": (flat == flat[:, :1]).all(1) & (flat.shape[1] > 1),
        "saturated": extreme >= SATURATED * flat.shape[1] if images else np.zeros(len(flat), dtype=bool),
        "clipped_values": extreme.astype(np.int64),
        "values": np.full(len(flat), flat.shape[1], dtype=np.int64),
    }


def total(arrays: dict[str, np.ndarray]) -> Health:
    """The counts of a whole cell."""
    return Health(**{name: int(arrays[name].sum()) for name in Health.model_fields})


def pixel_hashes(samples: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each sample's content, (n,) uint64: equal only for bit-identical samples."""
    digests = [hashlib.blake2b(sample.tobytes(), digest_size=8).digest() for sample in samples]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)
