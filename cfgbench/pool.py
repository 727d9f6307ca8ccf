"""Local worker processes: the default executor. Any object with `run` and `close` can take its place.

Jobs name their function as `module:attribute`, so that the process which hands them out never imports torch.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver, resource_tracker
from typing import NamedTuple

import psutil

from cfgbench import machine, plugins
from cfgbench.errors import InputError
from cfgbench.registry import resolve

MAX_LOSSES = 3  # how often a job may take its worker with it before it counts as failed
_PRELOADED = ["cfgbench.worker", "diffusers.schedulers.scheduling_utils"]  # what takes seconds to import
_SERVER = "multiprocessing.forkserver"  # in the command line of the process that workers are forked from
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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


class LocalPool:
    """Worker processes on this machine. They start when first needed, and are replaced when one dies."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None
        self._running: dict[Future[object], Job] = {}
        self._losses: Counter[tuple[str, int]] = Counter()

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        """Run the jobs of a queue and yield them as they finish; what is added meanwhile runs too.

        Jobs that were running when a worker died run again one by one, so that the one to blame is found out.
        """
        suspects: list[Job] = []
        while queue or suspects or self._running:
            while (suspects or queue) and len(self._running) < self._room(suspects):
                job = suspects.pop() if suspects else queue.popleft()
                self._running[self._submit(job)] = job
            finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in finished:
                job = self._running.pop(future)
                if not isinstance(future.exception(), BrokenProcessPool):
                    yield _done(job, future)
                elif self._is_to_blame(job):
                    yield Done(job.key, None, RuntimeError("its worker process died each time; is memory short?"))
                else:
                    suspects.append(job)

    def close(self) -> None:
        """End the workers, and with them whatever still runs: a run that is stopped does not wait for its blocks."""
        if self._running:
            _end_processes()
        self._shut_down()
        self._running.clear()

    def _room(self, suspects: list[Job]) -> int:
        """How many jobs may run at once: a suspect runs alone."""
        suspected = bool(suspects) or any(self._losses[job.key] for job in self._running.values())
        return 1 if suspected else 2 * self.workers

    def _shut_down(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor = None

    def _is_to_blame(self, job: Job) -> bool:
        self._shut_down()
        self._losses[job.key] += 1
        return self._losses[job.key] >= MAX_LOSSES

    def _submit(self, job: Job) -> Future[object]:
        if self._executor is None:
            self._executor = _executor(self.workers)
        try:
            return self._executor.submit(_call, job.target, job.arguments)
        except BrokenProcessPool as error:
            future: Future[object] = Future()
            future.set_exception(error)
            return future


def _executor(workers: int) -> ProcessPoolExecutor:
    """Workers of one thread each, forked from a server that has imported torch and diffusers once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with _environment(dict.fromkeys(_THREADS, "1")), _interrupts_held():  # read by numpy and torch when they load
        forkserver.ensure_running()
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_initialise, initargs=(plugins.names(),))
    try:
        executor.submit(_call, "cfgbench.worker:ready", ()).result()
    except BaseException:  # stopped while the server still imports
        _end_processes()
        raise
    return executor


def _end_processes() -> None:
    """End the fork server and the workers it has forked; the next job starts them anew."""
    servers = [child for child in psutil.Process().children() if _SERVER in " ".join(child.cmdline())]
    for process in [process for server in servers for process in (server, *server.children(recursive=True))]:
        with suppress(psutil.NoSuchProcess):
            process.terminate()


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


def _initialise(named: tuple[plugins.Named, ...]) -> None:
    """Set a fresh worker up: deaf to Ctrl-C (its parent decides), gone when its parent is, with the same plug-ins."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    machine.keep_freed_memory()
    plugins.use(named)  # found where the parent found them: a worker starts with its sys.path


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _call(target: str, arguments: tuple[object, ...]) -> object:
    try:
        return resolve(target)(*arguments)
    except InputError:
        raise
    except Exception as error:
        raise JobError("".join(traceback.format_exception(error))) from None


def _done(job: Job, future: Future[object]) -> Done:
    error = future.exception()
    return Done(job.key, None if error else future.result(), error)
