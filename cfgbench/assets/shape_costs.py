"""What an architecture costs by its shape alone: counted on PyTorch's `meta` device, where nothing is computed."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cfgbench.assets import shapes
from cfgbench.registry import MODELS, resolve


class Cost(NamedTuple):
    """One image at the architecture's own size; operations count multiply and add apart."""

    name: str
    title: str
    source: str
    height: int
    width: int
    parameters: int  # of the denoiser
    autoencoder_parameters: int  # of its encoder and its decoder, which are loaded together
    pass_flops: int  # of one pass of the denoiser
    decode_flops: int
    embedded_guidance: bool  # whether guidance is an input of the network, so that it takes no second pass


def measure(name: str) -> Cost:
    """Count a shape; ValueError where there is none of that name."""
    shape = shapes.find(shapes.PREFIX + name)
    model: Any = resolve(MODELS[shape.content["family"]].target)(path=shape.name, device="meta")
    denoiser, autoencoder = model.networks["main"], model.networks["decoder"]
    latents = torch.empty(1, *model.latent_shape, device="meta")
    encoding = {name: torch.empty(size, device="meta") for name, size in shape.encoding.items()}
    timestep = torch.tensor(500.0, device="meta")
    height, width = model.size
    return Cost(
        name=name,
        title=shape.content["title"],
        source=shape.content["source"],
        height=height,
        width=width,
        parameters=_parameters(denoiser),
        autoencoder_parameters=_parameters(autoencoder),
        pass_flops=_flops(lambda: model.call(denoiser, latents, timestep, encoding)),
        decode_flops=_flops(lambda: model.picture(latents)),
        embedded_guidance=bool(getattr(denoiser.config, "guidance_embeds", False)),
    )


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _flops(call: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _: Tensor = call()
    return int(counter.get_total_flops())
