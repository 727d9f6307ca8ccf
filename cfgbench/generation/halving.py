"""Samples in smaller batches where memory runs out at the size that was asked for.

A smaller batch gives the same samples to about 1e-5 and not to the bit, so whoever calls says that it happened.
"""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

_WORDS = (  # of RuntimeErrors, by device and version; the last two are oneDNN's
    *("out of memory", "not enough memory", "can't allocate memory"),
    *("could not create a primitive", "could not create a memory"),
)


def in_batches(
    draw: Callable[[range], T], indices: range, size: int, release: Callable[[], object] = gc.collect
) -> tuple[list[T], int]:
    """What `draw` returns for batches of the indices, and the size they came down to.

    Whenever memory runs out `release` is called and the size halved, for the rest of the indices too; at 1 the error
    is raised.
    """
    parts: list[T] = []
    first = 0
    while first < len(indices):
        part = _attempt(draw, indices[first : first + size], last=size == 1)
        if part is None:
            size //= 2
            release()
            _release()
        else:
            parts.append(part)
            first += size
    return parts, size


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a processor's or a GPU's memory is too small."""
    words = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in words for text in _WORDS)


def _attempt(draw: Callable[[range], T], indices: range, last: bool) -> T | None:
    """What `draw` returns, or None where memory ran out: the traceback, which holds tensors, is gone by then."""
    try:
        return draw(indices)
    except Exception as error:
        if last or not is_out_of_memory(error):
            raise
        return None


def _release() -> None:
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
