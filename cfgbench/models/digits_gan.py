"""The digits GAN: a class-conditional generator of 82k parameters that makes an image in one pass.

To the sampling loop it is a model with a single timestep, at which nothing of the image is left, and which predicts the
sample itself. Recipe: `cfgbench/training/digits.py`; results: `weights/digits/card.json`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cfgbench.generation.pixels import to_uint8
from cfgbench.models import Level, Schedule
from cfgbench.models.digits_gan_networks import Generator
from cfgbench.testbeds.digits_data import LATENT_SIZE, gan_files, require_weights


@dataclass(frozen=True)
class DigitsGan:
    """Implements `cfgbench.models.Model` without a classifier; a condition is the labels (n,) int64."""

    networks: dict[str, nn.Module]  # "main"
    device: torch.device
    schedule: Schedule
    latent_shape: tuple[int, ...] = (LATENT_SIZE,)
    learned_variance: bool = False

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        """The labels as "cond"; this generator knows no other condition."""
        return {"cond": torch.as_tensor(labels, dtype=torch.int64, device=self.device)}

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        """Images (n, 1, 8, 8) in [-1, 1] of latents x (n, 32)."""
        images: Tensor = self.networks[network](x, condition)
        return images

    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 images (n, 1, 8, 8) of what `predict` makes."""
        return to_uint8(latents.float().cpu().numpy())


def load(training_seed: int = 0, device: str = "cpu") -> DigitsGan:
    """The trained generator; FileNotFoundError where its weights are missing."""
    network = Generator()
    network.load_state_dict(load_file(require_weights(gan_files(training_seed)["main"])))
    networks: dict[str, nn.Module] = {"main": network.eval().requires_grad_(False).to(device)}
    return DigitsGan(networks, torch.device(device), Schedule(np.zeros(1), "sample"))
