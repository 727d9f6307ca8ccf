"""Shards of a run, merged by copying, come to what one run comes to."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cfgbench import cli, machine
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.reading import notes
from cfgbench.reading.tables.results import load
from cfgbench.running import runner, shards
from cfgbench.running.shards import Shard
from cfgbench.store import TEMPORARY, Store
from tests.test_resume import CELLS, SWEEP, Silent, assert_same, blocks, record_files

PLAN = planner.plan(experiment.parse(dict(SWEEP), "small.yaml"))


@given(st.integers(1, 60))
def test_every_block_is_in_one_shard_and_shards_differ_by_at_most_one_block(count: int) -> None:
    shares = [shards.share(PLAN.tasks, Shard(k, count)) for k in range(1, count + 1)]
    assert sum(map(len, shares)) == len(set().union(*shares)) == sum(len(task.starts) for task in PLAN.tasks)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "-1/3", "1/3/5", "a/b", "1/0", "1/9999999", "²/3", "1 / 3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="allowed: I/N with I from 1 to N"):
        shards.parse(text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of one run."""
    folder = tmp_path_factory.mktemp("whole")
    assert runner.run(PLAN, runner.Options(folder, workers=2), Silent()).failed == []
    return folder


def test_shards_in_folders_of_their_own_merged_by_copying_equal_one_run(whole: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    for number in (3, 1, 2):
        part = tmp_path / f"part{number}"
        runner.draw_share(PLAN, Shard(number, 3), runner.Options(part, workers=2), Silent())
        assert record_files(part) == [] and len(blocks(part)) in (13, 14)
        shutil.copytree(part, merged, dirs_exist_ok=True)
    before = blocks(merged)
    assert runner.run(PLAN, runner.Options(merged, workers=2), Silent()).computed == CELLS
    assert blocks(merged) == before  # nothing was drawn
    for path in merged.glob(".lock-*"):
        path.unlink()
    assert_same(merged, whole)


def test_the_reader_is_told_of_blocks_that_another_kind_of_machine_drew(tmp_path: Path) -> None:
    """In the record of their cell and in the notes; blocks of before this was kept say nothing."""
    folder, here = tmp_path / "merged", machine.kind("cpu")
    runner.draw_share(PLAN, Shard(1, 1), runner.Options(folder, workers=2), Silent())
    store, (first, second, *_) = Store(folder), PLAN.tasks
    for task, kind in ((first, "another processor, torch 2.0"), (second, None)):
        block = store.block(task.cell.id, 0) or {}
        assert str(block.pop("machine")) == here
        store.write_block(task.cell.id, 0, block | ({} if kind is None else {"machine": np.array(kind)}))
    assert runner.run(PLAN, runner.Options(folder, workers=2), Silent()).computed == CELLS
    results = load(folder)
    assert results.records[first.cell.id].machines == tuple(sorted([here, "another processor, torch 2.0"]))
    assert results.records[second.cell.id].machines == (here,)
    (said,) = (line for line in notes.notes(results) if "machines of different kinds" in line)
    assert "another processor, torch 2.0 (blocks of 1 cell)" in said and f"{here} (blocks of {CELLS} cells)" in said


def test_a_shard_from_the_command_line_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = tmp_path / "small.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(SWEEP))
    command = ["run", str(file), "--output", str(folder), "--device", "cpu", "--workers", "1", "--shard"]
    assert cli.main([*command, "20/20"]) == 0
    shown = capsys.readouterr().err
    assert "shard 20/20: its blocks are drawn" in shown and "the same command without --shard scores" in shown
    assert len(blocks(folder)) == 2
    assert cli.main([*command, "21/20"]) == 2
    assert "--shard '21/20'; allowed: I/N" in capsys.readouterr().err


def test_shards_hold_a_folder_together_and_a_run_holds_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with Store(folder).locked("shard 1/2"):
        half_written = folder / f"{TEMPORARY}of-the-first"
        half_written.write_text("")
        with Store(folder).locked("shard 2/2"), Store(folder).locked("shard 1/3"):
            pass
        assert half_written.exists()  # it is another's
        with pytest.raises(InputError, match="another run of shard 1/2 is writing"), Store(folder).locked("shard 1/2"):
            pass
        with pytest.raises(InputError, match="another run is writing"), Store(folder).locked():
            pass
    with Store(folder).locked():
        assert not half_written.exists()
        with pytest.raises(InputError, match="another run is writing"), Store(folder).locked("shard 1/2"):
            pass


def test_a_shard_draws_again_only_what_it_lacks(tmp_path: Path) -> None:
    options, shard = runner.Options(tmp_path / "out", workers=1), Shard(2, 5)
    runner.draw_share(PLAN, shard, options, Silent())
    before = blocks(tmp_path / "out")
    assert len(before) == len(shards.share(PLAN.tasks, shard)) == 8
    gone = next(iter(before))
    (tmp_path / "out" / "blocks" / gone).unlink()
    runner.draw_share(PLAN, shard, options, Silent())
    after = blocks(tmp_path / "out")
    assert {name for name in before if before[name] != after[name]} == {gone} and after.keys() == before.keys()
    assert Store(tmp_path / "out").plan().cells == tuple(task.cell for task in PLAN.tasks)
