"""The record of what a second model costs, and its ratios with their intervals. Imports no torch.

Of trainings it holds the CPU seconds of short identical stretches that all took in turn, so that a ratio is one of
neighbours in time; of sampling the bytes that each arm holds; of code the lines that a method adds.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from cfgbench.errors import InputError
from cfgbench.reading.comparison.contrasts import median_interval
from cfgbench.records import Machine

FILE = Path("records") / "costs.json"
SCHEMA = 1
Per = Literal["training", "step", "image"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class TrainingCost(_Record):
    """One training: what it makes, how long it is, and the CPU seconds of stretches of it on one thread."""

    name: str  # a key of `measure.TRAININGS`
    recipe: str
    parameters: dict[str, int]  # of each network that it trains
    steps: int  # of the recipe, to the network that is used
    batch_size: int
    flops_per_step: int  # forward and backward passes, multiply and add counted apart
    stretch: int  # steps
    cpu_s: tuple[float, ...]  # of a stretch, one per repeat

    @property
    def images_seen(self) -> int:
        """Training images over the whole recipe, repeats counted."""
        return self.steps * self.batch_size

    @property
    def flops(self) -> int:
        """Of the whole recipe."""
        return self.steps * self.flops_per_step

    def seconds(self, per: Per = "training") -> np.ndarray:
        """CPU seconds (repeats,) of the whole recipe, of a step or of an image, as each stretch has them."""
        factor = {"training": float(self.steps), "step": 1.0, "image": 1 / self.batch_size}[per]
        return np.array(self.cpu_s) / self.stretch * factor


class SamplingCost(_Record):
    """What one way of sampling holds in memory, and what it computes."""

    name: str  # a key of `measure.ARMS`
    method: str
    model: str
    steps: int | None  # of the sampler; a generator has none
    batch_size: int
    weights_bytes: dict[str, int]  # by network that is asked
    activation_bytes: int  # the most that live tensors take at once, beside the weights
    nfe: float
    classifier_passes: float
    flops_per_sample: int

    @property
    def held_bytes(self) -> int:
        """Weights and activations together."""
        return sum(self.weights_bytes.values()) + self.activation_bytes


class CodeCost(_Record):
    """What a method adds to our source: a function or class that it needs, against what stands there without it."""

    method: str
    part: Literal["sampling", "training", "network"]
    where: str  # file:name
    against: str | None  # file:name; None: all of it is new
    added: tuple[str, ...]  # lines
    removed: tuple[str, ...]


class CostsRecord(_Record):
    """All that `cfgbench costs` measured on one machine."""

    schema_version: int = SCHEMA
    training: tuple[TrainingCost, ...]
    sampling: tuple[SamplingCost, ...]
    code: tuple[CodeCost, ...]
    null_parameters: int  # of the diffusion model's: the embedding of "no label", which only label dropout trains
    machine: Machine

    def trained(self, name: str) -> TrainingCost:
        """A training by name; raises KeyError."""
        return {one.name: one for one in self.training}[name]

    def held(self, name: str, batch_size: int) -> SamplingCost:
        """A way of sampling by name; raises KeyError."""
        return {(one.name, one.batch_size): one for one in self.sampling}[name, batch_size]

    def lines(self, method: str, part: str) -> int:
        """Lines that a method adds to one part of the code."""
        return sum(len(one.added) for one in self.code if (one.method, one.part) == (method, part))


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, with its 95 % interval from order statistics; None below six repeats."""

    value: float
    interval: tuple[float, float] | None
    repeats: int


def seconds_ratio(over: TrainingCost, under: TrainingCost, per: Per = "training") -> Ratio:
    """CPU seconds of one training over those of another, stretch by stretch: whole recipes, single steps or images."""
    ratios = (over.seconds(per) / under.seconds(per)).tolist()
    return Ratio(float(np.median(ratios)), median_interval(ratios), len(ratios))


def load(folder: Path) -> CostsRecord:
    """The record in a folder such as `results/costs`; InputError where there is none that can be read."""
    path = folder / FILE
    try:
        body = json.loads(path.read_bytes())
        if body.get("schema_version", SCHEMA) > SCHEMA:
            raise InputError(f"{path} was written by a newer cfgbench (schema {body['schema_version']}); upgrade")
        return CostsRecord.model_validate(body)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no {FILE}; `cfgbench costs --output {folder}` makes it") from None
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise InputError(f"cannot read {path}: {error}; `cfgbench costs` makes it anew") from None
