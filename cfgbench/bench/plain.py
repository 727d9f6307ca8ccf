"""The script that people write themselves: a loop over scales around diffusers, with torchmetrics at the end.

A sensible one: one process with all cores, batches as large as suits this network, conditional and unconditional in one
pass as diffusers' pipelines have it, features of samples and reference computed once. It draws new noise for every
scale, and has no error bars.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfgbench.cell import Diffusion
from cfgbench.generation.pixels import to_uint8
from cfgbench.generation.schedulers import build
from cfgbench.models import digits
from cfgbench.scores import torchmetrics_scores
from cfgbench.testbeds import digits_data, digits_encoders
from cfgbench.testbeds.digits_captions import NUMERALS, SCORED_TEMPLATE

BATCH = 500
KID_SUBSET = 1000


class Scores(NamedTuple):
    """What the script prints for a scale."""

    fid: float
    kid: float
    inception_score: float
    clip_score: float


def sweep(scales: list[float], samples: int, steps: int) -> dict[float, Scores]:
    """The scores of every scale."""
    reference, _ = digits_encoders.features(digits_data.reference("heldout", {})[0])
    torch.manual_seed(0)
    return {scale: score(*draw(scale, samples, steps), reference) for scale in scales}


@torch.no_grad()
def draw(scale: float, samples: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 1, 8, 8) uint8 and their labels (n,)."""
    model = digits.load()
    network, images = model.networks["main"], []
    labels = torch.arange(samples) % 10
    for batch in torch.split(labels, BATCH):
        scheduler = build(Diffusion(sampler="ddim", steps=steps), model.schedule)
        x = torch.randn(len(batch), *model.latent_shape)
        both = torch.cat([batch, torch.full_like(batch, digits_data.NULL_LABEL)])
        for timestep in scheduler.timesteps:
            x = scheduler.step(_guided(network, x, timestep, both, scale), timestep, x).prev_sample
        images.append(to_uint8(x.numpy()))
    return np.concatenate(images), labels.numpy()


def _guided(network: torch.nn.Module, x: Tensor, timestep: Tensor, both: Tensor, scale: float) -> Tensor:
    if scale == 1:  # as a pipeline that knows when guidance is off
        off: Tensor = network(x, timestep, both[: len(x)])
        return off
    cond, uncond = network(torch.cat([x, x]), timestep, both).chunk(2)
    return torch.as_tensor(uncond + scale * (cond - uncond))


def score(images: np.ndarray, labels: np.ndarray, reference: np.ndarray) -> Scores:
    """torchmetrics' values, its KID with the default hundred subsets."""
    features, log_probs = digits_encoders.features(images)
    captions = [SCORED_TEMPLATE.format(NUMERALS[label]) for label in labels]
    return Scores(
        torchmetrics_scores.fid(reference, features),
        torchmetrics_scores.kid_of_subsets(reference, features, min(KID_SUBSET, len(features), len(reference))),
        torchmetrics_scores.inception_score(log_probs),
        torchmetrics_scores.clip_score(torchmetrics_scores.digits_clip, np.array_split(images, 10), captions),
    )
