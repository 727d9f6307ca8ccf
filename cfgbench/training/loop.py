"""One training loop for every small network: AdamW, linear warm-up then cosine decay, budget in steps, one thread.

Nothing here depends on the clock: the same recipe gives the same weights, bit for bit, on the same machine type.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

LAST_FACTOR = 0.02  # the learning rate ends at this fraction of its peak

Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]  # (network, images, labels, generator) -> ()


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained: all that, with its loss and its data, decides its weights."""

    steps: int
    batch_size: int
    learning_rate: float  # the peak
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: float = 0.05  # fraction of the steps
    averaged: bool = False  # keep an exponential moving average of the weights
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """The state of a training after `step` steps; the networks are the live ones, copy what is to be kept."""

    step: int
    loss: float
    network: nn.Module  # what a user of the training gets: the averaged network where there is one
    cpu_s: float


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """One thread and torch's global generator seeded (initial weights, dropout); both restored afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def fit(network: nn.Module, loss: Loss, data: tuple[Tensor, Tensor], how: Optimisation) -> Iterator[Progress]:
    """Trains the network in place on (images, labels); yields after every step."""
    generator = torch.Generator().manual_seed(how.seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=how.learning_rate, betas=how.betas, weight_decay=how.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, how))
    average = deepcopy(network) if how.averaged else network
    order = batches(len(data[0]), how.batch_size, generator)
    start = time.process_time()
    network.train()
    for step in range(1, how.steps + 1):
        batch = next(order)
        value = loss(network, data[0][batch], data[1][batch], generator)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if how.averaged:
            _update_average(average, network, min(0.999, step / (step + 9)))
        yield Progress(step, value.item(), average, time.process_time() - start)


def flops_per_step(network: nn.Module, loss: Loss, data: tuple[Tensor, Tensor], how: Optimisation) -> int:
    """Floating-point operations of one step's forward and backward pass, measured on one batch."""
    images, labels = (tensor[: how.batch_size] for tensor in data)
    with FlopCounterMode(display=False) as counter:
        loss(deepcopy(network).train(), images, labels, torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def rate(step: int, how: Optimisation) -> float:
    """The learning rate after `step` steps, as a share of its peak."""
    warmup = how.warmup * how.steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / (how.steps - warmup)
    return LAST_FACTOR + (1 - LAST_FACTOR) * (1 + math.cos(math.pi * progress)) / 2


def batches(size: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless indices of batches: every epoch is a fresh shuffle, its incomplete last batch left out."""
    while True:
        order = torch.randperm(size, generator=generator)
        yield from order[: size - size % batch_size].split(batch_size)  # type: ignore[no-untyped-call]


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
