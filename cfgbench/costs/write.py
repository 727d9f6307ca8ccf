"""The record of costs as files: JSON for others to read, CSV and Markdown for people."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cfgbench.costs.record import FILE, CostsRecord, Ratio, SamplingCost, TrainingCost, seconds_ratio
from cfgbench.reading.tables.rows import Row, to_csv
from cfgbench.reading.tables.text import Table, Text, short, to_markdown

BASE = {"training": "diffusion", "sampling": "unguided"}  # what ratios are to


def write(record: CostsRecord, folder: Path) -> list[Path]:
    """Write the record, its tables and a summary into a folder."""
    texts = {
        str(FILE): record.model_dump_json(indent=1) + "\n",
        "training.csv": to_csv(list(training_rows(record))),
        "sampling.csv": to_csv(list(sampling_rows(record))),
        "code.csv": to_csv(list(code_rows(record))),
        "summary.md": summary(record),
    }
    return [_write(folder / name, text) for name, text in texts.items()]


def training_rows(record: CostsRecord) -> Iterator[Row]:
    """A row per training: its size, and its CPU seconds as ratios to those of the diffusion model."""
    base = record.trained(BASE["training"])
    for one in record.training:
        row: Row = {"training": one.name, "recipe": one.recipe, "parameters": sum(one.parameters.values())}
        row |= {"networks": " ".join(one.parameters), "steps": one.steps, "batch_size": one.batch_size}
        row |= {"images_seen": one.images_seen, "flops_per_step": one.flops_per_step, "flops": one.flops}
        row |= {"flops_ratio": one.flops / base.flops, "cpu_s_per_step": float(np.median(one.seconds("step")))}
        row |= {"cpu_s": float(np.median(one.seconds())), "repeats": len(one.cpu_s), "stretch_steps": one.stretch}
        yield row | _ratio_part("ratio", one, base)


def sampling_rows(record: CostsRecord) -> Iterator[Row]:
    """A row per way of sampling and batch size: what it holds, as ratios to unguided sampling."""
    for one in record.sampling:
        base = record.held(BASE["sampling"], one.batch_size)
        weights, base_weights = sum(one.weights_bytes.values()), sum(base.weights_bytes.values())
        row: Row = {"arm": one.name, "method": one.method, "model": one.model, "steps": one.steps}
        row |= {"batch_size": one.batch_size, "networks": " ".join(one.weights_bytes), "nfe": one.nfe}
        row |= {"classifier_passes": one.classifier_passes, "flops_per_sample": one.flops_per_sample}
        row |= {"weights_bytes": weights, "activation_bytes": one.activation_bytes, "held_bytes": one.held_bytes}
        row |= {"weights_ratio": weights / base_weights}
        row |= {"activation_ratio": one.activation_bytes / base.activation_bytes}
        yield row | {"held_ratio": one.held_bytes / base.held_bytes}


def code_rows(record: CostsRecord) -> Iterator[Row]:
    """A row per function or class that a method adds to or puts in the place of another."""
    for one in record.code:
        row: Row = {"method": one.method, "part": one.part, "where": one.where, "against": one.against}
        yield row | {"lines_added": len(one.added), "lines_removed": len(one.removed), "added": "\n".join(one.added)}


def summary(record: CostsRecord) -> str:
    """The three tables as Markdown, and where they were measured."""
    machine = record.machine
    place = f"{machine.processor}, one thread, torch {machine.packages.get('torch')}, commit {machine.commit}"
    lines = ["# What a second model costs", "", "## Training", "", to_markdown(_training_table(record))]
    lines += [f"{record.null_parameters} parameters, the embedding of no label, are unused without label dropout.", ""]
    lines += ["## Memory while sampling", "", to_markdown(_sampling_table(record))]
    lines += ["## Code", "", to_markdown(_code_table(record)), f"Measured on {place}.", ""]
    return "\n".join(lines)


def ratio_text(ratio: Ratio) -> str:
    """`0.318 (0.312 to 0.325)`."""
    ends = "" if ratio.interval is None else " ({:.3g} to {:.3g})".format(*ratio.interval)
    return f"{ratio.value:.3g}{ends}"


def _ratio_part(name: str, one: TrainingCost, base: TrainingCost) -> Row:
    row: Row = {}
    for per in ("training", "step", "image"):
        ratio = seconds_ratio(one, base, per)
        low, high = ratio.interval or (None, None)
        row |= {f"{name}_per_{per}": ratio.value, f"{name}_per_{per}_lo": low, f"{name}_per_{per}_hi": high}
    return row


def _training_table(record: CostsRecord) -> Table:
    base = record.trained(BASE["training"])
    rows = []
    for one in record.training:
        sizes = " + ".join(f"{size:,}" for size in one.parameters.values())
        counts = (f"{one.steps} of {one.batch_size}", f"{one.images_seen:,}", short(one.flops / 1e9))
        seconds = f"{np.median(one.seconds()):.3g}"
        ratio = "1" if one == base else ratio_text(seconds_ratio(one, base))
        rows.append((one.name, sizes, *counts, seconds, ratio))
    head = ("training", "parameters", "steps", "images seen", "GFLOP", "CPU seconds", "to the diffusion model")
    caption = (
        "Seconds of whole trainings from stretches that took turns; ratios are medians over the stretches, with 95 % "
        "intervals of the median."
    )
    return _table(caption, head, rows)


def _sampling_table(record: CostsRecord) -> Table:
    rows = [_sampling_texts(one, record.held(BASE["sampling"], one.batch_size)) for one in record.sampling]
    head = ("sampling", "batch", "networks", "weights, kB", "activations, kB", "together", "to unguided")
    return _table("Activations are the most bytes of live tensors at once.", head, rows)


def _sampling_texts(one: SamplingCost, base: SamplingCost) -> tuple[str, ...]:
    sizes = (sum(one.weights_bytes.values()), one.activation_bytes, one.held_bytes)
    texts = (f"{size / 1e3:,.0f}" for size in sizes)
    networks = ", ".join(one.weights_bytes)
    return (one.name, str(one.batch_size), networks, *texts, f"{one.held_bytes / base.held_bytes:.3g}")


def _code_table(record: CostsRecord) -> Table:
    rows = [
        (one.method, one.part, one.where, one.against or "", str(len(one.added)), str(len(one.removed)))
        for one in record.code
    ]
    head = ("method", "part", "where", "against", "lines added", "lines removed")
    return _table("Lines as Python's own parser writes them, without docstrings and comments.", head, rows)


def _table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    return Table(caption, head, tuple(tuple(map(Text, row)) for row in rows))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
    return path
