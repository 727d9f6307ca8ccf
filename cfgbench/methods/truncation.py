"""The truncation trick: a generator fed with latents from the middle of their law makes better and more similar images.

What guidance is to diffusion models, truncation is to GANs: one number that trades variety for quality after training.
"""

import math

import torch
from torch import Tensor

from cfgbench.generation.sampling import Request, Step

_ROOT = math.sqrt(2)


def truncation(step: Step, truncation: float) -> Tensor:
    """The generator's image of latents within `truncation` of zero: one pass (Brock et al. 2019, sec. 3.1)."""
    return step.predict(Request("cond", x=truncated(step.x, truncation)))


def truncated(z: Tensor, threshold: float) -> Tensor:
    """Standard normal values z, each moved to its own quantile of the normal law that ends at the threshold.

    That is the law of redrawing every value until it lies within. Moving it instead takes no more noise, and samples at
    neighbouring thresholds stay alike, as those at neighbouring guidance scales do.
    """
    share = torch.erf(torch.as_tensor(threshold, dtype=torch.float64, device=z.device) / _ROOT)
    return (_ROOT * torch.erfinv(torch.erf(z.double() / _ROOT) * share)).to(z.dtype)
