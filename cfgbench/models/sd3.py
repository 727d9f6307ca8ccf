"""Stable Diffusion 3 and 3.5: a transformer (MMDiT) that predicts a flow and reads two CLIP encoders and T5."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.assets.layouts import SD3
from cfgbench.models.text_to_image import Encoding, Place, TextToImage, Wording, assemble


@dataclass(frozen=True)
class StableDiffusion3(TextToImage):
    """A condition is {"text": (n, 77 + 256, d), "pooled": (n, p)}; without T5 its part of the text is zeros."""

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        pipeline.transformer = self.networks["main"]  # is asked for its width where the checkpoint has no T5
        text, device = wording.text, self.device
        hidden, _, pooled, _ = pipeline.encode_prompt(
            text, None, None, device=device, do_classifier_free_guidance=False
        )
        return {"text": hidden, "pooled": pooled}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        text, pooled = (condition[name].to(x.dtype) for name in ("text", "pooled"))
        prediction: Tensor = network(x, text, pooled, timestep.expand(len(x)), return_dict=False)[0]
        return prediction


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> StableDiffusion3:
    """The checkpoint's networks; ValueError where a file is missing or damaged."""
    model: StableDiffusion3 = assemble(StableDiffusion3, SD3, SD3.open(path, revision, variant), Place(device, dtype))
    return model
