"""Methods on a budget: what is within it, what is too cheap to compare, the difference, and what is left out."""

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cfgbench.cell import Cell
from cfgbench.reading import report
from cfgbench.reading.tables.equal_cost import AtCost, compare_at_cost, cost_rows, cost_table
from cfgbench.reading.tables.results import Results, load
from cfgbench.records import CellRecord, Score
from tests import synthetic

Run = tuple[str, float, int]  # method, scale, steps
FIDS: dict[Run, float] = {
    ("cfg", 1.5, 10): 4.0,  # 20 passes
    ("cfg", 2.0, 10): 5.0,
    ("cfg", 1.5, 25): 3.0,  # 50
    ("cfg", 1.5, 50): 2.0,  # 100
    ("classifier", 0.5, 10): 9.0,  # 10: half of the cheapest budget, and no more
    ("classifier", 0.5, 25): 3.5,
    ("classifier", 1.0, 50): 2.25,  # 50
}


def made(folder: Path, fids: dict[Run, float], seeds: Iterable[int] = (0,), timed: bool = False) -> Results:
    """A folder of cells whose FID is known to the last digit, a quarter more with each training seed."""
    cells = [
        (synthetic.cell(method, scale, steps=steps, model={"training_seed": seed} if seed else {}), fid + 0.25 * seed)
        for seed in seeds
        for (method, scale, steps), fid in fids.items()
    ]
    records = [synthetic.record(one, columns=(), scores=(_exactly(fid),)) for one, fid in cells]
    speeds = [synthetic.speed(one) for one in {one.cost_class: one for one, _ in cells}.values() if timed]
    return load(synthetic.write(folder, [one for one, _ in cells], records, speeds))


def _exactly(fid: float) -> Score:
    return Score(value=fid, replicates=(fid,) * 20, column="fid", metric="fid", identity={"metric": "fid"})


def gaps(rows: Iterable[AtCost], kind: str = "NFE") -> dict[float, float]:
    """Differences by budget."""
    return {row.budget: row.gap.estimate.value for row in rows if row.gap is not None and row.kind == kind}


def test_both_are_tuned_over_what_the_budget_affords(tmp_path: Path) -> None:
    rows = compare_at_cost(made(tmp_path, FIDS))
    assert gaps(rows) == pytest.approx({50.0: 2.25 - 3.0})  # 20 affords no classifier run that takes more than half
    (row,) = rows
    assert (row.other.setting, row.spent, row.cfg.setting) == (
        "classifier scale = 1, 50 steps",
        50,
        "s = 1.5, 25 steps",
    )


def test_a_method_that_was_run_at_few_steps_only_is_not_held_against_more(tmp_path: Path) -> None:
    few = {run: fid for run, fid in FIDS.items() if run[0] == "cfg" or run[2] == 25}
    assert gaps(compare_at_cost(made(tmp_path, few))) == {}


def test_where_cfg_has_one_cost_there_is_nothing_to_say_and_no_file(tmp_path: Path) -> None:
    one = {run: fid for run, fid in FIDS.items() if run[0] != "cfg" or run[2] == 25}
    assert compare_at_cost(made(tmp_path, one)) == []
    report.build(tmp_path, formats=())
    assert (tmp_path / "methods.csv").exists()
    assert not (tmp_path / "equal_cost.csv").exists()


def test_seconds_are_budgets_where_they_were_measured(tmp_path: Path) -> None:
    rows = compare_at_cost(made(tmp_path, FIDS, timed=True))
    in_seconds = [row for row in rows if row.kind == "seconds"]
    assert [row.run for row in in_seconds] == ["ddim, 10 steps", "ddim, 25 steps", "ddim, 50 steps"]
    assert all(row.spent <= 1.001 * row.budget for row in in_seconds)
    assert gaps(in_seconds[-1:], "seconds") == pytest.approx({in_seconds[-1].budget: 2.25 - 2.0})


def test_training_seeds_give_the_mean_and_its_spread(tmp_path: Path) -> None:
    fids = dict(FIDS)
    results = made(tmp_path, fids, seeds=(0, 1, 2))
    *single, mean = compare_at_cost(results)
    assert [row.networks for row in (*single, mean)] == [1, 1, 1, 3]
    assert mean.gap is not None
    assert mean.gap.estimate.value == pytest.approx(2.25 - 3.0)
    assert mean.contest["model"] == "digits"


def test_the_order_of_cells_does_not_matter(tmp_path: Path) -> None:
    backwards = dict(reversed(FIDS.items()))
    there, back = (compare_at_cost(made(tmp_path / name, f)) for name, f in (("a", FIDS), ("b", backwards)))
    assert cost_rows(there) == cost_rows(back)


def test_the_best_within_a_budget_is_judged_by_samples_that_did_not_choose_it(tmp_path: Path) -> None:
    """Equal methods with noise: the mean difference over many worlds is nothing, whoever has more to choose from."""
    rng, found = np.random.default_rng(5), []
    more = {("cfg", scale, 25): 3.0 for scale in (1.1, 1.2, 1.3, 2.0, 3.0)}
    plain = made(tmp_path, {**FIDS, **more})
    (base,) = compare_at_cost(plain)
    for _ in range(200):
        noisy = [_noisy(record.cell, rng) for record in plain.done]
        rows = compare_at_cost(replace(plain, records={one.id: one for one in noisy}))
        found += [row.gap.estimate.value for row in rows if row.gap is not None]
    assert base.other.cells < base.cfg.cells
    assert np.mean(found) == pytest.approx(0.0, abs=4 * np.std(found) / len(found) ** 0.5)


def _noisy(one: Cell, rng: np.random.Generator) -> CellRecord:
    pseudo = 3 + rng.normal(size=20)
    replicates = tuple(((20 * pseudo.mean() - pseudo) / 19).tolist())
    score = Score(value=pseudo.mean(), replicates=replicates, column="fid", metric="fid", identity={"metric": "fid"})
    return synthetic.record(one, columns=(), scores=(score,))


def test_the_report_has_the_table_as_csv_markdown_and_latex(tmp_path: Path) -> None:
    results = made(tmp_path, FIDS, seeds=(0, 1), timed=True)
    report.build(tmp_path, formats=())
    with (tmp_path / "equal_cost.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["cost"] for row in rows} == {"NFE", "seconds"}
    assert {row["networks"] for row in rows} == {"1", "2"}
    table = cost_table(compare_at_cost(results))
    assert all(len(texts) == len(table.header) for texts in table.rows)
    assert "50 NFE (CFG, ddim, 25 steps)" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "equal_cost.tex").exists()
