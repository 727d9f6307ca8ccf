"""Class-conditional checkpoints in diffusers' layout: DiT, and U-Nets with class embeddings in pixel space.

A condition is the network's labels (n,) int64. A learned variance is split off and used by `ddpm_learned` alone, as in
diffusers, where every sampler drops it.
"""

from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from cfgbench.assets import class_layouts, layouts
from cfgbench.assets.class_layouts import DIT, UNET2D, ClassLayout
from cfgbench.generation.pixels import to_uint8
from cfgbench.models import Level, Schedule
from cfgbench.models.text_to_image import Place, load_network


@dataclass(frozen=True)
class ClassConditional:
    """Implements `cfgbench.models.Model` and `Configurable`."""

    networks: dict[str, nn.Module]  # "main" and, of latents, "decoder"
    trained: Schedule
    device: torch.device
    labels: tuple[int, ...]  # the network's label of each class
    null_label: int | None
    learned_variance: bool
    timestep_spacing: str | None = None  # None is the checkpoint's own

    def configured(self, **settings: Any) -> Self:
        """The same networks with other settings."""
        return replace(self, **settings)

    @property
    def schedule(self) -> Schedule:
        """The training schedule, and which of its timesteps samplers choose."""
        if self.timestep_spacing is None:
            return self.trained
        return replace(self.trained, config={**self.trained.config, "timestep_spacing": self.timestep_spacing})

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        config = cast(Any, self.networks["main"]).config
        sides = [config.sample_size] * 2 if isinstance(config.sample_size, int) else list(config.sample_size)
        return config.in_channels, *sides

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        """The classes as "cond" and, where there is a label for it, no class as "uncond", both (n,) int64."""
        cond = torch.tensor(self.labels, device=self.device)[torch.as_tensor(labels, device=self.device)]
        return {"cond": cond} | ({} if self.null_label is None else {"uncond": torch.full_like(cond, self.null_label)})

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        """The prediction at x, with the learned variance behind it where there is one."""
        timestep = level.timestep.to(x.device).expand(len(x))
        called = cast(Any, self.networks[network])(x, timestep=timestep, class_labels=condition, return_dict=False)
        prediction: Tensor = called[0]
        return prediction

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """Raises TypeError: there is no classifier."""
        raise TypeError("this model has no classifier; `adm` and `cifar10` have one")

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """uint8 images (n, channels, height, width); latents are decoded one at a time to bound memory."""
        if "decoder" not in self.networks:
            return to_uint8(latents.float().cpu().numpy())
        vae: Any = self.networks["decoder"]
        scaled = (latents / float(vae.config.scaling_factor)).to(next(vae.parameters()).dtype)
        images = [vae.decode(part, return_dict=False)[0] for part in scaled[:, None]]
        return to_uint8(torch.cat(images).float().cpu().numpy())


def load_dit(
    path: str, revision: str | None = None, variant: str | None = None, device: str = "cpu"
) -> ClassConditional:
    """A DiT pipeline's networks; ValueError where a file is missing or damaged."""
    return _assemble(DIT, {"path": path, "revision": revision, "variant": variant}, device)


def load_unet2d(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    null_class: int | None = None,
    device: str = "cpu",
) -> ClassConditional:
    """The network of a U-Net pipeline; ValueError where a file is missing or damaged, or it knows no classes."""
    arguments = {"path": path, "revision": revision, "variant": variant, "null_class": null_class}
    return _assemble(UNET2D, arguments, device)


def _assemble(layout: ClassLayout, arguments: dict[str, Any], device: str) -> ClassConditional:
    checkpoint, place = layout.open(**arguments), Place(device, torch.float32)
    config = layouts.scheduler_config(checkpoint)
    settings = class_layouts.schedule_settings(config) if not layout.has_vae else layouts.schedule_settings(config)
    trained = Schedule(layouts.alphas_cumprod(config), config.get("prediction_type", "epsilon"), settings)
    parts = {"main": layout.denoiser, **({"decoder": "vae"} if layout.has_vae else {})}
    return ClassConditional(
        {name: load_network(checkpoint, part, place) for name, part in parts.items()},
        trained,
        torch.device(device),
        tuple(layout.labels(**arguments)),
        layout.null_label(**arguments),
        layout.learned_variance(checkpoint),
    )
