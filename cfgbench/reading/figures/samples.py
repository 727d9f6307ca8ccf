"""The same noise at every scale: rows are classes, columns are scales."""

import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cfgbench.reading.figures import style
from cfgbench.reading.tables.compare import verdict
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Arm, Point, Results, scale_text
from cfgbench.reading.tables.tuning import main_network
from cfgbench.records import CellRecord

MAX_ROWS, MAX_COLUMNS = 10, 10
MAX_ARMS = 4
MIN_SIDE = 0.19  # inches of a tile, so that the scales above it fit
GAP = 0.6  # columns between arms
GUTTER = "#56B4E9"  # between tiles, whose strokes are white on black or the other way round
LEFT, BOTTOM = 0.3, 0.03  # inches

Tiles = npt.NDArray[np.uint8]


def sample_grid(results: Results) -> Figure | None:
    """The first sample of every class at every scale, the arms side by side; None where samples are not images."""
    arms = _arms(results)
    if not arms:
        return None
    room = int((style.width() - 0.4) / MIN_SIDE) // len(arms)
    columns = [_points(results, arm, max(2, min(MAX_COLUMNS, room))) for arm in arms]
    rows = min(MAX_ROWS, columns[0][0].record.num_classes)
    wide = sum(map(len, columns)) + GAP * (len(arms) - 1)
    side = min(0.42, (style.width() - 0.4) / wide)
    titles = [
        _title(results.label(arm), arm.axis, len(points) * side) for arm, points in zip(arms, columns, strict=True)
    ]
    head = 0.2 + 0.09 * max(title.count("\n") + 1 for title in titles)
    figure = Figure(figsize=(0.4 + side * wide, head + side * rows + BOTTOM))
    left = LEFT
    for title, points in zip(titles, columns, strict=True):
        width = len(points) * side
        _block(_add_axes(figure, (left, BOTTOM, width, side * rows)), results, points, rows, title)
        left += width + GAP * side
    _row_names(figure, side, rows)
    return figure


def tiles(path: Path) -> Tiles:
    """A gallery strip as (n, height, height, 3) images."""
    with Image.open(path) as picture:
        strip = np.asarray(picture.convert("RGB"))
    side = strip.shape[0]
    return np.stack(np.split(strip, strip.shape[1] // side, axis=1))


def _arms(results: Results) -> list[Arm]:
    """Of each guidance method the curve with the best cell, if there are pictures; at most four.

    Of the network that most methods were tried on, for those that were: networks of other seeds are another comparison.
    """
    pictured = [arm for arm in results.arms if any(_strip(results, record).exists() for record in arm.records)]
    chosen = [arm for arm in pictured if len(arm.points) > 1] or pictured
    methods = dict.fromkeys(arm.method for arm in chosen)
    tried: dict[str, dict[str, list[Arm]]] = {}
    for arm in chosen:
        tried.setdefault(_network(arm), {}).setdefault(arm.method, []).append(arm)
    shared = max(tried.values(), key=len, default={})
    of_method = {method: [arm for arm in chosen if arm.method == method] for method in methods}
    return [_best_arm(results, shared.get(method, arms)) for method, arms in of_method.items()][:MAX_ARMS]


def _network(arm: Arm) -> str:
    return main_network(arm.records[-1].cell.model).label


def _best_arm(results: Results, arms: list[Arm]) -> Arm:
    column = results.columns[0] if results.columns else None
    found = verdict(column, [record for arm in arms for record in arm.records]) if column else None
    holders = (arm for arm in arms if found is not None and found.best.id in {record.id for record in arm.records})
    return next(holders, arms[0])


def _points(results: Results, arm: Arm, most: int) -> list[Point]:
    """Those scales that have pictures, thinned evenly to so many."""
    points = [point for point in arm.points if _strip(results, point.record).exists()]
    if len(points) <= most:
        return points
    return [points[round(i)] for i in np.linspace(0, len(points) - 1, most)]


def _strip(results: Results, record: CellRecord) -> Path:
    return results.folder / "records" / f"{record.id}.png"


def _title(label: str, axis: str, inches: float) -> str:
    """The method, wrapped to the width of its block, and the name of the scale."""
    symbol = "guidance scale s" if axis == "guidance_scale" else SCALE_SYMBOLS[axis]
    return textwrap.fill(label, max(12, int(inches / 0.045)), break_long_words=False) + f"\n{symbol}"


def _add_axes(figure: Figure, inches: tuple[float, float, float, float]) -> Axes:
    width, height = figure.get_size_inches()
    left, bottom, across, up = inches
    return figure.add_axes((left / width, bottom / height, across / width, up / height))


def _block(ax: Axes, results: Results, points: list[Point], rows: int, title: str) -> None:
    strips = [tiles(_strip(results, point.record))[:rows] for point in points]
    picture = np.concatenate([np.concatenate(list(strip), axis=0) for strip in strips], axis=1)
    side = strips[0].shape[1]
    ax.imshow(picture, interpolation="nearest", aspect="auto")
    for lines, count in ((ax.axhline, rows), (ax.axvline, len(points))):
        for i in range(1, count):
            lines(i * side - 0.5, color=GUTTER, linewidth=0.8)
    ax.set_yticks([])
    ax.set_xticks([side * (i + 0.5) - 0.5 for i in range(len(points))], [scale_text(point.scale) for point in points])
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, pad=1, labelsize=5)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=5.5, pad=8, linespacing=1.1)


def _row_names(figure: Figure, side: float, rows: int) -> None:
    width, height = figure.get_size_inches()
    for row in range(rows):
        y = (BOTTOM + side * (rows - row - 0.5)) / height
        figure.text((LEFT - 0.05) / width, y, str(row), fontsize=5.5, ha="right", va="center")
    middle = (BOTTOM + side * rows / 2) / height
    figure.text(0.04 / width, middle, "class", fontsize=5.5, rotation=90, ha="left", va="center")
