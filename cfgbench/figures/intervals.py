"""Where on the noise scale guidance helps: a score over both ends of the guidance interval."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cfgbench.cell import canonical_json, number
from cfgbench.figures import style
from cfgbench.records import CellRecord
from cfgbench.tables.compare import Verdict, value, verdict
from cfgbench.tables.results import Column, Results, arm_fields

MIN_ENDS = 3  # of intervals, on either side; fewer are a list, not a map
COLOURS = "viridis_r"
Interval = tuple[float, float]


class _Map(NamedTuple):
    """All intervals at one scale of one model."""

    title: str
    cells: dict[Interval, CellRecord]


def interval_heatmap(results: Results) -> Figure | None:
    """The first score over the ends of the guidance interval, a panel per scale; what is tied with the best is framed.

    (0, inf] is guidance everywhere.
    """
    column, maps = next(iter(results.columns), None), _maps(results)
    if column is None or not maps:
        return None
    across = min(len(maps), 1 if style.is_narrow() else 2)
    down = -(-len(maps) // across)
    figure = Figure(figsize=(style.width() * (1 if across > 1 else 0.75), 0.5 + 2.3 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat[len(maps) :]:
        figure.delaxes(ax)
    for ax, one in zip(axes.flat, maps, strict=False):
        _panel(ax, column, one)
    return figure


def _maps(results: Results) -> list[_Map]:
    found: dict[str, _Map] = {}
    for record in results.done:
        cell = record.cell
        if cell.guidance.method != "cfg":
            continue
        fields = {k: v for k, v in arm_fields(cell).items() if k != "interval"}
        title = f"{cell.model.label}, s = {number(cell.guidance_scale)}"
        one = found.setdefault(canonical_json([fields, cell.guidance_scale]), _Map(title, {}))
        one.cells[_interval(record)] = record
    return [one for one in found.values() if _is_plane(list(one.cells))]


def _is_plane(intervals: Sequence[Interval]) -> bool:
    return all(len({interval[end] for interval in intervals}) >= MIN_ENDS for end in (0, 1))


def _interval(record: CellRecord) -> Interval:
    ends = record.cell.guidance.parameters.get("interval")
    low, high = ends if isinstance(ends, list | tuple) else (0.0, None)
    return float(low or 0.0), float("inf") if high is None else float(high)


def _panel(ax: Axes, column: Column, one: _Map) -> None:
    lows, highs = (sorted({interval[end] for interval in one.cells}) for end in (0, 1))
    found = {interval: value(column, record) for interval, record in one.cells.items()}
    table = np.full((len(lows), len(highs)), np.nan)
    for (low, high), estimate in found.items():
        if estimate is not None:
            table[lows.index(low), highs.index(high)] = estimate.value
    best, worst = np.nanmin(table), np.nanmax(table)
    ax.imshow(table, cmap=COLOURS, aspect="auto", vmin=best, vmax=worst)
    chosen = verdict(column, list(one.cells.values()))
    for (low, high), record in one.cells.items():
        _cell(ax, highs.index(high), lows.index(low), table, _standing(record, chosen))
    ax.set_xticks(range(len(highs)), [_text(high) for high in highs])
    ax.set_yticks(range(len(lows)), [_text(low) for low in lows])
    ax.set(
        xlabel="guided up to noise level $\\sigma$",
        ylabel="guided from $\\sigma$",
        title=f"{column.label}, {one.title}",
    )
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


def _text(end: float) -> str:
    return "\N{INFINITY}" if end == float("inf") else number(end)
