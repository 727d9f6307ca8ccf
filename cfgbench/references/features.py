"""What an encoder made of a reference set, kept between runs: in parts, so that a run that is broken off goes on."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfgbench import cache
from cfgbench.cell import digest
from cfgbench.errors import InputError
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.references import survey
from cfgbench.references.pictures import Pictures
from cfgbench.references.source import ReferenceSource

PART = survey.CHUNK
_KEPT = "features"  # arrays whose names begin so; nothing else is asked of a reference


class Kept(NamedTuple):
    """Which features: of these pictures, whose content has this digest, by this encoder."""

    source: ReferenceSource
    pictures: Pictures
    content: str
    encoder: EncoderRef

    @property
    def starts(self) -> range:
        """The first picture of each part."""
        return range(0, survey.total(self.source, self.pictures), PART)

    def file(self, start: int) -> Path:
        """Where a part is kept."""
        name = digest([survey.VERSION, self.content, self.encoder.digest])
        return cache.home() / "features" / name / f"{start:07d}.npz"


def missing(kept: Kept) -> Iterator[int]:
    """The first picture of each part that is not kept."""
    yield from (start for start in kept.starts if not kept.file(start).is_file())


def part(kept: Kept, start: int, device: str) -> dict[str, np.ndarray]:
    """The features of a part by name, (n, d) each: as kept, or encoded and kept."""
    file = kept.file(start)
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        arrays = _encoded(kept, start, device)
    with io.BytesIO() as content:
        np.savez(content, **arrays)  # type: ignore[arg-type]
        cache.keep(file, content.getvalue())
    return arrays


def load(kept: Kept, needs: str, device: str) -> np.ndarray:
    """All features of a name, (n, d)."""
    parts = [part(kept, start, device) for start in kept.starts]
    return np.concatenate([found[needs] for found in parts if found])


def _encoded(kept: Kept, start: int, device: str) -> dict[str, np.ndarray]:
    """Nothing where none of the part can be read."""
    found = survey.read(kept.source, kept.pictures, start, start + PART)
    readable = [picture.transpose(2, 0, 1) for picture in found if not isinstance(picture, InputError)]
    if not readable:
        return {}
    samples = _channels(np.stack(readable), kept.encoder)
    made = kept.encoder.encode(samples, np.zeros(len(samples), dtype=np.int64), {}, device)
    return {name: value for name, value in made.items() if name.startswith(_KEPT)}


def _channels(samples: np.ndarray, encoder: EncoderRef) -> np.ndarray:
    """Pictures with as many channels as the encoder reads; InputError where they do not suit it."""
    wanted = encoder.entry.images or (3, None, None)
    have = (1 if wanted[0] == 1 and (samples == samples[:, :1]).all() else 3, *samples.shape[2:])
    if any(want is not None and want != value for want, value in zip(wanted, have, strict=True)):
        size = "x".join(str(side or "any") for side in reversed(wanted))
        text = f"{have[2]}x{have[1]}x{have[0]}, and encoder {encoder} reads {size} (width x height x channels)"
        raise InputError(f"the reference pictures are {text}")
    return samples[:, : wanted[0]]
