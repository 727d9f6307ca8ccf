"""Who may write to a results folder: one run, or the shards of one beside each other. A lock dies with its process."""

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cfgbench.errors import InputError, unwritable, vanished

NAME = ".lock"


@contextmanager
def hold(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a folder for one run; InputError where another run or a shard is at work.

    The result, when called, raises InputError if the folder has gone from its place.
    """
    with _lock(folder / NAME, fcntl.LOCK_EX, "another run") as check:
        yield check


@contextmanager
def hold_part(folder: Path, part: str) -> Iterator[Callable[[], None]]:
    """Hold a part of a folder, such as `shard 2/8`, beside those who hold other parts."""
    own = folder / f"{NAME}-{re.sub('[^a-z0-9]+', '-', part)}"
    with (
        _lock(folder / NAME, fcntl.LOCK_SH, "another run") as check,
        _lock(own, fcntl.LOCK_EX, f"another run of {part}"),
    ):
        yield check


@contextmanager
def _lock(path: Path, kind: int, holder: str) -> Iterator[Callable[[], None]]:
    try:
        handle = path.open("a+")  # network file systems want it readable for a shared lock, writable for the other
    except OSError as error:
        raise unwritable(path, error) from None
    with handle:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{holder} is writing to {path.parent}; wait for it or use --output") from None
        except OSError as error:
            raise unwritable(path, error) from None
        held = os.fstat(handle.fileno()).st_ino
        yield lambda: _check(path, held)


def _check(path: Path, inode: int) -> None:
    try:
        there = path.stat().st_ino
    except OSError:
        there = None
    if there != inode:
        raise vanished(path.parent)
