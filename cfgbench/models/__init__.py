"""What cfgbench asks of a generative model, and nothing more.

A model predicts in its own parameterisation (`schedule.prediction_type`) at a variance-preserving noisy input
`x_t = sqrt(abar) x_0 + sqrt(1 - abar) noise`; sigma = sqrt((1 - abar) / abar) is the noise level everywhere else. A
flow model's input is `x_t = (1 - t) x_0 + t noise`, with sigma = t / (1 - t), infinite at t = 1.
One file per family below this package; `cfgbench/model_table.py` gives each its name.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from cfgbench.assets.prompts import Prompts

Condition = Any  # a tensor, or a (possibly nested) tuple or dict of tensors, each with the batch as first dimension


@dataclass(frozen=True)
class Level:
    """Where on the trajectory a network is evaluated: networks read the timestep, closed forms read sigma."""

    timestep: Tensor  # shape (), in the units of the training schedule; fractional for some samplers
    sigma: float  # sqrt((1 - abar) / abar)


@dataclass(frozen=True)
class Flow:
    """Which times samplers of a flow use: evenly spaced ones s, shifted to t = shift s / (1 + (shift - 1) s)."""

    shift: float = 1.0
    to_step: bool = False  # Euler's last s is 1/steps, not the least of training


@dataclass(frozen=True)
class Schedule:
    """The noise schedule a model was trained on, complete: no scheduler's own default is ever used."""

    alphas_cumprod: np.ndarray  # (T,) float64, decreasing
    prediction_type: str = "epsilon"  # epsilon | v_prediction | sample; of a flow, flow_prediction: noise - x_0
    config: dict[str, object] = field(default_factory=dict)  # further scheduler settings a checkpoint fixes
    flow: Flow | None = None


class Model(Protocol):
    """One loaded model. Tensors live on the model's device, in its dtype, unless said otherwise."""

    latent_shape: tuple[int, ...]  # of one latent, e.g. (1, 8, 8) or (2,)
    schedule: Schedule
    networks: dict[str, nn.Module]  # "main", and where present "weak", "classifier", "decoder", "text"
    learned_variance: bool  # predictions carry a second half of channels with the variance

    def conditions(self, labels: np.ndarray) -> dict[str, Condition]:
        """Conditions of a batch by name: "cond", "uncond" and, where the family has one, "negative"."""
        ...

    def predict(self, x: Tensor, level: Level, condition: Condition, network: str = "main") -> Tensor:
        """The network's prediction at the noisy input x (n, *latent_shape)."""
        ...

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """Noise-aware classifier: log p(c | x_t), shape (n, classes), differentiable in x."""
        ...

    def decode(self, latents: Tensor) -> np.ndarray:
        """Samples: uint8 RGB or grey images (n, channels, height, width), or float64 vectors (n, d)."""
        ...


class Prompted(Protocol):
    """What a model that draws prompts offers besides."""

    def text_conditions(self, prompts: Prompts) -> dict[str, Condition]:
        """Conditions of a batch of prompts by name, as `Model.conditions` has them of labels."""
        ...


class Guided(Protocol):
    """What a model with the network `guide` offers besides: a judge of how well clean latents suit the prompts."""

    def with_guide(self) -> Model:
        """The same model with the guide among its networks."""
        ...

    def guide_condition(self, prompts: Prompts) -> Condition:
        """The prompts of a batch as the guide compares them."""
        ...

    def guide_gradient(self, latents: Tensor, condition: Condition) -> Tensor:
        """grad log p(prompt | x_0) at clean latents (n, *latent_shape), up to a constant of each prompt."""
        ...


class Configurable(Protocol):
    """What a model with settings offers besides: parameters that it changes without loading anything."""

    def configured(self, **settings: Any) -> Model:
        """The same networks with other settings."""
        ...


class Counting(Protocol):
    """What a model offers besides whose prediction is a whole trajectory."""

    def evaluations_inside(self, samples: int) -> float:
        """Network evaluations per sample in the last prediction of so many."""
        ...


class Embeds(Protocol):
    """What a model with the capability `embedding` offers besides: conditions that a guidance method may edit."""

    def embed(self, condition: Condition) -> Condition:
        """The same condition as floating-point tensors, each (n, ...), which `predict` takes as well."""
        ...
