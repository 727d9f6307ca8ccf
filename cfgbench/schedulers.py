"""Sampler name -> diffusers scheduler, built from a fully explicit configuration.

diffusers' classes differ in their own defaults (betas, timestep spacing, clipping) and `from_config` drops some of
what it is given, so every scheduler here is constructed with every argument that it has in common with `_EXPLICIT`.
"""

import inspect
from typing import Any

import numpy as np

from cfgbench.cell import Diffusion
from cfgbench.models import Schedule
from cfgbench.registry import SAMPLERS, resolve

_EXPLICIT: dict[str, object] = {
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "clip_sample": False,
    "thresholding": False,
    "set_alpha_to_one": True,
    "rescale_betas_zero_snr": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "euler_at_final": False,
    "interpolation_type": "linear",
}


def build(diffusion: Diffusion, schedule: Schedule, device: str = "cpu") -> Any:
    """A fresh scheduler with its timesteps set. Fresh for every trajectory: schedulers keep state."""
    sampler = SAMPLERS[diffusion.sampler]
    scheduler_class = resolve(sampler.target)
    explicit = {
        **_EXPLICIT,
        "num_train_timesteps": len(schedule.alphas_cumprod),
        "trained_betas": betas(schedule.alphas_cumprod),
        "prediction_type": schedule.prediction_type,
        **schedule.config,
        **sampler.settings,
    }
    accepted = inspect.signature(scheduler_class).parameters
    scheduler = scheduler_class(**{key: value for key, value in explicit.items() if key in accepted})
    scheduler.set_timesteps(diffusion.steps, device=device)
    return scheduler


def betas(alphas_cumprod: np.ndarray) -> list[float]:
    """The betas (T,) whose cumulative products are given."""
    previous = np.concatenate([[1.0], alphas_cumprod[:-1]])
    return [float(beta) for beta in 1 - alphas_cumprod / previous]


def sigmas(scheduler: Any, schedule: Schedule) -> list[float]:
    """Noise level at each of the scheduler's timesteps, then 0: sigma = sqrt((1 - abar) / abar).

    Read off the training schedule, log-linearly between timesteps, since schedulers store sigmas in conventions of
    their own.
    """
    levels = np.sqrt((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod)
    timesteps = scheduler.timesteps.double().cpu().numpy()
    between = np.exp(np.interp(timesteps, np.arange(len(levels)), np.log(levels)))
    return [*map(float, between), 0.0]
