"""The one sampling loop: noise -> latents, around `guidance(step)` and a diffusers scheduler.

A trajectory is a copyable value, so that cells which share a prefix can share its work. Network passes are counted
where they happen.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from cfgbench.cell import Diffusion
from cfgbench.generation import noise, schedulers
from cfgbench.models import Condition, Counting, Embeds, Guided, Level, Model

_EDITED = "an edited condition, or a patched network"  # among the names of conditions
Patch = Callable[[torch.nn.Module], AbstractContextManager[object]]


@dataclass(frozen=True)
class Request:
    """One prediction: a condition by name or an edited embedding, a network, and a patch of it for this pass.

    With `rows` (n,) bool the pass is for these samples only, and so is the prediction. `x` is where to evaluate, if not
    at the step's own x.
    """

    condition: str | Condition
    network: str = "main"
    patch: Patch | None = None
    rows: Tensor | None = None
    x: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether its names say all, so that it may share a network call with others."""
        return self.patch is None and self.rows is None and self.x is None


@dataclass
class Counts:
    """Passes per sample: network evaluations (nfe), and classifier forward and backward passes."""

    nfe: float = 0  # whole but where some samples skip a pass: then the mean over the batch
    classifier: int = 0


@dataclass(frozen=True)
class Batch:
    """What stays fixed along the trajectories of some samples."""

    model: Model
    diffusion: Diffusion | None  # None: the model makes its samples in one pass
    conditions: dict[str, Condition]
    labels: Tensor  # (n,)
    dtype: torch.dtype  # of the networks' inputs
    state_dtype: torch.dtype  # of x and of the guided combination
    batched: bool = False  # several predictions of a step as one network call
    watch: Callable[[str], AbstractContextManager[object]] = nullcontext  # entered around "denoiser", "classifier"


@dataclass
class Predictions:
    """Predictions at one evaluation that other trajectories which came the same way may use; more are added as made."""

    outputs: dict[tuple[str, str], Tensor] = field(default_factory=dict)  # by condition and network
    variances: dict[str, Tensor] = field(default_factory=dict)  # learned ones, by condition


@dataclass
class Trajectory:
    """Where some samples are between noise and image."""

    x: Tensor  # (n, *latent_shape), in the scheduler's own scaling; in the end, the samples
    scheduler: Any
    sigmas: list[float]  # per evaluation, and the final 0
    step_noise: noise.StepNoise
    guidance_noise: noise.StepNoise
    index: int = 0
    state: dict[str, Any] = field(default_factory=dict)  # of the guidance method
    counts: Counts = field(default_factory=Counts)
    predictions: Predictions | None = None  # at evaluation `index`, where they are shared

    def __len__(self) -> int:
        return len(self.scheduler.timesteps)

    def copy(self) -> "Trajectory":
        """An independent continuation from here, which still shares predictions."""
        return replace(copy.deepcopy(replace(self, predictions=None)), predictions=self.predictions)


def start(batch: Batch, seed: int, indices: Sequence[int]) -> Trajectory:
    """The trajectory of the samples `indices` of stream `seed` at pure noise."""
    device = batch.labels.device
    scheduler = schedulers.build(batch.diffusion, batch.model.schedule, str(device))
    values = torch.from_numpy(noise.initial(seed, indices, batch.model.latent_shape))
    x = (values * schedulers.initial_deviation(scheduler)).to(device, batch.state_dtype)
    levels = schedulers.sigmas(scheduler, batch.model.schedule)
    guidance_noise = noise.StepNoise(seed, indices, noise.GUIDANCE)
    return Trajectory(x, scheduler, levels, noise.StepNoise(seed, indices), guidance_noise)


def advance(trajectory: Trajectory, batch: Batch, guidance: Callable[["Step"], Tensor], until: int) -> None:
    """Run the sampler, in place, up to evaluation `until`."""
    while trajectory.index < until:
        step = Step(trajectory, batch)
        prediction = guidance(step)
        if step.variance is not None and schedulers.takes_variance(trajectory.scheduler):
            is_last = step.index == step.count - 1  # and adds no noise, whatever timestep it ends at
            tail = torch.full_like(step.variance, -1) if is_last else step.variance
            prediction = torch.cat([prediction, tail], dim=1)
        trajectory.x = _scheduler_step(trajectory, batch, prediction)
        trajectory.index += 1
        trajectory.predictions = None


def sample(
    batch: Batch, guidance: Callable[["Step"], Tensor], seed: int, indices: Sequence[int]
) -> tuple[Tensor, Counts]:
    """Latents (n, *latent_shape) of the samples `indices` of stream `seed`, and what each of them cost."""
    with torch.no_grad():
        trajectory = start(batch, seed, indices)
        advance(trajectory, batch, guidance, len(trajectory))
        return trajectory.x, trajectory.counts


class Step:
    """What a guidance method may see and ask for at one evaluation of the sampler."""

    def __init__(self, trajectory: Trajectory, batch: Batch) -> None:
        self._trajectory, self._batch = trajectory, batch
        self.index = trajectory.index
        self.count = len(trajectory)
        self.timestep: Tensor = trajectory.scheduler.timesteps[self.index]
        self.sigmas = trajectory.sigmas[:-1]  # of all evaluations
        self.sigma, self.next_sigma = trajectory.sigmas[self.index : self.index + 2]
        self.labels = batch.labels
        self.state = trajectory.state
        scaled = schedulers.network_input(trajectory.scheduler, trajectory.x, self.timestep)
        self.x: Tensor = scaled.to(batch.state_dtype)  # variance-preserving network input
        self._variances: dict[str, Tensor] = {}  # learned ones of the main network, by condition
        self._cache: dict[tuple[str, str] | int, Tensor] = {}

    @property
    def level(self) -> Level:
        """Where the networks are evaluated."""
        return Level(self.timestep, self.sigma)

    @property
    def signal(self) -> float:
        """The factor of the clean latents in `x`: sqrt(abar), or 1 - t of a flow."""
        return 1 / (1 + self.sigma) if self._is_flow else float((1 + self.sigma**2) ** -0.5)

    @property
    def spread(self) -> float:
        """The factor of the noise in `x`: sqrt(1 - abar), or t of a flow."""
        return 1 - self.signal if self._is_flow else self.signal * self.sigma

    @property
    def _is_flow(self) -> bool:
        return self._batch.model.schedule.flow is not None

    @property
    def variance(self) -> Tensor | None:
        """The learned variance that goes with what was predicted: that of "cond" before all others."""
        order = ("cond", _EDITED, *self._variances)
        return next((self._variances[name] for name in order if name in self._variances), None)

    @property
    def time(self) -> float:
        """The share of the training schedule that is left: 1 at pure noise."""
        count = len(self._batch.model.schedule.alphas_cumprod)
        return (float(self.timestep) + (0 if self._is_flow else 1)) / count

    def predict(self, request: str | Request) -> Tensor:
        """One counted prediction (n, *latent_shape) in the model's parameterisation."""
        return self.predict_all(request)[0]

    def predict_all(self, *requests: str | Request) -> list[Tensor]:
        """Several predictions, as one network call or one after the other, as the run says; repeats are free."""
        asked = [Request(request) if isinstance(request, str) else request for request in requests]
        missing = {_key(request): request for request in asked if _key(request) not in self._cache}
        fresh = self._recall(missing)
        unknown = {key: request for key, request in missing.items() if key not in fresh}
        made = dict(zip(unknown, self._run(list(unknown.values())), strict=True))
        self._share(made)
        fresh |= made
        self._cache |= {key: prediction for key, prediction in fresh.items() if not isinstance(key, int)}
        return [fresh[key] if (key := _key(request)) in fresh else self._cache[key] for request in asked]

    def denoised(self, prediction: Tensor, x: Tensor | None = None) -> Tensor:
        """The predicted clean latents x_0, of a prediction at `x` if that is given."""
        a, b, x = self.signal, self.spread, self.x if x is None else x
        kind = self._batch.model.schedule.prediction_type
        if kind == "flow_prediction":
            return x - b * prediction
        if kind == "epsilon":
            return (x - b * prediction) / a
        return a * x - b * prediction if kind == "v_prediction" else prediction

    def from_denoised(self, denoised: Tensor) -> Tensor:
        """The prediction whose clean latents these are: the inverse of `denoised`."""
        a, b = self.signal, self.spread
        kind = self._batch.model.schedule.prediction_type
        if kind == "flow_prediction":
            return (self.x - denoised) / b
        if kind == "epsilon":
            return (self.x - a * denoised) / b
        return (a * self.x - denoised) / b if kind == "v_prediction" else denoised

    def embedded(self, condition: str) -> Condition:
        """A named condition as the floating-point tensors that the network reads, to edit and ask for."""
        return cast(Embeds, self._batch.model).embed(self._batch.conditions[condition])

    def add_score(self, prediction: Tensor, score: Tensor) -> Tensor:
        """The prediction of a model whose score at `x` is higher by `score`, in any parameterisation."""
        b = self.spread
        factor = {"epsilon": -b, "v_prediction": -self.sigma, "sample": b * self.sigma, "flow_prediction": -self.sigma}
        return prediction + factor[self._batch.model.schedule.prediction_type] * score

    def add_to_mean(self, prediction: Tensor, score: Tensor) -> Tensor:
        """The prediction with which the mean of an ancestral sampler's step is higher by its variance times `score`."""
        ratio = schedulers.variance_ratio(self._trajectory.scheduler, self.index, self.variance)
        return self.add_score(prediction, ratio.to(score.device, score.dtype) * score)

    def classifier_score(self) -> Tensor:
        """grad log p(label | x_t) at `x`: one counted forward and backward pass of the noise-aware classifier."""
        self._trajectory.counts.classifier += 1
        with self._batch.watch("classifier"), torch.enable_grad():
            x = self.x.detach().to(self._batch.dtype).requires_grad_(True)
            log_probs = self._batch.model.class_log_probs(x.view_as(x), self.level)  # no leaf: FLOP counters hook it
            chosen = log_probs.gather(1, self.labels[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, x)
        return gradient.to(self._batch.state_dtype)

    def guide_score(self, prediction: Tensor) -> Tensor:
        """grad log p(prompt | x_0) by `x`, x_0 being the clean latents of a prediction that is held constant.

        One counted forward and backward pass of the guiding network, the decoder included.
        """
        with torch.enable_grad():
            x = self.x.detach().requires_grad_(True)
            return self._guide_score(self.denoised(prediction.detach(), x), x)

    def predict_with_guide_score(self, condition: str) -> tuple[Tensor, Tensor]:
        """A prediction and grad log p(prompt | x_0) by `x` through the network that predicts.

        The way back through that network counts as one more pass: its weights are frozen, so that only the gradient by
        the input is computed, which takes about as many operations as a pass forward.
        """
        with torch.enable_grad():
            x = self.x.detach().requires_grad_(True)
            prediction = self.predict(Request(condition, x=x.view_as(x)))  # no leaf: FLOP counters hook it
            score = self._guide_score(self.denoised(prediction, x), x)
        self._trajectory.counts.nfe += 1
        return prediction.detach(), score

    def _guide_score(self, clean: Tensor, x: Tensor) -> Tensor:
        self._trajectory.counts.classifier += 1
        model = cast(Guided, self._batch.model)
        with self._batch.watch("classifier"):
            gradient = model.guide_gradient(clean.detach().to(self._batch.dtype), self._batch.conditions["guide"])
        with self._batch.watch("denoiser"):
            (score,) = torch.autograd.grad(clean, x, gradient.to(clean.dtype))
        return score

    def noise(self, like: Tensor) -> Tensor:
        """Fresh standard normal noise shaped like a tensor (n, ...), from the samples' own streams for guidance."""
        values = torch.from_numpy(self._trajectory.guidance_noise.draw(tuple(like.shape[1:])))
        return values.to(like.device, like.dtype)

    def _recall(self, keys: Iterable[tuple[str, str] | int]) -> dict[tuple[str, str] | int, Tensor]:
        """Those predictions that another trajectory has made here, counted as passes; copies, for methods may edit."""
        shared = self._trajectory.predictions
        if shared is None:
            return {}
        found = [key for key in keys if not isinstance(key, int) and key in shared.outputs]
        self._trajectory.counts.nfe += len(found)
        names = [condition for condition, network in found if network == "main"]
        self._variances |= {name: shared.variances[name] for name in names if name in shared.variances}
        return {key: shared.outputs[key].clone() for key in found}

    def _share(self, made: Mapping[tuple[str, str] | int, Tensor]) -> None:
        shared = self._trajectory.predictions
        if shared is not None:
            shared.outputs |= {key: output.clone() for key, output in made.items() if not isinstance(key, int)}
            shared.variances |= {name: tail for name, tail in self._variances.items() if name != _EDITED}

    def _run(self, requests: list[Request]) -> list[Tensor]:
        if self._batch.batched and len(requests) > 1 and _same_network(requests):
            return self._together(requests)
        return [self._one(request) for request in requests]

    def _condition(self, request: Request) -> Condition:
        condition = request.condition
        return self._batch.conditions[condition] if isinstance(condition, str) else condition

    def _one(self, request: Request) -> Tensor:
        network = self._batch.model.networks[request.network]
        x = self.x if request.x is None else request.x
        with request.patch(network) if request.patch else nullcontext():
            if request.rows is not None:
                return self._some(x, request, request.rows)
            output, tail = self._call(x, self._condition(request), request)
            self._keep_variance(request, tail)
            return output

    def _some(self, x: Tensor, request: Request, rows: Tensor) -> Tensor:
        """The prediction of some samples, counted as that share of a pass; no call where there are none."""
        if not rows.any():
            return x[rows]
        condition = pytree.tree_map(lambda part: part[rows], self._condition(request))
        return self._call(x[rows], condition, request, float(rows.double().mean()))[0]

    def _together(self, requests: list[Request]) -> list[Tensor]:
        conditions = [self._condition(request) for request in requests]
        joined = pytree.tree_map(lambda *parts: torch.cat(parts), *conditions)
        x = torch.cat([self.x] * len(requests))
        outputs, tails = (part.chunk(len(requests)) for part in self._call(x, joined, requests[0], len(requests)))
        for request, tail in zip(requests, tails, strict=True):
            self._keep_variance(request, tail)
        return list(outputs)

    def _keep_variance(self, request: Request, tail: Tensor) -> None:
        """Of the main network, for all samples; of edited and patched passes the first counts."""
        if not self._batch.model.learned_variance or request.network != "main" or request.rows is not None:
            return
        if request.is_plain and isinstance(request.condition, str):
            self._variances[request.condition] = tail
        else:
            self._variances.setdefault(_EDITED, tail)

    def _call(self, x: Tensor, condition: Condition, request: Request, passes: float = 1) -> tuple[Tensor, Tensor]:
        """The prediction and its learned variance, which is empty where there is none."""
        model = self._batch.model
        with self._batch.watch("denoiser"):
            output = model.predict(x.to(self._batch.dtype), self.level, condition, request.network)
        inside = cast(Counting, model).evaluations_inside(len(x)) if hasattr(model, "evaluations_inside") else 1
        self._trajectory.counts.nfe += passes * inside
        output = output.to(self._batch.state_dtype)
        width = output.shape[1] // (1 + model.learned_variance)
        return output[:, :width], output[:, width:]


def _key(request: Request) -> tuple[str, str] | int:
    """What makes two requests the same: names; one with an edited embedding, a patch, rows or an x is like no other."""
    if isinstance(request.condition, str) and request.is_plain:
        return (request.condition, request.network)
    return id(request)


def _same_network(requests: list[Request]) -> bool:
    return len({request.network for request in requests}) == 1 and all(request.is_plain for request in requests)


def _scheduler_step(trajectory: Trajectory, batch: Batch, prediction: Tensor) -> Tensor:
    scheduler = trajectory.scheduler
    timestep = scheduler.timesteps[trajectory.index]
    eta = {"eta": batch.diffusion.eta} if batch.diffusion is not None and batch.diffusion.eta else {}
    with schedulers.noise_from(scheduler, trajectory.step_noise):
        x: Tensor = scheduler.step(prediction, timestep, trajectory.x, **eta).prev_sample
    return x.to(batch.state_dtype)
