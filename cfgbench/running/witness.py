"""An independent witness: torchmetrics recomputes FID, KID, IS and CLIP score from what a run has kept.

FID and IS are compared on all samples. KID is compared on as many samples as both sides have, since torchmetrics'
estimator takes equal numbers; CLIP score on the first block's images, drawn again. For these two the value in the
record is also recomputed from the blocks by cfgbench's own code, so that a changed record does not pass.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfgbench.cell import number
from cfgbench.console import title
from cfgbench.generation import guidance, noise, precision, sampling
from cfgbench.planning.plan import Plan, Task
from cfgbench.planning.score_requests import ScoreRequest
from cfgbench.records import Score
from cfgbench.registry import METRICS, resolve
from cfgbench.running import scoring, worker
from cfgbench.scores import torchmetrics_scores
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.store import Store
from cfgbench.testbeds.digits_captions import NUMERALS, SCORED_TEMPLATE

TOLERANCES = {"fid": 1e-5, "kid": 1e-4, "inception_score": 1e-4, "clip_score": 1e-4}
_SUBSET = 4000  # samples of a side, at most, whose kernel matrices torchmetrics holds
_TORCHMETRICS, _BLOCKS = "torchmetrics", "cfgbench from blocks"
_NAMES = ("id", "method", "scale", "column", "num_samples", "witness", "ours", "theirs", "difference", "agrees")


@dataclass(frozen=True)
class Row:
    """One comparison of a cell's score with a witness."""

    task: Task
    request: ScoreRequest
    num_samples: int
    witness: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """Relative to the witness."""
        return abs(self.ours - self.theirs) / max(abs(self.theirs), 1e-12)

    @property
    def agrees(self) -> bool:
        """Whether the difference is rounding."""
        return self.difference <= TOLERANCES[self.request.metric]


@dataclass(frozen=True)
class Verdict:
    """All comparisons, and the cells that could not be checked. As text: a table and what follows from it."""

    rows: tuple[Row, ...]
    missing: tuple[Task, ...]
    folder: Path

    @property
    def agrees(self) -> bool:
        """Whether no witness contradicts."""
        return all(row.agrees for row in self.rows)

    def __str__(self) -> str:
        return "\n".join([*map(_line, self.rows), *_conclusion(self)])


@dataclass(frozen=True)
class _Claim:
    """A score of a record with what it was made of."""

    task: Task
    request: ScoreRequest
    score: Score
    arrays: dict[str, np.ndarray]
    device: str


def check(plan: Plan, folder: Path, device: str) -> Verdict:
    """Recompute the scores of every cell of a plan and write `checks.csv`."""
    store, missing = Store(folder), []
    rows: list[Row] = []
    for task in plan.tasks:
        arrays, record = _arrays(task, store), store.cell(task.cell.id)
        if arrays is None or record is None:
            missing.append(task)
            continue
        scores = {score.column: score for score in record.scores}
        for request in task.scores:
            if request.column in scores and request.metric in _WITNESSES:
                rows += _WITNESSES[request.metric](_Claim(task, request, scores[request.column], arrays, device))
    verdict = Verdict(tuple(rows), tuple(missing), folder)
    (folder / "checks.csv").write_text(_csv(verdict.rows), encoding="utf-8", newline="\n")
    return verdict


def _arrays(task: Task, store: Store) -> dict[str, np.ndarray] | None:
    """A cell's joined blocks, or None if one is not here."""
    blocks = [store.block(task.cell.id, start) for start in task.starts]
    present = [block for block in blocks if block is not None]
    if len(present) < len(blocks):
        return None
    return {name: np.concatenate([block[name] for block in present]) for name in present[0] if present[0][name].ndim}


def _fid(claim: _Claim) -> Iterator[Row]:
    reference = scoring.reference_of(claim.task, claim.request, claim.device)
    if reference is not None and reference.moments is not None:
        yield _against_blocks(claim)
        return
    theirs = torchmetrics_scores.fid(_points(claim), claim.arrays["features"])
    yield _row(claim, claim.task.num_samples, claim.score.value, theirs)


def _kid(claim: _Claim) -> Iterator[Row]:
    points, features = _points(claim), claim.arrays["features"]
    n = min(len(points), len(features), _SUBSET)
    ours = _recompute(claim, Samples(features[:n]), Reference(points[:n]))
    yield _row(claim, n, ours, torchmetrics_scores.kid(points[:n], features[:n]))
    yield _against_blocks(claim)


def _inception_score(claim: _Claim) -> Iterator[Row]:
    theirs = torchmetrics_scores.inception_score(claim.arrays["log_probs"])
    yield _row(claim, claim.task.num_samples, claim.score.value, theirs)


def _clip_score(claim: _Claim) -> Iterator[Row]:
    yield _against_blocks(claim)
    task = claim.task
    for load, caption in (_CLIP_MODELS[encoder.name] for encoder in task.encoders if encoder.name in _CLIP_MODELS):
        labels = noise.labels(range(task.block_size), task.num_classes)
        batches = list(_first_block(task, claim.device))
        theirs = torchmetrics_scores.clip_score(load, batches, [caption(int(label)) for label in labels])
        ours = float(claim.arrays["clip_scores"][: task.block_size].mean(dtype=np.float64))
        yield _row(claim, task.block_size, ours, theirs)


def _first_block(task: Task, device: str) -> Iterator[np.ndarray]:
    """The images of a cell's first block, drawn again in the same batches."""
    cell = task.cell
    for start in range(0, task.block_size, task.batch_size):
        indices = range(start, min(start + task.batch_size, task.block_size))
        batch = worker.prepare(cell, task.labels(indices), device)
        with precision.switches(cell.dtype):
            latents, _ = sampling.sample(batch, guidance.bind(cell.guidance), cell.seed, indices)
            samples: np.ndarray = batch.model.decode(latents)
        yield samples


def _against_blocks(claim: _Claim) -> Row:
    """The record's value against the same code on the blocks."""
    reference = scoring.reference_of(claim.task, claim.request, claim.device)
    name = scoring.feature_name(claim.arrays, claim.request.metric)
    theirs = _recompute(claim, scoring.samples_of(claim.arrays, name), reference)
    return Row(claim.task, claim.request, claim.task.num_samples, _BLOCKS, claim.score.value, theirs)


def _recompute(claim: _Claim, samples: Samples, reference: Reference | None) -> float:
    metric, groups = METRICS[claim.request.metric], np.arange(len(samples.features)) % 2
    return float(resolve(metric.target)(samples, reference, groups, **metric.parameters).value)


def _points(claim: _Claim) -> np.ndarray:
    reference = scoring.reference_of(claim.task, claim.request, claim.device)
    if reference is None:
        raise ValueError(f"score {claim.request.column} is against no reference")
    return reference.points


def _row(claim: _Claim, num_samples: int, ours: float, theirs: float) -> Row:
    return Row(claim.task, claim.request, num_samples, _TORCHMETRICS, ours, theirs)


def _line(row: Row) -> str:
    mark = "" if row.agrees else f"  DISAGREES: more than {TOLERANCES[row.request.metric]:g}"
    values = f"{row.ours:>13.8g} {row.theirs:>13.8g} {row.difference:>8.1e}"
    return f"{title(row.task.cell):<36} {row.request.column:<16} {row.num_samples:>6} {row.witness:<20} {values}{mark}"


def _conclusion(verdict: Verdict) -> Iterator[str]:
    if verdict.missing:
        some = ", ".join(title(task.cell) for task in verdict.missing[:3])
        yield (
            f"{len(verdict.missing)} cells could not be checked ({some}{', ...' if len(verdict.missing) > 3 else ''}): "
            f"their blocks, which hold the features, are not in {verdict.folder / 'blocks'} (git leaves them out); "
            "to have them, run again with --output ANOTHER_FOLDER"
        )
    wrong = sum(not row.agrees for row in verdict.rows)
    if wrong:
        yield f"ATTENTION: {wrong} of {len(verdict.rows)} checks DISAGREE with their witness; do not use these scores"
    elif verdict.rows:
        worst = max(row.difference for row in verdict.rows)
        yield f"all {len(verdict.rows)} checks agree; the largest relative difference is {worst:.1e}"


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_NAMES)
    for row in rows:
        cell = row.task.cell
        scale = "" if cell.scale is None else number(cell.scale)
        values = (repr(row.ours), repr(row.theirs), f"{row.difference:.3g}", str(row.agrees).lower())
        writer.writerow(
            [cell.id, cell.guidance.method, scale, row.request.column, row.num_samples, row.witness, *values]
        )
    return text.getvalue()


_WITNESSES = {"fid": _fid, "kid": _kid, "inception_score": _inception_score, "clip_score": _clip_score}
_CLIP_MODELS: dict[str, tuple[torchmetrics_scores.ClipLoader, Callable[[int], str]]] = {
    "digits": (torchmetrics_scores.digits_clip, lambda label: SCORED_TEMPLATE.format(NUMERALS[label])),
}
