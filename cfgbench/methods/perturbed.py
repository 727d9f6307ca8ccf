"""Guidance away from a worse version of the conditional network: an early snapshot, or the network disturbed.

diffusers' guiders disturb attention through hooks that know diffusers' blocks only, degrade to CFG when used alone
(perturbed attention, skipped layers) or do nothing (smoothed energy), so the disturbances are ours: each is a patch of
every self-attention of the network, that is of every module with a method `attend(q, k, v)`, for one pass.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.generation.sampling import Patch, Request, Step


def autoguidance(step: Step, guidance_scale: float) -> Tensor:
    """Guidance by a weaker snapshot of the same network (Karras et al. 2024, eq. 3): a main and a weak pass."""
    main, weak = step.predict_all("cond", Request("cond", network="weak"))
    return weak + guidance_scale * (main - weak)


def pag(step: Step, pag_scale: float) -> Tensor:
    """Perturbed-attention guidance (Ahn et al. 2024): away from attention in which every pixel sees itself only."""
    return _away(step, pag_scale, identity_attention)


def seg(step: Step, seg_scale: float, blur_sigma: float | None = None) -> Tensor:
    """Smoothed-energy guidance (Hong 2024): away from attention with blurred queries, by default to their mean."""
    return _away(step, seg_scale, partial(blurred_queries, blur_sigma=blur_sigma))


def slg(step: Step, slg_scale: float) -> Tensor:
    """Skip-layer guidance (Hyung et al. 2024): away from the network without its attention layers."""
    return _away(step, slg_scale, skipped_attention)


@contextmanager
def identity_attention(network: nn.Module) -> Iterator[None]:
    """Every pixel attends to itself only."""
    with _replaced(network, "attend", lambda module: lambda q, k, v: v):
        yield


@contextmanager
def blurred_queries(network: nn.Module, blur_sigma: float | None) -> Iterator[None]:
    """Queries blurred over the image by a Gaussian of this many pixels of the feature map; None is infinitely wide."""

    def smoothed(module: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        attend = module.attend
        return lambda q, k, v: attend(_blur(q, blur_sigma), k, v)

    with _replaced(network, "attend", smoothed):
        yield


@contextmanager
def skipped_attention(network: nn.Module) -> Iterator[None]:
    """Attention layers hand on what they get."""
    with _replaced(network, "forward", lambda module: lambda x: x):
        yield


def _away(step: Step, scale: float, patch: Patch) -> Tensor:
    cond, worse = step.predict_all("cond", Request("cond", patch=patch))
    return cond + scale * (cond - worse)


@contextmanager
def _replaced(network: nn.Module, name: str, make: Callable[[Any], Callable[..., Tensor]]) -> Iterator[None]:
    """A method of every self-attention of a network replaced; ValueError where there is none."""
    found = [module for module in network.modules() if hasattr(module, "attend")]
    if not found:
        raise ValueError(f"{type(network).__name__} has no self-attention to disturb")
    for module in found:
        setattr(module, name, make(module))
    try:
        yield
    finally:
        for module in found:
            delattr(module, name)  # the class's own shows again


def _blur(queries: Tensor, sigma: float | None) -> Tensor:
    """Queries (n, heads, pixels, d) of a square image blurred along both sides, with weights that add up to one."""
    if sigma is None:
        return queries.mean(dim=2, keepdim=True).expand_as(queries)
    side = math.isqrt(queries.shape[2])
    if side**2 != queries.shape[2]:
        raise ValueError(f"blurring needs a square feature map, not {queries.shape[2]} pixels")
    places = torch.arange(side, dtype=queries.dtype, device=queries.device)
    weights = (-((places[:, None] - places) ** 2) / (2 * sigma**2)).softmax(dim=1)
    image = queries.reshape(*queries.shape[:2], side, side, queries.shape[3])
    return torch.einsum("ab,cd,nhbde->nhace", weights, weights, image).flatten(2, 3)
