"""Pipelines of every text-to-image family with tiny random networks, saved as users have them."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_LEADING = {"timestep_spacing": "leading", "steps_offset": 1}


def save(family: str, folder: Path) -> Path:
    """Build a family's pipeline, the same every time, and save it; returns the folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = {**BUILDERS, **VARIANTS}[family]()
    for name, pipeline in built.items() if isinstance(built, dict) else [("", built)]:
        pipeline.save_pretrained(folder / name)
    return folder


def location(family: str, folder: Path) -> dict[str, str]:
    """The model's parameters that say where a family's checkpoint was saved."""
    if family == "kandinsky22":
        return {"path": str(folder / "decoder"), "prior_path": str(folder / "prior")}
    return {"path": str(folder)}


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


def sd3() -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(_clip_config()),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_3=_t5(16),
        tokenizer_3=_t5_tokenizer(),
    )


def sd3_without_t5() -> Any:
    """As people save memory: the transformer reads zeros for T5."""
    whole = sd3()
    whole.register_modules(text_encoder_3=None, tokenizer_3=None)
    return whole


def flux() -> Any:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=64
    )
    return _flux(_flux_transformer(guidance_embeds=True), scheduler)


def flux_schnell() -> Any:
    """Without embedded guidance, and with times that do not depend on the size."""
    return _flux(_flux_transformer(), diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0))


def _flux(transformer: Any, scheduler: Any) -> Any:
    return diffusers.FluxPipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=_vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5(16),
        tokenizer_2=_t5_tokenizer(),
    )


def _flux_transformer(**settings: Any) -> Any:
    return diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
        **settings,
    )


def pixart() -> Any:
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=16,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    return diffusers.PixArtAlphaPipeline(
        transformer=transformer, vae=_vae(), scheduler=scheduler, text_encoder=_t5(16), tokenizer=_t5_tokenizer()
    )


def sana() -> Any:
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=16,
    )
    encoder = Gemma2Config(
        head_dim=4,
        hidden_size=8,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        num_key_value_heads=2,
        vocab_size=262,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        flow_shift=3.0, use_flow_sigmas=True, prediction_type="flow_prediction"
    )
    return diffusers.SanaPipeline(
        transformer=transformer,
        vae=_deep_vae(),
        scheduler=scheduler,
        text_encoder=Gemma2Model(encoder),
        tokenizer=_gemma_tokenizer(),
    )


def kandinsky22() -> dict[str, Any]:
    """Its two pipelines, the prior and the decoder."""
    prior = diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=4, embedding_dim=8, num_layers=1)
    prior.clip_std = torch.nn.Parameter(torch.ones_like(prior.clip_std))  # zeros would make all embeddings the same
    unclip = diffusers.UnCLIPScheduler(
        variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=5.0
    )
    vision = CLIPVisionConfig(
        hidden_size=8, image_size=16, projection_dim=8, intermediate_size=16, num_attention_heads=2, patch_size=8
    )
    first = diffusers.KandinskyV22PriorPipeline(
        prior=prior,
        image_encoder=CLIPVisionModelWithProjection(vision),
        text_encoder=CLIPTextModelWithProjection(_clip_config()),
        tokenizer=_clip_tokenizer(),
        scheduler=unclip,
        image_processor=CLIPImageProcessor(),
    )
    scheduler = diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, variance_type="learned_range"
    )
    second = diffusers.KandinskyV22Pipeline(unet=_image_unet(), movq=_movq(), scheduler=scheduler)
    return {"prior": first, "decoder": second}


def _image_unet() -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        encoder_hid_dim=8,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=8,
        attention_head_dim=16,
        resnet_time_scale_shift="scale_shift",
    )


def _movq() -> Any:
    return diffusers.VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "stable_diffusion": stable_diffusion,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "pixart": pixart,
    "sana": sana,
    "kandinsky22": kandinsky22,
}
VARIANTS: dict[str, Callable[[], Any]] = {"sd3_without_t5": sd3_without_t5, "flux_schnell": flux_schnell}


def _deep_vae() -> Any:
    """An autoencoder of factor 2, where Sana's own has 32."""
    half: dict[str, Any] = {
        f"{half}_{name}": value
        for half in ("encoder", "decoder")
        for name, value in (
            ("block_types", ("ResBlock", "EfficientViTBlock")),
            ("block_out_channels", (8, 8)),
            ("qkv_multiscales", ((), (5,))),
            ("layers_per_block", (1, 1)),
        )
    }
    return diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        upsample_block_type="interpolate",
        downsample_block_type="stride_conv",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
        **half,
    )


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


def _t5(width: int) -> Any:
    config = T5Config(
        d_model=width, d_ff=16, d_kv=8, num_layers=1, num_heads=2, vocab_size=128, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config)


def _t5_tokenizer() -> T5Tokenizer:
    letters = [(letter, -3.0) for letter in string.printable if not letter.isspace()]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=77)


def _gemma_tokenizer() -> GemmaTokenizer:
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    return GemmaTokenizer(vocab={name: number for number, name in enumerate(names)}, merges=[])
