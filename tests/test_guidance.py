"""Guidance methods as functions of a step, and the convention probe of every model."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cfgbench.cell import Guidance
from cfgbench.generation import guidance, sampling
from cfgbench.models import Model, gaussians
from cfgbench.models.digits import load as load_digits
from tests.conftest import make_batch

MODELS = {"gaussians": lambda: gaussians.load("general2"), "digits": load_digits}


def method(name: str = "cfg", **parameters: object) -> Guidance:
    return Guidance(method=name, parameters=parameters)  # type: ignore[arg-type]


def batch_of(model: Model, **fields: object) -> sampling.Batch:
    dtype = torch.float64 if isinstance(model, gaussians.Gaussians) else torch.float32
    return make_batch(model, "ddim", 10, dtype=dtype, state_dtype=dtype, **fields)


def first_prediction(model: Model, guided: Guidance) -> Tensor:
    batch = batch_of(model)
    with torch.no_grad():
        return guidance.bind(guided)(sampling.Step(sampling.start(batch, 0, range(12)), batch))


@pytest.mark.parametrize("name", MODELS)
def test_scale_one_is_the_conditional_and_scale_zero_the_unconditional_prediction(name: str) -> None:
    model = MODELS[name]()
    for scale, end in ((1.0, "unguided"), (0.0, "unconditional")):
        ours = first_prediction(model, method(guidance_scale=scale))
        torch.testing.assert_close(ours, first_prediction(model, method(end)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_first_step_is_affine_in_the_scale(name: str) -> None:
    model = MODELS[name]()
    at = {s: first_prediction(model, method(guidance_scale=s)) for s in (0.5, 1.0, 2.0, 4.0)}
    torch.testing.assert_close(at[2.0], at[1.0] + 2 * (at[1.0] - at[0.5]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(at[4.0], at[1.0] + 6 * (at[1.0] - at[0.5]), rtol=1e-4, atol=1e-4)
    assert (at[0.5] - at[1.0]).abs().max() > 1e-3  # scales below 1 are real


@pytest.mark.parametrize("name", ["cfg", "classifier", "classifier_uncond"])
def test_a_column_of_scales_means_what_single_scales_mean(name: str) -> None:
    model = gaussians.load("general2")
    key = "guidance_scale" if name == "cfg" else "classifier_scale"
    column = torch.tensor([2.0, 5.0] * 6, dtype=torch.float64)[:, None]
    mixed = first_prediction(model, Guidance.model_construct(method=name, parameters={key: column}))
    for row, scale in ((0, 2.0), (1, 5.0)):
        torch.testing.assert_close(mixed[row], first_prediction(model, method(name, **{key: scale}))[row])


def test_rescale_restores_the_conditional_deviation() -> None:
    model = load_digits()
    cond = first_prediction(model, method("unguided"))
    full = first_prediction(model, method(guidance_scale=5.0, rescale=1.0))
    half = first_prediction(model, method(guidance_scale=5.0, rescale=0.5))
    plain = first_prediction(model, method(guidance_scale=5.0))
    torch.testing.assert_close(full.std(dim=(1, 2, 3)), cond.std(dim=(1, 2, 3)))
    torch.testing.assert_close(half, (full + plain) / 2, rtol=1e-4, atol=1e-5)


def test_an_interval_guides_inside_and_costs_one_pass_outside() -> None:
    model = load_digits()
    batch = batch_of(model)
    trajectory = sampling.start(batch, 0, range(12))
    low, high = trajectory.sigmas[7], trajectory.sigmas[3]
    guided = guidance.bind(method(guidance_scale=3.0, interval=(low, high)))
    passes = []
    with torch.no_grad():
        for k in range(len(trajectory)):
            before = trajectory.counts.nfe
            sampling.advance(trajectory, batch, guided, k + 1)
            passes.append(trajectory.counts.nfe - before)
    assert passes == [1, 1, 1, 2, 2, 2, 2, 1, 1, 1]  # (sigma_7, sigma_3]: steps 3 to 6


def test_an_interval_over_everything_is_plain_cfg() -> None:
    batch = batch_of(load_digits())
    plain, _ = sampling.sample(batch, guidance.bind(method(guidance_scale=3.0)), 0, range(12))
    inside, _ = sampling.sample(batch, guidance.bind(method(guidance_scale=3.0, interval=(0.0, None))), 0, range(12))
    assert torch.equal(plain, inside)


def test_the_classifier_score_is_the_gradient_by_finite_differences() -> None:
    model = gaussians.load("general2")
    batch = batch_of(model)
    step = sampling.Step(sampling.start(batch, 0, range(12)), batch)
    score, h = step.classifier_score(), 1e-5
    for axis in range(2):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[axis] = h
        up, down = (model.class_log_probs(step.x + sign * shift, step.level) for sign in (1, -1))
        numeric = ((up - down) / (2 * h)).gather(1, batch.labels[:, None])[:, 0]
        np.testing.assert_allclose(score[:, axis], numeric, atol=1e-8)
