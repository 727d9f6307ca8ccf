"""Stable Diffusion 1.x and 2.x: a U-Net that attends to one CLIP text encoder."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.assets.layouts import STABLE_DIFFUSION
from cfgbench.models.text_to_image import Encoding, Place, TextToImage, Wording, assemble


@dataclass(frozen=True)
class StableDiffusion(TextToImage):
    """A condition is {"text": (n, 77, d)}."""

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        return {"text": pipeline.encode_prompt(wording.text, self.device, 1, False)[0]}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        prediction: Tensor = network(x, timestep, condition["text"].to(x.dtype), return_dict=False)[0]
        return prediction


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> StableDiffusion:
    """The checkpoint's networks; ValueError where a file is missing or damaged."""
    checkpoint = STABLE_DIFFUSION.open(path, revision, variant)
    model: StableDiffusion = assemble(StableDiffusion, STABLE_DIFFUSION, checkpoint, Place(device, dtype))
    settings = {**model.schedule.config, "steps_offset": 1}  # as the pipeline insists
    return replace(model, schedule=replace(model.schedule, config=settings))
