"""Tables: one row per cell, common sample counts, refusal to mix, the same bytes for the same records."""

import csv
import io
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cfgbench.cell import ModelRef
from cfgbench.errors import InputError
from cfgbench.reading import report
from cfgbench.reading.tables import compare, rows, text
from cfgbench.reading.tables.results import Results, load
from cfgbench.records import CellRecord
from tests import synthetic as made


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(made.folder(tmp_path_factory.mktemp("three")))


def parsed(results: Results) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(rows.to_csv(rows.result_rows(results)))))


def test_the_reading_half_imports_neither_torch_nor_diffusers_nor_matplotlib() -> None:
    heavy = "'torch', 'diffusers', 'matplotlib', 'open_clip'"
    code = f"import sys, cfgbench.reading.report; sys.exit(any(name in sys.modules for name in ({heavy})))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_imports_neither_torch_nor_diffusers() -> None:
    code = "import sys, cfgbench.reading.figures; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_results_has_one_row_per_planned_cell_in_plan_order(three: Results) -> None:
    assert [row["id"] for row in parsed(three)] == [cell.id for cell in three.plan.cells]


def test_results_starts_with_the_identity_of_the_cell_and_puts_the_training_reference_after_the_held_out_one(
    three: Results,
) -> None:
    names = list(parsed(three)[0])
    assert names[:7] == ["id", "status", "model", "method", "guidance_scale", "w", "classifier_scale"]
    assert names[7:12] == ["sampler", "steps", "dtype", "num_samples", "seed"]
    assert names.index("fid") < names.index("fid_train") < names.index("inception_score")


def test_results_holds_no_machine_time_or_commit(three: Results) -> None:
    content = rows.to_csv(rows.result_rows(three))
    assert made.MACHINE.processor not in content
    assert str(made.MACHINE.commit) not in content
    assert str(three.folder) not in content


def test_a_failed_cell_is_a_row_without_scores(three: Results) -> None:
    failed = [row for row in parsed(three) if row["status"] == "failed"]
    assert len(failed) == 1
    assert failed[0]["fid"] == failed[0]["fid_vs_best"] == failed[0]["num_samples"] == ""


def test_a_planned_cell_without_a_record_is_a_row_that_says_missing(tmp_path: Path) -> None:
    cells = made.three_arms()
    results = load(made.write(tmp_path, cells, map(made.record, cells[:3])))
    assert [row["status"] for row in parsed(results)] == ["done"] * 3 + ["missing"] * (len(cells) - 3)


def test_an_absent_score_is_an_empty_field_and_its_reason_is_in_scores(three: Results) -> None:
    lacking = next(record for record in three.done if record.absent)
    row = next(row for row in parsed(three) if row["id"] == lacking.id)
    assert row["accuracy"] == row["accuracy_tied"] == ""
    reasons = [row["absent"] for row in rows.score_rows(three) if row["id"] == lacking.id and row.get("absent")]
    assert reasons == [lacking.absent[0].reason]


def test_the_headline_fid_is_bias_corrected_and_the_plain_one_stands_beside_it(three: Results) -> None:
    row, record = parsed(three)[1], three.done[1]
    score = record.scores[0]
    corrected = 20 * score.value - 19 * np.mean(score.replicates)
    assert float(row["fid"]) == pytest.approx(corrected, rel=1e-9)
    assert float(row["fid_plain"]) == pytest.approx(score.value, rel=1e-9)
    assert float(row["fid_lo"]) < float(row["fid"]) < float(row["fid_hi"])


def test_other_scores_are_shown_as_measured(three: Results) -> None:
    record = three.done[1]
    measured = {score.column: score.value for score in record.scores}
    assert float(parsed(three)[1]["inception_score"]) == pytest.approx(measured["inception_score"], rel=1e-9)


def test_a_score_whose_jackknife_does_not_cover_has_no_error_columns(three: Results) -> None:
    names = list(parsed(three)[0])
    assert "recall_vs_unguided" in names
    assert not {"recall_se", "recall_lo", "recall_hi", "recall_vs_unguided_se"} & set(names)


def test_both_conventions_of_the_scale_are_in_every_row(three: Results) -> None:
    assert all(float(row["w"]) == pytest.approx(float(row["guidance_scale"]) - 1) for row in parsed(three))
    assert {row["w"] for row in parsed(three)} >= {"-1", "0", "0.1", "7"}


def test_the_paired_difference_has_a_smaller_error_than_independent_ones(three: Results) -> None:
    row = next(row for row in parsed(three) if row["guidance_scale"] == "1.1")
    unguided = next(row for row in parsed(three) if row["method"] == "unguided")
    independent = np.hypot(float(row["fid_se"]), float(unguided["fid_se"]))
    assert float(row["fid_vs_unguided_se"]) < independent / 2
    assert float(row["fid_vs_unguided"]) == pytest.approx(float(row["fid"]) - float(unguided["fid"]))


def test_curves_share_the_unguided_and_unconditional_cells(three: Results) -> None:
    cfg, classifier, branch = three.arms
    assert [point.scale for point in cfg.points] == list(made.SCALES)
    assert classifier.points[0].record.id == cfg.points[1].record.id
    assert branch.points[0].record.id == cfg.points[0].record.id


def test_an_interval_shares_the_unguided_cell_but_not_the_plain_unconditional_one(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s, interval=i) for i in ((0.2, None), None) for s in made.SCALES if i or s]
    unique = list({cell.id: cell for cell in cells}.values())
    results = load(made.write(tmp_path, unique, map(made.record, unique)))
    assert [len(arm.points) for arm in results.arms] == [len(made.SCALES), len(made.SCALES) - 1]


def test_curves_that_differ_in_the_negative_prompt_share_the_unguided_cell_that_has_none(tmp_path: Path) -> None:
    told = [ModelRef(name="sdxl", parameters={"negative_prompt": text}, digest="d" * 16) for text in ("a", "b")]
    cells = [made.cell("unguided", of=told[0].conditional), *(made.cell("cfg", s, of=m) for m in told for s in (2, 4))]
    results = load(made.write(tmp_path, cells, map(made.record, cells), [made.speed(one) for one in cells]))
    assert [[point.scale for point in arm.points] for arm in results.arms] == [[1, 2, 4], [1, 2, 4]]
    assert all(results.unguided(cell) is results.records[cells[0].id] for cell in cells)
    assert all(row["ratio_to_unguided"] is not None for row in rows.speed_rows(results))
    assert len(results.families()) == 1


def test_cells_with_different_sample_counts_are_compared_at_their_largest_common_rung(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.0, 1.1, 1.5)]
    records = [made.record(cells[0]), made.record(cells[1], samples=4000), made.record(cells[2], samples=800)]
    results = load(made.write(tmp_path, cells, records))
    fid = results.columns[0]
    by_hand = _corrected(records[0], 1600) - _corrected(records[1], 1600)
    gap = compare.difference(fid, records[0], records[1])
    verdict = compare.verdict(fid, records)
    assert gap is not None
    assert verdict is not None
    assert gap.value == pytest.approx(by_hand)
    assert verdict.num_samples == 800


def test_without_error_bars_the_plain_fid_is_compared_and_nothing_is_tied(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.0, 1.1, 1.5)]
    results = load(made.write(tmp_path, cells, [_bare(made.record(cell, samples=100)) for cell in cells]))
    row = parsed(results)[1]
    assert row["fid"] == row["fid_tied"] == ""
    assert float(row["fid_plain"]) > 0
    assert results.columns[0].label == "FID (plain)"


def test_scores_of_two_identities_never_share_a_column(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.0, 1.1)]
    other = made.record(cells[1], scores=(made.score(cells[1], "fid", identity="encoder-b").model_dump(),))
    folder = made.write(tmp_path, cells, [made.record(cells[0]), other])
    with pytest.raises(InputError, match=r"'fid'.*encoder-a.*encoder-b"):
        load(folder)


def test_a_tied_set_holds_the_best_and_the_best_differs_from_itself_by_nothing(three: Results) -> None:
    for column in ("fid", "inception_score", "precision"):
        tied = [row for row in parsed(three) if row[f"{column}_tied"] == "true"]
        best = [row for row in parsed(three) if row["status"] == "done" and row[f"{column}_vs_best"] == ""]
        assert len(best) == 1
        assert best[0] in tied


def test_best_names_the_optimum_of_every_curve_and_calls_the_edge_of_the_grid_an_edge(three: Results) -> None:
    found = {(row["method"], row["column"]): row for row in rows.best_rows(three)}
    assert found["cfg", "fid"]["best_scale"] == 1.1
    assert found["cfg", "fid"]["at_edge"] is False
    assert found["classifier", "inception_score"]["at_edge"] is True
    assert found["classifier", "recall"]["at_edge"] is False  # zero is the end of the scale, not of the grid


def test_speed_reports_the_99th_percentile_only_with_enough_repeats(tmp_path: Path) -> None:
    cells = [made.cell("unguided"), made.cell("cfg", 1.5)]
    speeds = [made.speed(cells[0], repeats=300), made.speed(cells[1], repeats=12)]
    found = rows.speed_rows(load(made.write(tmp_path, cells, map(made.record, cells), speeds)))
    assert [row["latency_p99_s"] is None for row in found] == [False, False, True, True]
    assert found[2]["ratio_to_unguided"] == pytest.approx(1.95, abs=0.1)


def test_a_classifier_counts_as_memory_only_of_the_methods_that_consult_it(three: Results) -> None:
    weights = {row["method"]: row["weights_memory_bytes"] for row in rows.speed_rows(three)}
    assert weights["unguided"] == weights["cfg"] == 306_000
    assert weights["classifier"] == weights["classifier_uncond"] == 626_000


def test_emulated_arithmetic_has_no_latency(tmp_path: Path) -> None:
    cells = [made.cell("unguided", dtype="bf16_emulated")]
    results = load(made.write(tmp_path, cells, map(made.record, cells), [made.speed(cells[0], measured=False)]))
    assert all(row["latency_p50_s"] is None and row["measured"] is False for row in rows.speed_rows(results))
    assert "not measured (emulated)" in text.to_markdown(text.speed_table(results))


def test_markdown_and_latex_mark_the_best_and_the_tied(three: Results) -> None:
    table = text.results_table(three)
    assert "**1.55 ± 0.16**" in text.to_markdown(table)
    assert "<u>8.802 ± 0.050</u>" in text.to_markdown(table)
    assert r"\textbf{\boldmath 1.55 $\pm$ 0.16}" in text.to_latex(table)
    assert r"\underline{8.802 $\pm$ 0.050}" in text.to_latex(table)


def test_rows_of_equal_value_are_marked_alike(tmp_path: Path) -> None:
    cells = [made.cell("cfg", 1.5), made.cell("classifier", 0.5)]
    scores = tuple(made.score(cells[0], name) for name in made.METRICS)
    results = load(made.write(tmp_path, cells, [made.record(cell, scores=scores) for cell in cells]))
    assert {cell.mark for row in text.best_table(results).rows for cell in row[3:]} == {text.BEST}


def test_of_a_single_row_nothing_is_best(tmp_path: Path) -> None:
    cells = [made.cell("cfg", 1.5)]
    results = load(made.write(tmp_path, cells, map(made.record, cells)))
    for table in (text.best_table(results), text.results_table(results)):
        assert {cell.mark for row in table.rows for cell in row} == {""}


@pytest.mark.parametrize(
    ("number", "written"),
    [(0.04651, "0.0465"), (42.6415, "42.6"), (999.7, "1,000"), (1283.4, "1,280"), (9e5, "900,000")],
)
def test_a_number_is_written_to_three_digits_without_powers_of_ten(number: float, written: str) -> None:
    assert text.short(number) == written


def test_a_speed_table_has_no_column_of_what_was_not_measured(three: Results) -> None:
    table = text.speed_table(three)
    assert "images/s" in table.header and "J per image" not in table.header
    assert all(len(row) == len(table.header) for row in table.rows)


def test_without_scores_there_is_no_table_of_the_best(tmp_path: Path) -> None:
    cells = [made.cell("cfg", 1.5)]
    written = report.build(made.write(tmp_path, cells, [made.record(cells[0], columns=())]), formats=())
    assert "results.md" in {path.name for path in written}
    assert "best.md" not in {path.name for path in written}


def test_special_characters_are_escaped() -> None:
    table = text.Table("50 % & more", ("a_b",), ((text.Text(r"x|y_{z}^2 \ #1 $ ~ <b>"),),))
    assert r"x|y\_\{z\}\textasciicircum{}2 \textbackslash{} \#1 \$ \textasciitilde{} \textless{}b\textgreater{}" in (
        text.to_latex(table)
    )
    assert r"50 \% \& more" in text.to_latex(table)
    assert r"x\|y\_{z}^2 \\ #1 $ ~ &lt;b>" in text.to_markdown(table)


def test_every_row_of_a_markdown_table_has_the_same_number_of_columns(three: Results) -> None:
    lines = [line for line in text.to_markdown(text.results_table(three)).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_numbers_are_written_with_ten_digits_and_absent_ones_are_empty() -> None:
    written = rows.to_csv([{"a": 0.1 + 0.2, "b": None, "c": True, "d": 3}, {"e": 1e-7}])
    assert written == "a,b,c,d,e\n0.3,,true,3,\n,,,,1e-07\n"


def test_a_folder_without_a_plan_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"plan\.json"):
        report.build(tmp_path)


def test_an_experiment_where_everything_failed_still_has_its_tables(tmp_path: Path) -> None:
    cells = made.three_arms()
    written = report.build(made.write(tmp_path, cells, map(made.failed, cells)), formats=("png",))
    assert {path.name for path in written} >= {"results.csv", "summary.md", "results.tex"}
    assert "RuntimeError: boom" in (tmp_path / "summary.md").read_text()


def test_identical_samples_along_an_axis_are_pointed_out(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.1, 1.2)]
    records = [made.record(cell, pixels="same") for cell in cells]
    report.build(made.write(tmp_path, cells, records), formats=())
    assert "drew identical samples" in (tmp_path / "summary.md").read_text()


def test_what_is_shown_already_is_not_made_again_and_what_is_gone_or_changed_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [made.cell("cfg", s) for s in (1.1, 1.2)]
    made.write(tmp_path, cells, map(made.record, cells))
    monkeypatch.setattr(report, "build", partial(report.build, formats=()))

    def rebuilt() -> bool:
        (tmp_path / "summary.md").write_text("old")
        report.refresh(tmp_path)
        return (tmp_path / "summary.md").read_text() != "old"

    assert rebuilt() and not rebuilt()
    (tmp_path / "results.csv").unlink()
    assert rebuilt() and (tmp_path / "results.csv").exists() and not rebuilt()
    made.write(tmp_path, cells, [made.record(cells[0]), made.failed(cells[1])])
    assert rebuilt() and not rebuilt()
    (tmp_path / report.STATE).write_text("[]")
    assert rebuilt() and not rebuilt()


def _corrected(record: CellRecord, count: int) -> float:
    rung = record.scores[0].nested[count]
    return 20 * rung.value - 19 * float(np.mean(rung.replicates))


def _bare(record: CellRecord) -> CellRecord:
    scores = tuple(score.model_copy(update={"replicates": (), "nested": {}}) for score in record.scores)
    return record.model_copy(update={"scores": scores})
