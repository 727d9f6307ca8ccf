"""Sources -> the arrays that scores are made of, one row per sample in the source's own order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from cfgbench.errors import InputError, unknown
from cfgbench.external.arms import FeatureFile, Source
from cfgbench.external.layout import Items
from cfgbench.generation import health
from cfgbench.planning import encoder_refs, yaml_text
from cfgbench.planning.encoder_refs import ELSEWHERE, EncoderRef
from cfgbench.records import Health
from cfgbench.registry import ENCODERS

PLACE = "--encoder"


def parse(texts: Sequence[str]) -> tuple[EncoderRef, ...]:
    """The encoders of images that are named, or the one that stands for features computed elsewhere."""
    if list(texts) == [ELSEWHERE]:
        return (EncoderRef(ELSEWHERE),)
    able = [name for name, entry in ENCODERS.items() if entry.images is not None]
    for text in texts:
        if not text.startswith("{") and text not in able:
            raise unknown("encoder", text, PLACE, able)
    return encoder_refs.together(
        [yaml_text.mapping(text, PLACE) if text.startswith("{") else text for text in texts], [PLACE] * len(texts)
    )


def check(source: Source, encoder: EncoderRef, place: str) -> None:
    """Raise InputError where an encoder cannot read a source."""
    if isinstance(source, FeatureFile):
        return
    if encoder.name == ELSEWHERE:
        raise InputError(f"{place} holds images, and {PLACE} {ELSEWHERE} takes feature files only; name an encoder")
    wanted = encoder.entry.images
    if wanted is None:
        raise InputError(f"{PLACE} {encoder} reads no images")
    if any(want is not None and want != have for want, have in zip(wanted[1:], source.size, strict=True)):
        height, width = source.size
        raise InputError(
            f"{place} holds images of {width}x{height}; encoder {encoder} reads {wanted[2]}x{wanted[1]} only, "
            "and nothing is resized silently"
        )


def channels(encoders: Sequence[EncoderRef]) -> int:
    """How many channels pictures are read with: colour, unless all that is asked is grey."""
    return max(encoder.entry.images[0] if encoder.entry.images else 3 for encoder in encoders)


def encode(
    source: Source, items: Items, encoders: Sequence[EncoderRef], device: str, place: str
) -> dict[str, np.ndarray]:
    """Features and what else metrics read, health and content hashes; (n, ...) each.

    Samples without class numbers or prompts have no CLIP scores, which compare a sample with its class or prompt.
    """
    if isinstance(source, FeatureFile):
        return _given(source)
    parts, start = [], 0
    with one_thread():
        for images in source.chunks(channels(encoders)):
            chunk = slice(start, start + len(images))
            found: dict[str, np.ndarray] = {}
            for encoder in encoders:
                found = _encode(images, items, chunk, encoder, device, place) | found
            parts.append(found | health.examine(images, images) | {"pixels": health.pixel_hashes(images)})
            start += len(images)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def class_numbers(items: Items) -> np.ndarray | None:
    """Labels (n,) where they are the encoder's class numbers; None for names."""
    known = items.labels is not None and all(isinstance(label, int) for label in items.labels)
    return np.asarray(items.labels, dtype=np.int64) if known else None


def _encode(
    images: np.ndarray, items: Items, chunk: slice, encoder: EncoderRef, device: str, place: str
) -> dict[str, np.ndarray]:
    """What one encoder provides of a chunk of a source's images."""
    numbers = class_numbers(items)
    labels = np.zeros(len(images), dtype=np.int64) if numbers is None else numbers[chunk]
    prompted = encoder.entry.prompts and items.prompts is not None
    asked = np.array(items.prompts[chunk]) if prompted and items.prompts else labels
    try:
        with sentences(str(encoder)):
            found = encoder.encode(images[:, : channels([encoder])], asked, {}, device)
    except IndexError:
        raise InputError(
            f"{place}: class numbers up to {labels.max()} are not all classes of encoder {encoder}"
        ) from None
    if numbers is None and not prompted:
        found.pop("clip_scores", None)
    return found


def _given(source: FeatureFile) -> dict[str, np.ndarray]:
    content = {name: value for name, value in source.content.items() if name != "labels"}
    zeros = {name: np.zeros(source.count, dtype=np.int64) for name in Health.model_fields}
    finite = np.all([np.isfinite(value.reshape(source.count, -1)).all(1) for value in content.values()], axis=0)
    return content | zeros | {"nan": ~finite, "pixels": health.pixel_hashes(content["features"])}


@contextmanager
def sentences(encoder: str) -> Iterator[None]:
    """Turn what an encoder says of its weight files into what a user reads."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{PLACE} {encoder}: {error}") from None


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
