"""Curves that lie on one another, which a reader would take for one: found, and set apart."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.transforms import ScaledTranslation

from cfgbench.reading.figures import style
from cfgbench.reading.figures.style import NEUTRAL

TOLERANCE = 0.015  # of the range of all curves: about a marker's radius
ASIDE = 0.035  # inches between curves that would coincide
TWO_BARS = Path([(-0.3, -0.8), (-0.3, 0.8), (0.3, -0.8), (0.3, 0.8)], [Path.MOVETO, Path.LINETO] * 2)
DASH = 3.5  # line widths

Points = npt.NDArray[np.float64]


class Place(NamedTuple):
    """A curve among those that coincide with it."""

    rank: int
    curves: int

    @property
    def aside(self) -> float:
        """Inches to the right of where the data are."""
        return ASIDE * (self.rank - (self.curves - 1) / 2)


def places(curves: Mapping[str, Points]) -> dict[str, Place]:
    """The place of every curve (n, 2) among those that it coincides with, all of it or of them."""
    scaled = _unit_square({label: curve for label, curve in curves.items() if len(curve)})
    groups: list[list[str]] = []
    for label, curve in scaled.items():
        group = next((group for group in groups if _coincide(scaled[group[0]], curve)), None)
        if group is None:
            groups.append([label])
        else:
            group.append(label)
    alone = dict.fromkeys(curves, Place(0, 1))
    return alone | {label: Place(i, len(group)) for group in groups for i, label in enumerate(group)}


def aside_key(drawn: Iterable[Place]) -> list[Line2D]:
    """The legend entry that tells of curves moved aside, if any are."""
    moved = any(place.curves > 1 for place in drawn)
    look = Line2D([], [], color=NEUTRAL, marker=TWO_BARS, ms=6, linestyle="")
    look.set_label("curves that coincide, drawn side by side")
    return [look] if moved else []


def set_aside(ax: Axes, artists: Sequence[Artist], inches: float) -> None:
    """Moves what is drawn to the right, for curves over settings, whose place is told by the ticks."""
    if inches:
        for artist in artists:
            artist.set_transform(artist.get_transform() + ScaledTranslation(inches, 0, ax.figure.dpi_scale_trans))


def interleave(line: Line2D, place: Place) -> None:
    """Dashes that let the lines below show between them, and a smaller marker on theirs, for curves of two scores."""
    line.set_markersize(float(line.get_markersize()) + 1.4 * (place.curves - 1 - place.rank))
    if place.rank:
        line.set_linestyle((DASH * place.rank, (DASH, DASH * (place.curves - 1))))


def _unit_square(curves: Mapping[str, Points]) -> dict[str, Points]:
    """Curves as a plot shows them: from 0 to 1 along both axes, logarithmic where values span a factor of ten."""
    if not curves:
        return {}
    axes = np.concatenate(list(curves.values())).T
    logs = [style.wide(values.tolist()) for values in axes]
    scaled = {
        label: np.stack([np.log(v) if log else v for v, log in zip(c.T, logs, strict=True)], 1)
        for label, c in curves.items()
    }
    everything = np.concatenate(list(scaled.values()))
    low, span = everything.min(0), np.ptp(everything, 0)
    return {label: (curve - low) / np.where(span > 0, span, 1) for label, curve in scaled.items()}


def _coincide(a: Points, b: Points) -> bool:
    """Whether every point of one lies on the line of the other."""
    return min(_distance(a, b), _distance(b, a)) < TOLERANCE


def _distance(points: Points, line: Points) -> float:
    """The largest distance of a point from a polyline."""
    parts = [line[:1], *(a + (b - a) * np.linspace(0, 1, 65)[1:, None] for a, b in pairwise(line))]
    dense = np.concatenate(parts)
    return float(np.hypot(*(points[:, None] - dense).transpose(2, 0, 1)).min(1).max())
