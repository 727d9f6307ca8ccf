"""What a user hands to `cfgbench score`: arms of a sweep as `s=1.5:PATH`, and what a PATH holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path

import numpy as np

from cfgbench.cell import Cell, Guidance, ModelRef, digest
from cfgbench.errors import InputError, shown, unknown
from cfgbench.external import arrays
from cfgbench.external.images import ImageArray, ImageFiles, find_images
from cfgbench.external.layout import Items
from cfgbench.planning import axes
from cfgbench.planning.plan import canonical
from cfgbench.registry import METHODS

AXES = {"s": "cfg", "guidance_scale": "cfg", "w": "cfg", "classifier_scale": "classifier"}


@dataclass(frozen=True)
class FeatureFile:
    """Features computed elsewhere: `features` (n, d), and where known `log_probs`, `clip_scores`, `labels`."""

    path: Path

    @cached_property
    def content(self) -> dict[str, np.ndarray]:
        """The arrays; InputError where their shapes do not fit together."""
        found = arrays.read(self.path, ("features", "log_probs", "clip_scores", "labels"))
        count = len(found["features"]) if found["features"].ndim == 2 else 0
        for name, array in found.items():
            wanted = 2 if name in ("features", "log_probs") else 1
            kinds = "iu" if name == "labels" else "fiu"
            if array.ndim != wanted or len(array) != count or count < 2 or array.dtype.kind not in kinds:
                shape = "(n, d)" if wanted == 2 else "(n,)"
                what = "whole numbers" if name == "labels" else "numbers"
                raise InputError(f"{name} in {self.path} is {array.dtype} {array.shape}; needs {what} {shape}, n >= 2")
        return found

    @property
    def count(self) -> int:
        """How many samples."""
        return len(self.content["features"])

    @property
    def digests(self) -> list[str]:
        """Of the file."""
        return [arrays.content_digest(self.path)]


Source = ImageFiles | ImageArray | FeatureFile


@dataclass(frozen=True)
class Arm:
    """The samples of one point of the sweep."""

    guidance: Guidance
    source: Source
    items: Items
    place: str

    def cell(self, model: str) -> Cell:
        """Its cell, which has no sampler; the id holds the content of the files and what is known of them."""
        items = self.items
        content = digest([self.source.digests, items.keys, items.labels, items.prompts])
        return Cell(model=ModelRef(name=model, digest=content), guidance=self.guidance)


def from_arguments(texts: Sequence[str], notes: list[str]) -> list[Arm]:
    """The arms of `s=1.5:PATH` arguments; what was converted is told in `notes`."""
    return [_from_argument(text, notes) for text in texts]


def open_source(path: Path) -> tuple[Source, Items]:
    """What a path holds: a folder of images, an ADM npz, or a feature file."""
    if path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth"):
        raise InputError(f"{path} is a pickle, and unpickling runs code; save its arrays with np.savez")
    if path.suffix.lower() != ".npz":
        files = find_images(path)
        return ImageFiles(str(path), files), Items(_names(files, path))
    present = arrays.members(path)
    if "features" in present:
        source = FeatureFile(path)
        labels = source.content.get("labels")
        return source, Items(indices(source.count), None if labels is None else tuple(labels.tolist()))
    if "arr_0" in present:
        array = ImageArray(path)
        return array, Items(indices(array.count), _adm_labels(array))
    raise InputError(f"{path} holds {', '.join(present) or 'nothing'}; needs arr_0 (images) or features")


def _from_argument(text: str, notes: list[str]) -> Arm:
    axis, sign, rest = text.partition("=")
    value, colon, path = rest.partition(":")
    if not (sign and colon and path):
        raise InputError(f"cannot read {shown(text)}; an arm is written s=1.5:PATH or classifier_scale=0.5:PATH")
    if axis not in AXES:
        raise unknown("scale", axis, shown(text), AXES)
    if axis == "w":
        value = str(_decimal(value, text) + 1)
        notes.append(f"{text}: w = s - 1, so s = {value}")
    guidance = guidance_of(AXES[axis], checked_scale(AXES[axis], value, text))
    source, items = open_source(Path(path))
    return Arm(guidance, source, items, path)


def guidance_of(method: str, scale: float) -> Guidance:
    """The guidance of a method at a scale; s = 1 is unguided."""
    return canonical(method, {METHODS[method].scale or "": scale})


def checked_scale(method: str, text: str, place: str) -> float:
    """A scale as written, checked on its method's own axis."""
    scaled = sorted(name for name, entry in METHODS.items() if entry.scale is not None)
    if method not in scaled:
        raise unknown("method", method, place, scaled)
    axis = METHODS[method].scale or ""
    value: float = axes.check(float(_decimal(text, place)), METHODS[method].parameters[axis], f"{axis} at {place}")
    return value


def _decimal(text: str, place: str) -> Decimal:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        raise InputError(f"scale {shown(text)} at {place} is not a number") from None


def _adm_labels(array: ImageArray) -> tuple[int, ...] | None:
    labels = arrays.read(array.path, ("arr_1",)).get("arr_1")
    if labels is None:
        return None
    if labels.shape != (array.count,) or labels.dtype.kind not in "iu":
        raise InputError(f"arr_1 in {array.path} is {labels.dtype} {labels.shape}; needs {array.count} class numbers")
    return tuple(labels.tolist())


def _names(files: Sequence[Path], folder: Path) -> tuple[str, ...]:
    """File names without their endings, numbers without leading zeros; with endings where those tell files apart."""
    names = [path.relative_to(folder) for path in files]
    plain = tuple(plain_name(name.with_suffix("").as_posix()) for name in names)
    return plain if len(set(plain)) == len(plain) else tuple(name.as_posix() for name in names)


def plain_name(name: str) -> str:
    """A file name without its ending, a number without leading zeros."""
    return str(int(name)) if name.isdecimal() else name


def indices(count: int) -> tuple[str, ...]:
    """Keys of samples that have nothing but their place."""
    return tuple(map(str, range(count)))
