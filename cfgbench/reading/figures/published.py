"""Our curves beside those of papers, each relative to its own value without guidance."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from cfgbench.published import OFF, SOURCES, Curve, curves, relative
from cfgbench.reading.figures import coincidence, style
from cfgbench.reading.figures.style import Look
from cfgbench.reading.tables.compare import value, verdict
from cfgbench.reading.tables.results import Arm, Column, Results

METRICS = ("fid", "inception_score")
MAX_ARMS = 6  # of ours over one scale
ROW = 1.9  # inches
OURS, THEIRS = 1.4, 0.7  # points of a line
CAPTION = (
    "Every curve is divided by its own value with guidance off. Only shapes can be compared: FID and IS of different "
    "encoders, data sets and sample counts have no common unit. Published values (thin lines): {}."
)


class Line(NamedTuple):
    """A curve of one panel."""

    points: list[tuple[float, float]]
    look: Look
    label: str
    width: float  # points


def published_curves(results: Results) -> Figure | None:
    """FID and inception score relative to guidance off, ours beside published curves. Only the shapes are comparable.

    Scores of different encoders, data sets and sample counts have no common unit. None where no curve of ours starts
    at guidance off, from a value that is shown to differ from zero.
    """
    columns = [column for name in METRICS if (column := results.column(name)) is not None]
    found = {axis: _arms(results, columns, axis) for axis in SOURCES}
    axes_used = [axis for axis in SOURCES if found[axis]]
    if not columns or not axes_used:
        return None
    chosen = {axis: _best(columns[0], found[axis]) for axis in axes_used}
    lines = {axis: [_lines(results, column, axis, chosen[axis]) for column in columns] for axis in axes_used}
    keys = [len(one[0]) / _legend_columns(one[0]) for one in lines.values()]
    caption = textwrap.wrap(_caption(found, chosen), int(style.width() / 0.043))
    heights = [ROW + style.LEGEND_ROW * np.ceil(rows) for rows in keys]
    figure = Figure(figsize=(style.width(), sum(heights) + 0.1 + 0.09 * len(caption)), layout="constrained")
    rows = figure.subfigures(len(axes_used), 1, squeeze=False, height_ratios=heights)[:, 0]
    panels = [_row(row, axis, columns, lines[axis]) for row, axis in zip(rows, axes_used, strict=True)]
    for same_score in zip(*panels, strict=True):
        _share(same_score)
    figure.supxlabel("\n".join(caption), fontsize=5.5)
    return figure


def _arms(results: Results, columns: Sequence[Column], axis: str) -> list[Arm]:
    """The curves over this scale that reach from off to something else, and can be divided by their value there."""
    arms = [arm for arm in results.arms if arm.axis == axis and len(arm.points) > 1]
    return [arm for arm in arms if all(len(_points(column, arm)) > 1 for column in columns)]


def _best(column: Column, arms: Sequence[Arm]) -> list[Arm]:
    """Those with the best cells, in their order."""
    sign = 1 if column.entry.lower_is_better else -1
    lowest = {id(arm): sign * _best_value(column, arm) for arm in arms}
    kept = {id(arm) for arm in sorted(arms, key=lambda arm: lowest[id(arm)])[:MAX_ARMS]}
    return [arm for arm in arms if id(arm) in kept]


def _best_value(column: Column, arm: Arm) -> float:
    found = verdict(column, arm.records)
    best = None if found is None else value(column, found.best)
    return np.inf if best is None else best.value


def _points(column: Column, arm: Arm) -> list[tuple[float, float]]:
    """The points relative to that at off; none where that may be zero, since a ratio to it would be noise."""
    found = [(point.scale, result) for point in arm.points if (result := value(column, point.record)) is not None]
    if any(scale == OFF[arm.axis] and result.interval and result.interval[0] <= 0 for scale, result in found):
        return []
    return relative(tuple((scale, result.value) for scale, result in found), arm.axis)


def _caption(found: dict[str, list[Arm]], chosen: dict[str, list[Arm]]) -> str:
    text = CAPTION.format("; ".join(SOURCES[axis] for axis in chosen))
    shown, planned = (sum(len(arms[axis]) for axis in chosen) for arms in (chosen, found))
    return text if shown == planned else f"{text} Of our {planned} curves the {shown} with the best cells are drawn."


def _lines(results: Results, column: Column, axis: str, arms: Sequence[Arm]) -> list[Line]:
    """Ours, then theirs."""
    own_methods = len({arm.method for arm in arms}) == len(arms)
    ours = [
        Line(
            _points(column, arm),
            style.method_look(arm.method) if own_methods else style.numbered_look(i),
            results.label(arm),
            OURS,
        )
        for i, arm in enumerate(arms)
    ]
    theirs = [
        Line(relative(curve.points, axis), _published_look(i, curve), curve.label, THEIRS)
        for i, curve in enumerate(curves(axis, column.metric))
    ]
    return [*ours, *theirs]


def _published_look(index: int, curve: Curve) -> Look:
    """Grey for the first data set, brown for the second; dashes tell its curves apart, dots show how few points are."""
    group = index // 3 if curve.axis == "guidance_scale" else index
    return Look(("#777777", "#8C6D31")[group], "." if len(curve.points) < 5 else "", style.DASHES[index % 3])


def _row(figure: SubFigure, axis: str, columns: Sequence[Column], lines: Sequence[Sequence[Line]]) -> list[Axes]:
    """A panel for each score over one scale, below the legend of their curves."""
    panels = list(figure.subplots(1, len(columns), squeeze=False)[0])
    for ax, column, shown in zip(panels, columns, lines, strict=True):
        _panel(ax, axis, shown)
        ax.set_ylabel(f"{column.label} / {column.label} with guidance off")
    handles = [line for line in panels[0].get_lines() if not str(line.get_label()).startswith("_")]
    figure.legend(handles=handles, loc="outside upper center", ncols=_legend_columns(lines[0]))
    return panels


def _legend_columns(lines: Sequence[Line]) -> int:
    return min(4, style.legend_columns([line.label for line in lines], style.width()))


def _panel(ax: Axes, axis: str, lines: Sequence[Line]) -> None:
    ours = coincidence.places({line.label: np.array(line.points) for line in lines if line.width == OURS})
    for line in lines:
        coincidence.set_aside(ax, _draw(ax, line), ours[line.label].aside if line.width == OURS else 0.0)
    ax.axhline(1, color=style.NEUTRAL, linewidth=0.6, zorder=1)
    style.scale_axis(ax, [x for line in lines for x, _ in line.points], axis, [], with_w=False)


def _draw(ax: Axes, line: Line) -> list[Line2D]:
    xs, ys = zip(*line.points, strict=True)
    return ax.plot(
        *(xs, ys),
        color=line.look.colour,
        marker=line.look.marker,
        linestyle=line.look.dash,
        linewidth=line.width,
        markersize=3,
        zorder=1.5 + line.width,
        label=line.label,
    )


def _share(axes: Sequence[Axes]) -> None:
    """The same y axis for one score over every kind of guidance."""
    values = [float(y) for ax in axes for line in ax.get_lines() for y in np.asarray(line.get_ydata()).ravel()]
    for ax in axes:
        if style.wide(values):
            style.decimal_log(ax, "y")
    style.share_limits(axes)
