"""Training of a generator against a discriminator: hinge losses, one step of each in turn, two Adams.

As in `loop.py`, the budget is in steps and nothing depends on the clock: the same recipe gives the same weights.
"""

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cfgbench.training.loop import Progress, batches


@dataclass(frozen=True)
class Adversarial:
    """How a generator is trained: all that, with its networks and its data, decides its weights."""

    steps: int
    batch_size: int
    learning_rates: dict[str, float]  # of "generator" and "discriminator"
    latent_size: int
    betas: tuple[float, float] = (0.0, 0.99)
    averaging: float = 0.995  # decay of the moving average of the generator's weights, which is what is kept
    seed: int = 0


class Pair(nn.Module):
    """A generator and the discriminator that it is trained against."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator


class Opponents:
    """A pair with its optimisers: what takes one step."""

    def __init__(self, pair: Pair, how: Adversarial) -> None:
        self.pair, self.how = pair, how
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), how.learning_rates[name], how.betas)
            for name, network in pair.named_children()
        }

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> float:
        """One step of the discriminator, then one of the generator; returns the discriminator's loss."""
        latents = (torch.randn(len(images), self.how.latent_size, generator=generator) for _ in range(2))
        loss = discriminator_loss(self.pair, images, labels, next(latents))
        _descend(self.optimisers["discriminator"], loss)
        self.pair.discriminator.requires_grad_(False)  # the generator's loss needs no gradient of its weights
        _descend(self.optimisers["generator"], generator_loss(self.pair, labels, next(latents)))
        self.pair.discriminator.requires_grad_(True)
        return loss.item()


def discriminator_loss(pair: Pair, images: Tensor, labels: Tensor, z: Tensor) -> Tensor:
    """Hinge loss: real images shall score above 1, made ones below -1."""
    with torch.no_grad():
        made = pair.generator(z, labels)
    real, fake = pair.discriminator(images, labels), pair.discriminator(made, labels)
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def generator_loss(pair: Pair, labels: Tensor, z: Tensor) -> Tensor:
    """Made images shall score high."""
    scores: Tensor = pair.discriminator(pair.generator(z, labels), labels)
    return -scores.mean()


def fit(pair: Pair, data: tuple[Tensor, Tensor], how: Adversarial) -> Iterator[Progress]:
    """Trains the pair in place on (images, labels); yields the averaged generator after every step."""
    generator = torch.Generator().manual_seed(how.seed)
    opponents, average = Opponents(pair.train(), how), deepcopy(pair.generator)
    order = batches(len(data[0]), how.batch_size, generator)
    start = time.process_time()
    for step in range(1, how.steps + 1):
        batch = next(order)
        loss = opponents.step(data[0][batch], data[1][batch], generator)
        _update_average(average, pair.generator, min(how.averaging, step / (step + 9)))
        yield Progress(step, loss, average, time.process_time() - start)


def flops_per_step(pair: Pair, data: tuple[Tensor, Tensor], how: Adversarial) -> int:
    """Floating-point operations of the forward and backward passes of one step of both networks."""
    images, labels = (tensor[: how.batch_size] for tensor in data)
    with FlopCounterMode(display=False) as counter:
        Opponents(deepcopy(pair).train(), how).step(images, labels, torch.Generator().manual_seed(0))
    return int(counter.get_total_flops())


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Of the weights and of what batch normalisation has seen."""
    kept, new = average.state_dict(), network.state_dict()
    for name, value in kept.items():
        value.lerp_(new[name], 1 - decay) if value.is_floating_point() else value.copy_(new[name])
