"""A cell's first samples, for looking: images 0, 1, 2, ... side by side as one PNG, or points of the plane."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from cfgbench.store import Store

SIZE = 20  # samples in a strip
MAX_PIXELS = 96  # larger images are shrunk to this height
POINTS = 400  # samples of a model of the plane that are kept


def write(store: Store, cell_id: str, samples: np.ndarray) -> None:
    """Write the strip of uint8 images (n, channels, height, width); other samples have none."""
    if samples.dtype != np.uint8 or samples.ndim != 4:
        return
    buffer = io.BytesIO()
    strip(samples[:SIZE]).save(buffer, "PNG", optimize=True)
    store.write_gallery(cell_id, buffer.getvalue())


def plane(samples: np.ndarray) -> dict[str, np.ndarray]:
    """What a block keeps of samples in the plane (n, 2): the points; nothing of other samples."""
    return {"points": samples} if samples.ndim == 2 and samples.shape[1] == 2 else {}


def write_points(store: Store, cell_id: str, starts: Sequence[int]) -> None:
    """Write a cell's first points from its blocks; none where the samples are no points or a block is missing."""
    blocks = []
    for start in (start for start in starts if start < POINTS):
        block = store.block(cell_id, start)
        if block is None or "points" not in block:
            return
        blocks.append(block)
    points, labels = (np.concatenate([block[name] for block in blocks])[:POINTS] for name in ("points", "labels"))
    finite = np.isfinite(points).all(1)
    store.write_points(cell_id, points[finite], labels[finite])


def strip(images: np.ndarray) -> Image.Image:
    """uint8 images (n, 1 or 3, height, width) from left to right."""
    tiles = [tile(image) for image in images]
    joined = np.concatenate([np.asarray(tile) for tile in tiles], axis=1)
    return Image.fromarray(joined)


def tile(image: np.ndarray) -> Image.Image:
    """A uint8 image (1 or 3, height, width) as a strip shows it."""
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    if picture.height > MAX_PIXELS:
        width = max(1, round(picture.width * MAX_PIXELS / picture.height))
        picture = picture.resize((width, MAX_PIXELS), Image.Resampling.LANCZOS)
    return picture


def tiles(store: Store, cell_id: str) -> list[np.ndarray]:
    """The first samples of a cell as its strip shows them, (height, width) or (height, width, 3); [] without a strip.

    Tiles are as wide as the strip has SIZE of them; one that is damaged counts as none.
    """
    try:
        with Image.open(store.records / f"{cell_id}.png") as picture:
            shown = np.asarray(picture)
    except (OSError, ValueError, SyntaxError):
        return []
    return np.split(shown, SIZE, axis=1) if shown.shape[1] % SIZE == 0 else []
