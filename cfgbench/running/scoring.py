"""Blocks -> scores: joins a cell's features in index order and applies the metrics that were asked for."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cfgbench import machine
from cfgbench.assets.weight_files import file_digest, tensors_digest, weight_files
from cfgbench.cell import Cell
from cfgbench.generation import health
from cfgbench.planning import encoder_refs
from cfgbench.planning.plan import NUM_GROUPS, Task
from cfgbench.planning.score_requests import ScoreRequest
from cfgbench.records import Absent, CellRecord, Rung, Score
from cfgbench.references import sets
from cfgbench.registry import METRICS, resolve
from cfgbench.scores import statistics
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.store import Store


def score(task: Task, store: Store, device: str) -> CellRecord | None:
    """Score a task from its blocks and write its record; None, writing nothing, if a block is missing."""
    blocks = [store.block(task.cell.id, start) for start in task.starts]
    present = [block for block in blocks if block is not None and str(block["origin"]) == task.origin]
    if len(present) < len(blocks):
        return None
    arrays = {name: np.concatenate([block[name] for block in present]) for name in present[0] if present[0][name].ndim}
    scores, absent = _scores(task, arrays, device)
    record = CellRecord(
        id=task.cell.id,
        cell=task.cell,
        status="done",
        request=task.digest,
        num_samples=task.num_samples,
        num_classes=task.num_classes,
        block_size=task.block_size,
        batch_size=task.batch_size,
        batched=all(map(_is_batched, present)),
        nfe=float(arrays["nfe"].mean()),
        classifier_passes=float(arrays["classifier_passes"].mean()),
        scores=tuple(scores),
        absent=tuple(absent),
        health=health.total(arrays),
        pixels=present[0]["pixels"].tobytes().hex()[:320],
        notes=tuple(_notes(task, present)),
        machine=machine.describe(device, threads=1),
        machines=tuple(sorted({str(block["machine"]) for block in present if "machine" in block})),
    )
    store.write_record(record)
    return record


def _scores(task: Task, arrays: dict[str, np.ndarray], device: str) -> tuple[list[Score], list[Absent]]:
    if not task.scores:
        return [], []
    broken = int(arrays["nan"].sum())
    if broken:
        reason = f"{broken} of {task.num_samples} samples hold NaN or infinity; an average would hide them"
        return [], [Absent(column=request.column, reason=reason) for request in task.scores]
    scores, absent = [], []
    made: dict[str, Samples] = {}
    for request in task.scores:
        if _guides(task, request):
            reason = "the network that scores this also guided the samples"
            absent.append(Absent(column=request.column, reason=reason))
            continue
        try:
            reference = reference_of(task, request, device)
            name = feature_name(arrays, request.metric)
            samples = made.setdefault(name, samples_of(arrays, name))
            score = evaluate(request, samples, reference, task.num_classes)
            looks = {n: _rung(request, samples.first(n), reference, task.num_classes) for n in _looks(task, score)}
            scores.append(score.model_copy(update={"nested": dict(sorted({**score.nested, **looks}.items()))}))
        except ValueError as error:
            absent.append(Absent(column=request.column, reason=str(error)))
    return scores, absent


def _looks(task: Task, score: Score) -> list[int]:
    """The looks of an adaptive sweep that have been, where the score is not known yet."""
    return [n for n in task.looks if n < task.num_samples and n not in score.nested]


def _notes(task: Task, present: Sequence[Mapping[str, np.ndarray]]) -> Iterator[str]:
    """What became of blocks for which memory was too small, and of prompts that are too long."""
    sizes = [int(block["batch_size"]) for block in present if "batch_size" in block]
    if sizes:
        yield (
            f"cell {task.cell.id}: {len(sizes)} of {len(present)} blocks ran out of memory at batches of "
            f"{task.batch_size} and were drawn in batches of {min(sizes)}: equal to 1e-5, not to the bit"
        )
    joint = sum(map(_is_batched, present))
    if 0 < joint < len(present):  # blocks of several folders, whose machines chose differently
        yield (
            f"cell {task.cell.id}: {joint} of {len(present)} blocks were drawn with joint passes, the others with "
            "single ones: equal to 1e-5, not to the bit"
        )
    cut = sum(int(block["truncated"].sum()) for block in present if "truncated" in block)
    if cut:
        yield f"cell {task.cell.id}: {cut} of {task.num_samples} prompts are longer than what CLIP reads of them"


def _is_batched(block: Mapping[str, np.ndarray]) -> bool:
    """Whether a block was drawn by joint calls; those of before there were any do not say."""
    return "batched" in block and bool(block["batched"].all())


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


def samples_of(arrays: Mapping[str, np.ndarray], features: str = "features") -> Samples:
    """What metrics read of a cell's joined blocks."""
    return Samples(arrays[features], arrays.get("labels"), arrays.get("log_probs"), arrays.get("clip_scores"))


def feature_name(arrays: Mapping[str, np.ndarray], metric: str) -> str:
    """Which features a metric reads; one that needs none gets the first there are, for their number."""
    needs = METRICS[metric].needs
    return needs if needs in arrays and needs.startswith("features") else next(n for n in arrays if "features" in n)


def reference_of(task: Task, request: ScoreRequest, device: str) -> Reference | None:
    """The reference set that a score of a task is against, if it is against one."""
    asked = task.asks(request, device)
    return None if asked is None or task.reference is None else sets.load(task.reference, asked)


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
    """Whether the weights that score are among those that guided: the same file, or the same tensors in another."""
    guides = guide_files(task.cell)
    if request.identity.get("encoder_digest") in {file_digest(file) for file in guides}:
        return True
    needs = METRICS[request.metric].needs
    encoder = encoder_refs.provider(task.encoders, needs) if guides else None
    file = None if encoder is None else encoder.files().get(needs)
    return file is not None and tensors_digest(file) in set(map(tensors_digest, guides))


def guide_files(cell: Cell) -> list[Path]:
    """The weight files of the networks, beside the model itself, that a cell's method consults."""
    files = weight_files(cell.model.name, cell.model.arguments, cell.guidance.method)
    return [file for name, file in files.items() if name.partition("/")[0] != "main"]
