"""Plug-ins: the worked examples run end to end, and what is wrong with one is said in a sentence."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import cfgbench
from cfgbench import cli, plugins
from cfgbench.errors import InputError
from cfgbench.planning.experiment import load
from cfgbench.planning.plan import plan
from cfgbench.registry import METHODS

EXAMPLES = Path(cfgbench.__file__).parent / "docs" / "plugins"
Write = Callable[..., Path]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


def run(name: str, folder: Path) -> list[dict[str, str]]:
    arguments = ["run", str(EXAMPLES / name), "num_samples=200", "--output", str(folder), "--workers", "1"]
    assert cli.main(arguments) == 0
    return rows_of(folder)


def python(code: str, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


REPORT = """
import sys
from cfgbench.cli import main
assert main(["report", sys.argv[1]]) == 0
assert not {"torch", "capped_cfg", "spread"} & sys.modules.keys()
"""


def test_a_method_and_a_metric_of_ones_own_run_end_to_end_and_are_read_without_them(tmp_path: Path) -> None:
    rows = run("digits.yaml", tmp_path / "out")
    own = [row for row in rows if row["method"] == "capped_cfg:capped_cfg"]
    assert [(row["guidance_scale"], row["cap"], row["nfe"]) for row in own] == [
        ("2", "", "16"),
        ("5", "", "16"),
        ("5", "0.3", "16"),
    ]
    assert all(row["status"] == "done" and float(row["spread:SPREAD"]) > 0.5 for row in rows)
    assert len({row["fid"] for row in rows}) >= 5
    tables = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")}
    printed = python(REPORT, tmp_path / "out", cwd=tmp_path)
    assert "capped CFG" in printed and "relative spread" in printed
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.csv")} == tables


def test_a_model_of_ones_own_runs_end_to_end_with_its_encoder_and_reference(tmp_path: Path) -> None:
    rows = run("rings.yaml", tmp_path / "out")
    assert [(row["model"], row["method"], row["status"]) for row in rows] == [
        ("two_rings:MODEL", "unguided", "done"),
        ("two_rings:MODEL", "cfg", "done"),
    ]
    assert float(rows[0]["fid_plain"]) < 0.05
    assert float(rows[0]["precision"]) > 0.95


def test_the_example_passes_the_conformance_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert cli.main(["check", "capped_cfg:capped_cfg", "--model", "two_rings:MODEL"]) == 0


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a module and an experiment that names it; returns the experiment's path."""

    def make(module: str, source: str, names: str, extra: str = "") -> Path:
        (tmp_path / f"{module}.py").write_text(dedent(source))
        file = tmp_path / "experiment.yaml"
        file.write_text(
            f"name: t\nnum_samples: 100\nmetrics: [fid]\nsweeps:\n"
            f"  - {{model: digits, sampler: ddim, steps: 5, {names}}}\n{extra}"
        )
        return file

    return make


TYPED = """
    from typing import Literal, TYPE_CHECKING
    if TYPE_CHECKING:
        import torch

    def method(
        step: "torch.nn.Module",
        strength: float,
        kind: Literal["a", "b"] = "a",
        twice: bool = False,
        times=3,
        share: float | None = None,
    ):
        return step.predict("cond")
"""


def test_parameters_are_those_of_the_signature(write: Write) -> None:
    file = write("typed_one", TYPED.replace('"torch.nn.Module"', "object"), 'method: "typed_one:method", strength: 2')
    plan(load(file))
    entry = METHODS["typed_one:method"]
    assert (entry.scale, entry.passes, dict(entry.ends), entry.label) == ("strength", 2, {}, "method")
    kinds = {name: (item.kind, item.default, item.optional) for name, item in entry.parameters.items()}
    assert kinds == {
        "strength": ("float", None, False),
        "kind": ("str", "a", False),
        "twice": ("bool", False, False),
        "times": ("int", 3, False),
        "share": ("float", None, True),
    }
    with pytest.raises(InputError, match=r"unknown kind 'c' at sweeps\[0\].kind .*; allowed: a, b"):
        plan(load(file, ["sweeps.0.kind=c"]))
    with pytest.raises(InputError, match=r"needs the axis 'strength'"):
        plan(load(file, ["sweeps=[{model: digits, sampler: ddim, steps: 5, method: 'typed_one:method'}]"]))


PLAN = """
import sys
from cfgbench.cli import main
assert main(["plan", sys.argv[1]]) == 0
assert "typed_two" in sys.modules and "torch" not in sys.modules
"""


def test_planning_needs_no_torch_where_the_plug_in_needs_none(write: Write, tmp_path: Path) -> None:
    file = write("typed_two", TYPED, 'method: "typed_two:method", strength: 2, times: 4')
    assert "typed_two:method 2 times=4" in python(PLAN, file, cwd=tmp_path.parent)


def test_another_source_makes_other_cells_and_leaves_those_of_built_in_methods(write: Write, tmp_path: Path) -> None:
    names = 'method: [cfg, "edited:method"], guidance_scale: 2'
    source = "def method(step, guidance_scale):\n    return step.predict('cond')\n"
    before = [task.cell.id for task in plan(load(write("edited", source, names))).tasks]
    again = [task.cell.id for task in plan(load(write("edited", source, names))).tasks]
    after = [task.cell.id for task in plan(load(write("edited", source + "# new\n", names))).tasks]
    assert before == again
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


METHOD = 'method: "{}:method", guidance_scale: 2'
BAD_METHODS = {
    "has no 'method'": "x = 1",
    "is int; needs a function of a step, or an entry of class cfgbench.entries.Method": "method = 7",
    "parameters a, b have no default; only the scale may lack one": "def method(step, a, b): ...",
    r"takes \*\*rest; name every parameter": "def method(step, guidance_scale, **rest): ...",
    "parameter 'shape' needs a type: float, int, bool, str or Literal": "def method(step, shape=()): ...",
    "has a parameter 'steps', which is an axis of every method already": "def method(step, steps=3): ...",
    "importing 'bad_6' failed with ZeroDivisionError": "1 / 0",
    "importing 'bad_7' failed, since it needs 'no_such_module'": "import no_such_module",
    "importing 'bad_8' failed with SyntaxError": "def method(:",
    "unknown method 'unguidet' at the ends of .*; did you mean 'unguided'": (
        "from cfgbench.plugins import declare\n@declare(ends={1.0: 'unguidet'})\ndef method(step, guidance_scale): ..."
    ),
    "takes no step": "def method(): ...",
}


@pytest.mark.parametrize(("number", "message"), enumerate(BAD_METHODS))
def test_what_is_wrong_with_a_method_is_one_sentence(number: int, message: str, write: Write) -> None:
    module = f"bad_{number}"
    file = write(module, BAD_METHODS[message], METHOD.format(module))
    with pytest.raises(InputError, match=message) as caught:
        plan(load(file))
    assert "experiment.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_nowhere_is_named_with_where_it_was_looked_for(write: Write, tmp_path: Path) -> None:
    file = write("present", "", 'method: "absent:method", guidance_scale: 2')
    with pytest.raises(InputError, match=rf"sweeps\[0\].method .*: no module 'absent' in {tmp_path}, PYTHONPATH"):
        plan(load(file))


@pytest.mark.parametrize(
    ("names", "extra", "message"),
    [
        ('metrics: ["wrong:function"]', "", r"metrics\[0\] .* is function; needs an entry of class .*Metric"),
        ('encoder: "wrong:function"', "", r"encoder .* is function; needs an entry of class cfgbench.entries.Encoder"),
        ("", '"wrong:LOST"', r"model 'wrong:LOST' .*: its target 'wrong:lost' does not resolve"),
        ("", '"wrong:CODER"', r"model 'wrong:CODER' .*: unknown encoder 'inceptoin'|unknown encoder 'inceptoin'"),
    ],
)
def test_what_is_wrong_with_an_entry_is_one_sentence(names: str, extra: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        dedent("""
            from cfgbench.entries import Model
            def function(): ...
            fields = dict(parameters={}, num_classes=2, files=None, noise_levels="wrong:function", dtypes=("fp32",))
            LOST = Model(target="wrong:lost", encoder="gaussians", reference="gaussians", **fields)
            CODER = Model(target="wrong:function", encoder="inceptoin", reference="gaussians", **fields)
        """)
    )
    sys.modules.pop("wrong", None)
    file = tmp_path / "experiment.yaml"
    sweep = f"{{model: {extra or 'digits'}, method: unguided, sampler: ddim, steps: 5}}"
    file.write_text(f"name: t\nnum_samples: 100\n{names or 'metrics: [fid]'}\nsweeps: [{sweep}]\n")
    with pytest.raises(InputError, match=message):
        plan(load(file))


def test_two_modules_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "twin.py").write_text(
            "def method(step, guidance_scale):\n    return step.predict('cond')\n"
        )
    plugins.search(tmp_path / "a")
    plugins.check("method", "twin:method", "here")
    plugins.search(tmp_path / "b")
    assert "twin:method" not in METHODS
    with pytest.raises(InputError, match=r"'twin' was imported from .*/a/twin.py before; it is not .*/b/twin.py"):
        plugins.check("method", "twin:method", "here")
