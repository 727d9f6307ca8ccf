"""Architectures without weights: `path: random:sd15` stands for Stable Diffusion 1.5 with random numbers as weights.

Time, memory and energy depend on the shape of a network and not on what it has learned. Shapes are the published
configurations, in `published/shapes/`; those called `...-shallow` have one layer of each kind, for small machines. What
is drawn with them is noise, so nothing is scored. Imports no torch.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cfgbench import published
from cfgbench.assets.checkpoints import Checkpoint

FOLDER = published.FOLDER / "shapes"
COSTS = FOLDER.parent / "shape_costs.toml"
PREFIX = "random:"


class Costs(NamedTuple):
    """Parameters, pixels, and operations of one image, as `shape_costs.py` counts them."""

    parameters: int  # of the denoiser
    autoencoder_parameters: int
    height: int
    width: int
    pass_flops: int
    decode_flops: int


@dataclass(frozen=True)
class Shape(Checkpoint):
    """A checkpoint of which there are configurations only; all of them are in one file."""

    @property
    def file(self) -> Path:
        """Where the configurations are."""
        return self.folder / f"{self.name.removeprefix(PREFIX)}.json"

    @property
    def content(self) -> Mapping[str, Any]:
        """Configurations by file name, beside `title`, `source`, `family`, `parameters` and `text`."""
        return _content(self.file)

    @property
    def encoding(self) -> Mapping[str, list[int]]:
        """The shape of each tensor of a prompt's encoding."""
        found: Mapping[str, list[int]] = self.content["text"]
        return found

    @property
    def costs(self) -> "Costs":
        """What it costs at its own size."""
        return Costs(**tomllib.loads(COSTS.read_text())[self.name.removeprefix(PREFIX)])

    def json(self, file: str) -> Mapping[str, Any]:
        """The content of a configuration file."""
        found: Mapping[str, Any] = self.content[file]
        return found

    def require(self, file: str) -> Path:
        """The one file that there is."""
        return self.file

    def network_files(self, part: str) -> dict[str, Path]:
        """No weights."""
        return {}


def names() -> list[str]:
    """The shapes that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def of_family(family: str) -> Shape | None:
    """The first shape of full depth of a family of models; None where there is none."""
    return next((shape for shape in _full() if shape.content["family"] == family), None)


def is_random(path: str) -> bool:
    """Whether a path names a shape."""
    return path.startswith(PREFIX)


def find(path: str) -> Shape:
    """The shape that a path names; ValueError where there is none of that name."""
    if path.removeprefix(PREFIX) not in names():
        raise ValueError(f"there is no shape {path}; there are {', '.join(PREFIX + name for name in names())}")
    return Shape(path, FOLDER)


@cache
def of_repository(path: str) -> Shape | None:
    """The shape whose configurations a repository on the hub publishes; None where there is none."""
    return next((shape for shape in _full() if shape.content["source"].startswith(f"huggingface.co/{path},")), None)


def _full() -> Iterator[Shape]:
    return (find(PREFIX + name) for name in names() if not name.endswith("-shallow"))


@lru_cache(maxsize=16)
def _content(file: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(file.read_text())
    return found
