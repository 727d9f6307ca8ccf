"""The rows of the CSV files. Absent values are empty; `results.csv` holds no time, host, path or commit."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from cfgbench.cell import Cell, canonical_json, digest, number
from cfgbench.reading.tables.compare import (
    Verdict,
    difference,
    family_verdicts,
    latency,
    ratio_to_unguided,
    rungs,
    score,
    shown,
    value,
    verdict,
    weights_bytes,
)
from cfgbench.reading.tables.results import Arm, Column, Results, at_edge, cost_fields, family_name, other_parameters
from cfgbench.records import CellRecord, Health, Rung, SpeedRecord, Timing
from cfgbench.registry import METHODS
from cfgbench.scores.statistics import Estimate

Value = str | int | float | bool | None
Row = dict[str, Value]

SCALES = ("guidance_scale", "classifier_scale")  # those that have columns of their own
MIN_REPEATS_P99 = 300  # below, the 99th percentile is the maximum by another name


def result_rows(results: Results) -> list[Row]:
    """`results.csv`: one row per planned cell, in plan order."""
    extras = _extra_names(results.plan.cells)
    verdicts = family_verdicts(results)
    return [_result_row(results, cell, extras, verdicts) for cell in results.plan.cells]


def score_rows(results: Results) -> list[Row]:
    """`scores.csv`: one row per cell, score and sample count, and one per absent score."""
    rows: list[Row] = []
    for record in results.done:
        for column in results.columns:
            for count, rung in rungs(column, record).items():
                rows.append(_score_row(column, record.id, count, rung))
        rows += [_absent_row(record.id, absent.column, absent.reason) for absent in record.absent]
    return rows


def identity_rows(results: Results) -> list[Row]:
    """`identities.csv`: what exactly each column is, once; rows of `scores.csv` name it by `identity`."""
    return [
        {"column": c.name, "identity": digest(dict(c.identity)), "definition": canonical_json(dict(c.identity))}
        for c in results.columns
    ]


def best_rows(results: Results) -> list[Row]:
    """`best.csv`: one row per arm and score: the best scale, its tied set and what it gains."""
    rows: list[Row] = []
    for arm in results.arms:
        for column in results.columns:
            found = verdict(column, arm.records)
            if found is not None:
                rows.append(_best_row(results, arm, column, found))
    return rows


def speed_rows(results: Results) -> list[Row]:
    """`speed.csv`: one row per timing; no times where the arithmetic was emulated."""
    return [_speed_row(results, speed, timing) for speed in results.speeds for timing in speed.timings]


def to_csv(rows: Sequence[Row]) -> str:
    """CSV text; the columns are those of all rows in order of appearance, absent values are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([plain(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def plain(item: Value) -> str:
    """A value as text: ten significant digits, true and false, nothing for absent."""
    if item is None:
        return ""
    if isinstance(item, bool):
        return "true" if item else "false"
    return f"{item:.10g}" if isinstance(item, float) else str(item)


def _extra_names(cells: Sequence[Cell]) -> list[str]:
    """Parameters beyond the fixed columns that some cell sets."""
    names = dict.fromkeys(name for cell in cells for name in _parameters(cell))
    names |= dict.fromkeys(
        name for name in ("eta", "state_dtype", "execution") if any(_setting(cell, name) for cell in cells)
    )
    return list(names)


def _parameters(cell: Cell) -> dict[str, str]:
    """What a cell's method is given beside the scales that have columns: a scale of another name first."""
    scale = METHODS[cell.guidance.method].scale
    own = {} if scale in (None, *SCALES) else {str(scale): number(cell.scale)}
    return own | {name: number(value) for name, value in cell.model.scales.items()} | other_parameters(cell)


def _setting(cell: Cell, name: str) -> Value:
    """A setting of the sampler, or how the networks compute; absent at its default."""
    if name == "execution":
        return None if cell.execution == "eager" else cell.execution
    if cell.diffusion is None:
        return None
    return cell.diffusion.eta or None if name == "eta" else cell.diffusion.state_dtype


def _result_row(
    results: Results, cell: Cell, extras: Sequence[str], verdicts: Mapping[tuple[str, str], Verdict | None]
) -> Row:
    record = results.records.get(cell.id)
    row = _identity_row(cell, record, extras)
    for column in results.columns:
        row |= dict.fromkeys(_score_names(column))
        if record is not None and record.status == "done":
            row |= _score_part(results, column, record, verdicts[column.name, family_name(cell)])
    healthy = record is not None and record.status == "done"
    return row | {name: getattr(record.health, name) if record and healthy else None for name in Health.model_fields}


def _identity_row(cell: Cell, record: CellRecord | None, extras: Sequence[str]) -> Row:
    done = record is not None and record.status == "done"
    row: Row = {"id": cell.id, "status": record.status if record else "missing", "model": cell.model.label}
    row |= {"method": cell.guidance.method, "guidance_scale": cell.guidance_scale, "w": cell.guidance_scale - 1}
    diffusion = cell.diffusion
    row |= {"classifier_scale": cell.classifier_scale, "sampler": diffusion.sampler if diffusion else None}
    row |= {"steps": diffusion.steps if diffusion else None, "dtype": cell.dtype}
    row |= {"num_samples": record.num_samples if record and done else None, "seed": cell.seed}
    row |= {name: _parameters(cell).get(name, _setting(cell, name)) for name in extras}
    row["nfe"] = record.nfe if record else None
    row["classifier_passes"] = record.classifier_passes if record else None
    return row


def _score_names(column: Column) -> list[str]:
    errors = ["_se", "_lo", "_hi"] if column.entry.interval else []
    plain_value = ["_plain"] if column.entry.headline == "bias_corrected" else []
    against = ["_vs_unguided", "_vs_best"]
    pairs = [ending for name in against for ending in ((name, f"{name}_se") if errors else (name,))]
    return [column.name + ending for ending in ("", *errors, *plain_value, "_tied", *pairs)]


def _score_part(results: Results, column: Column, record: CellRecord, found: Verdict | None) -> Row:
    name = column.name
    own = score(column, record)
    row: Row = {}
    if own is not None and column.entry.headline == "bias_corrected":
        row[f"{name}_plain"] = own.value
        row |= _estimate_part(name, column, shown(column, own) if column.corrected else None)
    elif own is not None:
        row |= _estimate_part(name, column, shown(column, own))
    if own is not None and found is not None and found.tied is not None:
        row[f"{name}_tied"] = any(record.id == other.id for other in found.tied)
    unguided = results.unguided(record.cell)
    for ending, other in (("unguided", unguided), ("best", found.best if found else None)):
        gap = None if other is None else difference(column, record, other)
        row |= _pair_part(f"{name}_vs_{ending}", column, gap)
    return row


def _estimate_part(name: str, column: Column, result: Estimate | None) -> Row:
    if result is None:
        return {}
    low, high = result.interval or (None, None)
    errors: Row = {f"{name}_se": result.standard_error, f"{name}_lo": low, f"{name}_hi": high}
    return {name: result.value, **(errors if column.entry.interval else {})}


def _pair_part(name: str, column: Column, gap: Estimate | None) -> Row:
    if gap is None:
        return {}
    return {name: gap.value, **({f"{name}_se": gap.standard_error} if column.entry.interval else {})}


def _score_row(column: Column, cell_id: str, count: int, rung: Rung) -> Row:
    result = shown(column, rung)
    low, high = (result.interval if result else None) or (None, None)
    row: Row = {"id": cell_id, "column": column.name, "metric": column.metric, "num_samples": count}
    row |= {"value": result.value if result else None, "se": result.standard_error if result else None}
    row |= {"lo": low, "hi": high, "plain_value": rung.value, "replicates": len(rung.replicates)}
    return row | {"identity": digest(dict(column.identity)), "absent": None}


def _absent_row(cell_id: str, column: str, reason: str) -> Row:
    return {"id": cell_id, "column": column, "absent": reason}


def _best_row(results: Results, arm: Arm, column: Column, found: Verdict) -> Row:
    scale, result = arm.scale_of(found.best), value(column, found.best)
    low, high = (result.interval if result else None) or (None, None)
    tied = None if found.tied is None else " ".join(number(arm.scale_of(record)) for record in found.tied)
    unguided = results.reference(arm, found.best)
    gap = None if unguided is None else difference(column, found.best, unguided)
    row: Row = {**arm.fields, "axis": arm.axis, "column": column.name, "num_samples": found.num_samples}
    row |= {"best_scale": scale, "w": scale - 1 if arm.axis == "guidance_scale" else None}
    row |= {"value": result.value if result else None, "se": result.standard_error if result else None}
    row |= {"lo": low, "hi": high, "tied_scales": tied, "at_edge": at_edge(arm, found.best)}
    return row | {"vs_unguided": gap.value if gap else None, "vs_unguided_se": gap.standard_error if gap else None}


TIMES = (
    *("latency_p50_s", "latency_p90_s", "latency_p99_s", "latency_max_s", "seconds_per_image", "images_per_s"),
    *("ratio_to_unguided", "first_call_s", "denoiser_p50_s", "classifier_p50_s", "decode_p50_s"),
)


def _speed_row(results: Results, speed: SpeedRecord, timing: Timing) -> Row:
    row: Row = {"id": speed.id, "cost_class": speed.cost_class, **cost_fields(speed.cell)}
    row |= {"batch_size": timing.batch_size, "batched": timing.batched, "measured": speed.measured}
    row |= {"nfe": speed.nfe, "classifier_passes": speed.classifier_passes, "repeats": len(timing.trajectory_s)}
    row |= _time_part(results, speed, timing) if speed.measured else dict.fromkeys(TIMES)
    row |= {"peak_memory_bytes": timing.peak_memory_bytes, "activation_memory_bytes": timing.activation_memory_bytes}
    row |= {"weights_memory_bytes": weights_bytes(speed)}
    row |= {f"weights_{name}_bytes": size for name, size in speed.weights_memory_bytes.items()}
    machine = speed.machine
    row |= {"flops_per_sample": speed.flops_per_sample, **_use(speed, timing), "device": machine.device}
    return row | {"processor": machine.processor, "threads": machine.threads, "commit": machine.commit}


def _use(speed: SpeedRecord, timing: Timing) -> Row:
    """Joules per image; achieved operations per second, and their share of what a matrix product achieves."""
    joules = float(np.median(timing.energy_j)) / timing.batch_size if timing.energy_j else None
    known = speed.measured and speed.flops_per_sample is not None and timing.trajectory_s
    images_per_s = timing.batch_size / float(np.median(timing.trajectory_s)) if known else 0.0
    rate = images_per_s * speed.flops_per_sample if speed.flops_per_sample is not None and known else None
    share = rate / speed.matmul_flops_per_s if rate is not None and speed.matmul_flops_per_s else None
    return {"joules_per_image": joules, "flops_per_s": rate, "matmul_share": share}


def _time_part(results: Results, speed: SpeedRecord, timing: Timing) -> Row:
    seconds = latency(timing)
    median, p90, p99 = (float(np.quantile(seconds, q)) for q in (0.5, 0.9, 0.99))
    per_image = median / timing.batch_size
    parts = (float(np.median(part)) for part in (timing.denoiser_s, timing.classifier_s, timing.decode_s))
    tail = p99 if len(seconds) >= MIN_REPEATS_P99 else None
    ratio = ratio_to_unguided(results, speed, timing)
    values = (median, p90, tail, max(seconds), per_image, 1 / per_image, ratio, timing.first_call_s, *parts)
    return dict(zip(TIMES, values, strict=True))
