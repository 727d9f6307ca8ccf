"""Every name a user can write, with the code it stands for: tables without torch.

To add a guidance method, a sampler, a model, a metric, an encoder or a reference set: write the function, add one line
here (a method's in `cfgbench/methods/table.py`). A name with a colon is a plug-in's: see `cfgbench/plugins.py`.
"""

from dataclasses import replace

from cfgbench.entries import Encoder, Execution, Method, Metric, Model, Parameter, ReferenceSet, Sampler, resolve
from cfgbench.methods.table import METHODS

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
_NETWORK_DTYPES = ("fp32", "tf32", "bf16", "fp16", "bf16_emulated", "fp16_emulated")

MODELS: dict[str, Model] = {
    "gaussians": Model(
        "cfgbench.models.gaussians:load",
        {"mixture": Parameter("str", "toy2d", choices=("toy2d", "nested", "general2", "general16"))},
        num_classes="cfgbench.testbeds.mixtures:num_classes",
        files=None,
        noise_levels="cfgbench.testbeds.mixtures:noise_levels",
        encoder="gaussians",
        reference="gaussians",
        dtypes=("fp32", "fp64"),
        networks=("main", "classifier"),
    ),
    "digits": Model(
        "cfgbench.models.digits:load",
        {
            "p_uncond": Parameter("float", 0.1, choices=(0.1, 0.2, 0.5), doc="label dropout in training"),
            "training_steps": Parameter("int", 800, choices=(100, 200, 400, 800, 1600), doc="how long it was trained"),
            "training_seed": Parameter("int", 0, choices=(0, 1, 2), doc="which of three equally trained networks"),
            "attention": Parameter("bool", False, doc="the variant with self-attention"),
            "weak_steps": Parameter(
                "int", None, choices=(100, 200, 400), optional=True, doc="of the early snapshot that guides"
            ),
        },
        num_classes=10,
        files="cfgbench.testbeds.digits_data:network_files",
        noise_levels="cfgbench.testbeds.digits_data:noise_levels",
        encoder="digits",
        reference="digits",
        dtypes=_NETWORK_DTYPES,
        networks=("main", "classifier", "weak"),
        capabilities=("attention", "embedding", "grid"),
        switches={"attention": "attention", "weak": "weak_steps"},
        replicate="training_seed",
    ),
    "digits_gan": Model(
        "cfgbench.models.digits_gan:load",
        {"training_seed": Parameter("int", 0, choices=(0, 1, 2), doc="which of three equally trained networks")},
        num_classes=10,
        files="cfgbench.testbeds.digits_data:gan_files",
        noise_levels=None,
        encoder="digits",
        reference="digits",
        dtypes=_NETWORK_DTYPES,
        replicate="training_seed",
        family="one_pass",
    ),
}

_CHECKPOINT = {
    "path": Parameter("str", required=True, location=True, doc="a local folder, or owner/name in the hub cache"),
    "revision": Parameter("str", None, optional=True, location=True, doc="branch, tag or commit of a hub repository"),
    "variant": Parameter("str", None, optional=True, location=True, doc="of the weight files, such as fp16"),
}
_IMAGE = {
    "height": Parameter("int", None, 8, 8192, optional=True, setting=True, doc="in pixels; default: the checkpoint's"),
    "width": Parameter("int", None, 8, 8192, optional=True, setting=True),
    "negative_prompt": Parameter("str", None, optional=True, setting=True, uncond=True, doc="what `uncond` is told"),
    "unconditional": Parameter(
        "str",
        None,
        choices=("empty", "zeros"),
        optional=True,
        setting=True,
        uncond=True,
        doc="what no prompt is to the network",
    ),
}
_GUIDE = Parameter(
    "str",
    None,
    optional=True,
    location=True,
    setting=True,
    doc="a CLIP that guides: open_clip's NAME or NAME/TAG, a folder, or owner/name",
)


def _text_to_image(
    module: str, family: str = "diffusion", masked: bool = False, lacks: str | None = None, **more: Parameter
) -> Model:
    """A family of text-to-image checkpoints; where conditions hold masks, they cannot be edited."""
    layout = module.upper()
    guides = {"guide": _GUIDE} if family == "diffusion" else {}
    return Model(
        f"cfgbench.models.{module}:load",
        {**_CHECKPOINT, **_IMAGE, **guides, **more},
        num_classes=1,
        files=f"cfgbench.assets.layouts:{layout}.files",
        noise_levels=f"cfgbench.assets.layouts:{layout}.noise_levels",
        encoder=None,
        reference=None,
        dtypes=_NETWORK_DTYPES,
        capabilities=("grid",) if masked else ("embedding", "grid"),
        networks=("main", *guides),
        switches={name: name for name in guides},
        family=family,
        prompted=True,
        notes=f"cfgbench.assets.layouts:{layout}.notes",
        size=f"cfgbench.assets.layouts:{layout}.pixels",
        lacks=lacks,
    )


MODELS |= {
    "stable_diffusion": _text_to_image("stable_diffusion"),
    "sdxl": _text_to_image("sdxl"),
    "sd3": _text_to_image("sd3", "flow"),
    "flux": _text_to_image(
        "flux",
        "flow",
        lacks="cfgbench.assets.layouts:FLUX.lacks",
        embedded_guidance=Parameter(
            "float",
            3.5,
            0.0,
            setting=True,
            scale=True,
            doc="what the network is told of guidance; not guidance_scale, which is CFG",
        ),
    ),
    "pixart": _text_to_image("pixart", masked=True),
    "sana": _text_to_image("sana", "flow", masked=True),
    "pipeline": Model(
        "cfgbench.models.pipeline:load",
        {
            **_CHECKPOINT,
            **{name: _IMAGE[name] for name in ("height", "width")},
            "negative_prompt": replace(_IMAGE["negative_prompt"], uncond=False),  # what it does with it is its own
            "num_inference_steps": Parameter("int", None, 1, 10_000, required=True, setting=True),
        },
        num_classes=1,
        files="cfgbench.assets.pipeline_layout:files",
        noise_levels=None,
        encoder=None,
        reference=None,
        dtypes=_NETWORK_DTYPES,
        family="pipeline",
        prompted=True,
        notes="cfgbench.assets.pipeline_layout:notes",
    ),
    "kandinsky22": Model(
        "cfgbench.models.kandinsky22:load",
        {
            **_CHECKPOINT,
            "prior_path": Parameter(
                "str", required=True, location=True, doc="the checkpoint of the prior, like `path`"
            ),
            "height": _IMAGE["height"],
            "width": _IMAGE["width"],
            "prior_scale": Parameter(
                "float", 4.0, 0.0, setting=True, scale=True, doc="guidance scale of the prior; 1 = off"
            ),
            "prior_steps": Parameter("int", 25, 2, 1000, setting=True),
        },
        num_classes=1,
        files="cfgbench.assets.kandinsky_layout:files",
        noise_levels="cfgbench.assets.layouts:KANDINSKY22.noise_levels",
        encoder=None,
        reference=None,
        dtypes=_NETWORK_DTYPES,
        capabilities=("embedding", "grid", "learned_variance"),
        prompted=True,
        notes="cfgbench.assets.kandinsky_layout:notes",
    ),
}

_PIXELS = {
    "clip_denoised": Parameter("bool", True, setting=True, doc="clip the clean image of every prediction to [-1, 1]"),
    "timestep_spacing": Parameter(
        "str", "trailing", choices=("trailing", "linspace", "leading"), setting=True, doc="which timesteps samplers use"
    ),
}
MODELS |= {
    "adm": Model(
        "cfgbench.models.adm:load",
        {
            "path": Parameter("str", required=True, location=True, doc="the folder with the files of guided-diffusion"),
            "resolution": Parameter("int", None, choices=(64, 128, 256, 512), optional=True, doc="which of them"),
            "unconditional": Parameter("bool", False, doc="load the unconditional network too, for `uncond`"),
            **_PIXELS,
        },
        num_classes="cfgbench.assets.adm_layout:num_classes",
        files="cfgbench.assets.adm_layout:files",
        noise_levels="cfgbench.assets.adm_layout:noise_levels",
        encoder=None,
        reference=None,
        dtypes=_NETWORK_DTYPES,
        networks=("main", "classifier"),
        capabilities=("attention", "grid", "learned_variance"),
        lacks="cfgbench.assets.adm_layout:lacks",
        size="cfgbench.assets.adm_layout:pixels",
    ),
    "cifar10": Model(
        "cfgbench.models.adm:load",
        {
            "path": Parameter("str", required=True, location=True, doc="the folder `cfgbench train cifar10` wrote"),
            **_PIXELS,
        },
        num_classes=10,
        files="cfgbench.assets.cifar10_layout:files",
        noise_levels="cfgbench.assets.cifar10_layout:noise_levels",
        encoder=None,
        reference=None,
        dtypes=_NETWORK_DTYPES,
        networks=("main", "classifier"),
        capabilities=("attention", "embedding", "grid"),
        lacks="cfgbench.assets.cifar10_layout:lacks",
        size="cfgbench.assets.cifar10_layout:pixels",
    ),
}

_SPACING = Parameter(
    "str",
    None,
    choices=("trailing", "linspace", "leading"),
    optional=True,
    setting=True,
    doc="which timesteps samplers use; default: as the checkpoint's own scheduler",
)


def _class_conditional(name: str, **more: Parameter) -> Model:
    """A family of class-conditional checkpoints in diffusers' layout."""
    layout = f"cfgbench.assets.class_layouts:{name.upper()}"
    return Model(
        f"cfgbench.models.class_conditional:load_{name}",
        {**_CHECKPOINT, **more, "timestep_spacing": _SPACING},
        num_classes=f"{layout}.num_classes",
        files=f"{layout}.files",
        noise_levels=f"{layout}.noise_levels",
        encoder=None,
        reference=None,
        dtypes=_NETWORK_DTYPES,
        capabilities=("grid", "learned_variance"),
        notes=f"{layout}.about",
        lacks=f"{layout}.lacks",
        size=f"{layout}.pixels",
    )


MODELS |= {
    "dit": _class_conditional("dit"),
    "unet2d": _class_conditional(
        "unet2d", null_class=Parameter("int", None, 0, optional=True, doc="the class that stands for none")
    ),
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
            "revision": _CHECKPOINT["revision"],
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
