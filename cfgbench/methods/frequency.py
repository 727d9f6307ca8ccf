"""Frequency-decoupled guidance: one scale for fine detail, another for what is left after halving the image."""

import torch
from torch import Tensor
from torch.nn import functional

from cfgbench.generation.sampling import Step


def fdg(step: Step, guidance_scale: float, low_share: float = 0.5) -> Tensor:
    """Guidance by a two-level Laplacian pyramid (Sadat et al. 2025): s on the high band, less on the low one.

    The low band has w_low = low_share w_high, so that s = 1 is off and `low_share` = 1 is CFG. The pyramid is linear:
    guiding its levels and adding them up is guiding the two parts of cond - uncond. Ours, since diffusers' guider needs
    kornia and fails where a level has scale 1.
    """
    cond, uncond = step.predict_all("cond", "uncond")
    difference = cond - uncond
    low = low_band(difference)
    return cond + (guidance_scale - 1) * (difference - low + low_share * low)


def low_band(images: Tensor) -> Tensor:
    """Images (n, c, h, w) blurred, halved, doubled and blurred again, as in kornia's pyramid."""
    small = functional.interpolate(_blurred(images), scale_factor=0.5, mode="bilinear", align_corners=False)
    return _blurred(functional.interpolate(small, size=images.shape[2:], mode="bilinear", align_corners=False))


def _blurred(images: Tensor) -> Tensor:
    """Convolved with the binomial 5 x 5 kernel, mirrored at the edges."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=images.dtype, device=images.device) / 16
    kernel = torch.outer(line, line).expand(images.shape[1], 1, 5, 5)
    padded = functional.pad(images, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(padded, kernel, groups=images.shape[1])
