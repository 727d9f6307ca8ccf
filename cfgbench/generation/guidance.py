"""Guidance methods: what to predict at one step of the sampler.

A method asks the step for the predictions it needs, and what it asks for is what it costs: `step.predict` counts
every network pass, `step.classifier_score` every classifier pass. A method gets its scale as a number or as a
(batch, 1, ...) column and never branches on it; the planner decides what is off.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfgbench.cell import Guidance
from cfgbench.generation.sampling import Step
from cfgbench.registry import METHODS, resolve


def unguided(step: Step) -> Tensor:
    """The conditional prediction alone (s = 1): one pass."""
    return step.predict("cond")


def unconditional(step: Step) -> Tensor:
    """The unconditional prediction alone (s = 0): one pass."""
    return step.predict("uncond")


def cfg(step: Step, guidance_scale: float, rescale: float = 0.0, guided_channels: int | None = None) -> Tensor:
    """Classifier-free guidance: two passes (Ho & Salimans 2022, eq. 6, with s = 1 + w)."""
    cond, uncond = step.predict_all("cond", "uncond")
    guided = uncond + guidance_scale * (cond - uncond)
    return _with_options(guided, cond, rescale, guided_channels)


def classifier(step: Step, classifier_scale: float, form: str = "eps") -> Tensor:
    """Classifier guidance of the conditional model: one pass and one classifier gradient.

    The form `eps` adds the gradient to the score (Dhariwal & Nichol 2021, algorithm 2), for any sampler; `ancestral`
    moves the mean of the step by the step's variance times the gradient (algorithm 1).
    """
    return _FORMS[form](step, step.predict("cond"), classifier_scale * step.classifier_score())


def classifier_uncond(step: Step, classifier_scale: float, form: str = "eps") -> Tensor:
    """Classifier guidance of the unconditional branch, in the same forms."""
    return _FORMS[form](step, step.predict("uncond"), classifier_scale * step.classifier_score())


def clip(step: Step, clip_scale: float) -> Tensor:
    """Guidance by a CLIP: one pass, and the gradient of CLIP's logit on the predicted clean picture.

    The gradient is by x_t with the prediction held constant: it passes through decoder and CLIP, not through the
    denoiser. GLIDE (Nichol et al. 2021, sec. 2.4), whose CLIP was trained on noisy pictures, took it at x_t itself.
    """
    prediction = step.predict("cond")
    return step.add_score(prediction, clip_scale * step.guide_score(prediction))


def universal(step: Step, clip_scale: float) -> Tensor:
    """The same with the gradient through the denoiser as well, which counts as one more pass (Bansal et al. 2023)."""
    prediction, score = step.predict_with_guide_score("cond")
    return step.add_score(prediction, clip_scale * score)


def _with_options(guided: Tensor, cond: Tensor, rescale: float, guided_channels: int | None) -> Tensor:
    """The guided prediction in its first channels only, where these are given, and rescaled where that is asked for."""
    if guided_channels is not None:
        guided = torch.cat([guided[:, :guided_channels], cond[:, guided_channels:]], dim=1)
    return restore_deviation(guided, cond, rescale) if rescale else guided


def restore_deviation(guided: Tensor, cond: Tensor, rescale: float) -> Tensor:
    """Mix in the guided prediction scaled to the conditional one's deviation per sample (Lin et al. 2023, 3.4)."""
    dims = tuple(range(1, guided.ndim))
    ratio = cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return guided * (rescale * ratio + (1 - rescale))


def bind(guidance: Guidance) -> Callable[[Step], Tensor]:
    """The function of a step that a cell's guidance record describes, with its interval applied."""
    method = resolve(METHODS[guidance.method].target)
    parameters: dict[str, Any] = dict(guidance.parameters)
    interval = parameters.pop("interval", None)

    def guided(step: Step) -> Tensor:
        if interval is not None and not _inside(step.sigma, interval):
            return step.predict("cond")
        result: Tensor = method(step, **parameters)
        return result

    return guided


def begins(guidance: Guidance, sigmas: Sequence[float]) -> int:
    """The first evaluation, of those at these noise levels, that is guided; before it, all predict "cond" alone."""
    interval: Any = guidance.parameters.get("interval")
    if interval is None:
        return 0
    return next((index for index, sigma in enumerate(sigmas) if _inside(sigma, interval)), len(sigmas))


def _inside(sigma: float, interval: tuple[float | None, float | None]) -> bool:
    low, high = interval
    return (low or 0.0) < sigma and (high is None or sigma <= high)


_FORMS: dict[str, Callable[[Step, Tensor, Tensor], Tensor]] = {"eps": Step.add_score, "ancestral": Step.add_to_mean}
