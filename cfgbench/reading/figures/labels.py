"""Texts beside points of a plot that cover neither a line, nor a marker, nor each other."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from cfgbench.reading.figures.style import NEUTRAL, inches

SIZE = 5.5  # points
BESIDE = (5, 8, 11)  # points from a marker to its text
APART = (16, 22, 28, 36, 46, 58)  # the same with a line between them
SAME_PLACE = 4.0  # points: nearer ones with one text share a label

Points = npt.NDArray[np.float64]


class Label(NamedTuple):
    """A text to write beside a point of the data."""

    x: float
    y: float
    text: str
    colour: str
    needed: bool = False  # written apart from its point, with a line to it, where there is no room beside it


class _Taken(NamedTuple):
    """What labels must not cover, in pixels."""

    lines: Points
    markers: Points
    boxes: list[Bbox]


def place_labels(ax: Axes, wanted: Sequence[Label], curves: Sequence[Points]) -> None:
    """Write texts beside their points, in order of importance; one without room is left out unless it is needed.

    Call it when the layout is final (`figure.draw_without_rendering()`); `curves` (n, 2) must stay uncovered.
    """
    pixels = [ax.transData.transform(curve) for curve in curves]
    taken = _Taken(np.concatenate([_dense(one) for one in pixels]), np.concatenate(pixels), [])
    for label in _merged(ax, wanted):
        box = _beside(ax, label, taken)
        if box is None and label.needed:
            box = _apart(ax, label, taken)
            taken = taken if box is None else taken._replace(lines=np.concatenate([taken.lines, _lead(ax, label, box)]))
        if box is not None:
            taken.boxes.append(box)
            x, y = ax.transData.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
            ax.text(x, y, label.text, fontsize=SIZE, color=label.colour, ha="center", va="center", in_layout=False)


def _merged(ax: Axes, wanted: Sequence[Label]) -> list[Label]:
    """Of labels with one text at one place the first, in no curve's colour."""
    kept: list[Label] = []
    places: list[Points] = []
    for label in wanted:
        place = ax.transData.transform((label.x, label.y))
        near = (
            i
            for i, (other, there) in enumerate(zip(kept, places, strict=True))
            if other.text == label.text and np.hypot(*(place - there)) < SAME_PLACE * ax.figure.dpi / 72
        )
        twin = next(near, None)
        if twin is None:
            kept.append(label)
            places.append(place)
        elif kept[twin].colour != label.colour:
            kept[twin] = kept[twin]._replace(colour=NEUTRAL)
    return kept


def _dense(points: Points) -> Points:
    """Points along a polyline in pixels, one every four."""
    parts = [points[:1]]
    for a, b in pairwise(points):
        steps = np.linspace(0, 1, 1 + max(1, int(np.hypot(*(b - a)) / 4)))[1:, None]
        parts.append(a + (b - a) * steps)
    return np.concatenate(parts)


def _beside(ax: Axes, label: Label, taken: _Taken) -> Bbox | None:
    """The nearest free box around a point that no other marker is nearer to."""
    point, others = _among(ax, label, taken)
    boxes = _free_boxes(ax, label, taken, BESIDE)
    return next((box for box in boxes if _gap(box, point[None])[0] <= _gap(box, others).min(initial=np.inf)), None)


def _apart(ax: Axes, label: Label, taken: _Taken) -> Bbox | None:
    """The free box farther away whose line to the point crosses no text and the fewest markers, then the nearest."""
    _, others = _among(ax, label, taken)
    found: list[tuple[int, Bbox]] = []
    for box in _free_boxes(ax, label, taken, APART):
        line = _dense(_line(ax, label, box))
        if not any(other.count_contains(line) for other in taken.boxes):
            gaps = np.hypot(*(others[:, None] - line).transpose(2, 0, 1)).min(1, initial=np.inf)
            found.append((int((gaps < 3 * ax.figure.dpi / 72).sum()), box))
    return min(found, key=lambda item: item[0])[1] if found else None


def _among(ax: Axes, label: Label, taken: _Taken) -> tuple[Points, Points]:
    """A point in pixels, and the markers elsewhere."""
    point = ax.transData.transform((label.x, label.y))
    return point, taken.markers[np.hypot(*(taken.markers - point).T) > ax.figure.dpi / 72]


def _lead(ax: Axes, label: Label, box: Bbox) -> Points:
    """Draws the line from a point to its text; where it runs, in pixels."""
    line = _line(ax, label, box)
    ends = ax.transData.inverted().transform(line).T
    ax.plot(*ends, color=label.colour, linewidth=0.4, scalex=False, scaley=False, in_layout=False)
    return _dense(line)


def _line(ax: Axes, label: Label, box: Bbox) -> Points:
    """From a point to just before the nearest place of a box."""
    point = ax.transData.transform((label.x, label.y))
    around = box.padded(ax.figure.dpi / 72)
    return np.array([point, np.clip(point, around.min, around.max)])


def _free_boxes(ax: Axes, label: Label, taken: _Taken, distances: Sequence[int]) -> Iterator[Bbox]:
    """Boxes around a point, nearest first, that cover nothing and lie inside the axes."""
    point = ax.transData.transform((label.x, label.y))
    dot = ax.figure.dpi / 72
    half_width, half_height = 36 * inches(label.text, SIZE) * dot, 3.0 * dot
    frame = ax.get_window_extent()
    for distance, angle in ((d, a) for d in distances for a in np.arange(0, 2 * np.pi, np.pi / 8)):
        cx = point[0] + np.cos(angle) * (distance * dot + half_width)
        cy = point[1] + np.sin(angle) * (distance * dot + half_height * 0.5)
        box = Bbox.from_extents(cx - half_width, cy - half_height, cx + half_width, cy + half_height)
        near = box.padded(1.5 * dot)
        inside = bool(np.all(near.min >= frame.min) and np.all(box.max <= frame.max))
        if inside and near.count_contains(taken.lines) == 0 and near.count_overlaps(taken.boxes) == 0:
            yield box


def _gap(box: Bbox, points: Points) -> Points:
    """Distances of points (n, 2) from a box."""
    return np.asarray(np.hypot(*np.maximum(0, np.maximum(box.min - points, points - box.max)).T))
