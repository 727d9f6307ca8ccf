"""Named ways to make pictures one size. Pillow's filters are antialiased; pictures are uint8 (height, width, 3)."""

from collections.abc import Callable

import numpy as np
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def fit(picture: np.ndarray, size: int, crop: str, filter_name: str) -> np.ndarray:
    """The picture as (size, size, 3)."""
    return np.asarray(CROPS[crop](Image.fromarray(picture), size, FILTERS[filter_name]))


def _center(picture: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """The shorter side becomes `size`, then the middle is cut out: torchvision's Resize and CenterCrop."""
    width, height = picture.size
    short = min(width, height)
    scaled = (size * width // short, size * height // short)
    sized = picture if scaled == picture.size else picture.resize(scaled, filter_)
    left, top = (round((side - size) / 2) for side in scaled)
    return sized.crop((left, top, left + size, top + size))


def _squash(picture: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """Both sides become `size`, whatever that does to the proportions."""
    return picture if picture.size == (size, size) else picture.resize((size, size), filter_)


def _adm(picture: Image.Image, size: int, filter_: Image.Resampling) -> Image.Image:
    """ADM's center crop: halved by averaging while that is possible, then resized, then cut out.

    github.com/openai/guided-diffusion, image_datasets.py, there with the filter bicubic; DiT and others use it too.
    """
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), filter_)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


CROPS: dict[str, Callable[[Image.Image, int, Image.Resampling], Image.Image]] = {
    "center": _center,
    "squash": _squash,
    "adm": _adm,
}
