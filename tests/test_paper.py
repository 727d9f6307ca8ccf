"""`cfgbench figures`: chosen figures at a column's width, tables, published curves, the same bytes twice."""

import re
from pathlib import Path

import pytest

from cfgbench import cli, published
from cfgbench.errors import InputError
from cfgbench.reading import paper
from cfgbench.reading.figures import FIGURES, style
from cfgbench.reading.figures.published import published_curves
from cfgbench.reading.tables.results import load
from tests import synthetic as made

NAMES = ("quality_vs_scale", "sample_grid", "published_curves")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.folder(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def rendered(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("rendered")
    paper.render(folder, output, NAMES, width="single")
    return output


def test_two_renderings_have_the_same_bytes(folder: Path, rendered: Path, tmp_path: Path) -> None:
    paper.render(folder, tmp_path, NAMES, width="single")
    first, second = ({path.name: path.read_bytes() for path in place.iterdir()} for place in (rendered, tmp_path))
    assert first == second
    assert set(first) == {f"{name}.pdf" for name in NAMES} | {
        *("best.tex", "results.tex", "speed.tex", "methods.tex", "figures.tex")
    }


def test_every_figure_keeps_to_a_single_column_and_its_labels_lie_inside(folder: Path) -> None:
    results, inches = load(folder), style.SINGLE
    with style.applied(inches):
        for name, draw in paper.NAMED.items():
            figure = draw(results)
            if figure is None:
                continue
            assert figure.get_figwidth() <= inches + 1e-9, name
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
            assert box.x0 > -0.05 and box.x1 < figure.get_figwidth() + 0.05, name


def test_a_single_column_stacks_what_two_columns_set_side_by_side(folder: Path) -> None:
    results, shapes = load(folder), {}
    for width, inches in style.WIDTHS.items():
        with style.applied(inches):
            figure = FIGURES["quality_tradeoff"](results)
            assert figure is not None
            shapes[width] = [
                (ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in figure.axes
            ]
    assert shapes == {"single": [(0, 0), (1, 0)], "double": [(0, 0), (0, 1)]}


def test_only_what_is_named_is_drawn_and_what_does_not_apply_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--only", "quality_vs_scale", "quality_vs_nfe", "--output", str(tmp_path / "out")]
    assert cli.main(["figures", str(folder), *wanted]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.pdf")} == {"quality_vs_scale.pdf"}
    assert capsys.readouterr().err == "quality_vs_nfe does not apply to this experiment\n"


def test_an_unknown_figure_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean 'quality_vs_scale'"):
        paper.chosen(["quality_vs_scales"], published=False)


def test_without_a_folder_every_figure_is_listed_with_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["figures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*paper.NAMED]
    assert all(len(line.split()) > 4 for line in lines)


def test_latex_includes_every_pdf_once_with_a_caption_and_balanced_braces(rendered: Path) -> None:
    for file in rendered.glob("*.tex"):
        plain = file.read_text().replace(r"\{", "").replace(r"\}", "")
        assert plain.count("{") == plain.count("}"), file
    text = (rendered / "figures.tex").read_text()
    included = re.findall(r"\\includegraphics\{(.*?)\}", text)
    assert sorted(included) == sorted(path.name for path in rendered.glob("*.pdf"))
    assert text.count(r"\caption{") == len(included) and r"\begin{figure}" in text


def test_the_best_of_a_table_is_bold_and_its_ties_are_underlined(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.1, 1.12, 1.14, 2.0)]
    made.write(tmp_path, cells, map(made.record, cells))
    text = paper.tables(load(tmp_path))["results.tex"]
    fid = [re.split(" & ", row)[3] for row in text.splitlines() if row.startswith("CFG")]
    assert [r"\textbf" in one for one in fid].count(True) == 1
    assert any(r"\underline" in one for one in fid) and r"\underline" not in fid[-1]


@pytest.mark.parametrize(("axis", "metric", "count"), [("guidance_scale", "fid", 6), ("classifier_scale", "fid", 2)])
def test_published_curves_start_at_off_and_every_row_has_its_provenance(axis: str, metric: str, count: int) -> None:
    curves = published.curves(axis, metric)
    assert len(curves) == count
    for curve in curves:
        scales = [scale for scale, _ in curve.points]
        assert scales == sorted(set(scales)) and scales[0] == published.OFF[axis]
        assert published.relative(curve.points, axis)[0] == (scales[0], 1.0)
    for file in published.FOLDER.glob("*.csv"):
        assert all(row["provenance"] and row["source"] for row in published._read(file.name))


def test_published_values_are_those_of_the_papers() -> None:
    ho = {curve.label: dict(curve.points) for curve in published.curves("guidance_scale", "fid")}
    assert ho["ImageNet 64, label dropout 0.1"][1.1] == 1.55
    assert ho["ImageNet 128, T = 256"][1.3] == 2.43
    inception = {curve.label: dict(curve.points) for curve in published.curves("guidance_scale", "inception_score")}
    assert inception["ImageNet 64, label dropout 0.1"][5.0] == 260.2
    adm = {curve.label: dict(curve.points) for curve in published.curves("classifier_scale", "fid")}
    assert adm["ImageNet 256, conditional ADM"] == {0.0: 10.94, 1.0: 4.59, 10.0: 9.11}


def test_our_curves_are_drawn_relative_to_guidance_off_with_a_warning_that_only_shapes_compare(folder: Path) -> None:
    results = load(folder)
    with style.applied():
        figure = published_curves(results)
    assert figure is not None
    assert all(1.0 in line.get_ydata() for ax in figure.axes for line in ax.get_lines())
    shown = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "Only shapes can be compared" in shown and "no common unit" in shown and "Ho & Salimans 2022" in shown


def test_an_experiment_without_an_unguided_cell_has_no_published_comparison(tmp_path: Path) -> None:
    cells = [made.cell("cfg", s) for s in (1.1, 1.2)]
    with style.applied():
        assert published_curves(load(made.write(tmp_path, cells, map(made.record, cells)))) is None
