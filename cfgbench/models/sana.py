"""Sana: a linear-attention transformer that predicts a flow and reads Gemma, over an autoencoder of factor 32."""

import inspect
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from cfgbench.assets.layouts import SANA
from cfgbench.models.text_to_image import Encoding, Place, TextToImage, Wording, assemble


@dataclass(frozen=True)
class Sana(TextToImage):
    """A condition is {"text": (n, 300, d), "mask": (n, 300)}; only prompts follow the pipeline's instruction."""

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        instruction = None if wording.instead else _instruction()
        text, mask, _, _ = pipeline.encode_prompt(
            wording.text, False, device=self.device, complex_human_instruction=instruction
        )
        return {"text": text, "mask": mask}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        config: Any = network.config
        prediction: Tensor = network(
            x,
            condition["text"].to(x.dtype),
            timestep.expand(len(x)) * config.timestep_scale,
            encoder_attention_mask=condition["mask"],
            return_dict=False,
        )[0]
        return prediction[:, : x.shape[1]]


def _instruction() -> list[str]:
    """What the pipeline puts before every prompt, to have it written out."""
    given = inspect.signature(diffusers.SanaPipeline.__call__).parameters["complex_human_instruction"]
    return list(given.default)


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Sana:
    """The checkpoint's networks; ValueError where a file is missing or damaged."""
    model: Sana = assemble(Sana, SANA, SANA.open(path, revision, variant), Place(device, dtype))
    return model
