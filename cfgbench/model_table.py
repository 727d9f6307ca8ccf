"""Every model that a user can name: its parameters, what it needs and gives, and the code it stands for; no torch.

To add one: a file in `cfgbench/models/` with its `load`, and an entry here.
"""

from dataclasses import replace

from cfgbench.entries import Model, Parameter

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

CHECKPOINT = {
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
        {**CHECKPOINT, **_IMAGE, **guides, **more},
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
            **CHECKPOINT,
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
            **CHECKPOINT,
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
        {**CHECKPOINT, **more, "timestep_spacing": _SPACING},
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
