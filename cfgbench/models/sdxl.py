"""Stable Diffusion XL: a U-Net that attends to two CLIP text encoders and is told the size of the image."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.assets.layouts import SDXL
from cfgbench.models.text_to_image import Encoding, Place, TextToImage, Wording, assemble


@dataclass(frozen=True)
class StableDiffusionXL(TextToImage):
    """A condition is {"text": (n, 77, d), "pooled": (n, p)}."""

    @property
    def full_precision(self) -> tuple[str, ...]:
        """The autoencoder, where it overflows in fp16: the pipeline upcasts it too."""
        config: Any = self.networks["decoder"].config
        return ("decoder",) if config.force_upcast else ()

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        hidden, _, pooled, _ = pipeline.encode_prompt(
            wording.text, device=self.device, do_classifier_free_guidance=False
        )
        return {"text": hidden, "pooled": pooled}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        given = {name: part.to(x.dtype) for name, part in condition.items()}
        size = torch.tensor([*self.size, 0, 0, *self.size], dtype=x.dtype, device=x.device)  # no crop, no resizing
        added = {"text_embeds": given["pooled"], "time_ids": size.expand(len(x), -1)}
        prediction: Tensor = network(x, timestep, given["text"], added_cond_kwargs=added, return_dict=False)[0]
        return prediction

    def _to_vae(self, latents: Tensor) -> Tensor:
        config: Any = self.networks["decoder"].config
        if config.latents_mean is None or config.latents_std is None:
            return super()._to_vae(latents)
        mean, deviation = (latents.new_tensor(v).view(1, -1, 1, 1) for v in (config.latents_mean, config.latents_std))
        return latents * deviation / float(config.scaling_factor) + mean


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> StableDiffusionXL:
    """The checkpoint's networks; ValueError where a file is missing or damaged."""
    model: StableDiffusionXL = assemble(
        StableDiffusionXL, SDXL, SDXL.open(path, revision, variant), Place(device, dtype)
    )
    return model
