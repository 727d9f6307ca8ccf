"""The cells one change away from a choice, and what each change makes of its scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cfgbench.reading.recommend.candidates import Candidate, Question, fits
from cfgbench.reading.tables.compare import difference, verdict
from cfgbench.reading.tables.results import Arm, Column, Results
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS
from cfgbench.scores.statistics import Estimate

Pair = tuple[str, CellRecord]  # what changes, and the cell it leads to


@dataclass(frozen=True)
class Neighbour:
    """A cell one change away, and the paired differences, neighbour - choice, of the scores that decide."""

    change: str
    candidate: Candidate
    gaps: tuple[tuple[Column, Estimate | None], ...]
    feasible: bool


def neighbours(question: Question, chosen: Candidate, gathered: Sequence[Candidate]) -> tuple[Neighbour, ...]:
    """The scales beside the choice, off, fewer and more steps, and every curve that differs in one setting."""
    place = {one.record.id: one for one in gathered}
    found: dict[str, Neighbour] = {}
    for change, record in _pairs(question, chosen):
        if record.id in place and record.id not in {chosen.record.id, *found}:
            other = place[record.id]
            gaps = tuple((column, difference(column, record, chosen.record)) for column in question.columns)
            found[record.id] = Neighbour(change, other, gaps, fits(other, question.budget))
    return tuple(found.values())


def _pairs(question: Question, chosen: Candidate) -> Iterator[Pair]:
    results = question.results
    yield from _scales(chosen)
    unguided = results.unguided(chosen.record.cell)
    if unguided is not None:
        yield "guidance off", unguided
    yield from _steps(results, chosen)
    for arm in results.arms:
        changed = _changed(chosen.arm, arm)
        if changed is not None and changed != "steps":
            yield from ((changed.replace("_", " "), one) for one in _matching(question.columns[0], chosen, arm))


def _scales(chosen: Candidate) -> Iterator[Pair]:
    for low, high in pairwise(chosen.arm.records):
        if high.id == chosen.record.id:
            yield "lower scale", low
        if low.id == chosen.record.id:
            yield "higher scale", high


def _steps(results: Results, chosen: Candidate) -> Iterator[Pair]:
    """The same with the next fewer and the next more steps."""
    same = [arm for arm in results.arms if _changed(chosen.arm, arm) == "steps"]
    found = {p.record.cell.sampler.steps: p.record for arm in same for p in arm.points if p.scale == chosen.scale}
    fewer = [n for n in found if n < chosen.record.cell.sampler.steps]
    more = [n for n in found if n > chosen.record.cell.sampler.steps]
    if fewer:
        yield "fewer steps", found[max(fewer)]
    if more:
        yield "more steps", found[min(more)]


def _changed(arm: Arm, other: Arm) -> str | None:
    """The one setting in which two curves differ, or None; a method counts with its parameters."""
    names = [name for name in {**arm.fields, **other.fields} if arm.fields.get(name) != other.fields.get(name)]
    if "method" in names:
        parameters = {*METHODS[arm.method].parameters, *METHODS[other.method].parameters}
        return "method" if {*names} <= {"method", *parameters} else None
    return names[0] if len(names) == 1 and names[0] != "seed" else None


def _matching(column: Column, chosen: Candidate, arm: Arm) -> list[CellRecord]:
    """The cell of another curve at the same scale; its best one where the method, and so the scale, is another."""
    if arm.method == chosen.arm.method:
        return [point.record for point in arm.points if point.scale == chosen.scale]
    found = verdict(column, arm.records)
    return [] if found is None else [found.best]
