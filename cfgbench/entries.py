"""What a registry says of each name: typed entries whose targets `module:attribute` are imported only when they run.

A plug-in's entry has the digest of the file that it comes from, which enters the ids of cells and scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from operator import attrgetter
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
    required: bool = False  # of a model: there is no default
    location: bool = False  # of a model: says where its files are; not part of a cell's id, the files' digest is
    setting: bool = False  # of a model: changed without loading it again, and an axis of a sweep like any other
    scale: bool = False  # of a model: says how strongly it is guided, so that curves run over it; costs nothing
    uncond: bool = False  # of a model: changes the prediction without condition and nothing else
    samplers: Mapping[object, tuple[str, ...]] = field(default_factory=dict)  # the only ones that a choice suits


@dataclass(frozen=True)
class Method:
    """A guidance method. `ends` names the cheaper method that a setting of the scale amounts to."""

    target: str
    scale: str | None  # the parameter that says how strong: guidance_scale, or a name of its own, 0 = off
    parameters: Mapping[str, Parameter]
    ends: Mapping[float, str]
    passes: int  # network evaluations per guided step and sample
    classifier_passes: int = 0
    needs: tuple[str, ...] = ()  # networks beside "main"
    label: str = ""
    source: str = ""
    base_scale: float = 1.0  # the guidance_scale that a scale of its own starts from
    cfg_at: Mapping[str, object] = field(default_factory=dict)  # settings that make it plain CFG, where there are any
    always: tuple[str, ...] = ()  # parameters that act whatever the scale: with one of them set, nothing is "off"
    capabilities: tuple[str, ...] = ()  # what it asks of the model: attention, embedding, grid
    samplers: tuple[str, ...] = ()  # the only ones it is right with, at eta = 0; empty: all
    skips: bool = False  # may ask for fewer passes than it declares
    families: tuple[str, ...] = ("diffusion", "flow")  # of models, that it is a method for
    unconditional: bool = True  # asks for the prediction without condition
    digest: str | None = None


@dataclass(frozen=True)
class Sampler:
    """A diffusers scheduler with the settings that make it this sampler."""

    target: str
    settings: Mapping[str, object] = field(default_factory=dict)
    flow: str | None = None  # the class for flow models, with the same settings; None where there is none
    evaluations: str = "n"  # len(timesteps) for n steps: n | 2n-1 | n+1
    stochastic: bool = False
    eta: bool = False  # step() takes eta
    minimum_steps: int = 1
    capabilities: tuple[str, ...] = ()  # what it asks of the model: learned_variance


@dataclass(frozen=True)
class Execution:
    """How a network computes: the memory layout of its convolutions, and torch.compile's mode where it is compiled."""

    channels_last: bool = False
    mode: str | None = None
    graphs: bool = False  # captured as CUDA graphs, which only a GPU can


@dataclass(frozen=True)
class Model:
    """A model family. What the planner must know before any weights load."""

    target: str
    parameters: Mapping[str, Parameter]
    num_classes: str | int  # a number, or the target of a function of the parameters
    files: str | None  # target of a function of the parameters: network -> weight file, hashed into a cell's id
    noise_levels: str | None  # target of a torch-free function of the parameters: sigma per timestep, increasing
    encoder: str | None  # None: no scores but those of an encoder that the experiment names
    reference: str | None
    dtypes: tuple[str, ...]
    networks: tuple[str, ...] = ("main",)
    capabilities: tuple[str, ...] = ()  # attention, embedding (of a condition), grid (height, width), learned_variance
    switches: Mapping[str, str] = field(default_factory=dict)  # network or capability -> the parameter it takes
    replicate: str | None = None  # the parameter that says which of several equally trained networks
    family: str = "diffusion"  # or flow: samplers with a form for that; one_pass or pipeline: no sampler, no levels
    prompted: bool = False  # draws what prompts say, not classes; `num_classes` is then without meaning
    notes: str | None = None  # target of a function of the parameters: sentences on what they stand for
    lacks: str | None = (
        None  # target of a function of the parameters: networks, capabilities and scales they leave out, and why
    )
    size: str | None = None  # target of a function of the parameters: height and width of a picture, in pixels
    digest: str | None = None


@dataclass(frozen=True)
class Metric:
    """A function of features. `needs` is what it reads of the samples."""

    target: str
    label: str
    lower_is_better: bool
    needs: str = "features"  # features (or those of an encoder by name, features_...) | log_probs | clip_scores
    classes: bool = False  # asks for the class of each sample, which prompts are not
    reference: bool = True  # compared with a reference set
    moments: bool = False  # of which a mean and a covariance are enough
    headline: str = "value"  # value | bias_corrected
    interval: bool = True  # False where the jackknife does not cover: shown without an error bar
    limits: tuple[float, float] = (-inf, inf)  # of the score; close to an end there is no interval
    parameters: Mapping[str, object] = field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True)
class Encoder:
    """Turns samples into what metrics read."""

    # (samples, class numbers or prompts (n,), model parameters, **own parameters) -> cfgbench.encoders.Encoded
    target: str
    provides: tuple[str, ...]
    files: str | None  # target of a function of its parameters -> {what it provides: weight file}
    images: tuple[int, int | None, int | None] | None = None  # channels, height, width it reads; None is any
    digest: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    settings: str | None = None  # target of a function of its parameters -> those that scores depend on; else all
    classes: bool = True  # its class numbers are those of the model
    prompts: bool = False  # it scores agreement with prompts, not with classes
    on_device: bool = False  # its target takes the device
    dimension: int | None = None  # of its features, of the usual network where there are several


@dataclass(frozen=True)
class ReferenceSet:
    """Two disjoint sets: scores without a suffix are against the held-out one, `_train` against the other."""

    target: str  # (half, model parameters) -> samples and labels
    halves: tuple[str, ...] = ("heldout", "train")
    digest: str | None = None


def resolve(target: str) -> Callable[..., Any]:
    """The object that `module:attribute` or `module:object.attribute` names."""
    module, _, attribute = target.partition(":")
    return attrgetter(attribute)(import_module(module))  # type: ignore[no-any-return]
