"""Killed at a write, whichever it is: what is there is whole, and the next run comes to the same and leaves no halves.

The processes that die are forked from this one, so that they die at exactly the call that a test names.
"""

import os
import shutil
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cfgbench import cli
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.planning.plan import Plan
from cfgbench.reading import report
from cfgbench.reading.tables import rows
from cfgbench.reading.tables.results import load
from cfgbench.running import runner
from cfgbench.running.pool import Done, Job, attempt
from cfgbench.store import TEMPORARY, Store
from tests import test_adaptive
from tests.test_resume import Silent, assert_same, records

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the parent of a fork has threads

BODY: dict[str, Any] = {
    "name": "x",
    "num_samples": 400,
    "metrics": ["fid", "accuracy"],
    "profile": None,
    "sweeps": [{"model": "gaussians", "sampler": "ddim", "steps": 4, "guidance_scale": [2, 3]}],
}
TIMED = {"profile": {"batch_sizes": [1], "repeats": 3}}


class Here:
    """Carries out jobs in this process, as a worker does."""

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        while queue:
            job = queue.popleft()
            yield Done(job.key, *attempt(job.target, job.arguments))

    def close(self) -> None: ...


def made(**fields: Any) -> Plan:
    return planner.plan(experiment.parse({**BODY, **fields}, "x.yaml"))


def run(plan: Plan, folder: Path, executor: Any = None) -> runner.Outcome:
    return runner.run(plan, runner.Options(folder), Silent(), executor or Here())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("interruptions") / "whole"
    assert run(made(), folder).failed == []
    return folder


def interrupted(
    do: Callable[[], object],
    number: int,
    sent: signal.Signals = signal.SIGKILL,
    at: tuple[object, str] = (os, "fsync"),
) -> int | None:
    """The exit code of a process that does this and sends itself a signal at such a call; None where that killed it.

    By default at the n-th file that it writes, whose content is there and not yet in its place.
    """
    child = os.fork()
    if child == 0:
        _interrupt(number, sent, at)
        try:
            os._exit(int(do() or 0))
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    _, status = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(status) and os.WTERMSIG(status) == sent else os.waitstatus_to_exitcode(status)


def _interrupt(number: int, sent: signal.Signals, at: tuple[object, str]) -> None:
    place, name = at
    usual, calls = getattr(place, name), iter(range(1, 1_000_000))

    def call(*arguments: object, **options: object) -> object:
        if next(calls) == number:
            os.kill(os.getpid(), sent)
        return usual(*arguments, **options)

    setattr(place, name, call)


def kill_until_done(do: Callable[[], object], number: int) -> int:
    """How often a process that does this is killed at its n-th file until one comes to its end."""
    for kills in range(100):
        code = interrupted(do, number)
        if code is not None:
            assert code == 0
            return kills
    raise AssertionError("it never comes to an end")


def halves(folder: Path) -> list[str]:
    """What writers that were killed had begun."""
    return [path.name for path in folder.rglob(f"{TEMPORARY}*")]


def contents(folder: Path) -> dict[str, bytes]:
    """All that a folder shows."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(TEMPORARY)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_run_that_is_killed_at_every_fourth_file_comes_to_the_same(whole: Path, tmp_path: Path) -> None:
    plan, folder = made(), tmp_path / "out"
    assert kill_until_done(lambda: run(plan, folder) and None, 4) > 4
    assert_same(folder, whole)


def test_a_run_that_is_killed_while_it_is_timed_comes_to_the_same(whole: Path, tmp_path: Path) -> None:
    """Two cost classes, of which the second is killed while its seconds are written."""
    two = [BODY["sweeps"][0], {**BODY["sweeps"][0], "steps": 3, "guidance_scale": 2}]
    plan, folder, other = made(sweeps=two, **TIMED), tmp_path / "out", tmp_path / "whole"
    run(made(sweeps=two), folder)
    run(made(sweeps=two), other)
    assert interrupted(lambda: run(plan, folder) and None, 3) is None
    (first,) = folder.glob("records/speed-*.json")
    before = first.read_bytes()
    assert halves(folder)
    outcome = run(plan, folder)
    assert outcome.untimed == () and outcome.computed == 0
    assert len(Store(folder).plan().speeds) == 2 and first.read_bytes() == before and halves(folder) == []
    assert {name: body for name, body in records(folder).items() if "speed" not in name and name != "plan.json"} == {
        name: body for name, body in records(other).items() if name != "plan.json"
    }
    assert rows.to_csv(rows.score_rows(load(folder))) == rows.to_csv(rows.score_rows(load(other)))


def test_an_adaptive_sweep_that_is_killed_at_every_twelfth_file_comes_to_the_same(tmp_path: Path) -> None:
    plan = planner.plan(experiment.parse(test_adaptive.SWEEP, "race.yaml"))
    folder, other = tmp_path / "out", tmp_path / "whole"
    run(plan, other)
    assert kill_until_done(lambda: run(plan, folder) and None, 12) > 3
    assert_same(folder, other)
    assert test_adaptive.tables(folder) == test_adaptive.tables(other)


@pytest.fixture(scope="module")
def shown(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of the results folder with all that a report writes."""
    folder = tmp_path_factory.mktemp("shown") / "out"
    shutil.copytree(whole, folder)
    report.refresh(folder)
    return contents(folder)


@pytest.mark.parametrize(
    ("number", "at"),
    [(1, (Image.Image, "quantize")), (2, (os, "fsync")), (9, (os, "fsync"))],
    ids=["figure drawn", "figure written", "table written"],
)
def test_a_report_that_is_killed_shows_no_half_of_a_file(
    number: int, at: tuple[object, str], whole: Path, shown: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    assert interrupted(lambda: report.refresh(folder), number, at=at) is None
    found = contents(folder)
    assert found.items() <= shown.items() and ".shown" not in found
    run(made(), folder)
    report.refresh(folder)
    assert contents(folder) == shown and halves(folder) == []


def test_a_report_that_is_stopped_leaves_nothing_behind(
    whole: Path, shown: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    assert interrupted(lambda: cli.main(["report", str(folder)]), 3, signal.SIGTERM) == 143
    assert "stopped by SIGTERM; what is finished is kept, run the same command to go on" in capfd.readouterr().err
    assert contents(folder).items() <= shown.items() and halves(folder) == []


class Removing(Here):
    """Carries out jobs, and removes the results folder before one of them is begun, or when all have ended."""

    def __init__(self, folder: Path, before: int) -> None:
        self.folder, self.left = folder, before

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        while queue:
            if self.left == 0:
                shutil.rmtree(self.folder)
            self.left -= 1
            yield from super().run(deque([queue.popleft()]))

    def close(self) -> None:
        if self.left >= 0:
            shutil.rmtree(self.folder)


JOBS = 2 * 4 + 2 + 1  # blocks, scores, a timing


@pytest.mark.parametrize("before", range(JOBS + 1))
def test_a_folder_that_is_removed_does_not_come_back_by_halves(before: int, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "out"
    with pytest.raises(InputError, match=r"out was removed or moved while a run was writing to it; run the same"):
        run(made(**TIMED), folder, Removing(folder, before))
    assert not folder.exists()
    assert run(made(), folder).failed == []


def test_a_report_of_a_folder_that_is_removed_meanwhile_makes_none(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    usual = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: shutil.rmtree(folder, ignore_errors=True) or usual(handle))
    with pytest.raises(InputError, match="out was removed or moved while"):
        report.build(folder, formats=())
    assert not folder.exists()
