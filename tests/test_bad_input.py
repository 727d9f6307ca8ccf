"""Bad input gets one sentence that names file, field, value and what is allowed, exit code 2, and no traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cfgbench import cli, machine
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.planning.experiment import Experiment
from cfgbench.registry import METHODS, METRICS, MODELS, SAMPLERS

GOOD: dict[str, Any] = {
    "name": "x",
    "num_samples": 400,
    "metrics": ["fid"],
    "sweeps": [{"model": "gaussians", "sampler": "ddim", "steps": 4, "guidance_scale": 2}],
}


def grid(**axes: Any) -> dict[str, Any]:
    """A good experiment with these axes of its one grid; None removes one."""
    merged = {**GOOD["sweeps"][0], **axes}
    return {**GOOD, "sweeps": [{key: value for key, value in merged.items() if value is not ...}]}


def top(**fields: Any) -> dict[str, Any]:
    """A good experiment with these fields; ... removes one."""
    return {key: value for key, value in {**GOOD, **fields}.items() if value is not ...}


BODIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown method": (grid(method="cgf"), ("method 'cgf'", "sweeps[0].method", "did you mean 'cfg'", "classifier")),
    "misspelt axis": (grid(guidance_scal=2), ("guidance_scal", "did you mean 'guidance_scale'")),
    "misspelt field": (top(num_sample=4), ("num_sample", "did you mean 'num_samples'")),
    "the field that names the file": (top(source="y"), ("source",)),
    "the field that keeps overrides": (top(overrides=["steps=5"]), ("overrides",)),
    "negative steps": (grid(steps=-1), ("sweeps[0].steps", "-1", ">= 1")),
    "zero steps": (grid(steps=0), ("sweeps[0].steps", "= 0", ">= 1")),
    "half a step": (grid(steps=2.5), ("sweeps[0].steps", "2.5", "a whole number")),
    "too few steps for a sampler": (grid(sampler="pndm", steps=1), ("sweeps[0].steps", "pndm", "at least 2")),
    "scale as text": (grid(guidance_scale="two"), ("sweeps[0].guidance_scale", "'two'", "a number")),
    "negative scale": (grid(guidance_scale=[1, -0.5]), ("sweeps[0].guidance_scale[1]", "-0.5", ">= 0")),
    "scale not a number": (grid(guidance_scale=float("nan")), ("guidance_scale", "nan", "a number")),
    "infinite scale": (grid(guidance_scale=float("inf")), ("guidance_scale", "inf", "a number")),
    "a scale beyond floats": (grid(guidance_scale=10**400), ("guidance_scale", "a number")),
    "bool as scale": (grid(guidance_scale=True), ("guidance_scale", "True", "a number")),
    "bool as count": (top(num_samples=True), ("num_samples", "True", "integer")),
    "text as count": (top(num_samples="400"), ("num_samples", "'400'", "integer")),
    "no samples": (top(num_samples=0), ("num_samples", "= 0", "greater than or equal to 1")),
    "no number of samples": (top(num_samples=...), ("num_samples", "lacks")),
    "batch of nothing": (top(batch_size=0), ("batch_size", "= 0")),
    "null sampler": (grid(sampler=None), ("sweeps[0].sampler", "None", "ddim")),
    "unknown sampler": (grid(sampler=["ddim", "huen"]), ("'huen'", "sweeps[0].sampler[1]", "did you mean 'heun'")),
    "no sampler": (grid(sampler=...), ("sweeps[0]", "lacks 'sampler'")),
    "empty sweep": (top(sweeps=[{}]), ("sweeps[0]", "lacks 'model'")),
    "no sweeps": (top(sweeps=[]), ("sweeps = []", "at least 1")),
    "sweeps no list": (top(sweeps={"model": 1}), ("sweeps", "list")),
    "common no mapping": (top(common=[1]), ("common", "mapping")),
    "a grid that is no mapping": (top(sweeps=[5]), ("sweeps[0] = 5", "mapping")),
    "empty list": (grid(steps=[]), ("sweeps[0].steps", "empty list")),
    "list in a list": (grid(steps=[[4, 5]]), ("sweeps[0].steps[0]", "[4, 5]", "a whole number")),
    "mapping as value": (grid(sampler={"name": "ddim"}), ("sweeps[0].sampler", "{'name': 'ddim'}", "ddim")),
    "no scale": (grid(guidance_scale=...), ("'cfg'", "guidance_scale")),
    "another method's axis": (grid(classifier_scale=1), ("classifier_scale", "cfg", "guidance_scale")),
    "unknown metric": (top(metrics=["fid", "fdi"]), ("'fdi'", "metrics[1]", "did you mean 'fid'")),
    "metric twice": (top(metrics=["fid", "fid"]), ("metrics[1]", "'fid'", "twice")),
    "no metrics": (top(metrics=[]), ("metrics", "at least 1")),
    "metric that the encoder lacks": (top(metrics=["clip_score"]), ("'clip_score'", "clip_scores", "gaussians")),
    "name that climbs out": (top(name="../x"), ("name = '../x'", "letters, digits")),
    "absolute name": (top(name="/abs"), ("name = '/abs'", "letters, digits")),
    "name of dots": (top(name=".."), ("name = '..'", "letters, digits")),
    "name of two lines": (top(name="a\n"), ("name = 'a\\n'", "letters, digits")),
    "name that is a number": (top(name=5), ("name = 5", "string")),
    "no name": (top(name=...), ("lacks the field 'name'",)),
    "unknown model": (grid(model="gausians"), ("'gausians'", "sweeps[0].model", "did you mean 'gaussians'")),
    "model without a name": (grid(model={"mixture": "toy2d"}), ("sweeps[0].model", "name")),
    "unknown model parameter": (
        grid(model={"name": "digits", "p_uncon": 0.1}),
        ("'p_uncon'", "sweeps[0].model in", "did you mean 'p_uncond'"),
    ),
    "unknown parameter of a model, and an interval": (
        grid(model={"name": "gaussians", "foo": 1}, interval=[0.1, 1]),
        ("'foo'", "mixture"),
    ),
    "bad model parameter": (
        grid(model={"name": "digits", "p_uncond": 0.3}),
        ("sweeps[0].model.p_uncond in", "0.3", "0.1, 0.2, 0.5"),
    ),
    "untrained model": (
        grid(model={"name": "digits", "training_steps": 1600, "p_uncond": 0.5}),
        ("1600", "p_uncond 0.5", "allowed"),
    ),
    "eta for a sampler without": (grid(sampler="euler", eta=0.5), ("sweeps[0].eta", "0.5", "euler", "ddim")),
    "eta above one": (grid(eta=1.5), ("sweeps[0].eta", "1.5", "<= 1")),
    "negative seed": (grid(seed=-1), ("sweeps[0].seed", "-1", ">= 0")),
    "unknown dtype": (grid(dtype="fp8"), ("sweeps[0].dtype", "'fp8'", "fp16")),
    "unknown execution": (grid(execution="compiled"), ("'compiled'", "sweeps[0].execution", "did you mean 'compile'")),
    "execution without a network": (grid(execution="compile"), ("sweeps[0].execution", "gaussians", "eager")),
    "execution that needs a GPU": (
        grid(model="digits", execution="cuda_graphs"),
        ("sweeps[0].execution", "'cuda_graphs'", "CUDA"),
    ),
    "compiled emulation": (
        grid(model="digits", execution="compile", dtype="bf16_emulated"),
        ("sweeps[0].execution", "'bf16_emulated'", "roundings"),
    ),
    "compiled network that a method patches": (
        grid(
            model={"name": "digits", "attention": True},
            method="pag",
            pag_scale=1,
            execution="compile",
            guidance_scale=...,
        ),
        ("sweeps[0].execution", "'pag'", "replaces parts"),
    ),
    "unknown way of passes": (top(passes="joint"), ("passes = 'joint'", "sequential", "batched", "measured")),
    "dtype that the model lacks": (grid(dtype="bf16_emulated"), ("gaussians", "fp32, fp64")),
    "interval reversed": (grid(interval=[2, 0.1]), ("sweeps[0].interval", "[2, 0.1]", "below")),
    "interval of steps reversed": (grid(interval={"step": [3, 1]}), ("interval", "0 <= from < to <= 4")),
    "interval beyond the steps": (grid(interval={"step": [0, 9]}), ("interval", "0 <= from < to <= 4")),
    "interval of an unknown unit": (grid(interval={"steps": [0, 1]}), ("'steps'", "did you mean 'step'")),
    "interval of one number": (grid(interval=[1]), ("interval", "two numbers")),
    "interval to infinity": (grid(interval=[1, float("inf")]), ("interval", "inf", "null")),
    "interval as text": (grid(interval="all"), ("interval", "'all'", "fraction")),
    "range that does not reach": (grid(guidance_scale="1, 1.3, ..., 2"), ("guidance_scale", "do not reach 2")),
    "range the wrong way": (grid(guidance_scale="1, 0.5, ..., 2"), ("guidance_scale", "do not reach 2")),
    "range without a step": (grid(guidance_scale="1, 1, ..., 2"), ("guidance_scale", "do not reach 2")),
    "range without two numbers": (grid(guidance_scale=[1, "...", 2]), ("guidance_scale", "'...'", "two numbers")),
    "huge range": (grid(guidance_scale="0, 1, ..., 1000000"), ("guidance_scale", "more than 10000 values")),
    "huge range of tiny steps": (grid(guidance_scale=[0, 1e-30, "...", 1]), ("guidance_scale", "more than 10000")),
    "too many cells": (
        grid(seed="0, 1, ..., 9999", guidance_scale="0, 1, ..., 99"),
        ("sweeps[0].model", "1,000,000 cells", "100,000"),
    ),
    "samples that fill no blocks": (top(num_samples=250), ("num_samples = 250", "blocks of 100")),
    "unknown profile field": (top(profile={"repeat": 5}), ("'repeat'", "did you mean 'repeats'")),
    "too few repeats": (top(profile={"repeats": 1}), ("profile.repeats = 1", "3")),
    "batch of no samples to time": (top(profile={"batch_sizes": [1, 0]}), ("batch_sizes", "at least 1")),
    "unknown reference": (top(reference="digit"), ("reference in", "did you mean 'digits'")),
    "unknown encoder": (top(encoder="incepton"), ("'incepton'", "encoder", "did you mean 'inception'")),
}

TEXTS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty file": (b"", ("holds NoneType", "mapping")),
    "list instead of mapping": (b"- name: x\n", ("holds list", "mapping")),
    "number instead of mapping": (b"5", ("holds int", "mapping")),
    "keys that are no text": (b"1: 2", ("mapping",)),
    "unreadable YAML": (b"name: [x\n", ("not valid YAML", "line 2")),
    "tab in YAML": (b"name:\n\t- x\n", ("not valid YAML", "line 2")),
    "duplicate key": (b"name: x\nname: y\n", ("'name'", "twice", "line 1")),
    "duplicate key in a grid": (b"name: x\nsweeps: [{steps: 4, steps: 5}]\n", ("'steps'", "twice")),
    "no such day": (b"name: 2024-13-45\n", ("not valid YAML", "month")),
    "no such tag": (b"name: !!python/object/apply:os.system [echo]\n", ("not valid YAML",)),
    "mapping that is none": (b"!!map [1, 2]", ("not valid YAML",)),
    "an endless decimal": (b"num_samples: " + b"9" * 5000, ("not valid YAML", "digits")),
    "an endless hexadecimal": (
        yaml.safe_dump(grid(guidance_scale="HEX")).replace("HEX", f"0x{'F' * 5000}").encode(),
        ("sweeps[0].guidance_scale", "too long to show", "a number"),
    ),
    "nested too deep": (b"a: " + b"[" * 5000, ("not valid YAML",)),
    "not UTF-8": (b"name: \xff\xfe\n", ("UTF-8",)),
    "a lone surrogate": (rb'name: "\ud800"', ("name", "string")),
    "a control character": (b"name: \x00\n", ("not valid YAML",)),
    "a mapping as key": (b"{? {a: 1} : 2}", ("not valid YAML",)),
    "two documents": (b"name: x\n---\nname: y\n", ("not valid YAML",)),
}


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that a command refuses its input with."""
    code = cli.main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert code == 2, shown
    assert shown.out == ""
    assert shown.err.startswith("cfgbench: ") and shown.err.endswith("\n") and shown.err.count("\n") == 1, shown.err
    assert len(shown.err) < 1200
    return shown.err


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_bad_experiment_is_refused_in_one_sentence(
    kind: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body, words = BODIES[kind]
    monkeypatch.chdir(tmp_path)
    Path("exp.yaml").write_text(yaml.safe_dump(body, allow_unicode=True))
    text = complaint(capsys, command, "exp.yaml")
    assert all(word in text for word in ("exp.yaml", *words)), text
    assert [path.name for path in tmp_path.iterdir()] == ["exp.yaml"]  # nothing was begun


@pytest.mark.parametrize("kind", TEXTS)
def test_a_file_that_holds_no_experiment_is_refused_in_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, words = TEXTS[kind]
    file = tmp_path / "exp.yaml"
    file.write_bytes(content)
    text = complaint(capsys, "plan", file)
    assert all(word in text for word in ("exp.yaml", *words)), text


def test_the_good_experiment_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else every refusal above might be for another reason."""
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    assert cli.main(["plan", str(file), "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "1 cells of 400 samples, 0 done" in shown.out and shown.err == ""


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no experiment file nowhere.yaml" in complaint(capsys, "plan", "nowhere.yaml")
    assert f"{tmp_path}" in complaint(capsys, "run", tmp_path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps", ("'steps'", "key=value")),
        ("steps=[1", ("'steps=[1'", "YAML")),
        ("steps=2024-13-45", ("YAML",)),
        ("steps=!!int x", ("YAML",)),
        ("sweeps.7.steps=4", ("'7'",)),
        ("sweeps.0=4", ("does not lead to a field",)),
        ("name.first=4", ("does not lead to a field",)),
        ("name.first.second=4", ("'first'",)),
        ("profile=no", ("profile", "exp.yaml")),
        ("sweeps=5", ("sweeps = 5",)),
        ("common=5", ("common = 5",)),
        ("guidance=4", ("'guidance'", "guidance_scale")),
        ("=4", ("''",)),
        ("num_samples=nan", ("num_samples",)),
    ],
)
def test_a_bad_override_is_refused(
    override: str, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    text = complaint(capsys, "plan", file, override)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("broken", ["sweeps: 5", "common: 5", "sweeps: [5]", "sweeps: null", "common: [1]"])
def test_an_override_of_a_broken_file_is_refused(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "exp.yaml"
    file.write_text(f"name: x\nnum_samples: 400\n{broken}\n")
    assert "exp.yaml" in complaint(capsys, "plan", file, "steps=5")


@pytest.mark.parametrize("dtype", ["tf32", "bf16", "fp16"])
def test_a_dtype_that_needs_cuda_is_refused_without(
    dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if machine.has_cuda():
        pytest.skip("this machine has a CUDA device")
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(grid(model="digits", dtype=dtype)))
    text = complaint(capsys, "run", file)
    assert f"'{dtype}' needs a CUDA device" in text and (dtype == "tf32" or f"{dtype}_emulated" in text)


@pytest.mark.parametrize("device", ["cuda", "gpu", "cuda:x", "", "cuda:0"])
def test_a_device_that_is_not_there_is_refused(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if machine.has_cuda():
        pytest.skip("this machine has a CUDA device")
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    text = complaint(capsys, "run", file, "--device", device, "--output", tmp_path / "out")
    assert f"--device {device!r}" in text and "cpu" in text and not (tmp_path / "out").exists()


def test_a_method_whose_network_the_model_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MODELS, "gaussians", replace(MODELS["gaussians"], networks=("main",)))
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(grid(method="classifier", guidance_scale=..., classifier_scale=1)))
    text = complaint(capsys, "plan", file)
    assert "'classifier' needs a classifier network" in text and "gaussians" in text


def test_a_report_of_what_is_no_results_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (tmp_path, tmp_path / "nowhere", file, Path("/")):
        assert str(path) in complaint(capsys, "report", path)


def test_results_cannot_go_where_a_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, taken = tmp_path / "exp.yaml", tmp_path / "taken"
    file.write_text(yaml.safe_dump(GOOD))
    taken.write_text("")
    for command in ("plan", "run", "doctor"):
        for folder in (taken, taken / "below" / "it"):
            text = complaint(capsys, command, file, "--output", folder)
            assert f"results cannot go to {folder}: {taken} is a file; name another folder with --output" in text
    assert taken.read_text() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        *(["plan", "x"], ["run", "x"], ["doctor", "x"], ["score", "s=1:x", "--reference", "x"], ["compare", "x", "y"]),
        *(["figures", "x"], ["claims"], ["costs"], ["bench"], ["train", "digits"]),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_output_without_a_name_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As of a script whose variable is empty; it must not mean the folder where it runs."""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--output", ""])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.endswith(
        "error: argument --output: '' names no folder; name one, or leave the option out for the default\n"
    )


def test_a_yaml_bomb_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 40)]
    file = tmp_path / "exp.yaml"
    tail = "name: x\nnum_samples: 400\nsweeps: [{model: gaussians, sampler: ddim, steps: 4, guidance_scale: *a39}]\n"
    for text in ("\n".join(levels) + "\n" + tail, "loop: &l [*l]\n" + tail.replace("*a39", "*l")):
        file.write_text(text)
        complaint(capsys, "plan", file)
        file.write_text("common:\n  " + text.split("name: x")[0].replace("\n", "\n  ") + "\nname: x" + tail[7:])
        complaint(capsys, "plan", file)


@pytest.mark.parametrize("arguments", [["plan", "{bad}"], ["run", "{bad}"], ["report", "{bad}"]])
def test_the_real_command_refuses_alike(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(grid(sampler="huen")))
    command = [sys.executable, "-m", "cfgbench", *(argument.format(bad=file) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("cfgbench: ") and done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "exp.yaml"
    file.write_text(yaml.safe_dump(grid(guidance_scale="2, 3, ..., 500")))
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cfgbench", "plan", str(file)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


WORDS = st.sampled_from(
    [*METHODS, *METRICS, *MODELS, *SAMPLERS, "...", "1, 2, ..., 5", "1, 2", "0.5", "fp32", "nan", "1e400", "mixture"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    WORDS,
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=3),
    st.sampled_from([10**400, -(10**4000), -0.0]),
)
AXES = ["model", "method", "sampler", "steps", "eta", "state_dtype", "dtype", "seed", "guidance_scale"]
AXES += ["classifier_scale", "rescale", "interval"]
KEYS = st.one_of(st.sampled_from([*AXES, *Experiment.model_fields, "sigma", "fraction", "step"]), st.text(max_size=5))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3))
PLAUSIBLE = {
    "model": st.sampled_from(["gaussians", "digits", {"name": "digits", "weak_steps": 100}]) | VALUES,
    "sampler": st.sampled_from([*SAMPLERS]) | VALUES,
    "steps": st.integers(-1, 30) | VALUES,
    "guidance_scale": st.floats(-1, 9) | VALUES,
    "method": st.sampled_from([*METHODS]) | VALUES,
    "interval": VALUES | st.fixed_dictionaries({"step": st.lists(st.floats() | st.integers(), max_size=3)}),
    "eta": VALUES,
    "seed": VALUES,
    "classifier_scale": VALUES,
    "rescale": VALUES,
}
NEEDED = {key: PLAUSIBLE[key] for key in ("model", "sampler", "steps", "guidance_scale")}
GRIDS = st.fixed_dictionaries(NEEDED, optional={key: PLAUSIBLE[key] for key in PLAUSIBLE.keys() - NEEDED.keys()})
EXPERIMENTS = st.fixed_dictionaries(
    {
        "name": st.just("x") | VALUES,
        "num_samples": st.just(400) | VALUES,
        "sweeps": st.lists(GRIDS | VALUES, max_size=2) | VALUES,
    },
    optional={
        "common": st.dictionaries(KEYS, VALUES, max_size=2) | VALUES,
        "metrics": st.lists(WORDS, max_size=3) | VALUES,
        "encoder": VALUES,
        "reference": VALUES,
        "profile": VALUES,
        "batch_size": VALUES,
        "description": VALUES,
    },
)


def refusal(parse: Callable[[], Experiment]) -> str:
    """Why an experiment is refused; empty if it is planned. Whatever else is raised fails the test."""
    try:
        made = planner.plan(parse())
    except InputError as error:
        return str(error)
    assert made.tasks
    assert len({task.cell.id for task in made.tasks}) == len(made.tasks)
    return ""


@settings(max_examples=400, deadline=None)
@given(EXPERIMENTS | st.dictionaries(KEYS, VALUES, max_size=5))
def test_no_structure_raises_anything_but_an_input_error(body: dict[str, Any]) -> None:
    assert "\n" not in refusal(lambda: experiment.parse(body, "x.yaml"))


YAML_TEXT = st.text(alphabet="abx01.-:[]{}&*!?|>'\"#%@, \n\t<=é\ud800", max_size=60) | st.text(max_size=40)


@settings(max_examples=300, deadline=None)
@given(YAML_TEXT, st.lists(YAML_TEXT, max_size=2))
@example("<<: 1", [])
@example("<<: [{a: 1}]\nsweeps: !!set {a}", ["sweeps.a=1"])
@example("sweeps: !!omap [a: 1]", ["a=2"])
@example("a: &a {b: *a}", ["a.b.b=1"])
def test_no_text_raises_anything_but_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, overrides: list[str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert "\n" not in refusal(lambda: experiment.load(file, overrides))
