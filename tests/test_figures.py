"""Figures: they apply to any experiment, hide nothing, and are the same bytes twice."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cfgbench.reading import figures, report
from cfgbench.reading.figures import grid, style
from cfgbench.reading.figures.labels import Label, place_labels
from cfgbench.reading.tables.methods import compare_methods, methods_table
from cfgbench.reading.tables.results import load
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


def test_a_figure_that_is_no_longer_made_goes_and_other_files_stay(built: Path) -> None:
    kept, stale = built / "figures" / "mine.png", built / "figures" / "interval_heatmap.pdf"
    for path in (kept, stale):
        path.write_bytes(b"")
    report.build(built)
    assert kept.exists() and (built / "figures" / "quality_vs_scale.pdf").exists()
    assert not stale.exists()


def test_the_summary_says_of_every_figure_what_it_shows(built: Path) -> None:
    _, _, shown = (built / "summary.md").read_text().partition("## Figures")
    pictures = [line for line in shown.splitlines() if line.startswith("![")]
    captions = [figures.caption(draw) for name, draw in figures.FIGURES.items() if f"/{name}.png)" in shown]
    assert len(pictures) == len(captions) > 4
    assert all(f"{caption} ([pdf]" in shown.replace("&lt;", "<") for caption in captions)


def test_methods_with_classifier_guidance_get_every_figure_that_needs_no_other_axis(built: Path) -> None:
    assert drawn(built) == set(figures.FIGURES) - {
        "quality_vs_nfe",
        "density_grid",
        "dtype_effect",
        "interval_heatmap",
        "published_gains",
        "scale_heatmap",
    }


def test_several_step_counts_get_a_figure_over_network_evaluations(tmp_path: Path) -> None:
    assert "quality_vs_nfe" in drawn(made.sampler_grid(tmp_path, ("ddim", "heun"), (5, 10), (1.0, 1.2, 2.0)))


def test_one_scale_for_all_is_of_one_axis_and_guides(tmp_path: Path) -> None:
    scales = [("cfg", 1.2), ("classifier", 0.5), ("classifier", 1.0)]
    cells = [made.cell(method, s, steps=steps) for method, s in scales for steps in (5, 25)]
    cells += [made.cell("cfg", 1.0, steps=steps) for steps in (5, 25)]
    with style.applied():
        figure = figures.FIGURES["quality_vs_nfe"](load(made.write(tmp_path, cells, map(made.record, cells))))
    assert figure is not None
    best, same = figure.axes
    assert same.get_title() == "s = 1.2 everywhere"
    lengths = [[len(line.lines[0].get_xdata()) for line in ax.containers] for ax in (best, same)]
    assert lengths == [[2, 2], [2, 0]]


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


def test_a_needed_label_without_room_beside_its_point_stands_apart_with_a_line_to_it() -> None:
    with style.applied():
        ax = Figure(figsize=(3, 3)).subplots()
        around = np.stack([np.cos(angles := np.linspace(0, 6.3, 200)), np.sin(angles)], 1) * 0.02
        ax.set(xlim=(-1, 1), ylim=(-1, 1))
        labels = [Label(0, 0, "1.2", "black", needed) for needed in (False, True)]
        for label, texts in zip(labels, (0, 1), strict=True):
            place_labels(ax, [label], [np.zeros((1, 2)), *(around * size for size in (2, 4, 6, 8))])
            assert len(ax.texts) == len(ax.lines) == texts
    assert np.allclose(ax.lines[0].get_xydata()[0], 0)


def test_a_page_shows_every_method_and_its_legend_no_more(tmp_path: Path) -> None:
    networks = [{"training_seed": k} for k in range(20)]
    cells = [made.cell("cfg", s, model=one) for s in (1.1, 1.2) for one in networks]
    cells += [made.cell("cfg", s, model=networks[0], rescale=r / 10) for s in (1.1, 1.2) for r in range(1, 9)]
    cells += [made.cell("classifier_uncond", s, model=one) for s in (0.5, 4.0) for one in networks]
    results = load(made.write(tmp_path, cells, map(made.record, cells)))
    planned = style.facets(results.arms, by_axis=True)
    shown = grid.on_a_page(planned, 2, results.columns[0])
    assert len(shown) < len(planned)
    assert {arm.method for panel in shown for arm in panel.lines.values()} == {"cfg", "classifier_uncond"}
    assert set(style.looks_in(style.looks(planned), shown)) == {label for panel in shown for label in panel.lines}


def test_curves_without_an_unguided_cell_have_no_panel_of_gains(tmp_path: Path) -> None:
    cells = [*(made.cell("cfg", s) for s in (1.0, 1.2, 2.0)), *(made.cell("classifier", s) for s in (0.5, 1.0))]
    cells += [made.cell("classifier", s, model={"p_uncond": 0.5}) for s in (0.5, 1.0, 2.0)]
    with style.applied():
        figure = figures.FIGURES["gain_vs_scale"](load(made.write(tmp_path, cells, map(made.record, cells))))
    assert figure is not None
    assert all(ax.lines for ax in figure.axes)
    assert not any("p_uncond" in text.get_text() for text in figure.legends[0].texts)


def test_panels_with_other_ticks_than_those_below_keep_their_labels() -> None:
    with style.applied():
        made_grid = grid.small_multiples(6, 1, 1.0)
        for i, ax in enumerate(made_grid.axes[0]):
            ax.set(xlim=(0, 3), xticks=[0, 1, 3] if i == 1 else [0, 2, 3], xlabel="a" if i < 3 else "b")
        grid.share_labels(made_grid)
        made_grid.figure.draw_without_rendering()
    labels = [[tick.get_text() for tick in ax.get_xticklabels() if tick.get_visible()] for ax in made_grid.axes[0]]
    assert labels[1] == ["0", "1", "3"]
    assert all(labels)
    assert [ax.get_xlabel() for ax in made_grid.axes[0]] == ["a"] * 3 + ["b"] * 3


def test_a_band_below_zero_ends_at_the_floor_of_a_logarithmic_axis(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.1, 1.2, 8.0)]
    records = [made.record(one) for one in cells]
    wide = records[1].scores[0].model_copy(update={"replicates": (0.2, 2.0) * 10, "value": 1.1, "nested": {}})
    records[1] = records[1].model_copy(update={"scores": (wide,)})
    with style.applied():
        figure = figures.FIGURES["quality_vs_scale"](load(made.write(tmp_path, cells, records)))
    assert figure is not None
    ax = figure.axes[0]
    lowest = min(float(path.vertices[:, 1].min()) for band in ax.collections for path in band.get_paths())
    assert ax.get_yscale() == "log"
    assert lowest >= ax.get_ylim()[0] > 0


def test_sample_grids_show_methods_on_the_network_that_most_were_tried_on(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s, model={"training_seed": k}) for k in (2, 0) for s in (1.1, 2.0)]
    cells += [made.cell("classifier", s) for s in (0.5, 1.0)]
    cells += [made.cell("cfg", s) for s in (3.0, 4.0)]
    with style.applied():
        figure = figures.FIGURES["sample_grid"](load(made.write(tmp_path, cells, map(made.record, cells))))
    assert figure is not None
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == 2
    assert not any("seed" in title for title in titles)


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


@pytest.mark.parametrize(
    ("prompts", "columns", "expected"),
    [
        ("p" * 16, ("fid", "clip_score"), [("CLIP score", "FID")]),
        ("p" * 16, (*made.METRICS, "clip_score"), [("CLIP score", "FID"), ("FID", "IS"), ("recall", "precision")]),
        (None, (*made.METRICS, "clip_score"), [("FID", "IS"), ("recall", "precision")]),
        (None, ("fid", "clip_score"), [("CLIP score", "FID")]),
    ],
)
def test_fid_is_drawn_against_clip_score_first_where_there_are_prompts(
    prompts: str | None, columns: tuple[str, ...], expected: list[tuple[str, str]], tmp_path: Path
) -> None:
    cells = [made.cell("cfg", scale, prompts=prompts) for scale in made.SCALES]
    results = load(made.write(tmp_path, cells, [made.record(one, columns=columns) for one in cells]))
    with style.applied():
        figure = figures.FIGURES["quality_tradeoff"](results)
    assert figure is not None
    assert [(ax.get_xlabel()[:-2], ax.get_ylabel()[:-2]) for ax in figure.axes] == expected


@pytest.mark.parametrize(
    ("ways", "baseline", "labels"),
    [
        ([{}, {"execution": "channels_last"}, {"execution": "compile"}], "eager", {"channels_last", "compile"}),
        (
            [{}, {"execution": "compile"}, {"dtype": "bf16", "execution": "compile"}],
            "fp32",
            {"fp32 compile", "bf16 compile"},
        ),
        ([{"dtype": "bf16"}, {}], "fp32", {"bf16"}),
    ],
)
def test_ways_to_compute_are_drawn_as_differences_to_the_most_precise_as_it_is(
    ways: list[dict[str, str]], baseline: str, labels: set[str], tmp_path: Path
) -> None:
    cells = [made.cell("cfg", scale, **way) for way in ways for scale in (1, 1.2, 2)]
    results = load(made.write(tmp_path, cells, map(made.record, cells)))
    with style.applied():
        figure = figures.FIGURES["dtype_effect"](results)
    assert figure is not None
    assert figure.axes[0].get_ylabel().startswith(f"FID \N{MINUS SIGN} {baseline} \N{DOWNWARDS ARROW}")
    entries = {text.get_text() for text in figure.legends[0].get_texts()}
    assert entries - labels == {"filled: the interval excludes zero"} and labels <= entries


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


@pytest.mark.parametrize("scales", [(2.0,), (1.0, 1.2), (1.2, 1.5, 2.0)])
def test_nothing_is_drawn_against_cfg_that_was_not_tuned(scales: tuple[float, ...], tmp_path: Path) -> None:
    cells = [made.cell("cfg", scale) for scale in scales]
    cells += [made.cell("cfg", 2.0, interval=[0.4, high]) for high in (1.0, 2.5)]
    results = load(made.write(tmp_path, cells, [made.record(one) for one in cells]))
    assert figures.FIGURES["published_gains"](results) is None
    compared = compare_methods(results)
    assert len(compared) == 2
    assert "to CFG, which is not tuned (fewer than three scales" in methods_table(results, compared).caption


def test_steps_ascend_in_figures_and_tables_whatever_the_order_of_sweeps(tmp_path: Path) -> None:
    models, scales = ({}, {"p_uncond": 0.5}), (1.2, 2.0)
    cells = [made.cell("cfg", s, steps=n, model=one) for one in models for n in (10, 50, 5) for s in scales]
    timed = [made.speed(one) for one in cells[::2]]
    results = load(made.write(tmp_path, cells, map(made.record, cells), timed))
    assert [arm.fields["steps"] for arm in results.arms] == ["5", "10", "50"] * 2
    assert [speed.cell.sampler.steps for speed in results.speeds] == [5, 10, 50] * 2


def test_a_long_name_beside_a_bar_is_broken_at_spaces_only(tmp_path: Path) -> None:
    model = {"checkpoint": "random:sd15-shallow-with-a-very-long-name-that-fills-a-line"}
    cells = [made.cell("cfg", 1.2, model=one) for one in ({}, model)]
    folder = made.write(tmp_path, cells, map(made.record, cells), map(made.speed, cells))
    with style.applied():
        figure = figures.FIGURES["latency_and_memory"](load(folder))
    assert figure is not None
    assert any(model["checkpoint"] in label.get_text() for label in figure.axes[0].get_yticklabels())
