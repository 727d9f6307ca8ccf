"""The record of one arm of samples made elsewhere: encoded, put in order, scored."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np

from cfgbench import machine
from cfgbench.cell import Cell, digest
from cfgbench.errors import InputError
from cfgbench.external import encoding, images, layout
from cfgbench.external.arms import Arm, FeatureFile
from cfgbench.external.layout import Layout
from cfgbench.generation import gallery, health
from cfgbench.planning import encoder_refs
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.plan import NUM_GROUPS
from cfgbench.planning.score_requests import ScoreRequest
from cfgbench.records import Absent, CellRecord, Score
from cfgbench.references import sets
from cfgbench.references.sets import Asked, ReferenceSetRef
from cfgbench.registry import METRICS
from cfgbench.running import scoring
from cfgbench.scores.metrics import Reference
from cfgbench.store import Store

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """A checked request: what every arm's scores are made with."""

    encoders: tuple[EncoderRef, ...]
    reference: ReferenceSetRef
    device: str
    scores: tuple[ScoreRequest, ...]
    common: Set[str]  # keys of the items that all arms have
    keys: Set[str]  # of all items of all arms

    def asks(self, request: ScoreRequest) -> Asked | None:
        """What a score asks of the reference, if it is against it."""
        metric = METRICS[request.metric]
        encoder = encoder_refs.provider(self.encoders, metric.needs)
        if request.half is None or encoder is None:
            return None
        return sets.ask(self.reference, request.half, metric, encoder, "{}", self.device)

    def against(self, request: ScoreRequest) -> Reference | None:
        """What a score is against, made once."""
        asked = self.asks(request)
        return None if asked is None else sets.load(self.reference, asked)


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
    labels = encoding.class_numbers(arm.items)
    arranged = layout.arrange(arm.items, job.common)
    given = _arrays(cell, arm, job, store)
    if labels is not None:
        given["labels"] = labels
    arrays = {name: value[list(arranged.order)] for name, value in given.items()}
    scores, absent = _scores(arrays, arranged, job, arm)
    _write_gallery(cell, arm, arranged, job, store)
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
        machine=machine.describe(job.device, threads=1),
    )


def _arrays(cell: Cell, arm: Arm, job: Job, store: Store) -> Arrays:
    """The encoded samples in the source's order, from the cell's block if these encoders made it."""
    if isinstance(arm.source, FeatureFile):
        return encoding.encode(arm.source, arm.items, job.encoders, job.device, arm.place)
    origin = digest([encoder.digest for encoder in job.encoders])
    block = store.block(cell.id, 0)
    if block is None or str(block.pop("origin", "")) != origin:
        block = encoding.encode(arm.source, arm.items, job.encoders, job.device, arm.place)
        store.write_block(cell.id, 0, {**block, "origin": np.array(origin)})
    return block


def _scores(arrays: Arrays, arranged: Layout, job: Job, arm: Arm) -> tuple[list[Score], list[Absent]]:
    """The scores, and those that are not defined for these samples with the reason."""
    broken = int(arrays["nan"].sum())
    if broken:
        reason = f"{broken} of {arm.source.count} samples hold NaN or infinity; an average would hide them"
        return [], [Absent(column=score.column, reason=reason) for score in job.scores]
    found = [_attempt(request, arrays, arranged, job, arm) for request in job.scores]
    return [one for one in found if isinstance(one, Score)], [one for one in found if isinstance(one, Absent)]


def _attempt(request: ScoreRequest, arrays: Arrays, arranged: Layout, job: Job, arm: Arm) -> Score | Absent:
    samples = scoring.samples_of(arrays, scoring.feature_name(arrays, request.metric))
    reference = job.against(request)
    if reference is not None and len(reference.mean) != samples.features.shape[1]:
        dimensions = f"{samples.features.shape[1]} dimensions, those of the reference {len(reference.mean)}"
        raise InputError(f"{arm.place}: features have {dimensions}; both must come from one network")
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
    if "truncated" in arrays and arrays["truncated"].any():
        yield f"{int(arrays['truncated'].sum())} of {total} prompts are longer than what CLIP reads of them"
    yield from arranged.notes
    if len(job.common) < len(job.keys):
        yield f"{len(job.common)} of its {total} items are in all arms; only scores of those are compared in pairs"


def _write_gallery(cell: Cell, arm: Arm, arranged: Layout, job: Job, store: Store) -> None:
    """The strip of the first samples in order, one of each class in turn where classes are known."""
    if isinstance(arm.source, FeatureFile):
        return
    chosen = layout.first_of_each(arm.items, arranged, gallery.SIZE)
    pictures = arm.source.take(chosen, encoding.channels(job.encoders))
    gallery.write(store, cell.id, np.stack([_square(picture) for picture in pictures]))


def _square(picture: np.ndarray) -> np.ndarray:
    """An image (channels, height, width) with white bands that make it square."""
    height, width = picture.shape[1:]
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    bands = ((0, 0), (above, side - height - above), (left, side - width - left))
    return np.pad(picture, bands, constant_values=255)
