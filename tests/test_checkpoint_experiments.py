"""The experiments on checkpoints that do not come along are planned as soon as the files are there."""

from pathlib import Path

import pytest

from cfgbench import experiment, plan

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.mark.parametrize(("name", "cells"), [("adm64", 14), ("adm256", 14)])
def test_an_experiment_on_adm_is_planned(name: str, cells: int, tmp_path: Path) -> None:
    size = name.removeprefix("adm")
    for kind in ("diffusion", "diffusion_uncond", "classifier"):
        (tmp_path / f"{size}x{size}_{kind}.pt").write_bytes(kind.encode())
    loaded = experiment.load(EXPERIMENTS / f"{name}.yaml", [f"common.model.path={tmp_path}"])
    assert len(plan.plan(loaded).tasks) == cells
