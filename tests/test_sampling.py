"""The loop, the step and the identity of samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfgbench.cell import Guidance
from cfgbench.generation import guidance, noise, sampling
from cfgbench.generation.sampling import Request
from cfgbench.models import Level, Schedule, gaussians
from cfgbench.models.digits import load as load_digits
from cfgbench.registry import METHODS, SAMPLERS
from tests.conftest import COMMON_SAMPLERS, make_batch

CFG = Guidance(method="cfg", parameters={"guidance_scale": 2.0})
FP32 = {"dtype": torch.float32, "state_dtype": torch.float32}


def draw(batch: sampling.Batch, method: Guidance, indices: range, seed: int = 0) -> Tensor:
    return sampling.sample(batch, guidance.bind(method), seed, indices)[0]


def in_parts(sampler: str, size: int, n: int = 64) -> np.ndarray:
    """Latents of n digits, drawn in batches of a size."""
    model, parts = load_digits(), []
    for first in range(0, n, size):
        indices = range(first, min(first + size, n))
        batch = make_batch(model, sampler, 8, noise.labels(indices, 10), **FP32)
        parts.append(draw(batch, CFG, indices))
    return torch.cat(parts).numpy()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m_sde", "euler_ancestral", "heun", "unipc"])
def test_samples_do_not_depend_on_the_batch_size(sampler: str) -> None:
    whole = in_parts(sampler, 64)
    for size in (1, 7):
        np.testing.assert_allclose(in_parts(sampler, size), whole, rtol=0, atol=1e-5)


def test_uint8_images_of_deterministic_samplers_do_not_depend_on_the_batch_size_save_for_rare_rounding() -> None:
    model = load_digits()
    images = [model.decode(torch.from_numpy(in_parts("ddim", size))).astype(int) for size in (1, 7, 64)]
    differing = [(image != images[2]).sum() for image in images[:2]]
    assert max(differing) <= images[2].size // 1000
    assert max(np.abs(image - images[2]).max() for image in images) <= 1


def test_another_seed_gives_other_samples_and_the_same_seed_the_same_bits() -> None:
    batch = make_batch(load_digits(), "ddpm", 6, np.arange(16) % 10, **FP32)
    first, again, other = (draw(batch, CFG, range(16), seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not (first == other).any()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_evaluates_as_often_as_its_entry_declares(sampler: str) -> None:
    batch = make_batch(gaussians.load("general2"), sampler, 7)
    trajectory = sampling.start(batch, 0, range(12))
    assert len(trajectory) == {"n": 7, "2n-1": 13, "n+1": 8}[SAMPLERS[sampler].evaluations]
    assert len(trajectory.sigmas) == len(trajectory) + 1
    assert all(a >= b for a, b in zip(trajectory.sigmas, trajectory.sigmas[1:], strict=False)) or sampler == "pndm"


@pytest.mark.parametrize("sampler", COMMON_SAMPLERS)
def test_only_stochastic_samplers_draw_noise_on_the_way(sampler: str) -> None:
    batch = make_batch(gaussians.load("general2"), sampler, 6)
    trajectory = sampling.start(batch, 0, range(12))
    with torch.no_grad():
        sampling.advance(trajectory, batch, guidance.bind(CFG), len(trajectory))
    fresh = noise.StepNoise(0, range(12)).draw((2,))
    assert (trajectory.step_noise.draw((2,)) == fresh).all() != SAMPLERS[sampler].stochastic


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun", "dpmpp_2m", "unipc", "lms"])
def test_a_copied_trajectory_goes_on_like_the_original(sampler: str) -> None:
    batch = make_batch(gaussians.load("general2"), sampler, 8)
    guided = guidance.bind(CFG)
    with torch.no_grad():
        trajectory = sampling.start(batch, 0, range(12))
        sampling.advance(trajectory, batch, guided, 4)
        copied = trajectory.copy()
        sampling.advance(trajectory, batch, guided, len(trajectory))
        sampling.advance(copied, batch, guided, len(copied))
    assert torch.equal(trajectory.x, copied.x)
    assert torch.equal(trajectory.x, draw(batch, CFG, range(12)))
    assert copied.counts == trajectory.counts


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("unguided", {}),
        ("unconditional", {}),
        ("cfg", {"guidance_scale": 2.0}),
        ("classifier", {"classifier_scale": 2.0}),
        ("classifier_uncond", {"classifier_scale": 2.0}),
    ],
)
def test_every_method_costs_the_passes_that_its_entry_declares(method: str, parameters: dict[str, float]) -> None:
    batch = make_batch(gaussians.load("general2"), "ddim", 9)
    method_guidance = guidance.bind(Guidance(method=method, parameters=dict(parameters)))
    _, counts = sampling.sample(batch, method_guidance, 0, range(12))
    assert counts.nfe == 9 * METHODS[method].passes
    assert counts.classifier == 9 * METHODS[method].classifier_passes


def test_asking_twice_for_a_prediction_costs_one_pass() -> None:
    batch = make_batch(gaussians.load("general2"), "ddim", 5)

    def greedy(step: sampling.Step) -> Tensor:
        first, second = step.predict_all("cond", "cond")
        assert torch.equal(first, step.predict("cond"))
        return second

    _, counts = sampling.sample(batch, greedy, 0, range(12))
    assert counts.nfe == 5


def test_one_batched_pass_equals_two_sequential_ones_and_is_counted_as_two() -> None:
    results = []
    for batched in (False, True):
        batch = make_batch(gaussians.load("general2"), "ddim", 9, batched=batched)
        results.append(sampling.sample(batch, guidance.bind(CFG), 0, range(12)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-12)
    assert results[0][1] == results[1][1]


def test_a_patch_is_in_force_for_its_own_pass_only() -> None:
    entered: list[str] = []

    @contextmanager
    def patch(network: nn.Module) -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    def method(step: sampling.Step) -> Tensor:
        return 2 * step.predict("cond") - step.predict(Request("cond", patch=patch))

    batch = make_batch(gaussians.load("general2"), "ddim", 3)
    latents, counts = sampling.sample(batch, method, 0, range(12))
    assert entered == ["in", "out"] * 3
    assert counts.nfe == 6
    torch.testing.assert_close(latents, draw(batch, Guidance(method="unguided"), range(12)))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_adding_a_score_means_the_same_in_every_parameterisation(kind: str) -> None:
    """A score added to the prediction moves the denoised sample by (1 - abar) / sqrt(abar) times the score."""
    model = gaussians.load("general2")
    model.schedule = Schedule(model.schedule.alphas_cumprod, kind)
    batch = make_batch(model, "ddim", 4)
    trajectory = sampling.start(batch, 0, range(12))
    step = sampling.Step(trajectory, batch)
    prediction, score = torch.randn(2, 12, 2, dtype=torch.float64)
    moved = step.denoised(step.add_score(prediction, score)) - step.denoised(prediction)
    expected = step.signal * step.sigma**2 * score
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-9)


@dataclass
class Learned:
    """A model whose predictions carry a variance tail equal to the class label."""

    latent_shape: tuple[int, ...] = (1, 4, 4)
    schedule: Schedule = field(default_factory=lambda: Schedule(gaussians.load().schedule.alphas_cumprod))
    networks: dict[str, nn.Module] = field(default_factory=lambda: {"main": nn.Identity()})
    learned_variance: bool = True

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        cond = torch.from_numpy(labels)
        return {"cond": cond, "uncond": cond + 100}

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        tail = torch.zeros_like(x) + condition[:, None, None, None]
        return torch.cat([x, tail], dim=1)


@pytest.mark.parametrize("batched", [False, True])
def test_a_learned_variance_is_taken_from_the_conditional_prediction_and_never_guided(batched: bool) -> None:
    batch = make_batch(Learned(), labels=np.arange(3), batched=batched)  # type: ignore[arg-type]
    step = sampling.Step(sampling.start(batch, 0, range(3)), batch)
    prediction = guidance.bind(CFG)(step)
    assert prediction.shape == (3, 1, 4, 4)
    assert step.variance is not None
    assert torch.equal(step.variance[:, 0, 0, 0], torch.arange(3, dtype=torch.float64))


def test_half_precision_state_is_rounded_at_every_step() -> None:
    batch = make_batch(load_digits(), "ddim", 4, np.arange(4), dtype=torch.float32, state_dtype=torch.float16)
    latents = draw(batch, CFG, range(4))
    assert latents.dtype == torch.float16
    full = draw(make_batch(load_digits(), "ddim", 4, np.arange(4), **FP32), CFG, range(4))
    assert 0 < (latents.float() - full).abs().max() < 0.05
