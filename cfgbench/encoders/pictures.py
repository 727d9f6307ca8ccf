"""Encoders of RGB pictures of any size: torch-fidelity's Inception, DINOv2, CLIP.

Each reads uint8 pictures (n, 3, height, width), reference and generated alike, in fp32 and in batches of one size.
"""

import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cfgbench.assets import clip_models, encoder_files
from cfgbench.encoders import Encoded
from cfgbench.generation import precision
from cfgbench.models import loading

BATCH = 20  # pictures per pass: bits depend on it
FID_FEATURES = 2048
DINO_SIZE = 224  # pixels, of which the network was trained on fewer and more; Stein et al. 2023
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def inception(
    samples: np.ndarray, asked: np.ndarray, parameters: Mapping[str, Any], path: str | None = None, device: str = "cpu"
) -> Encoded:
    """The 2048 features of the FID, and log-probabilities from the logits without bias, as torch-fidelity has them.

    The network resizes to 299 x 299 itself, as TensorFlow 1 did.
    """
    network = _inception(encoder_files.inception(path)["features"], device)
    both = _all(lambda batch: torch.cat(network(torch.from_numpy(batch).to(device)), dim=1), samples)
    features, logits = both[:, :FID_FEATURES], torch.from_numpy(both[:, FID_FEATURES:])
    return Encoded(np.ascontiguousarray(features), logits.log_softmax(dim=1).numpy())


def dinov2(
    samples: np.ndarray,
    asked: np.ndarray,
    parameters: Mapping[str, Any],
    path: str,
    revision: str | None = None,
    device: str = "cpu",
) -> Encoded:
    """The class token after the last normalisation, of pictures resized to 224 x 224 (bicubic, antialiased)."""
    network = _dinov2(encoder_files.dinov2(path, revision)["features_dinov2"].parent, device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def tokens(batch: np.ndarray) -> Tensor:
        pictures = torch.from_numpy(batch).to(device).float() / 255
        sized = functional.interpolate(pictures, (DINO_SIZE, DINO_SIZE), mode="bicubic", antialias=True)
        found: Tensor = network((sized - mean) / std).pooler_output
        return found

    return Encoded(None, features_dinov2=_all(tokens, samples))


def clip(
    samples: np.ndarray,
    asked: np.ndarray,
    parameters: Mapping[str, Any],
    model: str = clip_models.MODEL,
    pretrained: str | None = None,
    path: str | None = None,
    device: str = "cpu",
) -> Encoded:
    """Unit vectors of pictures, prepared as open_clip does, and 100 cos of picture and prompt, if there is one."""
    chosen = (model, pretrained, path, device)
    loaded = clip_models.load(*chosen)

    def vectors(batch: np.ndarray) -> Tensor:
        prepared = torch.stack([loaded.prepare(Image.fromarray(picture)) for picture in batch.transpose(0, 2, 3, 1)])
        found: Tensor = loaded.network.encode_image(prepared.to(device), normalize=True)
        return found

    features = _all(vectors, samples)
    if asked.dtype.kind != "U":
        return Encoded(None, features_clip=features)
    texts = np.stack([clip_models.text_vector(*chosen, text) for text in asked.tolist()])
    scores = 100 * (features.astype(np.float64) * texts).sum(axis=1)
    cut = clip_models.truncated(loaded, asked.tolist())
    return Encoded(None, clip_scores=scores, features_clip=features, truncated=cut)


@torch.no_grad()
def _all(encode: Callable[[np.ndarray], Tensor], samples: np.ndarray) -> np.ndarray:
    with precision.switches("fp32"):
        return torch.cat([encode(batch) for batch in _batches(samples)]).float().cpu().numpy()


def _batches(samples: np.ndarray) -> Iterator[np.ndarray]:
    """RGB pictures; grey ones are repeated."""
    pictures = np.broadcast_to(samples, (len(samples), 3, *samples.shape[2:]))
    yield from (np.array(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH))


@cache
def _inception(file: Path, device: str) -> torch.nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        tensors = torch.load(file, weights_only=True, map_location="cpu")
        with tempfile.NamedTemporaryFile(suffix=".pth") as copy:  # torch-fidelity unpickles anything: it gets our own
            torch.save(tensors, copy.name)
            network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], copy.name)
    except (RuntimeError, OSError, EOFError, LookupError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{file} is not a weight file of torch-fidelity's Inception: {reason}") from None
    return network.to(device)  # type: ignore[no-any-return]


@cache
def _dinov2(folder: Path, device: str) -> Any:
    from transformers import Dinov2Model

    return torch.nn.Module.to(loading.whole(Dinov2Model, folder, torch.float32), device)
