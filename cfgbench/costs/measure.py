"""Measures what a second model costs: seconds of training, bytes held while sampling. On one thread of a CPU.

Trainings take short stretches in turn, so that a machine which slows down slows all of them; they are the shipped
networks' own recipes, and one without label dropout.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from cfgbench import machine
from cfgbench.costs.code import count
from cfgbench.costs.record import CostsRecord, SamplingCost, TrainingCost
from cfgbench.models.digits_networks import DiffusionNet
from cfgbench.planning import experiment, plan
from cfgbench.registry import METHODS
from cfgbench.running import profiling, worker
from cfgbench.running.profiling import Subject
from cfgbench.testbeds import digits_data as digits
from cfgbench.training.digits import RECIPES, Recipe, Training, begin
from cfgbench.training.loop import Progress, reproducible

STRETCH = 10  # steps
BATCH_SIZES = (1, 100)
_DIFFUSION = digits.diffusion_name(0.1, 800, 0)


class Arm(NamedTuple):
    """A way of sampling."""

    axes: dict[str, Any]  # of an experiment's grid
    batched: bool = False


_DDIM = {"model": "digits", "sampler": "ddim", "steps": 25}
ARMS = {
    "unguided": Arm({**_DDIM, "method": "unguided"}),
    "cfg, two passes": Arm({**_DDIM, "method": "cfg", "guidance_scale": 1.2}),
    "cfg, one batched pass": Arm({**_DDIM, "method": "cfg", "guidance_scale": 1.2}, batched=True),
    "classifier": Arm({**_DDIM, "method": "classifier", "classifier_scale": 0.2}),
    "gan": Arm({"model": "digits_gan", "method": "unguided"}),
}


def trainings() -> dict[str, Recipe]:
    """The trainings that are compared, by name: recipes of shipped networks, and one without label dropout."""
    known = {recipe.name: recipe for recipe in RECIPES}
    diffusion = known[_DIFFUSION]
    return {
        "diffusion, no label dropout": replace(diffusion, name="diffusion-conditional", p_uncond=None, snapshots=()),
        "diffusion": diffusion,
        "classifier": known[digits.CLASSIFIER],
        "gan": known[digits.gan_name(0)],
    }


def measure(repeats: int, stage: Callable[[str], None]) -> CostsRecord:
    """All costs, with so many timed stretches of every training."""
    stage(f"training: {repeats} stretches of {STRETCH} steps of each network, in turn")
    trained = time_trainings(trainings(), repeats)
    stage("sampling: bytes of every way")
    held = tuple(sampling_cost(name, size) for name in ARMS for size in BATCH_SIZES)
    return CostsRecord(
        training=trained,
        sampling=held,
        code=count(),
        null_parameters=DiffusionNet().label.embedding_dim,
        machine=machine.describe("cpu", threads=1),
    )


def time_trainings(recipes: dict[str, Recipe], repeats: int) -> tuple[TrainingCost, ...]:
    """The cost of each training, from stretches that all take in turn after one that is not timed."""
    with reproducible(seed=0):
        begun = {name: begin(_long_enough(recipe, repeats)) for name, recipe in recipes.items()}
        rounds = [{name: _stretch(training.states) for name, training in begun.items()} for _ in range(repeats + 1)]
    timed = {name: tuple(one[name] for one in rounds[1:]) for name in recipes}
    return tuple(_training_cost(name, recipes[name], begun[name], timed[name]) for name in recipes)


def sampling_cost(name: str, batch_size: int) -> SamplingCost:
    """What one of ARMS holds at a batch size."""
    subject = _subject(ARMS[name].axes)
    cell = subject.cell
    networks = worker.load_model(cell.model, cell.dtype, "cpu").networks
    counts, flops = profiling.counted(subject, "cpu")
    return SamplingCost(
        name=name,
        method=cell.guidance.method,
        model=cell.model.label,
        steps=None if cell.diffusion is None else cell.diffusion.steps,
        batch_size=batch_size,
        weights_bytes={
            asked: profiling.network_bytes(networks[asked]) for asked in ("main", *METHODS[cell.guidance.method].needs)
        },
        activation_bytes=profiling.activation_bytes(subject, (0, batch_size, ARMS[name].batched), "cpu") or 0,
        nfe=counts.nfe,
        classifier_passes=counts.classifier,
        flops_per_sample=flops,
    )


def _long_enough(recipe: Recipe, repeats: int) -> Recipe:
    """A recipe with steps for all stretches; what a step costs does not depend on how many there are."""
    how = recipe.optimisation
    return replace(recipe, optimisation=replace(how, steps=max(how.steps, STRETCH * (repeats + 1))))


def _stretch(states: Iterator[Progress]) -> float:
    """CPU seconds of the next steps of a training."""
    start = time.process_time()
    for _ in range(STRETCH):
        next(states)
    return time.process_time() - start


def _training_cost(name: str, recipe: Recipe, training: Training, seconds: tuple[float, ...]) -> TrainingCost:
    return TrainingCost(
        name=name,
        recipe=recipe.name,
        parameters=training.parameters,
        steps=recipe.optimisation.steps,
        batch_size=recipe.optimisation.batch_size,
        flops_per_step=training.flops_per_step,
        stretch=STRETCH,
        cpu_s=seconds,
    )


def _subject(axes: dict[str, Any]) -> Subject:
    """The one cell of a grid."""
    body = {"name": "costs", "num_samples": 100, "sweeps": [axes]}
    (task,) = plan.plan(experiment.parse(body, "cfgbench costs")).tasks
    return Subject(task.cell, task.num_classes)
