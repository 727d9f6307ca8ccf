"""Networks in another memory layout, compiled, or captured: the same numbers, as an axis of a sweep."""

import csv
from pathlib import Path
from shutil import which

import pytest
import torch
from torch import Tensor, nn

from cfgbench.bench.startup import Silent
from cfgbench.cell import Cell
from cfgbench.generation import execution
from cfgbench.models import Level, digits
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.reading import report
from cfgbench.reading.recommend.deployment import experiment_yaml
from cfgbench.registry import EXECUTIONS
from cfgbench.running import runner


class Small(nn.Module):
    """What is quickly compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        result: Tensor = nn.functional.silu(self.layer(x)) * timestep
        return result


def cells(**axes: object) -> list[Cell]:
    grid = {"model": "digits", "sampler": "ddim", "steps": 3, "guidance_scale": 2, **axes}
    body = {"name": "x", "num_samples": 200, "metrics": ["fid"], "profile": None, "sweeps": [grid]}
    return [task.cell for task in planner.plan(experiment.parse(body, "x.yaml")).tasks]


@torch.no_grad()
def test_channels_last_changes_where_numbers_lie_and_not_what_they_are() -> None:
    plain, other = digits.load(), digits.load()
    execution.apply(other.networks, "channels_last")
    weights = [value for value in other.networks["main"].parameters() if value.ndim == 4 and min(value.shape[1:]) > 1]
    assert weights and all(value.is_contiguous(memory_format=torch.channels_last) for value in weights)
    x, labels = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    level = Level(torch.tensor(300.0), 0.5)
    torch.testing.assert_close(plain.predict(x, level, labels), other.predict(x, level, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler")
@torch.no_grad()
def test_a_compiled_network_gives_the_same_numbers_at_every_timestep_and_batch() -> None:
    torch.manual_seed(0)
    network, x = Small(), torch.randn(6, 1, 8, 8)
    asked = [(x[:count], torch.tensor(time)) for count, time in ((6, 300.0), (6, 20.0), (2, 7.0))]
    expected = [network(*arguments) for arguments in asked]
    execution.apply({"main": network, "weak": network}, "compile")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for arguments, wanted in zip(asked, expected, strict=True):
        torch.testing.assert_close(network(*arguments), wanted, rtol=1e-5, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 2  # a timestep is no new graph


def test_what_a_captured_graph_returns_outlives_its_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph writes its output to the same place each time; so does what stands for the compiler here."""
    network, place = Small(), torch.zeros(1)

    def compiled(self: nn.Module, **_: object) -> None:
        self._compiled_call_impl = place.fill_  # type: ignore[assignment]

    monkeypatch.setattr(Small, "compile", compiled)
    execution.apply({"main": network}, "cuda_graphs")
    first, second = network(1.0), network(2.0)
    assert (float(first), float(second)) == (1.0, 2.0)


def test_the_usual_execution_is_in_no_id_and_another_is_a_cell_and_a_cost_class_of_its_own() -> None:
    (usual,), (named,), (other,) = cells(), cells(execution="eager"), cells(execution="channels_last")
    assert usual.id == named.id != other.id
    assert usual.cost_class != other.cost_class
    assert (usual.arithmetic, other.arithmetic) == ("fp32", "fp32 channels_last")


def test_a_sweep_over_executions_compares_their_scores_and_speed(tmp_path: Path) -> None:
    grid = {"model": "digits", "sampler": "ddim", "steps": 3, "guidance_scale": [1, 2]}
    body = {"name": "x", "num_samples": 200, "metrics": ["fid"], "profile": {"batch_sizes": [20], "repeats": 3}}
    body |= {"sweeps": [grid | {"execution": ["eager", "channels_last"]}]}
    runner.run(planner.plan(experiment.parse(body, "x.yaml")), runner.Options(tmp_path), Silent())
    report.build(tmp_path)
    texts = {name: (tmp_path / f"{name}.csv").read_text() for name in ("results", "speed")}
    tables = {name: list(csv.DictReader(text.splitlines())) for name, text in texts.items()}
    values = {(row["guidance_scale"], row["execution"]): float(row["fid_plain"]) for row in tables["results"]}
    assert {key[1] for key in values} == {"", "channels_last"} and len(values) == 4
    assert values["2", ""] == pytest.approx(values["2", "channels_last"], rel=1e-4)
    assert {row["execution"] for row in tables["speed"]} == {"", "channels_last"}
    assert all(float(row["ratio_to_unguided"]) > 0 for row in tables["speed"])


def test_the_code_to_paste_says_how_the_network_computes() -> None:
    (cell,) = cells(execution="channels_last")
    assert "execution: channels_last" in experiment_yaml(cell)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.gpu
@pytest.mark.parametrize("how", [name for name, entry in EXECUTIONS.items() if entry.mode or entry.channels_last])
@torch.no_grad()
def test_every_execution_gives_the_same_samples_on_a_gpu(how: str) -> None:
    plain, other = digits.load(device="cuda"), digits.load(device="cuda")
    execution.apply(other.networks, how)
    x, labels = torch.randn(10, 1, 8, 8, device="cuda"), torch.arange(10, device="cuda")
    level = Level(torch.tensor(300.0), 0.5)
    kept = [model.predict(x, level, labels) for model in (plain, other, other, other)]
    for again in kept[1:]:
        torch.testing.assert_close(again, kept[0], rtol=1e-3, atol=1e-3)
