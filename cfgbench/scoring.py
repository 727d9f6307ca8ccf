"""Blocks -> scores: joins a cell's features in index order and applies the metrics that were asked for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

from cfgbench import health, machine, statistics
from cfgbench.cell import Cell, canonical_json
from cfgbench.metrics import Reference, Samples
from cfgbench.plan import NUM_GROUPS, Task
from cfgbench.records import Absent, CellRecord, Rung, Score
from cfgbench.registry import ENCODERS, METRICS, MODELS, REFERENCES, resolve
from cfgbench.score_requests import ScoreRequest
from cfgbench.store import Store
from cfgbench.weight_files import file_digest, weight_files


def score(task: Task, store: Store, device: str) -> CellRecord | None:
    """Score a task from its blocks and write its record; None, writing nothing, if a block is missing."""
    blocks = [store.block(task.cell.id, start) for start in task.starts]
    present = [block for block in blocks if block is not None and str(block["origin"]) == task.origin]
    if len(present) < len(blocks):
        return None
    arrays = {name: np.concatenate([block[name] for block in present]) for name in present[0] if present[0][name].ndim}
    scores, absent = _scores(task, arrays)
    record = CellRecord(
        id=task.cell.id,
        cell=task.cell,
        status="done",
        request=task.digest,
        num_samples=task.num_samples,
        num_classes=task.num_classes,
        block_size=task.block_size,
        batch_size=task.batch_size,
        nfe=float(arrays["nfe"].mean()),
        classifier_passes=float(arrays["classifier_passes"].mean()),
        scores=tuple(scores),
        absent=tuple(absent),
        health=health.total(arrays),
        pixels=present[0]["pixels"].tobytes().hex()[:320],
        notes=tuple(_notes(task, present)),
        machine=machine.describe(device, threads=1),
    )
    store.write_record(record)
    return record


@lru_cache(maxsize=8)
def reference_features(reference: str, half: str, encoder: str, parameters: str) -> Reference:
    """A reference set's features with what metrics need of them, made once per process."""
    given = json.loads(parameters)
    samples, labels = resolve(REFERENCES[reference].target)(half, given)
    return Reference(resolve(ENCODERS[encoder].target)(samples, labels, given).features)


def _scores(task: Task, arrays: dict[str, np.ndarray]) -> tuple[list[Score], list[Absent]]:
    if not task.scores:
        return [], []
    broken = int(arrays["nan"].sum())
    if broken:
        reason = f"{broken} of {task.num_samples} samples hold NaN or infinity; an average would hide them"
        return [], [Absent(column=request.column, reason=reason) for request in task.scores]
    scores, absent, samples = [], [], samples_of(arrays)
    for request in task.scores:
        if _guides(task, request):
            reason = "the network that scores this also guided the samples"
            absent.append(Absent(column=request.column, reason=reason))
            continue
        try:
            reference = reference_of(task, request)
            score = evaluate(request, samples, reference, task.num_classes)
            looks = {n: _rung(request, samples.first(n), reference, task.num_classes) for n in _looks(task, score)}
            scores.append(score.model_copy(update={"nested": dict(sorted({**score.nested, **looks}.items()))}))
        except ValueError as error:
            absent.append(Absent(column=request.column, reason=str(error)))
    return scores, absent


def _looks(task: Task, score: Score) -> list[int]:
    """The looks of an adaptive sweep that have been, where the score is not known yet."""
    return [n for n in task.looks if n < task.num_samples and n not in score.nested]


def _notes(task: Task, blocks: Sequence[Mapping[str, np.ndarray]]) -> Iterator[str]:
    """What became of blocks for which memory was too small."""
    sizes = [int(block["batch_size"]) for block in blocks if "batch_size" in block]
    if sizes:
        yield (
            f"cell {task.cell.id}: {len(sizes)} of {len(blocks)} blocks ran out of memory at batches of "
            f"{task.batch_size} and were drawn in batches of {min(sizes)}: equal to 1e-5, not to the bit"
        )


def evaluate(
    request: ScoreRequest, samples: Samples, reference: Reference | None, unit: int, whole: int | None = None
) -> Score:
    """A score of the first `whole` samples (of all, if not given), and at the nested counts and at all of them.

    `unit` samples in a row share a statistical group: a round of labels, or the images of a prompt. ValueError where
    the score is undefined or not finite.
    """
    total = len(samples.features)
    whole = total if whole is None else whole
    counts = {*statistics.nested_sizes(whole, unit, NUM_GROUPS), total} - {whole}
    rung = _rung(request, samples.first(whole), reference, unit)
    nested = {n: _rung(request, samples.first(n), reference, unit) for n in sorted(counts)}
    return Score(
        value=rung.value,
        replicates=rung.replicates,
        nested=nested,
        column=request.column,
        metric=request.metric,
        identity=request.identity,
    )


def samples_of(arrays: Mapping[str, np.ndarray]) -> Samples:
    """What metrics read of a cell's joined blocks."""
    return Samples(arrays["features"], arrays.get("labels"), arrays.get("log_probs"), arrays.get("clip_scores"))


def reference_of(task: Task, request: ScoreRequest) -> Reference | None:
    """The reference set that a score of a task is against, if it is against one."""
    if request.half is None or task.reference is None or task.encoder is None:
        return None
    parameters = canonical_json(task.cell.model.parameters if MODELS[task.cell.model.name].files is None else {})
    return reference_features(task.reference, request.half, task.encoder, parameters)


def _rung(request: ScoreRequest, samples: Samples, reference: Reference | None, unit: int) -> Rung:
    """A score of these samples; without replicates where their number is no multiple of groups x unit."""
    metric, n = METRICS[request.metric], len(samples.features)
    balanced = n % (NUM_GROUPS * unit) == 0
    indices = np.arange(n)
    groups = statistics.groups(indices, unit, NUM_GROUPS) if balanced else indices % 2
    result = resolve(metric.target)(samples, reference, groups, **metric.parameters)
    if not np.isfinite([result.value, *result.replicates]).all():
        raise ValueError(f"{request.metric} of {n} finite samples is not finite; are their features far too large?")
    return Rung(value=result.value, replicates=result.replicates if balanced else ())


def _guides(task: Task, request: ScoreRequest) -> bool:
    """Whether the weights that score are among those that guided: compared by the digest of their files."""
    return request.identity.get("encoder_digest") in guide_digests(task.cell)


def guide_digests(cell: Cell) -> set[str]:
    """Digests of the weight files of the networks, beside the model itself, that a cell's method consults."""
    files = weight_files(cell.model.name, cell.model.arguments, cell.guidance.method)
    return {file_digest(file) for name, file in files.items() if name.partition("/")[0] != "main"}
