"""Our loop is diffusers' own on class-conditional checkpoints, checked on tiny random networks, offline."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from cfgbench import store
from cfgbench.cell import Diffusion, Guidance
from cfgbench.errors import InputError
from cfgbench.generation import guidance, noise, precision, sampling, schedulers
from cfgbench.models.class_conditional import load_dit, load_unet2d
from cfgbench.planning import experiment, plan
from cfgbench.running import worker
from tests import tiny_pipelines
from tests.conftest import COMMON_SAMPLERS, make_batch

LABELS = np.array([3, 0, 1])
STEPS, SEED, SCALE = 4, 3, 3.0
NULL = 2  # of the U-Net's five labels


def dit() -> Any:
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=1000,  # the pipeline takes 1000 for the null label, whatever this is
    )
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False)
    return diffusers.DiTPipeline(transformer=network, vae=tiny_pipelines._vae(), scheduler=scheduler)


def unet2d(clip_sample: bool = False, classes: int | None = 5) -> Any:
    network = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=2,
        num_class_embeds=classes,
    )
    return diffusers.DDPMPipeline(unet=network, scheduler=diffusers.DDPMScheduler(clip_sample=clip_sample))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("pipelines")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, pipeline in (
            ("dit", dit()),
            ("unet2d", unet2d()),
            ("clipped", unet2d(True)),
            ("none", unet2d(classes=None)),
        ):
            pipeline.save_pretrained(home / name)
    return {path.name: path for path in home.iterdir()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        "dit": load_dit(str(folders["dit"])),
        "unet2d": load_unet2d(str(folders["unet2d"]), null_class=NULL),
        "clipped": load_unet2d(str(folders["clipped"]), null_class=NULL),
    }


def draw(model: Any, sampler: str, method: str = "cfg", steps: int = STEPS, **parameters: Any) -> Tensor:
    batch = make_batch(model, sampler, steps, LABELS, dtype=torch.float32, state_dtype=torch.float32)
    guided = Guidance.model_construct(method=method, parameters=parameters)
    return sampling.sample(batch, guidance.bind(guided), SEED, range(len(LABELS)))[0]


@contextmanager
def noise_from(*modules: Any, draws: Iterator[np.ndarray]) -> Iterator[None]:
    """diffusers' `randn_tensor` in these modules gives the next noise of the samples, for a doubled batch twice."""

    def given(shape: Sequence[int], **_: Any) -> Tensor:
        once = torch.from_numpy(next(draws)).float()
        return once if len(once) == shape[0] else torch.cat([once, once])

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "randn_tensor", given, raising=False)
        yield


def noises(first: np.ndarray) -> Iterator[np.ndarray]:
    fresh = noise.StepNoise(SEED, range(len(LABELS)))
    yield first
    while True:
        yield fresh.draw(first.shape[1:])


def run_pipeline(folder: Path, scheduler: Any, shape: tuple[int, ...]) -> Tensor:
    """Latents of diffusers' own DiT pipeline."""
    pipeline = diffusers.DiTPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler
    latents: list[Tensor] = []
    pipeline.vae.decode = lambda z: (latents.append(z), SimpleNamespace(sample=z))[1]
    modules = (sys.modules[type(pipeline).__module__], sys.modules[type(scheduler).__module__])
    with noise_from(*modules, draws=noises(noise.initial(SEED, range(len(LABELS)), shape))):
        pipeline(LABELS.tolist(), guidance_scale=SCALE, num_inference_steps=STEPS, output_type="pt")
    return latents[0] * pipeline.vae.config.scaling_factor


def run_loop(network: Any, labels: tuple[Tensor, Tensor], scheduler: Any, shape: tuple[int, ...]) -> Tensor:
    """Samples by the loop that everyone writes, given the labels of the classes and those of no class."""
    draws = noises(noise.initial(SEED, range(len(LABELS)), shape))
    x = torch.from_numpy(next(draws)).float() * scheduler.init_noise_sigma
    with torch.no_grad(), noise_from(sys.modules[type(scheduler).__module__], draws=draws):
        for t in scheduler.timesteps:
            given = scheduler.scale_model_input(x, t)
            cond, uncond = (
                network(given, timestep=t.expand(len(x)), class_labels=label).sample[:, : shape[0]] for label in labels
            )
            x = scheduler.step(uncond + SCALE * (cond - uncond), t, x).prev_sample
    return x


def run_diffusers(family: str, folder: Path, scheduler: Any, shape: tuple[int, ...]) -> Tensor:
    """By the pipeline where it is right: DiT's hands the scaled input to `step`, which some schedulers do not mean.

    Class-conditional U-Nets have no pipeline.
    """
    if family == "dit" and scheduler.init_noise_sigma == 1:
        return run_pipeline(folder, scheduler, shape)
    cond = torch.from_numpy(LABELS)
    if family == "dit":
        network = diffusers.DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer")
        return run_loop(network, (cond, torch.full_like(cond, 1000)), scheduler, shape)
    network = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet")
    return run_loop(network, (cond + (cond >= NULL), torch.full_like(cond, NULL)), scheduler, shape)


@pytest.mark.parametrize("sampler", COMMON_SAMPLERS)
@pytest.mark.parametrize("family", ["dit", "unet2d", "clipped"])
def test_our_loop_equals_diffusers(family: str, sampler: str, folders: dict[str, Path], models: dict[str, Any]) -> None:
    model = models[family]
    scheduler = schedulers.build(Diffusion(sampler=sampler, steps=STEPS), model.schedule)
    theirs = run_diffusers(family, folders[family], scheduler, model.latent_shape)
    ours = draw(model, sampler, guidance_scale=SCALE)
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max().clamp(min=1)


def test_decoded_images_are_the_pipelines(folders: dict[str, Path], models: dict[str, Any]) -> None:
    latents = draw(models["dit"], "ddim", guidance_scale=SCALE)
    vae = diffusers.AutoencoderKL.from_pretrained(folders["dit"], subfolder="vae")
    with torch.no_grad():
        theirs = (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    ours = models["dit"].decode(latents)
    assert ours.dtype == np.uint8 and np.abs(ours - 255 * theirs.numpy()).max() < 0.51


@pytest.mark.parametrize("family", ["dit", "unet2d"])
def test_scale_one_is_conditional_scales_below_are_real_and_the_first_step_is_affine(
    family: str, models: dict[str, Any]
) -> None:
    model = models[family]
    batch = make_batch(model, "ddim", STEPS, LABELS, dtype=torch.float32, state_dtype=torch.float64)

    def first(method: str, **parameters: Any) -> Tensor:
        guided = Guidance.model_construct(method=method, parameters=parameters)
        with torch.no_grad():
            return guidance.bind(guided)(sampling.Step(sampling.start(batch, 0, range(3)), batch))

    at = {scale: first("cfg", guidance_scale=scale) for scale in (0, 0.5, 1, 3)}
    torch.testing.assert_close(at[1], first("unguided"), rtol=0, atol=1e-12)
    torch.testing.assert_close(at[0], first("unconditional"), rtol=0, atol=1e-12)
    assert all((at[scale] - at[1]).abs().max() > 1e-4 for scale in (0, 0.5))
    torch.testing.assert_close(at[3] - at[1], 4 * (at[1] - at[0.5]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(at[0.5], (at[0] + at[1]) / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["dit", "unet2d"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_in_half_precision_samples_are_nearly_those_in_full(family: str, dtype: str, folders: dict[str, Path]) -> None:
    load: Any = load_dit if family == "dit" else partial(load_unet2d, null_class=NULL)

    def sample(dtype: str) -> Tensor:
        model = load(str(folders[family]))
        precision.apply(model.networks, dtype)
        batch = make_batch(model, "euler", 3, LABELS, dtype=precision.TORCH[dtype], state_dtype=torch.float32)
        guided = Guidance(method="cfg", parameters={"guidance_scale": 2.0})
        latents, _ = sampling.sample(batch, guidance.bind(guided), SEED, range(len(LABELS)))
        assert model.decode(latents).dtype == np.uint8
        return latents

    whole, half = sample("fp32"), sample(dtype)
    assert 0 < (whole - half).abs().mean() < 0.1 * whole.abs().mean()


def test_three_guided_channels_are_what_dits_own_code_guides(models: dict[str, Any]) -> None:
    model = models["dit"]
    batch = make_batch(model, "ddim", STEPS, LABELS, dtype=torch.float32, state_dtype=torch.float32)
    step = sampling.Step(sampling.start(batch, 0, range(3)), batch)
    guided = Guidance.model_construct(method="cfg", parameters={"guidance_scale": SCALE, "guided_channels": 3})
    with torch.no_grad():
        ours = guidance.bind(guided)(step)
        twice, labels = torch.cat([step.x, step.x]), torch.cat([torch.from_numpy(LABELS), torch.full((3,), 1000)])
        output = model.networks["main"](twice, step.timestep.expand(6), class_labels=labels).sample
        cond, uncond = output[:, :3].chunk(2)
        theirs = torch.cat([uncond + SCALE * (cond - uncond), output[:3, 3:4]], dim=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (draw(model, "ddim", guidance_scale=0.0, guided_channels=3) != draw(model, "ddim", "unconditional")).any()


def test_the_learned_variance_is_used_by_the_sampler_that_reads_it_alone(models: dict[str, Any]) -> None:
    learned, fixed, ddim = (draw(models["dit"], name, guidance_scale=2.0) for name in ("ddpm_learned", "ddpm", "ddim"))
    assert (learned - fixed).abs().max() > 1e-3 and torch.isfinite(ddim).all()


def planned(folder: Path, name: str = "unet2d", num_samples: int = 100, **axes: Any) -> plan.Plan:
    keys = [key for key in ("null_class", "revision") if key in axes]
    model = {"name": name, "path": str(folder), **{key: axes.pop(key) for key in keys}}
    scale = {} if "method" in axes else {"guidance_scale": 2}
    sweep = {"model": model, "sampler": "ddim", "steps": 2, **scale, **axes}
    return plan.plan(experiment.parse({"name": "x", "num_samples": num_samples, "sweeps": [sweep]}, "x.yaml"))


def test_checkpoints_are_planned_with_their_classes(folders: dict[str, Path]) -> None:
    with_null = planned(folders["unet2d"], null_class=NULL)
    without = planned(folders["unet2d"], method="unguided")
    assert (with_null.tasks[0].num_classes, without.tasks[0].num_classes) == (4, 5)
    assert "label 2 stands for no class" in with_null.notes[0]
    dit_plan = planned(folders["dit"], "dit", 1000, timestep_spacing=["trailing", "leading"])
    assert [task.num_classes for task in dit_plan.tasks] == [1000, 1000]


def refused(*arguments: Any, **axes: Any) -> str:
    with pytest.raises(InputError) as error:
        planned(*arguments, **axes)
    return str(error.value)


def test_what_a_checkpoint_lacks_is_refused_when_planning(folders: dict[str, Path], tmp_path: Path) -> None:
    assert "by `null_class`" in refused(folders["unet2d"])
    assert "the labels of" in refused(folders["unet2d"], null_class=5)
    assert "has no class embeddings" in refused(folders["none"])
    assert "predicts no variance" in refused(folders["unet2d"], null_class=NULL, sampler="ddpm_learned")
    assert "needs a classifier network" in refused(folders["dit"], "dit", method="classifier", classifier_scale=1)
    assert "write `model: {name: dit, path: ...}`" in refused(folders["dit"])
    assert "there is no folder" in refused(tmp_path / "none", "dit")


def test_a_checkpoint_is_swept(folders: dict[str, Path], tmp_path: Path) -> None:
    model = {"name": "unet2d", "path": str(folders["unet2d"]), "null_class": NULL}
    sweep = {"model": model, "sampler": "ddim", "steps": 2, "guidance_scale": [0, 1, 2], "timestep_spacing": "trailing"}
    body = {"name": "x", "num_samples": 100, "batch_size": 50, "sweeps": [sweep]}
    (tmp_path / "x.yaml").write_text(json.dumps(body))
    seen = set()
    for task in plan.plan(experiment.load(tmp_path / "x.yaml")).tasks:
        worker.draw_block(task, 0, tmp_path, "cpu")
        block = store.Store(tmp_path).block(task.cell.id, 0)
        assert block is not None and not block["nan"].any()
        assert worker.score_cell(task, tmp_path, "cpu")  # no encoder, so no scores
        seen.add(block["pixels"].tobytes())
    assert len(seen) == 3
