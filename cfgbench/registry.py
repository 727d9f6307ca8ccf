"""Every name a user can write, with the code it stands for: tables without torch.

A target is `module:attribute`, imported only when it runs. To add a guidance method, a sampler, a model, a metric,
an encoder or a reference set: write the function, add one line here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method or model: its type, default and legal range."""

    kind: str  # float | int | bool | str | interval
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[object, ...] | None = None
    optional: bool = False  # null is allowed
    doc: str = ""


@dataclass(frozen=True)
class Method:
    """A guidance method. `ends` names the cheaper method that a setting of the scale amounts to."""

    target: str
    scale: str | None  # the parameter that says how strong: guidance_scale | classifier_scale
    parameters: Mapping[str, Parameter]
    ends: Mapping[float, str]
    passes: int  # network evaluations per guided step and sample
    classifier_passes: int = 0
    needs: tuple[str, ...] = ()  # networks beside "main"
    label: str = ""
    source: str = ""


@dataclass(frozen=True)
class Sampler:
    """A diffusers scheduler with the settings that make it this sampler."""

    target: str
    settings: Mapping[str, object] = field(default_factory=dict)
    evaluations: str = "n"  # len(timesteps) for n steps: n | 2n-1 | n+1
    stochastic: bool = False
    eta: bool = False  # step() takes eta
    minimum_steps: int = 1


@dataclass(frozen=True)
class Model:
    """A model family. What the planner must know before any weights load."""

    target: str
    parameters: Mapping[str, Parameter]
    num_classes: str | int  # a number, or the target of a function of the parameters
    files: str | None  # target of a function of the parameters: network -> weight file, hashed into a cell's id
    noise_levels: str  # target of a torch-free function of the parameters: sigma per training timestep, increasing
    encoder: str
    reference: str
    dtypes: tuple[str, ...]
    networks: tuple[str, ...] = ("main",)


@dataclass(frozen=True)
class Metric:
    """A function of features. `needs` is what it reads of the samples."""

    target: str
    label: str
    lower_is_better: bool
    needs: str = "features"  # features | log_probs | clip_scores
    reference: bool = True  # compared with a reference set
    headline: str = "value"  # value | bias_corrected
    interval: bool = True  # False where the jackknife does not cover: shown without an error bar
    limits: tuple[float, float] = (-inf, inf)  # of the score; close to an end there is no interval
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoder:
    """Turns samples into what metrics read."""

    target: str
    provides: tuple[str, ...]
    files: str | None  # target of a function () -> {what it provides: weight file}
    images: tuple[int, int | None, int | None] | None = None  # channels, height, width it reads; None is any


@dataclass(frozen=True)
class ReferenceSet:
    """Two disjoint sets: scores without a suffix are against the held-out one, `_train` against the other."""

    target: str  # (half, model parameters) -> samples and labels
    halves: tuple[str, ...] = ("heldout", "train")


def resolve(target: str) -> Callable[..., Any]:
    """The object that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)  # type: ignore[no-any-return]


_INTERVAL = Parameter(
    "interval", optional=True, doc="noise levels (sigma_lo, sigma_hi] with guidance; conditional elsewhere"
)
_GUIDANCE_SCALE = Parameter("float", 1.0, 0.0, doc="s in uncond + s (cond - uncond); 1 = off, 0 = unconditional")
_CLASSIFIER_SCALE = Parameter("float", 0.0, 0.0, doc="multiplies grad log p(c|x_t); 0 = off")
_RESCALE = Parameter("float", 0.0, 0.0, 1.0, doc="share of the conditional prediction's standard deviation restored")

METHODS: dict[str, Method] = {
    "unguided": Method("cfgbench.guidance:unguided", None, {}, {}, 1, label="unguided"),
    "unconditional": Method(
        "cfgbench.guidance:unconditional", None, {"interval": _INTERVAL}, {}, 1, label="unconditional"
    ),
    "cfg": Method(
        "cfgbench.guidance:cfg",
        "guidance_scale",
        {"guidance_scale": _GUIDANCE_SCALE, "rescale": _RESCALE, "interval": _INTERVAL},
        {1.0: "unguided", 0.0: "unconditional"},
        2,
        label="CFG",
        source="Ho & Salimans 2022, eq. 6; rescale: Lin et al. 2023, sec. 3.4; interval: Kynkaanniemi et al. 2024",
    ),
    "classifier": Method(
        "cfgbench.guidance:classifier",
        "classifier_scale",
        {"classifier_scale": _CLASSIFIER_SCALE, "interval": _INTERVAL},
        {0.0: "unguided"},
        1,
        1,
        ("classifier",),
        label="classifier guidance, conditional model",
        source="Dhariwal & Nichol 2021, algorithm 2",
    ),
    "classifier_uncond": Method(
        "cfgbench.guidance:classifier_uncond",
        "classifier_scale",
        {"classifier_scale": _CLASSIFIER_SCALE},
        {0.0: "unconditional"},
        1,
        1,
        ("classifier",),
        label="classifier guidance, unconditional branch",
        source="Dhariwal & Nichol 2021, algorithm 2",
    ),
}

_DPMPP = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler("diffusers:DDIMScheduler", eta=True),
    "ddpm": Sampler("diffusers:DDPMScheduler", {"variance_type": "fixed_small"}, stochastic=True),
    "dpmpp_2m": Sampler("diffusers:DPMSolverMultistepScheduler", _DPMPP),
    "dpmpp_2m_karras": Sampler("diffusers:DPMSolverMultistepScheduler", {**_DPMPP, "use_karras_sigmas": True}),
    "dpmpp_2m_sde": Sampler(
        "diffusers:DPMSolverMultistepScheduler", {**_DPMPP, "algorithm_type": "sde-dpmsolver++"}, stochastic=True
    ),
    "dpmpp_2m_sde_karras": Sampler(
        "diffusers:DPMSolverMultistepScheduler",
        {**_DPMPP, "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
        stochastic=True,
    ),
    "euler": Sampler("diffusers:EulerDiscreteScheduler"),
    "euler_karras": Sampler("diffusers:EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "euler_ancestral": Sampler("diffusers:EulerAncestralDiscreteScheduler", stochastic=True),
    "heun": Sampler("diffusers:HeunDiscreteScheduler", evaluations="2n-1"),
    "kdpm2": Sampler("diffusers:KDPM2DiscreteScheduler", evaluations="2n-1", minimum_steps=2),
    "unipc": Sampler("diffusers:UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2"}),
    "deis": Sampler("diffusers:DEISMultistepScheduler", {"solver_order": 2, "algorithm_type": "deis"}),
    "pndm": Sampler("diffusers:PNDMScheduler", {"skip_prk_steps": True}, evaluations="n+1", minimum_steps=2),
    "lms": Sampler("diffusers:LMSDiscreteScheduler"),
}

DTYPES = ("fp32", "tf32", "bf16", "fp16", "fp64", "bf16_emulated", "fp16_emulated")
_NETWORK_DTYPES = ("fp32", "tf32", "bf16", "fp16", "bf16_emulated", "fp16_emulated")

MODELS: dict[str, Model] = {
    "gaussians": Model(
        "cfgbench.models.gaussians:load",
        {"mixture": Parameter("str", "toy2d", choices=("toy2d", "nested", "general2", "general16"))},
        num_classes="cfgbench.mixtures:num_classes",
        files=None,
        noise_levels="cfgbench.mixtures:noise_levels",
        encoder="gaussians",
        reference="gaussians",
        dtypes=("fp32", "fp64"),
        networks=("main", "classifier"),
    ),
    "digits": Model(
        "cfgbench.models.digits:load",
        {
            "p_uncond": Parameter("float", 0.1, choices=(0.1, 0.2, 0.5), doc="label dropout in training"),
            "training_steps": Parameter("int", 800, choices=(100, 200, 400, 800, 1600)),
            "training_seed": Parameter("int", 0, choices=(0, 1, 2)),
            "attention": Parameter("bool", False, doc="the variant with self-attention"),
            "weak_steps": Parameter("int", None, choices=(100, 200, 400), optional=True, doc="early snapshot as weak"),
        },
        num_classes=10,
        files="cfgbench.digits_data:network_files",
        noise_levels="cfgbench.digits_data:noise_levels",
        encoder="digits",
        reference="digits",
        dtypes=_NETWORK_DTYPES,
        networks=("main", "classifier", "weak"),
    ),
}

METRICS: dict[str, Metric] = {
    "fid": Metric("cfgbench.metrics:fid", "FID", True, headline="bias_corrected"),
    "kid": Metric("cfgbench.metrics:kid", "KID", True, headline="bias_corrected", parameters={"degree": 3}),
    "inception_score": Metric("cfgbench.metrics:inception_score", "IS", False, "log_probs", reference=False),
    "precision": Metric("cfgbench.metrics:precision", "precision", False, limits=(0, 1), parameters={"k": 3}),
    "recall": Metric("cfgbench.metrics:recall", "recall", False, interval=False, parameters={"k": 3}),
    "density": Metric("cfgbench.metrics:density", "density", False, parameters={"k": 5}),
    "coverage": Metric("cfgbench.metrics:coverage", "coverage", False, interval=False, parameters={"k": 5}),
    "accuracy": Metric("cfgbench.metrics:accuracy", "accuracy", False, "log_probs", reference=False, limits=(0, 1)),
    "clip_score": Metric("cfgbench.metrics:clip_score", "CLIP score", False, "clip_scores", reference=False),
}

ENCODERS: dict[str, Encoder] = {
    "gaussians": Encoder("cfgbench.encoders:gaussians", ("features", "log_probs"), None),
    "digits": Encoder(
        "cfgbench.encoders:digits",
        ("features", "log_probs", "clip_scores"),
        "cfgbench.digits_data:encoder_files",
        images=(1, 8, 8),
    ),
}

REFERENCES: dict[str, ReferenceSet] = {
    "gaussians": ReferenceSet("cfgbench.mixtures:reference"),
    "digits": ReferenceSet("cfgbench.digits_data:reference"),
}
