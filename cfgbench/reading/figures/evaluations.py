"""Scores over the number of network evaluations, one curve per sampler."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.cell import number
from cfgbench.reading.figures import grid, style
from cfgbench.reading.figures.curves import Spot
from cfgbench.reading.figures.style import COLOURS, MAX_LINES, Look
from cfgbench.reading.tables.compare import value, verdict
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Arm, Column, Results, describe, varying

OTHERS = "#cccccc"
AT_BEST = "each point at its best scale"
LOOKS = Look(COLOURS[0], "o", "-"), Look(COLOURS[1], "s", "--")  # at the best scales, and at one for all
ROW = 1.6  # inches

Groups = Mapping[str, list[Arm]]
Curves = Mapping[str, list[Spot]]


class Fixed(NamedTuple):
    """One scale for all: equal numbers on two axes are not one scale."""

    axis: str
    scale: float


def quality_vs_nfe(results: Results) -> Figure | None:
    """FID against network evaluations, one line per sampler: at each point's best scale, and at one scale for all.

    Curves over another kind of scale are at their best scales only. None where no sampler has two numbers of steps.
    """
    column = results.column("fid")
    groups = _step_groups(results)
    if column is None or not groups:
        return None
    best, fixed = _curves(column, groups, None), _common_scale(column, groups)
    if not any(best.values()):
        return None
    same: dict[str, Curves] = {}
    if fixed is not None:
        same[f"{SCALE_SYMBOLS[fixed.axis]} = {number(fixed.scale)} everywhere"] = _curves(column, groups, fixed)
    draw = _together if len(groups) <= MAX_LINES else _one_each
    return draw(style.axis_label(column, results), {AT_BEST: best} | same)


def _together(label: str, kinds: Mapping[str, Curves]) -> Figure:
    """All curves in a panel for each way to choose their scales."""
    down, across = (len(kinds), 1) if style.is_narrow() else (1, len(kinds))
    wide = style.width() if across > 1 else min(style.width(), style.SINGLE)
    figure = Figure(figsize=(wide, 0.3 + 2.4 * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    looks = {name: style.numbered_look(i) for i, name in enumerate(kinds[AT_BEST])}
    everything = [spots for curves in kinds.values() for spots in curves.values()]
    for ax, (title, curves) in zip(panels.flat, kinds.items(), strict=True):
        for name, spots in curves.items():
            _line(ax, spots, looks[name])
        _axes(ax, everything)
        ax.set_title(title)
        ax.set_xlabel("network evaluations per sample (NFE)")
    for ax in panels[:, 0]:
        ax.set_ylabel(label)
    style.legend(figure, looks)
    return figure


def _one_each(label: str, kinds: Mapping[str, Curves]) -> Figure:
    """A panel for each curve, the others grey behind it; those with the lowest scores where a page is too small."""
    best = kinds[AT_BEST]
    names = list(best)
    lowest = [min((spot.y.value for spot in best[name]), default=np.inf) for name in names]
    shown = [names[i] for i in grid.fitting(lowest, 1)]
    made = grid.small_multiples(len(shown), 1, ROW)
    looks = dict(zip(kinds, LOOKS, strict=False))
    everything = [spots for curves in kinds.values() for spots in curves.values()]
    for ax, name in zip(made.axes[0], shown, strict=True):
        for other in names:
            ax.plot(*_xy(best[other]), color=OTHERS, linewidth=0.6, zorder=1)
        for kind, curves in reversed(list(kinds.items())):
            _line(ax, curves[name], looks[kind])
        _axes(ax, everything)
        ax.set_ylabel(label)
        ax.set_xlabel("network evaluations per sample (NFE)")
    grid.set_titles(made, shown)
    grid.share_labels(made)
    style.legend(made.figure, looks, [Line2D([], [], color=OTHERS, label="the others at their best scales")])
    grid.tell_left_out(made.figure, len(shown), len(names), "with the lowest scores")
    return made.figure


def _line(ax: Axes, spots: Sequence[Spot], look: Look) -> None:
    xs, ys = _xy(spots)
    low_high = np.array([spot.y.interval or (np.nan, np.nan) for spot in spots]).reshape(-1, 2).T
    ax.errorbar(
        *(xs, ys, np.abs(low_high - ys)),
        color=look.colour,
        marker=look.marker,
        linestyle=look.dash,
        elinewidth=0.8,
    )


def _axes(ax: Axes, curves: Sequence[Sequence[Spot]]) -> None:
    """The same axes for all curves of a figure; the values are logarithmic where they are wide or spread unevenly."""
    ends = [end for spots in curves for spot in spots for end in (spot.y.interval or (spot.y.value,))]
    xs = [spot.x for spots in curves for spot in spots]
    if ends and min(ends) > 0 and max(ends) > 3 * min(ends):
        style.decimal_log(ax, "y")
    style.decimal_log(ax, "x")
    ax.set_xlim(min(xs) / 1.15, max(xs) * 1.15)
    ax.set_ylim(*_margins(ends, ax.get_yscale() == "log"))


def _margins(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    ratio, gap = (high / low) ** 0.05 if log else 1.0, 0.0 if log else 0.05 * (high - low)
    return low / ratio - gap, high * ratio + gap


def _xy(spots: Sequence[Spot]) -> tuple[list[float], list[float]]:
    return [spot.x for spot in spots], [spot.y.value for spot in spots]


def _step_groups(results: Results) -> dict[str, list[Arm]]:
    """Arms that differ in steps only, by label; none where nothing has two step counts."""
    groups: dict[tuple[tuple[str, str], ...], list[Arm]] = {}
    for arm in results.arms:
        groups.setdefault(tuple((k, v) for k, v in arm.fields.items() if k != "steps"), []).append(arm)
    kept = {key: arms for key, arms in groups.items() if len({arm.fields.get("steps") for arm in arms}) > 1}
    names = varying([dict(key) for key in kept]) or ["sampler"]
    return {describe(dict(key), names): arms for key, arms in kept.items()}


def _common_scale(column: Column, groups: Groups) -> Fixed | None:
    """Of the scales that guide and that most arms have, the one that is most often best; None where none guides."""
    arms = [arm for group in groups.values() for arm in group]
    present = Counter(Fixed(arm.axis, p.scale) for arm in arms for p in arm.points if p.record.cell.scale is not None)
    found = [(arm, chosen.best) for arm in arms if (chosen := verdict(column, arm.records)) is not None]
    best = Counter(Fixed(arm.axis, arm.scale_of(record)) for arm, record in found)
    return max(sorted(present), key=lambda fixed: (present[fixed], best[fixed]), default=None)


def _curves(column: Column, groups: Groups, fixed: Fixed | None) -> dict[str, list[Spot]]:
    """The points of every group in ascending order, at its best scale where none is fixed."""
    return {
        label: sorted((spot for arm in arms for spot in _spots(column, arm, fixed)), key=lambda spot: spot.x)
        for label, arms in groups.items()
    }


def _spots(column: Column, arm: Arm, fixed: Fixed | None) -> list[Spot]:
    found = verdict(column, arm.records)
    if fixed is None:
        chosen = [] if found is None else [found.best]
    else:
        chosen = [point.record for point in arm.points if (arm.axis, point.scale) == fixed]
    results = ((record, value(column, record)) for record in chosen)
    return [Spot(record.nfe, y, record) for record, y in results if y is not None and record.nfe is not None]
