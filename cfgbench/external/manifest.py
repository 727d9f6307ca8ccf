"""A CSV file that lists images with their scale and what else is known of them, for `cfgbench score --manifest`.

Its columns are `path`, `scale` and, where known, `method`, `seed`, `class`, `prompt`; paths are relative to its folder.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cfgbench.cell import number
from cfgbench.errors import InputError, unknown
from cfgbench.external.arms import Arm, checked_scale, guidance_of, indices, plain_name
from cfgbench.external.images import ImageFiles
from cfgbench.external.layout import Items
from cfgbench.registry import METHODS

COLUMNS = ("path", "scale", "method", "seed", "class", "prompt")


class _Row(NamedTuple):
    path: Path
    fields: Mapping[str, str]


def load(path: Path) -> list[Arm]:
    """The arms of a CSV manifest, by method and scale in order of appearance."""
    found: dict[tuple[str, float], list[_Row]] = {}
    for line, row in _rows(path):
        method = row.fields.get("method") or "cfg"
        scale = checked_scale(method, row.fields["scale"], f"line {line} of {path}")
        found.setdefault((method, scale), []).append(row)
    if not found:
        raise InputError(f"the manifest {path} lists no images")
    keys = _keys(list(found.values()))
    return [
        _arm(path, method, scale, rows, key) for ((method, scale), rows), key in zip(found.items(), keys, strict=True)
    ]


def _rows(path: Path) -> Iterator[tuple[int, _Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="", restkey="")
            names = ["path" if name == "file" else name for name in reader.fieldnames or ()]
            _check_columns(names, path)
            reader.fieldnames = names
            for fields in reader:
                if "" in fields or not fields["path"]:
                    raise InputError(f"line {reader.line_num} of {path} has no path or more fields than the header")
                yield reader.line_num, _Row(path.parent / fields["path"], fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the manifest {path}: {error}") from None


def _check_columns(names: Sequence[str], path: Path) -> None:
    for name in names:
        if name not in COLUMNS or names.count(name) > 1:
            raise unknown("column", name, f"the first line of {path}", COLUMNS)
    if not {"path", "scale"} <= set(names):
        raise InputError(f"the first line of {path} needs the columns path and scale; it has {', '.join(names)}")


def _arm(path: Path, method: str, scale: float, rows: Sequence[_Row], keys: tuple[str, ...]) -> Arm:
    place = f"{path}, {METHODS[method].scale} {number(scale)}"
    files = ImageFiles(place, tuple(row.path for row in rows))
    items = Items(keys, _classes(rows, place), _filled(rows, "prompt", place))
    return Arm(guidance_of(method, scale), files, items, place)


def _keys(arms: Sequence[Sequence[_Row]]) -> list[tuple[str, ...]]:
    """Keys of every arm's rows: seed, class and prompt where they tell images apart, or file names, or positions."""
    seeds = [
        tuple(" ".join(row.fields.get(k, "") for k in ("seed", "class", "prompt")) for row in rows) for rows in arms
    ]
    if all(row.fields.get("seed") for rows in arms for row in rows) and _tell_apart(seeds):
        return seeds
    names = [tuple(plain_name(row.path.stem) for row in rows) for rows in arms]
    return names if _tell_apart(names) else [indices(len(rows)) for rows in arms]


def _tell_apart(arms: Sequence[Sequence[str]]) -> bool:
    return all(len(set(keys)) == len(keys) for keys in arms)


def _classes(rows: Sequence[_Row], place: str) -> tuple[int | str, ...] | None:
    """Class numbers, or class names where they are not all numbers."""
    texts = _filled(rows, "class", place)
    if texts is not None and all(text.isdecimal() for text in texts):
        return tuple(map(int, texts))
    return texts


def _filled(rows: Sequence[_Row], column: str, place: str) -> tuple[str, ...] | None:
    texts = tuple(row.fields.get(column, "").strip() for row in rows)
    if any(texts) and not all(texts):
        raise InputError(f"{place}: {texts.count('')} of {len(texts)} images lack a {column}; give all or none")
    return texts if any(texts) else None
