"""What a cell costs, and whether that fits a budget of seconds, memory and network evaluations.

Latency is the median (p50) of one call, noise to images, at one batch size: that of the whole batch, not divided by
its images, since that is how long a caller waits. What was not measured fits no limit.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from cfgbench.errors import InputError
from cfgbench.reading.tables.compare import latency
from cfgbench.reading.tables.results import Results
from cfgbench.records import CellRecord, SpeedRecord
from cfgbench.units import show_bytes, show_seconds


@dataclass(frozen=True)
class Budget:
    """Upper limits, None where there is none, and the batch size at which seconds and memory are meant."""

    max_latency_s: float | None = None
    max_memory_bytes: float | None = None
    max_nfe: float | None = None
    batch_size: int | None = None  # None: the smallest that was timed

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by the name of the `Cost` they bound."""
        found = {name: getattr(self, limit.field) for name, limit in LIMITS.items()}
        return {name: limit for name, limit in found.items() if limit is not None}

    def without(self, names: Iterable[str]) -> "Budget":
        """The same without some of its limits."""
        return replace(self, **dict.fromkeys(LIMITS[name].field for name in names))


@dataclass(frozen=True)
class Cost:
    """What one cell costs; None where it was not measured, with the reason."""

    nfe: float | None  # network evaluations per image
    classifier_passes: float
    batch_size: int | None = None
    latency_p50_s: float | None = None  # of one batch
    peak_memory_bytes: float | None = None  # of one batch
    unmeasured: str | None = None  # why there are no seconds

    @property
    def seconds_per_image(self) -> float | None:
        """The latency divided by the images of the batch."""
        return self.latency_p50_s / self.batch_size if self.latency_p50_s and self.batch_size else None

    @property
    def passes(self) -> float | None:
        """Network evaluations and classifier gradients per image."""
        return None if self.nfe is None else self.nfe + self.classifier_passes


class Limit(NamedTuple):
    """How a limit is called and written."""

    field: str  # of Budget
    option: str
    what: str
    text: Callable[[float], str]


def cost(results: Results, record: CellRecord, batch_size: int | None) -> Cost:
    """What a cell costs at a batch size."""
    passes = record.classifier_passes or 0.0
    speed = next((s for s in results.speeds if s.cost_class == record.cell.cost_class and s.timings), None)
    reason = _unmeasured(speed, batch_size)
    if speed is None or reason is not None:
        return Cost(record.nfe, passes, unmeasured=reason)
    timing = max((t for t in speed.timings if t.batch_size == batch_size), key=lambda t: not t.batched)
    median = float(np.median(latency(timing)))
    return Cost(record.nfe, passes, timing.batch_size, median, timing.peak_memory_bytes)


def timed_batch(results: Results, wanted: int | None) -> int | None:
    """The batch size to read, or the smallest that was timed; InputError where the one wanted was not."""
    sizes = sorted({timing.batch_size for speed in results.speeds for timing in speed.timings})
    if wanted is not None and wanted not in sizes:
        timed = ", ".join(map(str, sizes)) or "none (`cfgbench run` times them unless told --no-profile)"
        raise InputError(f"--batch-size {wanted} was not timed in {results.folder}; timed: {timed}")
    return wanted or next(iter(sizes), None)


def excesses(cost: Cost, budget: Budget) -> dict[str, float | None]:
    """For every limit need / limit, by name; None where the need was not measured."""
    needs: Mapping[str, float | None] = {name: getattr(cost, name) for name in LIMITS}
    return {name: None if (need := needs[name]) is None else need / limit for name, limit in budget.limits.items()}


def _unmeasured(speed: SpeedRecord | None, batch_size: int | None) -> str | None:
    if speed is None:
        return "it was not timed"
    if not speed.measured:
        return "its arithmetic was emulated, whose speed means nothing"
    if all(timing.batch_size != batch_size for timing in speed.timings):
        return f"it was not timed at batch {batch_size}"
    return None


LIMITS: dict[str, Limit] = {
    "latency_p50_s": Limit("max_latency_s", "--max-latency", "latency (p50 of one batch)", show_seconds),
    "peak_memory_bytes": Limit("max_memory_bytes", "--max-memory", "peak memory", show_bytes),
    "nfe": Limit("max_nfe", "--max-nfe", "network evaluations per image", lambda value: f"{value:g}"),
}
NO_BUDGET = Budget()
