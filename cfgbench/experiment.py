"""YAML -> Experiment: the schema of an experiment file, and errors that name file, field, value and what is allowed.

One file is one experiment. `sweeps` is a list of grids; each key of a grid is an axis with one value or a list, and
`common` holds axes that all grids share. Lists of numbers may say `1, 1.1, ..., 2`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cfgbench.errors import InputError, unknown
from cfgbench.registry import ENCODERS, METRICS, REFERENCES

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"  # so that a name cannot leave the results folder


class Profile(BaseModel):
    """How speed is measured: once per cost class and batch size."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch_sizes: tuple[int, ...] = Field(default=(1, 100), min_length=1, max_length=16)
    repeats: int = Field(default=10, ge=3, le=10_000)

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 1:
            raise ValueError("every batch size is at least 1")
        return sizes


class Experiment(BaseModel):
    """A validated experiment file. Axes of `sweeps` are validated by the planner, against the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=NAME)
    description: str = Field(default="", max_length=2000)
    num_samples: int = Field(ge=1, le=10_000_000)
    batch_size: int = Field(default=100, ge=1, le=4096)
    metrics: tuple[str, ...] = Field(default=tuple(METRICS), min_length=1)
    reference: str | None = None
    encoder: str | None = None
    common: dict[str, Any] = {}
    sweeps: tuple[dict[str, Any], ...] = Field(min_length=1)
    profile: Profile | None = Profile()
    source: str = Field(default="", exclude=True)  # the file, for messages


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment file with `key=value` overrides applied; raises InputError."""
    body = _read(path)
    for text in overrides:
        _override(body, text)
    return parse(body, str(path))


def parse(body: dict[str, Any], source: str) -> Experiment:
    """Validate the parsed content of an experiment file; `source` is named in messages."""
    if "source" in body:
        raise unknown("field", "source", source, set(Experiment.model_fields) - {"source"})
    try:
        experiment = Experiment(**body, source=source)
    except ValidationError as error:
        raise _sentence(error, source) from None
    _check_names(experiment)
    return experiment


def _read(path: Path) -> dict[str, Any]:
    try:
        body = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise InputError(f"no experiment file {path}; `ls experiments/*.yaml` shows those that come along") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as UTF-8 text: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise InputError(f"{path} holds {type(body).__name__}; an experiment is a mapping such as `name: my-sweep`")
    return body


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader for which a key given twice is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [getattr(key, "value", None) for key, _ in node.value]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _override(body: dict[str, Any], text: str) -> None:
    """Apply `num_samples=200`, `common.steps=10` or `sweeps.0.steps=[5, 10]`; a bare axis goes to every sweep."""
    path, sign, value_text = text.partition("=")
    if not sign:
        raise InputError(f"override {text!r} is not key=value, for example num_samples=200 or steps=10")
    try:
        value = yaml.load(value_text, _UniqueKeys)
    except yaml.YAMLError:
        raise InputError(f"the value of override {text!r} is not valid YAML") from None
    *parents, key = path.split(".")
    if not parents and key not in Experiment.model_fields:
        _override_axis(body, key, value)
        return
    _descend(body, parents, text)[key] = value


def _override_axis(body: dict[str, Any], key: str, value: object) -> None:
    sweeps = [sweep for sweep in body.get("sweeps") or [] if isinstance(sweep, dict)]
    holders = [sweep for sweep in sweeps if key in sweep]
    for sweep in holders:
        sweep[key] = value
    if not holders or key in (body.get("common") or {}):
        body["common"] = {**(body.get("common") or {}), key: value}


def _descend(body: dict[str, Any], parents: list[str], text: str) -> dict[str, Any]:
    place: Any = body
    for part in parents:
        try:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        except (ValueError, IndexError, AttributeError):
            raise InputError(f"override {text!r} names {part!r}, which the experiment does not have") from None
    if not isinstance(place, dict):
        raise InputError(f"override {text!r} does not lead to a field")
    return place


def _sentence(error: ValidationError, source: str) -> InputError:
    """The first problem of a pydantic report as one sentence."""
    problem = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "extra_forbidden":
        fields = Profile.model_fields if place.startswith("profile.") else Experiment.model_fields
        return unknown("field", place.rsplit(".", 1)[-1], source, set(fields) - {"source"})
    if problem["type"] == "missing":
        return InputError(f"{source} lacks the field {place!r}")
    message = problem["msg"].replace("Value error, ", "")
    if place == "name" and "pattern" in message:
        message = "use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 80"
    return InputError(f"{place} = {problem['input']!r:.80} in {source}: {message}")


def _check_names(experiment: Experiment) -> None:
    for index, metric in enumerate(experiment.metrics):
        if metric not in METRICS:
            raise unknown("metric", metric, f"metrics[{index}] in {experiment.source}", METRICS)
        if metric in experiment.metrics[:index]:
            raise InputError(f"metrics[{index}] = {metric!r} in {experiment.source} is listed twice")
    if experiment.reference is not None and experiment.reference not in REFERENCES:
        raise unknown("reference", experiment.reference, f"reference in {experiment.source}", REFERENCES)
    if experiment.encoder is not None and experiment.encoder not in ENCODERS:
        raise unknown("encoder", experiment.encoder, f"encoder in {experiment.source}", ENCODERS)
