"""The networks of the digits testbed. All read images in [-1, 1] or their noisy versions, shape (n, 1, 8, 8).

Timesteps are floats in units of the 1000-step training schedule, one per sample or one for the whole batch; the
sinusoidal embedding is continuous, so fractional ones (Heun, Karras spacings) mean what they say.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfgbench.testbeds.digits_data import CLASSES

EMBEDDING = 64
GROUPS = 8
Layer = TypeVar("Layer", bound=nn.Module)


class DiffusionNet(nn.Module):
    """A U-Net 8 -> 4 -> 8 that predicts v from (x_t, t, label); label 10 is the null class. 76,465 parameters."""

    def __init__(self, channels: int = 16, attention: bool = False) -> None:
        super().__init__()
        wide = 2 * channels
        self.time = nn.Linear(EMBEDDING, EMBEDDING)
        self.label = nn.Embedding(CLASSES + 1, EMBEDDING)
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.down = ResidualBlock(channels, channels)
        self.shrink = nn.Conv2d(channels, wide, 3, stride=2, padding=1)
        self.middle1 = ResidualBlock(wide, wide)
        self.attention: nn.Module = SelfAttention(wide) if attention else nn.Identity()
        self.middle2 = ResidualBlock(wide, wide)
        self.grow = nn.Conv2d(wide, channels, 3, padding=1)
        self.up = ResidualBlock(wide, channels)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.last = _zeroed(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        """v (n, 1, 8, 8) at x (n, 1, 8, 8), timestep (), (1,) or (n,), label (n,) int64 or embedded (n, 64)."""
        condition = label if label.is_floating_point() else self.label(label)
        embedding = functional.silu(self.time(_sinusoids(timestep).to(x.dtype)) + condition)
        skip = self.down(self.first(x), embedding)
        h = self.middle1(self.shrink(skip), embedding)
        h = self.middle2(self.attention(h), embedding)
        h = self.grow(functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        h = self.up(torch.cat([h, skip], dim=1), embedding)
        v: Tensor = self.last(functional.silu(self.norm(h)))
        return v


class ResidualBlock(nn.Module):
    """Two convolutions; the embedding scales and shifts what lies between them (FiLM)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(EMBEDDING, 2 * outputs)
        self.norm2 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = _zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(functional.silu(self.norm1(x)))
        h = functional.silu(self.norm2(h) * (1 + scale) + shift)
        result: Tensor = self.skip(x) + self.conv2(h)
        return result


class SelfAttention(nn.Module):
    """Residual self-attention between the pixels of a feature map (n, channels, height, width).

    Perturbed-attention guidance replaces `attend` by one that returns v; skip-layer guidance replaces the module's
    output by its input.
    """

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.q = nn.Linear(channels, channels)
        self.k = nn.Linear(channels, channels)
        self.v = nn.Linear(channels, channels)
        self.out = _zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (n, pixels, channels)
        q, k, v = (layer(pixels).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed: Tensor = self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return x + mixed.transpose(1, 2).view_as(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d)) v; all (n, heads, pixels, d)."""
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(dim=3)
        return weights @ v


class NoisyClassifier(nn.Module):
    """A residual FiLM-MLP: logits of the class given a noisy image and its timestep. 80,074 parameters."""

    def __init__(self, width: int = 128, blocks: int = 2) -> None:
        super().__init__()
        self.time = nn.Linear(EMBEDDING, EMBEDDING)
        self.first = nn.Linear(64, width)
        self.films = nn.ModuleList(nn.Linear(EMBEDDING, 2 * width) for _ in range(blocks))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Logits (n, 10) at x (n, 1, 8, 8), timestep (), (1,) or (n,)."""
        embedding = functional.silu(self.time(_sinusoids(timestep).to(x.dtype)))
        h = self.first(x.flatten(1))
        for film, layer in zip(self.films, self.layers, strict=True):
            scale, shift = film(embedding).chunk(2, dim=1)
            h = h + layer(functional.silu(functional.layer_norm(h, h.shape[1:]) * (1 + scale) + shift))
        logits: Tensor = self.last(functional.silu(h))
        return logits


class FeatureNet(nn.Module):
    """A clean-image classifier whose 64 pre-activations before the head are the features of FID. 49,946 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *_convolution(1, 16), *_convolution(16, 16), *_convolution(16, 32, stride=2), *_convolution(32, 32)
        )
        self.features = nn.Linear(32 * 4 * 4, 64)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 64) and logits (n, 10) of images (n, 1, 8, 8) in [-1, 1]."""
        features = self.features(self.convolutions(images).flatten(1))
        return features, self.head(self.dropout(functional.silu(features)))


def _sinusoids(timestep: Tensor) -> Tensor:
    """Embedding (n, 64) of timesteps () or (n,), computed in float32."""
    frequencies = torch.exp(torch.arange(EMBEDDING // 2, device=timestep.device) * (-math.log(1e4) / (EMBEDDING // 2)))
    angles = timestep.float().reshape(-1, 1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.SiLU()]


def _zeroed(layer: Layer) -> Layer:
    """The layer with zero weights, so that a fresh residual branch adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
