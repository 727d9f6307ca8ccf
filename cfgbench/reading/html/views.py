"""The page's data as frozen values, whose field names are the keys of its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cfgbench.reading.figures.style import Look
from cfgbench.reading.html.extras import Failure, HealthRow
from cfgbench.reading.tables.rows import Row
from cfgbench.reading.tables.text import Table


@dataclass(frozen=True)
class ColumnView:
    """One score."""

    name: str
    label: str
    axis: str  # its label on an axis
    lower_is_better: bool
    log: bool  # drawn on a logarithmic axis
    identity: str


@dataclass(frozen=True)
class ScoreView:
    """A cell's value in a column."""

    value: float
    interval: tuple[float, float] | None
    text: str
    gain: str | None  # the paired difference to the unguided cell
    noise: bool  # whether the gain's interval holds zero


@dataclass(frozen=True)
class CellView:
    """A finished cell."""

    title: str
    num_samples: int
    tiles: int
    num_classes: int
    scores: Mapping[str, ScoreView]
    absent: Mapping[str, str]
    cost: float | None
    facts: Sequence[tuple[str, str]]
    unguided: str | None


@dataclass(frozen=True)
class PointsView:
    """A cell's first samples in the plane and their classes."""

    points: Sequence[Sequence[float]]
    labels: Sequence[int]


@dataclass(frozen=True)
class ArmView:
    """A curve and how it is drawn."""

    label: str
    axis: str
    look: Look
    scales: Sequence[float | None]  # None: off, at infinity
    places: Sequence[float]  # of the scales on the axis, spread out near "off"
    cells: Sequence[str]
    best: Mapping[str, str]  # by column
    tied: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class PanelView:
    """Curves that share axes: their labels here and their places in `arms`."""

    title: str
    axis: str
    lines: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class PageData:
    """All of the page but its pictures and CSV files."""

    columns: Sequence[ColumnView]
    explored: Sequence[str]
    cells: Mapping[str, CellView]
    points: Mapping[str, PointsView]
    arms: Sequence[ArmView]
    start: int  # the arm that the slider shows first
    panels: Sequence[PanelView]  # of curves over the scale
    planes: Sequence[PanelView]  # of trade-offs
    pairs: Sequence[tuple[str, str]]
    cost: str  # what `CellView.cost` is
    off: Mapping[str, float]  # of the axes: the scale that adds nothing
    symbols: Mapping[str, str]  # of the axes
    colours: Sequence[str]
    methods: Mapping[str, str]  # names and labels
    speed: Sequence[Row]
    tables: Mapping[str, Table]
    health: Sequence[HealthRow]
    failures: Sequence[Failure]
    notes: Sequence[str]
    provenance: Sequence[str]
    command: str | None
