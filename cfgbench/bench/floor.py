"""Sampling against its floor: the same network, called as often on the same inputs, and nothing else.

The inputs of every call are recorded once; the floor replays them through the bare network. Below that lies what no
network can pass: large matrix products of as many floating-point operations.
"""

import tempfile
from collections import deque
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from cfgbench.bench.result import Finding, Result, in_turn, ratio, seconds_rows
from cfgbench.cell import Cell
from cfgbench.generation import guidance, sampling
from cfgbench.planning import experiment, plan
from cfgbench.reading.tables.rows import Row
from cfgbench.running import profiling
from cfgbench.running.pool import Job, LocalPool

STEPS = 25
CLASSES = 10
PRODUCTS = "matrix products"
SIDE = 512  # of the square matrices


def run(quick: bool = False) -> Result:
    """Digits at the default batch, and a U-Net of 32x32 pixels with random weights, both with CFG."""
    rows: list[Row] = []
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        unet = _random_unet(Path(name))
        for what, model, batch, steps, target in (
            ("digits, batch 100", {"name": "digits"}, 100, 4 * STEPS, 1.10),  # a round takes seconds, as the other's
            ("U-Net 32x32, batch 16", {"name": "unet2d", "path": str(unet), "null_class": CLASSES}, 16, STEPS, 1.03),
        ):
            found = in_worker(model, 2 if quick else batch, 2 if quick else steps, 1 if quick else 7)
            rows += seconds_rows(what, found)
            one = ratio(f"sampling over bare network passes, {what}", found["sampling"], found["network"])
            findings.append(Finding(one.what, one.value, one.low, one.high, target, at_least=False))
            findings.append(
                ratio(f"matrix products over bare network passes, {what}", found[PRODUCTS], found["network"])
            )
    return Result(rows, findings)


def in_worker(model: dict[str, Any], batch: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """What `over_floor` finds in a process that is set up as those of a run are."""
    pool = LocalPool(1)
    try:
        job = Job(("floor", 0), "cfgbench.bench.floor:over_floor", (model, batch, steps, rounds))
        (done,) = pool.run(deque([job]))
    finally:
        pool.close()
    if done.error is not None:
        raise done.error
    return cast(dict[str, list[float]], done.value)


def over_floor(model: dict[str, Any], batch: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a trajectory of a batch with CFG, of its network passes alone, and of matrix products as large."""
    subject = profiling.Subject(_cell(model, steps), CLASSES)
    ready, method = subject.batch(batch, "cpu"), guidance.bind(subject.cell.guidance)

    def sample() -> object:
        return sampling.sample(ready, method, subject.cell.seed, range(batch))

    network = ready.model.networks["main"]
    calls = _recorded(network, sample)

    @torch.no_grad()
    def replay() -> None:
        for arguments, named in calls:
            network(*arguments, **named)

    _, flops = profiling.counted(subject, "cpu")
    return in_turn({"sampling": sample, "network": replay, PRODUCTS: _products(flops * batch)}, rounds)


def _products(flops: int) -> Callable[[], object]:
    """Large matrix products of about so many operations, multiply and add counted apart."""
    matrix = torch.ones(SIDE, SIDE)
    count = max(1, round(flops / (2 * SIDE**3)))
    return lambda: [torch.mm(matrix, matrix) for _ in range(count)]


def _recorded(network: nn.Module, work: Callable[[], object]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What a network is called with while something works."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append((arguments, named))

    handle = network.register_forward_pre_hook(note, with_kwargs=True)
    work()
    handle.remove()
    return calls


def _cell(model: dict[str, Any], steps: int) -> Cell:
    sweep = {"model": model, "guidance_scale": 2, "sampler": "ddim", "steps": steps}
    body = {"name": "floor", "num_samples": 200, "profile": None, "sweeps": [sweep]}
    (task,) = plan.plan(experiment.parse(body, "cfgbench bench")).tasks
    return task.cell


def _random_unet(folder: Path) -> Path:
    """A class-conditional U-Net of 32x32 pixels with random weights, saved as diffusers does."""
    diffusers: Any = import_module("diffusers")

    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=32,
        num_class_embeds=CLASSES + 1,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
    )
    diffusers.DDPMPipeline(network, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder
