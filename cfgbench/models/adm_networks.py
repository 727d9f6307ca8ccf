"""The networks of guided-diffusion: a U-Net with a learned variance, and its encoder half as a noise-aware classifier.

Written after Dhariwal & Nichol 2021, section 3 and appendix; modules are named so that the published state dicts load
as they are. Images are (n, 3, side, side) in [-1, 1]; timesteps are in units of the 1000-step training schedule and may
be fractional.
"""

import math
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfgbench.assets.adm_layout import Architecture

GROUPS = 32
IMAGE_CHANNELS = 3
Layer = TypeVar("Layer", bound=nn.Module)


class ResidualBlock(nn.Module):
    """Two convolutions; the embedding scales and shifts between them; with a factor, the side changes by it."""

    def __init__(self, shape: Architecture, inputs: int, outputs: int, factor: float = 1) -> None:
        super().__init__()
        self.factor = factor
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, inputs), nn.SiLU(), _convolution(inputs, outputs))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * shape.channels, 2 * outputs))
        last = _zeroed(_convolution(outputs, outputs))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, outputs), nn.SiLU(), nn.Dropout(shape.dropout), last)
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(n, outputs, side, side) at x (n, inputs, ...) and the embedding (n, d) of timestep and label."""
        h = self.in_layers[2](_resized(self.in_layers[:2](x), self.factor))
        scale, shift = self.emb_layers(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        result: Tensor = self.skip_connection(_resized(x, self.factor)) + h
        return result


class AttentionBlock(nn.Module):
    """Residual self-attention between the pixels of a feature map (n, channels, side, side)."""

    def __init__(self, channels: int, heads: int, split_first: bool) -> None:
        super().__init__()
        self.heads, self.split_first = heads, split_first
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self.qkv(self.norm(x).flatten(2)), self.heads, self.split_first)
        mixed: Tensor = self.proj_out(self.attend(q, k, v).transpose(2, 3).flatten(1, 2))
        return x + mixed.view_as(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d)) v; all (n, heads, pixels, d)."""
        return functional.scaled_dot_product_attention(q, k, v)


class AttentionPool(nn.Module):
    """A feature map as one vector: what its mean, as one more pixel, attends to."""

    def __init__(self, side: int, channels: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, outputs) of x (n, channels, side, side)."""
        pixels = x.flatten(2)
        pixels = torch.cat([pixels.mean(dim=2, keepdim=True), pixels], dim=2) + self.positional_embedding
        q, k, v = _heads(self.qkv_proj(pixels), self.heads, split_first=True)
        mixed = functional.scaled_dot_product_attention(q[:, :, :1], k, v)  # the mean's query alone is used
        pooled: Tensor = self.c_proj(mixed.transpose(2, 3).flatten(1, 2))
        return pooled[:, :, 0]


class Stack(nn.Sequential):
    """Layers in a row, of which residual blocks see the embedding too."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class _Encoder(nn.Module):
    """What U-Net and classifier share: the embedding of the timestep, the way down and the middle."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape, width = shape, 4 * shape.channels
        self.time_embed = nn.Sequential(nn.Linear(shape.channels, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks = nn.ModuleList(_way_down(shape))
        last = shape.widths[-1]
        first, second = (ResidualBlock(shape, last, last) for _ in range(2))
        self.middle_block = Stack(first, _attention(shape, last), second)

    def embedding(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """(1 or n, 4 channels) of timesteps (), (1,) or (n,)."""
        embedded: Tensor = self.time_embed(sinusoids(timestep, self.shape.channels).to(dtype))
        return embedded

    def encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The middle's feature map, and those on the way there."""
        maps = []
        for block in self.input_blocks:
            x = block(x, embedding)
            maps.append(x)
        return self.middle_block(x, embedding), maps


class UNet(_Encoder):
    """Noise and, where learned, variance, (n, 3 or 6, side, side), at a noisy image, a timestep and maybe a label."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__(shape)
        if shape.classes is not None:
            self.label_emb = nn.Embedding(shape.classes + shape.null_label, 4 * shape.channels)
        self.output_blocks = nn.ModuleList(_way_up(shape))
        first, outputs = shape.widths[0], (1 + shape.learned_variance) * IMAGE_CHANNELS
        last = _zeroed(_convolution(first, outputs))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, first), nn.SiLU(), last)

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Labels are (n,) int64, or embedded (n, 4 channels), and None of a network without classes."""
        embedding = self.embedding(timestep, x.dtype)
        if label is not None:
            embedding = embedding + (label if label.is_floating_point() else self.label_emb(label))
        h, maps = self.encode(x, embedding)
        for block, kept in zip(self.output_blocks, reversed(maps), strict=True):
            h = block(torch.cat([h, kept], dim=1), embedding)
        output: Tensor = self.out(h)
        return output


class Classifier(_Encoder):
    """Logits (n, classes) of a noisy image at a timestep."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__(shape)
        last, side = shape.widths[-1], shape.image_size >> (len(shape.multipliers) - 1)
        pool = AttentionPool(side, last, shape.classes or 1, shape.num_heads(last))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, last), nn.SiLU(), pool)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        logits: Tensor = self.out(self.encode(x, self.embedding(timestep, x.dtype))[0])
        return logits


def sinusoids(timestep: Tensor, size: int) -> Tensor:
    """Embedding (1 or n, size) of timesteps (), (1,) or (n,), cosines first, computed in float32."""
    frequencies = torch.exp(torch.arange(size // 2, device=timestep.device) * (-math.log(1e4) / (size // 2)))
    angles = timestep.float().reshape(-1, 1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _way_down(shape: Architecture) -> Iterator[Stack]:
    """The first convolution, then each level's blocks, and between levels one that halves the side."""
    widths, inputs = shape.widths, shape.widths[0]
    yield Stack(_convolution(IMAGE_CHANNELS, inputs))
    for level, width in enumerate(widths):
        for _ in range(shape.blocks):
            yield Stack(ResidualBlock(shape, inputs, width), *_attention_at(shape, level))
            inputs = width
        if level < len(widths) - 1:
            yield Stack(ResidualBlock(shape, width, width, 0.5))


def _way_up(shape: Architecture) -> Iterator[Stack]:
    """One block for every feature map of the way down, in reverse; the last of a level doubles the side."""
    widths, kept = shape.widths, _kept_widths(shape)
    inputs = widths[-1]
    for level in reversed(range(len(widths))):
        for block in range(shape.blocks + 1):
            layers = [ResidualBlock(shape, inputs + kept.pop(), widths[level]), *_attention_at(shape, level)]
            inputs = widths[level]
            doubles = level > 0 and block == shape.blocks
            yield Stack(*layers, *([ResidualBlock(shape, inputs, inputs, 2)] if doubles else []))


def _kept_widths(shape: Architecture) -> list[int]:
    """Channels of the feature maps of the way down."""
    widths = shape.widths
    levels = [[width] * (shape.blocks + (level < len(widths) - 1)) for level, width in enumerate(widths)]
    return [widths[0], *(width for level in levels for width in level)]


def _attention_at(shape: Architecture, level: int) -> list[AttentionBlock]:
    has_some = shape.image_size >> level in shape.attention
    return [_attention(shape, shape.widths[level])] if has_some else []


def _attention(shape: Architecture, channels: int) -> AttentionBlock:
    return AttentionBlock(channels, shape.num_heads(channels), shape.split_first)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _zeroed(layer: Layer) -> Layer:
    """The layer with zero weights, so that a fresh residual branch adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _resized(x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    return functional.avg_pool2d(x, 2) if factor < 1 else functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _heads(qkv: Tensor, heads: int, split_first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v, each (n, heads, pixels, d), of (n, 3 heads d, pixels)."""
    n, channels, pixels = qkv.shape
    parts = (3, heads) if split_first else (heads, 3)
    split = qkv.view(n, *parts, channels // (3 * heads), pixels).transpose(3, 4)
    q, k, v = split.unbind(dim=1 if split_first else 2)
    return q, k, v
