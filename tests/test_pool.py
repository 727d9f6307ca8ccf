"""Jobs come back with what became of them, whatever dies on the way."""

import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import psutil
import pytest

import cfgbench
from cfgbench import plugins
from cfgbench.errors import InputError
from cfgbench.registry import METHODS
from cfgbench.running.pool import Job, JobError, LocalPool

PACKAGE = Path(cfgbench.__file__).parent


def drained(pool: LocalPool, jobs: list[Job]) -> dict[str, Any]:
    """What became of jobs, by the first part of their key."""
    try:
        return {done.key[0]: done.error or done.value for done in pool.run(deque(jobs))}
    finally:
        pool.close()


class OddError(Exception):
    """Cannot be rebuilt from its arguments, so it does not survive the way between processes."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly() -> None:
    """Raise what cannot be sent."""
    raise OddError("this", "that")


def test_a_job_that_kills_its_worker_is_found_out_and_the_others_are_done() -> None:
    good = [Job((f"good {k}", 0), "operator:add", (k, 1)) for k in range(30)]
    bad = [Job((f"bad {k}", 0), "os:_exit", (9,)) for k in range(2)]
    results = drained(LocalPool(2), [*good[:7], bad[0], *good[7:9], bad[1], *good[9:]])
    assert [results[f"good {k}"] for k in range(30)] == list(range(1, 31))
    assert all("its worker process died each time" in str(results[f"bad {k}"]) for k in range(2))


def pages_asked_for(megabytes: int) -> int:
    """How often the system is asked for memory by passes that take and free as much, the first of them not counted."""
    counts = []
    for _ in range(20):
        blocks = [bytearray(1 << 20) for _ in range(megabytes)]
        blocks.clear()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[-1] - counts[1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have rules of their own")
def test_a_worker_keeps_the_memory_of_a_pass_for_the_next() -> None:
    command = [sys.executable, "-c", "from tests.test_pool import pages_asked_for; print(pages_asked_for(16))"]
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    alone = int(subprocess.run(command, env=usual, capture_output=True, check=True).stdout)
    worker = drained(LocalPool(1), [Job(("pages", 0), "tests.test_pool:pages_asked_for", (16,))])["pages"]
    assert worker < 100 < alone


def test_many_killers_take_no_innocent_job_with_them() -> None:
    jobs = [Job((f"{k}", 0), *(("os:_exit", (9,)) if k % 3 == 0 else ("operator:neg", (k,)))) for k in range(18)]
    results = drained(LocalPool(2), jobs)
    assert {k: results[str(k)] for k in range(18) if k % 3} == {k: -k for k in range(18) if k % 3}
    assert all(isinstance(results[str(k)], RuntimeError) for k in range(0, 18, 3))


def test_any_error_of_a_job_comes_back_with_its_traceback() -> None:
    results = drained(LocalPool(1), [Job(("odd", 0), "tests.test_pool:fail_oddly", ()), Job(("no", 0), "os:no", ())])
    assert isinstance(results["odd"], JobError) and isinstance(results["no"], JobError)
    assert "in fail_oddly" in str(results["odd"]) and str(results["odd"]).strip().endswith("OddError: this and that")


def test_a_pool_that_is_closed_does_not_wait_for_its_jobs() -> None:
    pool = LocalPool(1)
    jobs = pool.run(deque([Job(("quick", 0), "operator:add", (1, 2)), Job(("slow", 0), "time:sleep", (600,))]))
    assert next(jobs).value == 3
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < 60


def fail_unless_alone(folder: Path, name: str) -> int:
    """Die where another job runs at the same time, like a process that the system kills for want of memory."""
    mine = folder / name
    mine.touch()
    time.sleep(0.2)
    if len(list(folder.iterdir())) > 1:
        mine.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    mine.unlink()
    return os.getpid()


def test_jobs_that_are_too_greedy_together_are_done_one_by_one(tmp_path: Path) -> None:
    jobs = [Job((name, 0), "tests.test_pool:fail_unless_alone", (tmp_path, name)) for name in "abcd"]
    results = drained(LocalPool(2), jobs)
    assert all(isinstance(results[name], int) for name in "abcd"), results


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_costs_nothing() -> None:
    pool = LocalPool(1)
    try:
        (first,) = pool.run(deque([Job(("pid", 0), "os:getpid", ())]))
        assert isinstance(first.value, int)
        os.kill(first.value, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(first.value)] if psutil.pid_exists(first.value) else [], timeout=10)
        (second,) = pool.run(deque([Job(("pid", 1), "os:getpid", ())]))
        assert isinstance(second.value, int) and second.value != first.value
    finally:
        pool.close()


@pytest.mark.parametrize("kills", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_no_job_is_lost_or_done_wrong_while_processes_are_killed_at_random(kills: int) -> None:
    """Workers, and sometimes the server that forks them; a job that is hit three times may fail, and must say so."""
    pool, rng, total = LocalPool(3), random.Random(kills), 10 * kills
    queue = deque(Job((str(k), 0), "tests.test_pool:slow_square", (k,)) for k in range(total))
    results: dict[int, object] = {}
    try:
        for done in pool.run(queue):
            results[int(done.key[0])] = done.error or done.value
            if len(results) % 10 == 5:
                kill_one(rng)
    finally:
        pool.close()
    assert set(results) == set(range(total))
    assert all(result == k**2 or "died each time" in str(result) for k, result in results.items())
    assert sum(result == k**2 for k, result in results.items()) > 0.9 * total


def kill_one(rng: random.Random) -> None:
    """Kill a worker, or one time in eight the server that workers are forked from, if it is there."""
    children = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    servers = [one for one in children if "forkserver" in " ".join(one.cmdline())]
    workers = [worker for server in servers for worker in server.children()]
    victims = servers if rng.random() < 1 / 8 else workers
    if victims:
        rng.choice(victims).kill()


def slow_square(k: int) -> int:
    """k squared, after a while."""
    time.sleep(0.02)
    return k**2


def test_each_worker_sees_one_gpu_in_turn() -> None:
    pool = LocalPool(3, gpus=("4", "GPU-7"))
    jobs = deque(Job((str(k), 0), "tests.test_pool:visible_gpu", ()) for k in range(3))
    try:
        seen = [done.value for done in pool.run(jobs)]
    finally:
        pool.close()
    assert sorted(map(str, seen)) == ["4", "4", "GPU-7"]


def visible_gpu() -> str | None:
    """What CUDA would see, told late, so that every worker gets one of the jobs."""
    time.sleep(1)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(
            "import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'", marks=pytest.mark.slow
        ),
        ("raise OSError('libcudart.so.12: cannot open shared object file')\n", "OSError: libcudart.so.12"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "exit code -9"),
    ],
)
def test_workers_that_cannot_start_are_said_in_one_sentence(damage: str, reason: str, tmp_path: Path) -> None:
    """A copy of the package whose worker cannot be imported."""
    site, file = tmp_path / "site", tmp_path / "x.yaml"
    shutil.copytree(PACKAGE, site / "cfgbench")
    (site / "cfgbench" / "running" / "worker.py").write_text(damage)
    sweep = "[{model: gaussians, sampler: ddim, steps: 3, guidance_scale: 2}]"
    file.write_text(f"name: x\nnum_samples: 400\nmetrics: [fid]\nsweeps: {sweep}\n")
    command = [sys.executable, "-m", "cfgbench", "run", str(file), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    *noise, last = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert last.startswith("cfgbench: worker processes") and reason in last and "import cfgbench.running.worker" in last
    assert not any(line.startswith("cfgbench:") for line in noise)


def test_a_plug_in_that_workers_cannot_import_is_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a module that is found from the parent's current directory only by accident of its import."""
    (tmp_path / "my_gone.py").write_text("def method(step, guidance_scale: float):\n    return step.predict('cond')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.check("method", "my_gone:method", "a test")
    (tmp_path / "my_gone.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    pool = LocalPool(1)
    try:
        with pytest.raises(InputError, match=r"method 'my_gone:method' at a worker: no module 'my_gone'"):
            list(pool.run(deque([Job(("x", 0), "operator:neg", (1,))])))
    finally:
        pool.close()
        del METHODS["my_gone:method"]
