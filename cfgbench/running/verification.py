"""`cfgbench verify`: draw finished samples again, in other company and order, and compare with what the records kept.

A record keeps its first samples: images as the tiles of a strip, points rounded to four decimals. A sample must not
depend on what it is drawn with, so it comes back the same but for rounding errors. Pixels are whole levels, 1/255
apart: errors of t before they are rounded move 255 t of them at most, on average, and by one level each. Of all other
samples the blocks, where they are still there, keep features and a hash: these are compared too. With `scores`
whole cells are drawn again, and their scores are held to the error bars of the recorded ones.
"""

import math
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
from cfgbench.cell import Cell, canonical_json
from cfgbench.errors import InputError, shown
from cfgbench.generation import gallery
from cfgbench.planning import axes, experiment, model_refs, plan, score_requests, suitability
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.plan import Task
from cfgbench.planning.score_requests import ScoreRequest
from cfgbench.records import CellRecord, Score
from cfgbench.references import sets
from cfgbench.references.sets import NamedSet
from cfgbench.registry import ENCODERS, METHODS, METRICS, MODELS, REFERENCES
from cfgbench.running.pool import Executor, Job
from cfgbench.scores import statistics
from cfgbench.store import Store

# Of a value in [0, 1], or of a coordinate relative to the largest. Half precision rounds as the shapes of a batch
# have it: allowed is twice what its emulation shows on digits.
TOLERANCES = {"fp64": 1e-5, "fp32": 1e-5, "tf32": 1e-2, "fp16": 1e-2, "bf16": 2e-2}
STATE_TOLERANCES = {"fp64": 0.0, "fp32": 0.0, "fp16": 1e-2, "bf16": 5e-2}
SCORE_TOLERANCE = 0.25  # standard errors
FEATURES = 0.05  # of the usual distance between two samples: a pixel that rounds the other way moves them less
PASSES = ("sequential", "batched", "measured")
ROUNDED = 5e-5  # half of the last decimal of a kept point


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
    look = _as_tile if kept.images else np.asarray
    pairs = [(look(sample), kept.samples[index]) for sample, index in zip(fresh, indices, strict=True)]
    measure = _of_images if kept.images else _of_points
    text, agrees = measure(np.stack([new for new, _ in pairs]), np.stack([old for _, old in pairs]), _tolerance(cell))
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
    encoders, cell = _encoders(record), again.cell_in(request.dtype)
    known = {_origin(record, encoders, passes) for passes in PASSES}
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
    text, agrees = _of_features({name: np.concatenate([part[name] for part in parts]) for name in old}, old, cell)
    yield _finding(again.cell, request, f"{len(indices)} of all {len(every)} samples by their features", text, agrees)


def _tolerance(cell: Cell) -> float:
    state = cell.diffusion.state_dtype if cell.diffusion is not None else None
    return TOLERANCES[cell.dtype.removesuffix("_emulated")] + STATE_TOLERANCES[state or "fp32"]


def _as_tile(image: np.ndarray) -> np.ndarray:
    return np.asarray(gallery.tile(image))


def _of_images(new: np.ndarray, old: np.ndarray, tolerance: float) -> tuple[str, bool]:
    """Words and verdict on tiles (n, height, width, ...) in levels."""
    if new.shape != old.shape:
        return f"images of {new.shape[1:]} values, kept are {old.shape[1:]}", False
    levels = np.abs(new.astype(int) - old)
    moved, allowed = int((levels > 0).sum()), math.ceil(2 * 255 * tolerance * levels.size)
    identical = int((levels.reshape(len(levels), -1) == 0).all(1).sum())
    far = f", by at most {levels.max()}/255" if moved else ""
    words = f"{identical} identical, {moved} of {levels.size} values differ{far}"
    return words, bool(moved <= allowed and levels.max() <= max(1, math.ceil(255 * tolerance)))


def _of_points(new: np.ndarray, old: np.ndarray, tolerance: float) -> tuple[str, bool]:
    """Words and verdict on points (n, 2), kept to four decimals."""
    gap = np.abs(new - old)
    identical = int((gap <= ROUNDED * 1.001).all(1).sum())
    words = f"{identical} identical to the four decimals that are kept, others at most {gap.max():.2g} apart"
    return words, bool(gap.max() <= ROUNDED * 1.001 + tolerance * max(1.0, float(np.abs(old).max())))


def _of_features(new: Mapping[str, np.ndarray], old: Mapping[str, np.ndarray], cell: Cell) -> tuple[str, bool]:
    """Words and verdict on hashes of samples (n,) and features of them (n, d), by name."""
    identical = int((new["pixels"] == old["pixels"]).sum())
    gaps = [_gap(new[name], old[name]) for name in old if name.startswith("features")]
    far = max(gaps, default=0.0)
    words = f"{identical} identical, the farthest is {far:.2g} of the usual distance between two samples away"
    return words, bool(far <= FEATURES + 10 * _tolerance(cell))


def _gap(new: np.ndarray, old: np.ndarray) -> float:
    """The largest distance of features (n, d) to those kept, in root mean square distances of two kept ones."""
    usual = math.sqrt(2 * float(np.var(old.astype(np.float64), axis=0).sum()))
    far = float(np.linalg.norm(new.astype(np.float64) - old, axis=1).max())
    return far / usual if usual else (0.0 if far == 0 else math.inf)


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
    apart = {old.column: _apart(old, scores.get(old.column)) for old in record.scores}
    worst = max(apart, key=apart.__getitem__)
    text = f"{len(apart)} scores of {task.num_samples} samples in batches of {task.batch_size}: the farthest is {worst}"
    agrees = apart[worst] <= SCORE_TOLERANCE if task.cell == record.cell else None
    return Finding(record.cell, f"{text}, {apart[worst]:.2g} standard errors away", agrees)


def _apart(old: Score, new: Score | None) -> float:
    """How many standard errors lie between a recorded score and a new one."""
    gap = math.inf if new is None else abs(new.value - old.value)
    error = statistics.standard_error(old.replicates) if old.replicates else None
    if error is None:  # it does not vary, or has too few samples for an error
        return 0.0 if gap <= 1e-9 * abs(old.value) else math.inf
    return gap / error


def _task(record: CellRecord, request: Request) -> Task:
    """What was asked of a cell, from its record; InputError where its scores would not be the same ones today."""
    scores = tuple(_score_request(record, score) for score in record.scores)
    if not scores:
        raise InputError(f"cell {record.id} has no scores to compare; leave --scores away")
    encoders = _encoders(record)
    reference = next((_reference(score)[0] for score in record.scores if "reference" in score.identity), None)
    dtype = request.dtype or record.cell.dtype
    cell = record.cell.model_copy(update={"dtype": dtype})
    size = max(request.batch_size, record.batch_size // 8)  # whole cells in reasonable time
    return Task(cell, record.num_samples, record.num_classes, record.block_size, size, encoders, reference, scores)


def _score_request(record: CellRecord, score: Score) -> ScoreRequest:
    place, identity = f"score {score.column} of cell {record.id}", score.identity
    plugins.check("metric", score.metric, place)
    plugins.check("encoder", str(identity.get("encoder")), place)
    (reference, half), encoder = _reference(score), _encoder(score)
    if half is not None and reference is None:
        raise InputError(f"{place} is against {identity['reference']}, which its results folder does not keep")
    parameters, metric = canonical_json(record.cell.model.parameters), METRICS[score.metric]
    asked = sets.ask(reference, half, metric, encoder, parameters) if reference and half else None
    try:
        now = score_requests.identity(score.metric, encoder, reference, asked)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    changed = [key for key in {*now, *identity} if now.get(key) != identity.get(key)]
    if changed:
        raise InputError(
            f"{place} has {changed[0]} {shown(identity.get(changed[0]))}, which is {shown(now.get(changed[0]))} here"
        )
    return ScoreRequest(score.column, score.metric, half, identity)


def _encoders(record: CellRecord) -> tuple[EncoderRef, ...]:
    """The encoders that a cell's scores name; InputError of one that is not known."""
    for score in record.scores:
        plugins.check("encoder", str(score.identity.get("encoder")), f"score {score.column} of cell {record.id}")
    return tuple(dict.fromkeys(_encoder(score) for score in record.scores))


def _origin(record: CellRecord, encoders: tuple[EncoderRef, ...], passes: str) -> str:
    """What a block of a cell says that it depends on, if these encoders made it."""
    return Task(
        *(record.cell, record.num_samples, record.num_classes, record.block_size, record.batch_size, encoders),
        reference=None,
        scores=(),
        passes=passes,
    ).origin


def _encoder(score: Score) -> EncoderRef:
    """The encoder that a score names, with its files where they are looked for first."""
    name = str(score.identity.get("encoder"))
    keys = ENCODERS[name].parameters if name in ENCODERS else ()
    given = {key: score.identity[f"encoder_{key}"] for key in keys if f"encoder_{key}" in score.identity}
    return EncoderRef(name, tuple(sorted(given.items())))


def _reference(score: Score) -> tuple[NamedSet | None, str | None]:
    """The named reference set and half that a score is against, if it is."""
    text = score.identity.get("reference")
    name, _, half = str(text or "").rpartition("-")
    if name in REFERENCES and half in REFERENCES[name].halves:
        return NamedSet(name), half
    return None, None if text is None else str(text)
