"""Which files a cell's samples and scores come from, and their digests."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from cfgbench.assets import checkpoints
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


@lru_cache(maxsize=64)
def tensors_digest(file: Path) -> str:
    """Names the tensors of a weight file in whatever container; the file itself where it cannot be read as tensors."""
    import torch
    from safetensors.torch import load_file

    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        state = state.get("state_dict", state)
        found = hashlib.sha256()
        for name in sorted(state):
            found.update(f"{name.removeprefix('module.')} {tuple(state[name].shape)}".encode())
            found.update(state[name].float().numpy().tobytes())
    except (RuntimeError, OSError, EOFError, AttributeError, TypeError, ValueError, UnpicklingError):
        return file_digest(file)
    return found.hexdigest()[:16]
