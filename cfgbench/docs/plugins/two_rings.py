"""A model of one's own, with its encoder and its reference set: two classes of points on rings of radius 1 and 2.

The denoiser is exact: a class is an even mixture of 60 points on its ring, so that the expected clean point is a mean
of these, weighted by how near the noisy point is to each.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfgbench.encoders import Encoded
from cfgbench.entries import Encoder, Model, ReferenceSet
from cfgbench.models import Level, Schedule

RADII = (1.0, 2.0)
POINTS = 60
ABAR = np.cos(np.linspace(0.01, 0.98, 1000) * np.pi / 2) ** 2  # decreasing

MODEL = Model(
    target="two_rings:load",
    parameters={},
    num_classes=2,
    files=None,
    noise_levels="two_rings:noise_levels",
    encoder="two_rings:ENCODER",
    reference="two_rings:REFERENCE",
    dtypes=("fp64",),
)
ENCODER = Encoder("two_rings:encode", ("features",), files=None)
REFERENCE = ReferenceSet("two_rings:reference")


class Denoiser(nn.Module):
    """The expected clean point; class 2 is both rings, for the unconditional prediction."""

    def forward(self, x: Tensor, level: Level, labels: Tensor) -> Tensor:
        """x_0 (n, 2) of x_t (n, 2)."""
        points = torch.from_numpy(np.concatenate([ring(radius) for radius in RADII]))
        own = torch.arange(len(points)) // POINTS
        near = -(x[:, None] * (1 + level.sigma**2) ** 0.5 - points).square().sum(2) / (2 * level.sigma**2)
        allowed = (labels[:, None] == len(RADII)) | (labels[:, None] == own)
        clean: Tensor = near.masked_fill(~allowed, -torch.inf).softmax(dim=1) @ points
        return clean


class TwoRings:
    """Implements `cfgbench.models.Model`; a condition is the labels (n,)."""

    latent_shape = (2,)
    learned_variance = False

    def __init__(self) -> None:
        self.schedule = Schedule(ABAR, "sample")
        self.networks: dict[str, nn.Module] = {"main": Denoiser()}

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        """The labels as "cond", and a class of both rings as "uncond"."""
        cond = torch.from_numpy(labels)
        return {"cond": cond, "uncond": torch.full_like(cond, len(RADII))}

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        """x_0 (n, 2)."""
        clean: Tensor = self.networks[network](x, level, condition)
        return clean

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """There is no classifier, which the entry says by naming no such network."""
        raise ValueError("two rings come without a classifier")

    def decode(self, latents: Tensor) -> np.ndarray:
        """The points (n, 2) themselves."""
        return latents.double().cpu().numpy()


def load(device: str = "cpu") -> TwoRings:
    """The model; it stays on the CPU."""
    return TwoRings()


def noise_levels() -> np.ndarray:
    """sigma per training timestep, increasing."""
    levels: np.ndarray = np.sqrt((1 - ABAR) / ABAR)
    return levels


def ring(radius: float) -> np.ndarray:
    """The points (60, 2) of a ring."""
    angles = np.arange(POINTS) * (2 * np.pi / POINTS)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def encode(samples: np.ndarray, labels: np.ndarray, parameters: Mapping[str, Any]) -> Encoded:
    """The points are their own features."""
    return Encoded(samples, None, None)


def reference(half: str, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Every second point, from the first (`train`) or the second (`heldout`) on, and its class."""
    points = np.concatenate([ring(radius) for radius in RADII])
    labels = np.arange(len(points)) // POINTS
    first = 0 if half == "train" else 1
    return points[first::2], labels[first::2]
