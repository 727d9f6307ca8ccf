"""Guidance methods against their papers' own formulas, diffusers' guiders and closed forms."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.guiders import (
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
    MagnitudeAwareGuidance,
    TangentialClassifierFreeGuidance,
)
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance
from diffusers.utils import logging
from torch import Tensor

from cfgbench.cell import Cell, Diffusion, Guidance
from cfgbench.errors import InputError
from cfgbench.generation import guidance, noise, sampling
from cfgbench.generation.sampling import Request, Step
from cfgbench.methods import frequency, perturbed
from cfgbench.models import Level, Schedule, gaussians
from cfgbench.models.digits import load as load_digits
from cfgbench.planning import axes
from cfgbench.planning.experiment import parse
from cfgbench.planning.plan import canonical, plan
from cfgbench.reading import figures
from cfgbench.reading.figures import style
from cfgbench.reading.tables.results import load as load_results
from cfgbench.reading.tables.rows import result_rows
from cfgbench.registry import METHODS
from tests import synthetic as made
from tests.conftest import DIGITS_METHODS, make_batch

FP32: dict[str, Any] = {"dtype": torch.float32, "state_dtype": torch.float32}
N = 12


def bound(method: str, **parameters: Any) -> Callable[[Step], Tensor]:
    return guidance.bind(Guidance.model_construct(method=method, parameters=parameters))


def digits_batch(steps: int = 8, sampler: str = "ddim", **parameters: Any) -> sampling.Batch:
    return make_batch(load_digits(**parameters), sampler, steps, noise.labels(range(N), 10), **FP32)


def draw(batch: sampling.Batch, method: str, **parameters: Any) -> Tensor:
    return sampling.sample(batch, bound(method, **parameters), 0, range(N))[0]


def step_of(batch: sampling.Batch, index: int = 3) -> Step:
    """A step in the middle of an unguided trajectory."""
    with torch.no_grad():
        trajectory = sampling.start(batch, 0, range(N))
        sampling.advance(trajectory, batch, guidance.unguided, index)
    return Step(trajectory, batch)


def ends(step: Step) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        cond, uncond = step.predict_all("cond", "uncond")
    return cond, uncond


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_cfg_plus_plus_denoises_with_guidance_and_renoises_with_the_unconditional_noise(sampler: str) -> None:
    batch = make_batch(gaussians.load("general2"), sampler, 10)
    trajectory = sampling.start(batch, 0, range(N))
    timesteps = trajectory.scheduler.timesteps
    x = trajectory.scheduler.scale_model_input(trajectory.x, timesteps[0])
    with torch.no_grad():
        for timestep, (sigma, after) in zip(timesteps, pairwise(trajectory.sigmas), strict=True):
            level = Level(timestep, sigma)
            cond, uncond = (batch.model.predict(x, level, batch.conditions[name]) for name in ("cond", "uncond"))
            clean = math.sqrt(1 + sigma**2) * x - sigma * (uncond + 0.7 * (cond - uncond))
            x = (clean + after * uncond) / math.sqrt(1 + after**2)
    torch.testing.assert_close(draw(batch, "cfg_plus_plus", lambda_scale=0.7), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "guider", "settings"),
    [
        ("cfg", ClassifierFreeGuidance, {}),
        ("cfg_zero", ClassifierFreeZeroStarGuidance, {"zero_init_steps": 0}),
        ("tcfg", TangentialClassifierFreeGuidance, {}),
        ("mambo", MagnitudeAwareGuidance, {"alpha": 8.0}),
    ],
)
def test_a_method_equals_the_guider_of_diffusers_in_its_own_formulation(
    method: str, guider: Any, settings: dict[str, Any]
) -> None:
    step = step_of(digits_batch())
    cond, uncond = ends(step)
    logging.set_verbosity_error()
    theirs = guider(guidance_scale=3.0, **settings)
    theirs.set_state(step=step.index, num_inference_steps=step.count, timestep=step.timestep)
    flat = theirs.forward(cond.flatten(1)[:, None], uncond.flatten(1)[:, None]).pred
    torch.testing.assert_close(bound(method, guidance_scale=3.0)(step), flat.view_as(cond), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_projected_guidance_projects_predicted_clean_latents(eta: float) -> None:
    step = step_of(digits_batch())
    cond, uncond = (step.denoised(prediction) for prediction in ends(step))
    threshold = 0.1
    limit = threshold * math.sqrt(cond[0].numel())
    theirs = normalized_guidance(cond, uncond, 2.0, None, eta, limit, use_original_formulation=True)
    ours = bound("apg", guidance_scale=3.0, parallel_share=eta, momentum=0.0, norm_threshold=threshold)(step)
    torch.testing.assert_close(step.denoised(ours), theirs, rtol=1e-4, atol=1e-5)
    if eta == 0:
        across = ((step.denoised(ours) - cond) * cond).flatten(1).sum(1)
        torch.testing.assert_close(across, torch.zeros(N), rtol=0, atol=1e-4)


def test_the_momentum_of_projected_guidance_lives_for_one_trajectory() -> None:
    batch = digits_batch()
    first, again = (draw(batch, "apg", guidance_scale=3.0, momentum=-0.5) for _ in range(2))
    assert torch.equal(first, again)
    assert (first - draw(batch, "apg", guidance_scale=3.0, momentum=0.0)).abs().max() > 0.01


def test_zero_init_moves_nothing_at_the_first_steps_and_is_then_never_off() -> None:
    step = step_of(digits_batch(), index=0)
    assert not bound("cfg_zero", guidance_scale=3.0, zero_init_steps=1)(step).any()
    assert canonical("cfg_zero", {"guidance_scale": 1.0}).method == "unguided"
    assert canonical("cfg_zero", {"guidance_scale": 1.0, "zero_init_steps": 1}).method == "cfg_zero"


@pytest.mark.parametrize("shape", ["linear", "cosine", "decreasing", "damped"])
def test_a_schedule_keeps_its_mean_strength(shape: str) -> None:
    batch = make_batch(gaussians.load("general2"), "ddim", 9)
    strengths = []
    for index in range(9):
        step = step_of(batch, index)
        cond, uncond = ends(step)
        guided = bound("cfg_schedule", guidance_scale=3.0, shape=shape)(step)
        strengths.append(float((guided - cond).norm() / (cond - uncond).norm()))
    assert sum(strengths) / 9 == pytest.approx(2.0)
    assert strengths == sorted(strengths, reverse=shape == "decreasing")
    assert strengths[0] != pytest.approx(strengths[-1])


def test_adaptive_guidance_ends_the_second_pass_sample_by_sample_and_counts_it_so() -> None:
    batch = digits_batch(steps=12)
    guided = bound("adaptive_cfg", guidance_scale=2.0, similarity=0.97)
    trajectory, shares = sampling.start(batch, 0, range(N)), []
    with torch.no_grad():
        for until in range(1, 13):
            before = trajectory.counts.nfe
            sampling.advance(trajectory, batch, guided, until)
            shares.append(round((trajectory.counts.nfe - before - 1) * N, 6))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == N and shares[-1] == 0
    assert len(set(shares)) > 2  # samples end at different steps
    alone = sampling.sample(digits_batch(steps=12), guided, 0, range(N))[1]
    assert alone.nfe == pytest.approx(12 + sum(shares) / N)


def test_rows_of_a_request_are_rows_of_the_whole_prediction_and_cost_their_share() -> None:
    batch = digits_batch()
    step = step_of(batch)
    rows = torch.arange(N) % 3 == 0
    with torch.no_grad():
        some = step.predict(Request("cond", rows=rows))
        torch.testing.assert_close(some, step.predict("cond")[rows], rtol=0, atol=1e-5)
        before = step._trajectory.counts.nfe
        step.predict(Request("uncond", rows=rows))
        assert step._trajectory.counts.nfe - before == pytest.approx(4 / N)
        assert len(step.predict(Request("uncond", rows=torch.zeros(N, dtype=torch.bool)))) == 0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_from_denoised_is_the_inverse_of_denoised(kind: str) -> None:
    model = gaussians.load("general2")
    model.schedule = Schedule(model.schedule.alphas_cumprod, kind)
    step = step_of(make_batch(model, "ddim", 8), index=0)
    prediction = torch.randn(N, 2, dtype=torch.float64)
    torch.testing.assert_close(step.from_denoised(step.denoised(prediction)), prediction, rtol=1e-9, atol=1e-9)


def test_the_bands_of_an_image_add_up_to_it_and_a_flat_image_is_all_low() -> None:
    image = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    low = frequency.low_band(image)
    torch.testing.assert_close(low + (image - low), image)
    flat = torch.full((1, 1, 8, 8), 0.3, dtype=torch.float64)
    torch.testing.assert_close(frequency.low_band(flat), flat)
    stripes = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4).expand(1, 1, 8, 8)
    assert frequency.low_band(stripes).abs().max() < 0.2
    both = frequency.low_band(image + 2 * image.flip(2))
    torch.testing.assert_close(both, low + 2 * frequency.low_band(image.flip(2)))


@pytest.mark.parametrize("low_share", [0.0, 0.5, 1.0])
def test_a_frequency_decoupled_step_guides_the_levels_of_the_pyramid_apart(low_share: float) -> None:
    step = step_of(digits_batch())
    cond, uncond = ends(step)
    low_cond, low_uncond = frequency.low_band(cond), frequency.low_band(uncond)
    high_cond, high_uncond = cond - low_cond, uncond - low_uncond
    low = low_uncond + (1 + 2 * low_share) * (low_cond - low_uncond)
    high = high_uncond + 3 * (high_cond - high_uncond)
    ours = bound("fdg", guidance_scale=3.0, low_share=low_share)(step)
    torch.testing.assert_close(ours, low + high, rtol=1e-4, atol=1e-5)


def test_annealing_leaves_nothing_of_the_condition_early_and_all_of_it_late() -> None:
    batch = digits_batch(steps=10)
    early, late = step_of(batch, 0), step_of(batch, 8)
    assert early.time > 0.9 and late.time < 0.6
    ours, plain = bound("cads", guidance_scale=2.0)(late), bound("cfg", guidance_scale=2.0)(late)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    other_labels = step_of(make_batch(batch.model, "ddim", 10, noise.labels(range(1, N + 1), 10), **FP32), 0)
    first, second = (bound("cads", guidance_scale=1.0, mix=0.0)(step) for step in (early, other_labels))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)  # the same noise, and the label is gone


def test_the_noise_of_a_method_leaves_the_sampler_its_own() -> None:
    batch = digits_batch(steps=4, sampler="ddpm")
    trajectory = sampling.start(batch, 0, range(N))
    fresh = noise.StepNoise(0, range(N)).draw((1, 8, 8))
    assert not (Step(trajectory, batch).noise(trajectory.x).double().numpy() == fresh).any()
    assert (trajectory.step_noise.draw((1, 8, 8)) == fresh).all()


def test_autoguidance_is_cfg_with_the_weak_network_in_place_of_the_unconditional_one() -> None:
    batch = digits_batch(weak_steps=100)
    step = step_of(batch)
    with torch.no_grad():
        main, weak = (batch.model.predict(step.x, step.level, batch.conditions["cond"], n) for n in ("main", "weak"))
        ours = bound("autoguidance", guidance_scale=3.0)(step)
    logging.set_verbosity_error()
    torch.testing.assert_close(ours, ClassifierFreeGuidance(guidance_scale=3.0).forward(main, weak).pred)
    assert (main - weak).abs().max() > 0.01


PATCHES: dict[str, sampling.Patch] = {
    "identity": perturbed.identity_attention,
    "blurred": lambda network: perturbed.blurred_queries(network, None),
    "skipped": perturbed.skipped_attention,
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_disturbed_attention_is_whole_again_afterwards(name: str) -> None:
    network = load_digits(attention=True).networks["main"].attention
    x = torch.randn(2, 32, 4, 4)
    before = network(x)
    with PATCHES[name](network):
        assert (network(x) - before).abs().max() > 1e-3
    assert torch.equal(network(x), before)


def test_each_disturbance_is_what_its_paper_says() -> None:
    attention = load_digits(attention=True).networks["main"].attention
    x = torch.randn(2, 32, 4, 4)
    pixels = attention.norm(x).flatten(2).transpose(1, 2)
    with perturbed.identity_attention(attention):
        expected = x + attention.out(attention.v(pixels)).transpose(1, 2).view_as(x)
        torch.testing.assert_close(attention(x), expected)
    with perturbed.skipped_attention(attention):
        assert torch.equal(attention(x), x)
    whole = attention(x)
    with perturbed.blurred_queries(attention, 0.01):
        torch.testing.assert_close(attention(x), whole)  # too narrow a blur to reach the next pixel
    with perturbed.blurred_queries(attention, None):
        infinite = attention(x) - x
    with perturbed.blurred_queries(attention, 1e4):
        torch.testing.assert_close(attention(x) - x, infinite, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(infinite, infinite.mean(dim=(2, 3), keepdim=True).expand_as(infinite))


def test_a_network_without_attention_is_refused_where_it_is_disturbed() -> None:
    with pytest.raises(ValueError, match="has no self-attention"), perturbed.identity_attention(torch.nn.Linear(1, 1)):
        pass


@pytest.mark.parametrize("name", DIGITS_METHODS)
def test_one_batched_call_and_a_copied_trajectory_give_what_single_calls_give(name: str) -> None:
    model, scale = load_digits(attention=True, weak_steps=100), METHODS[name].scale
    guided = bound(name, **({scale: 0.8} if scale else {}))
    results = []
    for batched in (False, True):
        batch = make_batch(model, "ddim", 4, noise.labels(range(N), 10), batched=batched, **FP32)
        with torch.no_grad():
            trajectory = sampling.start(batch, 0, range(N))
            sampling.advance(trajectory, batch, guided, 2)
            copied = trajectory.copy()
            for one in (trajectory, copied):
                sampling.advance(one, batch, guided, 4)
        assert torch.equal(trajectory.x, copied.x)
        results.append((trajectory.x, trajectory.counts))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-5)
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "autoguidance", "guidance_scale": 2}, "parameter 'weak_steps' only; allowed: 100, 200, 400"),
        ({"method": "pag", "pag_scale": 2}, "parameter 'attention' only; allowed: true"),
        ({"method": "cads", "guidance_scale": 2, "model": "gaussians"}, "needs the capability embedding"),
        ({"method": "cfg_plus_plus", "lambda_scale": 0.5, "sampler": "heun"}, "heun does not suit .* allowed: ddim"),
        ({"method": "cfg_plus_plus", "lambda_scale": 0.5, "eta": 0.5}, "eta .*= 0.5; .* a sampler without noise: 0"),
        ({"method": "cfg_plus_plus", "lambda_scale": 1.5}, "lambda_scale .*= 1.5"),
        ({"method": "cfg_schedule", "guidance_scale": 2, "shape": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_what_a_method_cannot_do_is_refused_at_plan(changes: dict[str, object], message: str) -> None:
    sweep = {"model": "digits", "sampler": "ddim", "steps": 10, **changes}
    with pytest.raises(InputError, match=message):
        plan(parse({"name": "t", "num_samples": 100, "sweeps": [sweep]}, "t.yaml"))


@pytest.mark.parametrize("name", METHODS)
def test_no_parameter_of_a_method_is_called_like_an_axis(name: str) -> None:
    assert axes.expand(name, axes.AXES["method"], "here") == [name]
    assert METHODS[name].label and (METHODS[name].source or METHODS[name].scale is None)


def cell_of(method: str, **parameters: float) -> Cell:
    base = made.cell("unguided")
    return base.model_copy(update={"guidance": canonical(method, parameters)})


def test_a_scale_of_its_own_starts_from_the_branch_that_it_guides() -> None:
    starts = {
        ("pag", "pag_scale"): 1.0,
        ("cfg_plus_plus", "lambda_scale"): 0.0,
        ("classifier", "classifier_scale"): 1.0,
        ("classifier_uncond", "classifier_scale"): 0.0,
    }
    assert {key: cell_of(key[0], **{key[1]: 0.5}).guidance_scale for key in starts} == starts
    assert cell_of("pag", pag_scale=0.0) == cell_of("unguided")


def test_a_scale_of_its_own_has_a_column_and_makes_a_curve(tmp_path: Path) -> None:
    cells = [cell_of("pag", pag_scale=scale) for scale in (0.0, 0.5, 1.0, 2.0)]
    cells += [cell_of("cfg_plus_plus", lambda_scale=scale) for scale in (0.0, 0.3, 0.6)]
    results = load_results(made.write(tmp_path, cells, map(made.record, cells)))
    rows = result_rows(results)
    assert [row["pag_scale"] for row in rows] == [None, "0.5", "1", "2", None, None, None]
    assert [row["lambda_scale"] for row in rows][4:] == [None, "0.3", "0.6"]
    assert {arm.axis: [point.scale for point in arm.points] for arm in results.arms} == {
        "pag_scale": [0.0, 0.5, 1.0, 2.0],
        "lambda_scale": [0.0, 0.3, 0.6],
    }
    with style.applied():
        assert {name for name, make in figures.FIGURES.items() if make(results) is not None} >= {"quality_vs_scale"}


def test_every_registered_cell_keeps_its_id() -> None:
    """The fields for plug-ins are absent elsewhere, so that ids of before them stand."""
    cell = Cell(
        model=made.cell("unguided").model,
        guidance=Guidance(method="cfg", parameters={"guidance_scale": 2.0}),
        diffusion=Diffusion(sampler="ddim", steps=25),
    )
    assert "digest" not in cell.guidance.model_dump(exclude_defaults=True)
