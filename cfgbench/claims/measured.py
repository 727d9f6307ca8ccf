"""Numbers that no sweep holds, measured once for the claims: `results/claims/records/<name>.json`.

Raw series by name, such as one value per group of samples or per training seed; `cfgbench/probes` makes them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cfgbench.errors import InputError
from cfgbench.records import Machine


class Measurement(BaseModel):
    """What was measured, in one sentence, and the numbers."""

    model_config = ConfigDict(frozen=True)
    name: str
    about: str
    series: dict[str, tuple[float, ...]]
    machine: Machine


def read(folder: Path) -> dict[str, Mapping[str, tuple[float, ...]]]:
    """The series of every measurement in a folder, by its name; InputError for a damaged file."""
    return {one.name: one.series for one in map(_load, sorted(folder.glob("*.json")))}


def write(measurement: Measurement, folder: Path) -> Path:
    """Write a measurement: a line per series, so that changes can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{measurement.name}.json"
    body = measurement.model_dump(mode="json")
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(body['series'][key])}" for key in sorted(body["series"]))
    head = "".join(f"{json.dumps(key)}: {json.dumps(body[key])},\n" for key in ("name", "about", "machine"))
    temporary = path.with_suffix(".writing")
    temporary.write_text(f'{{\n{head}"series": {{\n{lines}\n}}\n}}\n', encoding="utf-8")
    temporary.replace(path)
    return path


def _load(path: Path) -> Measurement:
    try:
        return Measurement.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise InputError(f"{path}: {problem}; `cfgbench claims --measure` makes it anew") from None
