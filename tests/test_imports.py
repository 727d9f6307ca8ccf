"""Imports go one way, heavy libraries stay where they belong, and planning or reporting needs no torch."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest

import cfgbench
from cfgbench import commands
from cfgbench.registry import ENCODERS, METHODS, METRICS, MODELS, REFERENCES, SAMPLERS, resolve

PACKAGE = Path(cfgbench.__file__).parent
ROOT = PACKAGE.parent
OPERATORS = (
    "cfgbench.cell",
    "cfgbench.planning.plan",
    "cfgbench.planning.experiment",
    "cfgbench.store",
    "cfgbench.records",
)


def name_of(path: Path) -> str:
    """`cfgbench.reading.tables.rows` of its file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def named(node: ast.AST, module: str) -> Iterator[str]:
    """The modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module} imports relatively"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in MODULES else str(node.module)


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module's source imports, at its top or inside a function."""
    tree = ast.parse(MODULES[module].read_text())
    return frozenset(name for node in ast.walk(tree) for name in named(node, module))


@cache
def reaches(module: str) -> frozenset[str]:
    """Everything that a module imports, directly or not."""
    found = set(imports(module))
    for other in imports(module) & MODULES.keys():
        found |= reaches(other)
    return frozenset(found)


def importers(library: str) -> set[str]:
    """The modules that import a library."""
    return {name for name in MODULES if any(item.split(".")[0] == library for item in imports(name))}


def test_imports_make_no_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in sorted(imports(module) & MODULES.keys()):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_nothing_imports_the_command_line() -> None:
    assert {name for name in MODULES if "cfgbench.cli" in imports(name)} == {"cfgbench.__main__"}
    of_commands = {name for name in MODULES if any(item.startswith("cfgbench.commands") for item in imports(name))}
    assert {name for name in of_commands if not name.startswith("cfgbench.commands")} == {"cfgbench.cli"}


def test_every_command_has_its_module_and_every_module_its_place_in_the_help() -> None:
    files = {name.rpartition(".")[2] for name in MODULES if name.startswith("cfgbench.commands.")}
    assert files == set(commands.NAMES)


ALLOWED = {
    "diffusers": ("cfgbench.models.", "cfgbench.methods.guiders", "cfgbench.bench."),  # samplers are resolved by name
    "open_clip": (
        "cfgbench.encoders",
        "cfgbench.assets.clip_models",
        "cfgbench.testbeds.digits_encoders",
        "cfgbench.training.",
    ),
    "torch_fidelity": ("cfgbench.encoders",),
    "torchmetrics": ("cfgbench.scores.torchmetrics_scores", "cfgbench.running.witness", "cfgbench.bench."),
    "pandas": (
        "cfgbench.reading.tables.",
        "cfgbench.reading.figures",
        "cfgbench.reading.report",
        "cfgbench.reading.answer",
    ),
    "matplotlib": ("cfgbench.reading.figures", "cfgbench.reading.report"),
    "rich": ("cfgbench.console",),
    "yaml": ("cfgbench.planning.yaml_text",),
    "ray": ("cfgbench.running.ray_pool",),
    "sklearn": ("cfgbench.training.",),
    "transformers": ("cfgbench.models.", "cfgbench.encoders.pictures"),
    "huggingface_hub": ("cfgbench.assets.checkpoints",),
    "pyarrow": ("cfgbench.assets.prompts", "cfgbench.references.pictures", "cfgbench.training.pictures"),
}


@pytest.mark.parametrize("library", ALLOWED)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    assert {name for name in importers(library) if not name.startswith(ALLOWED[library])} == set()


MATHEMATICS = (
    *("scores.metrics", "scores.pairs", "scores.statistics", "scores.selection", "generation.noise"),
    *("testbeds.mixtures", "testbeds.digits_data", "testbeds.digits_captions"),
)


@pytest.mark.parametrize("module", MATHEMATICS)
def test_mathematics_knows_no_cell_no_file_and_no_torch(module: str) -> None:
    seen = reaches(f"cfgbench.{module}")
    assert not seen & {*OPERATORS, "cfgbench.registry"}
    assert not {item.split(".")[0] for item in seen} & {
        "torch",
        "diffusers",
        "pandas",
        "matplotlib",
        "yaml",
        "pydantic",
    }


READING = (
    *("cfgbench.reading", "cfgbench.costs.record", "cfgbench.costs.code", "cfgbench.costs.write", "cfgbench.claims"),
)
RUNNING = ("running", "generation.sampling", "generation.guidance", "models", "planning.plan", "encoders")


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(READING)])
def test_the_reading_half_knows_records_and_nothing_of_the_running_half(module: str) -> None:
    seen = reaches(module)
    assert not {name for name in seen if name.startswith(tuple(f"cfgbench.{part}" for part in RUNNING))}
    assert not {name.split(".")[0] for name in seen} & {"torch", "diffusers", "open_clip"}


COUNTS = {"cfgbench.assets.shape_costs"}  # by PyTorch's `meta` device
TORCH_FREE = tuple(
    f"cfgbench.{part}"
    for part in (
        *("registry", "entries", "plugins", "errors", "cell", "records", "store", "console", "cache", "machine"),
        *("planning", "assets", "references", "reading", "commands", "methods.table", "generation.pixels"),
        *("lock", "running.runner", "running.adaptive", "running.pool", "running.ray_pool", "running.shards"),
        *("running.verification", "running.preparation", "running.overview"),
    )
)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(TORCH_FREE) and name not in COUNTS])
def test_what_plans_hands_out_and_reads_imports_no_torch_at_its_top(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    top = {name.split(".")[0] for node in tree.body for name in named(node, module)}
    assert not top & {"torch", "diffusers", "open_clip", "torchmetrics"}


TARGETS = {
    **{f"method {name}": entry.target for name, entry in METHODS.items()},
    **{f"sampler {name}": entry.target for name, entry in SAMPLERS.items()},
    **{f"model {name}": entry.target for name, entry in MODELS.items()},
    **{f"noise levels of {name}": entry.noise_levels for name, entry in MODELS.items() if entry.noise_levels},
    **{f"files of {name}": entry.files for name, entry in MODELS.items() if entry.files},
    **{f"size of {name}": entry.size for name, entry in MODELS.items() if entry.size},
    **{f"lacks of {name}": entry.lacks for name, entry in MODELS.items() if entry.lacks},
    **{f"notes on {name}": entry.notes for name, entry in MODELS.items() if entry.notes},
    **{f"classes of {name}": entry.num_classes for name, entry in MODELS.items() if isinstance(entry.num_classes, str)},
    **{f"metric {name}": entry.target for name, entry in METRICS.items()},
    **{f"encoder {name}": entry.target for name, entry in ENCODERS.items()},
    **{f"files of encoder {name}": entry.files for name, entry in ENCODERS.items() if entry.files},
    **{f"settings of encoder {name}": entry.settings for name, entry in ENCODERS.items() if entry.settings},
    **{f"reference {name}": entry.target for name, entry in REFERENCES.items()},
}


@pytest.mark.parametrize("entry", TARGETS)
def test_every_target_of_the_registry_resolves(entry: str) -> None:
    assert callable(resolve(TARGETS[entry]))


JOBS = ("draw_block", "score_cell", "ready", "redraw", "redraw_features", "encode_reference")


@pytest.mark.parametrize("job", [*(f"running.worker:{name}" for name in JOBS), "running.profiling:measure"])
def test_every_job_that_is_named_resolves(job: str) -> None:
    assert callable(resolve(f"cfgbench.{job}"))
    assert job.split(":")[1] in "".join(
        (PACKAGE / "running" / f"{name}.py").read_text() for name in ("runner", "pool", "verification", "preparation")
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_the_parameters_that_the_registry_lists(name: str) -> None:
    entry = MODELS[name]
    load = resolve(entry.target)
    taken = {key: parameter.default for key, parameter in inspect.signature(load).parameters.items()}
    if any(parameter.setting for parameter in entry.parameters.values()):
        taken |= {field.name: field.default for field in fields(get_type_hints(load)["return"])}
    expected = {key: parameter.default for key, parameter in entry.parameters.items() if not parameter.required}
    assert {key: taken[key] for key in expected} == expected and entry.parameters.keys() <= taken.keys()
    assert entry.encoder in {*ENCODERS, None} and entry.reference in {*REFERENCES, None}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_parameters_that_the_registry_lists(name: str) -> None:
    entry = METHODS[name]
    assert set(inspect.signature(resolve(entry.target)).parameters) - {"step"} == set(entry.parameters) - {"interval"}
    assert set(entry.ends.values()) <= METHODS.keys()


def test_every_module_imports_alone() -> None:
    """The import of any module first does not depend on another having been imported."""
    for name in MODULES.keys() - {"cfgbench.__main__"}:
        importlib.import_module(name)


HEAVY = ("torch", "diffusers", "open_clip", "torchmetrics", "torchvision", "sklearn", "transformers")
READERS = ("pandas", "matplotlib")
SCRIPT = f"""
import json, sys
from cfgbench.cli import main
code = 0
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
running, reading = (sorted(name for name in names if name in sys.modules) for names in {(HEAVY, READERS)!r})
print()
print(json.dumps([code, running, reading]))
"""


def loaded(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
    """The exit code of a command, the libraries of the running half it imported, and those of the reading half."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    code, running, reading = json.loads(done.stdout.splitlines()[-1])
    return code, running, reading


def test_help_and_plan_and_refusing_need_neither_torch_nor_pandas(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nnum_samples: 400\nsweeps: [{model: gaussians, sampler: huen, steps: 3}]\n")
    assert loaded("--help") == (0, [], [])
    assert loaded("run", "--help") == (0, [], [])
    for file in sorted((ROOT / "experiments").glob("*.yaml")):
        codes = (0, 2) if " path: " in file.read_text() else (0,)  # weights that do not come along may be missing
        code, *heavy = loaded("plan", file, "--output", tmp_path / "out")
        assert code in codes and heavy == [[], []], file
    assert loaded("plan", bad) == (2, [], [])
    code, running, _ = loaded("run", bad)
    assert (code, running) == (2, [])
    code, running, _ = loaded("report", tmp_path)
    assert (code, running) == (2, [])
