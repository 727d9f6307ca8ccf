"""The conformance suite: what every guidance method must keep, and one sentence for each promise that it breaks.

A few samples are drawn in a few steps, so that a method can be checked while it is being written.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cfgbench import plugins
from cfgbench.cell import Diffusion, Guidance
from cfgbench.entries import Method
from cfgbench.errors import InputError
from cfgbench.generation import guidance, noise, sampling
from cfgbench.models import Model
from cfgbench.planning.suitability import check_needs
from cfgbench.registry import METHODS, MODELS, resolve

SAMPLES, STEPS = 16, 8
CLASSES = 2  # of labels: every conditional model has them
STRONG = 30.0
SAME = 1e-4  # largest difference of latents that rounding may make
DIFFERENT = 1e-2  # smallest difference that a method is for


@dataclass(frozen=True)
class Finding:
    """What one check found: nothing, or sentences on what is wrong."""

    check: str
    problems: tuple[str, ...]


class Drawn(NamedTuple):
    """Latents (n, ...), the passes per sample that were counted, and those that the networks saw."""

    latents: Tensor
    counts: sampling.Counts
    seen: float


def check(name: str, model: str = "digits") -> list[Finding]:
    """All findings on a method, with a model that has what it needs; InputError for names that are none."""
    plugins.check("method", name, "cfgbench check")
    plugins.check("model", model, "cfgbench check --model")
    if any(parameter.required for parameter in MODELS[model].parameters.values()):
        raise InputError(f"cfgbench check --model {model}: the suite is for models that need no files of yours")
    if "diffusion" not in METHODS[name].families:
        raise InputError(f"cfgbench check {name}: the suite is for methods that guide diffusion models")
    subject = _Subject(name, METHODS[name], _load(name, model))
    return [Finding(check, tuple(_tried(function, subject))) for check, function in CHECKS.items()]


@dataclass(frozen=True)
class _Subject:
    """A method on a model, and how to draw samples with it."""

    name: str
    entry: Method
    model: Model

    @property
    def scale(self) -> str:
        return self.entry.scale or ""

    @property
    def off(self) -> float:
        return next(iter(self.entry.ends), 1.0 if self.scale == "guidance_scale" else 0.0)

    def within(self, scale: float) -> float:
        """A scale, or the strongest legal one below it."""
        maximum = self.entry.parameters[self.scale].maximum if self.scale else None
        return scale if maximum is None else min(scale, maximum)

    @property
    def moderate(self) -> float:
        return self.within(3.0)

    @cached_property
    def usual(self) -> Drawn:
        """At a moderate scale."""
        return self.draw(self.moderate)

    def draw(self, scale: Any, indices: Sequence[int] = range(SAMPLES)) -> Drawn:
        """Samples of the method at a scale, which may be a column."""
        return self.draw_method(self.name, {self.scale: scale} if self.scale else {}, indices)

    def draw_method(self, name: str, parameters: dict[str, Any], indices: Sequence[int] = range(SAMPLES)) -> Drawn:
        """Samples of any method."""
        labels = noise.labels(indices, CLASSES)
        dtype = next((p.dtype for p in self.model.networks["main"].parameters()), torch.float64)
        diffusion = Diffusion(sampler="ddim", steps=STEPS)
        conditions = self.model.conditions(labels)
        batch = sampling.Batch(self.model, diffusion, conditions, torch.from_numpy(labels), dtype, dtype)
        guided = guidance.bind(Guidance.model_construct(method=name, parameters=parameters))
        with _counting(self.model) as seen:
            latents, counts = sampling.sample(batch, guided, 0, indices)
        return Drawn(latents, counts, sum(seen) / len(indices))


def _load(name: str, model: str) -> Model:
    """The model, with the parameters that the method takes."""
    entry, method = MODELS[model], METHODS[name]
    switches = [entry.switches[need] for need in (*method.needs, *method.capabilities) if need in entry.switches]
    parameters = {switch: (entry.parameters[switch].choices or (True,))[0] for switch in switches}
    check_needs(name, model, parameters, "cfgbench check")
    loaded: Model = resolve(entry.target)(**parameters)
    return loaded


def _tried(function: Callable[[_Subject], Iterator[str]], subject: _Subject) -> Iterator[str]:
    """The problems that a check finds; what a method raises is one of them, whatever it is."""
    try:
        yield from function(subject)
    except Exception as error:
        yield f"it raises {type(error).__name__}: {error}"


def _neutral(subject: _Subject) -> Iterator[str]:
    """The neutral settings that a method declares are neutral."""
    for value, end in subject.entry.ends.items():
        gap = _gap(subject.draw(value), subject.draw_method(end, {}))
        if not gap <= SAME:
            yield f"at {subject.scale} = {value:g} it differs from {end} by {gap:.2g}, and declares to equal it"
    settings = subject.entry.cfg_at
    if settings:
        parameters = {subject.scale: subject.moderate, **settings}
        gap = _gap(subject.draw_method(subject.name, parameters), _cfg(subject))
        if not gap <= SAME:
            yield f"with {_words(settings)} it differs from cfg by {gap:.2g}, and declares to equal it"


def _deterministic(subject: _Subject) -> Iterator[str]:
    if not torch.equal(subject.usual.latents, subject.draw(subject.moderate).latents):
        yield "two runs with the same seed differ; draw noise by step.noise, and keep state in step.state"


def _independent(subject: _Subject) -> Iterator[str]:
    """A sample does not depend on the batch that it is drawn in."""
    whole = subject.usual.latents
    turned = subject.draw(subject.moderate, range(SAMPLES)[::-1]).latents.flip(0)
    parts = [range(first, min(first + 7, SAMPLES)) for first in range(0, SAMPLES, 7)]
    joined = torch.cat([subject.draw(subject.moderate, part).latents for part in parts])
    others = subject.draw(subject.moderate, [*range(4), *range(500, 500 + 2 * SAMPLES, 2)]).latents
    for what, ours in (("order", turned), ("size", joined), ("other samples", others[:4])):
        gap = _largest(ours - whole[: len(ours)])
        if not gap <= SAME:
            yield f"its samples depend on the {what} of the batch, by {gap:.2g}; reduce over a sample's own dimensions"


def _passes(subject: _Subject) -> Iterator[str]:
    """What a method costs is what it declares and what is counted."""
    drawn, entry = subject.usual, subject.entry
    per_step = drawn.counts.nfe / STEPS
    if per_step > entry.passes or (per_step < entry.passes and not entry.skips):
        yield f"it takes {per_step:g} network passes per step and declares {entry.passes}"
    if drawn.counts.classifier != STEPS * entry.classifier_passes:
        per_step = drawn.counts.classifier / STEPS
        yield f"it takes {per_step:g} classifier passes per step and declares {entry.classifier_passes}"
    hidden = (drawn.seen - drawn.counts.nfe - drawn.counts.classifier) / STEPS
    if abs(hidden) > 1e-9:
        yield f"it runs {hidden:g} network passes per step that are not counted; ask for them by step.predict"


def _different(subject: _Subject) -> Iterator[str]:
    """A method does something, and something of its own."""
    if not subject.scale:
        return
    halfway = (subject.off + subject.moderate) / 2
    if not _gap(subject.usual, subject.draw(halfway)) > SAME:
        yield f"it ignores its scale: {subject.scale} = {halfway:g} and {subject.moderate:g} give the same samples"
    if not _gap(subject.draw(subject.within(STRONG)), subject.draw_method("unguided", {})) > DIFFERENT:
        yield f"at {subject.scale} = {subject.within(STRONG):g} it gives the same samples as no guidance"
    if subject.name != "cfg" and subject.scale == "guidance_scale" and not _gap(subject.usual, _cfg(subject)) > SAME:
        yield f"at {subject.scale} = {subject.moderate:g} it gives the same samples as cfg"


def _finite(subject: _Subject) -> Iterator[str]:
    scale = subject.within(STRONG) if subject.scale else 0.0
    broken = int((~subject.draw(scale).latents.isfinite()).flatten(1).any(1).sum())
    if broken:
        setting = f" at {subject.scale} = {scale:g}" if subject.scale else ""
        yield f"{broken} of {SAMPLES} samples hold NaN or infinity{setting}"


def _column(subject: _Subject) -> Iterator[str]:
    """A column of scales means for each sample what a single scale means for all."""
    if not subject.scale:
        return
    scales = [(subject.off + subject.moderate) / 2, subject.moderate]
    whole = subject.usual.latents
    column = torch.tensor(scales * (SAMPLES // 2), dtype=whole.dtype).reshape(-1, *[1] * (whole.ndim - 1))
    mixed = subject.draw(column).latents
    for row, scale in enumerate(scales):
        gap = _largest(mixed[row::2] - subject.draw(scale).latents[row::2])
        if not gap <= SAME:
            yield f"in a column of scales {subject.scale} = {scale:g} differs from itself alone by {gap:.2g}"


CHECKS: dict[str, Callable[[_Subject], Iterator[str]]] = {
    "neutral settings are neutral": _neutral,
    "deterministic": _deterministic,
    "independent of the batch": _independent,
    "passes as declared": _passes,
    "does something of its own": _different,
    "finite at strong settings": _finite,
    "takes a column of scales": _column,
}


def _cfg(subject: _Subject) -> Drawn:
    return subject.draw_method("cfg", {"guidance_scale": subject.moderate})


def _gap(one: Drawn, other: Drawn) -> float:
    return _largest(one.latents - other.latents)


def _largest(difference: Tensor) -> float:
    """The largest absolute value; NaN where there is one."""
    return float(np.abs(difference.double().cpu().numpy()).max())


def _words(settings: Any) -> str:
    return " and ".join(f"{name} = {value:g}" for name, value in settings.items())


@contextmanager
def _counting(model: Model) -> Iterator[list[int]]:
    """The rows of every call of the model's networks, whoever makes it."""
    rows: list[int] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = (item for item in (*arguments, *named.values()) if isinstance(item, Tensor) and item.ndim > 1)
        rows.append(len(next(given)))

    networks = {id(network): network for network in model.networks.values()}.values()
    hooks = [network.register_forward_pre_hook(note, with_kwargs=True) for network in networks]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
