"""YAML -> Experiment: the schema of an experiment file, and errors that name file, field, value and what is allowed.

One file is one experiment. `sweeps` is a list of grids; each key of a grid is an axis with one value or a list, and
`common` holds axes that all grids share. Lists of numbers may say `1, 1.1, ..., 2`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cfgbench import plugins
from cfgbench.assets.prompts import PromptSource
from cfgbench.errors import InputError, shown, unknown
from cfgbench.planning import protocols, yaml_text
from cfgbench.references.source import ReferenceSource
from cfgbench.registry import METRICS

OURS = {"source", "overrides"}  # fields of an Experiment that its file does not have
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"  # so that a name cannot leave the results folder
MAX_BYTES = 10_000_000  # of a file
Count = Annotated[int, Field(strict=True)]  # neither true nor "7"


class Profile(BaseModel):
    """How speed is measured: once per cost class and batch size."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    batch_sizes: tuple[Count, ...] = Field(default=(1, 100), min_length=1, max_length=16)
    repeats: Count = Field(default=10, ge=3, le=10_000)

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 1:
            raise ValueError("every batch size is at least 1")
        return sizes


class Budget(BaseModel):
    """An adaptive sweep: `num_samples` is the most that a scale may get; those shown worse get less."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: str = "fid"
    delta: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    looks: Count = Field(default=4, ge=1, le=20)
    refine: Count = Field(default=0, ge=0, le=4)


class Experiment(BaseModel):
    """A validated experiment file. Axes of `sweeps` are validated by the planner, against the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=NAME)
    description: str = Field(default="", max_length=2000)
    num_samples: Count = Field(ge=1, le=10_000_000)
    batch_size: Count | None = Field(default=None, ge=1, le=4096)
    passes: Literal["sequential", "batched", "measured"] = "sequential"
    metrics: tuple[str, ...] = Field(default=tuple(METRICS), min_length=1)
    reference: str | ReferenceSource | None = None
    encoder: tuple[str | dict[str, Any], ...] = ()
    prompts: PromptSource | None = None
    budget: Budget | None = None
    protocol: str | None = None
    common: dict[str, Any] = {}
    sweeps: tuple[dict[str, Any], ...] = Field(min_length=1)
    profile: Profile | None = Profile()
    source: str = Field(default="", exclude=True)  # the file, for messages
    overrides: tuple[str, ...] = Field(default=(), exclude=True)  # as given, already applied

    @field_validator("encoder", mode="before")
    @classmethod
    def _one_encoder(cls, encoder: object) -> object:
        return [encoder] if isinstance(encoder, str | dict) else encoder

    @field_validator("prompts", mode="before")
    @classmethod
    def _file_alone(cls, prompts: object) -> object:
        return {"file": prompts} if isinstance(prompts, str) else prompts


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment file with `key=value` overrides applied; raises InputError."""
    plugins.search(path.parent)
    body = _read(path)
    for text in overrides:
        _override(body, text)
    return parse(body, str(path)).model_copy(update={"overrides": tuple(overrides)})


def parse(body: dict[str, Any], source: str) -> Experiment:
    """Validate the parsed content of an experiment file; `source` is named in messages."""
    for name in OURS & body.keys():
        raise unknown("field", name, source, set(Experiment.model_fields) - OURS)
    try:
        experiment = Experiment(**body, source=source)
    except ValidationError as error:
        raise _sentence(error, source) from None
    _check_names(experiment)
    return experiment


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MAX_BYTES):
            raise InputError(f"{path} is no experiment file: a YAML text of at most {MAX_BYTES // 1_000_000} MB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no experiment file {path}; `ls experiments/*.yaml` shows those that come along") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path} as UTF-8 text: {error}") from None
    try:
        body = yaml_text.parse(text)
    except ValueError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise InputError(f"{path} holds {type(body).__name__}; an experiment is a mapping such as `name: my-sweep`")
    return body


def _override(body: dict[str, Any], text: str) -> None:
    """Apply `num_samples=200`, `common.steps=10` or `sweeps.0.steps=[5, 10]`; a bare axis goes to every sweep."""
    path, sign, value_text = text.partition("=")
    if not sign:
        raise InputError(f"override {shown(text)} is not key=value, for example num_samples=200 or steps=10")
    try:
        value = yaml_text.parse(value_text)
    except ValueError:
        raise InputError(f"the value of override {shown(text)} is not valid YAML") from None
    *parents, key = path.split(".")
    if not parents and key not in Experiment.model_fields:
        _override_axis(body, key, value)
        return
    _descend(body, parents, text)[key] = value


def _override_axis(body: dict[str, Any], key: str, value: object) -> None:
    sweeps, common = body.get("sweeps"), body.get("common") or {}
    grids = [sweep for sweep in sweeps if isinstance(sweep, dict)] if isinstance(sweeps, list) else []
    holders = [sweep for sweep in grids if key in sweep]
    for sweep in holders:
        sweep[key] = value
    if isinstance(common, dict) and (not holders or key in common):
        body["common"] = {**common, key: value}


def _descend(body: dict[str, Any], parents: list[str], text: str) -> dict[str, Any]:
    place: Any = body
    for part in parents:
        try:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        except (ValueError, IndexError, AttributeError):
            raise InputError(f"override {shown(text)} names {shown(part)}, which no field is called") from None
    if not isinstance(place, dict):
        raise InputError(f"override {shown(text)} does not lead to a field")
    return place


def _sentence(error: ValidationError, source: str) -> InputError:
    """The first problem of a pydantic report as one sentence."""
    problem = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "extra_forbidden":
        parent, _, name = place.rpartition(".")
        inner: dict[str, type[BaseModel]] = {"profile": Profile, "prompts": PromptSource, "budget": Budget}
        inner["reference.ReferenceSource"] = ReferenceSource
        return unknown("field", name, source, set(inner.get(parent, Experiment).model_fields) - OURS)
    if problem["type"] == "missing":
        return InputError(f"{source} lacks the field {place!r}")
    message = problem["msg"].removeprefix("Value error, ")
    message = message.replace("valid tuple", "list").replace("dictionary", "mapping")
    if place == "name" and "pattern" in message:
        message = "use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 80"
    return InputError(f"{place} = {shown(problem['input'])} in {source}: {message}")


def _check_names(experiment: Experiment) -> None:
    for index, metric in enumerate(experiment.metrics):
        plugins.check("metric", metric, f"metrics[{index}] in {experiment.source}")
        if metric in experiment.metrics[:index]:
            raise InputError(f"metrics[{index}] = {shown(metric)} in {experiment.source} is listed twice")
    if experiment.protocol is not None:
        protocols.find(experiment.protocol, f"protocol in {experiment.source}")
    if experiment.budget is not None:
        _check_budget(experiment.budget, experiment)
    if isinstance(experiment.reference, str) and ":" in experiment.reference:
        plugins.check("reference", experiment.reference, f"reference in {experiment.source}")
    for index, encoder in enumerate(experiment.encoder):
        name = encoder if isinstance(encoder, str) else encoder.get("name")
        if isinstance(name, str):  # what else may be wrong with it is for the planner
            place = f"encoder[{index}]" if len(experiment.encoder) > 1 else "encoder"
            plugins.check("encoder", name, f"{place} in {experiment.source}")


def _check_budget(budget: Budget, experiment: Experiment) -> None:
    metric, place = budget.metric, f"budget.metric = {shown(budget.metric)} in {experiment.source}"
    fit = [name for name in experiment.metrics if METRICS[name].interval]
    if metric not in fit:
        raise InputError(f"{place}; an adaptive sweep needs one of its metrics with error bars: {', '.join(fit)}")
