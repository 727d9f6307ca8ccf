"""What goes wrong around a run is said, and nothing false is written: scores that are no numbers, folders that vanish,
disks that are full when the tables are written, clocks that jump, files that cannot be read, memory that is too small.
"""

import ast
import ctypes
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import cfgbench
from cfgbench import cli
from cfgbench import store as store_module
from cfgbench.encoders import Encoded
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.planning.plan import Plan
from cfgbench.reading import report
from cfgbench.reading.tables.results import load
from cfgbench.references import sets
from cfgbench.running import runner, worker
from cfgbench.store import Store
from tests.test_interruptions import Here
from tests.test_resume import ENVIRONMENT, Silent, assert_same, blocks, small_disk

GRID = {"model": "gaussians", "sampler": "ddim", "steps": 4, "guidance_scale": [2, 3]}
BODY: dict[str, Any] = {"name": "x", "num_samples": 400, "metrics": ["fid", "accuracy"], "profile": None}


def made(**fields: Any) -> Plan:
    return planner.plan(experiment.parse({**BODY, "sweeps": [GRID], **fields}, "x.yaml"))


def huge(samples: np.ndarray, labels: np.ndarray, parameters: object) -> Encoded:
    """Features that are finite and whose squares are not."""
    return Encoded(samples * 1e200, np.log(np.full((len(samples), 3), 1 / 3)), None)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No reference from before a test or kept after it."""
    sets.load.cache_clear()
    yield
    sets.load.cache_clear()


@pytest.mark.usefixtures("fresh")
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
    assert not folder.exists()
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


JUMPING = """
import itertools, time

usual, jumps = time.time_ns, itertools.cycle([0, 7200, -7200, 300_000_000, -1_500_000_000])
time.time_ns = lambda: usual() + next(jumps) * 10**9
time.time = lambda: time.time_ns() / 1e9
"""
TABLES_ALONE = (
    "import sys; from cfgbench import cli; from cfgbench.reading import report;"
    "report.build.__defaults__ = ((),); sys.exit(cli.main())"
)


def command(file: Path, folder: Path, body: dict[str, Any], *more: str) -> list[str]:
    """`cfgbench run` of an experiment, whose report draws no figures."""
    file.write_text(yaml.safe_dump({**BODY, "sweeps": [GRID], **body}))
    arguments = ["run", str(file), "--output", str(folder), "--workers", "1", "--device", "cpu", *more]
    return [sys.executable, "-c", TABLES_ALONE, *arguments]


def here(folder: Path, plan: Plan | None = None) -> runner.Outcome:
    """A run in this process."""
    return runner.run(plan or made(), runner.Options(folder), Silent(), Here())


def shown(folder: Path) -> dict[str, bytes]:
    """The tables and the summary."""
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.suffix in (".csv", ".md", ".tex")}


def test_a_clock_that_jumps_by_hours_and_years_changes_nothing(tmp_path: Path) -> None:
    """In every process of a run, on a terminal that shows the time left; the seconds that are timed stay seconds."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    folder, whole = tmp_path / "out", tmp_path / "whole"
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}
    paths = f"{tmp_path}{os.pathsep}{Path(cfgbench.__file__).parents[1]}"
    profile = {"profile": {"batch_sizes": [1], "repeats": 3}}
    done = subprocess.run(
        command(tmp_path / "x.yaml", folder, profile),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**ENVIRONMENT, **terminal, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d:\d\d:\d\d", done.stderr) and not re.search(r"-\d+:\d|day", done.stderr)
    (timed,) = folder.glob("records/speed-*.json")
    (speed,) = load(folder).speeds
    assert all(
        0 < seconds < 7200 for timing in speed.timings for seconds in (timing.first_call_s, *timing.trajectory_s)
    )
    for path in (timed, *folder.glob("speed.*")):
        path.unlink()
    for place in (folder, whole):
        here(place)
        report.build(place, formats=())
    assert_same(folder, whole)
    assert shown(folder) == shown(whole)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Let nobody read a file or folder in here, not even root, for whom permissions usually do not count."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with without_power_over_files() if os.geteuid() == 0 else nullcontext():
            yield
    finally:
        path.chmod(mode)


@contextmanager
def without_power_over_files() -> Iterator[None]:
    """Give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH for a while, as root."""
    system, header, held = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(header, held) == 0
    effective = held[0]
    held[0] = effective & ~0b110
    assert system.capset(header, held) == 0
    try:
        yield
    finally:
        held[0] = effective
        assert system.capset(header, held) == 0


def names(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize(
    ("verb", "name"),
    [("run", "{id}.json"), ("run", ""), ("report", "{id}.json"), ("report", ""), ("report", "../plan.json")],
)
def test_a_record_that_cannot_be_read_is_said_and_left_alone(
    verb: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file, or the folder that it is in. A run that took it for missing would do its work again."""
    folder, cell = tmp_path / "out", made().tasks[0].cell.id
    here(folder)
    arguments = command(tmp_path / "x.yaml", folder, {})[3:] if verb == "run" else ["report", str(folder)]
    before, hidden = names(folder), (folder / "records" / name.format(id=cell)).resolve()
    with unreadable(hidden):
        code = cli.main(arguments)
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1, said
    assert said.startswith(f"cfgbench: cannot read {hidden}") and "Permission denied" in said
    assert names(folder) == before


@pytest.mark.parametrize("name", ["000000100.npz", ""])
def test_a_block_that_cannot_be_read_is_said_and_left_alone(name: str, tmp_path: Path) -> None:
    """The file, or the folder that it is in, of a cell that is to be scored."""
    folder, cell = tmp_path / "out", made().tasks[0].cell.id
    here(folder)
    (folder / "records" / f"{cell}.json").unlink()
    before, hidden = names(folder), folder / "blocks" / cell / name
    with unreadable(hidden), pytest.raises(InputError, match=rf"^cannot read {hidden}.*: Permission denied$"):
        here(folder)
    assert names(folder) == before
    assert here(folder).computed == 1


def test_a_decision_that_cannot_be_read_is_no_failure_of_its_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.decision("passes-x", lambda: True)
    with unreadable(store.blocks / "passes-x.json"), pytest.raises(InputError, match=r"cannot read .*passes-x\.json"):
        store.decision("passes-x", lambda: False)
    assert store.decision("passes-x", lambda: False)


def limited(megabytes: int, arguments: list[str], **more: Any) -> "subprocess.CompletedProcess[str]":
    """A command to its end, in processes that get so many megabytes each."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    return subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=300, preexec_fn=limit, env=ENVIRONMENT, **more
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory mean something else elsewhere")
@pytest.mark.parametrize(
    "megabytes", [200, 1000, *(pytest.param(size, marks=pytest.mark.slow) for size in (100, 300, 520, 700, 1500, 2500))]
)
def test_memory_too_small_for_a_worker_is_said_and_the_next_run_goes_on(megabytes: int, tmp_path: Path) -> None:
    """Too small for what reads the experiment, for its libraries, and for torch, which needs about three gigabytes."""
    folder, whole = tmp_path / "out", tmp_path / "whole"
    arguments = command(tmp_path / "x.yaml", folder, {})[3:]
    done = limited(megabytes, [sys.executable, "-m", "cfgbench", *arguments])
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("cfgbench: ") and ("memory is" in last or "is memory short?" in last), done.stderr
    assert "cfgbench/" not in done.stderr and done.stderr.count("cfgbench:") == 1  # libraries may say more
    for place in (folder, whole):
        assert here(place).failed == []
    assert_same(folder, whole)


GREEDY = """
import torch

def method(step, guidance_scale: float):
    torch.empty(16 << 30, dtype=torch.uint8)
    return step.predict("cond")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory mean something else elsewhere")
def test_memory_too_small_for_a_batch_fails_its_cell_and_the_next_run_draws_it(tmp_path: Path) -> None:
    """A method that asks for 16 GiB, which cost nothing where nobody forbids them."""
    (tmp_path / "my_greedy.py").write_text(GREEDY)
    folder, body = tmp_path / "out", {"sweeps": [{**GRID, "method": ["cfg", "my_greedy:method"], "guidance_scale": 2}]}
    arguments = command(tmp_path / "x.yaml", folder, body)
    done = limited(12_000, arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "1 cells failed" in done.stderr and "memory" in done.stderr and "Traceback" not in done.stderr
    before = blocks(folder)
    again = subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT, cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    assert "1 cells computed, 1 were finished before" in again.stderr
    assert before.items() <= blocks(folder).items()
