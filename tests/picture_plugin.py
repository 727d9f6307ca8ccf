"""An encoder and a reference set for pictures of any size, of no meaning but quick and offline; scores by open_clip."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cfgbench.encoders import Encoded
from cfgbench.entries import Encoder, ReferenceSet

ENCODER = Encoder("tests.picture_plugin:encode", ("features", "clip_scores"), files=None)
REFERENCE = ReferenceSet("tests.picture_plugin:reference")
CLIP_FILE = "CFGBENCH_TEST_CLIP"  # the environment variable that says where the weights are
_SHAPE = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def save_clip(path: Path) -> Path:
    """Weights of a tiny random CLIP."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(_clip().state_dict(), path)
    return path


@cache
def loaded_clip() -> Any:
    model = _clip()
    model.load_state_dict(torch.load(os.environ[CLIP_FILE], weights_only=True))
    return model.eval()


def _clip() -> Any:
    from open_clip.model import CLIP

    return CLIP(**_SHAPE)


@torch.no_grad()
def encode(samples: np.ndarray, prompts: np.ndarray, parameters: Mapping[str, Any]) -> Encoded:
    """Mean colours of the quarters (n, 12), and 100 cos between picture and prompt (n,)."""
    import open_clip

    pictures = torch.from_numpy(samples).float() / 255
    quarters = functional.adaptive_avg_pool2d(pictures, 2).flatten(1)
    if prompts.dtype.kind != "U":  # the reference set has no prompts
        return Encoded(quarters.numpy(), None, None)
    seen = loaded_clip().encode_image(functional.interpolate(pictures, (32, 32)), normalize=True)
    tokens = open_clip.get_tokenizer("ViT-B-32", context_length=16)(prompts.tolist())
    read = loaded_clip().encode_text(tokens, normalize=True)
    return Encoded(quarters.numpy(), None, (100 * (seen * read).sum(dim=1)).numpy())


def reference(half: str, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Noise: 100 pictures without labels of their own."""
    generator = np.random.default_rng({"heldout": 0, "train": 1}[half])
    return generator.integers(0, 256, (100, 3, 8, 8), dtype=np.uint8), np.zeros(100, dtype=np.int64)
