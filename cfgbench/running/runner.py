"""The run: for each cell without a finished record draw the missing blocks, score, record; then time cost classes.

Blocks are the unit of work and of resuming: kill a run anywhere and the same command goes on. A cell that fails is
recorded with its traceback and does not stop the others.
"""

import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cfgbench import machine
from cfgbench.assets.prompts import Prompts
from cfgbench.cell import Cell, digest
from cfgbench.errors import InputError
from cfgbench.planning.experiment import Profile
from cfgbench.planning.plan import Plan, Task
from cfgbench.records import BudgetRecord, CellRecord, ContestRecord, PlanRecord
from cfgbench.registry import METHODS, METRICS
from cfgbench.running import adaptive, preparation
from cfgbench.running.pool import Done, Executor, Job, JobError, LocalPool
from cfgbench.running.shards import Shard, share
from cfgbench.store import Store

MAX_REDRAWS = 3  # how often a cell's blocks may turn out damaged before it counts as failed
SCORE = -1  # in a job's key, where a block's job has the block's first sample


@dataclass(frozen=True)
class Options:
    """What changes neither samples nor scores."""

    folder: Path
    device: str = "cpu"
    workers: int = 1
    profile: bool = True
    threads: int = 1  # of the timed passes


class Progress(Protocol):
    """Told what happens; shows it."""

    def begin(self, samples: int, done: int) -> None: ...
    def drawn(self, samples: int) -> None: ...
    def finished(self, record: CellRecord) -> None: ...
    def stage(self, text: str) -> None: ...


@dataclass
class Outcome:
    """What a run did."""

    cells: set[str] = field(default_factory=set)  # ids of those computed
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    untimed: tuple[str, ...] = ()  # why cost classes could not be timed

    @property
    def computed(self) -> int:
        """How many cells have a new record; an adaptive sweep may write one several times."""
        return len(self.cells)


def run(plan: Plan, options: Options, progress: Progress, executor: Executor | None = None) -> Outcome:
    """Carry out a plan in its results folder; whatever is finished there is not done again.

    The executor is closed at the end; without one the workers are local.
    """
    store = Store(options.folder)
    with store.locked() as check:
        pool, outcome, sweep = executor or _local(options), Outcome(), adaptive.sweep(plan, store)
        try:
            for number, tasks in enumerate(sweep.rounds()):
                plan = replace(plan, tasks=tasks)
                todo = [task for task in tasks if not is_finished(task, store)]
                if number and todo:
                    progress.stage(f"look {number + 1}: {len(todo)} of {len(tasks)} cells get more samples")
                store.write_record(plan_record(plan, _speeds(plan, store, options)))
                preparation.encode_references(todo, pool, options.device, progress.stage)
                _carry_out(_Work(todo, store, options), pool, progress, check, outcome)
            outcome.untimed = tuple(_speed(plan, store, pool, options, progress))
        finally:
            pool.close()
        store.write_record(plan_record(plan, _speeds(plan, store, options), sweep.contests))
    outcome.skipped = len(plan.tasks) - outcome.computed
    return outcome


def draw_share(
    plan: Plan, shard: Shard, options: Options, progress: Progress, executor: Executor | None = None
) -> Outcome:
    """Draw a shard's blocks of a plan, and neither score nor time anything; InputError for an adaptive sweep."""
    if plan.experiment.budget is not None:
        raise InputError("--shard cannot share out an adaptive sweep, whose looks need all cells; leave out `budget`")
    store = Store(options.folder)
    with store.locked(f"shard {shard}") as check:
        todo = [task for task in plan.tasks if not is_finished(task, store)]
        pool = executor or _local(options)
        store.write_record(plan_record(plan, _speeds(plan, store, options)))
        try:
            return _carry_out(_Work(todo, store, options, share(plan.tasks, shard)), pool, progress, check, Outcome())
        finally:
            pool.close()


def _local(options: Options) -> Executor:
    """Workers on this machine, on one GPU each where there are several of both."""
    several = options.device == "cuda" and options.workers > 1
    return LocalPool(options.workers, machine.gpus() if several else ())


def is_finished(task: Task, store: Store) -> bool:
    """Whether a cell's record holds all that is asked for."""
    return _finished(task, store) is not None


def finished(plan: Plan, folder: Path) -> list[CellRecord]:
    """The records of a plan's cells that hold all that is asked for, in plan order."""
    store = Store(folder)
    return [record for task in plan.tasks if (record := _finished(task, store)) is not None]


def _finished(task: Task, store: Store) -> CellRecord | None:
    record = store.cell(task.cell.id)
    return record if record is not None and record.status == "done" and record.request == task.digest else None


def plan_record(plan: Plan, speeds: Sequence[str], contests: tuple[ContestRecord, ...] = ()) -> PlanRecord:
    """What was asked for, as the reading half needs it."""
    experiment = plan.experiment
    return PlanRecord(
        name=experiment.name,
        description=experiment.description,
        metrics=experiment.metrics,
        num_samples=experiment.num_samples,
        contests=contests,
        budget=None if experiment.budget is None else BudgetRecord(**experiment.budget.model_dump()),
        source=_named(Path(experiment.source)),
        overrides=experiment.overrides,
        protocol=experiment.protocol,
        cells=tuple(task.cell for task in plan.tasks),
        speeds=tuple(speeds),
        notes=plan.notes,
        plugin_methods={name: entry for name, entry in METHODS.items() if entry.digest is not None},
        plugin_metrics={name: entry for name, entry in METRICS.items() if entry.digest is not None},
    )


def _named(source: Path) -> str:
    """The experiment file as someone else can find it: where it lies in their folders is not known."""
    return source.name if source.is_absolute() or ".." in source.parts else source.as_posix()


def _carry_out(
    work: "_Work", pool: Executor, progress: Progress, check: Callable[[], None], outcome: Outcome
) -> Outcome:
    """Draw and score; a block found damaged while scoring is drawn again. `check` raises where the folder is gone."""
    progress.begin(work.samples, work.samples - work.samples_missing)
    for done in pool.run(work.queue):
        check()
        progress.drawn(work.take(done))
        while work.records:
            record = work.records.pop()
            progress.finished(record)
            outcome.cells.add(record.id)
            if record.status == "failed":
                outcome.failed.append(record.id)
    return outcome


class _Work:
    """The queue of jobs, and what follows from one that is done.

    With `only` these blocks are drawn, and nothing is scored.
    """

    def __init__(
        self, todo: Sequence[Task], store: Store, options: Options, only: Collection[tuple[str, int]] | None = None
    ) -> None:
        self.tasks = {task.cell.id: task for task in todo}
        self.store, self.options, self._only = store, options, only
        self.missing = {task.cell.id: self._missing(task) for task in todo}
        self.queue = deque(self._block(cell, start) for cell in self.tasks for start in sorted(self.missing[cell]))
        self.queue.extendleft(self._score(cell) for cell in self.tasks if self._is_complete(cell))
        self.samples = sum(len(self._starts(task)) * task.block_size for task in todo)
        self.samples_missing = sum(len(starts) * self.tasks[cell].block_size for cell, starts in self.missing.items())
        self.records: list[CellRecord] = []  # finished since last looked at
        self._failed: set[str] = set()
        self._redraws: Counter[str] = Counter()

    def take(self, done: Done) -> int:
        """Note what became of a job and queue what follows; returns how many samples it drew.

        Raises InputError for what would fail every cell, such as a full disk.
        """
        cell, start = done.key
        if isinstance(done.error, InputError):
            raise done.error
        if cell in self._failed:
            return 0
        if done.error is not None:
            self._fail(cell, done.error)
            return 0
        if start == SCORE:
            self._scored(cell, done.value is True)
            return 0
        self.missing[cell].discard(start)
        if self._is_complete(cell):
            self.queue.appendleft(self._score(cell))
        return self.tasks[cell].block_size

    def _scored(self, cell: str, complete: bool) -> None:
        record = self.store.cell(cell) if complete else None
        if record is not None:
            self.records.append(record)
            return
        self._redraws[cell] += 1
        if self._redraws[cell] > MAX_REDRAWS:
            self._fail(cell, RuntimeError("its blocks were damaged each time they were read; is the disk sound?"))
            return
        self.missing[cell] = self._missing(self.tasks[cell]) or set(self.tasks[cell].starts)
        self.queue.extendleft(self._block(cell, start) for start in sorted(self.missing[cell], reverse=True))

    def _fail(self, cell: str, error: BaseException) -> None:
        self._failed.add(cell)
        others = [job for job in self.queue if job.key[0] != cell]
        self.queue.clear()
        self.queue.extend(others)
        record = failure(self.tasks[cell], error, self.options.device)
        self.store.write_record(record)
        self.records.append(record)

    def _is_complete(self, cell: str) -> bool:
        """Whether a cell is to be scored now."""
        return self._only is None and not self.missing[cell]

    def _starts(self, task: Task) -> list[int]:
        return [start for start in task.starts if self._only is None or (task.cell.id, start) in self._only]

    def _missing(self, task: Task) -> set[int]:
        return {start for start in self._starts(task) if not self.store.has_block(task.cell.id, start)}

    def _block(self, cell: str, start: int) -> Job:
        task, options = self.tasks[cell], self.options
        return Job((cell, start), "cfgbench.running.worker:draw_block", (task, start, options.folder, options.device))

    def _score(self, cell: str) -> Job:
        arguments = (self.tasks[cell], self.options.folder, self.options.device)
        return Job((cell, SCORE), "cfgbench.running.worker:score_cell", arguments)


def failure(task: Task, error: BaseException, device: str) -> CellRecord:
    """The record of a cell that failed, with its traceback (of the worker, where that is known)."""
    return CellRecord(
        id=task.cell.id,
        cell=task.cell,
        status="failed",
        request=task.digest,
        num_classes=task.num_classes,
        block_size=task.block_size,
        batch_size=task.batch_size,
        error=str(error) if isinstance(error, JobError) else "".join(traceback.format_exception(error)),
        machine=machine.describe(device, threads=1),
    )


def _speed(plan: Plan, store: Store, pool: Executor, options: Options, progress: Progress) -> list[str]:
    """Time the cost classes that have no record on this machine, one model after the other; why some could not be."""
    untimed = []
    groups = _to_time(plan, store, options)
    for number, group in enumerate(groups, 1):
        progress.stage(f"timing {len(group)} cost classes of {group[0][0].model.label} ({number}/{len(groups)})")
        arguments = (group, plan.experiment.profile, options.folder, options.device, options.threads)
        for done in pool.run(deque([Job(("speed", number), "cfgbench.running.profiling:measure", arguments)])):
            if isinstance(done.error, InputError):
                raise done.error
            if done.error is not None:
                untimed.append(f"{group[0][0].model.label}: {done.error}".strip())
    return untimed


def _to_time(plan: Plan, store: Store, options: Options) -> list[list[tuple[Cell, int, Prompts | None]]]:
    """The first finished cell of each cost class without a record, as `profiling.Subject`; by loaded model."""
    timed = set(_speeds(plan, store, options))
    groups: dict[str, list[tuple[Cell, int, Prompts | None]]] = {}
    for task in plan.tasks if options.profile else ():
        identity = _speed_id(plan, task, options)
        if identity is not None and identity not in timed and is_finished(task, store):
            timed.add(identity)
            subject = (task.cell, task.num_classes, task.batch_prompts((), options.folder))
            groups.setdefault(f"{task.cell.model.label} {task.cell.arithmetic}", []).append(subject)
    return list(groups.values())


def _speeds(plan: Plan, store: Store, options: Options) -> list[str]:
    """Ids of the speed records that are there, in plan order."""
    ids = dict.fromkeys(_speed_id(plan, task, options) for task in plan.tasks)
    return [identity for identity in ids if identity is not None and store.speed(identity) is not None]


def _speed_id(plan: Plan, task: Task, options: Options) -> str | None:
    profile = plan.experiment.profile
    return None if profile is None else speed_id(task.cell.cost_class, profile, options.device)


def speed_id(cost_class: str, profile: Profile, device: str) -> str:
    """Id of a speed record: the cost class, how it is timed, and on what kind of machine."""
    return digest([cost_class, profile.model_dump(), device, machine.processor(), machine.cores()])
