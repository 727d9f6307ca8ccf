"""The experiments on checkpoints that do not come along are planned as soon as the files are there."""

from pathlib import Path

import pytest

from cfgbench import experiment, plan
from cfgbench.adm_layout import Networks
from cfgbench.training.cifar10 import SHAPES
from tests.test_class_conditional import dit

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.mark.parametrize(("name", "cells"), [("adm64", 14), ("adm256", 14)])
def test_an_experiment_on_adm_is_planned(name: str, cells: int, tmp_path: Path) -> None:
    size = name.removeprefix("adm")
    for kind in ("diffusion", "diffusion_uncond", "classifier"):
        (tmp_path / f"{size}x{size}_{kind}.pt").write_bytes(kind.encode())
    loaded = experiment.load(EXPERIMENTS / f"{name}.yaml", [f"common.model.path={tmp_path}"])
    assert len(plan.plan(loaded).tasks) == cells


def test_the_experiment_on_cifar10_is_planned_with_error_bars(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(Networks(**SHAPES).model_dump_json())
    for name in SHAPES:
        (tmp_path / f"{name}.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    tasks = plan.plan(experiment.load(EXPERIMENTS / "cifar10.yaml", [f"common.model.path={tmp_path}"])).tasks
    assert len(tasks) == 23
    assert all(task.num_samples % (plan.NUM_GROUPS * task.num_classes) == 0 for task in tasks)


def test_the_experiment_on_dit_is_planned(tmp_path: Path) -> None:
    dit().save_pretrained(tmp_path)
    tasks = plan.plan(experiment.load(EXPERIMENTS / "dit.yaml", [f"common.model.path={tmp_path}"])).tasks
    assert len(tasks) == 11 + 28  # at scale 1 nothing is guided, whatever the channels
