"""Images that were made elsewhere, read a chunk at a time: folders of image files, and ADM npz files.

Images become uint8 NCHW and are never resized. What reading changes (transparency channels, 16 bits) is counted in
remarks; what it cannot do without a choice of its own stops with one sentence.

ADM npz: `arr_0` uint8 NHWC and optionally `arr_1` labels (github.com/openai/guided-diffusion).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from cfgbench.errors import InputError
from cfgbench.external import arrays

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CHUNK = 100  # images decoded at a time, to bound memory
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L")
_GREY = "are grey"
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)


class _Header(NamedTuple):
    """What the beginning of an image file says, and the digest of all of it."""

    size: tuple[int, int]  # height, width
    remarks: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class ImageFiles:
    """Image files of one size, in order."""

    place: str
    paths: tuple[Path, ...]

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.paths)

    @cached_property
    def headers(self) -> tuple[_Header, ...]:
        """One per file; InputError where a file is no image or the sizes differ."""
        found = [_header(path) for path in self.paths]
        bad = [(path, reason) for path, reason in zip(self.paths, found, strict=True) if isinstance(reason, str)]
        if bad:
            path, reason = bad[0]
            raise InputError(
                f"{len(bad)} of {len(found)} files in {self.place} cannot be read as images; the first is {path}: "
                f"{reason}; make them again, or take them out"
            )
        return self._of_one_size([header for header in found if isinstance(header, _Header)])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.headers[0].size

    @property
    def remarks(self) -> Counter[str]:
        """How many files have each peculiarity."""
        found = Counter(remark for header in self.headers for remark in header.remarks)
        if found[_GREY] == self.count:  # worth a word among colour images only
            del found[_GREY]
        return found

    @property
    def digests(self) -> list[str]:
        """Of the content of each file."""
        return [header.digest for header in self.headers]

    def chunks(self, channels: int) -> Iterator[np.ndarray]:
        """uint8 images (n, channels, height, width)."""
        for start in range(0, self.count, CHUNK):
            yield np.stack([read_image(path, channels) for path in self.paths[start : start + CHUNK]])

    def take(self, positions: Sequence[int], channels: int) -> list[np.ndarray]:
        """The images at these positions, (channels, height, width) each."""
        return [read_image(self.paths[i], channels) for i in positions]

    def _of_one_size(self, headers: list[_Header]) -> tuple[_Header, ...]:
        sizes = Counter(header.size for header in headers)
        if len(sizes) > 1:
            rare = sizes.most_common()[-1][0]
            odd = next(p for p, header in zip(self.paths, headers, strict=True) if header.size == rare)
            counts = ", ".join(f"{width}x{height} ({n})" for (height, width), n in sizes.most_common(5))
            raise InputError(f"{self.place} holds images of {len(sizes)} sizes: {counts}; of the last kind is {odd}")
        return tuple(headers)


@dataclass(frozen=True)
class ImageArray:
    """The images of an ADM npz."""

    path: Path

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """Count, height, width, channels; InputError where `arr_0` is anything else than uint8 NHWC."""
        shape, _, dtype = arrays.members(self.path)["arr_0"]
        if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or min(shape) < 1:
            raise InputError(f"arr_0 in {self.path} is {dtype} {shape}; images are uint8 (n, height, width, 1 or 3)")
        return (shape[0], shape[1], shape[2], shape[3])

    @property
    def count(self) -> int:
        """How many images."""
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[1:3]

    @property
    def remarks(self) -> Counter[str]:
        """Nothing peculiar: the array is taken as it is."""
        return Counter()

    @property
    def digests(self) -> list[str]:
        """Of the file."""
        return [arrays.content_digest(self.path)]

    def chunks(self, channels: int, first: int = 0) -> Iterator[np.ndarray]:
        """uint8 images (n, channels, height, width) from the first on, read from the file as they are asked for."""
        for number, chunk in enumerate(arrays.rows(self.path, "arr_0", CHUNK, first)):
            place = f"image {first + number * CHUNK} or one of the next {len(chunk) - 1} of {self.path}"
            yield np.stack([to_channels(image, channels, place) for image in chunk])

    def take(self, positions: Sequence[int], channels: int) -> list[np.ndarray]:
        """The images at these positions, (channels, height, width) each; reads the file up to the last."""
        found: dict[int, np.ndarray] = {}
        wanted, chunks = set(positions), enumerate(self.chunks(channels))
        while len(found) < len(wanted):
            number, chunk = next(chunks)
            numbered = enumerate(chunk, number * CHUNK)
            found |= {i: image for i, image in numbered if i in wanted}
        return [found[i] for i in positions]


def find_images(folder: Path) -> tuple[Path, ...]:
    """The image files in a folder and below, in natural order; InputError where there are none."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; give a folder of images or an .npz file")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file()]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not visible:
        raise InputError(f"{folder} holds no images; looked for {', '.join(EXTENSIONS)}")
    return tuple(sorted(visible, key=lambda path: natural_key(path.relative_to(folder).as_posix())))


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts 2.png before 10.png, and both before a.png."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


def read_image(path: Path, channels: int) -> np.ndarray:
    """A file as uint8 (channels, height, width); InputError where that would lose something that matters."""
    return decode(path, channels, str(path))


def decode(file: Path | IO[bytes], channels: int, place: str) -> np.ndarray:
    """An encoded image as uint8 (channels, height, width); InputError where that would lose something that matters."""
    try:
        with Image.open(file) as picture:
            if _has_alpha(picture) and picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise InputError(f"{place} is transparent in places; put the images onto a background first")
            pixels = _eight_bit(picture)
    except _UNREADABLE as error:
        raise InputError(f"{place} cannot be read as an image: {error}") from None
    return to_channels(pixels, channels, place)


def to_channels(pixels: np.ndarray, channels: int, place: str) -> np.ndarray:
    """(height, width, 1 or 3) -> (channels, height, width): grey is repeated, colour must be grey to become grey."""
    if channels == 1 and pixels.shape[2] == 3 and (pixels != pixels[..., :1]).any():
        raise InputError(f"{place}: in colour, and the encoder reads grey images; convert them first")
    wanted = pixels[..., :1] if channels == 1 else np.broadcast_to(pixels, (*pixels.shape[:2], channels))
    return np.ascontiguousarray(wanted.transpose(2, 0, 1))


def _header(path: Path) -> _Header | str:
    """A file's header, or why it has none."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in _MODES:
                return f"colour mode {picture.mode} is not one of grey, RGB, RGBA and palette"
            size, remarks = (picture.height, picture.width), tuple(_remarks(picture))
        return _Header(size, remarks, arrays.content_digest(path))
    except _UNREADABLE as error:
        return " ".join(str(error).split())


def _remarks(picture: Image.Image) -> Iterator[str]:
    if picture.format in ("JPEG", "WEBP"):
        yield f"are {picture.format} files; lossy compression changes scores such as FID"
    if _has_alpha(picture):
        yield "had an opaque alpha channel, which was dropped"
    if picture.mode.startswith("I") or _raw_bits(picture) == 16:
        yield "had 16 bits per channel, of which the upper 8 were kept"
    if picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L"):
        yield _GREY


def _raw_bits(picture: Image.Image) -> int:
    """Bits per channel in the file; Pillow opens 16-bit colour PNG files as 8-bit images."""
    return 16 if any("16" in str(tile[3]) for tile in getattr(picture, "tile", ())) else 8


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info


def _eight_bit(picture: Image.Image) -> np.ndarray:
    """uint8 (height, width, 1 or 3)."""
    if picture.mode.startswith("I"):
        wide = np.asarray(picture)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("its values need more than 16 bits")
        return (wide >> 8).astype(np.uint8)[..., None]
    grey = picture.mode in ("1", "L", "LA")
    return np.asarray(picture.convert("L" if grey else "RGB")).reshape(picture.height, picture.width, -1)
