"""Every name a user can write, with the code it stands for: tables without torch.

To add a guidance method, a sampler, a model, a metric, an encoder or a reference set: write the function, add one line
here (a method's in `methods/table.py`, a model's in `model_table.py`). A name with a colon is a plug-in's: see
`plugins.py`.
"""

from dataclasses import replace

from cfgbench.entries import Encoder, Execution, Method, Metric, Model, Parameter, ReferenceSet, Sampler, resolve
from cfgbench.methods.table import METHODS
from cfgbench.model_table import CHECKPOINT, MODELS

__all__ = [
    "DTYPES",
    "ENCODERS",
    "EXECUTIONS",
    "METHODS",
    "METRICS",
    "MODELS",
    "REFERENCES",
    "SAMPLERS",
    "Encoder",
    "Execution",
    "Method",
    "Metric",
    "Model",
    "Parameter",
    "ReferenceSet",
    "Sampler",
    "resolve",
]

_DPMPP = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler("diffusers:DDIMScheduler", eta=True),
    "ddpm": Sampler("diffusers:DDPMScheduler", {"variance_type": "fixed_small"}, stochastic=True),
    "ddpm_learned": Sampler(
        "diffusers:DDPMScheduler",
        {"variance_type": "learned_range"},
        stochastic=True,
        capabilities=("learned_variance",),
    ),
    "dpmpp_2m": Sampler("diffusers:DPMSolverMultistepScheduler", _DPMPP, "diffusers:DPMSolverMultistepScheduler"),
    "dpmpp_2m_karras": Sampler("diffusers:DPMSolverMultistepScheduler", {**_DPMPP, "use_karras_sigmas": True}),
    "dpmpp_2m_sde": Sampler(
        "diffusers:DPMSolverMultistepScheduler", {**_DPMPP, "algorithm_type": "sde-dpmsolver++"}, stochastic=True
    ),
    "dpmpp_2m_sde_karras": Sampler(
        "diffusers:DPMSolverMultistepScheduler",
        {**_DPMPP, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        stochastic=True,
    ),
    "euler": Sampler("diffusers:EulerDiscreteScheduler", flow="diffusers:FlowMatchEulerDiscreteScheduler"),
    "euler_karras": Sampler("diffusers:EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "euler_ancestral": Sampler("diffusers:EulerAncestralDiscreteScheduler", stochastic=True),
    "heun": Sampler(
        "diffusers:HeunDiscreteScheduler", flow="diffusers:FlowMatchHeunDiscreteScheduler", evaluations="2n-1"
    ),
    "kdpm2": Sampler("diffusers:KDPM2DiscreteScheduler", evaluations="2n-1", minimum_steps=2),
    "unipc": Sampler(
        "diffusers:UniPCMultistepScheduler",
        {"solver_order": 2, "solver_type": "bh2"},
        "diffusers:UniPCMultistepScheduler",
    ),
    "deis": Sampler("diffusers:DEISMultistepScheduler", {"solver_order": 2, "algorithm_type": "deis"}),
    "pndm": Sampler("diffusers:PNDMScheduler", {"skip_prk_steps": True}, evaluations="n+1", minimum_steps=2),
    "lms": Sampler("diffusers:LMSDiscreteScheduler"),
}

DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp64", "bf16_emulated", "fp16_emulated")
EXECUTIONS: dict[str, Execution] = {
    "eager": Execution(),
    "channels_last": Execution(channels_last=True),
    "compile": Execution(mode="default"),
    "compile_channels_last": Execution(channels_last=True, mode="default"),
    "cuda_graphs": Execution(mode="reduce-overhead", graphs=True),
    "cuda_graphs_channels_last": Execution(channels_last=True, mode="reduce-overhead", graphs=True),
}
METRICS: dict[str, Metric] = {
    "fid": Metric("cfgbench.scores.metrics:fid", "FID", True, moments=True, headline="bias_corrected"),
    "kid": Metric("cfgbench.scores.metrics:kid", "KID", True, headline="bias_corrected", parameters={"degree": 3}),
    "inception_score": Metric("cfgbench.scores.metrics:inception_score", "IS", False, "log_probs", reference=False),
    "precision": Metric("cfgbench.scores.metrics:precision", "precision", False, limits=(0, 1), parameters={"k": 3}),
    "recall": Metric("cfgbench.scores.metrics:recall", "recall", False, interval=False, parameters={"k": 3}),
    "density": Metric("cfgbench.scores.metrics:density", "density", False, parameters={"k": 5}),
    "coverage": Metric("cfgbench.scores.metrics:coverage", "coverage", False, interval=False, parameters={"k": 5}),
    "accuracy": Metric(
        "cfgbench.scores.metrics:accuracy", "accuracy", False, "log_probs", classes=True, reference=False, limits=(0, 1)
    ),
    "clip_score": Metric("cfgbench.scores.metrics:clip_score", "CLIP score", False, "clip_scores", reference=False),
}
METRICS |= {  # of other networks than the one behind `fid`: a metric's name includes its encoder
    "fd_dinov2": replace(METRICS["fid"], label="FD-DINOv2", needs="features_dinov2"),
    "kd_dinov2": replace(METRICS["kid"], label="KD-DINOv2", needs="features_dinov2"),
    "precision_dinov2": replace(METRICS["precision"], label="precision-DINOv2", needs="features_dinov2"),
    "recall_dinov2": replace(METRICS["recall"], label="recall-DINOv2", needs="features_dinov2"),
    "fd_clip": replace(METRICS["fid"], label="FD-CLIP", needs="features_clip"),
    "kd_clip": replace(METRICS["kid"], label="KD-CLIP", needs="features_clip"),
}

ENCODERS: dict[str, Encoder] = {
    "gaussians": Encoder("cfgbench.encoders:gaussians", ("features", "log_probs"), None),
    "digits": Encoder(
        "cfgbench.encoders:digits",
        ("features", "log_probs", "clip_scores"),
        "cfgbench.testbeds.digits_data:encoder_files",
        images=(1, 8, 8),
        dimension=64,
    ),
    "inception": Encoder(
        "cfgbench.encoders.pictures:inception",
        ("features", "log_probs"),
        "cfgbench.assets.encoder_files:inception",
        images=(3, None, None),
        parameters={"path": Parameter("str", None, optional=True, location=True, doc="torch-fidelity's weight file")},
        classes=False,  # TensorFlow's 1008 are not ImageNet's 1000
        on_device=True,
        dimension=2048,
    ),
    "dinov2": Encoder(
        "cfgbench.encoders.pictures:dinov2",
        ("features_dinov2",),
        "cfgbench.assets.encoder_files:dinov2",
        images=(3, None, None),
        parameters={
            "path": Parameter("str", "facebook/dinov2-large", location=True, doc="a local folder, or owner/name"),
            "revision": CHECKPOINT["revision"],
        },
        on_device=True,
        dimension=1024,
    ),
    "clip": Encoder(
        "cfgbench.encoders.pictures:clip",
        ("clip_scores", "features_clip"),
        "cfgbench.assets.encoder_files:clip",
        images=(3, None, None),
        parameters={
            "model": Parameter("str", "ViT-L-14", doc="open_clip's name"),
            "pretrained": Parameter(
                "str", None, optional=True, location=True, doc="open_clip's tag, also of a weight file; default: openai"
            ),
            "path": Parameter("str", None, optional=True, location=True, doc="a weight file, a folder, or owner/name"),
        },
        settings="cfgbench.assets.encoder_files:clip_settings",
        prompts=True,
        on_device=True,
        dimension=768,
    ),
}

REFERENCES: dict[str, ReferenceSet] = {
    "gaussians": ReferenceSet("cfgbench.testbeds.mixtures:reference"),
    "digits": ReferenceSet("cfgbench.testbeds.digits_data:reference"),
}
