"""Every family from a local folder to tables and figures, offline; and the experiments that come along are planned."""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfgbench import experiment, plan, report, runner
from cfgbench.pool import Done, Job
from cfgbench.records import CellRecord
from cfgbench.registry import MODELS, resolve
from cfgbench.store import Store
from tests import picture_plugin, tiny_pipelines

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
FAMILIES = tuple(tiny_pipelines.BUILDERS)
SETTINGS: dict[str, dict[str, Any]] = {"flux": {"height": 16, "width": 16}}
QUICK, SLOW = ("sd3", "kandinsky22"), [pytest.mark.slow]
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
@pytest.mark.parametrize("family", [pytest.param(name, marks=[] if name in QUICK else SLOW) for name in FAMILIES])
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
    assert (results / "report.html").exists() and (results / "figures" / "quality_vs_scale.png").exists()
    assert not runner.run(made, runner.Options(results), Silence(), Here()).computed
    blocks = [Store(results).block(made.tasks[0].cell.id, start) for start in (0, 20)]
    for block in blocks:  # a score for each prompt, in order
        assert block is not None and block["clip_scores"].shape == (20,)
        assert list(block["labels"]) == list(range(20))


PLANNED = [
    ("sd15", "stable_diffusion", 59),
    ("sdxl", "sdxl", 30),
    ("sd3", "sd3", 34),
    ("flux", "flux", 18),
    ("pixart", "pixart", 20),
    ("sana", "sana", 18),
    ("kandinsky22", "kandinsky22", 48),
]


@pytest.mark.parametrize(("name", "family", "cells"), PLANNED)
def test_the_experiment_of_a_family_is_planned_once_its_weights_are_there(
    name: str, family: str, cells: int, folders: dict[str, Path]
) -> None:
    places = tiny_pipelines.location(family, folders[family])
    overrides = [f"common.model.{key}={value}" for key, value in places.items()]
    loaded = experiment.load(EXPERIMENTS / f"{name}.yaml", overrides)
    tasks = plan.plan(loaded).tasks
    assert len(tasks) == cells and {task.cell.model.name for task in tasks} == {family}
    assert all(task.num_samples % (plan.NUM_GROUPS * task.num_classes) == 0 for task in tasks)


def test_every_family_has_its_experiment() -> None:
    prompted = {name for name, entry in MODELS.items() if entry.prompted and entry.family != "pipeline"}
    assert prompted == {family for _, family, _ in PLANNED}
