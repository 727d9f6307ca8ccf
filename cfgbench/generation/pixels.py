"""The one place where images become bytes, and back."""

import numpy as np


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as uint8: clamped, then rounded; NaN becomes 0 (samples are checked before they get here).

    The only quantisation: references and samples both pass it before any encoder sees them.
    """
    levels = np.rint((np.clip(images, -1, 1) + 1) * 127.5)
    quantised: np.ndarray = np.nan_to_num(levels).astype(np.uint8)
    return quantised


def from_uint8(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [-1, 1], what encoders read."""
    return images.astype(np.float32) / np.float32(127.5) - 1
