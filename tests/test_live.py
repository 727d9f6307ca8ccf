"""While a run goes on: what the terminal shows, and a report of what is finished so far."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cfgbench.console import Bar, describe, standings
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.reading import report
from cfgbench.reading.tables.results import load
from cfgbench.records import CellRecord
from cfgbench.running import runner
from tests import synthetic as made

SMALL = {
    "name": "small",
    "num_samples": 100,
    "metrics": ["fid", "accuracy"],
    "common": {"model": "gaussians", "sampler": "ddim", "steps": 4},
    "sweeps": [{"method": "cfg", "guidance_scale": [0, 1, 2, 3]}],
    "profile": None,
}


def terminal(width: int = 120, height: int = 30) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, force_interactive=True, width=width, height=height, _environ={}
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(records: list[CellRecord], rows: int = 20, width: int = 100) -> list[str]:
    """The lines of the table and what is below it, without colours."""
    console = Console(file=io.StringIO(), width=width)
    console.print(standings(records, len(made.SCALES), rows, width))
    return written(console).splitlines()


@pytest.fixture
def records() -> list[CellRecord]:
    return [made.record(made.cell("cfg", scale)) for scale in made.SCALES]


def test_the_table_fills_and_names_the_best_so_far_with_its_interval(records: list[CellRecord]) -> None:
    lines = shown(records[:5])
    assert lines[0].startswith("5 of 8 cells finished")
    assert "FID" in lines[0] and "IS" in lines[0]
    assert len(lines) == 5 + 2
    assert "\N{PLUS-MINUS SIGN}" in lines[-1]
    assert lines[-1].startswith("best so far: digits cfg 1.1 ddim-25 fp32, FID ")
    assert not lines[-1].endswith("tied")


def test_cells_that_are_not_shown_worse_than_the_best_are_counted(records: list[CellRecord]) -> None:
    twins = [made.record(made.cell("cfg", 1.1, sampler=sampler)) for sampler in ("heun", "deis", "lms")]
    assert shown([*records, twins[0]])[-1].endswith(", one more tied")
    assert shown([*records, *twins])[-1].endswith(", 3 more tied")


def test_the_last_rows_stay_when_the_terminal_is_too_small_for_all(records: list[CellRecord]) -> None:
    lines = shown(records, rows=3)
    assert lines[0].startswith("8 of 8 cells finished, the last 3")
    assert ["cfg 2 " in lines[1], "cfg 4 " in lines[2], "cfg 8 " in lines[3]] == [True] * 3
    assert "cfg 1.1 " in lines[-1]


def test_a_narrow_terminal_shows_fewer_scores_and_no_line_is_wider(records: list[CellRecord]) -> None:
    for width in (60, 80, 100, 200):
        lines = shown(records, width=width)
        assert len(lines) == len(records) + 2
        assert max(map(len, lines)) <= width


def test_nothing_is_called_the_best_before_a_cell_is_finished() -> None:
    assert shown([])[0] == "0 of 8 cells finished"
    assert not any("best" in line for line in shown([]))


def test_scores_against_other_references_do_not_compete(records: list[CellRecord]) -> None:
    changed = records[2].model_copy(
        update={"scores": tuple(s.model_copy(update={"identity": {"encoder": "other"}}) for s in records[2].scores)}
    )
    assert "cfg 1.1 " in shown(records)[-1]
    assert "cfg 1.1 " not in shown([changed, *records[3:]])[-1]


def test_a_terminal_sees_the_table_with_the_cells_of_an_earlier_run(records: list[CellRecord]) -> None:
    console = terminal()
    with Bar(8, records[:3], console) as bar:
        bar.begin(800, 300)
        bar.drawn(100)
        bar.finished(records[3])
    text = written(console)
    assert "3 of 8 cells finished" in text and "4 of 8 cells finished" in text
    assert "400/800" in text
    assert "best so far" in text


def test_on_a_terminal_a_failure_stays_above_the_table(records: list[CellRecord]) -> None:
    console = terminal()
    with Bar(8, (), console) as bar:
        bar.begin(800, 0)
        bar.finished(made.failed(records[0].cell))
        bar.finished(records[1])
    assert "FAILED: RuntimeError: boom" in written(console)
    assert "1 of 8 cells finished" in written(console)


def test_a_pipe_gets_one_plain_line_per_finished_cell(records: list[CellRecord]) -> None:
    console = Console(file=io.StringIO(), width=40)
    with Bar(8, records[:2], console) as bar:
        bar.begin(800, 200)
        bar.drawn(100)
        bar.finished(records[2])
        bar.stage("timing")
    assert written(console).splitlines() == [describe(records[2]), "timing"]


def test_a_report_can_be_built_from_any_part_of_the_cells(tmp_path: Path) -> None:
    cells = made.three_arms()
    for count in (0, 1, 2, 9):
        folder = made.write(tmp_path / str(count), cells, map(made.record, cells[:count]))
        report.build(folder, formats=())
        assert f"{len(cells) - count} of {len(cells)} cells have no record yet" in (folder / "summary.md").read_text()
        assert report.answer(folder).count("\n") == 2


class Stopped:
    """Builds the report at every finished cell, as another process would, and stops the run at the second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished_cells = 0

    def begin(self, samples: int, done: int) -> None:
        report.build(self.folder, formats=())

    def drawn(self, samples: int) -> None: ...

    def finished(self, record: CellRecord) -> None:
        self.finished_cells += 1
        report.build(self.folder, formats=())
        assert len(load(self.folder).done) >= self.finished_cells
        if self.finished_cells == 2:
            raise KeyboardInterrupt

    def stage(self, text: str) -> None: ...


@pytest.fixture
def interrupted(tmp_path: Path) -> tuple[Path, planner.Plan]:
    made_plan = planner.plan(experiment.parse(dict(SMALL), "small.yaml"))
    with pytest.raises(KeyboardInterrupt):
        runner.run(made_plan, runner.Options(tmp_path, workers=1), Stopped(tmp_path))
    return tmp_path, made_plan


def test_a_run_can_be_reported_while_it_goes_on_and_after_it_was_interrupted(
    interrupted: tuple[Path, planner.Plan],
) -> None:
    folder, made_plan = interrupted
    finished = runner.finished(made_plan, folder)
    assert 2 <= len(finished) < 4
    report.build(folder, formats=("png",))
    assert f"{4 - len(finished)} of 4 cells have no record yet" in (folder / "summary.md").read_text()
    assert (folder / "figures" / "density_grid.png").stat().st_size > 1000
