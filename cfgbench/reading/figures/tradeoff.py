"""One score against another, and a score against time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.reading.figures import coincidence, grid, style
from cfgbench.reading.figures.labels import Label, place_labels
from cfgbench.reading.figures.style import NEUTRAL, Look
from cfgbench.reading.tables.compare import seconds_per_image, value, verdict
from cfgbench.reading.tables.results import Arm, Column, Results, scale_text
from cfgbench.scores.statistics import Estimate

PAIRS = (("fid", "inception_score"), ("recall", "precision"))  # x, y
PROMPTED = (("clip_score", "fid"), ("clip_score", "fd_dinov2"), ("clip_score", "fd_clip"))
MAX_PAIRS = 3  # side by side


class Spot(NamedTuple):
    """A cell of an arm in the plane."""

    x: float
    y: Estimate
    scale: float
    unguided: bool
    best: bool  # by the score that the figure is about


def quality_tradeoff(results: Results) -> Figure | None:
    """Scores against each other, such as FID against CLIP score: every method on one plot, scales beside the points."""
    shown, arms = pairs(results), [arm for arm in results.arms if len(arm.points) > 1]
    if not shown or not arms:
        return None
    lead = results.columns[0]
    planned = style.facets(arms, by_axis=False)
    panels, looks = grid.on_a_page(planned, len(shown), lead), style.looks(planned)
    made = grid.small_multiples(len(panels), len(shown), 2.6)
    drawn: list[tuple[Axes, dict[str, list[Spot]]]] = []
    for (x, y), axes in zip(shown, made.axes, strict=True):
        block = [{label: _scores(lead, x, y, arm) for label, arm in panel.lines.items()} for panel in panels]
        _tradeoffs(axes, results, (x, y), block, looks)
        drawn += zip(axes, block, strict=True)
    grid.set_titles(made, [panel.title for panel in panels])
    grid.share_labels(made)
    grid.tell_left_out(made.figure, len(panels), len(planned), grid.BEST_PANELS.format(lead.label))
    style.legend(made.figure, style.looks_in(looks, panels), [_unguided_key()])
    made.figure.draw_without_rendering()
    for ax, curves in drawn:
        _label_scales(ax, curves, looks)
    return made.figure


def pairs(results: Results) -> list[tuple[Column, Column]]:
    """The scores to show against each other, x and y: where there are prompts, first those that agree with them."""
    prompted = any(cell.prompts is not None or cell.made_elsewhere for cell in results.plan.cells)
    with_prompts, others = _measured(results, PROMPTED), _measured(results, PAIRS)
    return ([*with_prompts, *others] if prompted else others or with_prompts)[:MAX_PAIRS]


def quality_vs_seconds(results: Results) -> Figure | None:
    """FID against time per image: every scale faint, each curve's best marked with its interval and scale."""
    column = results.column("fid") or (results.columns[0] if results.columns else None)
    timed = [arm for arm in results.arms if any(seconds_per_image(results, record) for record in arm.records)]
    if column is None or not timed:
        return None
    planned = style.facets(timed, by_axis=False)
    panels, looks = grid.on_a_page(planned, 1, column), style.looks(planned)
    made = grid.small_multiples(len(panels), 1, 2.3)
    curves = [{label: _times(results, column, arm) for label, arm in panel.lines.items()} for panel in panels]
    _time_axes(made.axes[0], results, column, curves, looks)
    grid.set_titles(made, [panel.title for panel in panels])
    grid.share_labels(made)
    grid.tell_left_out(made.figure, len(panels), len(planned), grid.BEST_PANELS.format(column.label))
    starred = {label for panel in panels for label, arm in panel.lines.items() if arm.method == "unguided"}
    named = {label: look for label, look in style.looks_in(looks, panels).items() if label not in starred}
    style.legend(made.figure, named, [_unguided_key(), *_best_key()])
    made.figure.draw_without_rendering()
    for ax, lines in zip(made.axes[0], curves, strict=True):
        _label_best(ax, lines, looks)
    return made.figure


def _measured(results: Results, named: Sequence[tuple[str, str]]) -> list[tuple[Column, Column]]:
    found = ((results.column(x), results.column(y)) for x, y in named)
    return [(x, y) for x, y in found if x is not None and y is not None]


def _unguided_key() -> Line2D:
    return Line2D([], [], color=NEUTRAL, marker="*", ms=8, linestyle="", label="unguided")


def _best_key() -> list[Line2D]:
    best = Line2D([], [], color=NEUTRAL, marker="o", ms=5, linestyle="", label="best of its curve, with its scale")
    other = Line2D([], [], color=NEUTRAL, marker="o", ms=2.5, alpha=0.35, linestyle="", label="its other scales")
    return [best, other]


def _scores(lead: Column, x: Column, y: Column, arm: Arm) -> list[Spot]:
    best = verdict(lead, arm.records)
    spots = []
    for scale, record in arm.points:
        a, b = value(x, record), value(y, record)
        if a is not None and b is not None:
            unguided = record.cell.guidance.method == "unguided" and not arm.over_model
            spots.append(Spot(a.value, b, scale, unguided, best is not None and record.id == best.best.id))
    return spots


def _times(results: Results, column: Column, arm: Arm) -> list[Spot]:
    best = verdict(column, arm.records)
    spots = []
    for scale, record in arm.points:
        seconds, result = seconds_per_image(results, record), value(column, record)
        if seconds is not None and result is not None:
            unguided = record.cell.guidance.method == "unguided" and not arm.over_model
            is_best = best is not None and record.id == best.best.id
            spots.append(Spot(1e3 * seconds[0], result, scale, unguided, is_best))
    return spots


def _xy(spots: Sequence[Spot]) -> npt.NDArray[np.float64]:
    return np.array([(spot.x, spot.y.value) for spot in spots]).reshape(-1, 2)


def _tradeoffs(
    axes: Sequence[Axes],
    results: Results,
    pair: tuple[Column, Column],
    block: Sequence[Mapping[str, list[Spot]]],
    looks: Mapping[str, Look],
) -> None:
    """A panel for each of some sets of curves, with the same axes."""
    x, y = pair
    everything = [spot for curves in block for spots in curves.values() for spot in spots]
    for ax, curves in zip(axes, block, strict=True):
        beside = coincidence.places({label: _xy(spots) for label, spots in curves.items()})
        for label, spots in curves.items():
            look = looks[label]
            (line,) = ax.plot(
                *_xy(spots).T, color=look.colour, marker=look.marker, linestyle=look.dash, mew=0, zorder=2
            )
            coincidence.interleave(line, beside[label])
        _stars(ax, curves, looks)
        if x.entry.lower_is_better and style.wide([spot.x for spot in everything]):
            style.decimal_log(ax, "x")
        if y.entry.lower_is_better and style.wide([spot.y.value for spot in everything]):
            style.decimal_log(ax, "y")
        ax.margins(0.08)  # for the labels of the outermost points
        ax.set_xlabel(style.axis_label(x, results))
        ax.set_ylabel(style.axis_label(y, results))
    style.share_limits(axes)
    style.share_limits(axes, "x")


def _stars(ax: Axes, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    """The unguided cells, in the colour of their curve if they belong to one alone."""
    colours: dict[tuple[float, float], set[str]] = {}
    for label, spots in curves.items():
        for spot in spots:
            if spot.unguided:
                colours.setdefault((spot.x, spot.y.value), set()).add(looks[label].colour)
    for point, found in colours.items():
        ax.plot(
            *point,
            "*",
            ms=8,
            color=found.pop() if len(found) == 1 else NEUTRAL,
            mec="white",
            mew=0.4,
            zorder=4,
            clip_on=False,
        )


def _label_scales(ax: Axes, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    """Labels of the best scale, the ends, then the others, as far as there is room."""
    ranked: list[tuple[int, Label]] = []
    for label, spots in curves.items():
        for i, spot in enumerate(spots):
            rank = 0 if spot.best else 1 if i in (0, len(spots) - 1) else 2
            text = scale_text(spot.scale)
            ranked.append((rank, Label(spot.x, spot.y.value, text, looks[label].colour, needed=spot.best)))
    ordered = [label for _, label in sorted(ranked, key=lambda item: item[0])]
    place_labels(ax, ordered, [_xy(spots) for spots in curves.values() if spots])


def _time_axes(
    axes: Sequence[Axes],
    results: Results,
    column: Column,
    block: Sequence[Mapping[str, list[Spot]]],
    looks: Mapping[str, Look],
) -> None:
    """A panel for each of some sets of curves, with the same axes."""
    everything = [spot for curves in block for spots in curves.values() for spot in spots]
    sizes = sorted({found[1] for record in results.done if (found := seconds_per_image(results, record)) is not None})
    for ax, curves in zip(axes, block, strict=True):
        _times_of(ax, curves, looks)
        if column.entry.lower_is_better and style.wide([spot.y.value for spot in everything]):
            style.decimal_log(ax, "y")
        if style.wide([spot.x for spot in everything]):
            style.decimal_log(ax, "x")
        ax.set_xlabel(f"ms per image, batch {', '.join(map(str, sizes))}")
        ax.set_ylabel(style.axis_label(column, results))
    style.share_limits(axes)
    style.share_limits(axes, "x")


def _times_of(ax: Axes, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    _stars(ax, curves, looks)
    for label, spots in curves.items():
        look = looks[label]
        ax.plot(*_xy(spots).T, look.marker, color=look.colour, alpha=0.35, ms=2.5, markeredgewidth=0)
        for x, y in ((spot.x, spot.y) for spot in spots if spot.best):
            bars = None if y.interval is None else np.abs(np.array(y.interval) - y.value)[:, None]
            ax.errorbar(x, y.value, bars, color=look.colour, marker=look.marker, ms=4, elinewidth=0.9, capsize=2)


def _label_best(ax: Axes, curves: Mapping[str, list[Spot]], looks: Mapping[str, Look]) -> None:
    wanted: list[Label] = []
    obstacles: list[npt.NDArray[np.float64]] = []
    for label, spots in curves.items():
        obstacles += [_xy([spot]) for spot in spots]
        for spot in (spot for spot in spots if spot.best and len(spots) > 1):
            obstacles += [np.array([(spot.x, end) for end in spot.y.interval])] if spot.y.interval else []
            wanted.append(Label(spot.x, spot.y.value, scale_text(spot.scale), looks[label].colour, needed=True))
    if obstacles:
        place_labels(ax, wanted, obstacles)
