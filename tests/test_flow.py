"""Flow models: times, conversions and samplers against the closed form of a Gaussian."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfgbench.assets import layouts
from cfgbench.cell import Diffusion
from cfgbench.generation import guidance, noise, sampling, schedulers
from cfgbench.models import Flow, Level, Schedule
from cfgbench.registry import SAMPLERS

FLOWS = [name for name, entry in SAMPLERS.items() if entry.flow]
MEAN, DEVIATION, INDICES = 2.0, 0.5, range(16)


class GaussianFlow:
    """The exact velocity E[noise - x_0 | x_t] of samples from N(MEAN, DEVIATION^2)."""

    latent_shape = (3,)
    learned_variance = False

    def __init__(self, flow: Flow) -> None:
        sigmas = layouts.flow_levels({}, flow.shift)
        self.schedule = Schedule(1 / (1 + sigmas**2), "flow_prediction", flow=flow)
        self.networks = {"main": nn.Identity()}

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        time = level.timestep.double() / 1000
        return velocity(x, time, score(x, time, condition[:, None]))


def score(x: Tensor, time: Tensor, mean: Tensor | float = MEAN) -> Tensor:
    return -(x - (1 - time) * mean) / ((1 - time) ** 2 * DEVIATION**2 + time**2)


def velocity(x: Tensor, time: Tensor, score: Tensor) -> Tensor:
    """From x = (1 - t) x_0 + t noise and E[noise | x] = -t score."""
    return (-time * score - x) / (1 - time) if time < 1 else -time * score - MEAN


def batch(flow: Flow, sampler: str, steps: int) -> sampling.Batch:
    model: Any = GaussianFlow(flow)
    conditions = {"cond": torch.full((len(INDICES),), MEAN), "uncond": torch.zeros(len(INDICES))}
    double = torch.float64
    return sampling.Batch(
        model, Diffusion(sampler=sampler, steps=steps), conditions, torch.zeros(len(INDICES)), double, double
    )


@pytest.mark.parametrize("flow", [Flow(), Flow(3.0), Flow(3.0, to_step=True)])
@pytest.mark.parametrize("sampler", FLOWS)
def test_every_sampler_for_flows_finds_the_exact_sample(sampler: str, flow: Flow) -> None:
    drawn, _ = sampling.sample(batch(flow, sampler, 100), guidance.unguided, 5, INDICES)
    exact = MEAN + DEVIATION * torch.from_numpy(noise.initial(5, INDICES, (3,)))
    assert (drawn - exact).abs().max() < (0.05 if sampler == "euler" else 0.01)  # Euler's is of first order


@pytest.mark.parametrize("sampler", FLOWS)
def test_noise_levels_are_those_of_the_times(sampler: str) -> None:
    flow = Flow(3.0)
    built = batch(flow, sampler, 8)
    scheduler = schedulers.build(built.diffusion, built.model.schedule)
    levels = schedulers.sigmas(scheduler, built.model.schedule)
    times = scheduler.timesteps.double().numpy() / 1000
    assert levels[0] > 500 and levels[-1] == 0 and len(levels) == len(times) + 1
    np.testing.assert_allclose([sigma / (1 + sigma) for sigma in levels[1:-1]], times[1:], atol=1e-3)


def test_conversions_of_a_flow_agree_with_the_closed_form() -> None:
    built = batch(Flow(), "euler", 10)
    trajectory = sampling.start(built, 5, INDICES)
    sampling.advance(trajectory, built, guidance.unguided, 4)
    step = sampling.Step(trajectory, built)
    time = torch.tensor(step.spread)
    assert step.spread == pytest.approx(float(step.timestep) / 1000) == pytest.approx(step.time)
    assert step.signal + step.spread == pytest.approx(1)
    prediction = step.predict("cond")
    clean = (step.x + time**2 * score(step.x, time)) / (1 - time)  # Tweedie
    torch.testing.assert_close(step.denoised(prediction), clean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(step.from_denoised(step.denoised(prediction)), prediction)
    other = score(step.x, time, 0.0) - score(step.x, time)
    torch.testing.assert_close(step.add_score(prediction, other), step.predict("uncond"), rtol=1e-4, atol=1e-6)


def test_a_flow_begins_at_pure_noise_where_everything_is_finite() -> None:
    built = batch(Flow(), "euler", 10)
    step = sampling.Step(sampling.start(built, 5, INDICES), built)
    prediction = step.predict("cond")
    assert (step.sigma, step.signal, step.spread) == (math.inf, 0.0, 1.0)
    assert step.denoised(prediction).isfinite().all()
    torch.testing.assert_close(step.from_denoised(step.denoised(prediction)), prediction)


def test_times_made_in_ways_that_are_not_ours_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shift_terminal = 0\.1, which is not supported"):
        layouts.flow_levels({"shift_terminal": 0.1}, 1.0)
