"""The strip of a cell's first samples, for grids and for looking: samples 0, 1, 2, ... side by side as one PNG."""

import io

import numpy as np
from PIL import Image

from cfgbench.store import Store

SIZE = 20  # samples in a strip
MAX_PIXELS = 96  # larger images are shrunk to this height


def write(store: Store, cell_id: str, samples: np.ndarray) -> None:
    """Write the strip of uint8 images (n, channels, height, width); other samples have none."""
    if samples.dtype != np.uint8 or samples.ndim != 4:
        return
    buffer = io.BytesIO()
    strip(samples[:SIZE]).save(buffer, "PNG", optimize=True)
    store.write_gallery(cell_id, buffer.getvalue())


def strip(images: np.ndarray) -> Image.Image:
    """uint8 images (n, 1 or 3, height, width) from left to right."""
    tiles = [_tile(image) for image in images]
    joined = np.concatenate([np.asarray(tile) for tile in tiles], axis=1)
    return Image.fromarray(joined)


def _tile(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    if picture.height > MAX_PIXELS:
        width = max(1, round(picture.width * MAX_PIXELS / picture.height))
        picture = picture.resize((width, MAX_PIXELS), Image.Resampling.LANCZOS)
    return picture
