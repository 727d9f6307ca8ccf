"""Two or more results folders over the scale: a score of each, and its difference to the first folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from cfgbench.reading.comparison.contrasts import contrast
from cfgbench.reading.comparison.matching import Match, Pair, Side
from cfgbench.reading.figures import grid, style
from cfgbench.reading.figures.curves import Marks, Spot, draw_curve, tied_key
from cfgbench.reading.figures.style import Facet, Look
from cfgbench.reading.tables.compare import value, verdict
from cfgbench.reading.tables.results import Arm, Column
from cfgbench.scores.statistics import Estimate

ASIDE = 0.025  # inches between folders
FOLDER = "in"  # the field that tells equal curves of two folders apart


def side_by_side(pairs: Sequence[Pair]) -> Figure | None:
    """The first score of all folders over the scale, above its differences to the first folder."""
    columns = [column for column in pairs[0].columns if all(column in pair.columns for pair in pairs)]
    sides = [pairs[0].first, *(pair.second for pair in pairs)]
    arms = [_named(arm, side) for side in sides for arm in side.results.arms if len(arm.points) > 1]
    if not columns or not arms:
        return None
    planned = style.facets(arms, by_axis=True)
    panels, looks = grid.on_a_page(planned, 2, columns[0]), _looks(planned, [side.name for side in sides])
    figure, values, gaps = _grid([_has_matches(panel, pairs) for panel in panels])
    for top, bottom, panel in zip(values, gaps, panels, strict=True):
        _values(top, columns[0], panel, looks)
        _gaps(bottom, columns[0], panel, looks, pairs)
        bottom.set_visible(bool(bottom.containers))
        if bottom.get_visible():
            top.set_xlabel("")
    across = style.columns_for(len(panels))
    for top, bottom in zip(values[::across], gaps[::across], strict=True):
        top.set_ylabel(style.axis_label(columns[0], sides[0].results))
        bottom.set_ylabel(f"\N{MINUS SIGN} {sides[0].name}\n(filled: shown)")
    _share(values, columns[0])
    _share([ax for ax in gaps if ax.get_visible()], None)
    grid.tell_left_out(figure, len(panels), len(planned), grid.BEST_PANELS.format(columns[0].label))
    style.legend(figure, style.looks_in(looks, panels), tied_key())
    return figure


def _named(arm: Arm, side: Side) -> Arm:
    return replace(arm, fields={**arm.fields, FOLDER: side.name})


def _looks(panels: Sequence[Facet], folders: Sequence[str]) -> dict[str, Look]:
    """Colour and marker by curve, dashes by folder; a single curve has a colour for each folder."""
    arms = {label: arm for panel in panels for label, arm in panel.lines.items()}
    curves = {label: label.removesuffix(f"in {arm.fields[FOLDER]}") for label, arm in arms.items()}
    order = list(dict.fromkeys(curves.values()))
    by_method = len({arm.method for arm in arms.values()}) == len(order)
    looks: dict[str, Look] = {}
    for label, arm in arms.items():
        folder, curve = folders.index(arm.fields[FOLDER]), order.index(curves[label])
        look = style.method_look(arm.method) if by_method else style.numbered_look(curve)
        single = style.numbered_look(folder)
        looks[label] = single if len(order) == 1 else look._replace(dash=style.DASHES[folder % 4])
    return looks


def _has_matches(panel: Facet, pairs: Sequence[Pair]) -> bool:
    """Whether a panel has cells that answer to one of the first folder."""
    matched = {(pair.second.name, match.second.id) for pair in pairs for match in pair.matches}
    return any((arm.fields[FOLDER], record.id) in matched for arm in panel.lines.values() for record in arm.records)


def _grid(matched: Sequence[bool]) -> tuple[Figure, list[Axes], list[Axes]]:
    """Axes of the scores and, below each, of the differences; next to no room where a row has none."""
    panels = len(matched)
    across = style.columns_for(panels)
    down = -(-panels // across)
    rows = [any(matched[i * across : (i + 1) * across]) for i in range(down)]
    heights = [height for some in rows for height in (2.0, 1.3 if some else 0.01)]
    figure = Figure(figsize=(style.width(), min(style.PAGE, grid.HEAD + sum(heights))), layout="constrained")
    axes = figure.subplots(2 * down, across, squeeze=False, height_ratios=heights)
    tops = [axes[2 * (i // across), i % across] for i in range(down * across)]
    bottoms = [axes[2 * (i // across) + 1, i % across] for i in range(down * across)]
    for ax in (*tops[panels:], *bottoms[panels:]):
        ax.set_visible(False)
    return figure, tops[:panels], bottoms[:panels]


def _values(ax: Axes, column: Column, panel: Facet, looks: Mapping[str, Look]) -> None:
    best: list[float] = []
    for label, arm in panel.lines.items():
        found = verdict(column, arm.records)
        results = ((point, value(column, point.record)) for point in arm.points)
        spots = [
            Spot(panel.places[point.scale], result, point.record) for point, result in results if result is not None
        ]
        if found is not None:
            draw_curve(ax, spots, looks[label], Marks(found.best.id, {record.id for record in found.tied or ()}))
            best.append(arm.scale_of(found.best))
    _scale_axis(ax, panel, best)
    ax.set_title(panel.title)


def _gaps(ax: Axes, column: Column, panel: Facet, looks: Mapping[str, Look], pairs: Sequence[Pair]) -> None:
    """Points with 95 % intervals, filled where a difference is shown."""
    others = [pair.second.name for pair in pairs]
    matches = {(pair.second.name, match.second.id): match for pair in pairs for match in pair.matches}
    for label, arm in panel.lines.items():
        for scale, record in arm.points:
            match = matches.get((arm.fields[FOLDER], record.id))
            if match is not None:
                _gap(ax, column, panel.places[scale], match, looks[label], ASIDE * others.index(arm.fields[FOLDER]))
    _scale_axis(ax, panel, [])


def _gap(ax: Axes, column: Column, scale: float, match: Match, look: Look, aside: float) -> None:
    """A point, so many inches aside that folders do not hide each other."""
    found = contrast(column, match)
    gap = found.gap or (Estimate(0.0, None, None, None) if found.verdict == "equal" else None)
    if gap is None:
        return
    bars = None if gap.interval is None else np.abs(np.array(gap.interval) - gap.value)[:, None]
    fill = look.colour if found.verdict in ("better", "worse") else "white"
    place = ax.transData + ScaledTranslation(aside, 0, ax.figure.dpi_scale_trans)
    ax.errorbar(
        *(scale, gap.value, bars),
        color=look.colour,
        marker=look.marker,
        mfc=fill,
        elinewidth=0.8,
        transform=place,
    )
    ax.update_datalim([(scale, end) for end in gap.interval or (gap.value,)])
    ax.autoscale_view(scalex=False)


def _scale_axis(ax: Axes, panel: Facet, first: Sequence[float]) -> None:
    style.scale_axis(ax, [*panel.places], panel.axis, first, with_w=False)


def _share(axes: Sequence[Axes], column: Column | None) -> None:
    """The same y axis in all panels, logarithmic where a distance spans more than a factor of ten."""
    drawn = [y for ax in axes for line in ax.get_lines() for y in np.asarray(line.get_ydata(), dtype=float).ravel()]
    for ax in axes:
        if column is not None and column.entry.lower_is_better and style.wide(drawn):
            style.decimal_log(ax, "y")
        elif column is None:
            style.difference_axis(ax, [y for y in drawn if np.isfinite(y)])
    style.share_limits(axes)
