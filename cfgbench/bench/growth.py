"""How the cost of a sweep grows with samples, cells, steps and workers."""

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from cfgbench import experiment, machine, plan, runner
from cfgbench.bench.result import Finding, Result, in_turn, ratio, seconds_rows
from cfgbench.bench.startup import Silent
from cfgbench.bench.sweep import Warm

BASE: dict[str, Any] = {"samples": 1000, "cells": 4, "steps": 10}
VARIED = {"samples": (1000, 2000, 4000), "cells": (4, 8, 16), "steps": (10, 20, 40)}
METRICS = ("fid", "inception_score")


def run(quick: bool = False) -> Result:
    """Each of them varied alone; then one worker against all."""
    base = {"samples": 200, "cells": 2, "steps": 1} if quick else BASE
    varied = {"samples": (200, 400)} if quick else VARIED
    rows, findings = [], []
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        folders = (Path(name) / str(number) for number in count())
        for what, values in varied.items():
            with Warm() as pool:
                sides = {str(v): _run({**base, what: v}, lambda: next(folders), pool) for v in values}
                found = in_turn(sides, 1 if quick else 3, warm=not quick)
            rows += seconds_rows(what, found)
            last, first = found[str(values[-1])], found[str(values[0])]
            findings.append(_growth(f"seconds with {values[-1] // values[0]} times the {what}", last, first))
        one, all_cores = (_run(base, lambda: next(folders), workers) for workers in (1, machine.cores()))
        found = in_turn({"1": one, str(machine.cores()): all_cores}, 1 if quick else 3, warm=False)
        rows += seconds_rows("workers, with their start", found)
    return Result(rows, findings)


def _run(size: dict[str, int], folder: Callable[[], Path], pool: Warm | int) -> Callable[[], object]:
    scales = [round(1 + 0.05 * (k + 1), 2) for k in range(size["cells"])]
    sweep = {"model": "digits", "guidance_scale": scales, "sampler": "ddim", "steps": size["steps"]}
    body = {"name": "growth", "num_samples": size["samples"], "metrics": METRICS, "profile": None, "sweeps": [sweep]}
    made = plan.plan(experiment.parse(body, "cfgbench bench"))
    if isinstance(pool, int):
        return lambda: runner.run(made, runner.Options(folder(), workers=pool, profile=False), Silent())
    return lambda: runner.run(made, runner.Options(folder(), profile=False), Silent(), pool)


def _growth(what: str, last: list[float], first: list[float]) -> Finding:
    return ratio(what, last, first)
