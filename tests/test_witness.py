"""torchmetrics as a witness of a small run: it agrees, notices a changed value, and says what it could not check."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cfgbench.planning import experiment, plan
from cfgbench.running import witness, worker
from cfgbench.scores import torchmetrics_scores
from cfgbench.store import Store


@pytest.fixture(scope="module")
def made() -> plan.Plan:
    sweep = {"model": "digits", "sampler": "ddim", "steps": 4, "method": "cfg", "guidance_scale": [1, 2]}
    return plan.plan(experiment.parse({"name": "own", "num_samples": 200, "sweeps": [sweep]}, "own.yaml"))


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture(scope="module")
def finished(made: plan.Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    for task in made.tasks:
        for start in task.starts:
            worker.draw_block(task, start, path, "cpu")
        worker.score_cell(task, path, "cpu")
    return path


def test_torchmetrics_agrees_on_every_score_it_knows(made: plan.Plan, folder: Path) -> None:
    verdict = witness.check(made, folder, "cpu")
    assert verdict.agrees
    theirs = {row.request.column for row in verdict.rows if row.witness == "torchmetrics"}
    assert theirs == {"fid", "fid_train", "kid", "kid_train", "inception_score", "clip_score"}
    assert f"all {len(verdict.rows)} checks agree" in str(verdict)
    with (folder / "checks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(verdict.rows) == 18
    assert all(row["agrees"] == "true" and float(row["difference"]) < 1e-5 for row in rows)


@pytest.mark.parametrize("column", ["fid", "kid", "inception_score", "clip_score"])
def test_a_changed_value_is_noticed(made: plan.Plan, folder: Path, column: str) -> None:
    store, cell = Store(folder), made.tasks[1].cell
    record = store.cell(cell.id)
    assert record is not None
    scores = [
        score.model_copy(update={"value": score.value * 1.001}) if score.column == column else score
        for score in record.scores
    ]
    store.write_record(record.model_copy(update={"scores": tuple(scores)}))
    verdict = witness.check(made, folder, "cpu")
    assert not verdict.agrees
    wrong = [(row.task.cell.id, row.request.column) for row in verdict.rows if not row.agrees]
    assert wrong == [(cell.id, column)]
    assert "ATTENTION: 1 of 18 checks DISAGREE" in str(verdict)


def test_cells_without_blocks_are_named_with_what_to_do(made: plan.Plan, folder: Path) -> None:
    Store(folder).drop_blocks(made.tasks[0].cell.id)
    verdict = witness.check(made, folder, "cpu")
    assert verdict.missing == (made.tasks[0],)
    assert "1 cells could not be checked" in str(verdict)
    assert "--output ANOTHER_FOLDER" in str(verdict)


def test_the_global_random_generator_is_left_alone() -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    before = torch.random.get_rng_state()
    torchmetrics_scores.kid(x, x + 1)
    torchmetrics_scores.inception_score(np.log(np.full((30, 3), 1 / 3)))
    assert torch.equal(torch.random.get_rng_state(), before)
