"""Weights, licences, encoders, reference and prompts of an experiment: there, or missing and how to get them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cfgbench import plugins
from cfgbench.assets import checkpoints, prompts
from cfgbench.doctor import licences
from cfgbench.doctor.items import MISSING, OK, Item
from cfgbench.errors import InputError
from cfgbench.planning import axes, encoder_refs
from cfgbench.planning.experiment import Experiment
from cfgbench.references import sets
from cfgbench.registry import MODELS, resolve


def examine(experiment: Experiment) -> Iterator[Item]:
    """Every model, encoder, reference and prompt set that an experiment names."""
    for name, parameters, place in models(experiment):
        yield from _weights(name, parameters, place)
    for index, raw in enumerate(experiment.encoder):
        yield _encoder(raw, f"encoder[{index}] in {experiment.source}")
    if experiment.reference is not None:
        yield _reference(experiment)
    if experiment.prompts is not None:
        yield _prompts(experiment)


def models(experiment: Experiment) -> list[tuple[str, dict[str, Any], str]]:
    """The models of all sweeps with their parameters, each once; those that are not well named are left to the plan."""
    found: dict[str, tuple[str, dict[str, Any], str]] = {}
    for index, sweep in enumerate(experiment.sweeps):
        place = f"{'sweeps[' + str(index) + ']' if 'model' in sweep else 'common'}.model in {experiment.source}"
        try:
            bodies = axes.expand({**experiment.common, **sweep}.get("model", []), axes.AXES["model"], place)
        except InputError:
            continue
        for body in bodies:
            parameters = {key: value for key, value in body.items() if key != "name"}
            found.setdefault(str(body), (body["name"], parameters, place))
    return list(found.values())


def size(files: Mapping[str, Path]) -> int:
    """Bytes of files."""
    return sum(file.stat().st_size for file in set(files.values()))


def _weights(name: str, parameters: Mapping[str, Any], place: str) -> Iterator[Item]:
    try:
        checked = axes.parameters(dict(parameters), MODELS[name].parameters, place)
        target = MODELS[name].files
        files: dict[str, Path] = resolve(target)(**checked) if target else {}
    except (ValueError, InputError) as error:
        yield Item(MISSING, "weights", str(error) if str(error).startswith(place) else f"{place}: {error}")
        files = {}
    else:
        there = f"{len(files)} files, {size(files) / 1e9:.2f} GB" if files else "none are needed"
        given = ", ".join(f"{key}={value}" for key, value in parameters.items())
        yield Item(OK, "weights", f"{name}({given}): {there}" if given else f"{name}: {there}")
    if "revision" not in MODELS[name].parameters:  # its path is none of the hub
        return
    for path in (str(value) for key, value in parameters.items() if key.endswith("path")):
        if checkpoints.is_repository(path):
            yield licences.item(path, files)


def _encoder(raw: object, place: str) -> Item:
    try:
        encoder = encoder_refs.parse(raw, place)
    except InputError as error:
        return Item(MISSING, "encoder", str(error))
    return Item(OK, "encoder", f"{encoder}: {', '.join(encoder.entry.provides)}; {size(encoder.files()) / 1e9:.2f} GB")


def _reference(experiment: Experiment) -> Item:
    place, given = f"reference in {experiment.source}", experiment.reference or ""
    try:
        if isinstance(given, str) and ":" in given:
            plugins.check("reference", given, place)
        found = sets.find(given, Path(experiment.source).parent, place)
    except InputError as error:
        return Item(MISSING, "reference", str(error))
    count = found.pictures.count if isinstance(found, sets.PictureSet) else None
    text = "" if count is None else f": {count:,} pictures" if count else ": a mean and a covariance"
    return Item(OK, "reference", found.name + text)


def _prompts(experiment: Experiment) -> Item:
    if experiment.prompts is None:
        raise ValueError("no prompts are named")
    try:
        found = prompts.load(experiment.prompts, experiment.source)
    except InputError as error:
        return Item(MISSING, "prompts", str(error))
    return Item(OK, "prompts", f"{len(found):,} in {found.name}")
