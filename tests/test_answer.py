"""The three lines: best scale and its tied set, what it gains, what it costs."""

from pathlib import Path

import pytest

from cfgbench.cell import Cell, Guidance
from cfgbench.entries import Method, Parameter
from cfgbench.reading import report
from cfgbench.reading.answer import answer_lines
from cfgbench.reading.tables.results import load
from cfgbench.registry import METHODS
from tests import synthetic as made


def answered(folder: Path, cells: list[Cell], timed: bool = False) -> tuple[str, str, str]:
    speeds = {cell.cost_class: made.speed(cell) for cell in cells} if timed else {}
    return answer_lines(load(made.write(folder, cells, map(made.record, cells), speeds.values())))


def test_the_first_line_names_the_best_scale_of_every_score_with_its_tied_set(tmp_path: Path) -> None:
    best, _, _ = answer_lines(load(made.folder(tmp_path)))
    assert best.startswith("CFG: FID is lowest at s = 1.1 (1.55 ± 0.16 at N = 2000; no other tied)")
    assert "IS is highest at s = 4 (tied: 4, 8)" in best


def test_the_second_line_gives_paired_gains_over_unguided(tmp_path: Path) -> None:
    _, gain, _ = answer_lines(load(made.folder(tmp_path)))
    assert gain.startswith("Against unguided, at s = 1.1: FID -0.344 ± 0.094")
    assert "recall -0.0421" in gain


def test_the_third_line_gives_passes_seconds_and_networks_of_every_method(tmp_path: Path) -> None:
    _, _, cost = answer_lines(load(made.folder(tmp_path)))
    assert "CFG: 2x network passes, 1.94x seconds per image at batch 100, no other network" in cost
    assert "25 classifier gradients per image" in cost
    assert "one more network (classifier, 0.32 MB)" in cost


def test_a_method_on_another_model_is_priced_against_its_own_unguided_cell(tmp_path: Path) -> None:
    _, _, cost = answer_lines(load(made.two_models(tmp_path)))
    assert cost.count(": 1x network passes, 25 classifier gradients") == 2


def test_curves_of_one_method_are_one_entry_with_the_range_of_their_cost(tmp_path: Path) -> None:
    cells = [made.cell("cfg", 1.5), made.cell("unguided")]
    cells += [made.cell("classifier", 0.5, model={"training_seed": seed}) for seed in (0, 1)]
    records = [made.record(cell) for cell in cells]
    records[-1] = made.record(cells[-1], classifier_passes=20.0)
    cost = answer_lines(load(made.write(tmp_path, cells, records)))[2]
    assert cost.count("classifier guidance") == 1
    assert "1x network passes, 20 to 25 classifier gradients per image" in cost


def test_methods_that_cost_the_same_share_an_entry(tmp_path: Path) -> None:
    *_, cost = answered(tmp_path, made.three_arms())
    shared = "classifier guidance, conditional model / classifier guidance, unconditional branch: 1x network passes"
    assert shared in cost


def test_what_networks_of_its_own_cost_a_plug_in_is_not_called_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Method("mine:guide", "own_scale", {"own_scale": Parameter("float")}, {}, 1, label="mine")
    monkeypatch.setitem(METHODS, "mine:guide", entry)
    guidance = Guidance(method="mine:guide", parameters={"own_scale": 2.0}, digest="e" * 16)
    own = made.cell("unguided").model_copy(update={"guidance": guidance})
    *_, cost = answered(tmp_path, [made.cell("cfg", 1.5), made.cell("unguided"), own])
    assert "mine: 1x network passes, seconds not measured, a plug-in, whose own networks are not counted" in cost


def test_an_optimum_at_the_edge_of_the_grid_is_called_unresolved(tmp_path: Path) -> None:
    best, _, _ = answered(tmp_path, [made.cell("cfg", s) for s in (1.0, 1.5, 2.0)])
    assert "FID is lowest at s = 1 " in best
    assert "unresolved: the edge of the grid" in best


def test_when_off_is_best_the_answer_says_that_guidance_gains_nothing(tmp_path: Path) -> None:
    _, gain, _ = answered(tmp_path, [made.cell("cfg", s) for s in (0.0, 1.0, 2.0)])
    assert gain == "Against unguided: no gain in FID; the best scale is off"


def test_without_an_unguided_cell_the_gain_is_not_measured(tmp_path: Path) -> None:
    _, gain, _ = answered(tmp_path, [made.cell("cfg", s) for s in (1.1, 1.5)])
    assert gain.startswith("Against unguided: not measured")


def test_without_speed_records_the_seconds_are_not_measured(tmp_path: Path) -> None:
    _, _, cost = answered(tmp_path, [made.cell("cfg", s) for s in (1.0, 1.1)])
    assert cost == "Cost: CFG: 2x network passes, seconds not measured, no other network"


def test_an_experiment_without_cfg_is_answered_for_what_it_has(tmp_path: Path) -> None:
    best, gain, _ = answered(tmp_path, [made.cell("classifier", s) for s in made.CLASSIFIER_SCALES])
    assert "FID is lowest at classifier scale = 0.25" in best
    assert gain.startswith("Against unguided, at classifier scale = 0.25: FID -")


def test_of_many_curves_the_best_is_named_with_its_sampler_and_steps(tmp_path: Path) -> None:
    folder = made.sampler_grid(tmp_path, ("ddim", "heun"), (5, 25), (1.0, 1.1, 2.0))
    best, _, _ = answer_lines(load(folder))
    assert "25 steps (best of 4 curves by FID on the samples that score it; " in best
    assert " tied)" in best


def test_another_network_or_dtype_with_a_better_score_is_not_the_answer(tmp_path: Path) -> None:
    emulated = [made.cell("cfg", s, dtype="bf16_emulated") for s in (1.0, 1.1, 2.0)]
    other = [made.cell("cfg", s, model={"attention": True}) for s in (1.0, 1.1, 2.0)]
    cells = [made.cell("cfg", s, steps=5) for s in (1.0, 1.1, 2.0)] + emulated + other
    best, _, _ = answered(tmp_path, cells)
    assert best.startswith("CFG, digits, 5 steps, fp32: FID is lowest")


def test_one_scale_is_neither_lowest_nor_highest(tmp_path: Path) -> None:
    cells = [made.cell("cfg", 2.0, interval=(low, None)) for low in (0.2, 0.5)]
    best, _, _ = answered(tmp_path, cells)
    assert ", tried at s = 2 alone: FID is " in best
    assert "lowest" not in best and "highest" not in best and "edge" not in best


@pytest.mark.parametrize("records", ["failed", "missing"])
def test_without_any_finished_cell_there_are_still_three_lines(tmp_path: Path, records: str) -> None:
    cells = made.three_arms()
    folder = made.write(tmp_path, cells, map(made.failed, cells) if records == "failed" else [])
    lines = report.answer(folder).splitlines()
    assert len(lines) == 3
    assert "0 of 22 cells finished" in lines[0]
