"""Where memory is too small for a batch, smaller ones give the same samples, and the record says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfgbench.generation import halving
from cfgbench.models.digits import DigitsModel
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.running import scoring, worker
from cfgbench.store import Store


def drawer(limit: int, error: Exception) -> Any:
    """Returns the indices; raises where there are more of them than fit."""

    def draw(indices: range) -> list[int]:
        if len(indices) > limit:
            raise error
        return list(indices)

    return draw


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.integers(1, 130), st.integers(1, 200))
def test_every_index_is_drawn_once_and_in_order(count: int, size: int, limit: int) -> None:
    parts, left = halving.in_batches(drawer(limit, MemoryError()), range(7, 7 + count), size)
    assert [index for part in parts for index in part] == list(range(7, 7 + count))
    assert left == size or left <= limit < 2 * left + 2  # no smaller than need be


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to ..."),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_memory_that_no_batch_fits_into_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        halving.in_batches(drawer(0, error), range(8), 8)


def test_another_error_is_raised_at_once() -> None:
    seen = []

    def draw(indices: range) -> None:
        seen.append(indices)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        halving.in_batches(draw, range(8), 8)
    assert len(seen) == 1


def test_a_real_allocation_that_fails_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert halving.is_out_of_memory(caught.value)  # type: ignore[arg-type]


def test_a_block_that_ran_out_of_memory_holds_the_same_samples_and_its_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"model": "digits", "sampler": "ddim", "steps": 4, "guidance_scale": 2}
    body = {"name": "x", "num_samples": 200, "metrics": ["fid", "accuracy"], "profile": None, "sweeps": [grid]}
    (task,) = planner.plan(experiment.parse(body, "x.yaml")).tasks
    usual, small = Store(tmp_path / "usual"), Store(tmp_path / "small")
    usual.folder.mkdir()
    small.folder.mkdir()
    for start in task.starts:
        worker.draw_block(task, start, usual.folder, "cpu")
    predict = DigitsModel.predict

    def greedy(self: DigitsModel, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict(self, x, *rest)

    worker.draw_block(task, 0, small.folder, "cpu")
    monkeypatch.setattr(DigitsModel, "predict", greedy)
    worker.draw_block(task, 100, small.folder, "cpu")
    worker.draw_block(task, 0, small.folder, "cpu")
    one, other = (store.block(task.cell.id, 100) for store in (usual, small))
    assert one is not None and other is not None and other["batch_size"] == 12 and "batch_size" not in one
    assert np.abs(one["features"] - other["features"]).max() < 1e-3 * np.abs(one["features"]).max()
    assert (one["pixels"] == other["pixels"]).mean() > 0.9
    strips = [np.asarray(Image.open(store.records / f"{task.cell.id}.png")) for store in (usual, small)]
    assert strips[0].shape == strips[1].shape == (8, 160)
    noted, plain = scoring.score(task, small, "cpu"), scoring.score(task, usual, "cpu")
    assert noted is not None and plain is not None and plain.notes == ()
    assert "2 of 2 blocks ran out of memory at batches of 100 and were drawn in batches of 12" in noted.notes[0]
    for left, right in zip(noted.scores, plain.scores, strict=True):
        assert left.value == pytest.approx(right.value, rel=1e-3)
