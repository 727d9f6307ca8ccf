"""The axes of a grid: from the values written in YAML to checked values, without torch."""

import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from cfgbench import plugins
from cfgbench.errors import InputError, inside, shown, unknown
from cfgbench.registry import DTYPES, EXECUTIONS, METHODS, SAMPLERS, Parameter

STATE_DTYPES = ("fp64", "fp32", "bf16", "fp16")
AXES: dict[str, Parameter] = {  # besides a method's own parameters
    "model": Parameter("model"),
    "method": Parameter("method"),
    "sampler": Parameter("str", choices=tuple(SAMPLERS)),
    "steps": Parameter("int", minimum=1, maximum=100_000),
    "eta": Parameter("float", 0.0, 0.0, 1.0),
    "state_dtype": Parameter("str", None, choices=STATE_DTYPES, optional=True),
    "dtype": Parameter("str", "fp32", choices=DTYPES),
    "execution": Parameter("str", "eager", choices=tuple(EXECUTIONS)),
    "seed": Parameter("int", 0, minimum=0, maximum=2**63 - 1),
}
MAX_VALUES = 10_000
MAX_RANGE = Decimal(10) ** 12


def expand(raw: object, parameter: Parameter, place: str) -> list[Any]:
    """The checked values of one axis: a single value, a list, or a range `1, 1.1, ..., 2`."""
    values = _listed(raw, parameter.kind, place)
    if not values:
        raise InputError(f"{place} is an empty list; give at least one value")
    if "..." in [value for value in values if isinstance(value, str)]:
        values = _range(values, place)
    several = isinstance(raw, list) or len(values) > 1
    return [check(value, parameter, inside(place, f"[{i}]") if several else place) for i, value in enumerate(values)]


def check(value: Any, parameter: Parameter, place: str) -> Any:
    """One value, normalised to the parameter's type; raises InputError naming place, value and what is allowed."""
    if value is None and parameter.optional:
        return None
    checked = _CHECKS[parameter.kind](value, parameter, place)
    if parameter.choices is not None and checked not in parameter.choices:
        if parameter.kind == "str":
            raise unknown(_axis_name(place), value, place, map(str, parameter.choices))
        raise InputError(f"{place} = {shown(value)}; allowed: {', '.join(str(c) for c in parameter.choices)}")
    return checked


def _axis_name(place: str) -> str:
    """`sampler` from `sweeps[0].sampler[1] in x.yaml`."""
    return place.split(" ", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1].split("[", maxsplit=1)[0]


def parameters(raw: Mapping[str, Any], schema: Mapping[str, Parameter], place: str) -> dict[str, Any]:
    """Checked parameters of a model, without those at their defaults."""
    result = {}
    for key, value in raw.items():
        if key not in schema:
            raise unknown("parameter", key, place, schema or {"(none)"})
        checked = check(value, schema[key], inside(place, f".{key}"))
        if checked != schema[key].default:
            result[key] = checked
    for key, parameter in schema.items():
        if parameter.required and key not in result:
            raise InputError(f"{place} lacks {key!r}: {parameter.doc}")
    return result


def sigma_interval(value: Any, levels: np.ndarray, steps: int, place: str) -> tuple[float | None, float | None]:
    """(sigma_lo, sigma_hi] from `[lo, hi]`, `{sigma: ...}`, `{fraction: [from, to]}` or `{step: [from, to]}`.

    `levels` (T,) is sigma per training timestep, increasing. Fractions run along the trajectory from noise (0) to
    image (1); steps i to j - 1 of n are the fractions i/n to j/n of the training timesteps. None as sigma_hi is
    infinity.
    """
    unit, pair = ("sigma", value) if isinstance(value, list | tuple) else _single_item(value, place)
    if unit not in ("sigma", "fraction", "step"):
        raise unknown("unit", unit, place, ("sigma", "fraction", "step"))
    first, last = _pair(pair, place)
    if unit == "sigma":
        low, high = first or 0.0, last
        if high is not None and not low < high:
            raise InputError(f"{place} = {shown(value)}; sigma_lo must be below sigma_hi")
        return low, high
    scale = 1 if unit == "fraction" else steps
    begin, end = (0.0 if first is None else first / scale), (1.0 if last is None else last / scale)
    if not 0 <= begin < end <= 1:
        raise InputError(f"{place} = {shown(value)}; need 0 <= from < to <= {scale}")
    return _sigma_at(end, levels) or 0.0, _sigma_at(begin, levels)


def _sigma_at(fraction: float, levels: np.ndarray) -> float | None:
    """Sigma half a timestep above the fraction's own, so that the step there is inside; ends are open."""
    if fraction == 0:
        return None
    if fraction == 1:
        return 0.0
    timestep = len(levels) * (1 - fraction) - 0.5
    return float(f"{np.exp(np.interp(timestep, np.arange(len(levels)), np.log(levels))):.6g}")


def _single_item(value: Any, place: str) -> tuple[str, Any]:
    if not isinstance(value, Mapping) or len(value) != 1:
        allowed = "[sigma_lo, sigma_hi], {fraction: [a, b]} or {step: [i, j]}"
        raise InputError(f"{place} = {shown(value)}; write {allowed}")
    return next(iter(value.items()))


def _pair(pair: Any, place: str) -> tuple[float | None, float | None]:
    ok = isinstance(pair, list | tuple) and len(pair) == 2
    if not ok or not all(item is None or (_is_number(item) and item >= 0) for item in pair):
        raise InputError(f"{place} = {shown(pair)}; an interval is two numbers >= 0, or null for an open end")
    return pair[0], pair[1]


def _listed(raw: object, kind: str, place: str) -> list[Any]:
    if kind == "interval" and isinstance(raw, list) and not any(isinstance(x, list | dict) for x in raw):
        return [raw] if raw else []
    if isinstance(raw, list):
        return raw
    if kind in ("float", "int") and isinstance(raw, str) and "," in raw:
        return [_parse(part.strip(), place) for part in raw.split(",")]
    return [raw]


def _parse(text: str, place: str) -> object:
    if text == "...":
        return text
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"{place}: {shown(text)} is not a number; a range is written 1, 1.1, ..., 2") from None
    return int(number) if number.is_integer() else number


def _range(values: list[Any], place: str) -> list[Any]:
    """Replace each `a, b, ..., c` by the decimal steps between b and c."""
    result: list[Any] = []
    for i, value in enumerate(values):
        if value != "...":
            result.append(value)
            continue
        if not (2 <= i < len(values) - 1 and all(_is_number(v) for v in (*values[i - 2 : i], values[i + 1]))):
            raise InputError(f"{place}: '...' stands between two numbers before it and one after, as in 1, 1.1, ..., 2")
        first, second, last = (Decimal(str(v)) for v in (values[i - 2], values[i - 1], values[i + 1]))
        result.extend(_between(first, second, last, place))
    return result


def _between(first: Decimal, second: Decimal, last: Decimal, place: str) -> list[float | int]:
    step = second - first
    if not all(abs(v) < MAX_RANGE for v in (first, second, last)):
        raise InputError(f"{place}: the numbers of a range are below {MAX_RANGE:,}")
    if step == 0 or (last - second) / step <= 0:
        raise InputError(f"{place}: steps of {step} from {second} do not reach {last}")
    if (last - second) / step > MAX_VALUES:
        raise InputError(f"{place}: the range has more than {MAX_VALUES} values")
    if (last - second) % step != 0:
        raise InputError(f"{place}: steps of {step} from {second} do not reach {last}")
    count = int((last - second) / step)
    inner = [second + step * k for k in range(1, count)]
    return [int(v) if v == v.to_integral_value() else float(v) for v in inner]


def _is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def _check_number(value: Any, parameter: Parameter, place: str) -> float | int:
    limits = [f">= {parameter.minimum:g}"] if parameter.minimum is not None else []
    limits += [f"<= {parameter.maximum:g}"] if parameter.maximum is not None else []
    kind = "a whole number" if parameter.kind == "int" else "a number"
    allowed = " ".join([kind, " and ".join(limits)]).strip()
    whole = _is_number(value) and (isinstance(value, int) or value.is_integer())
    if not _is_number(value) or (parameter.kind == "int" and not whole):
        raise InputError(f"{place} = {shown(value)}; needs {allowed}")
    low, high = parameter.minimum, parameter.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise InputError(f"{place} = {shown(value)}; needs {allowed}")
    return int(value) if parameter.kind == "int" else float(value)


def _check_bool(value: Any, parameter: Parameter, place: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{place} = {shown(value)}; needs true or false")
    return value


def _check_str(value: Any, parameter: Parameter, place: str) -> str:
    if not isinstance(value, str):
        allowed = f"a name, one of: {', '.join(map(str, parameter.choices))}" if parameter.choices else "text"
        raise InputError(f"{place} = {shown(value)}; needs {allowed}")
    return value


def _check_model(value: Any, parameter: Parameter, place: str) -> dict[str, Any]:
    body = {"name": value} if isinstance(value, str) else value
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise InputError(f"{place} = {shown(value)}; a model is a name or {{name: ..., parameter: value}}")
    plugins.check("model", body["name"], place)
    return body


def _check_method(value: Any, parameter: Parameter, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place} = {shown(value)}; needs a name, one of: {', '.join(METHODS)}")
    plugins.check("method", value, place)
    taken = METHODS[value].parameters.keys() & AXES.keys()
    if taken:
        raise InputError(f"{place}: {value} has a parameter {min(taken)!r}, which is an axis of every method already")
    return value


_CHECKS: dict[str, Callable[[Any, Parameter, str], Any]] = {
    "float": _check_number,
    "int": _check_number,
    "bool": _check_bool,
    "str": _check_str,
    "model": _check_model,
    "method": _check_method,
    "interval": lambda value, parameter, place: value,  # needs the noise levels: see sigma_interval
}
