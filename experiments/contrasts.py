"""Two ways of sampling that guidance is held against, as guidance methods for the experiments in this folder.

torch is imported when they run, so that planning an experiment does without.
"""

from functools import cache
from typing import TYPE_CHECKING

from cfgbench.plugins import declare
from cfgbench.testbeds.digits_data import FEATURES_HALF_A, weight_path

if TYPE_CHECKING:
    from torch import Tensor

    from cfgbench.generation.sampling import Step
    from cfgbench.models.digits_networks import FeatureNet


@declare(passes=1, ends={1.0: "unguided"}, label="temperature", source="Dhariwal & Nichol 2021, appendix G")
def temperature(step: "Step", temperature_scale: float) -> "Tensor":
    """The conditional model whose predicted noise is divided by the temperature: below 1, more noise is removed."""
    denoised = step.denoised(step.predict("cond"))
    noise = (step.x - step.signal * denoised) / (step.signal * step.sigma)
    cooled = (step.x - step.signal * step.sigma * noise / temperature_scale) / step.signal
    return step.from_denoised(cooled)


@declare(passes=1, ends={0.0: "unguided"}, label="guidance by a classifier that never saw noise", source="ours")
def clean_classifier(step: "Step", clean_scale: float) -> "Tensor":
    """The conditional model and grad log p(c|x) of a digits classifier that was trained on clean images only."""
    import torch

    with torch.enable_grad():
        x = step.x.detach().requires_grad_(True)
        _, logits = _classifier()(x)
        (gradient,) = torch.autograd.grad(logits.log_softmax(1).gather(1, step.labels[:, None]).sum(), x)
    return step.add_score(step.predict("cond"), clean_scale * gradient)


@cache
def _classifier() -> "FeatureNet":
    from safetensors.torch import load_file

    from cfgbench.models.digits_networks import FeatureNet

    network = FeatureNet()
    network.load_state_dict(load_file(weight_path(FEATURES_HALF_A)))
    return network.eval().requires_grad_(False)
