"""What goes wrong around a run is said, and nothing false is written: scores that are no numbers, folders that vanish,
disks that are full when the tables are written, clocks that jump.
"""

import ast
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cfgbench
from cfgbench import store as store_module
from cfgbench.encoders import Encoded
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.planning.plan import Plan
from cfgbench.reading import report
from cfgbench.running import runner, worker
from cfgbench.store import Store
from tests.test_resume import Silent, assert_same, small_disk

GRID = {"model": "gaussians", "sampler": "ddim", "steps": 4, "guidance_scale": [2, 3]}
BODY: dict[str, Any] = {"name": "x", "num_samples": 400, "metrics": ["fid", "accuracy"], "profile": None}


def made(**fields: Any) -> Plan:
    return planner.plan(experiment.parse({**BODY, "sweeps": [GRID], **fields}, "x.yaml"))


def huge(samples: np.ndarray, labels: np.ndarray, parameters: object) -> Encoded:
    """Features that are finite and whose squares are not."""
    return Encoded(samples * 1e200, np.log(np.full((len(samples), 3), 1 / 3)), None)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_score_that_is_no_number_is_absent_with_a_reason_and_the_others_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = made().tasks[0]
    monkeypatch.setattr("cfgbench.encoders.gaussians", huge)
    for start in task.starts:
        worker.draw_block(task, start, tmp_path, "cpu")
    assert worker.score_cell(task, tmp_path, "cpu")
    record = Store(tmp_path).cell(task.cell.id)
    assert record is not None and record.status == "done" and record.health.nan == 0
    assert [score.column for score in record.scores] == ["accuracy"]
    assert [absent.column for absent in record.absent] == ["fid", "fid_train"]
    assert record.absent[0].reason.startswith("fid of 400 finite samples is not finite")


class Vanishing(Silent):
    """Moves the results folder away when some samples are drawn."""

    def __init__(self, folder: Path, to: Path) -> None:
        super().__init__()
        self.folder, self.to = folder, to

    def drawn(self, samples: int) -> None:
        if self.folder.exists() and not self.to.exists():
            self.folder.rename(self.to)


def test_a_folder_that_vanishes_stops_the_run_and_the_next_comes_to_the_same(tmp_path: Path) -> None:
    folder, moved, whole = tmp_path / "out", tmp_path / "moved", tmp_path / "whole"
    plan = made()
    with pytest.raises(InputError, match=r"out was removed or moved while a run was writing to it"):
        runner.run(plan, runner.Options(folder, workers=1), Vanishing(folder, moved))
    shutil.rmtree(folder, ignore_errors=True)
    for place in (moved, whole):
        assert runner.run(plan, runner.Options(place, workers=1), Silent()).failed == []
    assert_same(moved, whole)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))


def test_a_full_disk_leaves_the_tables_that_were_there(tmp_path: Path) -> None:
    """Half a table would look like a whole one."""
    with small_disk(tmp_path / "disk", "20m") as resize:
        folder = tmp_path / "disk" / "out"
        runner.run(made(), runner.Options(folder, workers=1), Silent())
        report.build(folder, formats=())
        before = {path: path.read_bytes() for path in folder.glob("*.csv")}
        assert len(before) == 4
        plan = made(num_samples=800)
        runner.run(plan, runner.Options(folder, workers=1), Silent())
        used = sum(path.stat().st_blocks for path in folder.rglob("*")) * 512
        resize(f"{used // 1024 + 64}k")
        fill(folder / "filler")
        with pytest.raises(InputError, match="the disk is full"):
            report.build(folder, formats=())
        assert {path: path.read_bytes() for path in folder.glob("*.csv")} == before
        assert not list(folder.rglob(f"{store_module.TEMPORARY}*"))


def test_nothing_asks_a_clock_that_may_be_set() -> None:
    """Times are differences of a monotonic clock, and no decision hangs on the age of a file."""
    clocks = {"time", "time_ns", "now", "today", "utcnow", "st_mtime", "st_mtime_ns", "getmtime", "localtime"}
    shown = {"bench/write.py": "now"}  # the date beside a benchmark
    identity = dict.fromkeys(("assets/checkpoints.py", "references/survey.py"), "st_mtime_ns")  # for equality alone
    root = Path(cfgbench.__file__).parent
    for path in root.rglob("*.py"):
        allowed = {**shown, **identity}.get(path.relative_to(root).as_posix())
        tree = ast.parse(path.read_text())
        asked = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in clocks]
        bad = [
            node.attr for node in asked if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "step"))
        ]
        bad = [name for name in bad if name != allowed]
        assert bad == [], f"{path.name} reads {bad}"
