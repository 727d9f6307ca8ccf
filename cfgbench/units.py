"""Seconds and bytes as people write them: arguments of the command line, and texts."""

import argparse
import re
from collections.abc import Mapping

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_BYTES = {"MB": 1e6, "GB": 1e9, "MiB": 2.0**20, "GiB": 2.0**30}


def seconds(text: str) -> float:
    """`2s`, `500ms` in seconds."""
    return _quantity(text, _SECONDS, "a time such as 2s or 500ms")


def memory(text: str) -> float:
    """`12GB`, `800MB`, `8GiB` in bytes."""
    return _quantity(text, _BYTES, "an amount of memory such as 12GB or 8GiB")


def show_seconds(value: float) -> str:
    """`1.3 s`, `2.05 ms`."""
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"


def show_bytes(value: float) -> str:
    """`1.2 GB`, `312 MB`."""
    return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"


def _quantity(text: str, units: Mapping[str, float], what: str) -> float:
    found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]+)\s*", text)
    if found is None or found[2] not in units or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}; units: {', '.join(units)}")
    return float(found[1]) * units[found[2]]
