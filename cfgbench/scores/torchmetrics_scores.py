"""Scores by torchmetrics, fed with features through networks that pass them on. The global generator is left alone."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfgbench.testbeds.digits_captions import tokenize

ClipLoader = Callable[[], tuple[nn.Module, Callable[..., dict[str, Tensor]]]]


def fid(reference: np.ndarray, features: np.ndarray) -> float:
    """Frechet distance of features (n, d) to a reference (m, d)."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=PassThrough(features.shape[1]))
    return _compare(metric, reference, features)


def kid(reference: np.ndarray, features: np.ndarray) -> float:
    """Unbiased squared kernel distance of features (n, d) to as many reference features (n, d)."""
    from torchmetrics.image.kid import KernelInceptionDistance

    with _quiet():
        metric = KernelInceptionDistance(PassThrough(features.shape[1]), subsets=1, subset_size=len(features))
        return _compare(metric, reference, features)


def kid_of_subsets(reference: np.ndarray, features: np.ndarray, subset: int) -> float:
    """The mean over a hundred random subsets of features (n, d) and of reference features (m, d), as is the default."""
    from torchmetrics.image.kid import KernelInceptionDistance

    with _quiet():
        metric = KernelInceptionDistance(PassThrough(features.shape[1]), subset_size=subset)
        return _compare(metric, reference, features)


def inception_score(log_probs: np.ndarray) -> float:
    """Inception score over one split of log-probabilities (n, classes)."""
    from torchmetrics.image.inception import InceptionScore

    with _quiet(), torch.random.fork_rng(devices=[]):
        metric = InceptionScore(feature=PassThrough(log_probs.shape[1]), splits=1).set_dtype(torch.float64)
        metric.update(_tensor(log_probs))
        return float(metric.compute()[0])


def clip_score(load: ClipLoader, batches: Sequence[np.ndarray], captions: Sequence[str]) -> float:
    """Mean of 100 cos(image, caption) of uint8 images (n, c, h, w) in batches."""
    from torchmetrics.multimodal.clip_score import CLIPScore

    metric, start = CLIPScore(load), 0  # type: ignore[arg-type]  # any callable with these two methods will do
    for images in batches:
        metric.update(torch.from_numpy(images), list(captions[start : start + len(images)]))
        start += len(images)
    return float(metric.compute())


def digits_clip() -> tuple[nn.Module, Callable[..., dict[str, Tensor]]]:
    """The tiny CLIP of digits and its preparation of uint8 images and captions."""
    from cfgbench.testbeds import digits_encoders as encoders
    from cfgbench.testbeds.digits_data import CLIP, weight_path

    def prepare(
        text: list[str] | None = None, images: Sequence[Tensor] | None = None, **_: object
    ) -> dict[str, Tensor]:
        if images is not None:
            return {"pixel_values": (torch.stack(list(images)).float() / 127.5 - 1).expand(-1, 3, -1, -1)}
        tokens = torch.from_numpy(tokenize(text or []))
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    return OpenClip(encoders.load_clip(weight_path(CLIP))).eval(), prepare


class PassThrough(nn.Module):
    """A feature network that is fed with features."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        return features


class OpenClip(nn.Module):
    """An open_clip model as torchmetrics calls one of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, object()

    @torch.no_grad()
    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(pixel_values)
        return features

    @torch.no_grad()
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        features: Tensor = self.model.encode_text(input_ids)
        return features


def _compare(metric: Any, reference: np.ndarray, features: np.ndarray) -> float:
    metric.set_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]):
        metric.update(_tensor(reference), real=True)
        metric.update(_tensor(features), real=False)
        result = metric.compute()
    return float(result[0] if isinstance(result, tuple) else result)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


def _quiet() -> AbstractContextManager[object]:
    """Without advice on memory, and on the spread of a single split or subset."""
    return warnings.catch_warnings(action="ignore")
