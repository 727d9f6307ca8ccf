"""FLUX: a transformer that predicts a flow, reads CLIP and T5 and is told how strong guidance should be.

Two knobs that both go by `guidance_scale` elsewhere: `embedded_guidance` is that input, which distillation taught and
which costs nothing; cfgbench's `guidance_scale` is CFG, `true_cfg_scale` in the pipeline, with two passes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.assets.layouts import FLUX
from cfgbench.models.text_to_image import Encoding, Place, TextToImage, Wording, assemble


@dataclass(frozen=True)
class Flux(TextToImage):
    """A condition is {"text": (n, 512, d), "pooled": (n, p)}. Latents have height and width; the network packs them."""

    embedded_guidance: float = 3.5

    def encode(self, pipeline: Any, wording: Wording) -> Encoding:
        hidden, pooled, _ = pipeline.encode_prompt(wording.text, device=self.device)
        return {"text": hidden, "pooled": pooled}

    def call(self, network: nn.Module, x: Tensor, timestep: Tensor, condition: Encoding) -> Tensor:
        config: Any = network.config
        strength = torch.full((len(x),), self.embedded_guidance, device=x.device)
        text, pooled = (condition[name].to(x.dtype) for name in ("text", "pooled"))
        packed: Tensor = network(
            _pack(x),
            text,
            pooled,
            timestep.expand(len(x)).to(x.dtype) / 1000,
            _positions(x),
            torch.zeros(text.shape[1], 3, dtype=x.dtype, device=x.device),
            strength if config.guidance_embeds else None,
            return_dict=False,
        )[0]
        return _unpack(packed, x.shape)


def _pack(x: Tensor) -> Tensor:
    """Latents (n, c, h, w) as tokens of 2 x 2 pixels (n, h/2 w/2, 4c)."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _unpack(tokens: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_pack`."""
    n, channels, height, width = shape
    return tokens.view(n, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(shape)


def _positions(x: Tensor) -> Tensor:
    """(0, row, column) of each token."""
    rows, columns = (torch.arange(side // 2, dtype=x.dtype, device=x.device) for side in x.shape[2:])
    return torch.cartesian_prod(x.new_zeros(1), rows, columns)


def load(
    path: str,
    revision: str | None = None,
    variant: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Flux:
    """The checkpoint's networks; ValueError where a file is missing or damaged."""
    model: Flux = assemble(Flux, FLUX, FLUX.open(path, revision, variant), Place(device, dtype))
    return model
