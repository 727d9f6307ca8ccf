"""The model of a cell: its checked parameters, and the reference with the digest of the weights behind it. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfgbench.assets.weight_files import file_digest, weight_files
from cfgbench.cell import Cell, ModelRef, digest
from cfgbench.errors import InputError
from cfgbench.planning import axes
from cfgbench.registry import METHODS, MODELS, resolve


def parameters(point: dict[str, Any], where: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """A model's name and its checked parameters, without those at their defaults; settings are taken off the point."""
    body = point.pop("model")
    schema = MODELS[body["name"]].parameters
    given = {key: value for key, value in body.items() if key != "name"}
    for key in [key for key in point if key in schema and schema[key].setting]:
        if key in given:
            raise InputError(f"{where[key]} is given twice, as an axis and as a parameter of {where['model']}")
        given[key] = point.pop(key)
    return body["name"], axes.parameters(given, schema, where["model"])


def says(target: str | None, given: Mapping[str, Any], place: str) -> Any:
    """What a function of a model's parameters says; InputError where its files are not as they should be."""
    try:
        return resolve(target)(**given) if target else None
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def reference(name: str, given: Mapping[str, Any], method: str, place: str) -> ModelRef:
    """The model as this method asks for it: without settings that it has no use for, and the digest of its weights."""
    try:
        files = weight_files(name, given, method)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    weights = _files_digest(files) if files else None
    schema, source = MODELS[name].parameters, MODELS[name].digest
    location = {key: value for key, value in given.items() if schema[key].location}
    rest = {key: value for key, value in given.items() if key not in location}
    content = digest([source, weights]) if source else weights
    made = ModelRef(name=name, parameters=rest, digest=content, location=location, scales=_scales(name, given, place))
    return made if METHODS[method].unconditional else made.conditional


def current_digest(cell: Cell, place: str) -> str | None:
    """The digest that a cell's model would have today; InputError where weights are missing."""
    return reference(cell.model.name, cell.model.arguments, cell.guidance.method, place).digest


def _scales(name: str, given: Mapping[str, Any], place: str) -> dict[str, float]:
    """The scales of a model's own, also those at their defaults; none that its checkpoint lacks."""
    schema = {key: item for key, item in MODELS[name].parameters.items() if item.scale}
    lacking = says(MODELS[name].lacks, given, place) if schema else None
    return {key: given.get(key, item.default) for key, item in schema.items() if key not in (lacking or {})}


def _files_digest(files: Mapping[str, Path]) -> str:
    return digest({name: file_digest(file) for name, file in files.items()})
