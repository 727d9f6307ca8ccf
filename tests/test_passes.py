"""The predictions of a guided step as one network call or several: the same samples, and a choice that is kept."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.generation import guidance, noise, sampling, sharing
from cfgbench.models import Condition, Level, digits
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.records import CellRecord
from cfgbench.running import passes, worker
from cfgbench.store import Store
from tests.conftest import make_batch

SCALE = Guidance(method="cfg", parameters={"guidance_scale": 2.0})
CELL = Cell(model=ModelRef(name="digits"), guidance=SCALE, diffusion=Diffusion(sampler="ddim", steps=4))
INDICES = range(20)


def tasks(how: str, **more: Any) -> dict[str, planner.Task]:
    """The tasks of an unguided and a guided cell, by method."""
    grid = {"model": "digits", "sampler": "ddim", "steps": 4, "guidance_scale": [1, 2]}
    body = {"name": "x", "num_samples": 200, "metrics": ["fid"], "passes": how, "profile": None, "sweeps": [grid]}
    made = planner.plan(experiment.parse(body | more, "x.yaml"))
    return {task.cell.guidance.method: task for task in made.tasks}


def drawn(task: planner.Task, folder: Path) -> tuple[CellRecord, np.ndarray]:
    """The record of a task and its features."""
    folder.mkdir(exist_ok=True)
    for start in task.starts:
        worker.draw_block(task, start, folder, "cpu")
    assert worker.score_cell(task, folder, "cpu")
    record = Store(folder).cell(task.cell.id)
    assert record is not None
    blocks = [Store(folder).block(task.cell.id, start) for start in task.starts]
    return record, np.concatenate([block["features"] for block in blocks if block is not None])


def test_joint_passes_give_the_same_samples_and_counts_and_the_record_says_so(tmp_path: Path) -> None:
    single, features = drawn(tasks("sequential")["cfg"], tmp_path / "single")
    joint, other = drawn(tasks("batched")["cfg"], tmp_path / "joint")
    assert (single.batched, joint.batched) == (False, True)
    assert single.nfe == joint.nfe == 8
    np.testing.assert_allclose(features, other, atol=1e-3)
    assert single.scores[0].value == pytest.approx(joint.scores[0].value, rel=1e-4)


def test_only_what_asks_for_several_passes_is_drawn_otherwise() -> None:
    single, joint = tasks("sequential"), tasks("batched")
    assert single["unguided"] == joint["unguided"]
    assert single["cfg"].cell == joint["cfg"].cell
    assert single["cfg"].origin != joint["cfg"].origin and single["cfg"].digest != joint["cfg"].digest


@dataclass
class Paced:
    """The digits model, in which a call takes as many seconds as a function of the batch says."""

    seconds: Any
    model: Any = field(default_factory=digits.load)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, x: Tensor, level: Level, condition: Condition, network: str = "main") -> Tensor:
        time.sleep(self.seconds(len(x)))
        return torch.zeros_like(x)


def paced(seconds: Any) -> sampling.Batch:
    labels = noise.labels(INDICES, 10)
    batch = make_batch(Paced(seconds), "ddim", 4, labels, dtype=torch.float32, state_dtype=torch.float32)  # type: ignore[arg-type]
    return replace(batch, diffusion=CELL.diffusion)


@pytest.mark.parametrize(
    "parameters", [{}, {"interval": (0.2, 3.0)}, {"interval": (1e5, None)}], ids=["always", "interval", "never"]
)
def test_the_faster_way_is_found_wherever_guidance_begins(parameters: dict[str, Any]) -> None:
    cell = CELL.model_copy(
        update={"guidance": Guidance(method="cfg", parameters={"guidance_scale": 2.0, **parameters})}
    )
    cheap_together = passes.joint_is_faster(paced(lambda n: 0.02), cell, INDICES, "cpu")
    cheap_alone = passes.joint_is_faster(paced(lambda n: 2e-5 * n**2), cell, INDICES, "cpu")
    assert not cheap_alone
    assert cheap_together is ("interval" not in parameters or parameters["interval"][0] < 1)


def test_a_measured_choice_is_made_once_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def faster(*_: object) -> bool:
        measured.append(True)
        return len(measured) == 1  # and another time it would be otherwise

    monkeypatch.setattr(passes, "joint_is_faster", faster)
    record, _ = drawn(tasks("measured")["cfg"], tmp_path)
    again, _ = drawn(tasks("measured", num_samples=400)["cfg"], tmp_path)
    assert len(measured) == 1 and record.batched and again.batched


def test_a_choice_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.decision("passes-x", lambda: True)
    (file,) = store.blocks.iterdir()
    file.write_text("tr")
    assert not store.decision("passes-x", lambda: False)
    assert not store.decision("passes-x", lambda: True)


def test_of_two_workers_that_choose_at_once_both_take_the_first_choice(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    assert first.decision("passes-x", lambda: not second.decision("passes-x", lambda: True))
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("method", [SCALE, Guidance(method="apg", parameters={"guidance_scale": 3.0})])
def test_joint_passes_take_no_prediction_that_another_cell_made_alone(method: Guidance) -> None:
    """Their bits would else depend on which cell came first."""
    labels = noise.labels(INDICES, 10)
    plain = make_batch(digits.load(), "ddim", 4, labels, dtype=torch.float32, state_dtype=torch.float32)
    batch = replace(plain, diffusion=CELL.diffusion, batched=True)
    cell, forks = CELL.model_copy(update={"guidance": method}), sharing.Forks()
    unguided = CELL.model_copy(update={"guidance": Guidance(method="unguided")})
    sharing.sample(replace(batch, batched=False), unguided, INDICES, forks)
    got, counts = sharing.sample(batch, cell, INDICES, forks)
    expected, all_counts = sampling.sample(batch, guidance.bind(method), 0, INDICES)
    assert torch.equal(got, expected) and counts == all_counts
