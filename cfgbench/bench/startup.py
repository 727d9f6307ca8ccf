"""What is waited for before and after the work: help, planning, resuming what is finished, reporting."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cfgbench import machine
from cfgbench.bench.result import Finding, Result, in_turn, seconds_rows
from cfgbench.planning import experiment, plan
from cfgbench.reading import report
from cfgbench.reading.tables.rows import Row
from cfgbench.records import CellRecord
from cfgbench.running import runner

CELLS = (10, 100, 1000)


class Silent:
    """Progress that nobody watches."""

    def begin(self, samples: int, done: int) -> None: ...
    def drawn(self, samples: int) -> None: ...
    def finished(self, record: CellRecord) -> None: ...
    def stage(self, text: str) -> None: ...


def run(quick: bool = False) -> Result:
    """Seconds of `--help`, and of planning, resuming and reporting an experiment of so many cells."""
    helped = in_turn({"cfgbench --help": _command("--help")}, 1 if quick else 7)
    rows, findings = seconds_rows("start", helped), [_finding("cfgbench --help", helped["cfgbench --help"], 0.5)]
    for cells in (4,) if quick else CELLS:
        found = _of_experiment(cells, 1 if quick else 3)
        rows += [{**row, "cells": cells} for row in found[0]]
        findings += found[1]
    return Result(rows, findings)


def _of_experiment(cells: int, rounds: int) -> tuple[list[Row], list[Finding]]:
    with _finished(cells) as (file, folder):
        made = plan.plan(experiment.load(file))
        options = runner.Options(folder, workers=machine.cores(), profile=False)
        seconds = in_turn(
            {
                "plan": lambda: plan.plan(experiment.load(file)),
                "resume": lambda: runner.run(made, options, Silent()),
                "report": lambda: report.build(folder),
                "cfgbench run again": _command("run", str(file), "--output", str(folder)),
            },
            rounds,
            warm=rounds > 1,
        )
    goal = 2.0 if cells == CELLS[-1] else None
    return (
        seconds_rows(f"{cells} cells", seconds),
        [
            _finding(f"resuming {cells} finished cells", seconds["resume"], goal),
            _finding(f"cfgbench run of {cells} finished cells, as a command", seconds["cfgbench run again"], goal),
        ],
    )


@contextmanager
def _finished(cells: int) -> Iterator[tuple[Path, Path]]:
    """An experiment file of so many cells in closed form, and its finished results folder."""
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        file, folder = Path(name) / "many.yaml", Path(name) / "many"
        file.write_text(json.dumps(body(cells)))  # which is YAML
        options = runner.Options(folder, workers=machine.cores(), profile=False)
        runner.run(plan.plan(experiment.load(file)), options, Silent())
        yield file, folder


def body(cells: int) -> dict[str, object]:
    """An experiment of so many cells: ten scales, the rest seeds."""
    scales = [round(1.1 + 0.1 * k, 1) for k in range(min(10, cells))]
    sweep = {"guidance_scale": scales, "seed": list(range(max(1, cells // 10)))}
    common = {"model": "gaussians", "sampler": "ddim", "steps": 1}
    return {
        "name": "many",
        "num_samples": 100,
        "metrics": ["accuracy"],
        "profile": None,
        "common": common,
        "sweeps": [sweep],
    }


def _command(*arguments: str) -> Callable[[], object]:
    """`cfgbench` with these arguments, as its own process."""
    return lambda: subprocess.run([sys.executable, "-m", "cfgbench", *arguments], check=True, capture_output=True)


def _finding(what: str, seconds: Sequence[float], target: float | None) -> Finding:
    ordered = sorted(seconds)
    return Finding(what, ordered[len(ordered) // 2], ordered[0], ordered[-1], target, at_least=False, unit="s")
