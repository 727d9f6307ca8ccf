"""The record of one arm of samples made elsewhere: encoded, put in order, scored."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

import numpy as np

from cfgbench import gallery, health, machine, scoring
from cfgbench.cell import Cell, digest
from cfgbench.errors import InputError
from cfgbench.external import encoding, images, layout
from cfgbench.external.arms import Arm, FeatureFile
from cfgbench.external.layout import Items, Layout
from cfgbench.external.references import Half
from cfgbench.metrics import Samples
from cfgbench.plan import NUM_GROUPS
from cfgbench.records import Absent, CellRecord, Score
from cfgbench.score_requests import ScoreRequest
from cfgbench.store import Store

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """A checked request: what every arm's scores are made with."""

    encoder: str
    scores: tuple[ScoreRequest, ...]
    halves: Mapping[str, Half]
    common: Set[str]  # keys of the items that all arms have
    keys: Set[str]  # of all items of all arms


def is_finished(cell: Cell, arm: Arm, job: Job, store: Store) -> bool:
    """Whether an arm's record holds all that is asked for."""
    record = store.cell(cell.id)
    return record is not None and record.request == _asked(arm, job)


def _asked(arm: Arm, job: Job) -> str:
    """Names what a finished record must contain: scores, and the order of samples."""
    scores = [[score.column, score.identity] for score in job.scores]
    return digest([scores, NUM_GROUPS, layout.arrange(arm.items, job.common).order])


def make_record(cell: Cell, arm: Arm, job: Job, store: Store) -> CellRecord:
    """Encode and score an arm; its gallery strip is written on the way."""
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
        batch_size=images.CHUNK,
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


def _scores(arrays: Arrays, arranged: Layout, job: Job, arm: Arm) -> tuple[list[Score], list[Absent]]:
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


def _attempt(request: ScoreRequest, samples: Samples, job: Job, arranged: Layout) -> Score | Absent:
    reference = job.halves[request.half].reference if request.half else None
    try:
        return scoring.evaluate(request, samples, reference, arranged.unit, arranged.whole)
    except ValueError as error:
        return Absent(column=request.column, reason=str(error))


def _notes(arm: Arm, arrays: Arrays, arranged: Layout, job: Job) -> Iterator[str]:
    total = arm.source.count
    if not isinstance(arm.source, FeatureFile):
        yield from (f"{count} of {total} images {remark}" for remark, count in sorted(arm.source.remarks.items()))
    copies = total - len(np.unique(arrays["pixels"]))
    if copies:
        yield f"{copies} of {total} samples are exact copies of others"
    yield from arranged.notes
    if len(job.common) < len(job.keys):
        yield f"{len(job.common)} of its {total} items are in all arms; only scores of those are compared in pairs"


def _write_gallery(cell: Cell, arm: Arm, arranged: Layout, encoder: str, store: Store) -> None:
    """The strip of the first samples in order, one of each class in turn where classes are known."""
    if isinstance(arm.source, FeatureFile):
        return
    wanted = encoding.image_encoder(encoder, "--encoder").images
    chosen = layout.first_of_each(arm.items, arranged, gallery.SIZE)
    pictures = arm.source.take(chosen, wanted[0] if wanted else 3)
    gallery.write(store, cell.id, np.stack([_square(picture) for picture in pictures]))


def _square(picture: np.ndarray) -> np.ndarray:
    """An image (channels, height, width) with white bands that make it square."""
    height, width = picture.shape[1:]
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    bands = ((0, 0), (above, side - height - above), (left, side - width - left))
    return np.pad(picture, bands, constant_values=255)
