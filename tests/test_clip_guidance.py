"""Guidance by a CLIP: its gradient is right, off means off, what it costs is counted, and it never scores its arm."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cfgbench.assets import clip_models
from cfgbench.assets.prompts import Prompts
from cfgbench.cell import Diffusion, Guidance
from cfgbench.errors import InputError
from cfgbench.generation import guidance, sampling
from cfgbench.planning import experiment, plan
from cfgbench.reading import report
from cfgbench.registry import MODELS, resolve
from cfgbench.running import runner
from cfgbench.store import Store
from tests import tiny_encoders, tiny_pipelines
from tests.test_text_to_image_sweeps import Here, Silence, rows_of

PROMPTS = ("a red fox", "two boats at sea")
FAMILIES = [name for name, entry in MODELS.items() if "guide" in entry.networks]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("pipelines")
    return {family: tiny_pipelines.save(family, home / family) for family in FAMILIES}


def batch_of(family: str, folder: Path, clip: Path, cache: Path, dtype: torch.dtype = torch.float32) -> sampling.Batch:
    """The prompts as a batch of a family's model, guided by a CLIP."""
    loaded: Any = resolve(MODELS[family].target)(**tiny_pipelines.location(family, folder), dtype=dtype)
    model = loaded.configured(guide=str(clip)).with_guide()
    prompts = Prompts(PROMPTS, PROMPTS, cache, 0, (0, 1))
    conditions = {**model.text_conditions(prompts), "guide": model.guide_condition(prompts)}
    diffusion = Diffusion(sampler="ddim", steps=4)
    return sampling.Batch(model, diffusion, conditions, torch.arange(2), dtype, dtype)


def draw(batch: sampling.Batch, method: str, **parameters: float) -> tuple[torch.Tensor, sampling.Counts]:
    chosen = Guidance.model_construct(method=method, parameters=parameters)
    return sampling.sample(batch, guidance.bind(chosen), 0, range(2))


def logits(batch: sampling.Batch, latents: torch.Tensor) -> torch.Tensor:
    """CLIP's logits (2,) of clean latents and their prompts, by its own preparation but for the rounding to pixels."""
    model: Any = batch.model
    network = model.networks["guide"]
    with torch.no_grad():
        pictures = torch.cat([model.picture(part[None]) for part in latents])
        seen = clip_models.prepared(model._clip, (pictures.float() / 2 + 0.5).clamp(0, 1))
        vectors = network.encode_image(seen, normalize=True)
        found: torch.Tensor = network.logit_scale.exp() * (vectors * batch.conditions["guide"]).sum(dim=1)
    return found


def step_of(batch: sampling.Batch, at: int = 2) -> sampling.Step:
    """A step in the middle, where nothing is guided before."""
    with torch.no_grad():
        trajectory = sampling.start(batch, 0, range(2))
        sampling.advance(trajectory, batch, guidance.unguided, at)
        return sampling.Step(trajectory, batch)


def slope(of: Any, x: torch.Tensor, direction: torch.Tensor, width: float) -> float:
    """The central difference of a function of x along a direction."""
    with torch.no_grad():
        return float((of(x + width * direction) - of(x - width * direction)).sum() / (2 * width))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("through", [False, True])
def test_the_score_is_the_gradient_that_differences_show(
    family: str, through: bool, folders: dict[str, Path], clip: Path, tmp_path: Path
) -> None:
    batch = batch_of(family, folders[family], clip, tmp_path)
    step = step_of(batch)
    with torch.no_grad():
        held = step.predict("cond")
        prediction, score = step.predict_with_guide_score("cond") if through else (held, step.guide_score(held))
    torch.testing.assert_close(prediction, held)
    direction = score / score.norm()

    def reached(x: torch.Tensor) -> torch.Tensor:
        made = step.predict(sampling.Request("cond", x=x)) if through else held
        return logits(batch, step.denoised(made, x))

    assert slope(reached, step.x, direction, 0.02) == pytest.approx(float(score.norm()), rel=0.02)
    aside = torch.randn(score.shape, generator=torch.Generator().manual_seed(1))
    aside = aside - (aside * direction).sum() * direction
    assert abs(slope(reached, step.x, aside / aside.norm(), 0.02)) < 0.1 * float(score.norm())


def test_off_is_off_and_stronger_is_nearer_to_the_prompts(folders: dict[str, Path], clip: Path, tmp_path: Path) -> None:
    batch = batch_of("stable_diffusion", folders["stable_diffusion"], clip, tmp_path)
    plain, _ = draw(batch, "unguided")
    for method in ("clip", "universal"):
        off, _ = draw(batch, method, clip_scale=0.0)
        torch.testing.assert_close(off, plain, rtol=0, atol=1e-6)
        reached = [float(logits(batch, draw(batch, method, clip_scale=scale)[0]).mean()) for scale in (0.0, 5.0, 20.0)]
        assert reached[0] < reached[1] < reached[2]
    (one, _), (other, _) = (draw(batch, method, clip_scale=5.0) for method in ("clip", "universal"))
    assert (one - other).abs().max() > 1e-4


def test_passes_forward_and_back_are_counted(folders: dict[str, Path], clip: Path, tmp_path: Path) -> None:
    batch = batch_of("stable_diffusion", folders["stable_diffusion"], clip, tmp_path)
    counts = {method: draw(batch, method, clip_scale=2.0)[1] for method in ("clip", "universal")}
    assert (counts["clip"].nfe, counts["clip"].classifier) == (4, 4)
    assert (counts["universal"].nfe, counts["universal"].classifier) == (8, 4)


def test_a_picture_is_prepared_for_the_guide_as_open_clip_prepares_it(clip: Path) -> None:
    from PIL import Image

    loaded = clip_models.load(path=str(clip))
    for shape in ((64, 64), (48, 80), (90, 40)):
        pixels = np.random.default_rng(0).integers(0, 256, (shape[0] // 8, shape[1] // 8, 3)).astype(np.uint8)
        picture = Image.fromarray(pixels).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
        theirs = loaded.prepare(picture)
        tensor = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
        difference = (clip_models.prepared(loaded, tensor)[0] - theirs).abs() * torch.tensor(loaded.std).view(3, 1, 1)
        assert difference.max() < 2 / 255  # theirs rounds to whole levels after resizing


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ViT-B-32", {"model": "ViT-B-32"}),
        ("ViT-B-32/laion2b_s34b_b79k", {"model": "ViT-B-32", "pretrained": "laion2b_s34b_b79k"}),
        ("owner/name", {"path": "owner/name"}),
    ],
)
def test_a_clip_is_one_word(text: str, parsed: dict[str, str]) -> None:
    assert clip_models.parse(text) == parsed


def body(folder: Path, guide: Path | str | None, scorer: Path, home: Path) -> experiment.Experiment:
    (home / "prompts.txt").write_text("\n".join(f"{i} red foxes" for i in range(20)))
    model = {"name": "stable_diffusion", "path": str(folder)} | ({} if guide is None else {"guide": str(guide)})
    return experiment.parse(
        {
            "name": "guided",
            "num_samples": 20,
            "batch_size": 10,
            "prompts": "prompts.txt",
            "encoder": {"name": "clip", "path": str(scorer)},
            "metrics": ["clip_score"],
            "common": {"model": model, "sampler": "ddim", "steps": 2},
            "sweeps": [
                {"method": "cfg", "guidance_scale": [1, 3]},
                {"method": ["clip", "universal"], "clip_scale": [0, 2]},
            ],
            "profile": {"batch_sizes": [1], "repeats": 3},
        },
        str(home / "x.yaml"),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_cfg_and_clip_guidance_meet_in_one_experiment_and_the_guide_scores_no_arm_of_its_own(
    folders: dict[str, Path], clip: Path, tmp_path: Path
) -> None:
    other = tiny_encoders.save_clip(tmp_path / "other", seed=1)
    pickled = Path(shutil.copytree(clip, tmp_path / "pickled"))  # the guide's tensors in another container
    torch.save(load_file(pickled / "open_clip_model.safetensors"), pickled / "open_clip_pytorch_model.bin")
    (pickled / "open_clip_model.safetensors").unlink()
    for scorer, columns in (
        (other, {"cfg": 1, "clip": 1, "universal": 1}),
        (clip, {"cfg": 1, "clip": 0, "universal": 0}),
        (pickled, {"cfg": 1, "clip": 0, "universal": 0}),
    ):
        made = plan.plan(body(folders["stable_diffusion"], clip, scorer, tmp_path))
        results = tmp_path / f"results-{scorer.name}"
        assert [task.cell.guidance.method for task in made.tasks] == ["unguided", "cfg", "clip", "universal"]
        assert not runner.run(made, runner.Options(results), Silence(), Here()).failed
        for task in made.tasks[1:]:
            record = Store(results).cell(task.cell.id)
            assert record is not None
            assert len(record.scores) == columns[task.cell.guidance.method]
            if not record.scores:
                assert record.absent[0].reason == "the network that scores this also guided the samples"
    report.build(results)
    rows = {row["method"]: row for row in rows_of(results / "results.csv")}
    assert [float(rows[name]["nfe"]) for name in ("cfg", "clip", "universal")] == [4, 2, 4]
    assert [float(rows[name]["classifier_passes"]) for name in ("cfg", "clip", "universal")] == [0, 2, 2]
    speeds = {row["method"]: row for row in rows_of(results / "speed.csv")}
    assert float(speeds["clip"]["weights_memory_bytes"]) > float(speeds["cfg"]["weights_memory_bytes"])


def test_the_experiment_is_planned_once_its_weights_are_there(folders: dict[str, Path], clip: Path) -> None:
    overrides = {
        "common.model.path": folders["stable_diffusion"],
        "common.model.guide": clip,
        "encoder": f"{{name: clip, path: {clip}}}",
    }
    file = Path(__file__).parent.parent / "experiments" / "clip_guidance.yaml"
    made = plan.plan(experiment.load(file, [f"{key}={value}" for key, value in overrides.items()]))
    assert len(made.tasks) == 7 + 2 * 6


@pytest.mark.parametrize(
    ("guide", "sentence"),
    [
        (None, "method 'clip' needs guide, which model stable_diffusion has with its parameter 'guide' only"),
        ("ViT-B-33", "'ViT-B-33' is no CLIP: write open_clip's NAME or NAME/TAG"),
        ("ViT-B-32/openaj", "open_clip's ViT-B-32 has no pretrained tag 'openaj'"),
        ("owner/name", "owner/name is not in the hub cache"),
    ],
)
def test_a_guide_that_is_not_there_is_one_sentence(
    guide: str | None, sentence: str, folders: dict[str, Path], clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        plan.plan(body(folders["stable_diffusion"], guide, clip, tmp_path))
    assert sentence in str(raised.value) and "\n" not in str(raised.value)
