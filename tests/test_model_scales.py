"""A scale of the model's own, such as FLUX's embedded guidance, is an axis: curves, tables and answers run over it."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from cfgbench.cell import Cell, ModelRef
from cfgbench.console import title
from cfgbench.reading import figures
from cfgbench.reading.answer import answer_lines
from cfgbench.reading.figures import style
from cfgbench.reading.tables import rows
from cfgbench.reading.tables.results import Results, load
from tests import synthetic as made

FLUX = ModelRef(name="flux", digest="d" * 16, scales={"embedded_guidance": 3.5})
KANDINSKY = ModelRef(name="kandinsky22", digest="d" * 16, scales={"prior_scale": 4.0})


def embedded(scales: Iterable[float], at: float = 1) -> list[Cell]:
    """Cells of FLUX at these values of its own scale."""
    method, scale = ("unguided", None) if at == 1 else ("cfg", at)
    return [made.cell(method, scale, of=FLUX.at(embedded_guidance=value)) for value in scales]


def grid() -> list[Cell]:
    """Both scales of Kandinsky."""
    models = [KANDINSKY.at(prior_scale=value) for value in (1, 2, 4)]
    return [made.cell("cfg", s, of=model) for model in models for s in (1, 1.1, 2)]


def results_of(cells: list[Cell], folder: Path) -> Results:
    timed = {cell.cost_class: made.speed(cell) for cell in cells}
    return load(made.write(folder, cells, map(made.record, cells), timed.values()))


def test_an_id_is_what_it_was_and_a_cost_class_holds_all_values() -> None:
    plain = made.cell("cfg", 2, of=ModelRef(name="flux", digest="d" * 16, parameters={"embedded_guidance": 2.0}))
    cells = [made.cell("cfg", 2, of=FLUX.at(embedded_guidance=value)) for value in (2.0, 3.5, 5.0)]
    assert cells[0].id == plain.id
    assert "embedded_guidance" not in cells[1].model.parameters
    assert len({cell.id for cell in cells}) == 3 and len({cell.cost_class for cell in cells}) == 1
    assert title(cells[1]).startswith("flux cfg 2 embedded_guidance=3.5")


def test_where_it_alone_varies_the_curve_and_the_answer_are_over_it(tmp_path: Path) -> None:
    results = results_of(embedded((1, 1.5, 2, 3.5)), tmp_path)
    (arm,) = results.arms
    assert (arm.axis, [point.scale for point in arm.points]) == ("embedded_guidance", [1, 1.5, 2, 3.5])
    best, gain, cost = answer_lines(results)
    assert best.startswith("embedded guidance: FID is lowest at embedded guidance = 1.5")
    assert gain.startswith("Against embedded guidance = 1, at embedded guidance = 1.5: FID -")
    assert cost.startswith("Cost: embedded guidance: 1x network passes")
    with style.applied():
        drawn = {name for name, draw in figures.FIGURES.items() if draw(results) is not None}
    assert {"quality_vs_scale", "gain_vs_scale", "quality_tradeoff"} <= drawn
    assert [row["embedded_guidance"] for row in rows.result_rows(results)] == ["1", "1.5", "2", "3.5"]
    assert {(row["method"], row["best_scale"]) for row in rows.best_rows(results) if row["column"] == "fid"} == {
        ("embedded_guidance", 1.5)
    }


def test_at_a_fixed_scale_of_the_method_the_curve_is_over_that_of_the_model(tmp_path: Path) -> None:
    (arm,) = results_of(embedded((1, 2, 3.5), at=1.1), tmp_path).arms
    assert (arm.axis, arm.fields["method"], arm.fields["guidance_scale"]) == ("embedded_guidance", "cfg", "1.1")


def test_where_both_vary_there_is_a_curve_per_value_and_a_map_of_both(tmp_path: Path) -> None:
    results = results_of(grid(), tmp_path)
    assert [(arm.axis, arm.fields["prior_scale"]) for arm in results.arms] == [
        ("guidance_scale", value) for value in ("1", "2", "4")
    ]
    with style.applied():
        figure = figures.FIGURES["scale_heatmap"](results)
    assert figure is not None
    (panel,) = figure.axes
    assert len(panel.texts) == 9
    assert len(results.speeds) == 2 and not any("prior_scale" in row for row in rows.speed_rows(results))
    ratios = {row["method"]: row["ratio_to_unguided"] for row in rows.speed_rows(results) if row["batch_size"] == 100}
    assert ratios["unguided"] == pytest.approx(1) and isinstance(ratios["cfg"], float)


def test_a_sweep_of_it_without_cfg_and_two_with_it_are_three_curves(tmp_path: Path) -> None:
    cells = [*embedded((1, 2, 3.5, 5)), *embedded((1, 3.5), at=1.5), *embedded((1, 3.5), at=3)]
    found = [(arm.axis, len(arm.points)) for arm in results_of(cells, tmp_path).arms]
    assert found == [("guidance_scale", 3), ("guidance_scale", 3), ("embedded_guidance", 4)]
