"""Scores, and what guidance changes in them, over the scale."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cfgbench.reading.figures import coincidence, grid, style
from cfgbench.reading.figures.style import NEUTRAL, Facet, Look
from cfgbench.reading.tables.compare import difference, value, verdict
from cfgbench.reading.tables.results import Arm, Column, Results
from cfgbench.records import CellRecord
from cfgbench.scores.statistics import Estimate

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
    floor: float = -np.inf  # where a band is cut off


SpotsOf = Callable[[Results, Column, Arm], list[Spot]]


def quality_vs_scale(results: Results) -> Figure | None:
    """FID and inception score against the scale, with 95 % bands and tied sets."""
    return _over_scale(results, _values)


def gain_vs_scale(results: Results) -> Figure | None:
    """Paired differences to the unguided cell against the scale: what guidance changes, and how surely.

    A curve over a scale of the model's own is compared with itself at 1.
    """
    arms = [arm for arm in results.arms if len(arm.points) > 1]
    if not any(results.reference(arm, record) for arm in arms for record in arm.records):
        return None
    what = "at scale 1" if any(arm.over_model for arm in arms) else "unguided"
    return _over_scale(results, _gains, f" \N{MINUS SIGN} {what}")


def draw_curve(ax: Axes, spots: Sequence[Spot], look: Look, marks: Marks) -> None:
    """A line with its 95 % band; filled markers for the tied set, a ring around the best."""
    xs, ys = [spot.x for spot in spots], [spot.y.value for spot in spots]
    drawn = ax.plot(xs, ys, color=look.colour, linestyle=look.dash, zorder=2)
    low, high = np.array([spot.y.interval or (np.nan, np.nan) for spot in spots]).reshape(-1, 2).T
    face, edge = ((look.colour, alpha) for alpha in (0.2, 0.5))
    band = ax.fill_between(xs, np.maximum(low, marks.floor), high, facecolor=face, edgecolor=edge, linewidth=0.25)
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
        unguided = results.reference(arm, point.record)
        if unguided is not None:
            same = point.record.id == unguided.id
            gap = Estimate(0.0, None, None, None) if same else difference(column, point.record, unguided)
            spots += [Spot(point.scale, gap, point.record)] if gap else []
    return spots


def _over_scale(results: Results, spots_of: SpotsOf, suffix: str = "") -> Figure | None:
    columns = scores_of(results)
    curves = {id(arm): [spots_of(results, column, arm) for column in columns] for arm in results.arms}
    arms = [arm for arm in results.arms if len(arm.points) > 1 and any(curves[id(arm)])]
    if not arms:
        return None
    planned = style.facets(arms, by_axis=True)
    panels, looks = grid.on_a_page(planned, len(columns), columns[0]), style.looks(planned)
    made = grid.small_multiples(len(panels), len(columns), ROW)
    keys: list[Artist] = []
    for i, (column, axes) in enumerate(zip(columns, made.axes, strict=True)):
        blocks = [{label: curves[id(arm)][i] for label, arm in panel.lines.items()} for panel in panels]
        for ax in axes:
            ax.set_ylabel(style.axis_label(column, results, suffix))
        values = [spot.y.value for lines in blocks for spots in lines.values() for spot in spots]
        log = not suffix and column.entry.lower_is_better and style.wide(values)
        floor = min(values) / 2 if log else -np.inf
        for ax, panel, lines in zip(axes, panels, blocks, strict=True):
            keys += _panel(ax, column, panel, lines, looks, floor)
        _share_values(axes, values, floor, differences=bool(suffix))
    grid.set_titles(made, [panel.title for panel in panels])
    grid.share_labels(made)
    grid.tell_left_out(made.figure, len(panels), len(planned), grid.BEST_PANELS.format(columns[0].label))
    key = tied_key() if any(column.replicated for column in columns) else tied_key()[:1]
    once = {str(artist.get_label()): artist for artist in keys}
    style.legend(made.figure, style.looks_in(looks, panels), [*key, *once.values()])
    return made.figure


def _panel(
    ax: Axes,
    column: Column,
    panel: Facet,
    curves: Mapping[str, list[Spot]],
    looks: Mapping[str, Look],
    floor: float,
) -> list[Artist]:
    """Draws the curves of a panel, bands cut off at a floor; the legend entries of what not every panel has."""
    best_scales: list[float] = []
    shaded: list[Artist] = []
    moved = {label: [s._replace(x=panel.places[s.x]) for s in spots] for label, spots in curves.items() if spots}
    beside = coincidence.places({label: _xy(spots) for label, spots in moved.items()})
    for label, spots in moved.items():
        arm = panel.lines[label]
        found = verdict(column, arm.records)
        if found is None:
            continue
        tied = {record.id for record in found.tied or ()}
        draw_curve(ax, spots, looks[label], Marks(found.best.id, tied, beside[label].aside, floor))
        best_scales.append(arm.scale_of(found.best))
        for low, high in _runs(arm, tied) if len(curves) == 1 else ():
            ends = (panel.places[low], panel.places[high])
            shaded += [ax.axvspan(*ends, color=looks[label].colour, alpha=0.08, linewidth=0)]
    style.scale_axis(ax, [*panel.places], panel.axis, best_scales, with_w=ax.get_position().width * style.width() > 2)
    return [*coincidence.aside_key(beside.values()), *([_shading_key()] if shaded else [])]


def _shading_key() -> Patch:
    return Patch(color=NEUTRAL, alpha=0.15, linewidth=0, label="tied with the best throughout (shaded)")


def _share_values(axes: Sequence[Axes], values: Sequence[float], floor: float, differences: bool) -> None:
    """The same y axis for panels that show the same score, logarithmic down to a floor if there is one."""
    for ax in axes:
        if differences:
            style.difference_axis(ax, values)
        elif np.isfinite(floor):
            style.decimal_log(ax, "y")
    style.share_limits(axes)
    if np.isfinite(floor) and axes[0].get_ylim()[0] < floor:
        for ax in axes:
            ax.set_ylim(bottom=floor)


def _xy(spots: Sequence[Spot]) -> npt.NDArray[np.float64]:
    return np.array([(spot.x, spot.y.value) for spot in spots]).reshape(-1, 2)


def _runs(arm: Arm, tied: Collection[str]) -> list[tuple[float, float]]:
    """Ends of each run of neighbouring scales that are all tied, of two scales or more."""
    points = sorted(arm.points, key=lambda point: point.scale)
    groups = itertools.groupby(points, key=lambda point: point.record.id in tied)
    runs = [[point.scale for point in run] for inside, run in groups if inside]
    return [(run[0], run[-1]) for run in runs if len(run) > 1]
