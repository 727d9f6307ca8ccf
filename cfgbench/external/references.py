"""What samples made elsewhere are compared with: a reference set as experiments name it, or a feature file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfgbench.errors import InputError
from cfgbench.external import arrays
from cfgbench.external.arms import FeatureFile
from cfgbench.planning import yaml_text
from cfgbench.planning.encoder_refs import ELSEWHERE, EncoderRef
from cfgbench.references import sets, source, statistics_file
from cfgbench.references.sets import Asked, NamedSet, PictureSet, ReferenceSetRef
from cfgbench.registry import REFERENCES, resolve
from cfgbench.scores.metrics import Reference

PLACE = "--reference"


@dataclass(frozen=True)
class FeatureSet:
    """An npz of features that were computed elsewhere, or of their mean and covariance, by whatever network."""

    path: Path

    @property
    def name(self) -> str:
        """What people know it by."""
        return self.path.name

    @property
    def halves(self) -> Sequence[str]:
        """The one there is."""
        return ("heldout",)

    @property
    def notes(self) -> Iterator[str]:
        """What a mean and a covariance are good for."""
        if "features" not in arrays.members(self.path):
            yield sets.moments_note(self.name)

    def has_moments(self, encoder: EncoderRef, needs: str) -> bool:
        """Whether a mean and a covariance are all there is."""
        return needs == "features" and "features" not in arrays.members(self.path)

    def serves(self, asked: Asked) -> bool:
        """Whether it holds features, or moments that are enough."""
        return asked.needs == "features" and (asked.moments or "features" in arrays.members(self.path))

    def identity(self, asked: Asked) -> dict[str, str | int]:
        """Its name, and the digest of the file."""
        return {"reference": self.name, "reference_digest": arrays.content_digest(self.path)}

    def load(self, asked: Asked) -> Reference:
        """Its features or moments."""
        if asked.moments:
            return Reference(moments=statistics_file.read(self.path))
        return Reference(FeatureFile(self.path).content["features"])

    def missing(self, asked: Asked) -> Iterator[int]:
        """Nothing is encoded."""
        yield from ()

    def prepare(self, asked: Asked, start: int) -> None:
        """Nothing to do."""


def load(text: str, encoders: Sequence[EncoderRef]) -> ReferenceSetRef:
    """The reference set behind a name, a path or a mapping in braces, checked against the encoders."""
    elsewhere = [encoder.name for encoder in encoders] == [ELSEWHERE]
    if is_features(text) and (elsewhere or "features" in arrays.members(Path(text))):
        return FeatureSet(Path(text))
    found = _named_or_pictures(text, PLACE)
    if elsewhere:
        raise InputError(f"--encoder {ELSEWHERE} needs a reference with features; {found.name} is a set of images")
    if isinstance(found, NamedSet):
        for encoder in encoders:
            _check_named(found, encoder)
    if isinstance(found, PictureSet) and not found.pictures.count:
        _check_moments(found, encoders)
    return found


def pictures(text: str, place: str) -> PictureSet:
    """The pictures behind a path or a mapping in braces; raises InputError."""
    found = _named_or_pictures(text, place)
    if not isinstance(found, PictureSet) or not found.pictures.count:
        raise InputError(f"{place} {text}: that is no set of pictures on a disk")
    return found


def _named_or_pictures(text: str, place: str) -> ReferenceSetRef:
    given = source.parse(yaml_text.mapping(text, place), place) if text.startswith("{") else text
    return sets.find(given, Path(), place)


def is_features(text: str) -> bool:
    """Whether a reference is a feature file, or moments alone, so that no encoder is needed."""
    path = Path(text)
    if text in REFERENCES or path.suffix.lower() != ".npz" or not path.is_file():
        return False
    present = arrays.members(path).keys()
    return "features" in present or ({"mu", "sigma"} <= present and "arr_0" not in present)


def _check_named(found: NamedSet, encoder: EncoderRef) -> None:
    """Raise InputError where an encoder cannot read the samples of a named set."""
    samples, _ = resolve(REFERENCES[found.name].target)(found.halves[0], {})
    wanted = encoder.entry.images or ()
    sizes = zip(wanted, samples.shape[1:], strict=True) if samples.ndim == 1 + len(wanted) else [(0, 1)]
    if any(want is not None and want != have for want, have in sizes):
        shape = samples.shape[1:]
        raise InputError(f"reference {found.name!r} holds samples of {shape}, which encoder {encoder} cannot read")


def _check_moments(found: PictureSet, encoders: Sequence[EncoderRef]) -> None:
    """Raise InputError where a mean and a covariance are of no encoder that is asked."""
    if not any(found.has_moments(encoder, needs) for encoder in encoders for needs in encoder.entry.provides):
        names = " and ".join(map(str, encoders))
        raise InputError(
            f"{found.name} holds a mean and a covariance, which are taken to be of the Inception of the FID unless "
            f"`encoder` in it says otherwise, and features of encoder {names} are others"
        )
