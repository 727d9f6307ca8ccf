"""Kill a run anywhere and the same command goes on: nothing finished is lost, and the results are the same, bit by bit.

The runs are real: `cfgbench run` as a subprocess with worker processes of its own. Only figures are left out, for time.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import cfgbench
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.reading.tables import rows
from cfgbench.reading.tables.results import load
from cfgbench.records import CellRecord
from cfgbench.running import runner
from cfgbench.store import Store

SWEEP: dict[str, Any] = {
    "name": "small",
    "num_samples": 400,
    "metrics": ["fid", "precision", "accuracy"],
    "profile": None,
    "common": {"model": "gaussians", "sampler": "ddim", "steps": 6},
    "sweeps": [
        {"guidance_scale": [0, 1, 1.5, 2, 3, 5]},
        {"method": "classifier_uncond", "classifier_scale": [1, 2]},
        {"sampler": "euler_ancestral", "guidance_scale": [1, 2]},
    ],
}
CELLS = 10
PACKAGE = Path(cfgbench.__file__).parent
WITHOUT_FIGURES = (
    "import sys; from cfgbench import cli; from cfgbench.reading import report;"
    "report.refresh = report.answer = lambda folder: folder;"
    "sys.exit(cli.main())"
)
ENVIRONMENT = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "cfgbench-pycache")}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # else every worker compiles diffusers anew
SEED = "CFGBENCH_TEST_SEED"  # in the environment: kills at the same moments again
PROGRAM = (sys.executable, "-c", WITHOUT_FIGURES)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment file that most tests run."""
    file = tmp_path_factory.mktemp("sweep") / "small.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    return file


@pytest.fixture(scope="module")
def finished(sweep: Path) -> Path:
    """The results folder of a run that nothing interrupted."""
    done = run(sweep, sweep.parent / "whole")
    assert done.returncode == 0, done.stderr
    return sweep.parent / "whole"


def command(file: Path, folder: Path, *more: str) -> list[str]:
    return [*PROGRAM, "run", str(file), "--output", str(folder), "--workers", "2", "--device", "cpu", *more]


def run(
    file: Path,
    folder: Path,
    *more: str,
    prefix: tuple[str, ...] = (),
    environment: dict[str, str] = ENVIRONMENT,
) -> "subprocess.CompletedProcess[str]":
    """A run to its end."""
    arguments = [*prefix, *command(file, folder, *more)]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, cwd=file.parent)


@contextmanager
def running(file: Path, folder: Path, *more: str) -> "Iterator[subprocess.Popen[str]]":
    """A run in a process group of its own, of which nothing is left afterwards."""
    arguments = command(file, folder, *more)
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
        cwd=file.parent,
    )
    try:
        yield process
    finally:
        left = group(process.pid)
        for other in left:
            other.kill()
        process.communicate()


def group(leader: int) -> list[psutil.Process]:
    """The living processes of a session: the runner, its fork server, its workers."""
    return [
        process
        for process in psutil.process_iter()
        if _session(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
    ]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes that draw: children of the fork server."""
    return [other for other in group(process.pid) if other.pid != process.pid and other.ppid() != process.pid]


def wait_until(condition: Callable[[], object], timeout: float = 60) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def blocks(folder: Path) -> dict[str, int]:
    """The finished blocks with the time of their writing."""
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in folder.glob("blocks/*/*.npz")}


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """All that the records say, without where they were made."""
    found = {path.name: json.loads(path.read_bytes()) for path in record_files(folder)}
    for body in found.values():
        del body["machine"], body["checksum"]
    return found


def record_files(folder: Path) -> list[Path]:
    """The record of each cell."""
    return sorted(path for path in (folder / "records").glob("*.json") if "." not in path.stem)


def pictures(folder: Path) -> dict[str, bytes]:
    """What is kept of each cell to be looked at."""
    found = (folder / "records").iterdir()
    return {path.name: path.read_bytes() for path in found if path not in record_files(folder)}


def tables(folder: Path) -> list[str]:
    """`results.csv` and `scores.csv`, as a report writes them."""
    results = load(folder)
    return [rows.to_csv(rows.result_rows(results)), rows.to_csv(rows.score_rows(results))]


def assert_same(folder: Path, whole: Path) -> None:
    """Two results folders hold the same results, byte by byte, and nothing half written."""
    assert records(folder) == records(whole)
    assert pictures(folder) == pictures(whole)
    assert tables(folder) == tables(whole)
    assert not [path.name for path in folder.rglob("*") if path.name.startswith(".writing") or "damaged" in path.name]
    assert blocks(folder).keys() == blocks(whole).keys()


def resume(sweep: Path, folder: Path, whole: Path) -> None:
    """Run to the end what was interrupted; it comes to the same and does nothing twice."""
    before, finished_before = blocks(folder), record_files(folder)
    done = run(sweep, folder)
    assert done.returncode == 0, done.stderr
    assert f"{CELLS - len(finished_before)} cells computed, {len(finished_before)} were finished" in done.stderr
    assert before.items() <= blocks(folder).items()  # no block was drawn twice
    assert_same(folder, whole)


def moments() -> list[float]:
    """Ten moments of a run, as shares of its blocks: before the first, between, and while the last cells are scored."""
    rng = random.Random(11)
    return [0.0, *sorted(rng.uniform(0.02, 0.95) for _ in range(7)), 1.0, 1.0]


def kill_after(share: float, sweep: Path, folder: Path, total: int, sent: signal.Signals) -> None:
    """Start a run, send its leader a signal when it has drawn a share of its blocks, and wait for the end of all."""
    with running(sweep, folder) as process:
        time.sleep(0.7 if share == 0 else 0)  # into the imports
        wait_until(lambda: len(blocks(folder)) >= share * total or process.poll() is not None)
        process.send_signal(sent)
        wait_until(lambda: not group(process.pid), timeout=30)


@contextmanager
def at_random() -> Iterator[random.Random]:
    """Another random number generator each time; what fails says how to have the same one again."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"at random; to see it again: {SEED}={seed}")
        raise


def test_a_run_that_is_killed_at_random_goes_on_to_the_same_results(
    sweep: Path, finished: Path, tmp_path: Path
) -> None:
    with at_random() as rng:
        kill_after(rng.random(), sweep, tmp_path / "out", len(blocks(finished)), signal.SIGKILL)
        resume(sweep, tmp_path / "out", finished)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_ten_killed_runs_go_on_to_the_same_results(number: int, sweep: Path, finished: Path, tmp_path: Path) -> None:
    kill_after(moments()[number], sweep, tmp_path / "out", len(blocks(finished)), signal.SIGKILL)
    resume(sweep, tmp_path / "out", finished)


@pytest.mark.slow
def test_a_run_killed_ten_times_in_a_row_comes_to_the_same_results(sweep: Path, finished: Path, tmp_path: Path) -> None:
    for share in moments():
        kill_after(share, sweep, tmp_path / "out", len(blocks(finished)), signal.SIGKILL)
    resume(sweep, tmp_path / "out", finished)


INTERRUPTS = [
    (signal.SIGINT, 130, "Ctrl-C", 0.0),
    (signal.SIGTERM, 143, "SIGTERM", 0.3),
    pytest.param(signal.SIGINT, 130, "Ctrl-C", 0.3, marks=pytest.mark.slow),
    pytest.param(signal.SIGTERM, 143, "SIGTERM", 0.0, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("sent", "code", "name", "share"), INTERRUPTS)
def test_an_interrupted_run_says_how_to_go_on_and_does(
    sent: signal.Signals, code: int, name: str, share: float, sweep: Path, finished: Path, tmp_path: Path
) -> None:
    """As a terminal or a system sends it: to the whole group, also while the workers still import torch."""
    folder = tmp_path / "out"
    with running(sweep, folder) as process:
        wait_until((folder / "plan.json").exists)
        time.sleep(1 if share == 0 else 0)
        wait_until(lambda: len(blocks(folder)) >= share * len(blocks(finished)))
        os.killpg(process.pid, sent)
        _, shown = process.communicate(timeout=20)
        assert process.returncode == code, shown
        assert f"stopped by {name}; what is finished is kept, run the same command to go on" in shown
        assert "Traceback" not in shown
        wait_until(lambda: not group(process.pid), timeout=20)
    if share:
        resume(sweep, folder, finished)


HAMMERED = [(signal.SIGINT, 130, 0.0), pytest.param(signal.SIGTERM, 143, 0.3, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("sent", "code", "share"), HAMMERED)
def test_a_second_interrupt_ends_a_run_at_once(
    sent: signal.Signals, code: int, share: float, sweep: Path, finished: Path, tmp_path: Path
) -> None:
    """As from someone who does not wait, and presses Ctrl-C until the run has ended."""
    folder = tmp_path / "out"
    with running(sweep, folder) as process:
        wait_until((folder / "plan.json").exists)
        wait_until(lambda: len(blocks(folder)) >= share * len(blocks(finished)))
        wait_until(lambda: process.poll() is not None or process.send_signal(sent), timeout=20)
        _, shown = process.communicate(timeout=20)
        assert process.returncode in (code, -sent), shown  # a shell shows both as the code
        assert "what is finished is kept, run the same command to go on" in shown
        assert "Traceback" not in shown and "Exception ignored" not in shown
        wait_until(lambda: not group(process.pid), timeout=20)
    resume(sweep, folder, finished)


def test_a_run_whose_workers_are_killed_comes_to_the_same_results(sweep: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with at_random() as rng, running(sweep, folder) as process:
        for share in sorted((rng.random(), rng.random())):
            wait_until(lambda share=share: len(blocks(folder)) >= share * len(blocks(finished)))  # type: ignore[misc]
            wait_until(lambda: workers(process) or process.poll() is not None)
            for victim in rng.sample(found := workers(process), min(1, len(found))):
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
        _, shown = process.communicate(timeout=90)
        assert process.returncode == 0, shown
    assert_same(folder, finished)


def test_a_second_run_on_the_same_folder_is_refused(sweep: Path, tmp_path: Path) -> None:
    with running(sweep, tmp_path / "out") as process:
        wait_until((tmp_path / "out" / "plan.json").exists)
        second = run(sweep, tmp_path / "out")
        assert process.poll() is None
    assert second.returncode == 2 and second.stderr.count("\n") == 1
    assert "another run is writing" in second.stderr


def test_a_finished_run_does_nothing_and_loads_nothing(sweep: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".npz", ".json")}
    script = (
        "import sys; from cfgbench.cli import main; code = main();"
        "heavy = {'torch', 'diffusers', 'open_clip', 'sklearn', 'torchmetrics'} & set(sys.modules);"
        "sys.exit(code or ','.join(heavy) or 0)"
    )
    arguments = [sys.executable, "-c", script, *command(sweep, folder)[len(PROGRAM) :]]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert f"0 cells computed, {CELLS} were finished" in done.stderr
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if before[path] != after[path]} <= {"plan.json"}
    assert_same(folder, finished)


def test_damage_is_noticed_and_only_what_is_damaged_is_done_again(sweep: Path, finished: Path, tmp_path: Path) -> None:
    """Three cells: a record cut off and its block flipped, a record edited by hand, a record gone with a block."""
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    cut, edited, gone = record_files(folder)[:3]
    cut.write_bytes(cut.read_bytes()[:200])
    flipped = folder / "blocks" / cut.stem / "000000100.npz"
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 4
    flipped.write_bytes(content)
    edited.write_text(re.sub(r'"value": (\d)', r'"value": 1\1', edited.read_text(), count=1))
    gone.unlink()
    missing = folder / "blocks" / gone.stem / "000000200.npz"
    missing.unlink()
    before = blocks(folder)
    done = run(sweep, folder)
    assert done.returncode == 0, done.stderr
    assert f"3 cells computed, {CELLS - 3} were finished" in done.stderr
    changed = {name for name, written in blocks(folder).items() if before.get(name) != written}
    assert changed == {f"{path.parent.name}/{path.name}" for path in (flipped, missing)}
    assert {path.name for path in folder.glob("records/*.damaged")} == {f"{p.name}.damaged" for p in (cut, edited)}
    for path in folder.glob("records/*.damaged"):
        path.unlink()
    assert_same(folder, finished)


def test_more_samples_draw_only_the_new_blocks(sweep: Path, finished: Path, tmp_path: Path) -> None:
    folder, at_once = tmp_path / "out", tmp_path / "at_once"
    shutil.copytree(finished, folder)
    before = blocks(folder)
    for place in (folder, at_once):
        assert run(sweep, place, "num_samples=800").returncode == 0
    assert before.items() <= blocks(folder).items() and len(blocks(folder)) == 2 * len(before)
    assert_same(folder, at_once)


@pytest.mark.parametrize("count", ["1", pytest.param("3", marks=pytest.mark.slow)])
def test_the_number_of_workers_does_not_change_the_results(
    count: str, sweep: Path, finished: Path, tmp_path: Path
) -> None:
    assert run(sweep, tmp_path / "out", "--workers", count).returncode == 0
    assert_same(tmp_path / "out", finished)


def test_a_cell_that_fails_is_recorded_and_the_others_finish(tmp_path: Path) -> None:
    """A copy of the package in which one model's weights are no weights."""
    site, folder, file = tmp_path / "site", tmp_path / "out", tmp_path / "digits.yaml"
    shutil.copytree(PACKAGE, site / "cfgbench")
    (broken,) = (site / "cfgbench" / "weights" / "digits").glob("diffusion-p0.5-800-seed0.safetensors")
    broken.write_bytes(b"no weights at all")
    models = ["digits", {"name": "digits", "p_uncond": 0.5}]
    grids = [{"model": models, "sampler": "ddim", "steps": 3, "guidance_scale": [1, 2]}]
    file.write_text(yaml.safe_dump({**SWEEP, "num_samples": 200, "common": {}, "sweeps": grids}))
    environment = {**ENVIRONMENT, "PYTHONPATH": str(site)}
    done = run(file, folder, environment=environment)
    assert done.returncode == 1, done.stderr
    by_status: dict[str, list[dict[str, Any]]] = {"done": [], "failed": []}
    for record in records(folder).values():
        by_status[record["status"]].append(record)
    assert [record["cell"]["model"]["parameters"] for record in by_status["failed"]] == [{"p_uncond": 0.5}] * 2
    assert [len(record["scores"]) for record in by_status["done"]] == [5, 5]
    for record in by_status["failed"]:
        assert record["scores"] == [] and record["num_samples"] == 0
        assert "Traceback" in record["error"] and "load_file" in record["error"] and "Safetensor" in record["error"]
    assert "2 cells failed" in done.stderr and done.stderr.count("FAILED: ") == 2
    assert "Traceback" not in done.stderr


def test_samples_that_are_not_numbers_get_no_score_but_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "nan.yaml"
    file.write_text(yaml.safe_dump({**SWEEP, "sweeps": [{"guidance_scale": [2, 1.0e38]}]}))
    assert run(file, tmp_path / "out").returncode == 0
    broken, fine = sorted(records(tmp_path / "out").values(), key=lambda record: len(record["scores"]))
    assert broken["health"]["nan"] == 400 and fine["health"]["nan"] == 0
    assert broken["scores"] == [] and len(fine["scores"]) == 5
    assert all("400 of 400 samples hold NaN or infinity" in absent["reason"] for absent in broken["absent"])


def test_a_folder_that_cannot_be_written_is_said_at_once(sweep: Path, finished: Path, tmp_path: Path) -> None:
    prefix: tuple[str, ...] = ()
    if os.getuid() == 0:
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")  # else root writes anywhere
        if shutil.which("setpriv") is None:
            pytest.skip("runs as root and has no setpriv to drop what lets root write anywhere")
    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    for place in (folder, folder / "new"):
        folder.chmod(0o555)
        (folder / ".lock").chmod(0o444)
        done = run(sweep, place, prefix=prefix)
        folder.chmod(0o755)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert f"cannot write {place}" in done.stderr and "Permission denied" in done.stderr


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[str], object]]:
    """A file system of its own with so much space; its size can be changed."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_stops_the_run_and_loses_nothing(sweep: Path, finished: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "200k") as resize:
        folder = tmp_path / "disk" / "out"
        done = run(sweep, folder)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].endswith(
            "the disk is full; what is finished is kept, run the same command to go on"
        )
        assert "Traceback" not in done.stderr and not list(folder.rglob(".writing*"))
        assert 0 < len(blocks(folder)) < len(blocks(finished))
        resize("50m")
        resume(sweep, folder, finished)


class Silent:
    """Progress that shows nothing and keeps the records."""

    def __init__(self) -> None:
        self.records: list[CellRecord] = []

    def begin(self, samples: int, done: int) -> None: ...
    def drawn(self, samples: int) -> None: ...
    def stage(self, text: str) -> None: ...
    def finished(self, record: CellRecord) -> None:
        self.records.append(record)


def test_a_cell_that_breaks_in_its_method_keeps_its_reason_and_is_tried_again(tmp_path: Path) -> None:
    """The planner never makes such a cell: its method has no such parameter."""
    body = {**SWEEP, "sweeps": [{"guidance_scale": [2, 3]}]}
    made = planner.plan(experiment.parse(body, "x.yaml"))
    good, bad = made.tasks
    guidance = bad.cell.guidance.model_copy(update={"parameters": {"guidance_scale": 3.0, "momentum": 0.5}})
    bad = replace(bad, cell=bad.cell.model_copy(update={"guidance": guidance}))
    for _ in range(2):
        seen = Silent()
        outcome = runner.run(replace(made, tasks=(good, bad)), runner.Options(tmp_path, workers=2), seen)
        assert outcome.failed == [bad.cell.id]
        (failed,) = [record for record in seen.records if record.status == "failed"]
        assert failed.error is not None and "TypeError" in failed.error and "momentum" in failed.error
    assert (outcome.computed, outcome.skipped) == (1, 1)


def test_blocks_drawn_with_another_batch_size_are_not_mixed_in(tmp_path: Path) -> None:
    body = {**SWEEP, "sweeps": [{"guidance_scale": 2}]}
    for fields in ({"num_samples": 400}, {"num_samples": 800, "batch_size": 50}):
        made = planner.plan(experiment.parse({**body, **fields}, "x.yaml"))
        assert runner.run(made, runner.Options(tmp_path, workers=2), Silent()).computed == 1
        (task,) = made.tasks
        drawn = [Store(tmp_path).block(task.cell.id, start) for start in task.starts]
        assert [str(block["origin"]) for block in drawn if block is not None] == [task.origin] * len(task.starts)


def test_speed_records_survive_a_run_without_timing(tmp_path: Path) -> None:
    body = {**SWEEP, "sweeps": [{"guidance_scale": 2}], "profile": {"batch_sizes": [1], "repeats": 3}}
    made = planner.plan(experiment.parse(body, "x.yaml"))
    assert runner.run(made, runner.Options(tmp_path, workers=1), Silent()).untimed == ()
    speeds = Store(tmp_path).plan().speeds
    assert len(speeds) == 1
    runner.run(made, runner.Options(tmp_path, workers=1, profile=False), Silent())
    assert Store(tmp_path).plan().speeds == speeds


def test_a_class_that_cannot_be_timed_is_said_and_does_not_end_the_run(tmp_path: Path) -> None:
    body = {**SWEEP, "sweeps": [{"guidance_scale": 2}], "profile": {"batch_sizes": [1], "repeats": 3}}
    made = planner.plan(experiment.parse(body, "x.yaml"))
    options = runner.Options(tmp_path, workers=1, threads=-1)
    outcome = runner.run(made, options, Silent())
    assert outcome.computed == 1 and outcome.failed == []
    assert len(outcome.untimed) == 1 and "threads" in outcome.untimed[0]
