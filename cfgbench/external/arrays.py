"""Arrays of npz files, read without unpickling and, where they are large, a chunk of rows at a time."""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from os import SEEK_CUR
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from cfgbench.errors import InputError

_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class Member(NamedTuple):
    """What an array of an npz is, before it is read."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def members(path: Path) -> dict[str, Member]:
    """The arrays of an npz by name; InputError where the file is none, or holds pickled objects."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as stream:
                    found[name.removesuffix(".npy")] = _header(stream)
    except _UNREADABLE as error:
        raise _damaged(path, error) from None
    pickled = [name for name, member in found.items() if member.dtype.hasobject]
    if pickled:
        raise InputError(f"{pickled[0]} in {path} is pickled, and unpickling runs code; save it as a plain array")
    return found


def read(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an npz holds."""
    present = members(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in names if name in present}
    except _UNREADABLE as error:
        raise _damaged(path, error) from None


def rows(path: Path, name: str, size: int, first: int = 0) -> Iterator[np.ndarray]:
    """An array's rows from the first on, `size` at a time; it is never in memory as a whole.

    Rows before the first are not read where the array is stored as it is, as `np.savez` does.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream, path.open("rb") as plain:
            (count, *rest), fortran, dtype = _header(stream)
            if fortran:
                raise InputError(f"{name} in {path} is stored in Fortran order; save it with np.ascontiguousarray")
            length = int(np.prod(rest)) * dtype.itemsize
            member = archive.getinfo(f"{name}.npy")
            source: IO[bytes] = stream  # which checks the content against its sum where it is read from end to end
            if first and member.compress_type == zipfile.ZIP_STORED:
                plain.seek(_content_start(plain, member) + stream.tell() + first * length)
                source = plain
            else:
                stream.seek(first * length, SEEK_CUR)
            for start in range(first, count, size):
                shape = (min(size, count - start), *rest)
                yield np.frombuffer(source.read(shape[0] * length), dtype).reshape(shape)
    except _UNREADABLE as error:
        raise _damaged(path, error) from None


def _content_start(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where a member's content begins in the zip file: after its local header, a name and an extra field."""
    file.seek(member.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return member.header_offset + 30 + int(name) + int(extra)


def content_digest(path: Path) -> str:
    """16 hex digits of the SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _header(stream: Any) -> Member:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return Member(*read(stream))


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} cannot be read as an .npz file of plain arrays: {' '.join(str(error).split())}")
