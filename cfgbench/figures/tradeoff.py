"""One score against another, and a score against time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.figures import style
from cfgbench.figures.style import NEUTRAL, SINGLE, Facet, Label, Look
from cfgbench.statistics import Estimate
from cfgbench.tables.compare import seconds_per_image, value, verdict
from cfgbench.tables.results import Arm, Column, Results, scale_text

PAIRS = (("fid", "inception_score"), ("recall", "precision"))  # x, y


class Spot(NamedTuple):
    """A cell of an arm in the plane."""

    x: float
    y: Estimate
    scale: float
    unguided: bool
    best: bool  # by the score that the figure is about


def quality_tradeoff(results: Results) -> Figure | None:
    """Inception score against FID and precision against recall, every method on one plot, scales beside the points."""
    pairs = [(a, b) for x, y in PAIRS if (a := results.column(x)) is not None and (b := results.column(y)) is not None]
    arms = [arm for arm in results.arms if len(arm.points) > 1]
    if not pairs or not arms:
        return None
    panels = style.facets(arms, by_axis=False)
    looks = style.looks(panels)
    across = 1 if style.is_narrow() and len(panels) <= 2 else len(pairs)
    down = len(panels) * len(pairs) // across
    height = 0.5 + (2.9 if down == 1 else 2.6 if across == 1 else 1.8) * down
    figure = Figure(figsize=(style.width() if len(pairs) > 1 else SINGLE, height), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flat
    wanted = ((panel, pair) for panel in panels for pair in pairs)
    places = [(ax, panel, pair) for ax, (panel, pair) in zip(axes, wanted, strict=True)]
    for ax, panel, pair in places:
        _tradeoff_axes(ax, results, pair, panel, looks)
    style.legend(figure, looks, [_unguided_key()])
    figure.draw_without_rendering()
    for ax, panel, (x, y) in places:
        _label_scales(ax, {label: _scores(x, y, arm) for label, arm in panel.lines.items()}, looks)
    return figure


def quality_vs_seconds(results: Results) -> Figure | None:
    """FID against time per image: every scale faint, each curve's best marked with its interval and scale."""
    column = results.column("fid") or (results.columns[0] if results.columns else None)
    timed = [arm for arm in results.arms if any(seconds_per_image(results, record) for record in arm.records)]
    if column is None or not timed:
        return None
    panels = style.facets(timed, by_axis=False)
    looks = style.looks(panels)
    across = 1 if style.is_narrow() else min(3, style.columns_for(len(panels)))
    down = -(-len(panels) // across)
    size = (style.width() if across > 1 else min(style.width(), SINGLE * 1.3), 0.7 + 2.1 * down)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for i, ax in enumerate(axes.flat):
        ax.set_visible(i < len(panels))
        ax.tick_params(labelbottom=True)
    curves = [{label: _times(results, column, arm) for label, arm in panel.lines.items()} for panel in panels]
    for ax, panel, lines in zip(axes.flat, panels, curves, strict=False):
        _time_axes(ax, results, column, lines, looks)
        ax.set_title(panel.title)
    for ax in axes[:, 0]:
        ax.set_ylabel(style.axis_label(column, results))
    style.legend(figure, looks, [_unguided_key()])
    figure.draw_without_rendering()
    for ax, lines in zip(axes.flat, curves, strict=False):
        _label_best(ax, lines, looks)
    return figure


def _unguided_key() -> Line2D:
    return Line2D([], [], color=NEUTRAL, marker="*", ms=8, linestyle="", label="unguided")


def _scores(x: Column, y: Column, arm: Arm) -> list[Spot]:
    best = verdict(x, arm.records)
    spots = []
    for scale, record in arm.points:
        a, b = value(x, record), value(y, record)
        if a is not None and b is not None:
            unguided = record.cell.guidance.method == "unguided"
            spots.append(Spot(a.value, b, scale, unguided, best is not None and record.id == best.best.id))
    return spots


def _times(results: Results, column: Column, arm: Arm) -> list[Spot]:
    best = verdict(column, arm.records)
    spots = []
    for scale, record in arm.points:
        seconds, result = seconds_per_image(results, record), value(column, record)
        if seconds is not None and result is not None:
            unguided = record.cell.guidance.method == "unguided"
            is_best = best is not None and record.id == best.best.id
            spots.append(Spot(1e3 * seconds[0], result, scale, unguided, is_best))
    return spots


def _xy(spots: Sequence[Spot]) -> npt.NDArray[np.float64]:
    return np.array([(spot.x, spot.y.value) for spot in spots]).reshape(-1, 2)


def _tradeoff_axes(
    ax: Axes, results: Results, pair: tuple[Column, Column], panel: Facet, looks: Mapping[str, Look]
) -> None:
    x, y = pair
    everything: list[Spot] = []
    for label, arm in panel.lines.items():
        look, spots = looks[label], _scores(x, y, arm)
        ax.plot(*_xy(spots).T, color=look.colour, marker=look.marker, linestyle=look.dash, markeredgewidth=0, zorder=2)
        everything += spots
    _stars(ax, everything)
    if x.entry.lower_is_better and style.wide([spot.x for spot in everything]):
        style.decimal_log(ax, "x")
    ax.set_xlabel(style.axis_label(x, results))
    ax.set_ylabel(style.axis_label(y, results))
    ax.set_title(panel.title)


def _stars(ax: Axes, spots: Sequence[Spot]) -> None:
    for spot in spots:
        if spot.unguided:
            ax.plot(spot.x, spot.y.value, "*", ms=8, color=NEUTRAL, mec="white", mew=0.4, zorder=4)


def _label_scales(ax: Axes, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    """Labels of the best scale, the ends, then the others, as far as there is room."""
    ranked: list[tuple[int, Label]] = []
    for label, spots in curves.items():
        for i, spot in enumerate(spots):
            rank = 0 if spot.best else 1 if i in (0, len(spots) - 1) else 2
            ranked.append((rank, Label(spot.x, spot.y.value, scale_text(spot.scale), looks[label].colour)))
    ordered = [label for _, label in sorted(ranked, key=lambda item: item[0])]
    style.place_labels(ax, ordered, [_xy(spots) for spots in curves.values() if spots])


def _time_axes(
    ax: Axes, results: Results, column: Column, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]
) -> None:
    everything = [spot for spots in curves.values() for spot in spots]
    for label, spots in curves.items():
        look = looks[label]
        ax.plot(*_xy(spots).T, look.marker, color=look.colour, alpha=0.35, ms=2.5, markeredgewidth=0)
        for x, y in ((spot.x, spot.y) for spot in spots if spot.best):
            bars = None if y.interval is None else np.abs(np.array(y.interval) - y.value)[:, None]
            ax.errorbar(x, y.value, bars, color=look.colour, marker=look.marker, ms=5, elinewidth=0.9, capsize=2)
    _stars(ax, everything)
    if column.entry.lower_is_better and style.wide([spot.y.value for spot in everything]):
        style.decimal_log(ax, "y")
    if style.wide([spot.x for spot in everything]):
        style.decimal_log(ax, "x")
    sizes = sorted({found[1] for record in results.done if (found := seconds_per_image(results, record)) is not None})
    ax.set_xlabel(f"ms per image, batch {', '.join(map(str, sizes))}")


def _label_best(ax: Axes, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    wanted: list[Label] = []
    obstacles: list[npt.NDArray[np.float64]] = []
    for label, spots in curves.items():
        obstacles += [_xy([spot]) for spot in spots]
        for spot in (spot for spot in spots if spot.best):
            obstacles += [np.array([(spot.x, end) for end in spot.y.interval])] if spot.y.interval else []
            wanted.append(Label(spot.x, spot.y.value, f"best {scale_text(spot.scale)}", looks[label].colour))
    if obstacles:
        style.place_labels(ax, wanted, obstacles)
