"""Pipelines of every text-to-image family with tiny random networks, saved as users have them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_LEADING = {"timestep_spacing": "leading", "steps_offset": 1}


def save(family: str, folder: Path) -> Path:
    """Build a family's pipeline, the same every time, and save it; returns the folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = BUILDERS[family]()
    pipeline.save_pretrained(folder)
    return folder


def stable_diffusion() -> Any:
    scheduler = diffusers.PNDMScheduler(
        **_BETAS, **_LEADING, skip_prk_steps=True, set_alpha_to_one=False, prediction_type="epsilon"
    )
    return diffusers.StableDiffusionPipeline(
        unet=_unet(cross_attention_dim=8),
        vae=_vae(),
        scheduler=scheduler,
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer=_clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    unet = _unet(
        cross_attention_dim=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=56,
    )
    return diffusers.StableDiffusionXLPipeline(
        unet=unet,
        vae=_vae(),
        scheduler=diffusers.EulerDiscreteScheduler(**_BETAS, **_LEADING),
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()),
        tokenizer_2=_clip_tokenizer(),
    )


BUILDERS: dict[str, Callable[[], Any]] = {"stable_diffusion": stable_diffusion, "sdxl": sdxl}


def _unet(**settings: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        attention_head_dim=4,
        **settings,
    )


def _vae(**settings: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=[4, 8],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=2,
        **settings,
    )


def _clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        vocab_size=514,
        hidden_size=8,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        projection_dim=8,
    )


def _clip_tokenizer() -> CLIPTokenizer:
    characters = sorted(ByteLevel.alphabet())
    tokens = [*characters, *(f"{character}</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
