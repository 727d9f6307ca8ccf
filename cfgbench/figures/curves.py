"""Scores, and what guidance changes in them, over the scale."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.figures import coincidence, grid, style
from cfgbench.figures.coincidence import Place
from cfgbench.figures.style import NEUTRAL, Facet, Look
from cfgbench.records import CellRecord
from cfgbench.statistics import Estimate
from cfgbench.tables.compare import difference, value, verdict
from cfgbench.tables.results import Arm, Column, Results

SCORES = ("fid", "inception_score")  # of figure 1; others where these are not measured
ROW = 2.1  # inches


class Spot(NamedTuple):
    """A point of a curve."""

    x: float
    y: Estimate
    record: CellRecord


class Marks(NamedTuple):
    """What a curve shows beside its values."""

    best: str  # the id of the cell with a ring
    tied: Collection[str] = ()  # ids of the cells that are filled
    aside: float = 0.0  # inches to the right


SpotsOf = Callable[[Results, Column, Arm], list[Spot]]


def quality_vs_scale(results: Results) -> Figure | None:
    """FID and inception score against the scale, with 95 % bands and tied sets."""
    return _over_scale(results, _values)


def gain_vs_scale(results: Results) -> Figure | None:
    """Paired differences to the unguided cell against the scale: what guidance changes, and how surely."""
    if not any(record.cell.guidance.method == "unguided" for record in results.done):
        return None
    return _over_scale(results, _gains, " \N{MINUS SIGN} unguided")


def draw_curve(ax: Axes, spots: Sequence[Spot], look: Look, marks: Marks) -> None:
    """A line with its 95 % band; filled markers for the tied set, a ring around the best."""
    xs, ys = [spot.x for spot in spots], [spot.y.value for spot in spots]
    drawn = ax.plot(xs, ys, color=look.colour, linestyle=look.dash, zorder=2)
    low, high = np.array([spot.y.interval or (np.nan, np.nan) for spot in spots]).reshape(-1, 2).T
    band = ax.fill_between(xs, low, high, color=look.colour, alpha=0.2, linewidth=0)
    for spot in spots:
        fill = look.colour if spot.record.id in marks.tied else "white"
        point = (spot.x, spot.y.value)
        drawn += ax.plot(*point, look.marker, color=look.colour, mfc=fill, mew=0.8, zorder=3, clip_on=False)
        if spot.record.id == marks.best:
            drawn += ax.plot(*point, "o", ms=8, mfc="none", mec=look.colour, mew=0.8, zorder=4, clip_on=False)
    coincidence.set_aside(ax, [*drawn, band], marks.aside)


def tied_key() -> list[Line2D]:
    """Legend entries of the markers."""
    ring = Line2D([], [], color=NEUTRAL, marker="o", mfc="none", ms=8, linestyle="", label="best of its curve")
    filled = Line2D([], [], color=NEUTRAL, marker="o", linestyle="", label="tied with the best (filled)")
    return [ring, filled]


def scores_of(results: Results) -> list[Column]:
    """The scores that curves over the scale show."""
    named = [column for name in SCORES if (column := results.column(name)) is not None]
    return named or list(results.columns[:2])


def _values(_: Results, column: Column, arm: Arm) -> list[Spot]:
    found = ((point, value(column, point.record)) for point in arm.points)
    return [Spot(point.scale, result, point.record) for point, result in found if result is not None]


def _gains(results: Results, column: Column, arm: Arm) -> list[Spot]:
    spots = []
    for point in arm.points:
        unguided = results.unguided(point.record.cell)
        if unguided is not None:
            same = point.record.id == unguided.id
            gap = Estimate(0.0, None, None, None) if same else difference(column, point.record, unguided)
            spots += [Spot(point.scale, gap, point.record)] if gap else []
    return spots


def _over_scale(results: Results, spots_of: SpotsOf, suffix: str = "") -> Figure | None:
    columns, arms = scores_of(results), [arm for arm in results.arms if len(arm.points) > 1]
    if not arms or not columns:
        return None
    planned = style.facets(arms, by_axis=True)
    panels, looks = grid.on_a_page(planned, len(columns), columns[0]), style.looks(planned)
    made = grid.small_multiples(len(panels), len(columns), ROW)
    beside: list[Place] = []
    for column, axes in zip(columns, made.axes, strict=True):
        curves = [{label: spots_of(results, column, arm) for label, arm in panel.lines.items()} for panel in panels]
        for ax, panel, lines in zip(axes, panels, curves, strict=True):
            beside += _panel(ax, column, panel, lines, looks)
            ax.set_ylabel(style.axis_label(column, results, suffix))
        values = [spot.y.value for lines in curves for spots in lines.values() for spot in spots]
        _share_values(axes, values, column.entry.lower_is_better)
    grid.set_titles(made, [panel.title for panel in panels])
    grid.share_labels(made)
    grid.tell_left_out(made.figure, len(panels), len(planned), f"with the best {columns[0].label}")
    key = tied_key() if any(column.replicated for column in columns) else tied_key()[:1]
    style.legend(made.figure, looks, [*key, *coincidence.aside_key(beside)])
    return made.figure


def _panel(
    ax: Axes, column: Column, panel: Facet, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]
) -> list[Place]:
    """Draws the curves of a panel; where they stand beside those that they coincide with."""
    best_scales: list[float] = []
    moved = {label: [s._replace(x=panel.places[s.x]) for s in spots] for label, spots in curves.items()}
    beside = coincidence.places({label: _xy(spots) for label, spots in moved.items()})
    for label, arm in panel.lines.items():
        found = verdict(column, arm.records)
        if found is None:
            continue
        tied = {record.id for record in found.tied or ()}
        draw_curve(ax, moved[label], looks[label], Marks(found.best.id, tied, beside[label].aside))
        best_scales.append(arm.scale_of(found.best))
        for low, high in _runs(arm, tied) if len(curves) == 1 else ():
            ax.axvspan(*(panel.places[low], panel.places[high]), color=looks[label].colour, alpha=0.08, linewidth=0)
    style.scale_axis(ax, [*panel.places], panel.axis, best_scales, with_w=ax.get_position().width * style.width() > 2)
    return list(beside.values())


def _share_values(axes: Sequence[Axes], values: Sequence[float], distance: bool) -> None:
    """The same y axis for panels that show the same score; differences get a line at zero."""
    crosses = len(values) > 0 and min(values) < 0 < max(values)
    for ax in axes:
        if crosses:
            ax.axhline(0, color=NEUTRAL, linewidth=0.6, zorder=1)
            style.symmetric_log(ax, values)
        elif distance and style.wide(values):
            style.decimal_log(ax, "y")
    style.share_limits(axes)


def _xy(spots: Sequence[Spot]) -> npt.NDArray[np.float64]:
    return np.array([(spot.x, spot.y.value) for spot in spots]).reshape(-1, 2)


def _runs(arm: Arm, tied: Collection[str]) -> list[tuple[float, float]]:
    """Ends of each run of neighbouring scales that are all tied, of two scales or more."""
    points = sorted(arm.points, key=lambda point: point.scale)
    groups = itertools.groupby(points, key=lambda point: point.record.id in tied)
    runs = [[point.scale for point in run] for inside, run in groups if inside]
    return [(run[0], run[-1]) for run in runs if len(run) > 1]
