"""Whether the predictions of a guided step are one network call or several: as the experiment says, or as is faster.

Joint calls have other bits than single ones (they agree to about 1e-5), and which is faster depends on the device, the
network and the batch. So a choice by measurement is made once per results folder and cost class, and kept there.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace

import torch

from cfgbench.cell import Cell, digest
from cfgbench.generation import guidance, precision, sampling
from cfgbench.generation.sampling import Batch
from cfgbench.planning.plan import Task
from cfgbench.running import utilisation
from cfgbench.store import Store

REPEATS = 5  # of a step, both ways in turn
LEAST_GAIN = 0.98  # what a joint call may take of the seconds of single ones, to be worth its memory


def are_joint(task: Task, batch: Batch, store: Store, indices: Sequence[int], device: str) -> bool:
    """How a task's blocks are drawn; where nobody has measured it yet, on this batch of its samples."""
    if task.passes != "measured":
        return task.passes == "batched"
    name = f"passes-{digest([task.cell.cost_class, task.batch_size])}"
    return store.decision(name, lambda: joint_is_faster(batch, task.cell, indices, device))


def joint_is_faster(batch: Batch, cell: Cell, indices: Sequence[int], device: str) -> bool:
    """Whether guided steps take less time as one call, by the medians of steps timed in turn; never without any."""
    first = _first_guided(batch, cell, indices)
    if first is None:
        return False
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(-1, REPEATS):
        for joint, found in seconds.items():
            taken = _seconds(replace(batch, batched=joint), cell, indices, first, device)
            if number >= 0:  # the first makes ready
                found.append(taken)
    return statistics.median(seconds[True]) < LEAST_GAIN * statistics.median(seconds[False])


def _first_guided(batch: Batch, cell: Cell, indices: Sequence[int]) -> int | None:
    """The first guided evaluation, None where there is none."""
    trajectory = sampling.start(batch, cell.seed, indices)
    first = guidance.begins(cell.guidance, trajectory.sigmas[:-1])
    return first if first < len(trajectory) else None


@torch.no_grad()
def _seconds(batch: Batch, cell: Cell, indices: Sequence[int], evaluation: int, device: str) -> float:
    """Of one evaluation, wherever the samples are by then."""
    trajectory = sampling.start(batch, cell.seed, indices)
    trajectory.index = evaluation
    method = guidance.bind(cell.guidance)
    with precision.switches(cell.dtype):
        begin = utilisation.clock(device)
        method(sampling.Step(trajectory, batch))
        return utilisation.clock(device) - begin
