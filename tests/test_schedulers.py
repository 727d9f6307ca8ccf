"""Schedulers are built from complete configurations."""

import inspect

import numpy as np
import pytest

from cfgbench.cell import Diffusion
from cfgbench.generation import schedulers
from cfgbench.models import Schedule
from cfgbench.registry import SAMPLERS, resolve
from cfgbench.testbeds.digits_data import alphas_cumprod

SCHEDULE = Schedule(alphas_cumprod(), "v_prediction")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_scheduler_keeps_a_default_of_its_own_for_the_noise_schedule(sampler: str) -> None:
    scheduler = schedulers.build(Diffusion(sampler=sampler, steps=10), SCHEDULE)
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), SCHEDULE.alphas_cumprod, rtol=1e-4)
    assert scheduler.config.prediction_type == "v_prediction"
    for name in ("timestep_spacing", "clip_sample", "thresholding"):
        if name in inspect.signature(resolve(SAMPLERS[sampler].target)).parameters:
            assert scheduler.config[name] in ("trailing", False)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_starts_at_the_last_training_timestep(sampler: str) -> None:
    scheduler = schedulers.build(Diffusion(sampler=sampler, steps=10), SCHEDULE)
    assert float(scheduler.timesteps[0]) == pytest.approx(len(SCHEDULE.alphas_cumprod) - 1, abs=1.5)
    levels = schedulers.sigmas(scheduler, SCHEDULE)
    assert levels[0] == pytest.approx(32.07, rel=0.02)
    assert levels[-1] == 0.0


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_karras", "heun", "unipc", "deis"])
def test_our_noise_levels_are_the_schedulers_own(sampler: str) -> None:
    scheduler = schedulers.build(Diffusion(sampler=sampler, steps=12), SCHEDULE)
    levels = schedulers.sigmas(scheduler, SCHEDULE)
    n = len(scheduler.timesteps)
    np.testing.assert_allclose(levels[:n], np.asarray(scheduler.sigmas[:n]), rtol=0.03)


def test_betas_rebuild_the_cumulative_products() -> None:
    rebuilt = np.cumprod(1 - np.array(schedulers.betas(SCHEDULE.alphas_cumprod)))
    np.testing.assert_allclose(rebuilt, SCHEDULE.alphas_cumprod, rtol=1e-10)
