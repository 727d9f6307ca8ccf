"""The one exception that reaches the user as a sentence: bad input, found before any weights load."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr


class InputError(Exception):
    """What is wrong, where, with which value, and what is allowed: one sentence, exit code 2."""


def unknown(kind: str, value: object, place: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not in a table, with the nearest legal name."""
    names = sorted(allowed)
    return InputError(f"unknown {kind} {shown(value)} at {place}; {hint(value, names)}allowed: {', '.join(names)}")


def hint(value: object, names: Iterable[str]) -> str:
    """The nearest of some names as a question, or nothing."""
    near = get_close_matches(str(value)[:100], sorted(names), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? " if near else ""


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file of a results folder that cannot be written."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
    return InputError(f"cannot write {path}: {reason}; what is finished is kept, run the same command to go on")


def is_want_of_memory(reason: str) -> bool:
    """Whether an error says, in its own words, that a process got no memory."""
    return any(words in reason for words in ("MemoryError", "failed to map segment", "annot allocate memory"))


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file of a results folder that is there and cannot be read."""
    return InputError(f"cannot read {path}: {error.strerror or error}")


def vanished(folder: Path) -> InputError:
    """The error for a results folder that is no longer there when something is to be written to it."""
    return InputError(f"{folder} was removed or moved while a run was writing to it; run the same command again")


def shown(value: object) -> str:
    """A value as a message shows it: short, on one line, whatever it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # a whole number of more digits than Python writes out
        return f"a {type(value).__name__} too long to show"


def inside(place: str, part: str) -> str:
    """`sweeps[0].model.steps in x.yaml` from `sweeps[0].model in x.yaml` and `.steps`."""
    field, separator, file = place.partition(" in ")
    return f"{field}{part}{separator}{file}"


_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 3, 80, 80, 80
