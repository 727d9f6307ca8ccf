"""Samples of a model of the plane at every scale, over the density they should have."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfgbench.cell import ModelRef, number
from cfgbench.reading.figures import style
from cfgbench.reading.figures.style import COLOURS
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Arm, Results
from cfgbench.store import Store
from cfgbench.testbeds import mixtures

MAX_ROWS = 6
MIN_SIDE = 0.8  # inches of a tile, so that its points can be told apart
CONTOURS = (2.0, 1.0)  # of each class's density, in standard deviations of a lone Gaussian
RESOLUTION = 120  # of the density's grid
MARGIN = 0.03  # of the frame, around all points
LEFT, GAP, ROW_HEAD = 0.02, 0.04, 0.25  # inches

Floats = npt.NDArray[np.float64]


class Frame(NamedTuple):
    """A square of the plane."""

    x: float
    y: float
    half: float  # of its side


class Cloud(NamedTuple):
    """A cell's points (n, 2), their classes (n,), and where it lies on its arm."""

    points: Floats
    labels: npt.NDArray[np.int_]
    scale: float
    model: ModelRef


def density_grid(results: Results) -> Figure | None:
    """A row per curve, a column per scale: samples coloured by class over the contours of the true density.

    None where samples are not points of the plane.
    """
    room = int((style.width() - 2 * LEFT) / MIN_SIDE)
    rows = [(arm, clouds) for arm in results.arms if (clouds := _clouds(results, arm, room))][:MAX_ROWS]
    if not rows:
        return None
    columns = max(len(clouds) for _, clouds in rows)
    side = min(1.6, (style.width() - 2 * LEFT) / columns)
    figure = Figure(figsize=(2 * LEFT + side * columns, (ROW_HEAD + side) * len(rows)))
    frame = _frame([cloud for _, clouds in rows for cloud in clouds])
    for row, (arm, clouds) in enumerate(rows):
        top = figure.get_figheight() - row * (ROW_HEAD + side)
        _write(figure, LEFT, top - 0.02, f"{results.label(arm)}: {SCALE_SYMBOLS[arm.axis]} =")
        for column, cloud in enumerate(clouds):
            left = LEFT + column * side
            ax = _add_axes(figure, left + GAP / 2, top - ROW_HEAD - side + GAP / 2, side - GAP)
            _tile(ax, cloud, frame)
            ax.set_title(number(cloud.scale), fontsize=6, pad=2)
    return figure


def _clouds(results: Results, arm: Arm, most: int) -> list[Cloud]:
    """The cells of an arm that have points, thinned evenly to so many."""
    store = Store(results.folder)
    found = [(point, kept) for point in arm.points if (kept := store.points(point.record.id)) is not None]
    clouds = [Cloud(*kept, point.scale, point.record.cell.model) for point, kept in found if len(kept[0])]
    if len(clouds) <= most:
        return clouds
    return [clouds[round(i)] for i in np.linspace(0, len(clouds) - 1, most)]


def _frame(clouds: Sequence[Cloud]) -> Frame:
    """The square around all points, so that every tile shows the same part of the plane."""
    points = np.concatenate([cloud.points for cloud in clouds])
    low, high = points.min(0), points.max(0)
    x, y = (low + high) / 2
    return Frame(float(x), float(y), float((high - low).max() or 1.0) * (0.5 + MARGIN))


def _tile(ax: Axes, cloud: Cloud, frame: Frame) -> None:
    if cloud.model.name == "gaussians":
        named = {key: str(value) for key, value in cloud.model.parameters.items()}
        _contours(ax, mixtures.mixture(**named), frame)
    for label in np.unique(cloud.labels):
        x, y = cloud.points[cloud.labels == label].T
        ax.plot(x, y, "o", color=_colour(label), ms=1.2, mew=0, alpha=0.8, zorder=2)
    ax.set_xlim(frame.x - frame.half, frame.x + frame.half)
    ax.set_ylim(frame.y - frame.half, frame.y + frame.half)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color("#bbbbbb")
    ax.spines[:].set_linewidth(0.4)


def _contours(ax: Axes, mixture: mixtures.Mixture, frame: Frame) -> None:
    xs, ys = (np.linspace(c - frame.half, c + frame.half, RESOLUTION) for c in (frame.x, frame.y))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    for label, parts in enumerate(mixture.classes):
        density = mixtures.log_density(parts, grid).reshape(RESOLUTION, RESOLUTION)
        peak = float(mixtures.log_density(parts, parts.means).max())
        levels = [peak - 0.5 * k**2 for k in CONTOURS]
        ax.contour(xs, ys, density, levels, colors=_colour(label), linewidths=0.4, linestyles="solid", zorder=1)


def _colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)]


def _add_axes(figure: Figure, left: float, bottom: float, side: float) -> Axes:
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, side / width, side / height))


def _write(figure: Figure, left: float, top: float, text: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, top / height, text, fontsize=6.5, ha="left", va="top")
