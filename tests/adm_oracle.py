"""guided-diffusion's networks once more, in another style: functions of a state dict that read the layout off its keys.

Loops over heads, explicit softmax and norms; nothing of the package is used.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

State = dict[str, Tensor]


class Facts(NamedTuple):
    """What the keys do not say."""

    blocks: int  # residual blocks a level
    heads: int  # of every attention layer
    split_first: bool = False


def unet(state: State, facts: Facts, x: Tensor, timestep: Tensor, label: Tensor | None) -> Tensor:
    """Noise and variance."""
    emb = embed_time(state, timestep)
    if label is not None:
        emb = emb + state["label_emb.weight"][label]
    kept, h = [], x
    for i in indices(state, "input_blocks."):
        h = block(state, facts, f"input_blocks.{i}.", h, emb, [0.5 if i and i % (facts.blocks + 1) == 0 else 1])
        kept.append(h)
    h = block(state, facts, "middle_block.", h, emb, [1, 1])
    for i in indices(state, "output_blocks."):
        h = block(state, facts, f"output_blocks.{i}.", torch.cat([h, kept.pop()], 1), emb, [1, 2])
    assert not kept
    return conv(state, "out.2.", F.silu(norm(state, "out.0.", h)))


def classifier(state: State, facts: Facts, x: Tensor, timestep: Tensor) -> Tensor:
    """Logits of the classifier with attention pooling."""
    emb, h = embed_time(state, timestep), x
    for i in indices(state, "input_blocks."):
        h = block(state, facts, f"input_blocks.{i}.", h, emb, [0.5 if i and i % (facts.blocks + 1) == 0 else 1])
    h = block(state, facts, "middle_block.", h, emb, [1, 1])
    h = F.silu(norm(state, "out.0.", h)).flatten(2)
    h = torch.cat([h.mean(2, keepdim=True), h], 2) + state["out.2.positional_embedding"]
    qkv = pointwise(state, "out.2.qkv_proj.", h)
    return pointwise(state, "out.2.c_proj.", attend(qkv, facts.heads, True))[:, :, 0]


def embed_time(state: State, timestep: Tensor) -> Tensor:
    half = state["time_embed.0.weight"].shape[1] // 2
    angles = [[float(t) * math.exp(-math.log(10000) * i / half) for i in range(half)] for t in timestep]
    table = torch.tensor([[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles])
    hidden = F.silu(linear(state, "time_embed.0.", table))
    return linear(state, "time_embed.2.", hidden)


def indices(state: State, prefix: str) -> list[int]:
    return sorted({int(key[len(prefix) :].split(".")[0]) for key in state if key.startswith(prefix)})


def block(state: State, facts: Facts, prefix: str, h: Tensor, emb: Tensor, factors: list[float]) -> Tensor:
    """Layers in a row; the factors are of its residual layers."""
    left = list(factors)
    for j in indices(state, prefix):
        layer = f"{prefix}{j}."
        if f"{layer}qkv.weight" in state:
            qkv = pointwise(state, f"{layer}qkv.", norm(state, f"{layer}norm.", h).flatten(2))
            h = h + pointwise(state, f"{layer}proj_out.", attend(qkv, facts.heads, facts.split_first)).view_as(h)
        elif f"{layer}in_layers.0.weight" in state:
            h = residual(state, layer, h, emb, left.pop(0))
        else:
            h = conv(state, layer, h)
    return h


def residual(state: State, layer: str, x: Tensor, emb: Tensor, factor: float) -> Tensor:
    h = resize(F.silu(norm(state, f"{layer}in_layers.0.", x)), factor)
    h = conv(state, f"{layer}in_layers.2.", h)
    moved = linear(state, f"{layer}emb_layers.1.", F.silu(emb))[:, :, None, None]
    width = h.shape[1]
    h = norm(state, f"{layer}out_layers.0.", h) * (1 + moved[:, :width]) + moved[:, width:]
    h = conv(state, f"{layer}out_layers.3.", F.silu(h))
    x = resize(x, factor)
    return h + (conv(state, f"{layer}skip_connection.", x) if f"{layer}skip_connection.weight" in state else x)


def resize(x: Tensor, factor: float) -> Tensor:
    if factor == 2:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    if factor == 0.5:
        return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    return x


def attend(qkv: Tensor, heads: int, split_first: bool) -> Tensor:
    """Attention (n, C, T) of stacked rows (n, 3 C, T), head by head."""
    width = qkv.shape[1] // 3
    d, outputs = width // heads, []
    for head in range(heads):
        starts = (
            [part * width + head * d for part in range(3)] if split_first else [(3 * head + p) * d for p in range(3)]
        )
        q, k, v = (qkv[:, start : start + d] for start in starts)
        weights = (torch.einsum("ndt,nds->nts", q, k) / math.sqrt(d)).softmax(-1)
        outputs.append(torch.einsum("nts,nds->ndt", weights, v))
    return torch.cat(outputs, 1)


def norm(state: State, layer: str, x: Tensor) -> Tensor:
    grouped = x.reshape(len(x), 32, -1)
    mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, unbiased=False, keepdim=True)
    whitened = ((grouped - mean) / torch.sqrt(variance + 1e-5)).view_as(x)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return whitened * state[f"{layer}weight"].view(shape) + state[f"{layer}bias"].view(shape)


def conv(state: State, layer: str, x: Tensor) -> Tensor:
    weight = state[f"{layer}weight"]
    return F.conv2d(x, weight, state[f"{layer}bias"], padding=weight.shape[2] // 2)


def pointwise(state: State, layer: str, x: Tensor) -> Tensor:
    return torch.einsum("oc,nct->not", state[f"{layer}weight"][:, :, 0], x) + state[f"{layer}bias"][None, :, None]


def linear(state: State, layer: str, x: Tensor) -> Tensor:
    return x @ state[f"{layer}weight"].T + state[f"{layer}bias"]
