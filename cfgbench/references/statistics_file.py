"""Mean and covariance of a reference set in an .npz, as ADM, EDM, clean-fid and pytorch-fid keep them: `mu`, `sigma`.

Files that others wrote are taken to be of the FID's Inception, as they are in practice; ours say in `encoder` what they
are of, which must agree.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench.errors import InputError, shown
from cfgbench.external import arrays
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.scores.metrics import Reference

FID_ENCODER = "inception"


def has_moments(path: Path, encoder: EncoderRef, needs: str) -> bool:
    """Whether a file holds a mean and a covariance of what this encoder provides as `needs`; InputError of another."""
    if path.suffix != ".npz":
        return False
    present = arrays.members(path)
    if not {"mu", "sigma"} <= present.keys():
        return False
    if "encoder" not in present:
        return encoder.name == FID_ENCODER and needs == "features"
    said, mine = _parsed(path), _identity(encoder, needs)
    if said.get("encoder") != encoder.name or said.get("provides") != needs:
        return False
    changed = [key for key in {**said, **mine} if said.get(key) != mine.get(key)]
    if changed:
        ours, theirs = shown(mine.get(changed[0])), shown(said.get(changed[0]))
        raise InputError(f"mu and sigma in {path} are of {changed[0]} {theirs}; encoder {encoder} here has {ours}")
    return True


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The mean (d,) and the covariance (d, d)."""
    found = arrays.read(path, ("mu", "sigma"))
    mean, covariance = (np.asarray(found[name], dtype=np.float64) for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or not np.isfinite(covariance).all():
        raise InputError(f"mu and sigma in {path} are {mean.shape} and {covariance.shape}; need (d,) and (d, d)")
    return mean, covariance


def digest(path: Path) -> str:
    """16 hex digits that name the moments."""
    return hashlib.sha256(b"".join(part.tobytes() for part in read(path))).hexdigest()[:16]


def write(path: Path, reference: Reference, encoder: EncoderRef, needs: str, images: np.ndarray | None = None) -> None:
    """Write mu, sigma and what they are of; with `images` (n, height, width, 3) also `arr_0`, as ADM's files have."""
    content: Mapping[str, Any] = {
        "mu": reference.mean,
        "sigma": reference.covariance,
        "encoder": np.array(json.dumps(_identity(encoder, needs), sort_keys=True)),
        **({} if images is None else {"arr_0": images}),
    }
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as stream:
        np.savez(stream, **content)
    temporary.replace(path)


def _identity(encoder: EncoderRef, needs: str) -> dict[str, str | int | float]:
    return {**encoder.identity(needs), "provides": needs}


def _parsed(path: Path) -> dict[str, Any]:
    text = str(arrays.read(path, ("encoder",))["encoder"])
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise InputError(f"encoder in {path} is {shown(text)}, which cfgbench did not write")
    return said
