"""Our loop is each family's own pipeline, checked on tiny random networks, offline."""

import copy
import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from cfgbench.assets.layouts import FLUX
from cfgbench.assets.prompts import Prompts
from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.generation import guidance, noise, sampling, schedulers
from cfgbench.reading.recommend import deployment
from cfgbench.registry import MODELS, SAMPLERS, resolve
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
    loaded = {family: load(family, folder) for family, folder in folders.items()}
    return {family: model.configured(**SETTINGS.get(family, {})) for family, model in loaded.items()}


@pytest.fixture(scope="module")
def encodings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for encodings of prompts."""
    return tmp_path_factory.mktemp("encodings")


def load(family: str, folder: Path) -> Any:
    return resolve(MODELS[family].target)(**tiny_pipelines.location(family, folder))


def draw(model: Any, cache: Path, sampler: str, scale: float | None, **fields: Any) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and images of the prompts by our loop; without a scale, of the conditional prediction."""
    conditions = model.text_conditions(Prompts(PROMPTS, PROMPTS, cache, SEED, tuple(range(len(PROMPTS)))))
    diffusion = Diffusion(sampler=sampler, steps=fields.pop("steps", STEPS))
    labels, until = torch.arange(len(PROMPTS)), fields.pop("until", None)
    batch = sampling.Batch(model, diffusion, conditions, labels, torch.float32, torch.float32, **fields)
    method = (
        Guidance(method="unguided")
        if scale is None
        else Guidance.model_construct(method="cfg", parameters={"guidance_scale": scale})
    )
    with torch.no_grad():
        trajectory = sampling.start(batch, SEED, range(len(PROMPTS)))
        sampling.advance(trajectory, batch, guidance.bind(method), until or len(trajectory))
    return trajectory.x, model.decode(trajectory.x)


@cache
def pipeline_of(folder: Path) -> Any:
    """The family's own pipeline, with the scheduler that was saved."""
    index = json.loads((folder / "model_index.json").read_text())
    left_out = [name for name, value in index.items() if isinstance(value, list) and value[0] is None]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, **dict.fromkeys(left_out))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_pipeline(model: Any, folder: Path, sampler: str, scale: float, output_type: str = "latent") -> torch.Tensor:
    """Latents (or what `output_type` says) of the family's own pipeline from the same noise, by the same scheduler."""
    folder = Path(tiny_pipelines.location(model.layout.name, folder)["path"])
    pipeline = copy.copy(pipeline_of(folder))
    pipeline.scheduler = scheduler_for(pipeline_of(folder), model, sampler)
    latents = torch.from_numpy(noise.initial(SEED, range(len(PROMPTS)), model.latent_shape)).float()
    height, width = model.size
    given: dict[str, Any] = {"guidance_scale": scale, "latents": latents, "height": height, "width": width}
    given |= {} if model.layout.name == "kandinsky22" else {"prompt": list(PROMPTS)}
    if model.layout.name == "flux":
        packed = pipeline._pack_latents(latents, *latents.shape)
        given |= {"latents": packed, "guidance_scale": 2.5, "true_cfg_scale": scale, "negative_prompt": [""] * 2}
    if model.layout.name in ("pixart", "sana"):
        given |= {"use_resolution_binning": False, "clean_caption": False}
    if model.layout.name == "kandinsky22":
        given |= image_embeddings(folder.parent / "prior")
    step_noise = noise.StepNoise(SEED, range(len(PROMPTS)))
    with schedulers.noise_from(pipeline.scheduler, step_noise):
        images = pipeline(num_inference_steps=STEPS, output_type=output_type, **given).images
    if model.layout.name == "flux" and output_type == "latent":
        images = pipeline._unpack_latents(images, height, width, pipeline.vae_scale_factor)
    return torch.as_tensor(images)


def image_embeddings(folder: Path) -> dict[str, torch.Tensor]:
    """What the prior's own pipeline draws of our noise, at the scale and steps of PRIOR."""
    pipeline = pipeline_of(folder)
    draws = noise.StepNoise(SEED, range(len(PROMPTS)), noise.CONDITION)
    latents = torch.from_numpy(draws.draw((pipeline.prior.config.embedding_dim,))).float()
    scale, steps = PRIOR["prior_scale"], PRIOR["prior_steps"]
    with schedulers.noise_from(pipeline.scheduler, draws):
        drawn = pipeline(list(PROMPTS), guidance_scale=scale, num_inference_steps=steps, latents=latents)
    return {"image_embeds": drawn.image_embeds, "negative_image_embeds": drawn.negative_image_embeds}


def scheduler_for(pipeline: Any, model: Any, sampler: str) -> Any:
    """Ours; for a flow, what diffusers itself makes of the checkpoint's own scheduler."""
    entry = SAMPLERS[sampler]
    if model.schedule.flow is None or entry.flow is None:
        return schedulers.build(Diffusion(sampler=sampler, steps=STEPS), model.schedule)
    config = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    shift = config.get("flow_shift") or config.get("shift")
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "shift": shift, "flow_shift": shift}
    accepted = inspect.signature(resolve(entry.flow)).parameters
    ours = {key: value for key, value in {**flow, **entry.settings}.items() if key in accepted}
    return resolve(entry.flow).from_config({**config, **ours})


SCALED = {"euler", "euler_karras", "euler_ancestral", "heun", "kdpm2", "lms"}  # samplers whose x grows with sigma
NOT_IN_THEIR_PIPELINE = {
    "flux": {"heun"},  # the pipeline hands its own times to the scheduler, which takes none
    "kandinsky22": SCALED | {"unipc", "deis", "pndm"},  # it never scales x, and hands every scheduler a generator
}


def samplers_of(family: str) -> list[str]:
    """The samplers that a family's own pipeline can be run with."""
    flow = MODELS[family].family == "flow"
    learned = "learned_variance" in MODELS[family].capabilities
    suited = [name for name in SAMPLERS if (learned or name in COMMON_SAMPLERS) and (SAMPLERS[name].flow or not flow)]
    return [name for name in suited if name not in NOT_IN_THEIR_PIPELINE.get(family, ())]


PAIRS = [(family, sampler) for family in FAMILIES for sampler in samplers_of(family)]
PRIOR = {"prior_scale": 2.0, "prior_steps": 3}
SETTINGS: dict[str, dict[str, Any]] = {
    "flux": {"height": 24, "width": 16, "embedded_guidance": 2.5},
    "kandinsky22": PRIOR,
}


@pytest.mark.parametrize(("family", "sampler"), PAIRS)
def test_our_loop_equals_the_familys_own_pipeline(
    family: str, sampler: str, folders: dict[str, Path], models: dict[str, Any], encodings: Path
) -> None:
    ours, _ = draw(models[family], encodings, sampler, 5.0)
    theirs = run_pipeline(models[family], folders[family], sampler, 5.0)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max().clamp(min=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoded_images_are_the_pipelines(
    family: str, folders: dict[str, Path], models: dict[str, Any], encodings: Path
) -> None:
    _, ours = draw(models[family], encodings, "dpmpp_2m", 5.0)
    theirs = run_pipeline(models[family], folders[family], "dpmpp_2m", 5.0, "pt")
    theirs = (theirs / 2 + 0.5).clamp(0, 1) if family == "kandinsky22" else theirs  # whose pipeline leaves that out
    assert ours.dtype == np.uint8 and ours.shape == tuple(theirs.shape)
    assert np.abs(ours - 255 * theirs.numpy()).max() < 0.51


@pytest.mark.parametrize("family", FAMILIES)
def test_scales_mean_what_they_say(family: str, models: dict[str, Any], encodings: Path) -> None:
    drawn = {scale: draw(models[family], encodings, "euler", scale)[0] for scale in (0.0, 0.5, 1.0)}
    conditional, _ = draw(models[family], encodings, "euler", None)
    size = conditional.abs().max()
    assert (drawn[1.0] - conditional).abs().max() < 1e-5 * size
    for scale in (0.0, 0.5):
        assert (drawn[scale] - conditional).abs().max() > 1e-3 * size


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_step_is_affine_in_the_scale(family: str, models: dict[str, Any], encodings: Path) -> None:
    at = {scale: draw(models[family], encodings, "euler", scale, until=1)[0].double() for scale in (0.0, 1.0, 3.0)}
    expected = at[0.0] + 3 * (at[1.0] - at[0.0])
    assert (at[3.0] - expected).abs().max() < 1e-5 * at[3.0].abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_one_pass_of_both_predictions_is_two_passes(family: str, models: dict[str, Any], encodings: Path) -> None:
    apart, together = (draw(models[family], encodings, "euler", 3.0, batched=batched)[0] for batched in (False, True))
    assert (apart - together).abs().max() < 1e-4 * apart.abs().max()


def test_embedded_guidance_is_a_knob_of_its_own_that_costs_nothing(models: dict[str, Any], encodings: Path) -> None:
    model = models["flux"]
    plain, _ = draw(model, encodings, "euler", None)
    stronger, _ = draw(model.configured(embedded_guidance=7.0), encodings, "euler", None)
    guided, _ = draw(model, encodings, "euler", 2.0)
    assert (plain - stronger).abs().max() > 1e-4 and (stronger - guided).abs().max() > 1e-4


def test_the_prior_has_a_scale_of_its_own_and_draws_once_for_all_scales_of_the_decoder(
    models: dict[str, Any], tmp_path: Path
) -> None:
    model = models["kandinsky22"]
    seen = set()
    for scale in (None, 2.0, 4.0):
        draw(model, tmp_path, "euler", scale)
        seen.add(len(list(tmp_path.rglob("*-drawn.safetensors"))))
    assert seen == {1}
    weak, strong = (draw(model.configured(prior_scale=scale), tmp_path, "euler", None)[0] for scale in (1.0, 6.0))
    assert (weak - strong).abs().max() > 1e-3
    assert len(list(tmp_path.rglob("*-drawn.safetensors"))) == 3


@pytest.mark.parametrize(("family", "sampler"), [pair for pair in PAIRS if pair[0] not in ("flux", "kandinsky22")])
def test_the_scheduler_that_is_recommended_is_ours(
    family: str, sampler: str, folders: dict[str, Path], models: dict[str, Any]
) -> None:
    diffusion = Diffusion(sampler=sampler, steps=10)
    cell = Cell(model=ModelRef(name=family), guidance=Guidance(method="unguided"), diffusion=diffusion, prompts="x")
    pipe = copy.copy(pipeline_of(folders[family]))
    line = deployment.scheduler_line(cell)
    named = {name: getattr(diffusers, name) for name in re.findall(r"\w+Scheduler\b", line)}
    exec(line, {**named, "pipe": pipe})
    pipe.scheduler.set_timesteps(10)
    ours = schedulers.build(diffusion, models[family].schedule)
    assert type(pipe.scheduler) is type(ours)
    np.testing.assert_allclose(pipe.scheduler.timesteps, ours.timesteps, atol=1e-3)


def test_the_call_that_is_recommended_for_flux_names_both_knobs() -> None:
    model = ModelRef(name="flux", parameters={"embedded_guidance": 2.0, "height": 512}, location={"path": "a/b"})
    guided = Guidance(method="cfg", parameters={"guidance_scale": 3.0})
    cell = Cell(model=model, guidance=guided, diffusion=Diffusion(sampler="euler", steps=20), prompts="x")
    text = deployment.code(cell)
    compile(text, "paste", "exec")
    assert 'from_pretrained("a/b"' in text and "FlowMatchEulerDiscreteScheduler" in text
    assert 'guidance_scale=2, true_cfg_scale=3, negative_prompt="", height=512, num_inference_steps=20' in text


@pytest.mark.parametrize(("family", "variant"), [("sd3", "sd3_without_t5"), ("flux", "flux_schnell")])
def test_checkpoints_that_leave_something_out_are_their_own_pipeline_too(
    family: str, variant: str, encodings: Path, tmp_path: Path
) -> None:
    folder = tiny_pipelines.save(variant, tmp_path / variant)
    model = load(family, folder)
    model = model.configured(height=24, width=16) if family == "flux" else model
    ours, _ = draw(model, encodings, "euler", 5.0)
    theirs = run_pipeline(model, folder, "euler", 5.0)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max().clamp(min=1)


def test_embedded_guidance_is_refused_where_the_network_has_no_such_input(tmp_path: Path) -> None:
    folder = tiny_pipelines.save("flux_schnell", tmp_path / "schnell")
    assert FLUX.notes(path=str(folder)) and "embedded_guidance" in FLUX.lacks(path=str(folder))
    with pytest.raises(ValueError, match="embedded_guidance is given, and"):
        FLUX.notes(path=str(folder), embedded_guidance=1.0)
