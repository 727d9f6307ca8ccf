"""Several results folders side by side: which cells of the others answer to which of the first.

A cell answers to the one of the same id; else to the one of the same settings, whatever the digest of the weights;
else, where each folder holds one model or one seed and not the same, to the one of the other model or seed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from cfgbench.cell import Cell, canonical_json
from cfgbench.errors import InputError, unknown
from cfgbench.reading.tables.results import Column, Results, load
from cfgbench.records import CellRecord, SpeedRecord


@dataclass(frozen=True)
class Side:
    """A results folder and the name it goes by."""

    name: str
    results: Results


@dataclass(frozen=True)
class Match:
    """A cell of the first folder and the one of another that answers to it."""

    first: CellRecord
    second: CellRecord
    by: str  # id | settings | settings, other model | settings, other seed | settings, other model and seed


@dataclass(frozen=True)
class SpeedMatch:
    """A cost class of the first folder and the one of another that answers to it."""

    first: SpeedRecord
    second: SpeedRecord


@dataclass(frozen=True)
class Pair:
    """The first folder and one other."""

    first: Side
    second: Side
    columns: tuple[Column, ...]  # that both have
    matches: tuple[Match, ...]
    speeds: tuple[SpeedMatch, ...]

    def alone(self, side: Side) -> tuple[CellRecord, ...]:
        """The finished cells of a side that answer to none of the other."""
        used = {record.id for match in self.matches for record in (match.first, match.second)}
        return tuple(record for record in side.results.done if record.id not in used)


def read(folders: Sequence[Path], scores: Sequence[str] | None = None) -> tuple[Pair, ...]:
    """The first folder with each of the others; InputError where a score of one name is not the same score in both."""
    if len(folders) < 2:
        raise InputError("compare needs at least two results folders")
    sides = [Side(name, load(folder)) for name, folder in zip(_names(folders), folders, strict=True)]
    first, *others = sides
    return tuple(_pair(first, other, scores) for other in others)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or the whole where that is not unique."""
    twice = [folder for folder, count in Counter(folder.resolve() for folder in folders).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]} is given twice; compare needs different results folders")
    count = Counter(folder.resolve().name for folder in folders)
    return [folder.resolve().name if count[folder.resolve().name] == 1 else str(folder) for folder in folders]


def _pair(first: Side, second: Side, scores: Sequence[str] | None) -> Pair:
    columns = tuple(_columns(first, second, scores))
    matches = _matches(first.results, second.results)
    return Pair(first, second, columns, matches, _speed_matches(first.results, second.results))


def _columns(first: Side, second: Side, scores: Sequence[str] | None) -> Iterable[Column]:
    shared = [column.name for column in first.results.columns if second.results.column(column.name) is not None]
    for name in scores or ():
        if name not in shared:
            raise unknown("score", name, f"--scores, of {first.name} and {second.name} both", shared)
    for name in shared:
        own, other = first.results.column(name), second.results.column(name)
        if own is not None and other is not None and name in (scores or shared):
            _check_identity(first, second, own, other)
            yield own


def _check_identity(first: Side, second: Side, own: Column, other: Column) -> None:
    """Scores of different encoders, references or settings never share a table."""
    keys = [key for key in {**own.identity, **other.identity} if own.identity.get(key) != other.identity.get(key)]
    if keys:
        texts = [", ".join(f"{key} {one.identity.get(key)}" for key in keys) for one in (own, other)]
        raise InputError(
            f"{own.name} is not the same score in both: {first.name} has {texts[0]}, {second.name} has {texts[1]}; "
            "such values are not comparable, so score one of them anew or leave it out with --scores"
        )


def _matches(first: Results, second: Results) -> tuple[Match, ...]:
    keys: dict[str, Callable[[Cell], str]] = {"id": lambda cell: cell.id, "settings": _settings}
    others = {name for name in ("model", "seed") if _differs(name, first, second)}
    if others:
        keys[f"settings, other {' and '.join(sorted(others))}"] = lambda cell: _settings(cell, others)
    found: dict[str, Match] = {}
    taken: set[str] = set()
    for by, key in keys.items():
        rest = {key(record.cell): record for record in second.done if record.id not in taken}
        for record in first.done:
            other = rest.get(key(record.cell))
            if other is not None and record.id not in found and other.id not in taken:
                found[record.id] = Match(record, other, by)
                taken.add(other.id)
    return tuple(found[record.id] for record in first.done if record.id in found)


def _speed_matches(first: Results, second: Results) -> tuple[SpeedMatch, ...]:
    by_class = {speed.cost_class: speed for speed in second.speeds}
    by_label = {_class_label(speed): speed for speed in second.speeds}
    pairs = ((speed, by_class.get(speed.cost_class, by_label.get(_class_label(speed)))) for speed in first.speeds)
    return tuple(SpeedMatch(speed, other) for speed, other in pairs if other is not None)


def _class_label(speed: SpeedRecord) -> str:
    """A cost class without the digest of its weights."""
    cell = speed.cell
    scale = {"guidance_scale", "classifier_scale"}
    rest = {key: item for key, item in cell.guidance.parameters.items() if key not in scale}
    parts = [cell.model.label, cell.guidance.method, rest, cell.arithmetic]
    return canonical_json([*parts, cell.diffusion.model_dump() if cell.diffusion else None])


def _differs(name: str, first: Results, second: Results) -> bool:
    """Whether each folder holds one value of this, and not the same."""
    values = [{_part(record.cell, name) for record in results.done} for results in (first, second)]
    return len(values[0]) == len(values[1]) == 1 and values[0] != values[1]


def _settings(cell: Cell, without: Set[str] = frozenset()) -> str:
    """All of a cell but the digest of its weights, as one text."""
    parts = {name: _part(cell, name) for name in ("model", "seed") if name not in without}
    return canonical_json([parts, cell.model_dump(exclude={"model", "seed"})])


def _part(cell: Cell, name: str) -> str:
    return canonical_json([cell.model.label, cell.model.scales]) if name == "model" else str(cell.seed)
