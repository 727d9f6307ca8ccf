"""Condition annealing (CADS): noise on the condition early in sampling, for diversity at high scales."""

import math

from torch import Tensor
from torch.utils import _pytree as pytree

from cfgbench.generation.sampling import Request, Step


def cads(
    step: Step,
    guidance_scale: float,
    noise_scale: float = 0.25,
    tau_low: float = 0.6,
    ramp: float = 0.3,
    mix: float = 1.0,
) -> Tensor:
    """CFG with an annealed condition sqrt(g) y + noise_scale sqrt(1 - g) n (Sadat et al. 2023, algorithm 1).

    g falls from 1 at times t <= tau_low to 0 at t >= tau_low + ramp, where t = 1 is pure noise; at 0 nothing is left of
    the condition. The share `mix` of the result has the condition's own mean and deviation back, per sample. Without
    noise (noise_scale = 0) it is CFG.
    """
    keep = min(1.0, max(0.0, (tau_low + ramp - step.time) / ramp))

    def annealed(part: Tensor) -> Tensor:
        noisy = math.sqrt(keep) * part + noise_scale * math.sqrt(1 - keep) * step.noise(part)
        return mix * _restored(noisy, part) + (1 - mix) * noisy

    embedded = step.embedded("cond")
    condition = pytree.tree_map(annealed, embedded) if keep < 1 and noise_scale > 0 else embedded
    cond, uncond = step.predict_all(Request(condition), Request(step.embedded("uncond")))
    return uncond + guidance_scale * (cond - uncond)


def _restored(noisy: Tensor, original: Tensor) -> Tensor:
    """Shifted and scaled to the mean and deviation of the original, per sample."""
    dims = tuple(range(1, noisy.ndim))
    mean, deviation = noisy.mean(dim=dims, keepdim=True), noisy.std(dim=dims, keepdim=True)
    wanted = original.std(dim=dims, keepdim=True)
    return (noisy - mean) / deviation * wanted + original.mean(dim=dims, keepdim=True)
