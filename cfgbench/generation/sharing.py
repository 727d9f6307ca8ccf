"""Work that cells share: trajectories up to their first guided evaluation, and the predictions asked for there.

Cells that differ in guidance alone start from the same noise, so their first predictions are the same; where guidance
is limited to an interval they also go the same way until it begins. What one cell has computed is kept in the worker
and handed to the next. Nothing changes by it: the same passes at the same shapes give the same bits, and a shared pass
counts as if it had been made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cfgbench.cell import Cell, digest
from cfgbench.generation import guidance, sampling
from cfgbench.generation.sampling import Batch, Counts, Predictions, Trajectory

ROOM_BYTES = 256_000_000  # of the forks of one model
Key = tuple[str, int, int, int]  # cells but for guidance, first sample, number of samples, evaluation
_COPIES = 5  # tensors like x that a fork holds: x, what the scheduler remembers, and predictions


@dataclass
class Forks:
    """Where trajectories of one model part. When there is no room nothing more is kept, and what is there stays.

    Sweeps go through all samples of a cell before the next cell: throwing the oldest out would throw out just what is
    needed next.
    """

    room: int = ROOM_BYTES
    _kept: dict[Key, Trajectory] = field(default_factory=dict)

    def find(self, key: Key) -> Trajectory | None:
        """A continuation of the trajectory that was kept under a key."""
        kept = self._kept.get(key)
        return None if kept is None else kept.copy()

    def keep(self, key: Key, trajectory: Trajectory) -> None:
        """Keep a trajectory as it is now; predictions that it asks for at once are kept with it."""
        size = _COPIES * trajectory.x.numel() * trajectory.x.element_size()
        if size > self.room:
            return
        self.room -= size
        trajectory.predictions = Predictions()
        self._kept[key] = trajectory.copy()


def sample(batch: Batch, cell: Cell, indices: Sequence[int], forks: Forks) -> tuple[Tensor, Counts]:
    """What `sampling.sample` returns for samples `indices` of a cell, from where other cells have already been."""
    with torch.no_grad():
        trajectory = _until(batch, cell, indices, forks, 0)
        first = guidance.begins(cell.guidance, trajectory.sigmas[:-1])
        trajectory = _until(batch, cell, indices, forks, first) if first else trajectory
        if batch.batched:  # whose calls have other bits than those by which another cell may have asked
            trajectory.predictions = None
        sampling.advance(trajectory, batch, guidance.bind(cell.guidance), len(trajectory))
        return trajectory.x, trajectory.counts


def _until(batch: Batch, cell: Cell, indices: Sequence[int], forks: Forks, index: int) -> Trajectory:
    """The unguided trajectory up to evaluation `index`."""
    key = (path(cell), indices[0], len(indices), index)
    trajectory = forks.find(key)
    if trajectory is None:
        trajectory = _until(batch, cell, indices, forks, 0) if index else sampling.start(batch, cell.seed, indices)
        sampling.advance(trajectory, batch, guidance.unguided, index)
        forks.keep(key, trajectory)
    return trajectory


def path(cell: Cell) -> str:
    """Names the unguided trajectories of a cell: equal for cells that differ in guidance alone."""
    return digest(cell.model_dump(mode="json", exclude={"guidance": True, "model": {"digest"}}))
