"""A score over two axes of a grid: a table in colours, the best and what is tied with it framed."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cfgbench.reading.figures import style
from cfgbench.reading.tables.compare import Verdict, value, verdict
from cfgbench.reading.tables.results import Column
from cfgbench.records import CellRecord

COLOURS = "viridis_r"
Place = tuple[float, float]  # on the y axis, on the x axis


class Map(NamedTuple):
    """A grid of cells."""

    title: str
    cells: Mapping[Place, CellRecord]


class Labels(NamedTuple):
    """What stands at the axes of all maps of a figure."""

    y: str
    x: str
    tick: Callable[[float], str]


def draw(column: Column, maps: Sequence[Map], labels: Labels) -> Figure:
    """A panel for each map, two side by side."""
    across = min(len(maps), 1 if style.is_narrow() else 2)
    down = -(-len(maps) // across)
    figure = Figure(figsize=(style.width() * (1 if across > 1 else 0.75), 0.5 + 2.3 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat[len(maps) :]:
        figure.delaxes(ax)
    for ax, one in zip(axes.flat, maps, strict=False):
        _panel(ax, column, one, labels)
    return figure


def has_sides(places: Sequence[Place], least: int) -> bool:
    """Whether places have at least so many values on both axes."""
    return all(len({place[side] for place in places}) >= least for side in (0, 1))


def _panel(ax: Axes, column: Column, one: Map, labels: Labels) -> None:
    ys, xs = (sorted({place[side] for place in one.cells}) for side in (0, 1))
    found = {place: value(column, record) for place, record in one.cells.items()}
    table = np.full((len(ys), len(xs)), np.nan)
    for (y, x), estimate in found.items():
        if estimate is not None:
            table[ys.index(y), xs.index(x)] = estimate.value
    best, worst = np.nanmin(table), np.nanmax(table)
    ax.imshow(table, cmap=COLOURS, aspect="auto", vmin=best, vmax=worst)
    chosen = verdict(column, list(one.cells.values()))
    for (y, x), record in one.cells.items():
        if found[y, x] is not None:
            _cell(ax, xs.index(x), ys.index(y), table, _standing(record, chosen))
    ax.set_xticks(range(len(xs)), [labels.tick(x) for x in xs])
    ax.set_yticks(range(len(ys)), [labels.tick(y) for y in ys])
    ax.set(xlabel=labels.x, ylabel=labels.y, title=f"{column.label}, {one.title}")
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _standing(record: CellRecord, found: Verdict | None) -> str:
    if found is None:
        return ""
    tied = {other.id for other in found.tied or ()}
    return "best" if record.id == found.best.id else "tied" if record.id in tied else ""


def _cell(ax: Axes, x: int, y: int, table: npt.NDArray[np.float64], standing: str) -> None:
    share = (table[y, x] - np.nanmin(table)) / max(float(np.ptp(table[~np.isnan(table)])), 1e-12)
    weight = "bold" if standing == "best" else "normal"
    ax.text(
        x,
        y,
        f"{table[y, x]:.3g}",
        ha="center",
        va="center",
        fontsize=6,
        weight=weight,
        color="white" if share > 0.5 else "black",
    )
    if standing:
        ax.add_patch(
            Rectangle(
                (x - 0.47, y - 0.45),
                0.94,
                0.9,
                fill=False,
                edgecolor="black",
                linewidth=1.2,
                linestyle="-" if standing == "best" else "--",
            )
        )
