"""Our curves beside those of papers, each relative to its own value without guidance."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.figures import style
from cfgbench.figures.style import Look
from cfgbench.published import SOURCES, Curve, curves, relative
from cfgbench.tables.compare import value
from cfgbench.tables.results import Arm, Column, Results

METRICS = ("fid", "inception_score")
MAX_ARMS = 6
CAPTION = (
    "Every curve is divided by its own value with guidance off. Only shapes can be compared: FID and IS of different "
    "encoders, data sets and sample counts have no common unit. Published values (thin lines): {}."
)


def published_curves(results: Results) -> Figure | None:
    """FID and inception score relative to guidance off, ours beside published curves. Only the shapes are comparable.

    Scores of different encoders, data sets and sample counts have no common unit.
    """
    columns = [column for name in METRICS if (column := results.column(name)) is not None]
    arms = {axis: _arms(results, columns, axis) for axis in SOURCES}
    axes_used = [axis for axis in SOURCES if arms[axis]]
    if not columns or not axes_used:
        return None
    figure = Figure(figsize=(style.width(), 1.0 + 2.2 * len(columns)), layout="constrained")
    panels = figure.subplots(len(columns), len(axes_used), squeeze=False)
    for row, column in zip(panels, columns, strict=True):
        for ax, axis in zip(row, axes_used, strict=True):
            _panel(ax, results, column, axis, arms[axis])
        row[0].set_ylabel(f"{column.label} / {column.label} with guidance off")
    _legends(figure, panels[0])
    caption = CAPTION.format("; ".join(SOURCES[axis] for axis in axes_used))
    figure.supxlabel(textwrap.fill(caption, int(style.width() / 0.048)), fontsize=5.5)
    return figure


def _arms(results: Results, columns: Sequence[Column], axis: str) -> list[Arm]:
    """The first curves over this scale that reach from off to something else."""
    arms = [arm for arm in results.arms if arm.axis == axis and len(arm.points) > 1]
    return [arm for arm in arms if all(len(_points(column, arm)) > 1 for column in columns)][:MAX_ARMS]


def _points(column: Column, arm: Arm) -> list[tuple[float, float]]:
    found = ((point.scale, value(column, point.record)) for point in arm.points)
    return relative(tuple((scale, result.value) for scale, result in found if result is not None), arm.axis)


def _panel(ax: Axes, results: Results, column: Column, axis: str, arms: Sequence[Arm]) -> None:
    ours, theirs = [_points(column, arm) for arm in arms], curves(axis, column.metric)
    own_methods = len({arm.method for arm in arms}) == len(arms)
    for i, (arm, points) in enumerate(zip(arms, ours, strict=True)):
        look = style.method_look(arm.method) if own_methods else style.numbered_look(i)
        _line(ax, points, look, results.label(arm), 1.4)
    for i, curve in enumerate(theirs):
        _line(ax, relative(curve.points, axis), _published_look(i, curve), curve.label, 0.7)
    everything = [*ours, *(relative(curve.points, axis) for curve in theirs)]
    if style.wide([y for points in everything for _, y in points]):
        style.decimal_log(ax, "y")
    ax.axhline(1, color=style.NEUTRAL, linewidth=0.6, zorder=1)
    style.scale_axis(ax, [x for points in everything for x, _ in points], axis, [], with_w=False)


def _line(ax: Axes, points: Sequence[tuple[float, float]], look: Look, label: str, width: float) -> None:
    xs, ys = zip(*points, strict=True)
    ax.plot(
        *(xs, ys),
        color=look.colour,
        marker=look.marker,
        linestyle=look.dash,
        linewidth=width,
        markersize=3,
        zorder=1.5 + width,
        label=label,
    )


def _published_look(index: int, curve: Curve) -> Look:
    """Grey for the first data set, brown for the second; dashes tell its curves apart, dots show how few points are."""
    group = index // 3 if curve.axis == "guidance_scale" else index
    return Look(("#777777", "#8C6D31")[group], "." if len(curve.points) < 5 else "", style.DASHES[index % 3])


def _legends(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels, without repeats."""
    handles = {str(line.get_label()): line for ax in axes for line in ax.get_lines()}
    lines = [line for label, line in handles.items() if not label.startswith("_") and isinstance(line, Line2D)]
    widest = 0.4 + 0.05 * max(len(str(line.get_label())) for line in lines)
    columns = max(1, min(4, int(figure.get_figwidth() / widest)))
    figure.legend(handles=lines, loc="outside upper center", ncols=columns)
