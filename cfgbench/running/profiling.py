"""Speed of a cost class: latency, throughput, peak memory and FLOPs, apart from quality. Raw samples are kept.

Cost classes are timed in turn, repeat by repeat, so that a drifting machine slows all alike. A pass is a whole
trajectory of one batch, from drawn noise to decoded samples, after one untimed call (kept as the first call) and with
the device synchronised. Stopwatches inside the trajectory stand around the networks.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cfgbench import machine
from cfgbench.assets.prompts import Prompts
from cfgbench.cell import Cell
from cfgbench.generation import guidance, noise, precision, sampling
from cfgbench.planning.experiment import Profile
from cfgbench.records import SpeedRecord, Timing
from cfgbench.registry import EXECUTIONS, METHODS
from cfgbench.running import utilisation, worker
from cfgbench.running.memory import LiveTensors, Peak, peak
from cfgbench.running.runner import speed_id
from cfgbench.store import Store


class _Pass(NamedTuple):
    """Seconds of one timed pass and the memory it needed."""

    trajectory_s: float
    denoiser_s: float
    classifier_s: float
    decode_s: float
    memory: Peak
    joules: float | None


class Subject(NamedTuple):
    """A cell to time, and what its samples are asked to show: one of so many classes, or these prompts in turn."""

    cell: Cell
    num_classes: int
    prompts: Prompts | None = None

    def batch(self, size: int, device: str, batched: bool = False) -> sampling.Batch:
        """Its first samples, ready to draw."""
        labels = noise.labels(range(size), self.num_classes)
        if self.prompts is None:
            return worker.prepare(self.cell, labels, device, batched)
        texts = tuple(self.prompts.whole[i % len(self.prompts.whole)] for i in range(size))
        return worker.prepare(
            self.cell, labels, device, batched, self.prompts._replace(texts=texts, indices=tuple(range(size)))
        )


Mode = tuple[int, int, bool]  # index of the class, batch size, batched


def measure(classes: Sequence[Subject], profile: Profile, folder: Path, device: str, threads: int) -> int:
    """Time the cost classes of one model and dtype, each given by one of its cells.

    Writes one record each; emulated arithmetic is counted, not timed.
    """
    torch.set_num_threads(threads)
    worker.forget_forks()
    classes = [Subject(*item) for item in classes]
    modes = [
        (index, size, batched)
        for index, (cell, *_) in enumerate(classes)
        for size in profile.batch_sizes
        for batched in ((False, True) if METHODS[cell.guidance.method].passes > 1 and cell.diffusion else (False,))
        if not precision.is_emulated(cell.dtype)
    ]
    first = {mode: _timed(classes[mode[0]], mode, device) for mode in modes}
    passes: dict[Mode, list[_Pass]] = {mode: [] for mode in modes}
    for _ in range(profile.repeats):
        for mode in modes:
            passes[mode].append(_timed(classes[mode[0]], mode, device))
    for index, item in enumerate(classes):
        own = [mode for mode in modes if mode[0] == index]
        timings = [_timing(mode, first[mode], passes[mode], activation_bytes(item, mode, device)) for mode in own]
        Store(folder).write_record(_record(item, profile, device, threads, timings))
    torch.set_num_threads(1)
    return len(classes)


def activation_bytes(item: Subject, mode: Mode, device: str) -> int | None:
    """Peak bytes of live tensors, in a pass of its own; None on a GPU, whose allocator tells, and of compiled code."""
    if device.startswith("cuda") or EXECUTIONS[item.cell.execution].mode is not None:
        return None
    cell, indices = item.cell, range(mode[1])
    batch = item.batch(mode[1], device, mode[2])
    with LiveTensors(batch.model.networks.values()) as live:
        sampling.sample(batch, guidance.bind(cell.guidance), cell.seed, indices)
    return int(live.peak)


def counted(item: Subject, device: str) -> tuple[sampling.Counts, int]:
    """Passes and floating-point operations of one sample, multiply and add counted apart.

    Counted without a compiler, which hides them and does not change them.
    """
    cell = item.cell.model_copy(update={"execution": "eager"})
    batch = item._replace(cell=cell).batch(1, device)
    with FlopCounterMode(display=False) as counter:
        _, counts = sampling.sample(batch, guidance.bind(cell.guidance), cell.seed, range(1))
    return counts, int(counter.get_total_flops())


def network_bytes(network: nn.Module) -> int:
    """Bytes of a network's weights and buffers."""
    return int(np.sum([t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers())]))


def _record(item: Subject, profile: Profile, device: str, threads: int, timings: list[Timing]) -> SpeedRecord:
    cell = item.cell
    counts, flops = counted(item, device)
    model = item.batch(1, device).model
    return SpeedRecord(
        id=speed_id(cell.cost_class, profile, device),
        cost_class=cell.cost_class,
        cell=cell,
        nfe=counts.nfe,
        classifier_passes=counts.classifier,
        weights_memory_bytes={name: network_bytes(network) for name, network in model.networks.items()},
        flops_per_sample=flops,
        matmul_flops_per_s=_ceiling(cell.dtype, device, threads),
        timings=tuple(timings),
        measured=not precision.is_emulated(cell.dtype),
        machine=machine.describe(device, threads),
    )


def _ceiling(dtype: str, device: str, threads: int) -> float | None:
    """Of what a network in this dtype computes with; None where it is emulated."""
    if precision.is_emulated(dtype):
        return None
    with precision.switches(dtype):
        return utilisation.matmul_flops(precision.TORCH[dtype], device, threads)


def _timing(mode: Mode, first: _Pass, passes: list[_Pass], activations: int | None) -> Timing:
    return Timing(
        batch_size=mode[1],
        batched=mode[2],
        first_call_s=first.trajectory_s + first.decode_s,
        trajectory_s=tuple(single.trajectory_s for single in passes),
        denoiser_s=tuple(single.denoiser_s for single in passes),
        classifier_s=tuple(single.classifier_s for single in passes),
        decode_s=tuple(single.decode_s for single in passes),
        energy_j=tuple(single.joules for single in passes if single.joules is not None),
        peak_memory_bytes=_most(single.memory.total for single in passes),
        activation_memory_bytes=_most(single.memory.added for single in passes) or activations,
        reserved_memory_bytes=_most(single.memory.reserved for single in passes),
    )


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _timed(item: Subject, mode: Mode, device: str) -> _Pass:
    """One trajectory of a batch, its noise drawn beforehand."""
    cell, indices = item.cell, range(mode[1])
    batch = item.batch(mode[1], device, mode[2])
    watch = _Stopwatches(device)
    batch = replace(batch, watch=watch)
    with precision.switches(cell.dtype), torch.no_grad(), peak(device) as memory:
        trajectory = sampling.start(batch, cell.seed, indices)
        begin = utilisation.clock(device)
        joules = utilisation.joules_since(utilisation.energy_counter(device))
        sampling.advance(trajectory, batch, guidance.bind(cell.guidance), len(trajectory))
        middle = utilisation.clock(device)
        batch.model.decode(trajectory.x)
        end = utilisation.clock(device)
        spent = joules()
    inside = watch.seconds
    return _Pass(middle - begin, inside["denoiser"], inside["classifier"], end - middle, memory(), spent)


class _Stopwatches:
    """Adds up seconds by name around parts of a trajectory."""

    def __init__(self, device: str) -> None:
        self.seconds = {"denoiser": 0.0, "classifier": 0.0}
        self._device = device

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = utilisation.clock(self._device)
        yield
        self.seconds[name] += utilisation.clock(self._device) - begin
