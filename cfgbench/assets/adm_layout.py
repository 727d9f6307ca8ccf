"""guided-diffusion checkpoints (Dhariwal & Nichol 2021, "ADM"): what their networks look like, and where the files are.

A folder holds the published files under their own names, chosen by `resolution`, or networks of one's own trained with
that code, described by a `config.json` beside them. No torch.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cfgbench.assets import layouts
from cfgbench.assets.checkpoints import check_whole

SOURCE = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
CONFIG = "config.json"
_SCHEDULES: dict[str, dict[str, object]] = {
    "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 1000},
}
NUM_CLASSES = 1000  # of ImageNet
RESOLUTIONS = (64, 128, 256, 512)
SUFFIXES = (".safetensors", ".pt")  # of weights, in this order
_MULTIPLIERS: dict[int, tuple[float, ...]] = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}


class Architecture(BaseModel):
    """A U-Net of guided-diffusion, or its encoder half as a classifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    image_size: int = Field(ge=8, multiple_of=8)
    channels: int = Field(ge=32, multiple_of=32)
    multipliers: tuple[float, ...] = Field(min_length=1)  # of the channels, level by level
    blocks: int = Field(ge=1)  # residual blocks a level
    attention: tuple[int, ...] = (32, 16, 8)  # sides of the feature maps with self-attention
    head_channels: int | None = 64  # of an attention head
    heads: int | None = None  # a fixed number of heads instead
    split_first: bool = False  # q, k and v are split before the heads ("new attention order"), not after
    classes: int | None = Field(default=None, ge=1)  # of the label; None: unconditional
    null_label: bool = False  # one label more, for none
    learned_variance: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)  # in training

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [int(multiplier * self.channels) for multiplier in self.multipliers]

    def num_heads(self, channels: int) -> int:
        """Attention heads of a layer."""
        return self.heads if self.head_channels is None and self.heads else channels // (self.head_channels or channels)

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        for level, width in enumerate(self.widths):
            attends = self.image_size >> level in self.attention or level == len(self.widths) - 1
            parts = (self.head_channels or self.heads or 1) if attends else 1
            if width % 32 or width % parts:
                raise ValueError(f"level {level} has {width} channels: make it a multiple of 32 and of {parts}")
        return self


class Networks(BaseModel):
    """The networks of a folder, and the noise schedule they were trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    diffusion: Architecture
    classifier: Architecture | None = None
    noise_schedule: Literal["linear", "cosine"] = "linear"

    @property
    def num_classes(self) -> int:
        """Of the classifier or, without one, of the labels."""
        return self.diffusion.classes or (self.classifier.classes if self.classifier else None) or 1


def published(resolution: int) -> Networks:
    """The published networks of a resolution: the paper's appendix and the flags given with the checkpoints."""
    multipliers = _MULTIPLIERS[resolution]
    small = resolution == 64
    diffusion = Architecture(
        image_size=resolution,
        channels=192 if small else 256,
        multipliers=multipliers,
        blocks=3 if small else 2,
        head_channels=None if resolution == 128 else 64,
        heads=4 if resolution == 128 else None,
        split_first=small,
        classes=NUM_CLASSES,
    )
    classifier = Architecture(
        image_size=resolution,
        channels=128,
        multipliers=multipliers,
        blocks=4 if small else 2,
        classes=NUM_CLASSES,
    )
    return Networks(diffusion=diffusion, classifier=classifier, noise_schedule="cosine" if small else "linear")


def networks(path: str, resolution: int | None = None, **_: object) -> Networks:
    """The networks of a folder; ValueError where nothing says what they look like."""
    folder = _folder(path)
    own = folder / CONFIG
    if own.is_file():
        if resolution is not None:
            raise ValueError(f"resolution = {resolution} is for the published networks, and {own} describes others")
        return _read(own)
    if resolution is None:
        allowed = ", ".join(map(str, RESOLUTIONS))
        raise ValueError(f"say which published networks of {path} by resolution: {allowed}; it has no {CONFIG}")
    return published(resolution)


def files(path: str, resolution: int | None = None, unconditional: bool = False, **_: object) -> dict[str, Path]:
    """Weight file of each network: main, where it is there classifier, and where asked for main/unconditional.

    Raises ValueError where a file is missing.
    """
    described, folder = networks(path, resolution), _folder(path)
    found = {"main": _required(folder, _stem("diffusion", resolution))}
    classifier = _weights(folder, _stem("classifier", resolution))
    if described.classifier is not None and classifier is not None:
        found["classifier"] = classifier
    if unconditional:
        if resolution not in (None, 256):
            raise ValueError(f"an unconditional network was published for resolution 256 only, not {resolution}")
        found["main/unconditional"] = _required(folder, _stem("diffusion_uncond", resolution))
    return found


def lacks(path: str, resolution: int | None = None, unconditional: bool = False, **_: object) -> dict[str, str]:
    """The networks and capabilities that a folder leaves out, with the reason."""
    described, folder = networks(path, resolution), _folder(path)
    missing = {}
    if described.classifier is None:
        missing["classifier"] = f"{folder / CONFIG} describes none"
    elif _weights(folder, _stem("classifier", resolution)) is None:
        missing["classifier"] = _how_to_get(folder, _stem("classifier", resolution))
    if not (unconditional or described.diffusion.null_label or described.diffusion.classes is None):
        missing["unconditional"] = "its network knows no null class; `unconditional: true` loads one without classes"
    if not described.diffusion.learned_variance:
        missing["learned_variance"] = f"{folder / CONFIG} says so"
    return missing


@cache
def alphas_cumprod(noise_schedule: str) -> np.ndarray:
    """(1000,) float64 of a training schedule, `linear` or `cosine`."""
    return layouts.alphas_cumprod(_SCHEDULES[noise_schedule])


def noise_levels(path: str, resolution: int | None = None, **_: object) -> np.ndarray:
    """Sigma per training timestep (1000,), increasing."""
    return np.asarray(np.sqrt(1 / alphas_cumprod(networks(path, resolution).noise_schedule) - 1))


def num_classes(path: str, resolution: int | None = None, **_: object) -> int:
    """Classes of the labels."""
    return networks(path, resolution).num_classes


def pixels(path: str, resolution: int | None = None, **_: object) -> tuple[int, int]:
    """Height and width of an image."""
    side = resolution or networks(path).diffusion.image_size
    return side, side


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder.absolute()}; it should hold files such as {SOURCE}/64x64_diffusion.pt"
        )
    return folder


def _stem(kind: str, resolution: int | None) -> str:
    """A file's name without suffix: as published, or the kind of network alone."""
    return kind if resolution is None else f"{resolution}x{resolution}_{kind}"


def _required(folder: Path, stem: str) -> Path:
    found = _weights(folder, stem)
    if found is None:
        raise ValueError(_how_to_get(folder, stem))
    return found


def _how_to_get(folder: Path, stem: str) -> str:
    hint = f"; get it from {SOURCE}/{stem}.pt" if stem[0].isdigit() else ""
    return f"{folder / stem}.pt (or .safetensors) is missing{hint}"


def _weights(folder: Path, stem: str) -> Path | None:
    candidates = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    found = next((file for file in candidates if file.is_file()), None)
    if found is not None and found.suffix == ".safetensors":
        check_whole(found)
    return found


def _read(file: Path) -> Networks:
    try:
        content: Mapping[str, object] = json.loads(file.read_text(encoding="utf-8"))
        return Networks(**content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{place} in {file}: {problem['msg']}") from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} cannot be read as a description of networks: {error}") from None
