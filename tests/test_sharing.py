"""Cells that share work get the samples that they would get alone, bit by bit, and count the same passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfgbench.cell import Cell, Diffusion, Guidance, ModelRef
from cfgbench.generation import guidance, noise, sampling, sharing
from cfgbench.generation.sampling import Predictions, Request
from cfgbench.models import Condition, Level, digits
from tests.conftest import make_batch
from tests.test_sampling import Learned

INDICES = range(20, 40)
INTERVAL = (0.2, 3.0)
METHODS = [
    Guidance(method="cfg", parameters={"guidance_scale": 2.0}),
    Guidance(method="unguided"),
    Guidance(method="cfg", parameters={"guidance_scale": 1.5, "interval": INTERVAL}),
    Guidance(method="unconditional"),
    Guidance(method="cfg", parameters={"guidance_scale": 4.0, "interval": INTERVAL}),
    Guidance(method="cfg", parameters={"guidance_scale": 4.0, "interval": (50.0, None)}),  # never inside
    Guidance(method="classifier", parameters={"classifier_scale": 1.0, "interval": INTERVAL}),
    Guidance(method="cfg", parameters={"guidance_scale": 3.0}),
    Guidance(method="apg", parameters={"guidance_scale": 3.0}),
]


@dataclass
class Counting:
    """The digits model; counts the passes that are made."""

    passes: int = 0
    model: Any = field(default_factory=digits.load)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, x: Tensor, level: Level, condition: Condition, network: str = "main") -> Tensor:
        self.passes += 1
        prediction: Tensor = self.model.predict(x, level, condition, network)
        return prediction


def cell_of(method: Guidance, sampler: str, steps: int = 6) -> Cell:
    return Cell(model=ModelRef(name="digits"), guidance=method, diffusion=Diffusion(sampler=sampler, steps=steps))


def batch_of(model: Counting, sampler: str, steps: int = 6) -> sampling.Batch:
    labels = noise.labels(INDICES, 10)
    batch = make_batch(model, sampler, steps, labels, dtype=torch.float32, state_dtype=torch.float32)  # type: ignore[arg-type]
    return replace(batch, diffusion=Diffusion(sampler=sampler, steps=steps))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "heun", "unipc", "lms"])
@pytest.mark.parametrize("room", [sharing.ROOM_BYTES, 70_000, 0], ids=["room for all", "room for some", "no room"])
def test_shared_work_changes_neither_samples_nor_counts(sampler: str, room: int) -> None:
    shared, alone = Counting(), Counting()
    forks = sharing.Forks(room)
    for method in METHODS:
        got, counts = sharing.sample(batch_of(shared, sampler), cell_of(method, sampler), INDICES, forks)
        expected, all_counts = sampling.sample(batch_of(alone, sampler), guidance.bind(method), 0, INDICES)
        assert torch.equal(got, expected), method
        assert counts == all_counts, method
    assert (shared.passes < alone.passes) == (room > 0)


def test_the_way_to_an_interval_is_gone_once_and_first_predictions_are_made_once() -> None:
    model, forks, made = Counting(), sharing.Forks(), []
    for scale in (2.0, 3.0, 4.0):
        before = model.passes
        method = Guidance(method="cfg", parameters={"guidance_scale": scale, "interval": INTERVAL})
        _, counts = sharing.sample(batch_of(model, "ddim", 10), cell_of(method, "ddim", 10), INDICES, forks)
        made.append(model.passes - before)
    levels = sampling.start(batch_of(model, "ddim", 10), 0, INDICES).sigmas[:-1]
    prefix = guidance.begins(method, levels)
    assert 0 < prefix < 9
    assert made == [counts.nfe, counts.nfe - prefix - 2, counts.nfe - prefix - 2]


@pytest.mark.parametrize(
    ("change", "shares"),
    [
        ({}, True),
        ({"guidance": Guidance(method="unguided")}, True),
        ({"model": ModelRef(name="digits", digest="of the weights that this method consults")}, True),
        ({"seed": 1}, False),
        ({"diffusion": Diffusion(sampler="ddim", steps=7)}, False),
        ({"diffusion": Diffusion(sampler="ddim", steps=6, eta=0.5)}, False),
        ({"diffusion": Diffusion(sampler="ddim", steps=6, state_dtype="fp16")}, False),
        ({"dtype": "bf16_emulated"}, False),
        ({"model": ModelRef(name="digits", parameters={"p_uncond": 0.5})}, False),
    ],
)
def test_only_cells_that_differ_in_guidance_alone_share(change: dict[str, Any], shares: bool) -> None:
    cell = cell_of(METHODS[0], "ddim")
    assert (sharing.path(cell) == sharing.path(cell.model_copy(update=change))) is shares


def test_a_method_that_edits_its_predictions_in_place_spoils_nobody_elses() -> None:
    batch = batch_of(Counting(), "ddim")
    trajectory = sampling.start(batch, 0, INDICES)
    trajectory.predictions = Predictions()
    with torch.no_grad():
        first, second, third = (sampling.Step(trajectory.copy(), batch) for _ in range(3))
        expected = first.predict("cond").clone()
        first.predict("cond").zero_()
        assert torch.equal(second.predict("cond"), expected)
        second.predict("cond").zero_()
        assert torch.equal(third.predict("cond"), expected)


@dataclass
class Shifted(Learned):
    """Its learned variance is higher while a patch lasts."""

    shift: float = 0

    def predict(self, x: Tensor, level: Level, condition: Tensor, network: str = "main") -> Tensor:
        return super().predict(x, level, condition + self.shift, network)

    @contextmanager
    def patch(self, network: torch.nn.Module) -> Iterator[None]:
        self.shift = 50
        yield
        self.shift = 0


def test_a_shared_prediction_brings_its_learned_variance_and_a_patched_pass_does_not_replace_it() -> None:
    model = Shifted()
    batch = make_batch(model, labels=np.arange(3))  # type: ignore[arg-type]
    trajectory = sampling.start(batch, 0, range(3))
    trajectory.predictions = Predictions()
    first, second, third = (sampling.Step(trajectory.copy(), batch) for _ in range(3))
    first.predict_all("uncond", "cond", Request("cond", patch=model.patch))
    second.predict("uncond")
    third.predict_all("cond", "uncond")
    for step, shift in ((first, 0), (second, 100), (third, 0)):  # the second has asked for "uncond" alone
        assert step.variance is not None
        assert torch.equal(step.variance[:, 0, 0, 0], shift + torch.arange(3, dtype=torch.float64))
