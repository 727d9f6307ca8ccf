"""An encoder with its settings, as an experiment names it: what it provides, and from which weights. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench import plugins
from cfgbench.assets.weight_files import file_digest
from cfgbench.cell import canonical_json, digest
from cfgbench.entries import Encoder
from cfgbench.errors import InputError, shown
from cfgbench.planning import axes
from cfgbench.registry import ENCODERS, resolve

ELSEWHERE = "features"  # in the place of a name: features that were computed elsewhere, by whatever network
_ELSEWHERE = Encoder(target="", provides=("features", "log_probs", "clip_scores"), files=None)


@dataclass(frozen=True)
class EncoderRef:
    """A name of the registry, and parameters that are not at their defaults."""

    name: str
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def entry(self) -> Encoder:
        """What the registry says of it."""
        return _ELSEWHERE if self.name == ELSEWHERE else ENCODERS[self.name]

    @property
    def settings(self) -> dict[str, Any]:
        """Its parameters but for those that say where its files are."""
        if self.entry.settings is not None:
            return dict(resolve(self.entry.settings)(**self._all))
        return {key: value for key, value in self._all.items() if not self.entry.parameters[key].location}

    def files(self) -> Mapping[str, Path]:
        """The weight file behind each thing it provides; ValueError where one is missing."""
        return resolve(self.entry.files)(**self._all) if self.entry.files else {}

    def digests(self) -> dict[str, str]:
        """Digests of those files."""
        return {name: file_digest(file) for name, file in self.files().items()}

    def identity(self, provided: str) -> dict[str, str | int | float]:
        """What a score must say of its encoder: name, settings, source of a plug-in, weights."""
        said: dict[str, str | int | float] = {"encoder": self.name}
        said |= {f"encoder_{key}": value for key, value in self.settings.items()}
        if self.entry.digest is not None:
            said["encoder_source"] = self.entry.digest
        weights = self.digests()
        return said | ({"encoder_digest": weights[provided]} if provided in weights else {})

    @property
    def digest(self) -> str:
        """Names what its output depends on, beside the pictures."""
        return digest([self.name, self.settings, self.entry.digest, self.digests()])

    def encode(
        self, samples: np.ndarray, asked: np.ndarray, parameters: Mapping[str, Any], device: str
    ) -> dict[str, np.ndarray]:
        """What it provides of samples (n, ...), given the class number or prompt (n,) of each."""
        place = {"device": device} if self.entry.on_device else {}
        encoded = resolve(self.entry.target)(samples, asked, parameters, **self._all, **place)
        return {name: value for name, value in encoded._asdict().items() if value is not None}

    @property
    def _all(self) -> dict[str, Any]:
        return {key: parameter.default for key, parameter in self.entry.parameters.items()} | dict(self.given)

    def __str__(self) -> str:
        return " ".join([self.name, *(str(value) for _, value in self.given)])


def parse(raw: object, place: str) -> EncoderRef:
    """The encoder that a user names, `inception` or `{name: clip, model: ViT-B-32}`; raises InputError."""
    body = {"name": raw} if isinstance(raw, str) else raw
    if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
        raise InputError(f"{place} = {shown(raw)}; an encoder is a name or {{name: ..., parameter: value}}")
    name = str(body["name"])
    plugins.check("encoder", name, place)
    given = {key: value for key, value in body.items() if key != "name"}
    checked = axes.parameters(given, ENCODERS[name].parameters, place)
    encoder = EncoderRef(name, tuple(sorted(checked.items())))
    try:
        encoder.files()
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    return encoder


def together(raw: Sequence[object], places: Sequence[str]) -> tuple[EncoderRef, ...]:
    """Several encoders; InputError where two provide the same."""
    found = tuple(map(parse, raw, places))
    owners: dict[str, EncoderRef] = {}
    for encoder, place in zip(found, places, strict=True):
        for provided in encoder.entry.provides:
            other = owners.setdefault(provided, encoder)
            if other is not encoder:
                raise InputError(f"{place}: {encoder} provides {provided}, as {other} does; leave one out")
    return found


def provider(encoders: Sequence[EncoderRef], needs: str) -> EncoderRef | None:
    """The first encoder that provides something."""
    return next((encoder for encoder in encoders if needs in encoder.entry.provides), None)


def encode(
    encoders: Sequence[EncoderRef], samples: np.ndarray, asked: np.ndarray, parameters: Mapping[str, Any], device: str
) -> dict[str, np.ndarray]:
    """What several encoders provide; the first counts where two provide the same."""
    found: dict[str, np.ndarray] = {}
    for encoder in encoders:
        found = encoder.encode(samples, asked, parameters, device) | found
    return found


def key(encoder: EncoderRef) -> str:
    """An encoder as text, for caches."""
    return canonical_json([encoder.name, dict(encoder.given)])
