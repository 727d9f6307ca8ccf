"""What a benchmark finds, and how it is timed: sides take turns, so that a machine that slows down slows all."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cfgbench.reading.tables.rows import Row


@dataclass(frozen=True)
class Finding:
    """A number to quote, with the least and the greatest of what was measured or a 95 % interval, and its target."""

    what: str
    value: float
    low: float
    high: float
    target: float | None = None
    at_least: bool = True  # else at most
    unit: str = ""  # of seconds: s; ratios have none
    interval: bool = False  # whether low and high are a 95 % interval

    @property
    def met(self) -> bool | None:
        """Whether the target was reached; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True)
class Result:
    """The rows of a benchmark's CSV, what to quote of it, and what is to be said besides."""

    rows: Sequence[Row]
    findings: Sequence[Finding]
    notes: Sequence[str] = field(default=())


def in_turn(sides: Mapping[str, Callable[[], object]], rounds: int, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of every side in every round; every other round runs them backwards. `warm` adds a round untimed."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1 if warm else 0, rounds):
        for name, work in list(sides.items())[:: -1 if number % 2 else 1]:
            gc.collect()
            begin = time.perf_counter()
            work()
            if number >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(what: str, above: Sequence[float], below: Sequence[float], target: float | None = None) -> Finding:
    """How many times longer one side took than the other, round by round."""
    ratios = np.asarray(above) / np.asarray(below)
    return Finding(what, float(np.median(ratios)), float(ratios.min()), float(ratios.max()), target)


def seconds_rows(case: str, seconds: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row per side."""
    rows: list[Row] = []
    for name, found in seconds.items():
        row: Row = {"case": case, "side": name, "rounds": len(found), "seconds": float(np.median(found))}
        rows.append(row | {"seconds_min": min(found), "seconds_max": max(found)})
    return rows
