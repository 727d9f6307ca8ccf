"""Workers on a Ray cluster (`pip install 'cfgbench[ray]'`): the same jobs and the same results, on many machines.

Each worker is an actor with one core, and one GPU on a CUDA device; it keeps its models loaded from job to job. Results
travel as files, so every machine needs the results folder at the same path on a shared file system; a worker that does
not see it, or has other code or other versions than this machine, is refused when it starts.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfgbench import machine, plugins
from cfgbench.errors import InputError, shown, unwritable
from cfgbench.registry import resolve
from cfgbench.running.pool import (
    ENVIRONMENT,
    MAX_LOSSES,
    READY,
    Attempt,
    Done,
    Job,
    JobError,
    WorkerLostError,
    attempt,
    work_off,
)
from cfgbench.store import TEMPORARY

START_S = 300.0  # how long no worker at all may be ready
CONNECT_S = 10.0
SHOW_S = 60.0  # how long a network file system may take to show a new file
STORE_BYTES = 100 << 20  # of a cluster that is started here; nothing large travels through Ray


@dataclass(frozen=True)
class Setting:
    """What a worker must find where it runs."""

    token: Path  # a file in the results folder
    paths: tuple[str, ...]  # where this process finds modules
    named: tuple[plugins.Named, ...]
    installed: dict[str, str]
    show_s: float = SHOW_S


class Hand:
    """What runs as an actor: a process of the cluster that does one job after the other."""

    def ready(self, setting: Setting) -> Attempt:
        """Set up; the error says what its machine lacks."""
        value, error = attempt("cfgbench.running.ray_pool:set_up", (setting,))
        if error is not None:
            error = InputError(f"worker on {socket.gethostname()}: {str(error).strip().splitlines()[-1]}")
        return value, error

    def work(self, target: str, arguments: tuple[object, ...]) -> Attempt:
        """What a job returns, or what it raised."""
        return attempt(target, arguments)


def set_up(setting: Setting) -> None:
    """Make this process a worker; InputError where its machine differs or does not see the results folder."""
    sys.path.extend(path for path in setting.paths if path not in sys.path)
    here = machine.installed()
    wrong = [
        f"{name} {here.get(name)}, not {wanted}"
        for name, wanted in setting.installed.items()
        if here.get(name) != wanted
    ]
    if wrong:
        raise InputError(f"other code than where the run was started: {'; '.join(wrong)}; install the same")
    _look_for(setting.token, setting.show_s)
    plugins.use(setting.named)
    resolve(READY)()


def _look_for(token: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not token.exists():
        if time.monotonic() > end:
            raise InputError(f"sees no results folder {token.parent}; name one on a shared file system with --output")
        time.sleep(0.2)


class RayPool:
    """Workers of a Ray cluster, started here where no address is given. One that dies is replaced."""

    def __init__(self, folder: Path, address: str | None, device: str | None, workers: int | None) -> None:
        """`device` is cpu or cuda, and by default cuda where the cluster has GPUs; workers: one per GPU or core."""
        self._ray = _connect(address)
        resources = self._ray.cluster_resources()
        self.device = _device(device, resources)
        self.workers = workers or int(resources.get("GPU" if self.device == "cuda" else "CPU", 1))
        self._folder = folder
        self._token: Path | None = None
        self._starting: dict[Any, Any] = {}  # actors by the reference to what `ready` will return
        self._free: list[Any] = []
        self._jobs: dict[Any, tuple[Any, Job]] = {}  # by the reference to what the job will return
        self._false_starts = 0

    @property
    def busy(self) -> int:
        """How many workers have a job."""
        return len(self._jobs)

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        """Run the jobs of a queue and yield them as they finish; what is added meanwhile runs too."""
        return work_off(queue, self)

    def take(self, job: Job) -> bool:
        """Give the job to a worker that is ready; where some are lacking they begin to start."""
        if not self._free:
            self._recruit()
            return False
        actor = self._free.pop()
        self._jobs[actor.work.remote(job.target, job.arguments)] = actor, job
        return True

    def wait(self) -> list[tuple[Job, Done]]:
        """Wait until jobs have ended or workers are ready; InputError where none can be had."""
        references = [*self._jobs, *self._starting]
        ready, _ = self._ray.wait(references, num_returns=1, timeout=None if self._jobs else START_S)
        if not ready:
            raise InputError(self._nobody())
        ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        for reference in [reference for reference in ready if reference in self._starting]:
            self._welcome(reference)
        return [self._end(reference) for reference in ready if reference in self._jobs]

    def close(self) -> None:
        """End the workers and, where it was started here, the cluster."""
        self._ray.shutdown()
        if self._token is not None:
            self._token.unlink(missing_ok=True)
        self._starting, self._free, self._jobs = {}, [], {}

    def _recruit(self) -> None:
        gpus = 1 if self.device == "cuda" else 0
        options = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "runtime_env": {"env_vars": ENVIRONMENT}}
        hand = self._ray.remote(Hand).options(**options)
        while len(self._jobs) + len(self._free) + len(self._starting) < self.workers:
            actor = hand.remote()
            self._starting[actor.ready.remote(self._setting())] = actor

    def _setting(self) -> Setting:
        if self._token is None:
            self._token = self._folder / f"{TEMPORARY}{uuid.uuid4().hex}"
            try:
                self._token.touch()
            except OSError as error:
                raise unwritable(self._token, error) from None
        paths = tuple(str(Path(path).resolve()) for path in sys.path)
        return Setting(self._token, paths, plugins.names(), machine.installed())

    def _welcome(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        _, error = self._outcome(reference)
        if error is None:
            self._free.append(actor)
        elif not isinstance(error, WorkerLostError):
            raise error
        else:
            self._false_starts += 1
            if self._false_starts >= MAX_LOSSES * self.workers:
                raise InputError("workers of the Ray cluster die while they start; is memory short?")
            self._recruit()

    def _end(self, reference: Any) -> tuple[Job, Done]:
        actor, job = self._jobs.pop(reference)
        value, error = self._outcome(reference)
        if not isinstance(error, WorkerLostError):
            self._free.append(actor)
        return job, Done(job.key, value, error)

    def _outcome(self, reference: Any) -> Attempt:
        try:
            attempt: Attempt = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # the job never came to run
            return None, JobError(str(error))
        except self._ray.exceptions.RayError:  # the actor, its machine or the way to it is gone
            return None, WorkerLostError()
        return attempt

    def _nobody(self) -> str:
        resources = {name: int(self._ray.cluster_resources().get(name, 0)) for name in ("CPU", "GPU")}
        needed = "1 CPU and 1 GPU" if self.device == "cuda" else "1 CPU"
        return f"no worker was ready within {START_S:.0f} s; each needs {needed}, and the Ray cluster has {resources}"


def _connect(address: str | None) -> Any:
    """The ray module, connected to the cluster at an address, or to one of this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a benchmark of your models tells nobody about it
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError("--executor ray needs Ray: pip install 'cfgbench[ray]'") from None
    where = address or os.environ.get("RAY_ADDRESS", "local")
    _check_address(where)
    own: dict[str, Any] = {"num_cpus": machine.cores(), "object_store_memory": STORE_BYTES} if where == "local" else {}
    with _signals_kept():
        try:
            ray.init(where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"no Ray cluster at {where}: {reason}; `ray start --head` starts one") from None
    return ray


def _check_address(address: str) -> None:
    """Raise InputError for what is no address, or one where nobody listens: Ray itself asks for two minutes."""
    if address in ("local", "auto"):
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise InputError(
            f"--address {shown(address)}; allowed: auto (a cluster that this machine is part of), HOST:PORT"
        )
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster at {address}: {error}; `ray start --head` starts one") from None


def _device(given: str | None, resources: dict[str, float]) -> str:
    found = "cuda" if resources.get("GPU") else "cpu"
    if given not in (None, "cpu", found):
        allowed = "cpu, cuda" if found == "cuda" else "cpu, since the cluster has no GPU"
        raise InputError(f"--device {given!r} with --executor ray; allowed: {allowed}")
    return given or found


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours."""
    saved = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, saved)
