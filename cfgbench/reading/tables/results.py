"""A results folder as one value, `Results`, which tables, figures and the answer read.

A *column* is one score (`fid`, `fid_train`) of one identity. An *arm* is one curve: a model, a guidance method with its
other parameters, a sampler, steps, dtype and seed, over the scale; the unguided and unconditional cells are ends of
every arm that leads to them. Where the method's scale does not vary and one of the model's own does, an arm is over
that. A *family* is all cells of one model and seed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from cfgbench import record_names
from cfgbench.cell import Cell, canonical_json, number
from cfgbench.errors import InputError
from cfgbench.records import CellRecord, PlanRecord, Score, SpeedRecord
from cfgbench.registry import METHODS, METRICS, Metric
from cfgbench.store import Store

Fields = dict[str, str]
Item = TypeVar("Item")


class _Symbols(dict[str, str]):
    """How texts call a scale; one that is not listed by its own name."""

    def __missing__(self, axis: str) -> str:
        return axis.replace("_", " ")


SCALE_SYMBOLS = _Symbols(guidance_scale="s", truncation="tau")
SAMPLING = ("sampler", "steps", "eta", "state_dtype")  # a generator of one pass has no such settings


@dataclass(frozen=True)
class Column:
    """One score: its name in tables, its metric and what exactly it is."""

    name: str
    metric: str
    identity: Mapping[str, str | int | float]
    replicated: bool  # whether any cell has error bars; without them the plain value is all there is

    @property
    def entry(self) -> Metric:
        """The metric's line in the registry."""
        return METRICS[self.metric]

    @property
    def corrected(self) -> bool:
        """Whether the value shown is the bias-corrected one."""
        return self.entry.headline == "bias_corrected" and self.replicated

    @property
    def label(self) -> str:
        """`FID`, `FID (train)`; `FID (plain)` where it should be corrected and cannot be."""
        notes = [self.name.removeprefix(self.metric).lstrip("_")]
        notes += ["plain"] if self.entry.headline == "bias_corrected" and not self.corrected else []
        noted = ", ".join(note for note in notes if note)
        return f"{self.entry.label} ({noted})" if noted else self.entry.label


class Point(NamedTuple):
    """A cell on its arm's scale."""

    scale: float
    record: CellRecord


@dataclass(frozen=True)
class Arm:
    """One curve, its points in ascending order of the scale."""

    fields: Fields  # what its cells share: method, parameters, model, sampler, ...
    method: str
    axis: str  # guidance_scale, or a scale of the method's or of the model's own
    points: tuple[Point, ...]

    @property
    def over_model(self) -> bool:
        """Whether it is over a scale of the model's own."""
        return self.axis in self.points[0].record.cell.model.scales

    @property
    def records(self) -> tuple[CellRecord, ...]:
        """The records of its points."""
        return tuple(point.record for point in self.points)

    def scale_of(self, record: CellRecord) -> float:
        """Where a record lies on this arm."""
        return next(point.scale for point in self.points if point.record.id == record.id)


@dataclass(frozen=True)
class Results:
    """All that a results folder says, in plan order."""

    folder: Path
    plan: PlanRecord
    records: Mapping[str, CellRecord]
    speeds: tuple[SpeedRecord, ...]
    columns: tuple[Column, ...]

    @cached_property
    def done(self) -> tuple[CellRecord, ...]:
        """The records of finished cells."""
        found = (self.records.get(cell.id) for cell in self.plan.cells)
        return tuple(record for record in found if record is not None and record.status == "done")

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """All curves, in plan order; those that differ in their steps alone together, fewer steps first."""
        arms = _arms(self.done)
        return tuple(_by_steps(arms, [arm.fields for arm in arms]))

    def column(self, name: str) -> Column | None:
        """A column by name, or None where no cell has it."""
        return next((column for column in self.columns if column.name == name), None)

    def unguided(self, cell: Cell) -> CellRecord | None:
        """The finished unguided cell with the same model, sampler, steps, dtype and seed."""
        matches = (r for r in self.done if r.cell.guidance.method == "unguided" and _same_unguided(r.cell, cell))
        return next(matches, None)

    def reference(self, arm: Arm, record: CellRecord) -> CellRecord | None:
        """What a cell of an arm is compared with: the unguided one, or where a scale of the model's own is 1."""
        if arm.over_model:
            return next((point.record for point in arm.points if point.scale == off(arm.axis)), None)
        return self.unguided(record.cell)

    def families(self) -> dict[str, tuple[CellRecord, ...]]:
        """The finished cells of each family, by `family_name`."""
        found: dict[str, list[CellRecord]] = {}
        for record in self.done:
            found.setdefault(family_name(record.cell), []).append(record)
        return {name: tuple(records) for name, records in found.items()}

    def label(self, arm: Arm) -> str:
        """What tells an arm from the others, or its method where nothing does."""
        found = describe(arm.fields, varying([other.fields for other in self.arms]))
        return found or describe(arm.fields, ["method"])


def load(folder: Path) -> Results:
    """Read a results folder; InputError where records cannot be understood, or compared with each other."""
    store = Store(folder)
    plan = store.plan()
    METHODS.update(plan.plugin_methods)
    METRICS.update(plan.plugin_metrics)
    records = {cell.id: record for cell in plan.cells if (record := store.cell(cell.id)) is not None}
    record_names.check_scores(records.values(), str(store.records))
    found = [speed for name in plan.speeds if (speed := store.speed(name)) is not None]
    for speed in found:
        record_names.check_speed(speed, str(store.records))
    speeds = _by_steps(found, [arm_fields(speed.cell) for speed in found])
    return Results(folder, plan, records, tuple(speeds), _columns(plan, tuple(records.values())))


def family_name(cell: Cell) -> str:
    """The family that a cell belongs to, whatever its guidance, sampler, steps and dtype."""
    return f"{cell.model.conditional.label}, seed {cell.seed}"


def base(cell: Cell) -> Fields:
    """All of a cell but its guidance, as texts; no sampler for samples that were made elsewhere."""
    fields: Fields = {"model": cell.model.label, **{name: number(item) for name, item in cell.model.scales.items()}}
    if cell.diffusion is not None:
        fields |= {"sampler": cell.diffusion.sampler, "steps": number(cell.diffusion.steps)}
        fields |= {"eta": number(cell.diffusion.eta), "state_dtype": cell.diffusion.state_dtype or "default"}
    how = {} if cell.execution == "eager" else {"execution": cell.execution}
    return fields | {"dtype": cell.dtype, **how, "seed": number(cell.seed)}


def unguided_base(cell: Cell) -> Fields:
    """What is left of a cell without guidance: no negative prompt."""
    fields, model = base(cell), cell.model.conditional
    return fields if model is cell.model else fields | {"model": model.label}


def arm_fields(cell: Cell) -> Fields:
    """All of a cell but the value of its scale, as texts."""
    return {"method": cell.guidance.method, **other_parameters(cell), **base(cell)}


def cost_fields(cell: Cell) -> Fields:
    """What tells a cost class from others, as texts."""
    return {name: text for name, text in arm_fields(cell).items() if name != "seed" and name not in cell.model.scales}


def unguided_cost(cell: Cell) -> Fields:
    """What tells the cost class of the unguided cells that belong to a cell from others."""
    own = ("seed", *cell.model.scales)
    return {name: text for name, text in unguided_base(cell).items() if name not in own}


def off(axis: str) -> float:
    """Where a scale adds nothing: at 1 for s and a model's own, at 0 for what a method has of its own."""
    return 0.0 if axis != "guidance_scale" and axis in {method.scale for method in METHODS.values()} else 1.0


def other_parameters(cell: Cell) -> Fields:
    guidance = cell.guidance
    scale = METHODS[guidance.method].scale
    return {name: _text(item) for name, item in sorted(guidance.parameters.items()) if name != scale}


def varying(fields: Sequence[Fields]) -> list[str]:
    """The names under which some of these differ, in order of appearance; to have no sampler is no other sampler."""
    names = dict.fromkeys(name for one in fields for name in one)
    known = {name: [one for one in fields if name in one or name not in SAMPLING] for name in names}
    return [name for name in names if len({one.get(name) for one in known[name]}) > 1]


def describe(fields: Fields, names: Iterable[str]) -> str:
    """`CFG, ddim, 25 steps`: the named fields as people say them."""
    return ", ".join(_words(name, fields[name]) for name in names if name in fields)


def scale_text(scale: float) -> str:
    """A scale as people write it; a bound at infinity is off."""
    return "off" if math.isinf(scale) else number(scale)


def drawable(scales: Iterable[float]) -> dict[float, float]:
    """Where scales lie on an axis: at their value, and infinity one step beyond the largest of the others."""
    ordered = sorted({*scales})
    finite = [scale for scale in ordered if math.isfinite(scale)]
    step = finite[-1] - finite[-2] if len(finite) > 1 else 1.0
    return {scale: scale if math.isfinite(scale) else finite[-1] + step if finite else 0.0 for scale in ordered}


def at_edge(arm: Arm, record: CellRecord) -> bool:
    """Whether a cell is at an end of its arm's grid, beyond which the scale could still go."""
    scale, scales = arm.scale_of(record), [point.scale for point in arm.points]
    schema = METHODS[arm.method].parameters.get(arm.axis)
    if math.isinf(scale):
        return False
    return scale in (scales[0], scales[-1]) and (schema is None or scale not in (schema.minimum, schema.maximum))


def _by_steps(items: Sequence[Item], fields: Sequence[Fields]) -> list[Item]:
    """Items in the order of the first that differs from them in its steps alone, then of their steps."""
    alike = [tuple((name, text) for name, text in one.items() if name != "steps") for one in fields]
    first = {key: i for i, key in reversed([*enumerate(alike)])}
    places = [(first[key], float(one.get("steps", 0))) for key, one in zip(alike, fields, strict=True)]
    return [items[i] for i in sorted(range(len(items)), key=lambda i: places[i])]


def _columns(plan: PlanRecord, records: Sequence[CellRecord]) -> tuple[Column, ...]:
    """In plan order of the metrics, the bare name first."""
    found: dict[str, dict[str, Score]] = {}
    for record in records:
        for score in record.scores:
            found.setdefault(score.column, {})[record.id] = score
    columns = [_column(name, scores) for name, scores in found.items()]
    order = {metric: i for i, metric in enumerate(plan.metrics)}
    return tuple(sorted(columns, key=lambda c: (order.get(c.metric, len(order)), c.name != c.metric, c.name)))


def _column(name: str, by_cell: Mapping[str, Score]) -> Column:
    cells: dict[str, str] = {}  # the first of each identity
    for cell, score in by_cell.items():
        cells.setdefault(canonical_json([score.metric, score.identity]), cell)
    scores = [*by_cell.values()]
    if len(cells) > 1:
        first, second, *_ = (f"{canonical_json(by_cell[cell].identity)} (cell {cell})" for cell in cells.values())
        raise InputError(f"column {name!r} would mix scores of two identities, {first} and {second}; report them apart")
    return Column(name, scores[0].metric, scores[0].identity, any(score.replicates for score in scores))


def _arms(done: Sequence[CellRecord]) -> tuple[Arm, ...]:
    guided: dict[str, list[CellRecord]] = {}
    for record in done:
        if record.cell.scale is not None:
            guided.setdefault(canonical_json(arm_fields(record.cell)), []).append(record)
    arms = [_arm(records, done) for records in guided.values()]
    curved = {record.id for arm in arms if len(arm.points) > 1 for record in arm.records}
    over_model = [*_model_arms([record for record in done if record.id not in curved], done)]
    known = {record.id for arm in over_model for record in arm.records}
    arms = [arm for arm in arms if len(arm.points) > 1 or arm.points[0].record.id not in known] + over_model
    used = {record.id for arm in arms for record in arm.records}
    return (*arms, *(_lone_arm(record) for record in done if record.id not in used))


def _model_arms(lone: Sequence[CellRecord], done: Sequence[CellRecord]) -> Iterator[Arm]:
    """The curves over a scale of the model's own that cells lie on which no other curve has."""
    for name in dict.fromkeys(name for record in lone for name in record.cell.model.scales):
        wanted = dict.fromkeys(_across(record.cell, name) for record in lone)
        for key in wanted:
            records = [r for r in done if name in r.cell.model.scales and _across(r.cell, name) == key]
            if len(records) > 1:
                yield _model_arm(name, records)


def _across(cell: Cell, name: str) -> str:
    """All of a cell but a scale of its model."""
    return canonical_json({**arm_fields(cell), name: None, "scale": cell.scale})


def _model_arm(name: str, records: Sequence[CellRecord]) -> Arm:
    """The curve over a scale of the model; without another method of guidance it is one by itself."""
    cell = records[0].cell
    method = METHODS[cell.guidance.method]
    fields = {key: text for key, text in arm_fields(cell).items() if key != name}
    fields |= {"method": name} if cell.guidance.method == "unguided" else {}
    fields |= {} if method.scale is None else {method.scale: number(cell.scale)}
    points = sorted((Point(r.cell.model.scales[name], r) for r in records), key=lambda point: point.scale)
    return Arm(fields, cell.guidance.method, name, tuple(points))


def _arm(records: Sequence[CellRecord], done: Sequence[CellRecord]) -> Arm:
    cell = records[0].cell
    method = METHODS[cell.guidance.method]
    points = [Point(record.cell.scale or 0.0, record) for record in records]
    never_off = bool(set(cell.guidance.parameters) & set(method.always))
    for end, name in () if never_off else method.ends.items():
        points += [Point(end, record) for record in done if _is_end(record, name, cell)]
    ordered = tuple(sorted(points, key=lambda point: point.scale))
    return Arm(arm_fields(cell), cell.guidance.method, method.scale or "guidance_scale", ordered)


def _is_end(record: CellRecord, method: str, cell: Cell) -> bool:
    """Whether a cell is the `method` end of another cell's arm; unguided is, whatever the arm's parameters."""
    if record.cell.guidance.method != method:
        return False
    if method == "unguided":
        return _same_unguided(record.cell, cell)
    return base(record.cell) == base(cell) and other_parameters(record.cell) == other_parameters(cell)


def _same_unguided(cell: Cell, other: Cell) -> bool:
    """Whether the same is left of two cells without guidance."""
    return unguided_base(cell) == unguided_base(other)


def _words(name: str, text: str) -> str:
    if name == "method":
        return METHODS[text].label if text in METHODS else SCALE_SYMBOLS[text]
    if name == "steps":
        return f"{text} steps"
    return text if name in ("model", "sampler", "dtype", "execution") else f"{name} {text}"


def _lone_arm(record: CellRecord) -> Arm:
    point = Point(record.cell.guidance_scale, record)
    return Arm(arm_fields(record.cell), record.cell.guidance.method, "guidance_scale", (point,))


def _text(item: object) -> str:
    """A parameter as people write it; a pair is an interval of noise levels."""
    if not isinstance(item, tuple):
        return number(item)
    low, high = item
    return f"({low:g}, {'inf' if high is None else f'{high:g}'}]"
