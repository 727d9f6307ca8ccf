"""Every guidance method: its function, parameters with ranges, neutral settings, declared passes and source."""

from math import inf

from cfgbench.entries import Method, Parameter

_INTERVAL = Parameter(
    "interval", optional=True, doc="noise levels (sigma_lo, sigma_hi] with guidance; conditional elsewhere"
)
_GUIDANCE_SCALE = Parameter("float", 1.0, 0.0, doc="s in uncond + s (cond - uncond); 1 = off, 0 = unconditional")
_CLASSIFIER_SCALE = Parameter("float", 0.0, 0.0, doc="multiplies grad log p(c|x_t); 0 = off")
_AWAY_SCALE = Parameter("float", 0.0, 0.0, doc="multiplies the step away from the disturbed prediction; 0 = off")
_RESCALE = Parameter("float", 0.0, 0.0, 1.0, doc="share of the conditional prediction's standard deviation restored")
_ANCESTRAL = ("ddpm", "ddpm_learned")
_FORM = Parameter(
    "str",
    "eps",
    choices=("eps", "ancestral"),
    doc="the gradient moves the predicted noise, or the mean of an ancestral step by its variance",
    samplers={"ancestral": _ANCESTRAL},
)
_CHANNELS = Parameter(
    "int", None, 1, optional=True, doc="first channels that are guided, as the 3 of 4 of DiT's own code; null = all"
)
_SCALED = {"guidance_scale": _GUIDANCE_SCALE}
_OFF = {1.0: "unguided"}

_BASIC: dict[str, Method] = {
    "unguided": Method(
        "cfgbench.generation.guidance:unguided",
        None,
        {},
        {},
        1,
        label="unguided",
        families=("diffusion", "flow", "one_pass"),
        unconditional=False,
    ),
    "unconditional": Method(
        "cfgbench.generation.guidance:unconditional",
        None,
        {"interval": _INTERVAL},
        {},
        1,
        label="unconditional",
        base_scale=0.0,
    ),
    "cfg": Method(
        "cfgbench.generation.guidance:cfg",
        "guidance_scale",
        {**_SCALED, "rescale": _RESCALE, "guided_channels": _CHANNELS, "interval": _INTERVAL},
        {1.0: "unguided", 0.0: "unconditional"},
        2,
        label="CFG",
        source="Ho & Salimans 2022, eq. 6; rescale: Lin et al. 2023, sec. 3.4; interval: Kynkaanniemi et al. 2024",
    ),
    "classifier": Method(
        "cfgbench.generation.guidance:classifier",
        "classifier_scale",
        {"classifier_scale": _CLASSIFIER_SCALE, "form": _FORM, "interval": _INTERVAL},
        {0.0: "unguided"},
        1,
        1,
        ("classifier",),
        label="classifier guidance, conditional model",
        source="Dhariwal & Nichol 2021, algorithms 1 (ancestral) and 2 (eps)",
        unconditional=False,
    ),
    "classifier_uncond": Method(
        "cfgbench.generation.guidance:classifier_uncond",
        "classifier_scale",
        {"classifier_scale": _CLASSIFIER_SCALE, "form": _FORM},
        {0.0: "unconditional"},
        1,
        1,
        ("classifier",),
        label="classifier guidance, unconditional branch",
        source="Dhariwal & Nichol 2021, algorithms 1 (ancestral) and 2 (eps)",
        base_scale=0.0,
    ),
}

_CLIP_SCALE = Parameter("float", 0.0, 0.0, doc="multiplies the gradient of CLIP's logit; 0 = off")
_CLIP: dict[str, Method] = {
    "clip": Method(
        "cfgbench.generation.guidance:clip",
        "clip_scale",
        {"clip_scale": _CLIP_SCALE, "interval": _INTERVAL},
        {0.0: "unguided"},
        1,
        1,
        ("guide",),
        label="CLIP guidance",
        source="Nichol et al. 2021 (GLIDE), sec. 2.4; on the clean picture: Bansal et al. 2023, sec. 3.1",
        families=("diffusion",),
        unconditional=False,
    ),
    "universal": Method(
        "cfgbench.generation.guidance:universal",
        "clip_scale",
        {"clip_scale": _CLIP_SCALE, "interval": _INTERVAL},
        {0.0: "unguided"},
        2,
        1,
        ("guide",),
        label="CLIP guidance through the denoiser",
        source="Bansal et al. 2023 (universal guidance), forward guidance, sec. 3.1",
        families=("diffusion",),
        unconditional=False,
    ),
}

_SCHEDULED: dict[str, Method] = {
    "cfg_schedule": Method(
        "cfgbench.methods.schedules:cfg_schedule",
        "guidance_scale",
        {
            **_SCALED,
            "shape": Parameter(
                "str", "linear", choices=("linear", "cosine", "decreasing", "damped"), doc="of the scale over the steps"
            ),
            "equal_mean": Parameter("bool", True, doc="mean strength over the steps as of constant guidance"),
        },
        _OFF,
        2,
        label="CFG, scheduled",
        source="Wang et al. 2024 (arXiv 2404.13040), sec. 4",
    ),
    "cfg_plus_plus": Method(
        "cfgbench.methods.schedules:cfg_plus_plus",
        "lambda_scale",
        {"lambda_scale": Parameter("float", 0.0, 0.0, 1.0, doc="share of the conditional prediction in denoising")},
        {0.0: "unconditional"},
        2,
        label="CFG++",
        source="Chung et al. 2024 (arXiv 2406.08070), algorithm 2",
        base_scale=0.0,
        samplers=("ddim", "euler", "euler_karras"),
        families=("diffusion",),
    ),
    "adaptive_cfg": Method(
        "cfgbench.methods.schedules:adaptive_cfg",
        "guidance_scale",
        {
            **_SCALED,
            "similarity": Parameter("float", 0.991, -1.0, 1.0, doc="cosine above which the second pass ends"),
        },
        _OFF,
        2,
        label="adaptive CFG",
        source="Castillo et al. 2023 (arXiv 2312.12487)",
        cfg_at={"similarity": 1.0},
        skips=True,
    ),
    "cads": Method(
        "cfgbench.methods.annealing:cads",
        "guidance_scale",
        {
            **_SCALED,
            "noise_scale": Parameter("float", 0.25, 0.0, doc="deviation of the noise on the condition"),
            "tau_low": Parameter("float", 0.6, 0.0, 1.0, doc="time below which the condition is whole; 1 = noise"),
            "ramp": Parameter("float", 0.3, 0.001, 1.0, doc="time from there to where nothing is left of it"),
            "mix": Parameter("float", 1.0, 0.0, 1.0, doc="share with the condition's own mean and deviation"),
        },
        {0.0: "unconditional"},
        2,
        label="CADS",
        source="Sadat et al. 2023 (arXiv 2310.17347), algorithm 1",
        capabilities=("embedding",),
        cfg_at={"noise_scale": 0.0},
    ),
}

_PROJECTED: dict[str, Method] = {
    "apg": Method(
        "cfgbench.methods.guiders:apg",
        "guidance_scale",
        {
            **_SCALED,
            "parallel_share": Parameter("float", 0.0, 0.0, 1.0, doc="share kept of the update's parallel part"),
            "momentum": Parameter("float", -0.5, -1.0, 1.0, doc="of the update; negative pushes away from past ones"),
            "norm_threshold": Parameter("float", 0.0, 0.0, doc="largest rms of the update of x_0; 0 = no limit"),
            "interval": _INTERVAL,
        },
        _OFF,
        2,
        label="APG",
        source="Sadat et al. 2024 (arXiv 2410.02416), algorithm 1; diffusers' AdaptiveProjectedGuidance",
        cfg_at={"parallel_share": 1.0, "momentum": 0.0},
    ),
    "cfg_zero": Method(
        "cfgbench.methods.guiders:cfg_zero",
        "guidance_scale",
        {
            **_SCALED,
            "zero_init_steps": Parameter("int", 0, 0, doc="first steps without movement; for flow models"),
            "interval": _INTERVAL,
        },
        _OFF,
        2,
        label="CFG-Zero*",
        source="Fan et al. 2025 (arXiv 2503.18886); diffusers' ClassifierFreeZeroStarGuidance",
        always=("zero_init_steps",),
    ),
    "tcfg": Method(
        "cfgbench.methods.guiders:tcfg",
        "guidance_scale",
        {**_SCALED, "interval": _INTERVAL},
        _OFF,
        2,
        label="tangential CFG",
        source="Kwon et al. 2025 (arXiv 2503.18137); diffusers' TangentialClassifierFreeGuidance",
    ),
    "mambo": Method(
        "cfgbench.methods.guiders:mambo",
        "guidance_scale",
        {
            **_SCALED,
            "damping": Parameter("float", 8.0, 0.0, doc="of w by the relative size of the update"),
            "interval": _INTERVAL,
        },
        _OFF,
        2,
        label="MAMBO-G",
        source="MAMBO-G 2025 (arXiv 2508.03442); diffusers' MagnitudeAwareGuidance",
        cfg_at={"damping": 0.0},
    ),
    "fdg": Method(
        "cfgbench.methods.frequency:fdg",
        "guidance_scale",
        {
            **_SCALED,
            "low_share": Parameter("float", 0.5, 0.0, doc="strength at low frequencies, as a share of w"),
            "interval": _INTERVAL,
        },
        _OFF,
        2,
        label="FDG",
        source="frequency-decoupled guidance: Sadat et al. 2025 (arXiv 2506.19713)",
        capabilities=("grid",),
        cfg_at={"low_share": 1.0},
    ),
}


def _perturbed(name: str, label: str, source: str, **parameters: Parameter) -> Method:
    """A method that guides away from the network with disturbed attention."""
    return Method(
        f"cfgbench.methods.perturbed:{name}",
        f"{name}_scale",
        {f"{name}_scale": _AWAY_SCALE, **parameters, "interval": _INTERVAL},
        {0.0: "unguided"},
        2,
        label=label,
        source=source,
        capabilities=("attention",),
        unconditional=False,
    )


_BLUR = Parameter("float", None, 0.01, optional=True, doc="of queries, in pixels of the feature map; null = infinite")

_WORSE: dict[str, Method] = {
    "autoguidance": Method(
        "cfgbench.methods.perturbed:autoguidance",
        "guidance_scale",
        {**_SCALED, "interval": _INTERVAL},
        _OFF,
        2,
        needs=("weak",),
        unconditional=False,
        label="autoguidance",
        source="Karras et al. 2024 (arXiv 2406.02507), eq. 3",
    ),
    "pag": _perturbed("pag", "PAG", "perturbed-attention guidance: Ahn et al. 2024 (arXiv 2403.17377)"),
    "seg": _perturbed("seg", "SEG", "smoothed-energy guidance: Hong 2024 (arXiv 2408.00760)", blur_sigma=_BLUR),
    "slg": _perturbed("slg", "SLG", "skip-layer guidance: Hyung et al. 2024 (arXiv 2411.18664)"),
}

_PIPELINES: dict[str, Method] = {
    "pipeline_cfg": Method(
        "cfgbench.methods.pipelines:pipeline_cfg",
        "guidance_scale",
        {"guidance_scale": Parameter("float", 1.0, 1.0, doc="the pipeline's own; most do nothing with one below 1")},
        {1.0: "pipeline_unguided"},
        2,
        label="CFG by the pipeline",
        source="the pipeline's documentation",
        families=("pipeline",),
        unconditional=False,
    ),
    "pipeline_unguided": Method(
        "cfgbench.methods.pipelines:pipeline_unguided",
        None,
        {},
        {},
        1,
        label="the pipeline at scale 1",
        families=("pipeline",),
        unconditional=False,
    ),
}

_ONE_PASS: dict[str, Method] = {
    "truncation": Method(
        "cfgbench.methods.truncation:truncation",
        "truncation",
        {
            "truncation": Parameter(
                "float", None, 0.01, 6.0, optional=True, doc="bound tau of every latent value; null = off"
            ),
        },
        {inf: "unguided"},
        1,
        label="truncation",
        source="Brock et al. 2019 (arXiv 1809.11096), sec. 3.1",
        families=("one_pass",),
        unconditional=False,
    ),
}

METHODS: dict[str, Method] = {**_BASIC, **_SCHEDULED, **_PROJECTED, **_WORSE, **_PIPELINES, **_ONE_PASS, **_CLIP}
