"""ADM: the diffusion models of guided-diffusion with their noise-aware classifiers (Dhariwal & Nichol 2021).

A condition is the labels (n,) int64; no class is one more than the last. Networks of one's own may have been trained
with that label. The published ones were not; there the unconditional network predicts it, where it is loaded. As in
the authors' sampler the predicted clean image of every pass is clipped to [-1, 1], before any guidance.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Self, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cfgbench.assets import adm_layout
from cfgbench.assets.adm_layout import Architecture, Networks
from cfgbench.generation.pixels import to_uint8
from cfgbench.models import Level, Schedule
from cfgbench.models.adm_networks import IMAGE_CHANNELS, Classifier, UNet


@dataclass(frozen=True)
class Adm:
    """Implements `cfgbench.models.Model` and `Configurable`."""

    networks: dict[str, nn.Module]  # "main" and, where loaded, "classifier" and "unconditional"
    described: Networks
    device: torch.device
    clip_denoised: bool = True
    timestep_spacing: str = "trailing"

    def configured(self, **settings: Any) -> Self:
        """The same networks with other settings."""
        return replace(self, **settings)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(3, side, side): latents are images in [-1, 1]."""
        return IMAGE_CHANNELS, *[self.described.diffusion.image_size] * 2

    @property
    def learned_variance(self) -> bool:
        """Whether predictions carry a variance."""
        return self.described.diffusion.learned_variance

    @property
    def schedule(self) -> Schedule:
        """The training schedule, and which of its timesteps samplers choose."""
        return Schedule(
            adm_layout.alphas_cumprod(self.described.noise_schedule),
            "epsilon",
            {"timestep_spacing": self.timestep_spacing},
        )

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        """The labels as "cond" and, where something predicts it, no label as "uncond", both (n,) int64."""
        cond, main = torch.as_tensor(labels, dtype=torch.int64, device=self.device), self.described.diffusion
        knows_none = main.classes is None or main.null_label or "unconditional" in self.networks
        return {"cond": cond} | ({"uncond": torch.full_like(cond, main.classes or 0)} if knows_none else {})

    def embed(self, condition: Tensor) -> Tensor:
        """The embedding (n, d) of labels (n,), which networks that know a null label take in their place."""
        embedding: Tensor = cast(UNet, self.networks["main"]).label_emb(condition)
        return embedding

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        """Noise and, where learned, variance (n, 3 or 6, side, side), in float32."""
        output = self._output(x, level.timestep.to(x.device), condition, network).float()
        if not self.clip_denoised:
            return output
        noise, variance = output[:, :IMAGE_CHANNELS], output[:, IMAGE_CHANNELS:]
        return torch.cat([clipped(noise, x.float(), level.sigma), variance], dim=1)

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """log p(c | x_t), (n, classes), differentiable in x."""
        logits: Tensor = self.networks["classifier"](x, level.timestep.to(x.device))
        return logits.float().log_softmax(dim=1)

    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 RGB images (n, 3, side, side)."""
        return to_uint8(latents.float().cpu().numpy())

    def _output(self, x: Tensor, timestep: Tensor, condition: Tensor, network: str) -> Tensor:
        """What the networks say; rows without a label are the unconditional network's where there is one."""
        main, unconditional = self.networks[network], self.networks.get("unconditional")
        if unconditional is None:
            label = None if self.described.diffusion.classes is None else condition
            return main(x, timestep, label)  # type: ignore[no-any-return]
        without = torch.eq(condition, self.described.diffusion.classes or 0)
        output = x.new_empty(len(x), (1 + self.learned_variance) * IMAGE_CHANNELS, *x.shape[2:])
        if without.any():
            output[without] = unconditional(x[without], timestep)
        if not without.all():
            output[~without] = main(x[~without], timestep, condition[~without])
        return output


def load(path: str, resolution: int | None = None, unconditional: bool = False, device: str = "cpu") -> Adm:
    """The networks of a folder; ValueError where a file is missing or does not fit."""
    described = adm_layout.networks(path, resolution)
    shapes = {
        "main": described.diffusion,
        "classifier": described.classifier or described.diffusion,
        "unconditional": described.diffusion.model_copy(update={"classes": None}),
    }
    networks: dict[str, nn.Module] = {}
    for place, file in adm_layout.files(path, resolution, unconditional).items():
        name = place.rpartition("/")[2]
        network = build(Classifier if name == "classifier" else UNet, shapes[name])
        load_weights(network, file)
        networks[name] = network.eval().requires_grad_(False).to(device)
    return Adm(networks, described, torch.device(device))


def build(kind: Callable[[Architecture], nn.Module], shape: Architecture) -> nn.Module:
    """A network without weights or memory, to be given some."""
    with torch.device("meta"):
        return kind(shape)


def load_weights(network: nn.Module, file: Path) -> None:
    """Give a network the state dict of a .pt or .safetensors file; nothing in it is executed."""
    try:
        state = _state(file)
        network.load_state_dict(state, assign=True)
    except UnpicklingError:
        reason = "is not a file of tensors alone, and what else a pickle holds could run code"
        raise ValueError(f"{file} {reason}; get it again from its publisher") from None
    except (RuntimeError, OSError, EOFError, AttributeError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
        raise ValueError(f"{file} does not hold the weights of this network: {reason}") from None


def clipped(noise: Tensor, x: Tensor, sigma: float) -> Tensor:
    """The predicted noise (n, ...) at x whose clean image is the predicted one within [-1, 1]."""
    signal = (1 + sigma**2) ** -0.5
    denoised = x / signal - sigma * noise
    excess: Tensor = denoised - denoised.clamp(-1, 1)
    return noise + excess / sigma


def _state(file: Path) -> dict[str, Tensor]:
    is_safe = file.suffix == ".safetensors"
    state: dict[str, Tensor] = load_file(file) if is_safe else torch.load(file, "cpu", weights_only=True)
    return state
