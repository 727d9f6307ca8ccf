"""The digits networks looked at directly: their losses on held-out digits, and how alike their two predictions are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.generation import noise, sampling
from cfgbench.generation.sampling import Step
from cfgbench.models import Level
from cfgbench.models.digits import DigitsModel, load
from cfgbench.running.worker import prepare
from cfgbench.testbeds.digits_data import USED_TIMESTEPS, held_out_half

RATES, SEEDS = (0.1, 0.2, 0.5), (0, 1, 2)
TIMESTEPS = range(10, USED_TIMESTEPS, 49)  # twenty, evenly spread
TRAJECTORIES, STEPS, SCALE = 400, 25, 1.2


def losses() -> dict[str, Sequence[float]]:
    """Mean squared error of v on the 899 held-out digits at twenty noise levels with fixed noise, told the class and
    not told it, per training seed, for each rate of label dropout."""
    series: dict[str, Sequence[float]] = {}
    for rate in RATES:
        found = [_losses(load(p_uncond=rate, training_seed=seed)) for seed in SEEDS]
        for name in ("conditional", "unconditional"):
            series[f"{name}, p_uncond {rate:g}"] = [one[name] for one in found]
    return series


def cosines() -> dict[str, Sequence[float]]:
    """Cosine of the conditional and the unconditional prediction at each of 25 steps of CFG at s = 1.2, mean of 400
    samples, per training seed: of the predicted images, and of the predicted noise."""
    series: dict[str, Sequence[float]] = {}
    for seed in SEEDS:
        images, predicted_noise = _cosines(seed)
        series |= {f"images, seed {seed}": images, f"noise, seed {seed}": predicted_noise}
    return series


def _losses(model: DigitsModel) -> dict[str, float]:
    images, labels = held_out_half()
    clean, conditions = torch.from_numpy(images), model.conditions(labels)
    rng = np.random.default_rng(0)
    totals = dict.fromkeys(("conditional", "unconditional"), 0.0)
    for timestep in TIMESTEPS:
        signal = float(np.sqrt(model.schedule.alphas_cumprod[timestep]))
        spread = float(np.sqrt(1 - signal**2))
        drawn = torch.from_numpy(rng.standard_normal(images.shape).astype(np.float32))
        level = Level(torch.tensor(timestep), spread / signal)
        wanted = signal * drawn - spread * clean
        for name, condition in (("conditional", "cond"), ("unconditional", "uncond")):
            v = model.predict(signal * clean + spread * drawn, level, conditions[condition])
            totals[name] += float(functional.mse_loss(v, wanted)) / len(TIMESTEPS)
    return totals


def _cosines(seed: int) -> tuple[list[float], list[float]]:
    parameters: dict[str, Any] = {"training_seed": seed} if seed else {}
    cell = Cell(
        model=ModelRef(name="digits", parameters=parameters),
        guidance=Guidance(method="cfg", parameters={"guidance_scale": SCALE}),
        diffusion=Diffusion(sampler="ddim", steps=STEPS),
    )
    images: list[float] = []
    predicted_noise: list[float] = []

    def watched(step: Step) -> Tensor:
        cond, uncond = step.predict_all("cond", "uncond")
        clean = [step.denoised(prediction) for prediction in (cond, uncond)]
        images.append(_cosine(*clean))
        predicted_noise.append(_cosine(*((step.x - step.signal * one) for one in clean)))
        return uncond + SCALE * (cond - uncond)

    labels = noise.labels(range(TRAJECTORIES), 10)
    sampling.sample(prepare(cell, labels, "cpu"), watched, 0, range(TRAJECTORIES))
    return images, predicted_noise


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(functional.cosine_similarity(first.flatten(1), second.flatten(1)).mean())
