"""Gaussian mixtures as a perfect model: closed-form noise prediction and Bayes classifier at every noise level.

With these, CFG and classifier guidance on the unconditional branch are the same vector field, so any difference is
an error of ours.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from cfgbench.models import Level, Schedule
from cfgbench.testbeds import mixtures


class Density(nn.Module):
    """log p_sigma(x | c) of every class (the last one is the background), as a network without parameters."""

    log_weights: Tensor
    means: Tensor
    axes: Tensor
    variances: Tensor

    def __init__(self, mixture: mixtures.Mixture) -> None:
        super().__init__()
        self.parts = (*mixture.classes, mixture.background)
        self.sizes = [len(parts.means) for parts in self.parts]
        for name in ("log_weights", "means", "axes", "variances"):
            joined = np.concatenate([getattr(parts, name) for parts in self.parts])
            self.register_buffer(name, torch.from_numpy(joined))

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        """Log densities (n, classes + 1) of x (n, d) = x_0 + sigma n."""
        variances = self.variances + sigma**2  # (K, d)
        projected = torch.einsum("nkd,kde->nke", x[:, None] - self.means, self.axes)
        quadratic = (projected.square() / variances + (2 * math.pi * variances).log()).sum(-1)
        parts = torch.split(self.log_weights - 0.5 * quadratic, self.sizes, dim=1)
        return torch.stack([part.logsumexp(1) for part in parts], dim=1)


class Gaussians:
    """The Model of a mixture. Predicts epsilon; conditions are class numbers, the last one is "uncond"."""

    learned_variance = False

    def __init__(self, mixture: mixtures.Mixture, device: str) -> None:
        self.mixture = mixture
        self.latent_shape = (mixture.background.means.shape[1],)
        self.schedule = Schedule(mixtures.alphas_cumprod())
        density = Density(mixture).to(device)
        self._device = torch.device(device)
        self.networks: dict[str, nn.Module] = {"main": density, "classifier": density}

    def conditions(self, labels: np.ndarray) -> dict[str, Tensor]:
        cond = torch.from_numpy(labels).long().to(self._device)
        return {"cond": cond, "uncond": torch.full_like(cond, len(self.mixture.classes))}

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        """E[noise | x_t, c] = -sigma grad log p_sigma(x), by differentiation of the closed form."""
        with torch.enable_grad():
            clean_scale = _clean_scale(x.detach(), level.sigma).requires_grad_(True)
            inputs = clean_scale.view_as(clean_scale)  # no leaf: FLOP counters hook it
            log_density = self.networks[network](inputs, level.sigma).gather(1, condition[:, None])
            (score,) = torch.autograd.grad(log_density.sum(), clean_scale)
        return -level.sigma * score

    def class_log_probs(self, x: Tensor, level: Level) -> Tensor:
        """log p(x_t | c) / p(x_t): the posterior of the background's classes up to the prior."""
        log_density: Tensor = self.networks["classifier"](_clean_scale(x, level.sigma), level.sigma)
        return log_density[:, :-1] - log_density[:, -1:]

    def decode(self, latents: Tensor) -> np.ndarray:
        return latents.double().cpu().numpy()


def load(mixture: str = "toy2d", device: str = "cpu") -> Gaussians:
    """The named mixture as a model."""
    return Gaussians(mixtures.mixture(mixture), device)


def _clean_scale(x: Tensor, sigma: float) -> Tensor:
    """From the variance-preserving x_t to x_0 + sigma n."""
    return x * math.sqrt(1 + sigma**2)
