"""Encoders of pictures with random weights, saved as the real ones are: Inception, DINOv2, CLIP."""

import json
from pathlib import Path
from unittest import mock

import torch

CLIP_SHAPE = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPARATION = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic", "resize_mode": "shortest"}


def save_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP in open_clip's own layout."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CLIP(**CLIP_SHAPE)
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP_SHAPE, "preprocess_cfg": PREPARATION}))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def save_inception(file: Path) -> Path:
    """torch-fidelity's Inception in full, with weights that keep signals alive through its depth."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    torch.save({}, file)
    with torch.random.fork_rng(), mock.patch.object(Inception, "load_state_dict"):
        torch.manual_seed(0)
        network = Inception("inception", ["2048"], str(file))
        for weight in network.parameters():
            if weight.ndim == 4:
                torch.nn.init.kaiming_normal_(weight)
    torch.save(network.state_dict(), file)
    return file


def save_dinov2(folder: Path) -> Path:
    """A DINOv2 of transformers."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = Dinov2Config(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
        Dinov2Model(shape).save_pretrained(folder)
    return folder
