"""Networks of a checkpoint in diffusers' layout, loaded whole or not at all, from the disk, from safetensors only.

diffusers and transformers give random numbers to weights that a file lacks, with a remark in the log. Samples of such a
network look like a bad model's, so it is refused here. A denoiser or autoencoder whose file has more weights than its
configuration has places is another network than the one that was trained, and refused too. Text encoders are as a rule
cut out of larger models, so there that is a warning. All problems are ValueError that names the folder.
"""

import re
import warnings
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
# What published files hold that no prediction needs: constants that older versions of the libraries kept there, and the
# caption without words of PixArt's training. The libraries leave out more, by class.
_UNUSED = re.compile(r"(^|\.)(position_ids|inv_freq|pos_embed\.pos_embed|caption_projection\.y_embedding)$")
_PROBLEMS = (RuntimeError, ValueError, OSError, LookupError, TypeError, AttributeError)


def network_class(checkpoint: Checkpoint, part: str) -> Any:
    """The class that the index of a checkpoint names for a part."""
    parts = checkpoint.parts()
    if part not in parts:
        there = ", ".join(parts) or "no parts"
        raise ValueError(f"{checkpoint.folder}/model_index.json names no class for {part}; it has {there}")
    library, name = parts[part]
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
    named = {part: entry for part, entry in checkpoint.parts().items() if part not in without}
    return {part: load(checkpoint, part, dtype) for part, entry in named.items() if _has_weights(*entry)}


def whole(kind: Any, folder: Path, dtype: torch.dtype, **arguments: Any) -> nn.Module:
    """A network of a class by `from_pretrained`; ValueError where the file has not all of its weights."""
    place = folder / (arguments.get("subfolder") or "")
    with sentences(place), quiet():
        network, found = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **arguments
        )
    _check(found, f"{place}: the weights are not those of the {kind.__name__} that its configuration describes")
    _check_unexpected(
        kind, found["unexpected_keys"], f"{place}: the file has weights beside those of a {kind.__name__}"
    )
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


def _has_weights(library: str, name: str) -> bool:
    """Whether an entry of the index is a network that is loaded here: not a tokenizer, a scheduler."""
    found = getattr(import_module(library), name, None) if library in _LIBRARIES else None
    return isinstance(found, type) and issubclass(found, nn.Module)


def _check(found: Mapping[str, Any], what: str) -> None:
    """Raise ValueError where weights are missing, or have another shape."""
    for problem, keys in (
        ("lack", sorted(found["missing_keys"])),
        ("have another shape of", sorted(str(key[0]) for key in found["mismatched_keys"])),
    ):
        if keys:
            raise ValueError(f"{what}: they {problem} {_some(keys)}; get the checkpoint again, or name another")


def _check_unexpected(kind: Any, unexpected: Collection[str], what: str) -> None:
    """Refuse weights that a network of diffusers has no place for, and warn of those of a transformers model."""
    keys = sorted(key for key in unexpected if not _UNUSED.search(key))
    if keys and issubclass(kind, diffusers.ModelMixin):
        raise ValueError(f"{what}, {_some(keys)}; its config.json is of another network: get the checkpoint again")
    if keys:
        warnings.warn(f"{what}, {_some(keys)}, which are not used", stacklevel=2)


def _some(keys: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return keys[0] + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the libraries' advice."""
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    words = " ".join(text.split()).split(" You may ", maxsplit=1)[0]
    return f"{type(error).__name__}: {words[:300]}".rstrip(": .")
