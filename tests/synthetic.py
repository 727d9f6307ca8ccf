"""Results folders with plausible records, made in milliseconds: curves, common noise, a failure, an absence, speed."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.planning.plan import canonical
from cfgbench.records import Absent, CellRecord, Machine, PlanRecord, Rung, Score, SpeedRecord, Timing
from cfgbench.store import Store

SCALES = (0.0, 1.0, 1.1, 1.2, 1.5, 2.0, 4.0, 8.0)
CLASSIFIER_SCALES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0)
METRICS = ("fid", "inception_score", "precision", "recall", "accuracy")
GROUPS, CLASSES, SAMPLES = 20, 10, 2000
MACHINE = Machine(
    device="cpu",
    processor="Synthetic 9000",
    cores=2,
    memory_bytes=8 << 30,
    system="Linux x86_64",
    python="3.12.0",
    packages={"cfgbench": "0.1", "torch": "2.9"},
    commit="0123456789ab",
    threads=1,
)
_METHODS = {"cfg": "guidance_scale", "classifier": "classifier_scale", "classifier_uncond": "classifier_scale"}


def cell(method: str, scale: float | None = None, sampler: str = "ddim", steps: int = 25, **rest: Any) -> Cell:
    """A canonical cell of the digits model; `rest` may name dtype, execution, seed and prompts, and parameters."""
    given = {name: rest.pop(name) for name in ("dtype", "execution", "seed", "prompts") if name in rest}
    given["model"] = rest.pop("of", None) or ModelRef(name="digits", parameters=rest.pop("model", {}), digest="d" * 16)
    guidance = canonical(method, {_METHODS[method]: scale, **rest}) if scale is not None else Guidance(method=method)
    return Cell(guidance=guidance, diffusion=Diffusion(sampler=sampler, steps=steps), **given)


def three_arms(**rest: Any) -> list[Cell]:
    """CFG and both classifier-guided arms, eight scales each, sharing their ends."""
    cells = [cell("cfg", scale, **rest) for scale in SCALES]
    for method in ("classifier", "classifier_uncond"):
        cells += [cell(method, scale, **rest) for scale in CLASSIFIER_SCALES]
    return list({one.id: one for one in cells}.values())


def record(one: Cell, samples: int = SAMPLES, columns: Sequence[str] = METRICS, **changes: object) -> CellRecord:
    """A finished cell whose scores follow the usual curves."""
    scores = tuple(score(one, name, samples) for name in columns)
    fields: dict[str, object] = {
        "id": one.id,
        "cell": one,
        "status": "done",
        "request": "r" * 16,
        "num_samples": samples,
        "num_classes": CLASSES,
        "block_size": 100,
        "batch_size": 100,
        "nfe": float(one.evaluations),
        "classifier_passes": float(one.sampler.steps) if "classifier" in one.guidance.method else 0.0,
        "scores": scores,
        "pixels": one.id,
        "machine": MACHINE,
    }
    return CellRecord.model_validate({**fields, **changes})


def score(one: Cell, column: str, samples: int = SAMPLES, identity: str = "encoder-a") -> Score:
    """A score with replicates that share noise between cells, at its rungs."""
    sizes = [200 << k for k in range(8) if 200 << k < samples]
    metric = column.removesuffix("_train")
    nested = {size: _rung(one, metric, size) for size in sizes}
    whole = _rung(one, metric, samples)
    described = {"metric": metric, "encoder": identity, "reference": column}
    return Score(**whole.model_dump(), column=column, metric=metric, identity=described, nested=nested)


def failed(one: Cell) -> CellRecord:
    """The record of a cell that raised."""
    return record(one, columns=(), status="failed", num_samples=0, nfe=None, error="Traceback ...\nRuntimeError: boom")


def speed(one: Cell, measured: bool = True, repeats: int = 12) -> SpeedRecord:
    """The timings of a cell's cost class at batches of 1 and 100."""
    rng = np.random.default_rng(int(one.cost_class, 16) % 2**32)
    return SpeedRecord(
        id=f"{one.cost_class}-m",
        cost_class=one.cost_class,
        cell=one,
        nfe=one.evaluations,
        classifier_passes=one.sampler.steps if "classifier" in one.guidance.method else 0,
        weights_memory_bytes={"main": 306_000, "classifier": 320_000},
        timings=tuple(_timing(one, size, repeats, rng) for size in (1, 100)),
        measured=measured,
        machine=MACHINE,
    )


def write(
    folder: Path, cells: Sequence[Cell], records: Iterable[CellRecord], speeds: Iterable[SpeedRecord] = ()
) -> Path:
    """A results folder with these records; gallery strips for the finished ones."""
    folder.mkdir(parents=True, exist_ok=True)
    store, timed = Store(folder), list(speeds)
    names = tuple(one.id for one in timed)
    store.write_record(
        PlanRecord(
            name="synthetic",
            description="made up",
            metrics=METRICS,
            num_samples=SAMPLES,
            source="synthetic.yaml",
            cells=tuple(cells),
            speeds=names,
            notes=("a note of the plan",),
        )
    )
    for one in records:
        store.write_record(one)
        if one.status == "done":
            store.write_gallery(one.id, _strip(one.cell))
    for timing in timed:
        store.write_record(timing)
    return folder


def folder(path: Path) -> Path:
    """The usual folder: three arms, one failed cell, one absent score, held-out and training FID, speed."""
    cells = three_arms()
    columns = (*METRICS, "fid_train")
    records = [record(one, columns=columns) for one in cells[:-1]] + [failed(cells[-1])]
    lacking = records[9]
    absent = (Absent(column="accuracy", reason="the network that scores this also guided the samples"),)
    kept = tuple(one for one in lacking.scores if one.column != "accuracy")
    records[9] = lacking.model_copy(update={"scores": kept, "absent": absent})
    classes = {one.cost_class: one for one in cells}
    return write(path, cells, records, [speed(one) for one in classes.values()])


def two_models(path: Path) -> Path:
    """The default experiment: the unconditional branch is another model's, whose only other cell is unguided."""
    other = {"p_uncond": 0.5}
    cells = [one for one in three_arms() if one.guidance.method != "classifier_uncond"]
    cells += [cell("classifier_uncond", scale, model=other) for scale in CLASSIFIER_SCALES[1:]]
    cells.append(cell("unguided", model=other))
    classes = {one.cost_class: one for one in cells}
    return write(path, cells, [record(one) for one in cells], [speed(one) for one in classes.values()])


def with_gan(path: Path) -> Path:
    """CFG on a diffusion model, and a generator of one pass without a sampler."""
    known = [cell("unguided"), cell("cfg", 1.5)]
    gan = {"model": ModelRef(name="digits_gan", digest="e" * 16), "one_pass": True, "diffusion": None}
    cells = [*known, known[0].model_copy(update=gan)]
    records = [record(one) for one in known]
    records.append(records[0].model_copy(update={"cell": cells[-1], "id": cells[-1].id, "nfe": 1.0}))
    return write(path, cells, records, [speed(one) for one in cells])


def sampler_grid(path: Path, samplers: Sequence[str], steps: Sequence[int], scales: Sequence[float]) -> Path:
    """Samplers x steps x scales of CFG."""
    cells = [cell("cfg", s, sampler=name, steps=n) for name in samplers for n in steps for s in scales]
    classes = {one.cost_class: one for one in cells}
    return write(path, cells, [record(one) for one in cells], [speed(one) for one in classes.values()])


def _rung(one: Cell, metric: str, samples: int) -> Rung:
    """Mean curve + common noise + a little own noise; the plain FID is biased by 300 / N."""
    common, own = np.random.default_rng([one.seed, samples]), np.random.default_rng(int(one.id, 16) % 2**32)
    sizes = {"fid": 0.3, "inception_score": 0.1, "precision": 0.01, "recall": 0.02, "accuracy": 0.005}
    size = {**sizes, "clip_score": 0.1}[metric]
    spread = size * np.sqrt(2000 / samples)
    pseudo = _mean(one, metric) + spread * (common.normal(size=GROUPS) * 0.9 + own.normal(size=GROUPS) * 0.4)
    bias = 300 / samples if metric == "fid" else 0.0
    value = float(pseudo.mean() + bias)
    replicates = (GROUPS * value - pseudo) / (GROUPS - 1)
    return Rung(value=value, replicates=tuple(replicates.tolist()))


def _mean(one: Cell, metric: str) -> float:
    method, strength = one.guidance.method, (one.guidance_scale - 1) + 0.5 * one.classifier_scale
    strength += 0.2 * sum(scale - 1 for scale in one.model.scales.values())
    coarse = 30 / one.sampler.steps**1.5
    lacking = {"unconditional": 20.0, "classifier_uncond": 8 / (0.4 + one.classifier_scale)}.get(method, 0.0)
    means: dict[str, float] = {
        "fid": 1.2 + 2.5 * abs(strength - 0.12) ** 0.8 + lacking + coarse,
        "inception_score": 8.8 - 1.3 * np.exp(-2 * max(strength, 0)) - 0.15 * lacking,
        "precision": 0.78 + 0.12 * np.tanh(3 * max(strength, 0)) - 0.02 * max(strength, 0) - 0.01 * lacking,
        "recall": 0.87 * np.exp(-0.5 * max(strength, 0)) - 0.01 * lacking,
        "clip_score": 29.0 + 3.0 * np.tanh(max(strength, 0)) - 0.1 * lacking,
        "accuracy": min(0.998, 0.975 + 0.03 * np.tanh(4 * max(strength, 0)) - 0.02 * lacking),
    }
    return means[metric]


def _timing(one: Cell, size: int, repeats: int, rng: np.random.Generator) -> Timing:
    network = one.evaluations * (0.001 + 0.0001 * size) * (1 + 0.05 * rng.random(repeats))
    classifier = one.classifier_evaluations * 0.00005 * size * np.ones(repeats)
    return Timing(
        batch_size=size,
        batched=True,
        first_call_s=float(network[0] * 3),
        trajectory_s=tuple((network + classifier + 0.002).tolist()),
        denoiser_s=tuple(network.tolist()),
        classifier_s=tuple(classifier.tolist()),
        decode_s=tuple(np.full(repeats, 0.0002 * size).tolist()),
        peak_memory_bytes=300_000_000 + 40_000 * size,
        activation_memory_bytes=40_000 * size * (2 if one.guidance.method == "cfg" else 1),
    )


def _strip(one: Cell) -> bytes:
    """Twenty 8x8 tiles: a bar whose height is the class, brighter with guidance."""
    strip = np.zeros((8, 160), np.uint8)
    for index in range(20):
        level = min(255, int(90 + 40 * (one.guidance_scale + one.classifier_scale)))
        strip[7 - (index % 10) * 7 // 9 :, index * 8 + 2 : index * 8 + 6] = level
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "PNG")
    return buffer.getvalue()
