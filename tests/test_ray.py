"""On Ray, with any number of workers and whatever dies, a run comes to what local workers come to, byte by byte.

The cluster is real, on this machine; several machines are played by several raylets (slow tests).
"""

import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cfgbench import cli, machine
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.running import ray_pool, runner
from cfgbench.running.pool import Job, JobError
from cfgbench.running.ray_pool import Hand, RayPool, Setting
from tests.test_resume import CELLS, SWEEP, Silent, assert_same, blocks, running, wait_until

PLAN = planner.plan(experiment.parse(dict(SWEEP), "small.yaml"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of sockets that Ray leaves
    pytest.mark.xdist_group("ray"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with four workers' worth of cores, however many there are, and two GPUs that are not."""
    pytest.importorskip("ray", reason="cfgbench[ray] is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": ray_pool.STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of local workers."""
    folder = tmp_path_factory.mktemp("whole")
    runner.run(PLAN, runner.Options(folder, workers=2), Silent())
    return folder


def run(cluster: Any, folder: Path, workers: int, progress: Silent | None = None) -> runner.Outcome:
    """A run of the plan on the cluster."""
    folder.mkdir()
    pool = RayPool(folder, cluster.address, "cpu", workers)
    return runner.run(PLAN, runner.Options(folder, workers=workers), progress or Silent(), pool)


@pytest.mark.parametrize("workers", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_ray_workers_comes_to_the_same_results(
    workers: int, cluster: Any, whole: Path, tmp_path: Path
) -> None:
    outcome = run(cluster, tmp_path / "out", workers)
    assert (outcome.computed, outcome.failed) == (CELLS, [])
    assert_same(tmp_path / "out", whole)


def meet(folder: Path, number: int) -> tuple[int, str | None]:
    """Which process this is and which GPUs it sees, once so many processes have come here."""
    (folder / str(os.getpid())).touch()
    wait_until(lambda: len(list(folder.iterdir())) >= number, timeout=120)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize("workers", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_every_worker_has_a_gpu_of_its_own(workers: int | None, cluster: Any, tmp_path: Path) -> None:
    """As many as there are GPUs, without a word about it; of more that are wanted the rest never starts."""
    (tmp_path / "place").mkdir()
    pool = RayPool(tmp_path, cluster.address, None, workers)
    try:
        assert (pool.device, pool.workers) == ("cuda", workers or 2)
        jobs = [Job((str(k), 0), "tests.test_ray:meet", (tmp_path / "place", 2)) for k in range(8)]
        found = list(pool.run(deque(jobs)))
    finally:
        pool.close()
    assert [done.error for done in found] == [None] * 8
    assert sorted(str(gpu) for _, gpu in {done.value for done in found}) == ["0", "1"]


@pytest.mark.parametrize("device", ["cpu", None])
def test_there_are_as_many_workers_as_gpus_or_without_them_as_cores(
    device: str | None, cluster: Any, tmp_path: Path
) -> None:
    pool = RayPool(tmp_path, cluster.address, device, None)
    pool.close()
    assert (pool.device, pool.workers) == (("cpu", 4) if device else ("cuda", 2))


@pytest.mark.slow
def test_a_job_that_kills_its_worker_fails_and_the_others_are_done(cluster: Any, tmp_path: Path) -> None:
    """And one that raises, and one that returns what cannot be sent."""
    jobs = [Job((f"good {k}", 0), "operator:neg", (k,)) for k in range(10)]
    jobs[3:3] = [Job(("bad", 0), "os:_exit", (9,)), Job(("odd", 0), "tests.test_pool:fail_oddly", ())]
    jobs[7:7] = [Job(("unsendable", 0), "threading:Lock", ())]
    pool = RayPool(tmp_path, cluster.address, "cpu", 2)
    try:
        results = {done.key[0]: done for done in pool.run(deque(jobs))}
    finally:
        pool.close()
    assert [results[f"good {k}"].value for k in range(10)] == [-k for k in range(10)]
    assert "its worker process died each time" in str(results["bad"].error)
    assert isinstance(results["odd"].error, JobError) and "OddError: this and that" in str(results["odd"].error)
    assert isinstance(results["unsendable"].error, JobError)
    assert list(tmp_path.iterdir()) == []


def setting(tmp_path: Path, **changes: Any) -> Setting:
    (tmp_path / "token").touch()
    fields: dict[str, Any] = {"token": tmp_path / "token", "paths": (), "named": (), "installed": machine.installed()}
    return Setting(**{**fields, "show_s": 0.0, **changes})


def test_a_worker_that_sees_no_results_folder_or_has_other_code_is_refused(tmp_path: Path) -> None:
    assert Hand().ready(setting(tmp_path)) == (None, None)
    _, unseen = Hand().ready(setting(tmp_path, token=tmp_path / "nowhere" / "token"))
    assert isinstance(unseen, InputError)
    assert f"sees no results folder {tmp_path / 'nowhere'}; name one on a shared file system" in str(unseen)
    _, other = Hand().ready(setting(tmp_path, installed={**machine.installed(), "torch": "1.0"}))
    assert isinstance(other, InputError) and "not 1.0" in str(other) and "other code" in str(other)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--executor", "ray", "--address", "nonsense"), "--address 'nonsense'; allowed: auto"),
        (("--executor", "ray", "--address", "ray://x:1"), "allowed: auto"),
        (("--executor", "ray", "--address", "127.0.0.1:1"), "no Ray cluster at 127.0.0.1:1"),
        (("--executor", "ray", "--address", "127.0.0.1:99999"), "no Ray cluster at 127.0.0.1:99999"),
        (("--address", "auto"), "add --executor ray"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="cfgbench[ray] is not installed")
    begun = time.monotonic()
    assert cli.main(["run", "experiments/gaussians.yaml", *arguments]) == 2
    assert words in capsys.readouterr().err and time.monotonic() - begun < 60


def test_a_device_that_the_cluster_lacks_is_refused() -> None:
    for given in ("cuda", "cuda:1", "gpu"):
        with pytest.raises(InputError, match="allowed: cpu"):
            ray_pool._device(given, {"CPU": 4.0})
    assert ray_pool._device(None, {"CPU": 4.0, "GPU": 2.0}) == ray_pool._device("cuda", {"GPU": 2.0}) == "cuda"
    assert ray_pool._device("cpu", {"GPU": 2.0}) == "cpu"


class Meddling(Silent):
    """Does something each time that samples are drawn."""

    def __init__(self, meddle: Callable[[int], None]) -> None:
        super().__init__()
        self.meddle, self.times = meddle, 0

    def drawn(self, samples: int) -> None:
        self.times += 1
        self.meddle(self.times)


@pytest.mark.slow
def test_a_run_whose_ray_workers_are_killed_comes_to_the_same_results(
    cluster: Any, whole: Path, tmp_path: Path
) -> None:
    rng, killed = random.Random(3), []

    def kill(times: int) -> None:
        actors = [one for one in psutil.process_iter(["cmdline"]) if "ray::Hand" in " ".join(one.info["cmdline"] or ())]
        if times % 8 == 3 and actors:
            killed.append(rng.choice(actors))
            killed[-1].kill()

    outcome = run(cluster, tmp_path / "out", 3, Meddling(kill))
    assert len(killed) > 2
    assert (outcome.computed, outcome.failed) == (CELLS, [])
    assert_same(tmp_path / "out", whole)


@pytest.mark.slow
def test_a_run_that_loses_a_machine_comes_to_the_same_results(cluster: Any, whole: Path, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=4, object_store_memory=ray_pool.STORE_BYTES)
    cluster.wait_for_nodes()

    def remove(times: int) -> None:
        if times == 10:
            cluster.remove_node(second, allow_graceful=False)

    outcome = run(cluster, tmp_path / "out", 8, Meddling(remove))
    assert (outcome.computed, outcome.failed) == (CELLS, [])
    assert_same(tmp_path / "out", whole)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_on_ray_says_how_to_go_on(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    """With a cluster of its own, of which nothing is left."""
    file, folder = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(SWEEP))
    with running(file, folder, "--executor", "ray") as process:
        wait_until(lambda: len(blocks(folder)) > 3, timeout=120)
        others = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sent)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == code, shown
    assert "what is finished is kept, run the same command to go on" in shown and "Traceback" not in shown
    assert psutil.wait_procs(others, timeout=30)[1] == []
