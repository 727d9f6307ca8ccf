"""What is in a reference set: a digest of its pixels in order, and what is peculiar; counted once per content of files.

The digest is of the decoded and fitted pixels, so the same pictures are the same reference in whatever container.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from cfgbench import cache
from cfgbench.cell import digest
from cfgbench.errors import InputError
from cfgbench.references.fitting import fit
from cfgbench.references.pictures import Pictures
from cfgbench.references.source import ReferenceSource

CHUNK = 500  # pictures in memory at a time
VERSION = 1  # of what is remembered


@dataclass(frozen=True)
class Survey:
    """A reference set in numbers."""

    digest: str
    count: int  # of the pictures that are compared with
    height: int
    width: int
    duplicates: int  # exact copies of earlier ones, which stay in
    grey: int
    unreadable: int  # left out

    @property
    def notes(self) -> Iterator[str]:
        """What a user should know."""
        if self.unreadable:
            yield f"{self.unreadable} could not be read and are left out"
        if self.grey:
            yield f"{self.grey} are grey and count as colour pictures of equal channels"
        if self.duplicates:
            yield f"{self.duplicates} are exact copies of others, and stay in"


@lru_cache(maxsize=8)
def survey(source: ReferenceSource, pictures: Pictures, place: str) -> Survey:
    """Read all pictures once; later calls, of later runs too, remember. InputError names the first bad picture."""
    path = cache.home() / "references" / f"{_key(source, pictures)}.json"
    try:
        return Survey(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        found = _count(source, pictures, place)
    cache.keep(path, json.dumps(asdict(found)).encode())
    return found


def read(source: ReferenceSource, pictures: Pictures, start: int, stop: int) -> Iterator[np.ndarray | InputError]:
    """The pictures of a range as they are compared with: uint8 (height, width, 3)."""
    for picture in pictures.read(start, min(stop, total(source, pictures))):
        if isinstance(picture, InputError) or source.size is None:
            yield picture
        else:
            yield fit(picture, source.size, source.crop, source.filter)


def total(source: ReferenceSource, pictures: Pictures) -> int:
    """How many pictures are looked at."""
    return pictures.count if source.limit is None else min(source.limit, pictures.count)


def _key(source: ReferenceSource, pictures: Pictures) -> str:
    """Names what was counted: the files by place, size and time, and what is done with them."""
    files = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in pictures.files]
    return digest([VERSION, source.model_dump(exclude={"path", "dataset", "revision"}), files])


def _count(source: ReferenceSource, pictures: Pictures, place: str) -> Survey:
    if source.limit is not None and pictures.count < source.limit:
        raise InputError(f"{place}: limit = {source.limit}, and {source.name} holds {pictures.count} pictures")
    seen: set[bytes] = set()
    sizes: Counter[tuple[int, int]] = Counter()
    counts: Counter[str] = Counter()
    content = hashlib.sha256()
    for picture in read(source, pictures, 0, total(source, pictures)):
        if isinstance(picture, InputError):
            if source.unreadable == "error":
                raise InputError(f"{place}: {picture}; `unreadable: skip` leaves such pictures out and counts them")
            counts["unreadable"] += 1
            continue
        name = hashlib.sha256(np.ascontiguousarray(picture).tobytes() + repr(picture.shape).encode()).digest()
        content.update(name)
        counts["duplicates"] += name in seen
        counts["grey"] += bool((picture == picture[..., :1]).all())
        seen.add(name)
        sizes[picture.shape[:2]] += 1
    _check(sizes, source, place)
    ((height, width), count), *_ = sizes.items()
    return Survey(content.hexdigest()[:16], count, height, width, **{name: counts[name] for name in _COUNTED})


_COUNTED = ("duplicates", "grey", "unreadable")


def _check(sizes: Counter[tuple[int, int]], source: ReferenceSource, place: str) -> None:
    if not sizes:
        raise InputError(f"{place}: {source.name} holds no pictures that can be read")
    if len(sizes) > 1:
        common = ", ".join(f"{width}x{height} ({n})" for (height, width), n in sizes.most_common(4))
        raise InputError(
            f"{place}: {source.name} holds pictures of {len(sizes)} sizes: {common}; say what to do with them, for "
            "example `size: 256, crop: center`"
        )
