"""The sampling loop against closed forms: mixtures of Gaussians have exact scores, classifiers and guided laws."""

import numpy as np
import pytest
import torch

from cfgbench.cell import Guidance
from cfgbench.generation import guidance, noise, sampling
from cfgbench.models import gaussians
from cfgbench.testbeds import mixtures
from tests.conftest import COMMON_SAMPLERS, make_batch

CFG3 = Guidance(method="cfg", parameters={"guidance_scale": 3.0})
CFG2 = Guidance(method="cfg", parameters={"guidance_scale": 2.0})


def draw(batch: sampling.Batch, method: Guidance, n: int | None = None, seed: int = 0) -> np.ndarray:
    indices = range(len(batch.labels) if n is None else n)
    latents, _ = sampling.sample(batch, guidance.bind(method), seed, indices)
    return latents.numpy()


@pytest.mark.parametrize("sampler", COMMON_SAMPLERS)
@pytest.mark.parametrize("mixture", ["general2", "general16"])
def test_cfg_equals_classifier_guidance_of_the_unconditional_score(sampler: str, mixture: str) -> None:
    batch = make_batch(gaussians.load(mixture), sampler, 20)
    by_classifier = Guidance(method="classifier_uncond", parameters={"classifier_scale": 3.0})
    np.testing.assert_allclose(draw(batch, CFG3), draw(batch, by_classifier), rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m", "unipc", "ddpm", "euler_ancestral"])
def test_classifier_guidance_of_the_conditional_score_is_cfg_one_scale_higher(sampler: str) -> None:
    batch = make_batch(gaussians.load("general2"), sampler, 20)
    by_classifier = Guidance(method="classifier", parameters={"classifier_scale": 1.0})
    np.testing.assert_allclose(draw(batch, CFG2), draw(batch, by_classifier), rtol=0, atol=1e-10)


def test_the_closed_form_prediction_is_the_score_by_finite_differences() -> None:
    mixture = mixtures.mixture("general2")
    density = gaussians.Density(mixture)
    x, sigma, h = torch.randn(5, 2, dtype=torch.float64), 0.7, 1e-5
    for axis in range(2):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[axis] = h
        numeric = (density(x + shift, sigma) - density(x - shift, sigma)) / (2 * h)
        leaf = x.clone().requires_grad_(True)
        (exact,) = torch.autograd.grad(density(leaf, sigma)[:, 0].sum(), leaf)
        np.testing.assert_allclose(exact[:, axis], numeric[:, 0], atol=1e-8)


def test_torch_and_numpy_give_the_same_densities() -> None:
    mixture = mixtures.mixture("general16")
    x = np.random.default_rng(0).standard_normal((7, 16))
    torch_side = gaussians.Density(mixture)(torch.from_numpy(x), 0.0).numpy()
    numpy_side = np.stack([mixtures.log_density(p, x) for p in (*mixture.classes, mixture.background)], axis=1)
    np.testing.assert_allclose(torch_side, numpy_side, rtol=1e-12)


@pytest.mark.parametrize(("sampler", "steps"), [("heun", 60), ("dpmpp_2m", 60), ("ddpm", 200)])
def test_unguided_sampling_recovers_the_class_mean_and_covariance(sampler: str, steps: int) -> None:
    model, n = gaussians.load("general2"), 6000
    samples = draw(make_batch(model, sampler, steps, np.zeros(n, dtype=int)), Guidance(method="unguided"))
    mean, covariance = mixtures.moments(model.mixture.classes[0])
    centred = samples - mean
    assert (np.abs(centred.mean(0)) < 4.5 * np.sqrt(np.diag(covariance) / n)).all()
    products = np.einsum("ni,nj->nij", centred, centred)
    error = products.std(axis=0) / np.sqrt(n)
    bias = 0.02 * np.trace(covariance)  # of the discretisation, which shrinks with steps
    assert (np.abs(products.mean(0) - covariance) < 4.5 * error + bias).all()


def guided_variance(sampler: str, steps: int, scale: float) -> float:
    """Variance of guided samples of N(0, 1) within N(0, 2): the sampler is linear in x, so one path tells."""
    batch = make_batch(gaussians.load("nested"), sampler, steps, np.zeros(4, dtype=int))
    method = Guidance(method="cfg", parameters={"guidance_scale": scale})
    ratio = draw(batch, method) / noise.initial(0, range(4), (1,))
    return float((ratio**2).mean())


@pytest.mark.parametrize(("sampler", "steps"), [("dpmpp_2m", 100), ("heun", 500), ("ddim", 1000)])
def test_the_guided_ode_narrows_a_nested_gaussian_to_two_to_the_one_minus_s(sampler: str, steps: int) -> None:
    sigma_max = mixtures.noise_levels()[-1]
    exact = 2.0 ** (1 - 2) * ((2 + sigma_max**2) / (1 + sigma_max**2)) ** (2 - 1)
    error = abs(guided_variance(sampler, steps, 2.0) / exact - 1)
    assert error < 0.01
    assert error < abs(guided_variance(sampler, steps // 4, 2.0) / exact - 1)


def test_the_guided_sde_narrows_to_its_own_variance_which_is_not_the_odes() -> None:
    n, scale = 4000, 2.0
    samples = draw(make_batch(gaussians.load("nested"), "ddpm", 1000, np.zeros(n, dtype=int)), CFG2)
    exact = (2 - 2 ** (2 - 2 * scale)) / (2 * scale - 1)  # 0.5833, against 0.5 for the ODE and 2/3 for tilting
    error = exact * np.sqrt(2 / n)  # 0.013
    assert abs(samples.var() - exact) < 3.5 * error + 0.006  # 0.006: of 1000 steps, O(1/steps)
    assert abs(samples.var() - 0.5) > 4 * error


def test_exact_draws_have_the_exact_moments() -> None:
    mixture = mixtures.mixture("general16")
    samples = mixtures.draw(mixture, np.zeros(40_000, dtype=int), np.random.default_rng(3))
    mean, covariance = mixtures.moments(mixture.classes[0])
    np.testing.assert_allclose(samples.mean(0), mean, atol=5 * np.sqrt(covariance.max() / 40_000))
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.06)


def test_the_two_halves_of_a_reference_differ_and_are_the_same_every_time() -> None:
    first, labels = mixtures.reference("heldout", {"mixture": "toy2d"})
    again, _ = mixtures.reference("heldout", {"mixture": "toy2d"})
    other, _ = mixtures.reference("train", {"mixture": "toy2d"})
    assert (first == again).all()
    assert not (first == other).any()
    assert (np.bincount(labels) == len(labels) // 4).all()
