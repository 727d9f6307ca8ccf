"""Whether what records say can be understood here: the names in them, and numbers that must suit each other.

A record may be of a newer version, of one that went wrong, or edited by hand. What it names is looked up in many places
of the reading half, so it is checked once, when records are read. All problems are InputError that names the file.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping

from cfgbench.cell import Cell, Value
from cfgbench.entries import Method, Metric
from cfgbench.errors import InputError, shown, unknown
from cfgbench.planning import axes
from cfgbench.records import CellRecord, PlanRecord, Score, SpeedRecord
from cfgbench.registry import METHODS, METRICS

_SLACK = 0.1  # of a score's range, beyond which no rounding leads
_KINDS = ("float", "int", "bool", "str", "interval")  # of a method's parameters


def check_plan(plan: PlanRecord, place: str) -> None:
    """What a plan names is known here, or defined by the plan itself."""
    for name in (*plan.plugin_methods, *plan.plugin_metrics):
        if ":" not in name:
            raise InputError(f"{place} has {shown(name)} among its plug-ins, whose names are module:attribute")
    methods = METHODS | plan.plugin_methods
    for name, entry in plan.plugin_methods.items():
        _check_method(entry, methods, f"plugin_methods {shown(name)} in {place}")
    for i, cell in enumerate(plan.cells):
        check_cell(cell, methods, f"cells[{i}] in {place}")


def check_cell(cell: Cell, methods: Mapping[str, Method], place: str) -> None:
    """What a cell names is known, and its values are legal."""
    guidance = cell.guidance
    if guidance.method not in methods:
        raise unknown("method", guidance.method, place, methods)
    method = methods[guidance.method]
    if method.scale is not None and guidance.parameters.get(method.scale) is None:
        raise InputError(f"{place}: method {guidance.method} lacks its scale {method.scale!r}")
    for name, value in guidance.parameters.items():
        if name not in method.parameters:
            raise unknown("parameter", name, place, method.parameters)
        axes.check(value, method.parameters[name], f"{name} of {place}")
        if method.parameters[name].kind == "interval" and value is not None:
            _check_interval(value, f"{name} of {place}")
    settings = cell.diffusion.model_dump() if cell.diffusion else {}
    settings |= {name: getattr(cell, name) for name in ("dtype", "execution", "seed")}
    for name, value in settings.items():
        axes.check(value, axes.AXES[name], f"{name} of {place}")


def check_scores(records: Collection[CellRecord], folder: str) -> None:
    """The metrics of records are known, their values possible, and all error bars of the same number of groups."""
    sizes: dict[str, int] = {}
    for record in records:
        place = f"{folder}/{record.id}.json"
        for score in record.scores:
            if score.metric not in METRICS:
                raise unknown("metric", score.metric, place, METRICS)
            sizes[place] = _check_values(score, METRICS[score.metric], place) or sizes.get(place, 0)
    usual = Counter(filter(None, sizes.values())).most_common(1)
    for place, size in sizes.items():
        if size and size != usual[0][0]:
            raise InputError(f"{place} has scores of {size} replicates, and other records of {usual[0][0]}")


def check_speed(speed: SpeedRecord, folder: str) -> None:
    """What a speed record names is known, and it is of the cost class that it says."""
    place = f"{folder}/speed-{speed.id}.json"
    check_cell(speed.cell, METHODS, f"cell in {place}")
    if speed.cell.cost_class != speed.cost_class:
        raise InputError(f"{place} says that it is of cost class {speed.cost_class}, and its cell is of another")


def _check_interval(value: Value, place: str) -> None:
    pair = value if isinstance(value, tuple) and len(value) == 2 else (None, None)
    low, high = pair[0], math.inf if pair[1] is None else pair[1]
    if low is None or not 0 <= low < high:
        raise InputError(f"{place} = {shown(value)}; an interval is two noise levels, the first below the second")


def _check_values(score: Score, metric: Metric, place: str) -> int:
    """How many replicates a score has; InputError where it has different numbers, or values that its metric has not."""
    rungs = [score, *score.nested.values()]
    low, high = metric.limits
    slack = _SLACK * (high - low)
    for value in (value for rung in rungs for value in (rung.value, *rung.replicates)):
        if not low - slack <= value <= high + slack:
            raise InputError(f"{place} has {score.column} = {value:g}; {score.metric} is from {low:g} to {high:g}")
    sizes = sorted({len(rung.replicates) for rung in rungs} - {0})
    if len(sizes) > 1:
        raise InputError(f"{place} has values of {score.column} with {sizes[0]} and with {sizes[1]} replicates")
    return sizes[0] if sizes else 0


def _check_method(entry: Method, methods: Mapping[str, Method], where: str) -> None:
    """The parts of a plug-in's entry suit each other."""
    named = [*entry.always, *entry.cfg_at, *([entry.scale] if entry.scale is not None else [])]
    for name in named:
        if name not in entry.parameters:
            raise unknown("parameter", name, where, entry.parameters)
    for parameter in entry.parameters.values():
        if parameter.kind not in _KINDS:
            raise unknown("kind of parameter", parameter.kind, where, _KINDS)
    for end in entry.ends.values():
        if end not in methods:
            raise unknown("method", end, where, methods)
