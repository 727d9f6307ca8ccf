"""Gallery strips as data URLs, made smaller only where all of them together would make the report too big to mail."""

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from PIL import Image

from cfgbench.generation.gallery import SIZE
from cfgbench.reading.tables.results import Results

BUDGET = 12_000_000  # characters of all strips together
LADDER = ((96, 80), (64, 75), (48, 65), (32, 50))  # height in pixels and WebP quality, until the budget holds

Encode = Callable[[Path], str]


def encoded(results: Results) -> dict[str, str]:
    """A data URL per finished cell that has a strip: the stored PNG, or the largest WebP that fits the budget."""
    paths = {record.id: results.folder / "records" / f"{record.id}.png" for record in results.done}
    found = {name: path for name, path in paths.items() if path.exists()}
    for encode in _encoders():
        urls = _within_budget(found, encode)
        if urls is not None:
            return urls
    return {name: _smaller(*LADDER[-1], path) for name, path in found.items()}


def tile_count(num_samples: int) -> int:
    """How many samples a strip shows."""
    return min(SIZE, num_samples)


def _encoders() -> Iterator[Encode]:
    yield _stored
    for height, quality in LADDER:
        yield partial(_smaller, height, quality)


def _within_budget(paths: Mapping[str, Path], encode: Encode) -> dict[str, str] | None:
    urls: dict[str, str] = {}
    room = BUDGET
    for name, path in paths.items():
        urls[name] = encode(path)
        room -= len(urls[name])
        if room < 0:
            return None
    return urls


def _stored(path: Path) -> str:
    return _url("png", path.read_bytes())


def _smaller(height: int, quality: int, path: Path) -> str:
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        height = min(height, picture.height)
        width = round(picture.width * height / picture.height)
        small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    small.save(buffer, "WEBP", quality=quality)
    return _url("webp", buffer.getvalue())


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
