"""CLIP models by open_clip: where their weights are, and loading them. Nothing is downloaded.

A model is a name of open_clip with a pretrained tag, whose weights are in the hub cache; a name with a local weight
file, and with the tag that the file is of; or a folder in open_clip's own layout (`open_clip_config.json` beside the
weights), local or `owner/name` in the hub cache. A tag says how a network was trained: by which activation, and with
pictures of which mean. A file does not, so without a tag the network is as its name alone has it. Problems are
ValueError, to which the caller adds the place.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cfgbench import published
from cfgbench.assets import checkpoints

TAGS = published.FOLDER / "open_clip.json"  # of open_clip's own table; see its `pretrained.py`
CONFIG = "open_clip_config.json"
MODEL, TAG = "ViT-L-14", "openai"  # what torchmetrics' CLIPScore and most papers score with
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class Clip(NamedTuple):
    """A loaded model, and how pictures and texts are prepared for it."""

    network: Any  # with encode_image and encode_text
    prepare: Callable[[Any], Any]  # a PIL picture -> (3, size, size)
    tokenize: Callable[[list[str]], Any]  # texts -> (n, context length)
    mean: tuple[float, ...]  # of pictures in [0, 1], per channel
    std: tuple[float, ...]
    size: int  # of prepared pictures


def weights(model: str = MODEL, pretrained: str | None = None, path: str | None = None) -> Path:
    """The weight file of a model; ValueError says where it was looked for and how to get it."""
    if path is None:
        repository = _repository(model, pretrained or TAG)
        return _in_folder(checkpoints.cached_snapshot(repository, None, "model"), repository)
    file = Path(path).expanduser()
    if pretrained is not None:
        if not file.is_file():
            raise ValueError(f"pretrained = {pretrained!r} says how a weight file was trained, and {path} is none")
        _repository(model, pretrained)
    if file.is_dir():
        checkpoints.require(file / CONFIG, path, "model")
        return _in_folder(file, path)
    if file.is_file():
        return _whole(file)
    if file.suffix in _SUFFIXES or path.count("/") != 1:
        raise ValueError(f"there is neither a weight file nor a folder {path}, nor is that owner/name on the hub")
    folder = checkpoints.cached_snapshot(path, None, "model")
    checkpoints.require(folder / CONFIG, path, "model")
    return _in_folder(folder, path)


@cache
def load(model: str = MODEL, pretrained: str | None = None, path: str | None = None, device: str = "cpu") -> Clip:
    """The model in fp32, in evaluation mode, its weights frozen."""
    import open_clip

    file, whole_folder = weights(model, pretrained, path), path is not None and not Path(path).expanduser().is_file()
    name = f"local-dir:{file.parent}" if whole_folder else model
    arguments = {} if whole_folder else {"pretrained": str(file), **_as_trained(model, pretrained, path)}
    try:
        network, _, prepare = open_clip.create_model_and_transforms(
            name, **arguments, pretrained_text=False, device=device
        )
        tokenize = open_clip.get_tokenizer(name)
    except (RuntimeError, AssertionError, OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"open_clip cannot load {file} as {name}: {reason}") from None
    network.eval().requires_grad_(False)
    settings = network.visual.preprocess_cfg
    size = settings["size"] if isinstance(settings["size"], int) else settings["size"][0]
    return Clip(network, prepare, tokenize, tuple(settings["mean"]), tuple(settings["std"]), size)


def parse(text: str) -> dict[str, str]:
    """The arguments of a model written as one text: NAME, NAME/TAG, a weight file's folder or owner/name.

    ValueError where it is none of them.
    """
    model, _, tag = text.partition("/")
    if model in json.loads(TAGS.read_text()):
        return {"model": model, "pretrained": tag} if tag else {"model": model}
    if not Path(text).expanduser().is_dir() and text.count("/") != 1:
        raise ValueError(f"{text!r} is no CLIP: write open_clip's NAME or NAME/TAG, a folder, or owner/name")
    return {"path": text}


def prepared(clip: Clip, pictures: Any) -> Any:
    """Pictures (n, 3, height, width) in [0, 1] as the network reads them: differentiable, where `prepare` is not."""
    from torch.nn import functional

    height, width = pictures.shape[2:]
    short = min(height, width)
    sides = (clip.size * height // short, clip.size * width // short)
    sized = functional.interpolate(pictures, sides, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (round((side - clip.size) / 2) for side in sides)
    middle = sized[:, :, top : top + clip.size, left : left + clip.size]
    mean, std = (pictures.new_tensor(values).view(3, 1, 1) for values in (clip.mean, clip.std))
    return (middle - mean) / std


@lru_cache(maxsize=100_000)
def text_vector(model: str, pretrained: str | None, path: str | None, device: str, text: str) -> np.ndarray:
    """The unit vector (d,) of a text, encoded alone in fp32, so that it is the same in every company."""
    import torch

    from cfgbench.generation import precision

    clip = load(model, pretrained, path, device)
    with torch.no_grad(), precision.switches("fp32"):
        tokens = clip.tokenize([text]).to(device)
        vector: np.ndarray = clip.network.encode_text(tokens, normalize=True)[0].float().cpu().numpy()
    return vector


def tag_of(pretrained: str | None, path: str | None) -> str | None:
    """The tag that weights are of, where that is known."""
    return pretrained if path is not None else pretrained or TAG


def truncated(clip: Clip, texts: list[str]) -> np.ndarray:
    """Which texts (n,) are longer than what the model reads of them."""
    encode, room = getattr(clip.tokenize, "encode", None), getattr(clip.tokenize, "context_length", None)
    if encode is None or room is None:  # a tokenizer of transformers
        inner = clip.tokenize.tokenizer  # type: ignore[attr-defined]
        room = clip.network.context_length
        return np.array([len(inner(text)["input_ids"]) > room for text in texts])
    return np.array([len(encode(text)) > room - 2 for text in texts])  # the first and last are marks


def _as_trained(model: str, pretrained: str | None, path: str | None) -> Mapping[str, Any]:
    """What a pretrained tag says of the activation and of pictures; nothing is known of a file without one."""
    import open_clip

    named = tag_of(pretrained, path)
    if named is None:
        return {}
    tag = open_clip.get_pretrained_cfg(model, named)
    settings = {"mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation"}
    settings["resize_mode"] = "image_resize_mode"
    return {settings[key]: value for key, value in tag.items() if key in settings} | {
        "force_quick_gelu": bool(tag.get("quick_gelu"))
    }


def _repository(model: str, tag: str) -> str:
    """Where on the hub the weights of a tag are."""
    table: dict[str, dict[str, str]] = json.loads(TAGS.read_text())
    if model not in table:
        raise ValueError(f"open_clip has no pretrained {model!r}; it has, for example, {', '.join(_first(table))}")
    if tag not in table[model]:
        raise ValueError(f"open_clip's {model} has no pretrained tag {tag!r}; it has {', '.join(table[model])}")
    return table[model][tag]


def _first(table: Mapping[str, object]) -> list[str]:
    """The models that most people mean."""
    return [name for name in table if name.startswith("ViT-") and name.count("-") == 2]


def _in_folder(folder: Path, name: str) -> Path:
    there = [folder / weight for weight in _WEIGHTS if (folder / weight).exists() or (folder / weight).is_symlink()]
    return _whole(checkpoints.require(there[0] if there else folder / _WEIGHTS[0], name, "model"))


def _whole(file: Path) -> Path:
    if file.suffix == ".safetensors":
        checkpoints.check_whole(file)
    return file
