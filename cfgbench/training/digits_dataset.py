"""Where `weights/digits/dataset.npz` comes from: scikit-learn's digits and one fixed stratified split of them.

The file is shipped because importing scikit-learn takes four seconds, planning a sweep a fraction of one, and so that
another version's shuffling can never move an image from the held-out half into the training half.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

TRAIN_SIZE = 898
SPLIT_SEED = 0


def write(path: Path) -> None:
    """Writes images (1797, 8, 8) uint8 in 0..16, labels (1797,) uint8 and the indices `train` and `held_out`."""
    images, labels = load_digits(return_X_y=True)
    indices = np.arange(len(labels), dtype=np.int16)
    train, held_out = train_test_split(indices, train_size=TRAIN_SIZE, stratify=labels, random_state=SPLIT_SEED)
    images = images.reshape(-1, 8, 8).astype(np.uint8)
    np.savez_compressed(path, images=images, labels=labels.astype(np.uint8), train=train, held_out=held_out)
