"""Losses of the digits networks, and how right the classifying ones are. Images are (n, 1, 8, 8) in [-1, 1]."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfgbench.testbeds.digits_captions import all_captions, tokenize
from cfgbench.testbeds.digits_data import CLASSES, NULL_LABEL, TRAINING_TIMESTEPS, cosine_alphas_cumprod
from cfgbench.testbeds.digits_encoders import class_vectors, encode_images

LABEL_SMOOTHING = 0.05
MAX_SHIFT, MAX_TURN, MAX_ZOOM = 0.12, math.radians(12), 0.1  # shift in half image widths

_ALPHAS_CUMPROD = torch.from_numpy(cosine_alphas_cumprod(TRAINING_TIMESTEPS)).float()
_CAPTIONS = torch.from_numpy(tokenize([caption for digit in range(CLASSES) for caption in all_captions(digit)]))
_CAPTIONS_PER_DIGIT = len(_CAPTIONS) // CLASSES


def conditional_loss(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of v at uniform timesteps: the training of a model that is not to be guided."""
    x, timesteps, v = _noised(images, generator)
    return functional.mse_loss(network(x, timesteps, labels), v)


def diffusion_loss(
    network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator, p_uncond: float
) -> Tensor:
    """The same, each label left out with probability p_uncond: all that classifier-free guidance asks of training."""
    x, timesteps, v = _noised(images, generator)
    dropped = torch.rand(len(labels), generator=generator) < p_uncond
    return functional.mse_loss(network(x, timesteps, labels.masked_fill(dropped, NULL_LABEL)), v)


def classifier_loss(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Cross entropy of the class at uniform timesteps."""
    timesteps = _uniform_timesteps(len(images), generator)
    return functional.cross_entropy(network(_noisy(images, timesteps, generator), timesteps), labels)


def feature_loss(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Label-smoothed cross entropy of the class of slightly moved images."""
    logits = network(move(images, generator))[1]
    return functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)


def clip_loss(network: Any, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Symmetric contrastive loss of moved images and random captions of their digits.

    Every caption of an image's digit is right for it, so the targets spread evenly over all pairs of equal digit.
    """
    choice = torch.randint(_CAPTIONS_PER_DIGIT, labels.shape, generator=generator)
    image_vectors = encode_images(network, move(images, generator))
    text_vectors = network.encode_text(_CAPTIONS[labels * _CAPTIONS_PER_DIGIT + choice], normalize=True)
    logits = network.logit_scale.exp() * image_vectors @ text_vectors.T
    same = (labels[:, None] == labels).float()
    targets = same / same.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


def move(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted, turned and zoomed a little at random; what enters from outside is background."""
    shift_x, shift_y, turn, zoom = 2 * torch.rand(4, len(images), generator=generator) - 1
    cos, sin = (MAX_TURN * turn).cos() / (1 + MAX_ZOOM * zoom), (MAX_TURN * turn).sin() / (1 + MAX_ZOOM * zoom)
    rows = [torch.stack([cos, -sin, MAX_SHIFT * shift_x], dim=1), torch.stack([sin, cos, MAX_SHIFT * shift_y], dim=1)]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images + 1, grid, align_corners=False) - 1


@torch.inference_mode()
def classifier_accuracy(network: nn.Module, images: Tensor, labels: Tensor, timestep: int) -> float:
    """Fraction of noisy images at one timestep whose digit is found; the noise is always the same."""
    timesteps = torch.full((len(images),), timestep)
    noisy = _noisy(images, timesteps, torch.Generator().manual_seed(timestep))
    return _agreement(network.eval()(noisy, timesteps), labels)


@torch.inference_mode()
def feature_accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Fraction of images whose digit the feature network finds."""
    return _agreement(network.eval()(images)[1], labels)


@torch.inference_mode()
def clip_accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Zero-shot accuracy: fraction of images closest to the scored caption of their own digit."""
    return _agreement(encode_images(network.eval(), images) @ class_vectors(network).T, labels)


def _uniform_timesteps(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(TRAINING_TIMESTEPS, (count,), generator=generator)


def _noised(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy images at uniform timesteps, those timesteps (n,), and v."""
    timesteps = _uniform_timesteps(len(images), generator)
    noise = torch.randn(images.shape, generator=generator)
    signal, spread = _signal_and_spread(timesteps)
    return signal * images + spread * noise, timesteps, signal * noise - spread * images


def _signal_and_spread(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar) and sqrt(1 - abar), each (n, 1, 1, 1)."""
    alpha_bar = _ALPHAS_CUMPROD[timesteps].view(-1, 1, 1, 1)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def _noisy(images: Tensor, timesteps: Tensor, generator: torch.Generator) -> Tensor:
    signal, spread = _signal_and_spread(timesteps)
    return signal * images + spread * torch.randn(images.shape, generator=generator)


def _agreement(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()
