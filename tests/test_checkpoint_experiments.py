"""The experiments on checkpoints that do not come along are planned as soon as the files are there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cfgbench.assets.adm_layout import Networks
from cfgbench.planning import experiment, plan
from cfgbench.training.cifar10 import SHAPES
from tests.test_class_conditional import dit

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def tasks_of(name: str, home: Path) -> tuple[plan.Task, ...]:
    """The cells of an experiment whose checkpoint is in this folder, scored by an Inception beside it."""
    (home / "inception.pth").write_bytes(b"weights")
    statistics = home / "VIRTUAL_imagenet_labeled.npz"
    np.savez(statistics, mu=np.zeros(3), sigma=np.eye(3), arr_0=np.zeros((4, 8, 8, 3), np.uint8))
    overrides = {
        "common.model.path": home,
        "encoder": f"{{name: inception, path: {home / 'inception.pth'}}}",
        "reference": statistics,
    }
    loaded = experiment.load(EXPERIMENTS / f"{name}.yaml", [f"{key}={value}" for key, value in overrides.items()])
    made = plan.plan(loaded)
    assert [note for note in made.notes if note.startswith(f"protocol {loaded.protocol}")]
    return made.tasks


@pytest.mark.parametrize(("name", "cells"), [("adm64", 14), ("adm256", 14)])
def test_an_experiment_on_adm_is_planned(name: str, cells: int, tmp_path: Path) -> None:
    size = name.removeprefix("adm")
    for kind in ("diffusion", "diffusion_uncond", "classifier"):
        (tmp_path / f"{size}x{size}_{kind}.pt").write_bytes(kind.encode())
    assert len(tasks_of(name, tmp_path)) == cells


def test_the_experiment_on_cifar10_is_planned_with_error_bars(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(Networks(**SHAPES).model_dump_json())
    for name in SHAPES:
        save_file({"weight": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    tasks = tasks_of("cifar10", tmp_path)
    assert len(tasks) == 23
    assert all(task.num_samples % (plan.NUM_GROUPS * task.num_classes) == 0 for task in tasks)


def test_the_experiment_on_dit_is_planned(tmp_path: Path) -> None:
    dit().save_pretrained(tmp_path)
    tasks = tasks_of("dit", tmp_path)
    assert len(tasks) == 11 + 28  # at scale 1 nothing is guided, whatever the channels
