"""What later methods gain over CFG: ratios of FID that papers report, beside ours.

A ratio of two FIDs of one setting has no unit, but it depends on how well the baseline was tuned: networks of ours on
which CFG was not are left out, and of published baselines the marker says which are known to be.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.published import Gain, gains
from cfgbench.reading.figures import style
from cfgbench.reading.tables.methods import Comparison, compare_methods
from cfgbench.reading.tables.results import Results
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Estimate

PUBLISHED = "#777777"
CAPTION = (
    "Best FID of a method over the best FID of CFG; left of 1 the method is better. Ours: one point per trained "
    "network, settings cross-fitted, 95 % intervals of its samples. Published: {}. Data sets, encoders and "
    "models differ."
)


def published_gains(results: Results) -> Figure | None:
    """FID of each guidance method relative to tuned CFG: ours with intervals, published values beside them."""
    single = [row for row in compare_methods(results) if row.networks == 1]
    tuned = [row.contest for row in single if row.gap is None and row.tuned.is_tuned]
    compared = [row for row in single if row.contest in tuned]
    ours = {row.tuned.method: row for row in compared if row.gap is not None}
    if not any(map(gains, ours)):
        return None
    order = sorted(ours, key=lambda name: float(np.mean([_ratio(row, compared).value for row in _of(compared, name)])))
    figure = Figure(figsize=(style.width(), 1.3 + 0.26 * len(order)), layout="constrained")
    ax = figure.subplots()
    for y, name in enumerate(reversed(order)):
        _draw(ax, y, [_ratio(row, compared) for row in _of(compared, name)], gains(name))
    ax.axvline(1, color=style.NEUTRAL, linewidth=0.6, zorder=1)
    ax.set_yticks(range(len(order)), [ours[name].tuned.label for name in reversed(order)])
    ax.set_xlabel("FID / FID of tuned CFG")
    _legend(figure)
    sources = "; ".join(dict.fromkeys(gain.source for name in order for gain in gains(name))) or "none"
    figure.supxlabel(textwrap.fill(CAPTION.format(sources), int(style.width() / 0.048)), fontsize=5.5)
    return figure


def _of(rows: Sequence[Comparison], name: str) -> list[Comparison]:
    return [row for row in rows if row.tuned.method == name]


def _ratio(row: Comparison, rows: Sequence[Comparison]) -> Estimate:
    """FID of the method over that of CFG of the same contest; the error to first order, paired."""
    cfg = next(other.tuned.cross_fitted for other in rows if other.contest == row.contest and other.gap is None)
    own, ratio = row.tuned.cross_fitted, float(row.tuned.cross_fitted.mean() / cfg.mean())
    return statistics.mean_of(ratio + (own - ratio * cfg) / cfg.mean())


def _draw(ax: Axes, y: int, ours: Sequence[Estimate], published: Sequence[Gain]) -> None:
    for i, estimate in enumerate(ours):
        place = y + 0.16 * (i - (len(ours) - 1) / 2)
        low, high = estimate.interval or (estimate.value, estimate.value)
        ax.plot([low, high], [place, place], color=style.COLOURS[0], linewidth=1.0)
        ax.plot([estimate.value], [place], "o", color=style.COLOURS[0], markersize=3.2)
    for gain in published:
        face = PUBLISHED if gain.baseline_tuned else "white"
        ax.plot([gain.ratio], [y], "D", color=PUBLISHED, markerfacecolor=face, markersize=3.6, zorder=2.5)


def _legend(figure: Figure) -> None:
    points = [_handle("ours, each network", style.COLOURS[0], "o", style.COLOURS[0])]
    points.append(_handle("published, against tuned CFG", PUBLISHED, "D", PUBLISHED))
    points.append(_handle("published, tuning of CFG not stated", PUBLISHED, "D", "white"))
    figure.legend(handles=points, loc="outside upper center", ncols=1 if style.is_narrow() else 3)


def _handle(label: str, colour: str, marker: str, face: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, markerfacecolor=face, markersize=3.5, linestyle="", label=label)
