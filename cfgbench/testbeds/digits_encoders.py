"""What scores digits: features and class probabilities by FeatureNet, image-caption agreement by a tiny CLIP.

Both read uint8 images (n, 1, 8, 8), reference and generated alike, and are loaded once.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from cfgbench.generation.pixels import from_uint8
from cfgbench.models.digits_networks import FeatureNet
from cfgbench.testbeds.digits_captions import NUMERALS, SCORED_TEMPLATE, tokenize
from cfgbench.testbeds.digits_data import CLIP, FEATURES, WEIGHTS, require_weights, weight_path

CLIP_CONFIG = WEIGHTS / "digits-clip.json"
CHUNK = 1000  # images per pass, to bound memory


@torch.inference_mode()
def features(images: np.ndarray, name: str = FEATURES) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 64) and log class probabilities (n, 10), both float32, of uint8 images (n, 1, 8, 8).

    `name` is the network: "features" (trained on all digits) or "features-half-a" (half A alone).
    """
    network = load_feature_net(require_weights(weight_path(name)))
    outputs = [network(chunk) for chunk in _chunks(images)]
    vectors, logits = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    return vectors.numpy(), logits.log_softmax(dim=1).numpy()


@torch.inference_mode()
def clip_scores(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """100 cos(image, "a photo of the digit <label>"), (n,) float32, of uint8 images (n, 1, 8, 8)."""
    model = load_clip(require_weights(weight_path(CLIP)))
    image_vectors = torch.cat([encode_images(model, chunk) for chunk in _chunks(images)])
    return (100 * (image_vectors * class_vectors(model)[torch.from_numpy(labels)]).sum(dim=1)).numpy()


@cache
def load_feature_net(path: Path) -> FeatureNet:
    """A trained FeatureNet in evaluation mode."""
    network = FeatureNet()
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)


@cache
def load_clip(path: Path) -> Any:
    """The trained tiny CLIP, in evaluation mode."""
    return create_clip(path).eval().requires_grad_(False)


def create_clip(weights: Path | None = None) -> Any:
    """The tiny CLIP by open_clip, from the weights of a file or with random ones."""
    import open_clip

    open_clip.add_model_config(CLIP_CONFIG)
    return open_clip.create_model(CLIP_CONFIG.stem, pretrained=None if weights is None else str(weights))


def encode_images(clip: Any, images: Tensor) -> Tensor:
    """Unit vectors (n, 32) of images (n, 1, 8, 8) in [-1, 1]; open_clip wants three channels."""
    vectors: Tensor = clip.encode_image(images.expand(-1, 3, -1, -1), normalize=True)
    return vectors


def class_vectors(clip: Any) -> Tensor:
    """Unit vectors (10, 32) of the scored caption of every digit."""
    tokens = tokenize([SCORED_TEMPLATE.format(numeral) for numeral in NUMERALS])
    vectors: Tensor = clip.encode_text(torch.from_numpy(tokens), normalize=True)
    return vectors


def _chunks(images: np.ndarray) -> tuple[Tensor, ...]:
    return torch.from_numpy(from_uint8(images)).split(CHUNK)  # type: ignore[no-untyped-call, no-any-return]
