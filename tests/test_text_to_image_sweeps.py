"""Every family from a local folder to tables and figures, offline; and the experiments that come along are planned."""

import csv
import json
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfgbench.errors import InputError
from cfgbench.planning import experiment, plan
from cfgbench.reading import report
from cfgbench.records import CellRecord
from cfgbench.registry import MODELS, resolve
from cfgbench.running import runner
from cfgbench.running.pool import Done, Job
from cfgbench.store import Store
from tests import picture_plugin, tiny_encoders, tiny_pipelines

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FAMILIES = tuple(tiny_pipelines.BUILDERS)
SETTINGS: dict[str, dict[str, Any]] = {"flux": {"height": 16, "width": 16}}
PROMPTS = [f"{number} red foxes" for number in range(20)]


class Here:
    """Carries jobs out in this process, one after the other."""

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        while queue:
            job = queue.popleft()
            yield Done(job.key, resolve(job.target)(*job.arguments), None)

    def close(self) -> None: ...


class Silence:
    """No progress is shown."""

    def begin(self, samples: int, done: int) -> None: ...
    def drawn(self, samples: int) -> None: ...
    def finished(self, record: CellRecord) -> None: ...
    def stage(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every family's tiny pipeline, saved."""
    home = tmp_path_factory.mktemp("pipelines")
    return {family: tiny_pipelines.save(family, home / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoders.save_clip(tmp_path_factory.mktemp("clip"))


def sweep(family: str, folder: Path, home: Path) -> experiment.Experiment:
    """Two scales of a family at 20 prompts, two pictures each."""
    (home / "prompts.jsonl").write_text("\n".join(f'{{"id": {i}, "text": "{text}"}}' for i, text in enumerate(PROMPTS)))
    body: dict[str, Any] = {
        "name": family,
        "num_samples": 40,
        "batch_size": 10,
        "prompts": {"file": "prompts.jsonl", "column": "text"},
        "metrics": ["fid", "clip_score"],
        "encoder": "tests.picture_plugin:ENCODER",
        "reference": "tests.picture_plugin:REFERENCE",
        "common": {"model": {"name": family, **tiny_pipelines.location(family, folder), **SETTINGS.get(family, {})}},
        "sweeps": [{"sampler": "euler", "steps": 2, "guidance_scale": [1, 4]}],
        "profile": {"batch_sizes": [2], "repeats": 3},
    }
    return experiment.parse(body, str(home / "x.yaml"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_local_folder_becomes_scores_speed_tables_and_figures(
    family: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(picture_plugin.CLIP_FILE, str(picture_plugin.save_clip(tmp_path / "clip.pt")))
    made = plan.plan(sweep(family, folders[family], tmp_path))
    results = tmp_path / "results"
    outcome = runner.run(made, runner.Options(results), Silence(), Here())
    assert outcome.computed == 2 and not outcome.failed and not outcome.untimed
    report.build(results)
    rows = rows_of(results / "results.csv")
    assert [(row["status"], float(row["guidance_scale"]), float(row["nfe"])) for row in rows] == [
        ("done", 1.0, 2.0),
        ("done", 4.0, 4.0),
    ]
    assert rows[0]["fid"] != rows[1]["fid"] and rows[0]["clip_score"] != rows[1]["clip_score"]
    assert all(float(row[name]) > 0 for row in rows for name in ("fid_se", "clip_score_se"))
    assert {float(row["nfe"]) for row in rows_of(results / "speed.csv")} == {2.0, 4.0}
    figures = {file.stem for file in (results / "figures").iterdir()}
    assert (results / "report.html").exists() and {"quality_vs_scale", "quality_tradeoff"} <= figures
    assert not runner.run(made, runner.Options(results), Silence(), Here()).computed
    blocks = [Store(results).block(made.tasks[0].cell.id, start) for start in (0, 20)]
    for block in blocks:  # a score for each prompt, in order
        assert block is not None and block["clip_scores"].shape == (20,)
        assert list(block["labels"]) == list(range(20))


ENCODERS = {"dinov2": ["fd_dinov2", "kd_dinov2"], "inception": ["fid", "kid", "inception_score"]}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("network", ["dinov2", pytest.param("inception", marks=pytest.mark.slow)])
def test_a_sweep_is_scored_by_the_networks_of_the_field_against_pictures_on_the_disk(
    network: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = {"dinov2": tiny_encoders.save_dinov2, "inception": tiny_encoders.save_inception}[network]
    (tmp_path / "photos").mkdir()
    for i, colours in enumerate(np.random.default_rng(0).integers(0, 256, (30, 3, 5, 3)).astype(np.uint8)):
        Image.fromarray(colours).resize((50 + i, 40)).save(tmp_path / "photos" / f"{i}.jpg")
    changes = {
        "encoder": [
            {"name": network, "path": str(weights(tmp_path / "weights"))},
            {"name": "clip", "path": str(tiny_encoders.save_clip(tmp_path / "clip"))},
        ],
        "reference": {"path": "photos", "size": 32, "crop": "center"},
        "metrics": [*ENCODERS[network], "fd_clip", "clip_score"],
        "protocol": "coco5k_mlperf",
    }
    base = sweep("sd3", folders["sd3"], tmp_path)
    asked = experiment.parse({**base.model_dump(exclude_none=True), **changes}, base.source)
    results, made = tmp_path / "results", plan.plan(asked)
    assert any("30 pictures of 32x32 (center bicubic 32)" in note for note in made.notes)
    assert not runner.run(made, runner.Options(results), Silence(), Here()).failed
    report.build(results)
    rows = rows_of(results / "results.csv")
    for metric in changes["metrics"]:
        assert rows[0][metric] != rows[1][metric] and float(rows[0][metric]) == float(rows[0][metric])
    said = {row["column"]: json.loads(row["definition"]) for row in rows_of(results / "identities.csv")}
    assert said["fd_clip"]["encoder"] == "clip" and said["fd_clip"]["reference_count"] == 30
    assert said[ENCODERS[network][0]]["encoder_digest"] != said["fd_clip"]["encoder_digest"]
    assert (results / "figures" / "quality_vs_scale.png").exists()
    reasons = [row["reasons"] for row in rows_of(results / "protocol.csv")]
    assert any("guidance_scale = 4, the protocol has 8" in reason for reason in reasons)
    assert not runner.run(made, runner.Options(results), Silence(), Here()).computed


PLANNED = [
    ("sd15", "stable_diffusion", 59),
    ("sdxl", "sdxl", 28),
    ("sd3", "sd3", 34),
    ("flux", "flux", 18),
    ("pixart", "pixart", 20),
    ("sana", "sana", 18),
    ("kandinsky22", "kandinsky22", 48),
]


@pytest.mark.parametrize(("name", "family", "cells"), PLANNED)
def test_the_experiment_of_a_family_is_planned_once_its_weights_are_there(
    name: str, family: str, cells: int, folders: dict[str, Path], clip: Path
) -> None:
    places = tiny_pipelines.location(family, folders[family])
    overrides = [f"common.model.{key}={value}" for key, value in places.items()]
    overrides.append(f"encoder={{name: clip, path: {clip}}}")
    loaded = experiment.load(EXPERIMENTS / f"{name}.yaml", overrides)
    tasks = plan.plan(loaded).tasks
    assert len(tasks) == cells and {task.cell.model.name for task in tasks} == {family}
    assert all(task.num_samples % (plan.NUM_GROUPS * task.num_classes) == 0 for task in tasks)
    assert all([score.column for score in task.scores] == ["clip_score"] for task in tasks)


@pytest.mark.parametrize(("family", "scale"), [("flux", "embedded_guidance"), ("kandinsky22", "prior_scale")])
def test_a_scale_of_the_models_own_is_known_at_its_default_and_timed_once(
    family: str, scale: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    asked = sweep(family, folders[family], tmp_path)
    own = [MODELS[family].parameters[scale].default, 2.0]
    sweeps = [{**asked.sweeps[0], scale: own}]
    made = plan.plan(experiment.parse({**asked.model_dump(exclude_none=True), "sweeps": sweeps}, asked.source))
    assert [task.cell.model.scales[scale] for task in made.tasks] == [*own, *own]
    assert len({task.cell.cost_class for task in made.tasks}) == 2


def test_whatever_stands_for_no_prompt_the_unguided_cell_is_one(folders: dict[str, Path], tmp_path: Path) -> None:
    base = sweep("sdxl", folders["sdxl"], tmp_path).model_dump(exclude_none=True)
    common = {**base["common"], "sampler": "euler", "steps": 2, "guidance_scale": [0, 1, 4]}
    told = [{"unconditional": ["zeros", "empty"]}, {"negative_prompt": ["blurry", "dark"]}]
    made = plan.plan(experiment.parse({**base, "common": common, "sweeps": told}, str(tmp_path / "x.yaml")))
    methods = Counter(task.cell.guidance.method for task in made.tasks)
    assert methods == {"unguided": 1, "unconditional": 4, "cfg": 4}
    both = [{"unconditional": "zeros", "negative_prompt": "blurry"}]
    with pytest.raises(InputError, match="negative_prompt replaces `unconditional: zeros`"):
        plan.plan(experiment.parse({**base, "common": common, "sweeps": both}, str(tmp_path / "x.yaml")))


def test_every_family_has_its_experiment() -> None:
    prompted = {name for name, entry in MODELS.items() if entry.prompted and entry.family != "pipeline"}
    assert prompted == {family for _, family, _ in PLANNED}


def test_the_experiment_on_coco_has_the_settings_of_its_protocol(
    folders: dict[str, Path], clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "captions.tsv").write_text("id\tcaption\n" + "".join(f"{i}\t{i} red foxes\n" for i in range(5000)))
    (tmp_path / "inception.pth").write_bytes(b"weights")
    np.savez(tmp_path / "val2014.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    encoders = [{"name": "inception", "path": str(tmp_path / "inception.pth")}]
    encoders.append({"name": "clip", "model": "ViT-B-32", "path": str(clip / "open_clip_model.safetensors")})
    overrides = {
        "common.model.path": folders["sdxl"],
        "prompts.file": tmp_path / "captions.tsv",
        "encoder": json.dumps(encoders),
        "reference": tmp_path / "val2014.npz",
    }
    loaded = experiment.load(EXPERIMENTS / "sdxl_coco5k.yaml", [f"{key}={value}" for key, value in overrides.items()])
    made = plan.plan(loaded)
    assert len(made.tasks) == 8
    (note,) = [note for note in made.notes if note.startswith("protocol")]
    assert (
        "0 of 16 scores can be compared" in note
    )  # the checkpoint and its encoders are small ones, with random weights
    assert "height = 16" in note and "guidance_scale is another than 8 (14)" in note
