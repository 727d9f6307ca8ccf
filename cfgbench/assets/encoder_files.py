"""Where the weights of encoders of pictures are. Imports no torch; what is missing is a ValueError that says so.

Each function takes its encoder's parameters and returns the weight file behind each thing that the encoder provides.
"""

import os
from pathlib import Path

from cfgbench.assets import checkpoints, clip_models

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # TensorFlow's Inception of the FID, converted
_INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"


def inception(path: str | None = None) -> dict[str, Path]:
    """torch-fidelity's Inception, where torch-fidelity and torchmetrics keep it unless a path is given."""
    file = torch_hub() / "checkpoints" / INCEPTION if path is None else Path(path).expanduser()
    if not file.is_file():
        get = f"get it where there is a network by `curl -L --create-dirs -o {file} {_INCEPTION_URL}`"
        raise ValueError(f"{file} is missing, the Inception network of the FID; {get}, or say `path`")
    return {"features": file, "log_probs": file}


def dinov2(path: str, revision: str | None = None) -> dict[str, Path]:
    """DINOv2 in the layout of transformers, model.safetensors beside config.json: the folder, or that file."""
    given = Path(path).expanduser()
    checkpoint = checkpoints.locate(str(given.parent) if given.is_file() else path, revision)
    kind, file = checkpoint.json("config.json").get("model_type"), checkpoint.require("model.safetensors")
    if given.is_file() and given.name != file.name:
        raise ValueError(f"{path}: the weights of DINOv2 are called {file.name}, beside their config.json")
    if kind != "dinov2":
        raise ValueError(f"{checkpoint.folder}/config.json is of a {kind}, not of a dinov2")
    checkpoints.check_whole(file)
    return {"features_dinov2": file}


def clip_settings(
    model: str = clip_models.MODEL, pretrained: str | None = None, path: str | None = None
) -> dict[str, str]:
    """open_clip's name of the model and the tag of its weights where it is known, unless a folder says what it is."""
    if path is not None and not Path(path).expanduser().is_file():
        return {}
    tag = clip_models.tag_of(pretrained, path)
    return {"model": model} if tag is None else {"model": model, "pretrained": tag}


def clip(model: str = clip_models.MODEL, pretrained: str | None = None, path: str | None = None) -> dict[str, Path]:
    """A CLIP by open_clip."""
    file = clip_models.weights(model, pretrained, path)
    return {"clip_scores": file, "features_clip": file}


def torch_hub() -> Path:
    """Where torch.hub keeps what it has downloaded."""
    given = os.environ.get("TORCH_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (Path(given).expanduser() if given else cache / "torch") / "hub"
