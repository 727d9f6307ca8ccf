"""Blocks that an earlier version has drawn are scored as they are."""

from pathlib import Path

from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.running import worker
from cfgbench.store import Store


def test_blocks_that_do_not_say_how_passes_were_made_are_scored(tmp_path: Path) -> None:
    grid = {"model": "gaussians", "sampler": "ddim", "steps": 2, "guidance_scale": 2}
    body = {"name": "x", "num_samples": 200, "metrics": ["accuracy"], "profile": None, "sweeps": [grid]}
    (task,) = planner.plan(experiment.parse(body, "x.yaml")).tasks
    store = Store(tmp_path)
    for start in task.starts:
        worker.draw_block(task, start, tmp_path, "cpu")
        block = store.block(task.cell.id, start)
        assert block is not None
        del block["batched"]
        store.write_block(task.cell.id, start, block)
    assert worker.score_cell(task, tmp_path, "cpu")
    record = store.cell(task.cell.id)
    assert record is not None and not record.batched
