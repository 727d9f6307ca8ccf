"""Our loop is each family's own pipeline, checked on tiny random networks, offline."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from cfgbench import guidance, noise, sampling, schedulers
from cfgbench.cell import Diffusion, Guidance
from cfgbench.prompts import Prompts
from cfgbench.registry import MODELS, resolve
from tests import tiny_pipelines
from tests.conftest import COMMON_SAMPLERS

PROMPTS = ("a red fox", "two boats at sea")
FAMILIES = tuple(tiny_pipelines.BUILDERS)
STEPS, SEED = 4, 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every family's tiny pipeline, saved."""
    home = tmp_path_factory.mktemp("pipelines")
    return {family: tiny_pipelines.save(family, home / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    """Every family's model, loaded from there."""
    return {family: resolve(MODELS[family].target)(str(folder)) for family, folder in folders.items()}


def draw(model: Any, cache: Path, sampler: str, scale: float | None, **fields: Any) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and images of the prompts by our loop; without a scale, of the conditional prediction."""
    conditions = model.text_conditions(Prompts(PROMPTS, PROMPTS, cache))
    diffusion = Diffusion(sampler=sampler, steps=fields.pop("steps", STEPS))
    labels = torch.arange(len(PROMPTS))
    batch = sampling.Batch(model, diffusion, conditions, labels, torch.float32, torch.float32, **fields)
    method = (
        Guidance(method="unguided")
        if scale is None
        else Guidance.model_construct(method="cfg", parameters={"guidance_scale": scale})
    )
    latents, _ = sampling.sample(batch, guidance.bind(method), SEED, range(len(PROMPTS)))
    return latents, model.decode(latents)


def run_pipeline(model: Any, folder: Path, sampler: str, scale: float, **given: Any) -> torch.Tensor:
    """Latents (or what `output_type` says) of the family's own pipeline from the same noise, by the same scheduler."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = schedulers.build(Diffusion(sampler=sampler, steps=STEPS), model.schedule)
    latents = torch.from_numpy(noise.initial(SEED, range(len(PROMPTS)), model.latent_shape)).float()
    step_noise = noise.StepNoise(SEED, range(len(PROMPTS)))
    with sampling._noise_from(pipeline.scheduler, step_noise):
        result = pipeline(
            list(PROMPTS),
            num_inference_steps=STEPS,
            guidance_scale=scale,
            latents=latents,
            **{"output_type": "latent", **given},
        )
    return torch.as_tensor(result.images)


PAIRS = [(family, sampler) for family in FAMILIES for sampler in COMMON_SAMPLERS]


@pytest.mark.parametrize(("family", "sampler"), PAIRS)
def test_our_loop_equals_the_familys_own_pipeline(
    family: str, sampler: str, folders: dict[str, Path], models: dict[str, Any], tmp_path: Path
) -> None:
    ours, _ = draw(models[family], tmp_path, sampler, 5.0)
    theirs = run_pipeline(models[family], folders[family], sampler, 5.0)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoded_images_are_the_pipelines(
    family: str, folders: dict[str, Path], models: dict[str, Any], tmp_path: Path
) -> None:
    _, ours = draw(models[family], tmp_path, "ddim", 5.0)
    theirs = run_pipeline(models[family], folders[family], "ddim", 5.0, output_type="pt")
    assert ours.dtype == np.uint8 and ours.shape == tuple(theirs.shape)
    assert np.abs(ours - 255 * theirs.numpy()).max() < 0.51
