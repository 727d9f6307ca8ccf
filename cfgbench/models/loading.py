"""Networks of a checkpoint in diffusers' layout, loaded whole or not at all, from the disk, from safetensors only.

diffusers and transformers give random numbers to weights that a file lacks, with a remark in the log. Samples of such a
network look like a bad model's, so it is refused here. All problems are ValueError that names the folder.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from cfgbench.assets.checkpoints import Checkpoint
from cfgbench.generation import halving

_LIBRARIES = {"diffusers": diffusers.ModelMixin, "transformers": transformers.PreTrainedModel}
_PROBLEMS = (RuntimeError, ValueError, OSError, LookupError, TypeError, AttributeError)


def network_class(checkpoint: Checkpoint, part: str) -> Any:
    """The class that the index of a checkpoint names for a part."""
    library, name = _entry(checkpoint, part)
    found = getattr(import_module(library), name, None) if library in _LIBRARIES else None
    if isinstance(found, type) and issubclass(found, _LIBRARIES[library]):
        return found
    raise ValueError(f"{checkpoint.name}/model_index.json says {part} is a {name}, which {library} does not have")


def load(checkpoint: Checkpoint, part: str, dtype: torch.dtype) -> nn.Module:
    """A part of a checkpoint."""
    arguments = {"subfolder": part, "variant": checkpoint.variant}
    return whole(network_class(checkpoint, part), checkpoint.folder, dtype, **arguments)


def networks(checkpoint: Checkpoint, dtype: torch.dtype, without: Collection[str] = ()) -> dict[str, nn.Module]:
    """All parts of a checkpoint that have weights and that its index says are there, but for some."""
    index = checkpoint.index()
    named = [part for part, entry in index.items() if isinstance(entry, list) and part not in without]
    return {part: load(checkpoint, part, dtype) for part in named if _has_weights(index[part])}


def whole(kind: Any, folder: Path, dtype: torch.dtype, **arguments: Any) -> nn.Module:
    """A network of a class by `from_pretrained`; ValueError where the file has not all of its weights."""
    place = folder / (arguments.get("subfolder") or "")
    with sentences(place), quiet():
        network, found = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **arguments
        )
    _check(found, f"{place}: the weights are not those of the {kind.__name__} that its configuration describes")
    made: nn.Module = network.eval().requires_grad_(False)
    return made


@contextmanager
def sentences(place: Path) -> Iterator[None]:
    """Turn what the libraries raise over files that are not as they should be into one sentence with the place."""
    try:
        yield
    except _PROBLEMS as error:
        if halving.is_out_of_memory(error):
            raise
        raise ValueError(f"{place} cannot be loaded: {_reason(error)}; get it again, or name another") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without remarks on parts that are left out on purpose, and without progress bars."""
    libraries: tuple[Any, ...] = (diffusers.utils.logging, transformers.utils.logging)
    levels = [logging.get_verbosity() for logging in libraries]
    for logging in libraries:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, level in zip(libraries, levels, strict=True):
            logging.set_verbosity(level)
            logging.enable_progress_bar()


def _entry(checkpoint: Checkpoint, part: str) -> tuple[str, str]:
    entry = checkpoint.index().get(part)
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(name, str) for name in entry):
        there = ", ".join(name for name, value in checkpoint.index().items() if isinstance(value, list))
        raise ValueError(
            f"{checkpoint.folder}/model_index.json names no class for {part}; it has {there or 'no parts'}"
        )
    return entry[0], entry[1]


def _has_weights(entry: list[Any]) -> bool:
    """Whether an entry of the index is a network that is there: not a tokenizer, a scheduler or null."""
    library, name = entry
    found = getattr(import_module(library), str(name), None) if library in _LIBRARIES else None
    return isinstance(found, type) and issubclass(found, nn.Module)


def _check(found: Mapping[str, Any], what: str) -> None:
    """Raise ValueError where weights are missing or have another shape."""
    for problem, keys in (
        ("lack", sorted(found["missing_keys"])),
        ("have another shape of", sorted(str(key[0]) for key in found["mismatched_keys"])),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ValueError(f"{what}: they {problem} {keys[0]}{more}; get the checkpoint again, or name another")


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the libraries' advice."""
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    words = " ".join(text.split()).split(" You may ", maxsplit=1)[0]
    return f"{type(error).__name__}: {words[:300]}".rstrip(": .")
