"""Handing jobs to worker processes: what every executor does, and local workers, the default.

Jobs name their function as `module:attribute`, so that the process which hands them out never imports torch. A worker
has one job at a time and a connection of its own: when it dies, the job that went with it is known, no lock dies with
it, and the others go on. (`concurrent.futures` lets workers share locked queues: killed at the wrong moment, one takes
the lock with it, and the pool waits forever.)
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, context, forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from cfgbench import machine, plugins
from cfgbench.errors import InputError, is_want_of_memory
from cfgbench.registry import resolve

MAX_LOSSES = 3  # how often a job may lose its worker before it counts as failed; or a worker die before it is ready
READY = "cfgbench.running.worker:ready"  # what a worker does first
ENVIRONMENT = {  # of workers; read on import
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),  # glibc keeps what a pass frees for the next: no page is asked for again,
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),  # which took a tenth to a third of a pass's processor time
    "GLIBC_TUNABLES": os.environ.get(
        "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
    ),  # large pages, where the system has them
}
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
END_S = 10.0  # how long a worker that is told to end may take
_PRELOADED = ["cfgbench.running.preloaded"]  # what takes seconds to import
_WORKER = "cfgbench.running.worker"
_SERVER = "multiprocessing.forkserver"  # in the command line of the process that workers are forked from


class Job(NamedTuple):
    """A function by name and its arguments."""

    key: tuple[str, int]
    target: str
    arguments: tuple[object, ...]


class Done(NamedTuple):
    """What became of a job: a value or an exception."""

    key: tuple[str, int]
    value: object
    error: BaseException | None


class JobError(Exception):
    """The traceback of what a job raised: text, since not every exception survives the way between processes."""


class WorkerLostError(Exception):
    """A worker died with its job."""


Attempt = tuple[object, Exception | None]  # what a job returned, or what it raised


class Executor(Protocol):
    """Carries out jobs."""

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        """Run the jobs of a queue and yield them as they finish; what is added meanwhile runs too."""
        ...

    def close(self) -> None:
        """End the workers, and with them whatever still runs: a run that is stopped does not wait for its blocks."""
        ...


class Crew(Protocol):
    """Workers with at most one job each."""

    @property
    def busy(self) -> int:
        """How many have one."""
        ...

    def take(self, job: Job) -> bool:
        """Give the job to a free worker; False if none is free."""
        ...

    def wait(self) -> list[tuple[Job, Done]]:
        """Wait until jobs have ended; the error of one whose worker died is a `WorkerLostError`."""
        ...


def work_off(queue: deque[Job], crew: Crew) -> Iterator[Done]:
    """Run the jobs of a queue and yield them as they finish; what is added meanwhile runs too."""
    agenda = _Agenda(queue)
    while agenda or crew.busy:
        agenda.hand_out(crew)
        finished = [done for job, done in crew.wait() if not agenda.tries_again(job, done)]
        agenda.hand_out(crew)  # first, so that no worker waits for what is done with the results
        yield from map(agenda.verdict, finished)


class _Agenda:
    """What is to be done: the jobs of the queue, then, each alone, those that lost their worker twice.

    Alone, since a worker that is killed for its memory may have had greedy neighbours.
    """

    def __init__(self, queue: deque[Job]) -> None:
        self._queue = queue
        self._suspects: deque[Job] = deque()
        self._losses: Counter[tuple[str, int]] = Counter()
        self._alone = False

    def __bool__(self) -> bool:
        return bool(self._queue or self._suspects)

    def hand_out(self, crew: Crew) -> None:
        """Give jobs to those who are free."""
        self._alone = self._alone and crew.busy > 0
        while self._queue and not self._alone and crew.take(self._queue[0]):
            self._queue.popleft()
        if self._suspects and not crew.busy and crew.take(self._suspects[0]):
            self._suspects.popleft()
            self._alone = True

    def tries_again(self, job: Job, done: Done) -> bool:
        """Whether a job has lost its worker and runs again."""
        if not isinstance(done.error, WorkerLostError):
            return False
        self._losses[job.key] += 1
        if self._losses[job.key] < MAX_LOSSES:
            (self._queue if self._losses[job.key] == 1 else self._suspects).append(job)
        return self._losses[job.key] < MAX_LOSSES

    def verdict(self, done: Done) -> Done:
        """What became of a job, in words where its workers died."""
        if not isinstance(done.error, WorkerLostError):
            return done
        reason = f"its worker process died each time, {MAX_LOSSES} times; is memory short?"
        return done._replace(error=RuntimeError(reason))


class _Worker(NamedTuple):
    """A process and our end of the connection to it."""

    process: BaseProcess
    channel: Connection
    slot: int


class LocalPool:
    """Worker processes of one thread each on this machine. They start when first needed; one that dies is replaced.

    With `gpus` (as in CUDA_VISIBLE_DEVICES) each worker sees one of them, in turn.
    """

    def __init__(self, workers: int, gpus: Sequence[str] = ()) -> None:
        self.workers, self.gpus = workers, gpus
        self._free: list[_Worker] = []
        self._jobs: dict[Connection, tuple[_Worker, Job]] = {}
        self._starting: _Worker | None = None

    @property
    def busy(self) -> int:
        """How many workers have a job."""
        return len(self._jobs)

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        """Run the jobs of a queue and yield them as they finish; what is added meanwhile runs too."""
        return work_off(queue, self)

    def take(self, job: Job) -> bool:
        """Give the job to a free worker, started if need be; raises InputError where no worker can start."""
        while self._free or self.busy < self.workers:
            worker = self._free.pop() if self._free else self._start()
            try:
                worker.channel.send(job[1:])
            except OSError:  # it died while it had nothing to do
                _bury(worker)
                continue
            self._jobs[worker.channel] = worker, job
            return True
        return False

    def wait(self) -> list[tuple[Job, Done]]:
        """Wait until jobs have ended."""
        ready = connection.wait(list(self._jobs))
        return [self._end(*self._jobs.pop(channel)) for channel in list(self._jobs) if channel in ready]

    def close(self) -> None:
        """End the workers, at once where one still works or starts."""
        if self._starting is not None:
            _end_server()
            _bury(self._starting)
        for worker, _ in self._jobs.values():
            worker.process.terminate()
        _bury(*self._hired())
        self._free, self._jobs, self._starting = [], {}, None

    def _hired(self) -> list[_Worker]:
        return [*self._free, *(worker for worker, _ in self._jobs.values())]

    def _end(self, worker: _Worker, job: Job) -> tuple[Job, Done]:
        try:
            value, error = worker.channel.recv()
        except (EOFError, OSError):
            _bury(worker)
            return job, Done(job.key, None, WorkerLostError())
        self._free.append(worker)
        return job, Done(job.key, value, error)

    def _start(self) -> _Worker:
        """A worker that is ready; InputError says why none can be had."""
        slot = min(set(range(self.workers)) - {worker.slot for worker in self._hired()})
        for _ in range(MAX_LOSSES):
            try:
                return self._launch(slot)
            except (EOFError, OSError):  # the worker, or the server that forks it, was killed
                _bury(*filter(None, [self._starting]))
        raise InputError(f"worker processes die while they start: {_why()}")

    def _launch(self, slot: int) -> _Worker:
        forking = _server()
        ours, theirs = forking.Pipe()
        gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
        process = forking.Process(target=_serve, args=(theirs, plugins.names(), gpu))
        self._starting = worker = _Worker(process, ours, slot)
        process.start()
        theirs.close()
        _, error = ours.recv()
        self._starting = None
        if error is not None:
            _bury(worker)
            raise error if isinstance(error, InputError) else InputError(f"worker processes cannot start: {_why()}")
        return worker


def _server() -> context.ForkServerContext:
    """The server that workers are forked from, which has imported torch and diffusers once; started where it is not."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(_PRELOADED)
    with _environment(ENVIRONMENT), _interrupts_held():
        forkserver.ensure_running()
    return forking


def _end_server() -> None:
    """End the fork server and the workers it has forked; the next job starts them anew."""
    for server in psutil.Process().children():
        with suppress(psutil.Error):
            if _SERVER in " ".join(server.cmdline()):
                for process in (*server.children(recursive=True), server):
                    with suppress(psutil.Error):
                        process.terminate()


def _bury(*workers: _Worker) -> None:
    """See workers to their end, which comes by itself once nobody is at the other end of their connection."""
    for worker in workers:
        worker.channel.close()
    for process in [worker.process for worker in workers if worker.process.pid is not None]:
        process.join(END_S)
        if process.is_alive():
            process.kill()
            process.join()


def _why() -> str:
    """Why a process cannot become a worker, as the last line that an attempt prints, and how to see more."""
    tried = subprocess.run([sys.executable, "-c", f"import {_WORKER}"], capture_output=True, text=True, check=False)
    last = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1] if tried.returncode else ""
    reason = last or "something kills them"
    reason += "; is memory short?" if not last or is_want_of_memory(last) else ""
    return f"{reason} (`{Path(sys.executable).name} -c 'import {_WORKER}'` tries it)"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    saved = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A Ctrl-C in here is heard at the end; what starts in here inherits the mask and never hears one."""
    resource_tracker.ensure_running()  # when it starts it lifts the mask
    saved = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, saved)


def _serve(channel: Connection, named: tuple[plugins.Named, ...], gpu: str | None) -> None:
    """The life of a worker: set up, then job after job until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    machine.keep_freed_memory()
    if gpu is not None:
        os.environ[VISIBLE_GPUS] = gpu  # before CUDA is asked for the first time
    with suppress(EOFError, OSError):
        channel.send(_ready(named))
        while True:
            target, arguments = channel.recv()
            _answer(channel, attempt(target, arguments))


def _ready(named: tuple[plugins.Named, ...]) -> Attempt:
    """The same plug-ins as the parent has, found where it found them: a worker starts with its sys.path."""
    value, error = attempt("cfgbench.plugins:use", (named,))
    return (value, error) if error is not None else attempt(READY, ())


def _answer(channel: Connection, result: Attempt) -> None:
    try:
        channel.send(result)
    except OSError:
        raise
    except Exception as error:  # a value that cannot be sent
        channel.send((None, JobError("".join(traceback.format_exception(error)))))


def attempt(target: str, arguments: tuple[object, ...]) -> Attempt:
    """What a job returns, or its exception as one that can be sent."""
    try:
        return resolve(target)(*arguments), None
    except InputError as error:
        return None, error
    except Exception as error:
        return None, JobError("".join(traceback.format_exception(error)))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
