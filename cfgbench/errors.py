"""The one exception that reaches the user as a sentence: bad input, found before any weights load."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """What is wrong, where, with which value, and what is allowed: one sentence, exit code 2."""


def unknown(kind: str, value: object, place: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is not in a table, with the nearest legal name."""
    names = sorted(allowed)
    near = get_close_matches(str(value), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InputError(f"unknown {kind} {value!r} at {place}; {hint}allowed: {', '.join(names)}")
