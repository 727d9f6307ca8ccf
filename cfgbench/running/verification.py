"""`cfgbench verify`: draw finished samples again, in other company and order, and compare with what the records kept.

A record keeps its first samples: images as the tiles of a strip, points rounded to four decimals. A sample must not
depend on what it is drawn with, so it comes back the same but for rounding errors. Pixels are whole levels, 1/255
apart: errors of t before they are rounded move 255 t of them at most, on average, and by one level each. Of all other
samples the blocks, where they are still there, keep features and a hash: these are compared too. With `scores`
whole cells are drawn again, and their scores are held to the error bars of the recorded ones.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from cfgbench import plugins
from cfgbench.assets import prompts
from cfgbench.assets.prompts import Prompts, PromptSet
from cfgbench.cell import Cell
from cfgbench.errors import InputError, shown
from cfgbench.generation import gallery
from cfgbench.planning import axes, experiment, model_refs, plan, suitability
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.plan import Task
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS, MODELS
from cfgbench.running import agreement, recorded
from cfgbench.running.pool import Executor, Job
from cfgbench.store import Store

PASSES = ("sequential", "batched", "measured")


@dataclass(frozen=True)
class Request:
    """How much is drawn again, and how otherwise than when it was recorded."""

    cells: int = 3  # drawn at random, as the samples are
    samples: int = 8  # of each cell
    batch_size: int = 3
    seed: int = 0  # of the choice
    dtype: str | None = None  # another one is compared without a verdict
    device: str = "cpu"
    scores: bool = False
    experiment: Path | None = None  # the file, for its prompts; else the one that the results folder names


Drawn = Callable[[int], object]  # told that so many samples more are drawn
Encoders = tuple[EncoderRef, ...] | None


class Finding(NamedTuple):
    """How far the samples of a cell, or one of its scores, are from what is recorded."""

    cell: Cell
    text: str
    agrees: bool | None  # None: there is no verdict


class Kept(NamedTuple):
    """Samples of a record by index; values of images are in levels."""

    samples: Mapping[int, np.ndarray]
    images: bool
    blocks: tuple[int, ...] = ()  # first samples of the blocks that are there, which hold features of every sample


class Chosen(NamedTuple):
    """A cell to draw again, what is kept of it, and what its scores are made of where they are wanted."""

    record: CellRecord
    kept: Kept
    prompts: PromptSet | None
    task: Task | None


def choose(folder: Path, request: Request) -> list[Chosen]:
    """Random finished cells of a results folder; InputError where nothing can be drawn or compared."""
    store = Store(folder)
    found = {record.id: (record, _kept(store, record)) for record in _drawable(store)}
    kept = {name: one for name, one in found.items() if one[1].samples or one[1].blocks}
    if not kept:
        raise InputError(f"{folder} keeps no samples that can be drawn again")
    rng = np.random.default_rng(request.seed)
    chosen = [kept[name] for name in rng.permutation(sorted(kept))[: request.cells]]
    asked = _asked(store, [record for record, _ in chosen], request)
    for record, _ in chosen:
        _check_current(record, request)
    tasks = [_task(record, request) if request.scores else None for record, _ in chosen]  # before workers start
    return [Chosen(*one, asked.get(one[0].id), task) for one, task in zip(chosen, tasks, strict=True)]


def size(chosen: Sequence[Chosen], request: Request) -> int:
    """How many samples will be drawn."""
    counts = (
        min(request.samples, len(kept.samples))
        + min(request.samples, len(kept.blocks) * record.block_size)
        + (task.num_samples if task is not None else 0)
        for record, kept, _, task in chosen
    )
    return sum(counts)


def compare(
    folder: Path, chosen: Sequence[Chosen], request: Request, executor: Executor, drawn: Drawn = lambda count: None
) -> Iterator[Finding]:
    """Draw random samples of these cells again, and tell as soon as it is known how far they are from what is kept.

    `drawn` is told of every few samples.
    """
    rng, workers = np.random.default_rng([request.seed, 1]), _Workers(executor, drawn)
    for one in chosen:
        again = _Again(one.record.cell, one.record.num_classes, one.prompts, folder)
        if one.kept.samples:
            yield _compare(again, one.kept, request, rng, workers)
        if one.kept.blocks:
            yield from _compare_features(again, one, request, rng, workers)
    for one in chosen:
        if one.task is not None:
            yield _rescore(one.record, one.task, request, workers)


def verify(folder: Path, request: Request, executor: Executor) -> list[Finding]:
    """What `compare` finds in a results folder."""
    return [*compare(folder, choose(folder, request), request, executor)]


def _drawable(store: Store) -> Iterator[CellRecord]:
    """The finished cells whose samples are our own."""
    records = [record for cell in store.plan().cells if (record := store.cell(cell.id)) is not None]
    yield from (record for record in records if record.status == "done" and not record.cell.made_elsewhere)


def _kept(store: Store, record: CellRecord) -> Kept:
    starts = range(0, record.num_samples, record.block_size)
    blocks = tuple(start for start in starts if store.has_block(record.id, start)) if record.scores else ()
    images = gallery.tiles(store, record.id)
    if images:
        return Kept(dict(enumerate(images)), images=True, blocks=blocks)
    points = store.points(record.id)
    whole = points is not None and len(points[0]) == min(gallery.POINTS, record.num_samples)  # broken ones are left out
    return Kept(dict(enumerate(points[0])) if points is not None and whole else {}, images=False, blocks=blocks)


class _Again(NamedTuple):
    """A cell to draw again, with its prompts if it has any."""

    cell: Cell
    num_classes: int
    prompts: PromptSet | None
    folder: Path  # of results, which keeps the encodings of prompts

    def cell_in(self, dtype: str | None) -> Cell:
        """The cell, in another dtype if one is given."""
        return self.cell if dtype is None else self.cell.model_copy(update={"dtype": dtype})

    def jobs(self, cell: Cell, indices: list[int], request: Request, encoders: Encoders = None) -> list[Job]:
        """Samples in batches, or what encoders make of them."""
        starts = range(0, len(indices), request.batch_size)
        batches = [indices[start : start + request.batch_size] for start in starts]
        return [self._job(k, cell, batch, request.device, encoders) for k, batch in enumerate(batches)]

    def _job(self, number: int, cell: Cell, indices: list[int], device: str, encoders: Encoders) -> Job:
        texts = self.prompts.texts if self.prompts else ()
        chosen = tuple(texts[index % len(texts)] for index in indices) if texts else ()
        keep = self.folder / plan.ENCODINGS
        prompts = Prompts(chosen, chosen, keep, cell.seed, tuple(indices)) if texts else None
        arguments = (cell, self.num_classes, indices, device, prompts)
        if encoders is None:
            return Job((cell.id, number), "cfgbench.running.worker:redraw", arguments)
        return Job((cell.id, number), "cfgbench.running.worker:redraw_features", (*arguments, encoders))


class _Workers(NamedTuple):
    """Who draws, and who is told of it."""

    executor: Executor
    drawn: Drawn

    def values(self, jobs: Sequence[Job], count: int) -> Iterator[tuple[int, object]]:
        """What jobs of so many samples each return, by their number; InputError where one fails."""
        for done in self.executor.run(deque(jobs)):
            if done.error is not None:
                reason = str(done.error).strip().splitlines()[-1]
                raise InputError(f"cell {done.key[0]} cannot be drawn again: {reason}")
            self.drawn(count)
            yield done.key[1], done.value


def _asked(store: Store, records: Sequence[CellRecord], request: Request) -> dict[str, PromptSet]:
    """The prompts of cells by id, read anew and known to be the same; InputError where they are not to be had."""
    prompted = [record for record in records if record.cell.prompts is not None]
    if not prompted:
        return {}
    file = request.experiment or Path(store.plan().source)
    if not file.is_file():
        raise InputError(f"{store.folder} keeps no prompts; name the experiment that does by --experiment (not {file})")
    loaded = experiment.load(file, store.plan().overrides)
    if loaded.prompts is None:
        raise InputError(f"{file} lacks the field 'prompts', by which cell {prompted[0].id} was asked")
    found = prompts.load(loaded.prompts, loaded.source)
    for record in prompted:
        if record.cell.prompts != found.digest:
            raise InputError(f"cell {record.id} was asked by other prompts than those that {file} names now")
    return {record.id: found for record in prompted}


def _check_current(record: CellRecord, request: Request) -> None:
    """Raise InputError where the cell cannot be drawn here as it was: other weights, other code, no such device."""
    cell, place = record.cell, f"cell {record.id}"
    if cell.prompts is not None and request.scores:
        raise InputError(f"{place} was asked by prompts, and --scores compares cells of classes only; leave it away")
    named = {"model": cell.model.name, "method": cell.guidance.method}
    for kind, name in named.items():
        plugins.check(kind, name, place)
    if request.dtype is not None:
        axes.expand(request.dtype, axes.AXES["dtype"], "--dtype")
        suitability.check_dtype(request.dtype, cell.model.name, "--dtype")
    axes.parameters(cell.model.arguments, MODELS[cell.model.name].parameters, f"model of {place}")
    source = METHODS[cell.guidance.method].digest
    for what, then, now in (
        ("weights of its model", cell.model.digest, model_refs.current_digest(cell, place)),
        ("source of its method", cell.guidance.digest, source),
    ):
        if then != now:
            raise InputError(f"{place}: the {what} ({shown(then)}) are not those that are here ({shown(now)})")


def _compare(again: _Again, kept: Kept, request: Request, rng: np.random.Generator, workers: _Workers) -> Finding:
    """Draw some of the kept samples of a cell again, in random order."""
    cell = again.cell_in(request.dtype)
    indices = [int(index) for index in rng.permutation(sorted(kept.samples))[: request.samples]]
    drawn = dict(workers.values(again.jobs(cell, indices, request), request.batch_size))
    fresh = [sample for k in range(len(drawn)) for sample in np.asarray(drawn[k])]
    look = agreement.as_tile if kept.images else np.asarray
    pairs = [(look(sample), kept.samples[index]) for sample, index in zip(fresh, indices, strict=True)]
    measure = agreement.of_images if kept.images else agreement.of_points
    new, old = (np.stack(side) for side in zip(*pairs, strict=True))
    text, agrees = measure(new, old, agreement.tolerance(cell))
    manner = f"{len(indices)} samples in batches of {request.batch_size}"
    return _finding(again.cell, request, manner, text, agrees)


def _finding(cell: Cell, request: Request, manner: str, text: str, agrees: bool) -> Finding:
    same = request.dtype in (None, cell.dtype)
    return Finding(cell, f"{manner}{'' if same else f' in {request.dtype}'}: {text}", agrees if same else None)


def _compare_features(
    again: _Again, chosen: Chosen, request: Request, rng: np.random.Generator, workers: _Workers
) -> Iterator[Finding]:
    """Draw any samples of a cell again, and compare what encoders make of them with what blocks keep.

    Nothing comes of blocks that other encoders made.
    """
    record, store = chosen.record, Store(again.folder)
    encoders, cell = recorded.encoders(record), again.cell_in(request.dtype)
    known = {recorded.origin(record, encoders, passes) for passes in PASSES}
    found = {start: block for start in chosen.kept.blocks if (block := store.block(record.id, start)) is not None}
    kept = {start: block for start, block in found.items() if str(block.get("origin")) in known}
    every = [start + row for start, block in kept.items() for row in range(len(block["pixels"]))]
    indices = [int(index) for index in rng.permutation(every)[: request.samples]]
    if not indices:
        return
    drawn = dict(workers.values(again.jobs(cell, indices, request, encoders), request.batch_size))
    parts = [cast(Mapping[str, np.ndarray], drawn[k]) for k in range(len(drawn))]
    rows = [(index - index % record.block_size, index % record.block_size) for index in indices]
    old = {name: np.stack([kept[start][name][row] for start, row in rows]) for name in parts[0]}
    new = {name: np.concatenate([part[name] for part in parts]) for name in old}
    text, agrees = agreement.of_features(new, old, cell)
    yield _finding(again.cell, request, f"{len(indices)} of all {len(every)} samples by their features", text, agrees)


def _rescore(record: CellRecord, task: Task, request: Request, workers: _Workers) -> Finding:
    """Draw a whole cell again in a folder that is thrown away, and compare its scores."""
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        folder = Path(name)
        starts = np.random.default_rng(request.seed).permutation(list(task.starts)).tolist()
        draw, score = "cfgbench.running.worker:draw_block", "cfgbench.running.worker:score_cell"
        jobs = [Job((record.id, start), draw, (task, start, folder, request.device)) for start in starts]
        deque(workers.values(jobs, task.block_size), maxlen=0)
        deque(workers.values([Job((record.id, 0), score, (task, folder, request.device))], 0), maxlen=0)
        again = Store(folder).cell(task.cell.id)
    scores = {} if again is None else {score.column: score for score in again.scores}
    apart = {old.column: agreement.apart(old, scores.get(old.column)) for old in record.scores}
    worst = max(apart, key=apart.__getitem__)
    text = f"{len(apart)} scores of {task.num_samples} samples in batches of {task.batch_size}: the farthest is {worst}"
    agrees = apart[worst] <= agreement.SCORE_TOLERANCE if task.cell == record.cell else None
    return Finding(record.cell, f"{text}, {apart[worst]:.2g} standard errors away", agrees)


def _task(record: CellRecord, request: Request) -> Task:
    size = max(request.batch_size, record.batch_size // 8)  # whole cells in reasonable time
    return recorded.task(record, request.dtype or record.cell.dtype, size)
