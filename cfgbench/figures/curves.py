"""Scores over the scale and over the number of network evaluations."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.cell import number
from cfgbench.figures import style
from cfgbench.figures.style import NEUTRAL, SINGLE, Facet, Look
from cfgbench.records import CellRecord
from cfgbench.statistics import Estimate
from cfgbench.tables.compare import difference, value, verdict
from cfgbench.tables.results import Arm, Column, Results, describe, varying

SCORES = ("fid", "inception_score")  # of figure 1; others where these are not measured


class Spot(NamedTuple):
    """A point of a curve."""

    x: float
    y: Estimate
    record: CellRecord


SpotsOf = Callable[[Results, Column, Arm], list[Spot]]


def quality_vs_scale(results: Results) -> Figure | None:
    """FID and inception score against the scale, with 95 % bands and tied sets."""
    return _over_scale(results, _columns(results), _values)


def gain_vs_scale(results: Results) -> Figure | None:
    """Paired differences to the unguided cell against the scale: what guidance changes, and how surely."""
    if not any(record.cell.guidance.method == "unguided" for record in results.done):
        return None
    return _over_scale(results, _columns(results), _gains, " \N{MINUS SIGN} unguided")


def quality_vs_nfe(results: Results) -> Figure | None:
    """FID against network evaluations, one line per sampler: at each point's best scale, and at one scale for all."""
    column = results.column("fid")
    groups = _step_groups(results)
    if column is None or not groups:
        return None
    down, across = (2, 1) if style.is_narrow() else (1, 2)
    figure = Figure(figsize=(style.width(), 0.5 + 2.4 * down), layout="constrained")
    left, right = figure.subplots(down, across, sharey=True).flat
    looks = {label: style.numbered_look(i) for i, label in enumerate(groups)}
    fixed = _common_scale(column, groups)
    _nfe_panel(left, column, groups, looks, None)
    _nfe_panel(right, column, groups, looks, fixed)
    left.set_title("each point at its best scale")
    right.set_title(f"scale {number(fixed)} everywhere")
    for ax in (left, right)[:down]:
        ax.set_ylabel(style.axis_label(column, results))
    style.legend(figure, looks)
    return figure


def draw_curve(ax: Axes, spots: Sequence[Spot], look: Look, best: str | None, tied: set[str]) -> None:
    """A line with its 95 % band; filled markers for the tied set, a ring around the best."""
    xs, ys = [spot.x for spot in spots], [spot.y.value for spot in spots]
    ax.plot(xs, ys, color=look.colour, linestyle=look.dash, zorder=2)
    bands = [spot.y.interval or (np.nan, np.nan) for spot in spots]
    ax.fill_between(xs, [b[0] for b in bands], [b[1] for b in bands], color=look.colour, alpha=0.2, linewidth=0)
    for spot in spots:
        fill = look.colour if spot.record.id in tied else "white"
        ax.plot(spot.x, spot.y.value, look.marker, color=look.colour, mfc=fill, mew=0.8, zorder=3, clip_on=False)
        if spot.record.id == best:
            ax.plot(spot.x, spot.y.value, "o", ms=8, mfc="none", mec=look.colour, mew=0.8, zorder=4, clip_on=False)


def tied_key() -> list[Line2D]:
    """Legend entries of the markers."""
    ring = Line2D([], [], color=NEUTRAL, marker="o", mfc="none", ms=8, linestyle="", label="best of its curve")
    filled = Line2D([], [], color=NEUTRAL, marker="o", linestyle="", label="tied with the best (filled)")
    return [ring, filled]


def _columns(results: Results) -> list[Column]:
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


def _over_scale(results: Results, columns: Sequence[Column], spots_of: SpotsOf, suffix: str = "") -> Figure | None:
    arms = [arm for arm in results.arms if len(arm.points) > 1]
    if not arms or not columns:
        return None
    panels = style.facets(arms, by_axis=True)
    looks = style.looks(panels)
    figure, axes = _grid(len(panels), len(columns))
    for column, across in zip(columns, axes, strict=True):
        values: list[float] = []
        for ax, panel in zip(across, panels, strict=True):
            curves = {label: spots_of(results, column, arm) for label, arm in panel.lines.items()}
            values += [spot.y.value for spots in curves.values() for spot in spots]
            _panel(ax, column, panel, curves, looks)
        _share_values(across, values, column.entry.lower_is_better)
        for ax in across[:: style.columns_for(len(panels))]:
            ax.set_ylabel(style.axis_label(column, results, suffix))
    style.legend(figure, looks, tied_key() if any(c.replicated for c in columns) else tied_key()[:1])
    return figure


def _grid(panels: int, rows: int) -> tuple[Figure, list[list[Axes]]]:
    """Axes [row][panel]: panels from left to right, each a column of scores; a single panel lies on its side."""
    across = style.columns_for(panels)
    if panels == 1:
        beside = 1 if style.is_narrow() else rows
        size = (style.width() if rows > 1 else SINGLE, 0.5 + 2.1 * rows / beside)
        figure = Figure(figsize=size, layout="constrained")
        return figure, [[ax] for ax in figure.subplots(rows // beside, beside, squeeze=False).flat]
    down = -(-panels // across) * rows
    figure = Figure(figsize=(style.width(), 0.5 + (2.1 if across <= 3 else 1.5) * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat:
        ax.set_visible(False)
    used = [[axes[i // across * rows + row, i % across] for i in range(panels)] for row in range(rows)]
    for ax in (ax for row in used for ax in row):
        ax.set_visible(True)
    for ax in (ax for row in used for i, ax in enumerate(row) if i % across):
        ax.tick_params(labelleft=False)
    return figure, used


def _runs(arm: Arm, tied: set[str]) -> list[tuple[float, float]]:
    """Ends of each run of neighbouring scales that are all tied, of two scales or more."""
    points = sorted(arm.points, key=lambda point: point.scale)
    groups = itertools.groupby(points, key=lambda point: point.record.id in tied)
    runs = [[point.scale for point in run] for inside, run in groups if inside]
    return [(run[0], run[-1]) for run in runs if len(run) > 1]


def _panel(ax: Axes, column: Column, panel: Facet, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    best_scales: list[float] = []
    places = panel.places
    for label, spots in curves.items():
        arm = panel.lines[label]
        found = verdict(column, arm.records)
        if found is None:
            continue
        tied = found.tied or ()
        moved = [spot._replace(x=places[spot.x]) for spot in spots]
        draw_curve(ax, moved, looks[label], found.best.id, {record.id for record in tied})
        best_scales.append(arm.scale_of(found.best))
        if len(curves) == 1:
            for low, high in _runs(arm, {record.id for record in tied}):
                ax.axvspan(places[low], places[high], color=looks[label].colour, alpha=0.08, linewidth=0, zorder=0)
    style.scale_axis(ax, [*places], panel.axis, best_scales, with_w=ax.get_position().width * style.width() > 2)
    ax.set_title(panel.title)


def _share_values(axes: Sequence[Axes], values: Sequence[float], distance: bool) -> None:
    """The same y axis for panels that show the same score; differences get a line at zero."""
    crosses = len(values) > 0 and min(values) < 0 < max(values)
    for ax in axes:
        if crosses:
            ax.axhline(0, color=NEUTRAL, linewidth=0.6, zorder=1)
            style.symmetric_log(ax, values)
        elif distance and style.wide(values):
            style.decimal_log(ax, "y")
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)


def _step_groups(results: Results) -> dict[str, list[Arm]]:
    """Arms that differ in steps only, by label; none where nothing has two step counts."""
    groups: dict[tuple[tuple[str, str], ...], list[Arm]] = {}
    for arm in results.arms:
        groups.setdefault(tuple((k, v) for k, v in arm.fields.items() if k != "steps"), []).append(arm)
    kept = {key: arms for key, arms in groups.items() if len({arm.fields.get("steps") for arm in arms}) > 1}
    names = varying([dict(key) for key in kept]) or ["sampler"]
    return {describe(dict(key), names): arms for key, arms in kept.items()}


def _common_scale(column: Column, groups: Mapping[str, list[Arm]]) -> float:
    """Of the scales that most arms have, the one that is most often best."""
    arms = [arm for group in groups.values() for arm in group]
    present = Counter(point.scale for arm in arms for point in arm.points)
    best = Counter(arm.scale_of(found.best) for arm in arms if (found := verdict(column, arm.records)) is not None)
    return max(sorted(present), key=lambda scale: (present[scale], best[scale]))


def _nfe_panel(
    ax: Axes, column: Column, groups: Mapping[str, list[Arm]], looks: Mapping[str, Look], fixed: float | None
) -> None:
    shown: list[float] = []
    for label, arms in groups.items():
        spots = sorted((spot for arm in arms for spot in _nfe_spots(column, arm, fixed)), key=lambda spot: spot.x)
        low_high = np.array([spot.y.interval or (np.nan, np.nan) for spot in spots]).reshape(-1, 2).T
        ys = np.array([spot.y.value for spot in spots])
        look = looks[label]
        ax.errorbar(
            [spot.x for spot in spots],
            ys,
            yerr=np.abs(low_high - ys),
            color=look.colour,
            marker=look.marker,
            linestyle=look.dash,
            elinewidth=0.8,
        )
        shown += ys.tolist()
    if style.wide(shown):
        style.decimal_log(ax, "y")
    style.decimal_log(ax, "x")
    ax.set_xlabel("network evaluations per sample (NFE)")


def _nfe_spots(column: Column, arm: Arm, fixed: float | None) -> list[Spot]:
    found = verdict(column, arm.records)
    chosen = [
        point.record
        for point in arm.points
        if (point.scale == fixed if fixed is not None else found is not None and point.record.id == found.best.id)
    ]
    results = ((record, value(column, record)) for record in chosen)
    return [Spot(record.nfe, y, record) for record, y in results if y is not None and record.nfe is not None]
