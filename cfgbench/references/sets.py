"""The two kinds of reference sets behind one interface: what they are called, what is in them, and their features."""

import hashlib
import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from cfgbench.entries import Metric
from cfgbench.errors import InputError
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.references import features, source, statistics_file, survey
from cfgbench.references.pictures import Npz, Pictures
from cfgbench.references.source import ReferenceSource
from cfgbench.registry import REFERENCES, resolve
from cfgbench.scores.metrics import Reference


class Asked(NamedTuple):
    """What a score asks of a reference set."""

    half: str
    needs: str  # features, or features_... of a named encoder
    moments: bool  # a mean and a covariance, which the set has, are enough
    encoder: EncoderRef
    parameters: str  # of the model, as JSON: some sets depend on them
    device: str = "cpu"


class ReferenceSetRef(Hashable, Protocol):
    """What generated samples are compared with."""

    @property
    def name(self) -> str:
        """What people know it by."""

    @property
    def halves(self) -> Sequence[str]:
        """Parts that samples are compared with one by one; scores against `heldout` have the plain name."""

    @property
    def notes(self) -> Iterator[str]:
        """What a user should know of it."""

    def has_moments(self, encoder: EncoderRef, needs: str) -> bool:
        """Whether it holds a mean and a covariance of what the encoder provides."""

    def serves(self, asked: Asked) -> bool:
        """Whether it holds what is asked."""

    def identity(self, asked: Asked) -> dict[str, str | int]:
        """What must agree before two scores against it may share a column."""

    def load(self, asked: Asked) -> Reference:
        """What metrics read of it."""

    def missing(self, asked: Asked) -> Iterator[int]:
        """The first picture of each part that is to be encoded before."""

    def prepare(self, asked: Asked, start: int) -> None:
        """Encode such a part, and keep it."""


@dataclass(frozen=True)
class NamedSet:
    """A reference set of the registry."""

    name: str

    @property
    def halves(self) -> Sequence[str]:
        """Scores against `heldout` have the plain name."""
        return REFERENCES[self.name].halves

    @property
    def notes(self) -> Iterator[str]:
        """Nothing to say."""
        yield from ()

    def has_moments(self, encoder: EncoderRef, needs: str) -> bool:
        """It has samples."""
        return False

    def serves(self, asked: Asked) -> bool:
        """Samples serve all."""
        return True

    def identity(self, asked: Asked) -> dict[str, str | int]:
        """Its name, and the digest of its samples and labels."""
        content = _named_digest(self.name, asked.half, asked.parameters)
        return {"reference": f"{self.name}-{asked.half}", "reference_digest": content}

    def load(self, asked: Asked) -> Reference:
        """Its features."""
        parameters = json.loads(asked.parameters)
        samples, labels = resolve(REFERENCES[self.name].target)(asked.half, parameters)
        return Reference(asked.encoder.encode(samples, labels, parameters, asked.device)[asked.needs])

    def missing(self, asked: Asked) -> Iterator[int]:
        """Nothing is prepared beforehand."""
        yield from ()

    def prepare(self, asked: Asked, start: int) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class PictureSet:
    """Pictures on a disk, or their mean and covariance, or both."""

    source: ReferenceSource
    pictures: Pictures
    place: str

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.source.name

    @property
    def halves(self) -> Sequence[str]:
        """The one there is."""
        return ("heldout",)

    @property
    def survey(self) -> survey.Survey:
        """Its content, counted."""
        return survey.survey(self.source, self.pictures, self.place)

    @property
    def notes(self) -> Iterator[str]:
        """How many pictures there are, and what is peculiar."""
        if not self.pictures.count:
            yield moments_note(self.name)
            return
        found = self.survey
        size = f"{found.width}x{found.height}" + (f" ({self.source.fitted})" if self.source.fitted else "")
        yield "; ".join([f"reference {self.name}: {found.count} pictures of {size}", *found.notes])

    def has_moments(self, encoder: EncoderRef, needs: str) -> bool:
        """Whether it holds a mean and a covariance of what the encoder provides."""
        return isinstance(self.pictures, Npz) and statistics_file.has_moments(self.pictures.file, encoder, needs)

    def serves(self, asked: Asked) -> bool:
        """Whether there are pictures, or moments that are enough."""
        return asked.moments or self.pictures.count > 0

    def identity(self, asked: Asked) -> dict[str, str | int]:
        """Its name, the digest of what is compared with, how many pictures those are, and how they got their size."""
        if asked.moments:
            return {"reference": self.name, "reference_digest": statistics_file.digest(self.pictures.files[0])}
        fitted = {"reference_fitted": self.source.fitted} if self.source.fitted else {}
        found = self.survey
        size: dict[str, str | int] = {"reference_count": found.count, "reference_size": f"{found.width}x{found.height}"}
        return {"reference": self.name, "reference_digest": found.digest, **size, **fitted}

    def load(self, asked: Asked) -> Reference:
        """Its moments where they are enough, or else its features, kept between runs."""
        if asked.moments:
            return Reference(moments=statistics_file.read(self.pictures.files[0]))
        return Reference(features.load(self._kept(asked.encoder), asked.needs, asked.device))

    def read(self, count: int) -> Iterator[np.ndarray]:
        """The first pictures that can be read, (height, width, 3) each."""
        found = survey.read(self.source, self.pictures, 0, self.pictures.count)
        yield from islice((picture for picture in found if not isinstance(picture, InputError)), count)

    def missing(self, asked: Asked) -> Iterator[int]:
        """The first picture of each part whose features are not kept."""
        if not asked.moments:
            yield from features.missing(self._kept(asked.encoder))

    def prepare(self, asked: Asked, start: int) -> None:
        """Encode a part and keep it."""
        features.part(self._kept(asked.encoder), start, asked.device)

    def _kept(self, encoder: EncoderRef) -> features.Kept:
        return features.Kept(self.source, self.pictures, self.survey.digest, encoder)


def find(given: str | ReferenceSource, folder: Path, place: str) -> ReferenceSetRef:
    """The set that is named in a file of `folder`: of the registry, or on the disk; raises InputError."""
    if isinstance(given, str) and given in REFERENCES:
        return NamedSet(given)
    described = ReferenceSource(path=given) if isinstance(given, str) else given
    return PictureSet(described, source.find(described, folder, place), place)


def ask(
    reference: ReferenceSetRef, half: str, metric: Metric, encoder: EncoderRef, parameters: str, device: str = "cpu"
) -> Asked:
    """What a metric asks of a reference set for a model with these parameters."""
    moments = metric.moments and reference.has_moments(encoder, metric.needs)
    return Asked(half, metric.needs, moments, encoder, parameters, device)


def features_of(encoder: EncoderRef, device: str) -> Asked:
    """What the statistics of a set are made of: the features that an encoder provides; InputError of one without."""
    needs = next((name for name in encoder.entry.provides if name.startswith("features")), None)
    if needs is None:
        raise InputError(f"encoder {encoder} provides no features, of which there could be a mean")
    return Asked("heldout", needs, False, encoder, "{}", device)


def moments_note(name: str) -> str:
    """What to know of a reference without pictures."""
    return f"reference {name}: a mean and a covariance, of which FID alone can be computed"


@lru_cache(maxsize=8)
def load(reference: ReferenceSetRef, asked: Asked) -> Reference:
    """A reference set with what metrics compute of it, made once per process."""
    return reference.load(asked)


@lru_cache(maxsize=64)
def _named_digest(name: str, half: str, parameters: str) -> str:
    samples, labels = resolve(REFERENCES[name].target)(half, json.loads(parameters))
    return hashlib.sha256(samples.tobytes() + labels.tobytes()).hexdigest()[:16]
