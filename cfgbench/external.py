"""`cfgbench score`: samples made elsewhere, in any framework, get the records that a run of cfgbench makes of its own.

A cell's id holds the content of its files, so changed images are a new cell, and unchanged ones are scored once.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfgbench import encoding, gallery, health, layout, machine, references, scoring
from cfgbench.cell import Cell, digest
from cfgbench.errors import InputError, unknown
from cfgbench.imports import Arm, FeatureFile, Source
from cfgbench.layout import Items, Layout
from cfgbench.metrics import Samples
from cfgbench.plan import NUM_GROUPS, ScoreRequest
from cfgbench.records import Absent, CellRecord, PlanRecord, Score
from cfgbench.references import Half
from cfgbench.registry import ENCODERS, METRICS, REFERENCES
from cfgbench.runner import Progress
from cfgbench.store import Store

SOURCE = "cfgbench score"  # the plan's source, where a run has its YAML file

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Request:
    """What to score, and against what."""

    name: str
    arms: tuple[Arm, ...]
    reference: str
    encoder: str | None = None
    metrics: tuple[str, ...] = ()  # none: all that can be had
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """A checked request: what every arm's scores are made with."""

    encoder: str
    scores: tuple[ScoreRequest, ...]
    halves: Mapping[str, Half]
    common: Set[str]  # keys of the items that all arms have
    keys: Set[str]  # of all items of all arms


def run(request: Request, folder: Path, progress: Progress) -> int:
    """Write the records of all arms into a results folder; returns how many were not there already."""
    job = _job(request)
    cells = _cells(request)
    store = Store(folder)
    with store.locked():
        _check_folder(folder)
        store.write_record(_plan(request, job, list(cells)))
        fresh = [(cell, arm) for cell, arm in cells.items() if not _is_finished(cell, arm, job, store)]
        for cell, arm in fresh:
            record = _record(cell, arm, job, store)
            store.write_record(record)
            progress.finished(record)
    return len(fresh)


def _job(request: Request) -> _Job:
    """Check everything that can be checked before anything is encoded."""
    if not request.arms:
        raise InputError("no samples given; write s=1.0:PATH s=1.5:PATH ... or --manifest FILE.csv")
    encoder = request.encoder or _default_encoder(request)
    if encoder != encoding.FEATURES:
        encoding.image_encoder(encoder, "--encoder")
    for arm in request.arms:
        encoding.check(arm.source, encoder, arm.place)
    halves = {half.name: half for half in references.load(request.reference, encoder)}
    provided = _provided(request.arms, encoder)
    metrics = request.metrics or tuple(name for name, metric in METRICS.items() if metric.needs in provided)
    scores = tuple(score for name in metrics for score in _score_requests(name, provided, encoder, halves))
    keys = [frozenset(arm.items.keys) for arm in request.arms]
    return _Job(encoder, scores, halves, frozenset.intersection(*keys), frozenset.union(*keys))


def _default_encoder(request: Request) -> str:
    """The encoder that a named reference goes with, or none at all where all is features."""
    if request.reference in REFERENCES and request.reference in ENCODERS:
        return request.reference
    if references.is_features(request.reference) and all(isinstance(arm.source, FeatureFile) for arm in request.arms):
        return encoding.FEATURES
    able = ", ".join(name for name, entry in ENCODERS.items() if entry.images is not None)
    raise InputError(f"images need an encoder: --encoder {able} (or `features`, where all files hold features)")


def _provided(arms: Sequence[Arm], encoder: str) -> set[str]:
    """What metrics can read of at least one arm."""
    found = {name for arm in arms if isinstance(arm.source, FeatureFile) for name in arm.source.content}
    if not all(isinstance(arm.source, FeatureFile) for arm in arms):
        found |= set(ENCODERS[encoder].provides)
    return found


def _score_requests(
    name: str, provided: Set[str], encoder: str, halves: Mapping[str, Half]
) -> Iterator[ScoreRequest]:
    if name not in METRICS:
        raise unknown("metric", name, "--metrics", METRICS)
    metric = METRICS[name]
    if metric.needs not in provided:
        raise InputError(f"metric {name!r} needs {metric.needs}, which neither encoder {encoder!r} nor any file gives")
    identity: dict[str, str | int | float] = {"metric": name, "encoder": encoder, "pixels": "uint8-as-given"}
    weights = encoding.encoder_digests(encoder)
    if metric.needs in weights:
        identity["encoder_digest"] = weights[metric.needs]
    identity |= {key: value for key, value in metric.parameters.items() if isinstance(value, str | int | float)}
    for half in halves.values() if metric.reference else ():
        against = {"reference": half.name, "reference_digest": half.digest}
        yield ScoreRequest(name + half.ending, name, half.name, identity | against)
    if not metric.reference:
        yield ScoreRequest(name, name, None, identity)


def _cells(request: Request) -> dict[Cell, Arm]:
    """The cell of every arm, each once; InputError where two arms are the same point with other samples."""
    cells: dict[Cell, Arm] = {}
    for arm in request.arms:
        cell = arm.cell(request.name)
        for other, earlier in cells.items():
            if other.guidance == cell.guidance and other.id != cell.id:
                raise InputError(
                    f"{earlier.place} and {arm.place} are both the samples of {cell.guidance.method} "
                    f"{cell.guidance.parameters or ''}".rstrip() + ", and differ; give one of them"
                )
        if cell.id not in {other.id for other in cells}:
            cells[cell] = arm
    return cells


def _check_folder(folder: Path) -> None:
    if (folder / "plan.json").exists() and Store(folder).plan().source != SOURCE:
        raise InputError(f"{folder} holds a run of cfgbench; choose another --name or --output for these scores")


def _plan(request: Request, job: _Job, cells: Sequence[Cell]) -> PlanRecord:
    return PlanRecord(
        name=request.name,
        description=f"Samples made elsewhere, scored by encoder {job.encoder} against {request.reference}.",
        metrics=tuple(dict.fromkeys(score.metric for score in job.scores)),
        num_samples=max(arm.source.count for arm in request.arms),
        source=SOURCE,
        cells=tuple(cells),
        notes=request.notes,
    )


def _is_finished(cell: Cell, arm: Arm, job: _Job, store: Store) -> bool:
    record = store.cell(cell.id)
    return record is not None and record.request == _asked(arm, job)


def _asked(arm: Arm, job: _Job) -> str:
    """Names what a finished record must contain: scores, and the order of samples."""
    scores = [[score.column, score.identity] for score in job.scores]
    return digest([scores, NUM_GROUPS, layout.arrange(arm.items, job.common).order])


def _record(cell: Cell, arm: Arm, job: _Job, store: Store) -> CellRecord:
    labels = _class_numbers(arm.items)
    arranged = layout.arrange(arm.items, job.common)
    given = _arrays(cell, arm, labels, job.encoder, store)
    if labels is not None:
        given["labels"] = labels
    arrays = {name: value[list(arranged.order)] for name, value in given.items()}
    scores, absent = _scores(arrays, arranged, job, arm)
    _write_gallery(cell, arm, arranged, job.encoder, store)
    counts = {arranged.whole, *(count for score in scores for count in score.nested)}
    return CellRecord(
        id=cell.id,
        cell=cell,
        status="done",
        request=_asked(arm, job),
        num_samples=arranged.whole,
        num_classes=len(set(arm.items.labels or (0,))),
        block_size=arm.source.count,
        batch_size=1,
        scores=tuple(scores),
        absent=tuple(absent),
        health=health.total(arrays),
        pixels=arrays["pixels"][: gallery.SIZE].tobytes().hex(),
        pairing=layout.pairing(arm.items, arranged, counts),
        notes=tuple(f"{arm.place}: {note}" for note in _notes(arm, arrays, arranged, job)),
        machine=machine.describe("cpu", threads=1),
    )


def _class_numbers(items: Items) -> np.ndarray | None:
    """Labels (n,) where they are the encoder's class numbers; None for names."""
    known = items.labels is not None and all(isinstance(label, int) for label in items.labels)
    return np.asarray(items.labels, dtype=np.int64) if known else None


def _arrays(cell: Cell, arm: Arm, labels: np.ndarray | None, encoder: str, store: Store) -> Arrays:
    """The encoded samples in the source's order, from the cell's block if this encoder made it."""
    if isinstance(arm.source, FeatureFile):
        return encoding.encode(arm.source, labels, encoder, arm.place)
    origin = digest([encoder, encoding.encoder_digests(encoder)])
    block = store.block(cell.id, 0)
    if block is None or str(block.pop("origin", "")) != origin:
        block = encoding.encode(arm.source, labels, encoder, arm.place)
        store.write_block(cell.id, 0, {**block, "origin": np.array(origin)})
    return block


def _scores(arrays: Arrays, arranged: Layout, job: _Job, arm: Arm) -> tuple[list[Score], list[Absent]]:
    """The scores, and those that are not defined for these samples with the reason."""
    broken = int(arrays["nan"].sum())
    if broken:
        reason = f"{broken} of {arm.source.count} samples hold NaN or infinity; an average would hide them"
        return [], [Absent(column=score.column, reason=reason) for score in job.scores]
    scores, absent, samples = [], [], scoring.samples_of(arrays)
    for request in job.scores:
        reference = job.halves[request.half].reference if request.half else None
        if reference is not None and len(reference.mean) != samples.features.shape[1]:
            dimensions = f"{samples.features.shape[1]} dimensions, those of the reference {len(reference.mean)}"
            raise InputError(f"{arm.place}: features have {dimensions}; both must come from one network")
        found = _attempt(request, samples, job, arranged)
        scores += [found] if isinstance(found, Score) else []
        absent += [found] if isinstance(found, Absent) else []
    return scores, absent


def _attempt(request: ScoreRequest, samples: Samples, job: _Job, arranged: Layout) -> Score | Absent:
    reference = job.halves[request.half].reference if request.half else None
    try:
        return scoring.evaluate(request, samples, reference, arranged.unit, arranged.whole)
    except ValueError as error:
        return Absent(column=request.column, reason=str(error))


def _notes(arm: Arm, arrays: Arrays, arranged: Layout, job: _Job) -> Iterator[str]:
    total = arm.source.count
    if not isinstance(arm.source, FeatureFile):
        yield from (f"{count} of {total} images {remark}" for remark, count in sorted(arm.source.remarks.items()))
    copies = total - len(np.unique(arrays["pixels"]))
    if copies:
        yield f"{copies} of {total} samples are exact copies of others"
    yield from arranged.notes
    if len(job.common) < len(job.keys):
        yield (
            f"{len(job.common)} of its {total} items are in all arms; scores of other items are compared "
            "as independent, not in pairs"
        )


def _write_gallery(cell: Cell, arm: Arm, arranged: Layout, encoder: str, store: Store) -> None:
    """The strip of the first samples in order, one class after the other where classes are known, made square."""
    if isinstance(arm.source, FeatureFile):
        return
    chosen = _first_rounds(arm.items, arranged)
    gallery.write(store, cell.id, np.stack([_square(image) for image in _images(arm.source, chosen, encoder)]))
