"""Small multiples: panels of one size in a figure that fits a page, labelled once where they share their axes."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfgbench.reading.figures import style
from cfgbench.reading.figures.style import PAGE, SINGLE, Facet
from cfgbench.reading.tables.compare import value, verdict
from cfgbench.reading.tables.results import Column

HEAD = 0.3  # inches of the labels below the lowest panels
SMALL = 1.4  # inches of a row where many panels lie side by side
MIN_ROW = 1.3  # inches of a row, title and ticks included, so that a panel can still be read
TICKS, BETWEEN = 0.35, 0.08  # inches of the labels of an axis, and between titles
MIN_TITLE = 5.0  # points
BEST_PANELS = "with the best {} of each method, then its next best"
LEGEND = 0.5  # inches that a legend may take of a full page


class Grid(NamedTuple):
    """A figure with a block of panels for each score: `axes[score][panel]`, blocks one below the other."""

    figure: Figure
    axes: list[list[Axes]]
    across: int  # panels side by side; those of a block after so many lie one row lower

    @property
    def rows(self) -> list[list[Axes]]:
        """The axes that lie side by side, row by row from the top."""
        return [block[i : i + self.across] for block in self.axes for i in range(0, len(block), self.across)]


def small_multiples(panels: int, scores: int, height: float) -> Grid:
    """Axes for every panel and score, rows at most so many inches high; the scores of a single panel side by side."""
    lying = panels == 1 and not style.is_narrow()
    across = style.columns_for(panels)
    down = 1 if lying else scores * -(-panels // across)
    columns = scores if lying else across
    crowded = across > (2 if style.is_narrow() else 3)
    size = (SINGLE if columns == 1 else style.width(), HEAD + down * (min(SMALL, height) if crowded else height))
    figure = Figure(figsize=(min(size[0], style.width()), min(PAGE, size[1])), layout="constrained")
    places = figure.subplots(down, columns, squeeze=False)
    if lying:
        return Grid(figure, [[ax] for ax in places[0]], 1)
    deep = down // scores
    axes = [[places[score * deep + i // across, i % across] for i in range(panels)] for score in range(scores)]
    for ax in set(places.flat) - {ax for block in axes for ax in block}:
        figure.delaxes(ax)
    return Grid(figure, axes, across)


def fitting(standings: Sequence[float], scores: int) -> list[int]:
    """The numbers of the panels that a page has room for, in order: all, or those with the lowest standings."""
    rows = int((PAGE - HEAD - LEGEND) / MIN_ROW) // scores
    room = style.columns_for(len(standings)) * max(1, rows)
    ranked = sorted(range(len(standings)), key=lambda i: standings[i])
    return sorted(ranked[:room])


def on_a_page(panels: Sequence[Facet], scores: int, column: Column) -> list[Facet]:
    """The panels that a page has room for: all, or the best by this score of every method, then the second best ones.

    BEST_PANELS says so.
    """
    standings = [_standing(column, panel) for panel in panels]
    order: dict[frozenset[str], list[int]] = {}
    for i in sorted(range(len(panels)), key=lambda i: standings[i]):
        order.setdefault(frozenset(arm.method for arm in panels[i].lines.values()), []).append(i)
    ranked = sorted((rank, standings[i], i) for same in order.values() for rank, i in enumerate(same))
    places = {i: float(place) for place, (_, _, i) in enumerate(ranked)}
    return [panels[i] for i in fitting([places[i] for i in range(len(panels))], scores)]


def set_titles(grid: Grid, titles: Sequence[str]) -> None:
    """A title above every panel, all of one size that fits."""
    room = (grid.figure.get_figwidth() - TICKS) / grid.across - BETWEEN
    widest = max(style.inches(title, 1) for title in titles) or 1.0
    points = max(MIN_TITLE, min(float(matplotlib.rcParams["axes.titlesize"]), room / widest))
    letters = int(len(max(titles, key=len)) * room / (widest * points)) or 1
    for block in grid.axes:
        for ax, title in zip(block, titles, strict=True):
            ax.set_title(textwrap.fill(title, max(letters, 12)), fontsize=points)


def share_labels(grid: Grid) -> None:
    """Labels only the leftmost y axes, and of rows of equal x axes the lowest; call it when everything is drawn."""
    _share_y_labels(grid)
    for block in grid.axes:
        for i in range(0, len(block) - grid.across, grid.across):
            pairs = list(zip(block[i : i + grid.across], block[i + grid.across :], strict=False))
            if all(_x_axis(ax) == _x_axis(below) for ax, below in pairs):
                for ax, _ in pairs:
                    ax.tick_params(labelbottom=False)
    columns: dict[int, list[Axes]] = {}
    for ax in (ax for row in grid.rows for ax in row):
        columns.setdefault(_column(ax), []).append(ax)
    texts = {ax.get_xlabel() for column in columns.values() for ax in column}
    only_one = grid.across > 2 and len(texts) == 1
    if only_one:
        grid.figure.supxlabel(*texts, fontsize=matplotlib.rcParams["axes.labelsize"])
    for column in columns.values():
        below = [ax.get_xlabel() for ax in column[1:]]
        for ax, text in zip(column, [*below, None], strict=True):
            if only_one or ax.get_xlabel() == text:
                ax.set_xlabel("")


def tell_left_out(figure: Figure, shown: int, planned: int, which: str) -> None:
    """Says below the figure how many panels are missing from it, if any, and which."""
    if shown < planned:
        text = f"The {shown} of {planned} panels {which}; results.csv has all."
        figure.supxlabel("\n".join([*filter(None, [figure.get_supxlabel()]), text]), fontsize=6)


def _share_y_labels(grid: Grid) -> None:
    """A label for every row, or for the middle row of each block where rows are lower than it is long."""
    height = grid.figure.get_figheight() / len(grid.rows) - TICKS
    for block in grid.axes:
        rows = [block[i : i + grid.across] for i in range(0, len(block), grid.across)]
        for i, row in enumerate(rows):
            fits = style.inches(row[0].get_ylabel(), float(matplotlib.rcParams["axes.labelsize"])) < height
            for ax in row if not fits and i != (len(rows) - 1) // 2 else row[1:]:
                ax.set_ylabel("")
            for ax in row[1:]:
                ax.tick_params(labelleft=False)


def _standing(column: Column, panel: Facet) -> float:
    """The best value of a panel, lower is better."""
    found = verdict(column, [record for arm in panel.lines.values() for record in arm.records])
    best = None if found is None else value(column, found.best)
    return float("inf") if best is None else best.value if column.entry.lower_is_better else -best.value


def _x_axis(ax: Axes) -> tuple[object, ...]:
    """What tells an x axis from another."""
    ticks = tuple(tick.get_text() for tick in ax.get_xticklabels())
    return (ax.get_xlabel(), ax.get_xscale(), ax.get_xlim(), ticks)


def _column(ax: Axes) -> int:
    place = ax.get_subplotspec()
    return 0 if place is None else place.colspan.start
