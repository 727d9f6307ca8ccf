"""Sampler name -> diffusers scheduler, built from a fully explicit configuration.

diffusers' classes differ in their own defaults (betas, timestep spacing, clipping) and `from_config` drops some of
what it is given, so every scheduler here is constructed with every argument that it has in common with `_EXPLICIT`.
"""

import inspect
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfgbench.cell import Diffusion
from cfgbench.generation import noise
from cfgbench.models import Flow, Schedule
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


class OnePass:
    """The scheduler of a generator: one evaluation at pure noise, whose prediction is the sample."""

    init_noise_sigma = 1.0

    def __init__(self, device: str) -> None:
        self.timesteps = torch.zeros(1, device=device)

    def scale_model_input(self, x: Tensor, timestep: Tensor) -> Tensor:
        """The latents as they are."""
        return x

    def step(self, prediction: Tensor, timestep: Tensor, x: Tensor) -> SimpleNamespace:
        """The prediction as the last sample."""
        return SimpleNamespace(prev_sample=prediction)


def build(diffusion: Diffusion | None, schedule: Schedule, device: str = "cpu") -> Any:
    """A fresh scheduler with its timesteps set. Fresh for every trajectory: schedulers keep state."""
    if diffusion is None:
        return OnePass(device)
    sampler = SAMPLERS[diffusion.sampler]
    if schedule.flow is not None:
        return _flow(diffusion, schedule.flow, len(schedule.alphas_cumprod), device)
    scheduler = _constructed(
        sampler.target,
        {
            "num_train_timesteps": len(schedule.alphas_cumprod),
            "trained_betas": betas(schedule.alphas_cumprod),
            "prediction_type": schedule.prediction_type,
            **schedule.config,
            **sampler.settings,
        },
    )
    scheduler.set_timesteps(diffusion.steps, device=device)
    return scheduler


def _flow(diffusion: Diffusion, flow: Flow, num_train_timesteps: int, device: str) -> Any:
    """A scheduler in its form for flows; raises TypeError for a sampler that has none."""
    sampler = SAMPLERS[diffusion.sampler]
    if sampler.flow is None:
        raise TypeError(f"sampler {diffusion.sampler} has no form for flow models")
    shifted = {"shift": flow.shift, "flow_shift": flow.shift}  # as the classes call it
    times = {"num_train_timesteps": num_train_timesteps, "use_flow_sigmas": True, **shifted}
    scheduler = _constructed(sampler.flow, {**times, "prediction_type": "flow_prediction", **sampler.settings})
    takes_sigmas = flow.to_step and sampler.flow.endswith("FlowMatchEulerDiscreteScheduler")
    given = {"sigmas": np.linspace(1, 1 / diffusion.steps, diffusion.steps)} if takes_sigmas else {}
    scheduler.set_timesteps(diffusion.steps, device=device, **given)
    return scheduler


def _constructed(target: str, settings: Mapping[str, object]) -> Any:
    """A scheduler with every argument of its own that is explicit here or given."""
    scheduler_class = resolve(target)
    accepted = inspect.signature(scheduler_class).parameters
    return scheduler_class(**{key: value for key, value in {**_EXPLICIT, **settings}.items() if key in accepted})


def initial_deviation(scheduler: Any) -> float:
    """Standard deviation of the noise that a scheduler starts from; those of flows do not say that it is 1."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def network_input(scheduler: Any, x: Tensor, timestep: Tensor) -> Tensor:
    """What the network is given at a timestep, x in the scheduler's own scaling; those of flows have none."""
    scale = getattr(scheduler, "scale_model_input", None)
    result: Tensor = x if scale is None else scale(x, timestep)
    return result


def takes_variance(scheduler: Any) -> bool:
    """Whether a scheduler's step reads a learned variance behind the prediction."""
    return getattr(scheduler, "variance_type", None) == "learned_range"


def variance_ratio(scheduler: Any, index: int, tail: Tensor | None) -> Tensor:
    """Sigma sqrt(alpha) / beta of evaluation `index` of an ancestral sampler, where Sigma is its variance.

    A score that is added to the prediction moves the step's mean by beta / sqrt(alpha) times it. `tail` is the learned
    variance in [-1, 1], between the logarithms of the posterior variance and of beta (Nichol & Dhariwal 2021, eq. 15).
    """
    alpha, beta, posterior = _reverse_step(scheduler, index)
    variance = torch.tensor(posterior)
    if takes_variance(scheduler) and tail is not None:
        last = index == len(scheduler.timesteps) - 1
        floor = _reverse_step(scheduler, index - 1)[2] if last and index else posterior  # the last posterior is zero
        share = (tail + 1) / 2
        variance = torch.exp(share * math.log(beta) + (1 - share) * math.log(max(floor, 1e-20)))
    return variance * (math.sqrt(alpha) / beta)


def _reverse_step(scheduler: Any, index: int) -> tuple[float, float, float]:
    """alpha, beta and the posterior variance between a timestep of a sampler and its next."""
    timesteps = [int(timestep) for timestep in scheduler.timesteps]
    now = float(scheduler.alphas_cumprod[timesteps[index]])
    after = float(scheduler.alphas_cumprod[timesteps[index + 1]]) if index + 1 < len(timesteps) else 1.0
    beta = 1 - now / after
    return now / after, beta, beta * (1 - after) / (1 - now)


def betas(alphas_cumprod: np.ndarray) -> list[float]:
    """The betas (T,) whose cumulative products are given."""
    previous = np.concatenate([[1.0], alphas_cumprod[:-1]])
    return [float(beta) for beta in 1 - alphas_cumprod / previous]


def sigmas(scheduler: Any, schedule: Schedule) -> list[float]:
    """Noise level at each of the scheduler's timesteps, then 0: sigma = sqrt((1 - abar) / abar).

    Read off the training schedule, log-linearly between timesteps, since schedulers store sigmas in conventions of
    their own; those of flows store the time t, and sigma = t / (1 - t). The only level of a generator of one pass is
    pure noise: infinity.
    """
    if isinstance(scheduler, OnePass):
        return [math.inf, 0.0]
    if schedule.flow is not None:
        times = scheduler.sigmas[: len(scheduler.timesteps)].double().tolist()
        return [*(math.inf if time == 1 else time / (1 - time) for time in times), 0.0]
    levels = np.sqrt((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod)
    timesteps = scheduler.timesteps.double().cpu().numpy()
    between = np.exp(np.interp(timesteps, np.arange(len(levels)), np.log(levels)))
    return [*map(float, between), 0.0]


@contextmanager
def noise_from(scheduler: Any, step_noise: noise.StepNoise) -> Iterator[None]:
    """Let a diffusers scheduler draw from the samples' own streams.

    Schedulers call `randn_tensor`, which takes torch generators only; those keep 32 bits of a seed and change
    algorithm below 16 values, so the name is replaced for the length of one call.
    """
    module: Any = sys.modules[type(scheduler).__module__]
    original = getattr(module, "randn_tensor", None)

    def draw(shape: Sequence[int], device: Any = None, dtype: Any = None, **_: Any) -> Tensor:
        return torch.from_numpy(step_noise.draw(tuple(shape[1:]))).to(device, dtype)

    if original is None:
        yield
        return
    module.randn_tensor = draw
    try:
        yield
    finally:
        module.randn_tensor = original
