"""CFG with a scale that changes along the trajectory, and CFG that stops paying for the second pass."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cfgbench.generation.sampling import Request, Step


def cfg_schedule(step: Step, guidance_scale: float, shape: str = "linear", equal_mean: bool = True) -> Tensor:
    """CFG whose strength w = s - 1 is multiplied by a weight of the step (Wang et al. 2024, sec. 4).

    `linear` and `cosine` increase from noise to image and `decreasing` falls; `damped` is 1 / (1 + sigma^2), the
    signal's share of the variance. With `equal_mean` the weights have mean 1, else the largest is at most 1.
    """
    cond, uncond = step.predict_all("cond", "uncond")
    weights = _WEIGHTS[shape](_progress(step.count), np.array(step.sigmas))
    weight = float(weights[step.index] / (weights.mean() if equal_mean else 1))
    return cond + weight * (guidance_scale - 1) * (cond - uncond)


def cfg_plus_plus(step: Step, lambda_scale: float) -> Tensor:
    """CFG++ (Chung et al. 2024, algorithm 2): denoise with guidance lambda, renoise with the unconditional noise.

    A DDIM or Euler step is linear in the predicted noise, so that this is CFG with the scale
    lambda sigma / (sigma - sigma'), exactly, where sigma' is the next noise level (which diffusers' DDIM rounds to a
    whole timestep where steps do not divide the schedule). Other samplers are refused by the planner.
    """
    cond, uncond = step.predict_all("cond", "uncond")
    return uncond + lambda_scale * step.sigma / (step.sigma - step.next_sigma) * (cond - uncond)


def adaptive_cfg(step: Step, guidance_scale: float, similarity: float = 0.991) -> Tensor:
    """CFG until a sample's two predictions are alike, then the conditional one alone (Castillo et al. 2023).

    The decision is each sample's own and final: after the first cosine similarity above `similarity` that sample costs
    one pass a step. Compared are predicted clean latents, not noise as in the paper: two noise predictions are alike at
    the first steps already where sampling starts at a high noise level.
    """
    cond = step.predict("cond")
    rows = step.state.get("unlike", torch.ones(len(cond), dtype=torch.bool, device=cond.device))
    uncond = cond.clone()
    uncond[rows] = step.predict(Request("uncond", rows=rows))
    alike = functional.cosine_similarity(step.denoised(cond).flatten(1), step.denoised(uncond).flatten(1))
    step.state["unlike"] = rows & (alike <= similarity)
    return uncond + guidance_scale * (cond - uncond)


def _progress(count: int) -> np.ndarray:
    """Where the evaluations lie between noise (0) and image (1)."""
    return (np.arange(count) + 0.5) / count


_WEIGHTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "linear": lambda progress, sigmas: progress,
    "cosine": lambda progress, sigmas: (1 - np.cos(np.pi * progress)) / 2,
    "decreasing": lambda progress, sigmas: 1 - progress,
    "damped": lambda progress, sigmas: 1 / (1 + sigmas**2),
}
