"""Which files a cell's samples and scores come from, and their digests."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cfgbench import checkpoints
from cfgbench.errors import InputError
from cfgbench.registry import METHODS, MODELS, resolve


def weight_files(model: str, parameters: Mapping[str, Any], method: str) -> dict[str, Path]:
    """The weight files of the main network and of each network that a guidance method consults.

    A file is called after its network, or `network/...` where that has several.
    """
    target = MODELS[model].files
    if target is None:
        return {}
    files: dict[str, Path] = resolve(target)(**parameters)
    wanted = ("main", *METHODS[method].needs)
    return {name: file for name, file in files.items() if name.partition("/")[0] in wanted}


@lru_cache(maxsize=1024)
def file_digest(file: Path) -> str:
    """16 hex digits of the SHA-256 of a file's content."""
    try:
        return checkpoints.digest(file)[:16]
    except OSError:
        raise InputError(f"missing weights {file}; `cfgbench train digits` makes those of the digits testbed") from None
