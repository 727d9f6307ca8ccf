"""`cfgbench score`: samples made elsewhere, in any framework, get the records that a run of cfgbench makes of its own.

A cell's id holds the content of its files, so changed images are a new cell, and unchanged ones are scored once.
"""

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from cfgbench.cell import Cell, number
from cfgbench.errors import InputError, shown, unknown
from cfgbench.external import encoding, references
from cfgbench.external.arms import Arm, FeatureFile
from cfgbench.external.record import Job, is_finished, make_record
from cfgbench.planning import encoder_refs, score_requests
from cfgbench.planning.encoder_refs import ELSEWHERE, EncoderRef
from cfgbench.planning.experiment import NAME
from cfgbench.planning.score_requests import ScoreRequest
from cfgbench.records import PlanRecord
from cfgbench.references import sets
from cfgbench.references.features import PART
from cfgbench.registry import ENCODERS, METRICS, REFERENCES, Metric
from cfgbench.running.runner import Progress
from cfgbench.store import Store

SOURCE = "cfgbench score"  # the plan's source, where a run has its YAML file


@dataclass(frozen=True)
class Request:
    """What to score, and against what."""

    name: str
    arms: tuple[Arm, ...]
    reference: str
    encoders: tuple[str, ...] = ()  # none: the one that goes with the reference
    metrics: tuple[str, ...] = ()  # none: all that can be had
    notes: tuple[str, ...] = ()
    device: str = "cpu"


def run(request: Request, folder: Path, progress: Progress) -> int:
    """Write the records of all arms into a results folder; returns how many were not there already."""
    job = _job(request)
    cells = _cells(request)
    store = Store(folder)
    with store.locked():
        _check_folder(folder)
        store.write_record(_plan(request, job, [cell for cell, _ in cells]))
        _encode_reference(job, progress)
        fresh = [(cell, arm) for cell, arm in cells if not is_finished(cell, arm, job, store)]
        for cell, arm in fresh:
            record = make_record(cell, arm, job, store)
            store.write_record(record)
            progress.finished(record)
    return len(fresh)


def _job(request: Request) -> Job:
    """Check everything that can be checked before anything is encoded."""
    if not re.fullmatch(NAME, request.name):
        raise InputError(f"--name {shown(request.name)}; a name is letters, digits, '.', '_' and '-', at most 80")
    if not request.arms:
        raise InputError("no samples given; write s=1.0:PATH s=1.5:PATH ... or --manifest FILE.csv")
    encoders = encoding.parse(request.encoders or [_default_encoder(request)])
    for arm in request.arms:
        for encoder in encoders:
            encoding.check(arm.source, encoder, arm.place)
    reference = references.load(request.reference, encoders)
    provided = _provided(request.arms, encoders)
    keys = [frozenset(arm.items.keys) for arm in request.arms]
    common, union = frozenset.intersection(*keys), frozenset.union(*keys)
    job = Job(encoders, reference, request.device, scores=(), common=common, keys=union)
    metrics = request.metrics or tuple(METRICS)
    scores = (score for name in metrics for score in _score_requests(name, provided, job, bool(request.metrics)))
    return replace(job, scores=tuple(scores))


def _encode_reference(job: Job, progress: Progress) -> None:
    """Encode what is not kept of the reference, part by part."""
    asks = dict.fromkeys(job.asks(score) for score in job.scores)
    for ask in filter(None, asks):
        starts = list(job.reference.missing(ask))
        for count, start in enumerate(starts, 1):
            with encoding.one_thread(), encoding.sentences(str(ask.encoder)):
                job.reference.prepare(ask, start)
            progress.stage(f"reference pictures encoded: {count} of {len(starts)} parts of {PART}")


def _default_encoder(request: Request) -> str:
    """The encoder that a named reference goes with, or none at all where all is features."""
    if request.reference in REFERENCES and request.reference in ENCODERS:
        return request.reference
    if references.is_features(request.reference) and all(isinstance(arm.source, FeatureFile) for arm in request.arms):
        return ELSEWHERE
    able = ", ".join(name for name, entry in ENCODERS.items() if entry.images is not None)
    raise InputError(f"images need an encoder: --encoder {able} (or `{ELSEWHERE}`, where all files hold features)")


def _provided(arms: Sequence[Arm], encoders: Sequence[EncoderRef]) -> set[str]:
    """What metrics can read of at least one arm."""
    found = {name for arm in arms if isinstance(arm.source, FeatureFile) for name in arm.source.content}
    drawn = [arm for arm in arms if not isinstance(arm.source, FeatureFile)]
    for encoder in encoders if drawn else ():
        found |= set(encoder.entry.provides)
        if encoder.entry.prompts and all(arm.items.prompts is None for arm in drawn):
            found.discard("clip_scores")
    return found


def _score_requests(name: str, provided: Set[str], job: Job, required: bool) -> Iterator[ScoreRequest]:
    """The scores of a metric; InputError, or none where it is not required, if something that it needs is missing."""
    if name not in METRICS:
        raise unknown("metric", name, "--metrics", METRICS)
    metric = METRICS[name]
    encoder = encoder_refs.provider(job.encoders, metric.needs)
    lacking = _lacking(metric, encoder, provided, job)
    if lacking or encoder is None:
        if required:
            raise InputError(f"metric {name!r} needs {lacking}")
        return
    for half in job.reference.halves if metric.reference else (None,):
        asked = sets.ask(job.reference, half, metric, encoder, "{}", job.device) if half else None
        identity = score_requests.identity(name, encoder, job.reference, asked, pixels="uint8-as-given")
        yield ScoreRequest(score_requests.column(name, half), name, half, identity)


def _lacking(metric: Metric, encoder: EncoderRef | None, provided: Set[str], job: Job) -> str | None:
    """What a metric needs and does not have here."""
    if encoder is None or metric.needs not in provided:
        prompts = "; prompts are given by --manifest" if metric.needs == "clip_scores" else ""
        names = " and ".join(map(str, job.encoders))
        return f"{metric.needs}, which neither encoder {names} nor any file gives{prompts}"
    if metric.classes and not encoder.entry.classes:
        return f"the classes of the samples, which are not those of encoder {encoder}"
    asked = sets.ask(job.reference, job.reference.halves[0], metric, encoder, "{}")
    if metric.reference and not job.reference.serves(asked):
        return f"more of the reference than {job.reference.name} holds"
    return None


def _cells(request: Request) -> list[tuple[Cell, Arm]]:
    """The cell of every arm, each once; InputError where two arms are the same point with other samples."""
    cells: list[tuple[Cell, Arm]] = []
    for arm in request.arms:
        cell = arm.cell(request.name)
        same = [(other, earlier) for other, earlier in cells if other.guidance == cell.guidance]
        if not same:
            cells.append((cell, arm))
        elif same[0][0].id != cell.id:
            point = cell.guidance.method + "".join(f" {number(value)}" for value in cell.guidance.parameters.values())
            raise InputError(f"{same[0][1].place} and {arm.place} both are samples of {point} and differ; give one")
    return cells


def _check_folder(folder: Path) -> None:
    if (folder / "plan.json").exists() and Store(folder).plan().source != SOURCE:
        raise InputError(f"{folder} holds a run of cfgbench; choose another --name or --output for these scores")


def _plan(request: Request, job: Job, cells: Sequence[Cell]) -> PlanRecord:
    encoders = " and ".join(map(str, job.encoders))
    return PlanRecord(
        name=request.name,
        description=f"Samples made elsewhere, scored by encoder {encoders} against {job.reference.name}.",
        metrics=tuple(dict.fromkeys(score.metric for score in job.scores)),
        num_samples=max(arm.source.count for arm in request.arms),
        source=SOURCE,
        cells=tuple(cells),
        notes=(*request.notes, *job.reference.notes),
    )
