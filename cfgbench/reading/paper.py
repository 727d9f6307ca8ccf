"""`cfgbench figures`: chosen figures and LaTeX tables of a results folder, at the width of a paper's column."""

from collections.abc import Sequence
from pathlib import Path

from cfgbench.errors import unknown
from cfgbench.reading.figures import FIGURES, ON_REQUEST, Draw, caption, draw_all, style
from cfgbench.reading.report import comparisons, own_tables
from cfgbench.reading.tables import text
from cfgbench.reading.tables.results import Results, load

NAMED: dict[str, Draw] = {**FIGURES, **ON_REQUEST}


def listing() -> str:
    """Every figure with what it shows."""
    return "\n".join(f"{name:<20} {caption(draw)}" for name, draw in NAMED.items())


def chosen(only: Sequence[str] | None, published: bool) -> tuple[str, ...]:
    """The names asked for, or all that an experiment can have; InputError for one that no figure has."""
    for name in only or ():
        if name not in NAMED:
            raise unknown("figure", name, "--only", NAMED)
    return tuple(dict.fromkeys([*(only or FIGURES), *(ON_REQUEST if published else ())]))


def render(
    folder: Path, output: Path, names: Sequence[str], width: str = "double", formats: Sequence[str] = ("pdf",)
) -> list[Path]:
    """Write the named figures that apply, the tables, and `figures.tex` that includes them; the same bytes twice."""
    results = load(folder)
    drawn = {name: NAMED[name] for name in names}
    figures = draw_all(results, output, formats, drawn, style.WIDTHS[width])
    files = tables(results) | {"figures.tex": include(figures, width)}
    for name, content in files.items():
        (output / name).write_text(content, encoding="utf-8", newline="\n")
    return [*figures, *(output / name for name in files)]


def tables(results: Results) -> dict[str, str]:
    """The LaTeX tables, best in bold and ties underlined."""
    made = own_tables(results) | {name: table for name, (table, _) in comparisons(results).items()}
    return {f"{name}.tex": text.to_latex(table) for name, table in made.items()}


def include(figures: Sequence[Path], width: str) -> str:
    r"""LaTeX that sets every pdf with its caption; a figure over both columns is a `figure*`."""
    kind = "figure*" if width == "double" else "figure"
    parts = [
        rf"\begin{{{kind}}}\centering\includegraphics{{{path.name}}}"
        rf"\caption{{{text.escape_latex(caption(NAMED[path.stem]))}}}\label{{fig:{path.stem}}}\end{{{kind}}}"
        for path in figures
        if path.suffix == ".pdf"
    ]
    return "\n".join([*parts, ""])
