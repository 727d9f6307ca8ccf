"""How far samples and scores that were drawn again are from those that are kept, in words, and whether they agree."""

import math
from collections.abc import Mapping

import numpy as np

from cfgbench.cell import Cell
from cfgbench.generation import gallery
from cfgbench.records import Score
from cfgbench.scores import statistics

# Of a value in [0, 1], or of a coordinate relative to the largest. Half precision rounds as the shapes of a batch
# have it: allowed is twice what its emulation shows on digits.
TOLERANCES = {"fp64": 1e-5, "fp32": 1e-5, "tf32": 1e-2, "fp16": 1e-2, "bf16": 2e-2}
STATE_TOLERANCES = {"fp64": 0.0, "fp32": 0.0, "fp16": 1e-2, "bf16": 5e-2}
SCORE_TOLERANCE = 0.25  # standard errors
FEATURES = 0.05  # of the usual distance between two samples: a pixel that rounds the other way moves them less
ROUNDED = 5e-5  # half of the last decimal of a kept point


def tolerance(cell: Cell) -> float:
    state = cell.diffusion.state_dtype if cell.diffusion is not None else None
    return TOLERANCES[cell.dtype.removesuffix("_emulated")] + STATE_TOLERANCES[state or "fp32"]


def as_tile(image: np.ndarray) -> np.ndarray:
    return np.asarray(gallery.tile(image))


def of_images(new: np.ndarray, old: np.ndarray, tolerance: float) -> tuple[str, bool]:
    """Words and verdict on tiles (n, height, width, ...) in levels."""
    if new.shape != old.shape:
        return f"images of {new.shape[1:]} values, kept are {old.shape[1:]}", False
    levels = np.abs(new.astype(int) - old)
    moved, allowed = int((levels > 0).sum()), math.ceil(2 * 255 * tolerance * levels.size)
    identical = int((levels.reshape(len(levels), -1) == 0).all(1).sum())
    far = f", by at most {levels.max()}/255" if moved else ""
    words = f"{identical} identical, {moved} of {levels.size} values differ{far}"
    return words, bool(moved <= allowed and levels.max() <= max(1, math.ceil(255 * tolerance)))


def of_points(new: np.ndarray, old: np.ndarray, tolerance: float) -> tuple[str, bool]:
    """Words and verdict on points (n, 2), kept to four decimals."""
    gap = np.abs(new - old)
    identical = int((gap <= ROUNDED * 1.001).all(1).sum())
    words = f"{identical} identical to the four decimals that are kept, others at most {gap.max():.2g} apart"
    return words, bool(gap.max() <= ROUNDED * 1.001 + tolerance * max(1.0, float(np.abs(old).max())))


def of_features(new: Mapping[str, np.ndarray], old: Mapping[str, np.ndarray], cell: Cell) -> tuple[str, bool]:
    """Words and verdict on hashes of samples (n,) and features of them (n, d), by name."""
    identical = int((new["pixels"] == old["pixels"]).sum())
    gaps = [_gap(new[name], old[name]) for name in old if name.startswith("features")]
    far = max(gaps, default=0.0)
    words = f"{identical} identical, the farthest is {far:.2g} of the usual distance between two samples away"
    return words, bool(far <= FEATURES + 10 * tolerance(cell))


def _gap(new: np.ndarray, old: np.ndarray) -> float:
    """The largest distance of features (n, d) to those kept, in root mean square distances of two kept ones."""
    usual = math.sqrt(2 * float(np.var(old.astype(np.float64), axis=0).sum()))
    far = float(np.linalg.norm(new.astype(np.float64) - old, axis=1).max())
    return far / usual if usual else (0.0 if far == 0 else math.inf)


def apart(old: Score, new: Score | None) -> float:
    """How many standard errors lie between a recorded score and a new one."""
    gap = math.inf if new is None else abs(new.value - old.value)
    error = statistics.standard_error(old.replicates) if old.replicates else None
    if error is None:  # it does not vary, or has too few samples for an error
        return 0.0 if gap <= 1e-9 * abs(old.value) else math.inf
    return gap / error
