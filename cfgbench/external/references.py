"""What samples made elsewhere are compared with: a named reference set, images, features, or a mean and covariance.

ADM's reference files hold `mu` and `sigma` of many images, and in `arr_0` 10,000 images for precision and recall
(github.com/openai/guided-diffusion, evaluations). Both come from ADM's own Inception network: they are comparable with
features of that network only.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cfgbench.errors import InputError
from cfgbench.external import arrays
from cfgbench.external.arms import FeatureFile, open_source
from cfgbench.external.encoding import FEATURES, check, encode, image_encoder, one_thread
from cfgbench.metrics import Reference
from cfgbench.registry import ENCODERS, REFERENCES, resolve


@dataclass(frozen=True)
class Half:
    """One reference set: its name, the digest of its content, the ending of its columns, and how to encode it."""

    name: str
    digest: str
    ending: str
    make: Callable[[], Reference]

    @cached_property
    def reference(self) -> Reference:
        """The set as metrics need it, made when first asked for."""
        return self.make()


def load(text: str, encoder: str) -> list[Half]:
    """The reference sets behind a name or a path, encoded."""
    if text in REFERENCES:
        return [_named(text, half, encoder) for half in REFERENCES[text].halves]
    path = Path(text)
    if not path.exists():
        names = ", ".join(name for name in REFERENCES if name in ENCODERS and ENCODERS[name].images)
        raise InputError(f"no reference {text!r}; give a name ({names}), a folder of images or an .npz file")
    if path.suffix.lower() == ".npz" and _is_moments(path, encoder):
        return [_moments(path)]
    source, _ = open_source(path)
    check(source, encoder, text)
    content = hashlib.sha256("".join(source.digests).encode()).hexdigest()[:16]
    return [Half(path.name, content, "", lambda: Reference(encode(source, None, encoder, text)["features"]))]


def is_features(text: str) -> bool:
    """Whether a reference is a feature file, or moments, so that no encoder is needed."""
    path = Path(text)
    if text in REFERENCES or path.suffix.lower() != ".npz":
        return False
    return _is_moments(path, FEATURES) or isinstance(open_source(path)[0], FeatureFile)


def _named(name: str, half: str, encoder: str) -> Half:
    if encoder == FEATURES:
        raise InputError(f"--encoder {FEATURES} needs a reference with features; {name} is a set of images")
    entry = image_encoder(encoder, "--encoder")
    samples, labels = resolve(REFERENCES[name].target)(half, {})
    wanted = entry.images or ()
    if samples.ndim != 4 or any(w is not None and w != h for w, h in zip(wanted, samples.shape[1:], strict=True)):
        raise InputError(f"reference {name!r} holds samples of {samples.shape[1:]}, which {encoder!r} cannot read")
    content = hashlib.sha256(samples.tobytes() + labels.tobytes()).hexdigest()[:16]

    def make() -> Reference:
        with one_thread():
            return Reference(resolve(entry.target)(samples, labels, {}).features)

    return Half(f"{name}-{half}", content, "" if half == "heldout" else f"_{half}", make)


def _is_moments(path: Path, encoder: str) -> bool:
    """Whether mu and sigma are to be used: where nothing else is there, or where features are all we have."""
    present = set(arrays.members(path))
    usable = {"features"} if encoder == FEATURES else {"features", "arr_0"}
    return {"mu", "sigma"} <= present and not usable & present


def _moments(path: Path) -> Half:
    found = arrays.read(path, ("mu", "sigma"))
    mean, covariance = (np.asarray(found[name], dtype=np.float64) for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or not np.isfinite(covariance).all():
        raise InputError(f"mu and sigma in {path} are {mean.shape} and {covariance.shape}; need (d,) and (d, d)")
    return Half(path.name, arrays.content_digest(path), "", lambda: Reference(moments=(mean, covariance)))
