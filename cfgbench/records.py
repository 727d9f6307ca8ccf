"""The typed records that cross from the running half to the reading half: one JSON file per cell and cost class.

Records hold raw measurements: values, delete-group replicates, seconds, bytes. Statistics and rounding happen when
reading. What was not measured is absent.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from cfgbench.cell import Cell
from cfgbench.entries import Method, Metric

SCHEMA = 1

# Larger numbers are nobody's measurement, and their squares are no numbers any more.
Number = Annotated[float, Field(ge=-1e100, le=1e100)]
Amount = Annotated[float, Field(ge=0, le=1e100)]
Positive = Annotated[float, Field(gt=0, le=1e100)]
Count = Annotated[int, Field(ge=0, le=10**18)]
Size = Annotated[int, Field(ge=1, le=10**18)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)  # unknown fields of a newer version are ignored


class Rung(_Record):
    """A score of the first N samples: its value, and its value without each of the groups."""

    value: Number
    replicates: tuple[Number, ...] = ()

    @field_validator("replicates")
    @classmethod
    def _none_or_several(cls, replicates: tuple[float, ...]) -> tuple[float, ...]:
        if len(replicates) == 1:
            raise ValueError("one replicate gives no error bar")
        return replicates


class Score(Rung):
    """One score of a cell. `column` names it in tables, `identity` says what exactly it is."""

    column: str
    metric: str
    identity: dict[str, str | int | float]
    nested: dict[Size, Rung] = {}  # at the canonical sample counts below the cell's own


class Absent(_Record):
    """A score that was asked for and has no value, with the reason."""

    column: str
    reason: str


class Health(_Record):
    """Counts of samples that no average should hide, and of values at the ends of their range."""

    nan: Count = 0
    constant: Count = 0
    saturated: Count = 0  # samples with more than half of their values clipped
    clipped_values: Count = 0
    values: Count = 0


class Machine(_Record):
    """Where a record was made. Nothing of it enters `results.csv`."""

    device: str
    processor: str
    cores: Count
    memory_bytes: Count
    driver: str | None = None
    system: str
    python: str
    packages: dict[str, str]
    commit: str | None = None
    threads: Count


class CellRecord(_Record):
    """All that is known of one cell."""

    schema_version: int = SCHEMA
    kind: Literal["cell"] = "cell"
    id: str
    cell: Cell
    status: Literal["done", "failed"]
    request: str  # digest of what was asked: samples, blocks, score identities
    num_samples: Count = 0
    num_classes: Size
    block_size: Size
    batch_size: Size
    batched: bool = False  # the predictions of a guided step were made by one network call
    nfe: Amount | None = None  # network evaluations per sample, counted
    classifier_passes: Amount | None = None
    scores: tuple[Score, ...] = ()
    absent: tuple[Absent, ...] = ()
    health: Health = Health()
    pixels: str | None = None  # digest of the first block's samples, to spot axes without effect
    left: dict[str, Count] = {}  # samples after which an adaptive sweep gave it no more, by the metric it was worse in
    pairing: dict[Size, str] = {}  # of samples made elsewhere: which items the first N are; equal ones are paired
    notes: tuple[str, ...] = ()
    error: str | None = None  # traceback of a failed cell
    machine: Machine  # that scored it
    machines: tuple[str, ...] = ()  # kinds of those that drew its blocks, as far as these say it

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.cell.id != self.id:
            raise ValueError("the cell is not the one that the id names")
        if self.status == "done" and not self.num_samples:
            raise ValueError("a finished cell has samples")
        if len({score.column for score in self.scores}) < len(self.scores):
            raise ValueError("a cell has one score in a column")
        if any(self.num_samples in score.nested for score in self.scores):
            raise ValueError("the score of all samples is not nested")
        return self


class Timing(_Record):
    """Raw seconds of one batch size, batched or sequential CFG. The lists have one entry per repeat."""

    batch_size: Size
    batched: bool
    first_call_s: Amount
    trajectory_s: tuple[Positive, ...]  # noise to latents
    denoiser_s: tuple[Amount, ...]  # of these: inside the network
    classifier_s: tuple[Amount, ...]
    decode_s: tuple[Amount, ...]
    energy_j: tuple[Amount, ...] = ()  # of a GPU, latents and decoding, where there is a counter
    peak_memory_bytes: Count | None = None  # of the process on a CPU, allocated on a GPU
    activation_memory_bytes: Count | None = None  # above what was held before (GPU), of live tensors (CPU)
    reserved_memory_bytes: Count | None = None  # by the GPU allocator

    @model_validator(mode="after")
    def _one_entry_per_repeat(self) -> Self:
        if len({len(part) for part in (self.trajectory_s, self.denoiser_s, self.classifier_s, self.decode_s)}) > 1:
            raise ValueError("every part of a repeat is timed")
        return self


class SpeedRecord(_Record):
    """Speed of one cost class on one machine."""

    schema_version: int = SCHEMA
    kind: Literal["speed"] = "speed"
    id: str
    cost_class: str
    cell: Cell  # a representative
    nfe: Amount
    classifier_passes: Amount
    weights_memory_bytes: dict[str, Count]  # by network
    flops_per_sample: Count | None = None  # forward passes of a whole trajectory, multiply and add counted apart
    matmul_flops_per_s: Positive | None = (
        None  # of a large matrix product in this dtype: what the device can do at most
    )
    timings: tuple[Timing, ...]
    measured: bool = True  # False: emulated arithmetic, whose latency means nothing
    machine: Machine

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        if self.measured and not all(timing.trajectory_s for timing in self.timings):
            raise ValueError("what was measured has times")
        return self


class BudgetRecord(_Record):
    """The rules of an adaptive sweep."""

    metric: str
    delta: Amount
    confidence: Amount
    looks: Size
    refine: Count


class ContestRecord(_Record):
    """What an adaptive sweep came to on one curve."""

    curve: dict[str, str]  # what its cells share
    best: str  # id of the leading cell; empty where too few could be judged
    settled: bool  # the leader is within delta of the best; otherwise samples ran out
    num_samples: Count  # of each cell that was left, at the last look
    left: tuple[str, ...]  # ids of the cells that were not shown worse, the leader among them
    unjudged: tuple[str, ...] = ()  # ids of the cells without a score to judge them by


class PlanRecord(_Record):
    """What an experiment asked for, so that a results folder can be read on its own."""

    model_config = ConfigDict(allow_inf_nan=True)  # a plug-in's metric may have no limits
    schema_version: int = SCHEMA
    kind: Literal["plan"] = "plan"
    id: str = "plan"
    name: str
    description: str
    metrics: tuple[str, ...]
    num_samples: Size  # of each cell; the most, with a budget
    budget: BudgetRecord | None = None
    contests: tuple[ContestRecord, ...] = ()
    source: str  # the experiment file: its path where that is relative, else its name
    overrides: tuple[str, ...] = ()
    protocol: str | None = None  # of the literature, that scores are checked against
    cells: tuple[Cell, ...]  # in plan order
    speeds: tuple[str, ...] = ()  # ids of the speed records that belong to it
    notes: tuple[str, ...] = ()
    plugin_methods: dict[str, Method] = {}  # their entries, since reading imports no plug-in
    plugin_metrics: dict[str, Metric] = {}

    @field_validator("cells")
    @classmethod
    def _each_once(cls, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
        if len({cell.id for cell in cells}) < len(cells):
            raise ValueError("a cell is planned once")
        return cells

    @field_serializer("plugin_methods", "plugin_metrics")
    def _plain(self, entries: Mapping[str, Method | Metric]) -> object:
        return {name: _finite(asdict(entry)) for name, entry in entries.items()}


def _finite(value: Any) -> Any:
    """A value for JSON, which has no infinity: that is written as text, which pydantic reads as a number."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
