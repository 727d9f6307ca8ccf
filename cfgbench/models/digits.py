"""The digits model: a 76k-parameter class-conditional diffusion model of 8x8 digits and its noise-aware classifier.

v-prediction on the cosine schedule of 1000 steps, sampled from t < 980 only: beyond, sigma leaves 32 behind and the
gradients of the classifier explode. Recipe: `cfgbench/training/digits.py`; results: `weights/digits/card.json`.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cfgbench.generation.pixels import to_uint8
from cfgbench.models import Level, Schedule
from cfgbench.models.digits_networks import DiffusionNet, NoisyClassifier
from cfgbench.testbeds.digits_data import IMAGE_SHAPE, NULL_LABEL, alphas_cumprod, network_files, require_weights


@dataclass(frozen=True)
class DigitsModel:
    """Implements `cfgbench.models.Model`; a condition is the labels (n,) int64, 10 for none, or embeddings (n, 64)."""

    networks: dict[str, nn.Module]  # "main", "classifier" and, where asked for, "weak"
    schedule: Schedule
    device: torch.device
    latent_shape: tuple[int, ...] = IMAGE_SHAPE
    learned_variance: bool = False

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        """The labels as "cond" and the null label as "uncond", both (n,) int64."""
        cond = torch.as_tensor(labels, dtype=torch.int64, device=self.device)
        return {"cond": cond, "uncond": torch.full_like(cond, NULL_LABEL)}

    def embed(self, condition: Tensor) -> Tensor:
        """The embedding (n, 64) of labels (n,)."""
        embedding: Tensor = cast(DiffusionNet, self.networks["main"]).label(condition)
        return embedding

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        """v (n, 1, 8, 8) at x (n, 1, 8, 8)."""
        prediction: Tensor = self.networks[network](x, level.timestep.to(x.device), condition)
        return prediction

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """log p(c | x_t), (n, 10), differentiable in x."""
        logits: Tensor = self.networks["classifier"](x, level.timestep.to(x.device))
        return logits.log_softmax(dim=1)

    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 images (n, 1, 8, 8); latents are images in [-1, 1] already."""
        return to_uint8(latents.float().cpu().numpy())


def load(
    p_uncond: float = 0.1,
    training_steps: int = 800,
    training_seed: int = 0,
    attention: bool = False,
    weak_steps: int | None = None,
    device: str = "cpu",
) -> DigitsModel:
    """The trained model; ValueError for a configuration nobody trained, FileNotFoundError where weights are missing."""
    files = network_files(p_uncond, training_steps, training_seed, attention, weak_steps)
    networks: dict[str, nn.Module] = {
        "main": DiffusionNet(attention=attention),
        "classifier": NoisyClassifier(),
        "weak": DiffusionNet(),
    }
    for name, path in files.items():
        networks[name].load_state_dict(load_file(require_weights(path)))
    loaded = {name: networks[name].eval().requires_grad_(False).to(device) for name in files}
    return DigitsModel(loaded, Schedule(alphas_cumprod(), "v_prediction"), torch.device(device))
