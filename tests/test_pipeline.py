"""Any diffusers pipeline runs as it is: the pictures of a direct call, with its denoiser's passes counted."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from cfgbench.assets.prompts import Prompts
from cfgbench.errors import InputError
from cfgbench.models import pipeline
from cfgbench.planning import experiment, plan
from cfgbench.reading import report
from cfgbench.running import runner
from tests import tiny_pipelines
from tests.test_text_to_image_sweeps import Here, Silence, rows_of

PROMPTS = ("a red fox", "two boats at sea")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL, for which there is an adapter too."""
    return tiny_pipelines.save("sdxl", tmp_path_factory.mktemp("pipeline") / "tiny")


def sweep(folder: Path, home: Path, **fields: Any) -> experiment.Experiment:
    (home / "prompts.txt").write_text("\n".join(f"{number} red foxes" for number in range(20)))
    model = {"name": "pipeline", "path": str(folder), "num_inference_steps": 2, "height": 16, "width": 16}
    body: dict[str, Any] = {
        "name": "x",
        "num_samples": 20,
        "batch_size": 10,
        "prompts": "prompts.txt",
        "sweeps": [{"model": model, "method": "pipeline_cfg", "guidance_scale": [1, 4], **fields}],
        "profile": {"batch_sizes": [2], "repeats": 3},
    }
    return experiment.parse(body, str(home / "x.yaml"))


def test_a_batch_is_the_pipelines_own(folder: Path, tmp_path: Path) -> None:
    model = pipeline.load(str(folder)).configured(num_inference_steps=3)
    condition = model.text_conditions(Prompts(PROMPTS, PROMPTS, tmp_path, 7, (0, 1)))["cond"]
    first, second = condition["seeds"]
    assert second == first + 1
    ours = model.predict(torch.zeros(2, 0), None, {**condition, "guidance_scale": 4.0})  # type: ignore[arg-type]
    assert model.evaluations_inside(2) == 6
    own = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    own.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in condition["seeds"]]
    theirs = own(list(PROMPTS), guidance_scale=4.0, num_inference_steps=3, generator=generators, output_type="np")
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), theirs.images, atol=1e-6)
    assert np.abs(model.decode(ours) / 255 - ours.numpy()).max() <= 0.5 / 255 + 1e-6


def test_a_sample_does_not_depend_on_its_batch(folder: Path, tmp_path: Path) -> None:
    model = pipeline.load(str(folder)).configured(num_inference_steps=2)
    both = model.text_conditions(Prompts(PROMPTS, PROMPTS, tmp_path, 7, (4, 5)))["cond"]
    alone = model.text_conditions(Prompts(PROMPTS[1:], PROMPTS, tmp_path, 7, (5,)))["cond"]
    level: Any = None
    together = model.predict(torch.zeros(2, 0), level, {**both, "guidance_scale": 4.0})
    single = model.predict(torch.zeros(1, 0), level, {**alone, "guidance_scale": 4.0})
    assert (together[1:] - single).abs().max() < 1e-4


def test_a_sweep_of_a_pipeline_ends_in_tables_with_the_passes_it_made(folder: Path, tmp_path: Path) -> None:
    made = plan.plan(sweep(folder, tmp_path))
    assert [task.cell.evaluations for task in made.tasks] == [2, 4]
    results = tmp_path / "results"
    outcome = runner.run(made, runner.Options(results), Silence(), Here())
    assert outcome.computed == 2 and not outcome.failed and not outcome.untimed
    report.build(results)
    rows = rows_of(results / "results.csv")
    assert [(row["status"], float(row["guidance_scale"]), float(row["nfe"])) for row in rows] == [
        ("done", 1.0, 2.0),
        ("done", 4.0, 4.0),
    ]
    assert [float(row["nfe"]) for row in rows_of(results / "speed.csv")] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "cfg"}, "method 'cfg' is not one for model pipeline; allowed: pipeline_cfg, pipeline_unguided"),
        ({"guidance_scale": 0.5}, "needs a number >= 1"),
        ({"sampler": "euler"}, "takes no sampler"),
    ],
)
def test_what_a_pipeline_cannot_do_is_refused(
    fields: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        plan.plan(sweep(folder, tmp_path, **fields))


def test_a_part_that_the_checkpoint_leaves_out_is_not_missed(tmp_path: Path) -> None:
    loaded = pipeline.load(str(tiny_pipelines.save("sd3_without_t5", tmp_path / "sd3")))
    assert loaded.pipeline.text_encoder_3 is None


def test_a_pipeline_that_does_not_take_a_setting_says_so(folder: Path) -> None:
    loaded = pipeline.load(str(folder))
    with pytest.raises(ValueError, match="StableDiffusionXLPipeline takes no loudness"):
        loaded.configured(loudness=3)
