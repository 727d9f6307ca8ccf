"""A training that may be killed at any step and goes on where it was: on one device, with averaged weights.

The draws of a step (batch, noise, dropout) depend on the seed and the number of the step alone, so that on one machine
a training that was interrupted gives the weights of one that was not. On a GPU the passes run in bfloat16 and the
networks in channels_last; weights, gradients and averages are fp32.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cfgbench.training.card import write_atomically
from cfgbench.training.loop import Optimisation, rate

Loss = Callable[
    [nn.Module, Tensor, Tensor], Tensor
]  # (network, uint8 images, labels) -> (), draws from torch's globals
AVERAGING = 0.9995  # decay of the moving average, reached after 18,000 steps
_MOMENTS = ("exp_avg", "exp_avg_sq")


class State(NamedTuple):
    """What a training has come to."""

    step: int
    loss: Tensor  # of the last step, ()
    seconds: float  # of all its runs


class Trainer:
    """A network in training: its averaged twin, its optimiser, and the file that keeps them."""

    def __init__(self, network: nn.Module, how: Optimisation, file: Path, name: str) -> None:
        """`name` names the recipe: a file that another recipe has left is not read, ValueError."""
        self.network, self.how, self.file, self.name = network.train(), how, file, name
        self.average = deepcopy(network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=how.learning_rate, betas=how.betas, weight_decay=how.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        if file.exists():
            self._load()

    def advance(self, loss: Loss, images: Tensor, labels: Tensor) -> Tensor:
        """One step on a batch; returns its loss."""
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = self.how.learning_rate * rate(self.step - 1, self.how)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            value = loss(self.network, images, labels)
        self.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self._average(min(AVERAGING, self.step / (self.step + 9)))
        return value.detach()

    def save(self) -> None:
        """Write the file, so that a reader never sees half of it."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for key, parameter in self.network.named_parameters():
            kept = self.optimiser.state[parameter]
            tensors |= {f"{moment}.{key}": kept[moment] for moment in _MOMENTS if moment in kept}
        whole = {key: value.contiguous() for key, value in tensors.items()}
        about = {"step": str(self.step), "seconds": repr(self.seconds), "recipe": self.name}
        write_atomically(self.file, lambda path: save_file(whole, path, about))

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)

    def _load(self) -> None:
        with safe_open(self.file, "pt") as kept:
            about, tensors = kept.metadata(), {key: kept.get_tensor(key) for key in kept.keys()}  # noqa: SIM118
        if about["recipe"] != self.name:
            raise ValueError(f"{self.file} is of a training by another recipe; finish it, delete it or go elsewhere")
        self.step, self.seconds = int(about["step"]), float(about["seconds"])
        self.network.load_state_dict(_part(tensors, "network"))
        self.average.load_state_dict(_part(tensors, "average"))
        names = [key for key, _ in self.network.named_parameters()]
        moments: dict[int, Any] = {
            number: {
                "step": torch.tensor(float(self.step)),
                **{moment: tensors[f"{moment}.{key}"] for moment in _MOMENTS},
            }
            for number, key in enumerate(names)
        }
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


def fit(trainer: Trainer, loss: Loss, data: tuple[Tensor, Tensor], save_every_s: float) -> Iterator[State]:
    """Train to the end on uint8 images and labels, which lie on the network's device; yields after every step."""
    images, labels = data
    how, begun, before = trainer.how, time.perf_counter(), trainer.seconds
    saved = begun
    with _draws(images.device) as draw:
        while trainer.step < how.steps:
            batch = torch.from_numpy(_batch(trainer.step, len(labels), how)).to(images.device)
            draw(how.seed, trainer.step)
            value = trainer.advance(loss, images[batch], labels[batch])
            now = time.perf_counter()
            trainer.seconds = before + now - begun
            if now - saved >= save_every_s:
                trainer.save()
                saved = now
            yield State(trainer.step, value, trainer.seconds)


@contextmanager
def _draws(device: torch.device) -> Iterator[Callable[[int, int], object]]:
    """A function that seeds torch's global generators for a step of a seed; they are as before afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield lambda seed, step: torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))


def _batch(step: int, size: int, how: Optimisation) -> np.ndarray:
    """Which pictures (batch,) step `step` sees: every epoch is a fresh shuffle, its incomplete last batch left out."""
    batch_size = min(how.batch_size, size)
    epoch, place = divmod(step, size // batch_size)
    return _shuffle(how.seed, epoch, size)[place * batch_size : (place + 1) * batch_size]


@lru_cache(maxsize=1)
def _shuffle(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
