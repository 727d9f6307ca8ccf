"""What all figures share: sizes, colours, which arms go into which panel, the scale axis, the legend."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, Locator, NullFormatter, NullLocator

from cfgbench.cell import number
from cfgbench.reading.tables.results import Arm, Column, Results, describe, drawable, off, scale_text, varying
from cfgbench.registry import METHODS

SINGLE, DOUBLE = 3.3, 6.9  # inches: one column of a paper, two columns
WIDTHS = {"single": SINGLE, "double": DOUBLE}
PAGE = 9.2  # inches: the most that a figure may be tall
LEGEND_ROW = 0.125  # inches
OUTER_MARGIN = 0.04  # of the span of data, beyond its ends where panels share an axis
MAX_LINES = 8  # in a panel; more arms make more panels
STYLE: dict[str, object] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.4,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")  # Okabe & Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
Dash = Literal["-", "--", ":", "-."]
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
METHOD_LOOKS = {"cfg": 0, "classifier": 1, "classifier_uncond": 2, "truncation": 3}
NEUTRAL = "#666666"  # unguided


class Look(NamedTuple):
    """How an arm is drawn, the same in every panel."""

    colour: str
    marker: str
    dash: Dash


@dataclass(frozen=True)
class Facet:
    """The arms of one panel by the label of their line, and what they share."""

    title: str
    axis: str
    lines: Mapping[str, Arm]

    @property
    def places(self) -> dict[float, float]:
        """Where its scales lie on their axis."""
        return drawable(point.scale for arm in self.lines.values() for point in arm.points)


@contextmanager
def applied(inches: float = DOUBLE) -> Iterator[None]:
    """The house style, for making and for saving figures that are at most so wide."""
    size = {"figure.figsize": (inches, inches / 2)}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, **size}):  # type: ignore[dict-item]
        yield


def width() -> float:
    """The most inches that a figure may be wide."""
    return float(matplotlib.rcParams["figure.figsize"][0])


def is_narrow() -> bool:
    """Whether there is room for one column of panels with their own labels, and no more."""
    return width() < (SINGLE + DOUBLE) / 2


def facets(arms: Sequence[Arm], by_axis: bool) -> list[Facet]:
    """Arms in panels of at most eight lines, split by the settings with the most values."""
    names = varying([arm.fields for arm in arms])
    split: list[str] = []
    while True:
        groups: dict[tuple[str | None, ...], list[Arm]] = {}
        for arm in arms:
            key = (arm.axis if by_axis else None, *(arm.fields.get(name) for name in split))
            groups.setdefault(key, []).append(arm)
        rest = [name for name in names if name not in split]
        if not rest or max(map(len, groups.values()), default=0) <= MAX_LINES:
            return [_facet(groups[key], split, rest) for key in _in_order(list(groups))]
        split.append(max(rest, key=lambda name: (len({arm.fields.get(name) for arm in arms}), name != "method")))


def _in_order(keys: Sequence[tuple[str | None, ...]]) -> list[tuple[str | None, ...]]:
    """Settings in ascending order where all are numbers, else as they came."""
    places = [_places([key[i] for key in keys]) for i in range(len(keys[0]))] if keys else []
    return [keys[k] for k in sorted(range(len(keys)), key=lambda k: tuple(place[k] for place in places))]


def _places(values: Sequence[str | None]) -> list[float]:
    try:
        return [float(value or "") for value in values]
    except ValueError:
        return [float(values.index(value)) for value in values]


def looks(panels: Sequence[Facet]) -> dict[str, Look]:
    """A look for every line label: by method, with dashes for more lines of one, else in order."""
    methods = {label: arm.fields["method"] for panel in panels for label, arm in panel.lines.items()}
    lines = Counter(methods.values())
    if len(methods) > 1 and (len(lines) == 1 or max(lines.values()) > len(DASHES)):
        return {label: numbered_look(i) for i, label in enumerate(methods)}
    found: dict[str, Look] = {}
    for label, method in methods.items():
        look, rank = method_look(method), sum(methods[other] == method for other in found)
        found[label] = look._replace(dash=DASHES[(DASHES.index(look.dash) + rank) % len(DASHES)])
    return found


def looks_in(chosen: Mapping[str, Look], panels: Sequence[Facet]) -> dict[str, Look]:
    """The looks of the lines of these panels."""
    return {label: look for label, look in chosen.items() if any(label in panel.lines for panel in panels)}


def method_look(method: str) -> Look:
    """The look of a guidance method, the same in every figure; one for what is a model's own."""
    if method not in METHODS:
        return numbered_look(4)
    known = METHOD_LOOKS.get(method)
    if known is None and method in ("unguided", "unconditional"):
        return Look(NEUTRAL, "*", "-")
    return numbered_look(3 + list(METHODS).index(method) if known is None else known)  # from 5: the first two are grey


def numbered_look(index: int) -> Look:
    """The look of the index-th of several lines; 32 differ."""
    return Look(COLOURS[index % 8], MARKERS[index % 8], DASHES[index // 8 % 4])


def columns_for(panels: int) -> int:
    """How many panels lie side by side: all of a few, else the number that leaves the fewest gaps."""
    few, many = (2, (3, 2)) if is_narrow() else (4, (5, 4, 3))
    return panels if panels <= few else min(many, key=lambda across: -panels % across)


def inches(text: str, points: float) -> float:
    """How wide a line of text is at a font size."""
    return _text_width(text) * points


def axis_label(column: Column, results: Results, suffix: str = "") -> str:
    """`FID ↓`, with its sample count where it is not corrected for it."""
    arrow = "\N{DOWNWARDS ARROW}" if column.entry.lower_is_better else "\N{UPWARDS ARROW}"
    if column.entry.headline == "bias_corrected" and not column.corrected:
        counts = sorted({record.num_samples for record in results.done})
        return f"{column.label} at N = {', '.join(map(str, counts))}{suffix} {arrow}"
    return f"{column.label}{suffix} {arrow}"


def scale_axis(ax: Axes, scales: Sequence[float], name: str, first: Sequence[float], with_w: bool) -> None:
    """An x axis that spreads values near "off"; labels the scales for which there is room, `first` before others."""
    zero = off(name)
    drawn = drawable(scales)
    ordered = [*drawn.values()]
    gaps = np.diff(ordered)
    spread = len(gaps) > 0 and gaps.max() > 4 * gaps.min()
    if spread:
        ax.set_xscale("function", functions=(lambda x: _root(x - zero), lambda y: y * np.abs(y) + zero))
    _limits(ax, ordered)
    two = with_w and name == "guidance_scale"
    texts = {x: f"{number(s)}\n{_signed(s - 1)}" if two else scale_text(s) for s, x in drawn.items()}
    labelled = _with_room(ax, texts, [*(drawn.get(scale, scale) for scale in first), zero, ordered[0], ordered[-1]])
    ax.xaxis.set_major_locator(FixedLocator(labelled))
    ax.xaxis.set_major_formatter(FixedFormatter([texts[scale] for scale in labelled]))
    ax.xaxis.set_minor_locator(FixedLocator(ordered))
    ax.xaxis.set_minor_formatter(NullFormatter())
    label = "guidance scale s" if name == "guidance_scale" else name.replace("_", " ")
    label += " (\N{SQUARE ROOT} axis)" if spread else ""
    ax.set_xlabel(f"{label}; below it w = s \N{MINUS SIGN} 1" if two else label)


def decimal_log(ax: Axes, which: str) -> None:
    """A logarithmic axis with ticks at 1, 2, 5, 10, written as people do."""
    ax.set_yscale("log") if which == "y" else ax.set_xscale("log")
    axis = ax.yaxis if which == "y" else ax.xaxis
    axis.set_major_locator(DecimalLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())


class DecimalLocator(Locator):
    """Ticks of a logarithmic axis at 1, 2, 5, 10; more or fewer where the range or the room asks for it."""

    MOST = 8
    MULTIPLES = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))

    def __call__(self) -> list[float]:
        low, high = self.axis.get_view_interval() if self.axis else (1.0, 10.0)
        return self.tick_values(low, high)

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """The densest choice with room for its labels."""
        room = min(self.MOST, max(2, self.axis.get_tick_space())) if self.axis else self.MOST
        decades = range(int(np.floor(np.log10(vmin))), int(np.ceil(np.log10(vmax))) + 1)
        choices = [[m * 10.0**d for d in decades for m in multiples] for multiples in self.MULTIPLES]
        choices += [[10.0**d for d in decades if d % step == 0] for step in (2, 3, 4)]
        inside = [[tick for tick in choice if vmin <= tick <= vmax] for choice in choices]
        return next((ticks for ticks in inside if len(ticks) <= room), inside[-1])


def difference_axis(ax: Axes, values: Sequence[float]) -> None:
    """A y axis for differences, with a line at zero; of very unequal sizes symlog: linear around zero, then log."""
    ax.axhline(0, color=NEUTRAL, linewidth=0.6, zorder=1)
    sizes = sorted(abs(value) for value in values if value)
    if sizes and sizes[-1] > 20 * sizes[len(sizes) // 4]:
        ax.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(np.median(sizes))))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", "\N{MINUS SIGN}")))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylabel(f"{ax.get_ylabel()} (symlog)" if ax.get_ylabel() else "")


def share_limits(axes: Sequence[Axes], which: str = "y") -> None:
    """The same limits of one axis for all, with room beyond the outermost data of all."""
    transform = (axes[0].yaxis if which == "y" else axes[0].xaxis).get_transform()
    shown = transform.transform(np.array([ax.get_ylim() if which == "y" else ax.get_xlim() for ax in axes]))
    ends = np.array([ax.dataLim.intervaly if which == "y" else ax.dataLim.intervalx for ax in axes])
    log = (axes[0].get_yscale() if which == "y" else axes[0].get_xscale()) == "log"
    data = transform.transform(ends[np.isfinite(ends) & ((ends > 0) | (not log))])
    room = OUTER_MARGIN * np.ptp(data) if data.size else 0.0
    outer = np.array([min(shown.min(), *(data - room)), max(shown.max(), *(data + room))])
    low, high = transform.inverted().transform(outer)
    for ax in axes:
        ax.set_ylim(low, high) if which == "y" else ax.set_xlim(low, high)


def wide(values: Sequence[float]) -> bool:
    """Whether positive values span more than a factor of ten, so that a logarithmic axis shows more."""
    return len(values) > 0 and min(values) > 0 and max(values) > 10 * min(values)


def legend(figure: Figure, chosen: Mapping[str, Look], extra: Sequence[Artist] = ()) -> None:
    """One legend above all panels, in as many columns as the width allows; the figure grows by its height."""
    lines = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, label=label)
        for label, look in chosen.items()
    ]
    handles = [*lines, *extra]
    columns = legend_columns([str(handle.get_label()) for handle in handles], figure.get_figwidth())
    figure.set_figheight(min(PAGE, figure.get_figheight() + LEGEND_ROW * -(-len(handles) // columns)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def legend_columns(labels: Sequence[str], room: float) -> int:
    """The most columns, filled one after the other, that are no wider together than the room in inches."""
    widths = [0.36 + inches(label, 6) for label in labels]
    for columns in range(min(6, len(labels)), 1, -1):
        parts = np.array_split(np.array(widths), columns)  # as a legend fills its columns
        if sum(part.max() for part in parts) <= room - 0.1:
            return columns
    return 1


@lru_cache(maxsize=4096)
def _text_width(text: str) -> float:
    """Inches at a font size of one point."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=100), ismath=False)
    return float(width) / 7200


def _facet(arms: Sequence[Arm], split: Sequence[str], rest: Sequence[str]) -> Facet:
    lines = {describe(arm.fields, rest) or describe(arm.fields, ["method"]): arm for arm in arms}
    unset = f"no {', '.join(split)}" if split else ""
    return Facet(describe(arms[0].fields, split) or unset, arms[0].axis, lines)


def _root(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed(value: float) -> str:
    return number(round(value, 9)).replace("-", "\N{MINUS SIGN}")


def _limits(ax: Axes, ordered: Sequence[float]) -> None:
    """A margin of 4 % of the transformed axis at both ends."""
    transform = ax.xaxis.get_transform()
    low, high = np.asarray(transform.transform(np.array([ordered[0], ordered[-1]])))
    margin = 0.05 * (high - low) or 0.1
    ends = np.asarray(transform.inverted().transform(np.array([low - margin, high + margin])))
    ax.set_xlim(float(ends[0]), float(ends[1]))


def _with_room(ax: Axes, texts: Mapping[float, str], first: Sequence[float]) -> list[float]:
    """The scales whose labels fit side by side, at 0.05 inches a character."""
    figure = ax.get_figure(root=True)
    width = (figure.get_figwidth() if figure else SINGLE) * ax.get_position().width * 0.9
    transform = ax.transData + ax.transAxes.inverted()
    place = {scale: float(transform.transform((scale, 0.0))[0]) * width for scale in texts}
    half = {scale: 0.025 * (1 + max(map(len, text.split("\n")))) for scale, text in texts.items()}
    kept: list[float] = []
    for scale in dict.fromkeys([*first, *texts]):
        if scale in texts and all(abs(place[scale] - place[k]) > half[scale] + half[k] for k in kept):
            kept.append(scale)
    return sorted(kept)
