"""Labelled pictures from the disk: parquet files as on the hub, or a folder of images for each class.

Parquet: files whose names begin with the split (`train-00000-of-00001.parquet`), anywhere in the folder, with an image
column (`img` or `image`, encoded bytes) and an integer `label`. Image folders: `train/<class>/*.png`, or else
`<class>/*.png`; classes are numbered by name. Raises ValueError for what cannot be read.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_COLUMNS = ("img", "image")


class Pictures(NamedTuple):
    """Pictures in a fixed order."""

    images: np.ndarray  # (n, 3, size, size) uint8
    labels: np.ndarray  # (n,) int64

    @property
    def digest(self) -> str:
        """16 hex digits that name pixels and labels."""
        content = hashlib.sha256(self.images.tobytes())
        content.update(self.labels.tobytes())
        return content.hexdigest()[:16]


def read(folder: Path, split: str, classes: int, size: int) -> Pictures:
    """All pictures of a split, `train` or `test`."""
    found = list(_parquet(folder, split)) or list(_folders(folder, split, classes))
    if not found:
        raise ValueError(f"{folder} holds neither {split}*.parquet nor folders of images; see `cfgbench train --help`")
    for place, image, label in found:
        if image.size != (size, size):
            raise ValueError(f"{place} is {image.size[0]}x{image.size[1]}; pictures of {size}x{size} are needed")
        if not 0 <= label < classes:
            raise ValueError(f"{place} has label {label}; the classes are 0 to {classes - 1}")
    images = np.stack([np.asarray(image.convert("RGB")) for _, image, _ in found])
    return Pictures(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), np.array([label for *_, label in found]))


def has_split(folder: Path, split: str) -> bool:
    """Whether a folder says which pictures are of a split."""
    return (folder / split).is_dir() or any(folder.rglob(f"{split}*.parquet"))


_Labelled = tuple[str, Image.Image, int]  # place, picture, label


def _parquet(folder: Path, split: str) -> Iterator[_Labelled]:
    from pyarrow import parquet

    for path in sorted(folder.rglob(f"{split}*.parquet")):
        try:
            rows = parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as parquet: {error}") from None
        for number, row in enumerate(rows):
            place = f"row {number} of {path}"
            yield place, _decoded(_bytes(row, place), place), _label(row, place)


def _bytes(row: Mapping[str, Any], place: str) -> bytes:
    image = next((row[name] for name in _COLUMNS if name in row), None)
    content = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(content, bytes):
        raise ValueError(f"{place} has no encoded picture in a column {' or '.join(_COLUMNS)}; it has {', '.join(row)}")
    return content


def _label(row: Mapping[str, Any], place: str) -> int:
    if not isinstance(row.get("label"), int):
        raise ValueError(f"{place} has no whole number in a column 'label'; it has {', '.join(row)}")
    return int(row["label"])


def _folders(folder: Path, split: str, classes: int) -> Iterator[_Labelled]:
    home = folder / split if (folder / split).is_dir() else folder
    if not home.is_dir():
        raise ValueError(f"there is no folder {folder}")
    names = sorted(path for path in home.iterdir() if path.is_dir())
    if names and len(names) != classes:
        raise ValueError(f"{home} holds {len(names)} folders; {classes} are needed, one for each class")
    for label, name in enumerate(names):
        for path in sorted(path for path in name.iterdir() if path.suffix.lower() in EXTENSIONS):
            yield str(path), _decoded(path.read_bytes(), str(path)), label


def _decoded(content: bytes, place: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{place} is no picture: {error}") from None
    return image
