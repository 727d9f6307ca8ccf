"""`cfgbench score`: samples made elsewhere, in any framework, get the records that a run of cfgbench makes of its own.

A cell's id holds the content of its files, so changed images are a new cell, and unchanged ones are scored once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from cfgbench.cell import Cell, number
from cfgbench.errors import InputError, shown, unknown
from cfgbench.experiment import NAME
from cfgbench.external import encoding, references
from cfgbench.external.arms import Arm, FeatureFile
from cfgbench.external.record import Job, is_finished, make_record
from cfgbench.external.references import Half
from cfgbench.records import PlanRecord
from cfgbench.registry import ENCODERS, METRICS, REFERENCES
from cfgbench.runner import Progress
from cfgbench.score_requests import ScoreRequest
from cfgbench.store import Store

SOURCE = "cfgbench score"  # the plan's source, where a run has its YAML file


@dataclass(frozen=True)
class Request:
    """What to score, and against what."""

    name: str
    arms: tuple[Arm, ...]
    reference: str
    encoder: str | None = None
    metrics: tuple[str, ...] = ()  # none: all that can be had
    notes: tuple[str, ...] = ()


def run(request: Request, folder: Path, progress: Progress) -> int:
    """Write the records of all arms into a results folder; returns how many were not there already."""
    job = _job(request)
    cells = _cells(request)
    store = Store(folder)
    with store.locked():
        _check_folder(folder)
        store.write_record(_plan(request, job, [cell for cell, _ in cells]))
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
    return Job(encoder, scores, halves, frozenset.intersection(*keys), frozenset.union(*keys))


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


def _score_requests(name: str, provided: Set[str], encoder: str, halves: Mapping[str, Half]) -> Iterator[ScoreRequest]:
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
        against: dict[str, str | int | float] = {"reference": half.name, "reference_digest": half.digest}
        yield ScoreRequest(name + half.ending, name, half.name, identity | against)
    if not metric.reference:
        yield ScoreRequest(name, name, None, identity)


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
    return PlanRecord(
        name=request.name,
        description=f"Samples made elsewhere, scored by encoder {job.encoder} against {request.reference}.",
        metrics=tuple(dict.fromkeys(score.metric for score in job.scores)),
        num_samples=max(arm.source.count for arm in request.arms),
        source=SOURCE,
        cells=tuple(cells),
        notes=request.notes,
    )
