"""Prompt sets: what a text-to-image model is asked to draw, in a fixed order. Sample i has prompt i mod their number.

A set is a text file with a prompt a line, or a column of a CSV, TSV, JSON Lines or Parquet file, which may be a file of
a hub dataset that is in the local cache. Its digest is part of a cell's id, its name and place are not.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from cfgbench.assets import checkpoints, data_sources
from cfgbench.errors import InputError, shown

Limit = Annotated[int, Field(strict=True, ge=1)]


class PromptSource(BaseModel):
    """Where prompts come from, as an experiment file says it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str = Field(min_length=1)  # beside the experiment file or in the working folder, or in the hub dataset
    column: str | None = None
    dataset: str | None = None  # owner/name on the hub
    revision: str | None = None
    limit: Limit | None = None  # the first so many


@dataclass(frozen=True)
class PromptSet:
    """Prompts in order, with the name that people know them by."""

    name: str
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that name the prompts and their order."""
        content = json.dumps(self.texts, ensure_ascii=False).encode(errors="surrogatepass")
        return hashlib.sha256(content).hexdigest()[:16]


class Prompts(NamedTuple):
    """The prompts of a batch; all of the run, since they are encoded together; and the folder that keeps encodings.

    `indices` of the samples in stream `seed` are for families that sample a condition.
    """

    texts: tuple[str, ...]
    whole: tuple[str, ...]
    cache: Path
    seed: int = 0
    indices: tuple[int, ...] = ()


@lru_cache(maxsize=8)
def load(source: PromptSource, experiment: str) -> PromptSet:
    """The prompts that the experiment file `experiment` names; raises InputError."""
    place = f"prompts in {experiment}"
    path = _located(source, Path(experiment).parent, place)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{place}: {path.name} is none of {', '.join(_READERS)}")
    try:
        texts = read(path, source.column, place)
    except OSError as error:
        raise InputError(f"{place}: cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: {path} is not UTF-8 text: {error}") from None
    return PromptSet(_name(source), _checked(texts[: source.limit], source, place))


def _located(source: PromptSource, folder: Path, place: str) -> Path:
    if source.dataset is None:
        return _local(source.file, folder, place)
    try:
        snapshot = checkpoints.cached_snapshot(source.dataset, source.revision, "dataset")
        return checkpoints.require(snapshot / source.file, source.dataset, "dataset")
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def _local(file: str, folder: Path, place: str) -> Path:
    """A file beside the experiment file, or else in the working folder."""
    candidates = [home / Path(file).expanduser() for home in dict.fromkeys([folder, Path()])]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        looked = " nor ".join(dict.fromkeys(str(path.absolute()) for path in candidates))
        raise InputError(f"{place}: there is no {looked}{data_sources.hint(file)}")
    return found


def _name(source: PromptSource) -> str:
    return f"{source.dataset}/{source.file}" if source.dataset else Path(source.file).name


def _checked(texts: Sequence[str], source: PromptSource, place: str) -> tuple[str, ...]:
    if not texts:
        raise InputError(f"{place}: {source.file} holds no prompts")
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise InputError(f"{place}: prompt {number} of {source.file} is empty; an empty prompt guides nothing")
    if source.limit is not None and len(texts) < source.limit:
        raise InputError(f"{place}: limit = {source.limit}, and {source.file} holds {len(texts)} prompts")
    return tuple(texts)


def _lines(path: Path, column: str | None, place: str) -> list[str]:
    if column is not None:
        raise InputError(f"{place}: column = {shown(column)}; {path.name} is a text file with a prompt a line")
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _table(delimiter: str) -> "Reader":
    def read(path: Path, column: str | None, place: str) -> list[str]:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            found = list(rows)
        except csv.Error as error:
            if delimiter != "\t" or '""' in text:
                raise InputError(
                    f"{place}: line {rows.reader.line_num} of {path} is no row of a table: {error}"
                ) from None
            found = _unquoted(text)
        return _column(found, column, path, place)

    return read


def _unquoted(text: str) -> list[dict[str, str]]:
    """Rows of a TSV file in which a quotation mark is a character like others, as in `"X" marks the spot`.

    One that quotes as CSV files do has two for each inside a field.
    """
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))


def _json_lines(path: Path, column: str | None, place: str) -> list[str]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            raise InputError(f"{place}: line {number} of {path} is not JSON") from None
        if row is not None and not isinstance(row, dict):
            raise InputError(f"{place}: line {number} of {path} is no JSON object")
        rows += [row] if row is not None else []
    return _column(rows, column, path, place)


def _parquet(path: Path, column: str | None, place: str) -> list[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise InputError(f"{place}: {path.name} needs the package pyarrow: pip install pyarrow") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        raise InputError(f"{place}: {path} is no valid parquet file: {' '.join(str(error).split())}") from None
    return _column(rows, column, path, place)


def _column(rows: Sequence[Mapping[str, Any]], column: str | None, path: Path, place: str) -> list[str]:
    """One column as prompts; of a row with several captions, as COCO has them, the first."""
    names = list(rows[0]) if rows else []
    if column is None:
        raise InputError(f"{place}: {path.name} is a table; say which column: {', '.join(map(str, names))}")
    if rows and column not in names:
        raise InputError(f"{place}: {path.name} has no column {shown(column)}; it has {', '.join(map(str, names))}")
    values = [row.get(column) for row in rows]
    first = [value[0] if isinstance(value, list) and value else value for value in values]
    for number, value in enumerate(first, 1):
        if not isinstance(value, str):
            raise InputError(f"{place}: row {number} of {path.name} has {shown(value)} as {column}; needs text")
    return [str(value).strip() for value in first]


Reader = Callable[[Path, str | None, str], list[str]]
_READERS: dict[str, Reader] = {
    ".txt": _lines,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
