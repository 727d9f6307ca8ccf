"""Pictures on a disk, a range at a time: folders of image files, parquet files, ADM npz files. No torch.

Each is read as uint8 (height, width, 3) by its number, with the place it came from; one that cannot be read is an
InputError in its stead.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench.errors import InputError
from cfgbench.external import arrays
from cfgbench.external.images import ImageArray, decode, read_image

Read = Iterator[np.ndarray | InputError]
_COLUMNS = ("image", "img", "jpg", "png")  # what hub datasets call it


@dataclass(frozen=True)
class Folder:
    """Image files in order."""

    files: tuple[Path, ...]

    @property
    def count(self) -> int:
        """How many files."""
        return len(self.files)

    def read(self, start: int, stop: int) -> Read:
        """The pictures of this range."""
        for path in self.files[start:stop]:
            try:
                yield read_image(path, 3).transpose(1, 2, 0)
            except InputError as error:
                yield error


@dataclass(frozen=True)
class Parquet:
    """Encoded pictures in a column of parquet files, in order: bytes, or a mapping with `bytes` as on the hub."""

    files: tuple[Path, ...]
    column: str | None

    @property
    def count(self) -> int:
        """How many rows."""
        return sum(count for _, _, count in self._groups)

    def read(self, start: int, stop: int) -> Read:
        """The pictures of this range."""
        first = 0
        for file, group, count in self._groups:
            if first < stop and first + count > start:
                rows = self._open(file).read_row_group(group, columns=[self._column(file)]).column(0)
                inner = range(max(start - first, 0), min(stop - first, count))
                yield from (self._picture(rows[i].as_py(), f"row {first + i} of {file}") for i in inner)
            first += count

    @cached_property
    def _groups(self) -> list[tuple[Path, int, int]]:
        """File, row group and number of rows."""
        opened = [(file, self._open(file).metadata) for file in self.files]
        return [(file, g, data.row_group(g).num_rows) for file, data in opened for g in range(data.num_row_groups)]

    def _open(self, file: Path) -> Any:
        from pyarrow import ArrowException, parquet

        try:
            return parquet.ParquetFile(file)
        except (OSError, ArrowException) as error:
            raise InputError(f"{file} is no valid parquet file: {' '.join(str(error).split())}") from None

    def _column(self, file: Path) -> str:
        names = self._open(file).schema_arrow.names
        column = self.column or next((name for name in _COLUMNS if name in names), None)
        if column not in names:
            raise InputError(f"{file} has no column {column or ' or '.join(_COLUMNS)}; name one of {', '.join(names)}")
        return str(column)

    def _picture(self, value: Any, place: str) -> np.ndarray | InputError:
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            return InputError(f"{place} holds {type(content).__name__}, and no encoded picture")
        try:
            return decode(io.BytesIO(content), 3, place).transpose(1, 2, 0)
        except InputError as error:
            return error


@dataclass(frozen=True)
class Npz:
    """The images of an ADM npz, `arr_0`; there may be none beside its moments."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.file,)

    @cached_property
    def count(self) -> int:
        """How many images."""
        return ImageArray(self.file).count if "arr_0" in arrays.members(self.file) else 0

    def read(self, start: int, stop: int) -> Read:
        """The pictures of this range."""
        chunks = ImageArray(self.file).chunks(3, start)
        pictures = (picture.transpose(1, 2, 0) for chunk in chunks for picture in chunk)
        yield from islice(pictures, max(stop - start, 0))


Pictures = Folder | Parquet | Npz
