"""PixArt-alpha: a transformer (DiT) that reads T5. The variance it predicts besides is left out, as in its pipeline."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.assets.layouts import PIXART
from cfgbench.models.text_to_image import Encoding, Place, TextToImage, Wording, assemble

_MICRO_CONDITIONED = 128  # sample_size of the networks that are told the size of the image


@dataclass(frozen=True)
class PixArt(TextToImage):
    """A condition is {"text": (n, 120, d), "mask": (n, 120)}; prompts are lower-cased and not cleaned otherwise."""

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        text, mask, _, _ = pipeline.encode_prompt(wording.text, False, device=self.device)
        return {"text": text, "mask": mask}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        prediction: Tensor = network(
            x,
            condition["text"].to(x.dtype),
            timestep.expand(len(x)),
            self._size_of_image(network, x),
            encoder_attention_mask=condition["mask"],
            return_dict=False,
        )[0]
        return prediction[:, : x.shape[1]]

    def _size_of_image(self, network: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
        config: Any = network.config
        if config.sample_size != _MICRO_CONDITIONED:
            return {"resolution": None, "aspect_ratio": None}
        height, width = self.size
        return {
            "resolution": x.new_tensor([[height, width]]).expand(len(x), -1),
            "aspect_ratio": x.new_tensor([[height / width]]).expand(len(x), -1),
        }


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> PixArt:
    """The checkpoint's networks; ValueError where a file is missing or damaged."""
    model: PixArt = assemble(PixArt, PIXART, PIXART.open(path, revision, variant), Place(device, dtype))
    return model
