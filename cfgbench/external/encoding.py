"""Sources -> the arrays that scores are made of, one row per sample in the source's own order."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from cfgbench import health
from cfgbench.errors import InputError, unknown
from cfgbench.external.arms import FeatureFile, Source
from cfgbench.records import Health
from cfgbench.registry import ENCODERS, Encoder, resolve
from cfgbench.weight_files import file_digest

FEATURES = "features"  # in the place of an encoder: only feature files, of whatever network


def image_encoder(name: str, place: str) -> Encoder:
    """An encoder that reads images, by name."""
    able = {key: entry for key, entry in ENCODERS.items() if entry.images is not None}
    if name not in able:
        raise unknown("encoder", name, place, able)
    return able[name]


def encoder_digests(name: str) -> dict[str, str]:
    """Digests of the weights behind each thing an encoder provides; none where nothing is known of the network."""
    files = ENCODERS[name].files if name in ENCODERS else None
    return {provided: file_digest(path) for provided, path in resolve(files)().items()} if files else {}


def check(source: Source, encoder: str, place: str) -> None:
    """Raise InputError where the encoder cannot read a source."""
    if isinstance(source, FeatureFile):
        return
    if encoder == FEATURES:
        raise InputError(f"{place} holds images, and --encoder {FEATURES} takes feature files only; name an encoder")
    wanted = image_encoder(encoder, "--encoder").images
    if wanted is None:
        return
    if any(want is not None and want != have for want, have in zip(wanted[1:], source.size, strict=True)):
        height, width = source.size
        raise InputError(
            f"{place} holds images of {width}x{height}; encoder {encoder!r} reads {wanted[2]}x{wanted[1]} only, "
            "and nothing is resized silently"
        )


def encode(source: Source, labels: np.ndarray | None, encoder: str, place: str) -> dict[str, np.ndarray]:
    """Features and what else metrics read, health and content hashes; (n, ...) each.

    Without class numbers (n,) there are no CLIP scores, which compare a sample with its class.
    """
    if isinstance(source, FeatureFile):
        return _given(source)
    wanted = image_encoder(encoder, "--encoder").images
    known = np.zeros(source.count, dtype=np.int64) if labels is None else labels
    parts, start = [], 0
    with one_thread():
        for images in source.chunks(wanted[0] if wanted else 3):
            parts.append(_encode(images, known[start : start + len(images)], encoder, place))
            start += len(images)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if labels is None:
        arrays.pop("clip_scores", None)
    return arrays


def _encode(images: np.ndarray, labels: np.ndarray, encoder: str, place: str) -> dict[str, np.ndarray]:
    try:
        encoded = resolve(ENCODERS[encoder].target)(images, labels, {})
    except IndexError:
        raise InputError(
            f"{place}: class numbers up to {labels.max()} are not all classes of encoder {encoder!r}"
        ) from None
    known = {name: value for name, value in encoded._asdict().items() if value is not None}
    return known | health.examine(images, images) | {"pixels": health.pixel_hashes(images)}


def _given(source: FeatureFile) -> dict[str, np.ndarray]:
    content = {name: value for name, value in source.content.items() if name != "labels"}
    zeros = {name: np.zeros(source.count, dtype=np.int64) for name in Health.model_fields}
    finite = np.all([np.isfinite(value.reshape(source.count, -1)).all(1) for value in content.values()], axis=0)
    return content | zeros | {"nan": ~finite, "pixels": health.pixel_hashes(content["features"])}


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, as in a worker, so that features do not depend on the number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
