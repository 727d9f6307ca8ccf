"""Methods whose arithmetic is a diffusers guider's, through one adapter.

A guider keeps its step and its momentum, so each trajectory has a fresh one, told where it is before every step. Its
own scale stays at 1 in the original formulation, `cond + 1 update`; the update is taken out and our scale multiplies
it, so that a column of scales works (guiders compare theirs with `math.isclose`) and s = 1 is unguided (APG's is not,
in the other formulation). Latents go in as (n, 1, d), which all accept (MAMBO-G fails on images).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance, MomentumBuffer
from diffusers.guiders.classifier_free_zero_star_guidance import ClassifierFreeZeroStarGuidance
from diffusers.guiders.magnitude_aware_guidance import MagnitudeAwareGuidance
from diffusers.guiders.tangential_classifier_free_guidance import TangentialClassifierFreeGuidance
from diffusers.utils import logging
from torch import Tensor

from cfgbench.generation.sampling import Step


def apg(
    step: Step,
    guidance_scale: float,
    parallel_share: float = 0.0,
    momentum: float = -0.5,
    norm_threshold: float = 0.0,
) -> Tensor:
    """Adaptive projected guidance (Sadat et al. 2024, algorithm 1), on the predicted clean latents as in the paper.

    `parallel_share` (the paper's eta, which is taken by DDIM's) is what is kept of the update's part parallel to the
    conditional prediction. `norm_threshold` bounds the update's root mean square, not its norm as in the paper and in
    diffusers, which depends on the size of the image.
    """
    cond, uncond = (step.denoised(prediction) for prediction in step.predict_all("cond", "uncond"))
    limit = norm_threshold * math.sqrt(cond[0].numel())

    def make(**formulation: Any) -> Any:
        settings = {"eta": parallel_share, "adaptive_projected_guidance_rescale": limit}
        guider = AdaptiveProjectedGuidance(**settings, **formulation)
        guider.momentum_buffer = MomentumBuffer(momentum)  # else made by prepare_inputs only
        return guider

    return step.from_denoised(cond + (guidance_scale - 1) * _update(step, make, cond, uncond))


def cfg_zero(step: Step, guidance_scale: float, zero_init_steps: int = 0) -> Tensor:
    """CFG-Zero* (Fan et al. 2025): the unconditional prediction rescaled to fit the conditional one, per sample.

    Zero-init, the first steps without movement, is meant for flow models, and off here unless asked for.
    """
    cond, uncond = step.predict_all("cond", "uncond")
    if step.index < zero_init_steps:
        return torch.zeros_like(cond)

    def make(**formulation: Any) -> Any:
        return ClassifierFreeZeroStarGuidance(zero_init_steps=0, **formulation)

    return cond + (guidance_scale - 1) * _update(step, make, cond, uncond)


def tcfg(step: Step, guidance_scale: float) -> Tensor:
    """Tangential damping (Kwon et al. 2025): the unconditional prediction on the first singular direction only."""
    cond, uncond = step.predict_all("cond", "uncond")
    update = _update(step, TangentialClassifierFreeGuidance, cond, uncond)
    return cond + (guidance_scale - 1) * update


def mambo(step: Step, guidance_scale: float, damping: float = 8.0) -> Tensor:
    """Magnitude-aware guidance (MAMBO-G, 2025): w falls by exp(-damping |cond - uncond| / |uncond|), per sample."""
    cond, uncond = step.predict_all("cond", "uncond")

    def make(**formulation: Any) -> Any:
        return MagnitudeAwareGuidance(alpha=damping, **formulation)

    return cond + (guidance_scale - 1) * _update(step, make, cond, uncond)


def _update(step: Step, make: Callable[..., Any], cond: Tensor, uncond: Tensor) -> Tensor:
    """What the trajectory's guider adds to the conditional prediction at w = 1."""
    if "guider" not in step.state:
        step.state["guider"] = _quietly(make)
    guider = step.state["guider"]
    guider.set_state(step=step.index, num_inference_steps=step.count, timestep=step.timestep)
    guided: Tensor = guider.forward(cond.flatten(1)[:, None], uncond.flatten(1)[:, None]).pred
    return guided.view_as(cond) - cond


def _quietly(make: Callable[..., Any]) -> Any:
    """A guider, without the note that guiders are experimental."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return make(guidance_scale=1.0, use_original_formulation=True)
    finally:
        logging.set_verbosity(level)
