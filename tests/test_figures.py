"""Figures: they apply to any experiment, hide nothing, and are the same bytes twice."""

from itertools import pairwise
from pathlib import Path

import pytest

from cfgbench import figures, report
from cfgbench.figures import style
from cfgbench.tables.results import load
from tests import synthetic as made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made.folder(tmp_path_factory.mktemp("built"))
    report.build(folder)
    return folder


def drawn(folder: Path) -> set[str]:
    results = load(folder)
    with style.applied():
        return {name for name, draw in figures.FIGURES.items() if draw(results) is not None}


def test_a_second_build_writes_the_same_bytes(built: Path) -> None:
    files = [path for path in built.rglob("*") if path.is_file() and "records" not in path.parts]
    before = {path: path.read_bytes() for path in files}
    report.build(built)
    assert {path: path.read_bytes() for path in files} == before
    assert {path.suffix for path in files} >= {".csv", ".md", ".tex", ".pdf", ".png"}


def test_a_pdf_embeds_its_fonts_as_outlines_that_can_be_edited_and_carries_no_date(built: Path) -> None:
    content = (built / "figures" / "quality_vs_scale.pdf").read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert b"CreationDate" not in content


def test_methods_with_classifier_guidance_get_every_figure_that_needs_no_other_axis(built: Path) -> None:
    assert drawn(built) == set(figures.FIGURES) - {
        "quality_vs_nfe",
        "density_grid",
        "dtype_effect",
        "interval_heatmap",
        "published_gains",
    }


def test_several_step_counts_get_a_figure_over_network_evaluations(tmp_path: Path) -> None:
    assert "quality_vs_nfe" in drawn(made.sampler_grid(tmp_path, ("ddim", "heun"), (5, 10), (1.0, 1.2, 2.0)))


def test_nothing_is_drawn_of_an_experiment_without_scores(tmp_path: Path) -> None:
    cells = made.three_arms()
    assert drawn(made.write(tmp_path, cells, map(made.failed, cells))) == set()


def test_samples_that_are_not_images_have_no_grid(tmp_path: Path) -> None:
    cells = made.three_arms()
    folder = made.write(tmp_path, cells, map(made.record, cells))
    for strip in (folder / "records").glob("*.png"):
        strip.unlink()
    assert "sample_grid" not in drawn(folder)


def test_more_arms_than_a_panel_can_show_are_split_over_panels_and_none_is_lost(tmp_path: Path) -> None:
    folder = made.sampler_grid(tmp_path, ("ddim", "euler", "heun", "unipc", "deis"), (5, 10, 25), (1.0, 1.5, 2.0))
    arms = load(folder).arms
    panels = style.facets(arms, by_axis=True)
    assert [panel.title for panel in panels] == ["ddim", "euler", "heun", "unipc", "deis"]
    assert sum(len(panel.lines) for panel in panels) == len(arms) == 15


def test_a_method_looks_the_same_in_every_figure_and_no_two_lines_look_alike(built: Path) -> None:
    results = load(built)
    by_axis, together = (style.looks(style.facets(results.arms, by_axis=flag)) for flag in (True, False))
    assert by_axis == together
    assert len({style.numbered_look(i) for i in range(32)}) == 32


def test_scale_labels_do_not_overlap_and_the_optimum_is_always_labelled(tmp_path: Path) -> None:
    scales = (0.0, 1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 8.0)
    cells = [made.cell("cfg", s) for s in scales]
    results = load(made.write(tmp_path, cells, map(made.record, cells)))
    with style.applied():
        figure = figures.FIGURES["quality_vs_scale"](results)
        assert figure is not None
        figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    assert "1.1\n0.1" in {label.get_text() for label in labels}


def test_labels_on_a_parametric_plot_overlap_neither_each_other_nor_the_axes_edge(built: Path) -> None:
    with style.applied():
        figure = figures.FIGURES["quality_tradeoff"](load(built))
        assert figure is not None
        figure.draw_without_rendering()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) > 8
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        frame = ax.get_window_extent()
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)


def test_figures_fit_the_columns_of_a_paper(built: Path) -> None:
    results = load(built)
    with style.applied():
        widths = [figure.get_figwidth() for draw in figures.FIGURES.values() if (figure := draw(results)) is not None]
    assert max(widths) <= style.DOUBLE + 1e-9


def test_arms_on_two_models_share_the_plots_and_the_grid(tmp_path: Path) -> None:
    results = load(made.two_models(tmp_path))
    with style.applied():
        tradeoff, grid = (figures.FIGURES[name](results) for name in ("quality_tradeoff", "sample_grid"))
    assert tradeoff is not None
    assert grid is not None
    assert len(grid.axes) == 3
    assert len(tradeoff.axes) == 2


def test_the_interval_map_frames_the_best_and_needs_a_plane_of_intervals(tmp_path: Path) -> None:
    ends = [[0.2, 1.0], [0.2, 5.0], [0.2, None], [0.4, 1.0], [0.4, 5.0], [0.4, None], [0, 1.0], [0, 5.0]]
    cells = [made.cell("cfg", 2.0), *(made.cell("cfg", 2.0, interval=pair) for pair in ends)]
    folder = made.write(tmp_path / "plane", cells, [made.record(one) for one in cells])
    with style.applied():
        figure = figures.FIGURES["interval_heatmap"](load(folder))
    assert figure is not None
    (panel,) = figure.axes
    assert len(panel.texts) == len(cells)
    assert [text.get_fontweight() for text in panel.texts].count("bold") == 1
    assert [text.get_text() for text in panel.get_xticklabels()] == ["1", "5", "\N{INFINITY}"]
    line = made.write(tmp_path / "line", cells[:4], [made.record(one) for one in cells[:4]])
    assert figures.FIGURES["interval_heatmap"](load(line)) is None


def test_published_gains_stand_beside_ours_and_say_whether_cfg_was_tuned(tmp_path: Path) -> None:
    cells = [made.cell("cfg", scale) for scale in (1.0, 1.2, 1.5)]
    cells += [made.cell("cfg", scale, interval=[0.4, 2.5]) for scale in (1.2, 1.5)]
    folder = made.write(tmp_path / "gains", cells, [made.record(one) for one in cells])
    with style.applied():
        figure = figures.FIGURES["published_gains"](load(folder))
    assert figure is not None
    drawn = [round(float(line.get_xdata()[0]), 4) for line in figure.axes[0].get_lines() if line.get_marker() == "D"]
    assert drawn == [round(1.68 / 2.23, 4), round(1.40 / 1.81, 4), round(2.40 / 3.04, 4)]
