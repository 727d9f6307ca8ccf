"""The conformance suite: every registered method passes, and a broken one is caught with a sentence that says why."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from cfgbench import cli, conformance
from cfgbench.entries import Method, Parameter
from cfgbench.errors import InputError
from cfgbench.generation import guidance
from cfgbench.generation.sampling import Step
from cfgbench.registry import METHODS
from tests.conftest import DIGITS_METHODS


@pytest.mark.parametrize("name", DIGITS_METHODS)
def test_every_registered_method_keeps_what_it_promises(name: str) -> None:
    assert [problem for finding in conformance.check(name) for problem in finding.problems] == []


def ignores_its_scale(step: Step, guidance_scale: float) -> Tensor:
    return guidance.cfg(step, 2.0)


def leans_on_the_batch(step: Step, guidance_scale: float) -> Tensor:
    cond, uncond = step.predict_all("cond", "uncond")
    difference = cond - uncond
    return cond + (guidance_scale - 1) * difference / difference.norm() * len(cond) ** 0.5


def numbers_its_samples(step: Step, guidance_scale: float) -> Tensor:
    cond, uncond = step.predict_all("cond", "uncond")
    weight = torch.linspace(0.5, 1.5, len(cond)).view(-1, 1)
    return cond + (guidance_scale - 1) * weight * (cond - uncond)


def hides_a_pass(step: Step, guidance_scale: float) -> Tensor:
    batch = step._batch
    uncond = batch.model.predict(step.x, step.level, batch.conditions["uncond"])
    return uncond + guidance_scale * (step.predict("cond") - uncond)


def breaks_when_strong(step: Step, guidance_scale: float) -> Tensor:
    guided = guidance.cfg(step, guidance_scale)
    return guided.masked_fill(torch.as_tensor(guidance_scale > 20), torch.nan)


def draws_from_a_global_generator(step: Step, guidance_scale: float) -> Tensor:
    guided = guidance.cfg(step, guidance_scale)
    return guided + (guidance_scale - 1) * 0.1 * torch.randn(guided.shape)


def branches_on_its_scale(step: Step, guidance_scale: float) -> Tensor:
    return guidance.cfg(step, guidance_scale) if guidance_scale > 1 else guidance.unguided(step)


def is_cfg_by_another_name(step: Step, guidance_scale: float) -> Tensor:
    return guidance.cfg(step, guidance_scale)


def starts_from_the_wrong_end(step: Step, guidance_scale: float) -> Tensor:
    cond, uncond = step.predict_all("cond", "uncond")
    return cond + guidance_scale * (cond - uncond)


calls = itertools.count()


def remembers_beyond_its_trajectory(step: Step, guidance_scale: float) -> Tensor:
    return guidance.cfg(step, guidance_scale + 0.01 * next(calls))


BROKEN: dict[Callable[..., Tensor], tuple[str, str]] = {
    ignores_its_scale: ("does something of its own", "it ignores its scale: guidance_scale = 2 and 3 give the same"),
    leans_on_the_batch: ("independent of the batch", "its samples depend on the size of the batch, by"),
    numbers_its_samples: ("independent of the batch", "its samples depend on the order of the batch, by"),
    hides_a_pass: ("passes as declared", "it runs 1 network passes per step that are not counted"),
    breaks_when_strong: ("finite at strong settings", "16 of 16 samples hold NaN or infinity at guidance_scale = 30"),
    draws_from_a_global_generator: ("deterministic", "two runs with the same seed differ"),
    branches_on_its_scale: ("takes a column of scales", "it raises RuntimeError: Boolean value of Tensor"),
    is_cfg_by_another_name: ("does something of its own", "at guidance_scale = 3 it gives the same samples as cfg"),
    starts_from_the_wrong_end: ("neutral settings are neutral", "at guidance_scale = 1 it differs from unguided by"),
    remembers_beyond_its_trajectory: ("deterministic", "two runs with the same seed differ"),
}


@pytest.fixture
def registered(request: pytest.FixtureRequest) -> Iterator[str]:
    """A broken method under its own name, as one that guides by s and is off at 1."""
    name = request.param.__name__
    parameters = {"guidance_scale": Parameter("float", 1.0, 0.0)}
    METHODS[name] = Method(f"{__name__}:{name}", "guidance_scale", parameters, {1.0: "unguided"}, 2)
    yield name
    del METHODS[name]


@pytest.mark.parametrize(("registered", "broken"), BROKEN.items(), ids=lambda item: "", indirect=["registered"])
def test_a_broken_method_is_caught(registered: str, broken: tuple[str, str]) -> None:
    found = {finding.check: finding.problems for finding in conformance.check(registered, "gaussians")}
    check, sentence = broken
    assert any(problem.startswith(sentence) for problem in found[check]), found


@pytest.mark.parametrize("registered", [ignores_its_scale], indirect=True)
def test_the_command_prints_what_is_wrong_and_fails(registered: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", registered, "--model", "gaussians"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "FAIL does something of its own" in lines
    assert "ok   deterministic" in lines


def test_the_command_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "apq"]) == 2
    assert "unknown method 'apq' at cfgbench check; did you mean 'apg'?" in capsys.readouterr().err
    assert cli.main(["check", "pag", "--model", "gaussians"]) == 2
    assert "needs the capability attention, which model gaussians lacks" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["adm", "sdxl"])
def test_a_model_that_needs_files_is_refused(model: str) -> None:
    with pytest.raises(InputError, match="models that need no files of yours"):
        conformance.check("cfg", model)
