"""Losses of the CIFAR-10 networks, and how right the classifier is. Pictures are uint8 (n, 3, 32, 32).

All draws come from torch's global generators, which the training seeds for every step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfgbench.assets import adm_layout

CLASSES = 10
P_UNCOND = 0.1  # probability of training a picture without its label
SHIFT = 4  # pixels by which the classifier's pictures move at most
BATCH = 250  # pictures of an evaluation at a time


def diffusion_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the noise at uniform timesteps, pictures flipped and labels dropped at random."""
    x, timestep, noise = _noised(_flipped(_scaled(images)))
    dropped = torch.rand(len(labels), device=labels.device) < P_UNCOND
    prediction = network(x, timestep, labels.masked_fill(dropped, CLASSES))
    return functional.mse_loss(prediction.float(), noise)


def classifier_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the class at uniform timesteps, pictures flipped and moved at random."""
    x, timestep, _ = _noised(_moved(_flipped(_scaled(images))))
    return functional.cross_entropy(network(x, timestep).float(), labels)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, timestep: int) -> float:
    """Share of pictures with noise of a timestep that the classifier gives their class."""
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        parts = [_noised(_scaled(part), timestep)[:2] for part in torch.split(images, BATCH)]
    found = torch.cat([network(x, timesteps).argmax(dim=1) for x, timesteps in parts])
    return float((found == labels).double().mean())


def _scaled(images: Tensor) -> Tensor:
    """uint8 pictures in [-1, 1]."""
    scaled = images.float() / 127.5 - 1
    return scaled.to(memory_format=torch.channels_last) if images.is_cuda else scaled


def _flipped(images: Tensor) -> Tensor:
    """Each mirrored with probability one half."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def _moved(images: Tensor) -> Tensor:
    """Each shifted by up to SHIFT pixels either way, its border mirrored."""
    n, size = len(images), images.shape[2]
    padded = functional.pad(images, [SHIFT] * 4, mode="reflect")
    places = torch.arange(size, device=images.device)
    rows, columns = torch.randint(2 * SHIFT + 1, (2, n, 1), device=images.device) + places
    each = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _noised(images: Tensor, at: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy pictures at uniform timesteps, or at one; the timesteps (n,); the noise."""
    levels = torch.from_numpy(adm_layout.alphas_cumprod("linear")).float().to(images.device)
    drawn = torch.randint(len(levels), (len(images),), device=images.device)
    timestep = drawn if at is None else torch.full_like(drawn, at)
    noise = torch.randn_like(images)
    signal = levels[timestep].view(-1, 1, 1, 1)
    return signal.sqrt() * images + (1 - signal).sqrt() * noise, timestep, noise
