"""What half precision or compiling changes: differences between curves that else lie on one another."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.reading.figures import coincidence, grid, style
from cfgbench.reading.figures.coincidence import Place
from cfgbench.reading.figures.curves import ROW, scores_of
from cfgbench.reading.figures.style import NEUTRAL, Look
from cfgbench.reading.tables.compare import difference
from cfgbench.reading.tables.results import Arm, Column, Fields, Results, describe, varying
from cfgbench.registry import DTYPES
from cfgbench.scores.statistics import Estimate

FORMATS = ("dtype", "state_dtype", "execution")  # what this figure compares
PRECISE_FIRST = ("fp64", *(name for name in DTYPES if name != "fp64"))


class Group(NamedTuple):
    """Arms that differ in how networks compute only: the most precise as it is, and the others, by label."""

    title: str
    reference: Arm
    baseline: str  # the label of the reference
    others: Mapping[str, Arm]


def dtype_effect(results: Results) -> Figure | None:
    """Paired differences at each scale to the most precise dtype, as it is, with 95 % intervals: what others change."""
    columns, planned = scores_of(results), _groups(results)
    if not planned or not columns:
        return None
    groups = [planned[i] for i in grid.fitting([0.0] * len(planned), len(columns))]
    looks = _looks(results, planned)
    made = grid.small_multiples(len(groups), len(columns), ROW)
    for column, axes in zip(columns, made.axes, strict=True):
        drawn = [gap for ax, group in zip(axes, groups, strict=True) for gap in _panel(ax, column, group, looks)]
        for ax, group in zip(axes, groups, strict=True):
            ax.set_ylabel(style.axis_label(column, results, f" \N{MINUS SIGN} {group.baseline}"))
            style.difference_axis(ax, drawn)
        style.share_limits(axes)
    grid.set_titles(made, [group.title for group in groups])
    grid.share_labels(made)
    grid.tell_left_out(made.figure, len(groups), len(planned), "that come first")
    shown = Line2D([], [], color=NEUTRAL, marker="o", linestyle="", label="filled: the interval excludes zero")
    style.legend(made.figure, looks, [shown])
    return made.figure


def _groups(results: Results) -> list[Group]:
    """Arms with more than one scale, together where they differ in how networks compute only; none that is alone."""
    found: dict[tuple[tuple[str, str], ...], list[Arm]] = {}
    for arm in results.arms:
        if len(arm.points) > 1:
            found.setdefault(tuple((k, v) for k, v in arm.fields.items() if k not in FORMATS), []).append(arm)
    kept = {key: arms for key, arms in found.items() if len(arms) > 1}
    names = varying([dict(key) for key in kept])
    return [_group(describe(dict(key), names), arms) for key, arms in kept.items()]


def _group(title: str, arms: Sequence[Arm]) -> Group:
    reference, names = min(arms, key=_coarseness), varying([arm.fields for arm in arms])
    labels = {id(arm): _format(arm.fields, names) for arm in arms}
    others = {labels[id(arm)]: arm for arm in arms if arm is not reference}
    return Group(title, reference, labels[id(reference)], others)


def _looks(results: Results, groups: Sequence[Group]) -> dict[str, Look]:
    """A look for every format: that of its curve in the other figures where these tell formats apart."""
    panels = style.facets([arm for arm in results.arms if len(arm.points) > 1], by_axis=True)
    known = style.looks(panels)
    elsewhere = {id(arm): known[label] for panel in panels for label, arm in panel.lines.items()}
    firsts: dict[str, Arm] = {}
    for label, arm in (item for group in groups for item in group.others.items()):
        firsts.setdefault(label, arm)
    found = {label: elsewhere[id(arm)] for label, arm in firsts.items()}
    if len(set(found.values())) == len(found):
        return found
    return {label: style.numbered_look(1 + i) for i, label in enumerate(found)}


def _coarseness(arm: Arm) -> tuple[int, bool, bool]:
    state = arm.fields.get("state_dtype", "default")
    return PRECISE_FIRST.index(arm.fields["dtype"]), state != "default", "execution" in arm.fields


def _format(fields: Fields, names: Sequence[str]) -> str:
    """`bf16`, `bf16 compile`, or `bf16, state bf16` where the sampler's state is not kept as usual.

    `compile` or `eager` where nothing else varies.
    """
    execution, state = fields.get("execution", "eager"), fields.get("state_dtype", "default")
    if [*names] == ["execution"]:
        return execution
    text = fields["dtype"] if execution == "eager" else f"{fields['dtype']} {execution}"
    return text if state == "default" else f"{text}, state {state}"


def _panel(ax: Axes, column: Column, group: Group, looks: Mapping[str, Look]) -> list[float]:
    """Draws the differences of a group; their values."""
    reference = {point.scale: point.record for point in group.reference.points}
    drawn: list[float] = []
    for i, (label, arm) in enumerate(group.others.items()):
        pairs = [
            (scale, difference(column, record, reference[scale])) for scale, record in arm.points if scale in reference
        ]
        gaps = [(scale, gap) for scale, gap in pairs if gap is not None]
        drawn += [gap.value for _, gap in gaps]
        _gaps(ax, gaps, looks[label], Place(i, len(group.others)).aside)
    style.scale_axis(ax, sorted(reference), group.reference.axis, [], with_w=not group.title)
    return drawn


def _gaps(ax: Axes, gaps: Sequence[tuple[float, Estimate]], look: Look, aside: float) -> None:
    """Points with intervals, joined by a thin line, filled where the interval excludes zero."""
    for scale, gap in gaps:
        low, high = gap.interval or (gap.value, gap.value)
        fill = look.colour if gap.interval is not None and not low <= 0 <= high else "white"
        bars = ax.vlines(scale, low, high, color=look.colour, linewidth=0.8, zorder=2)
        point = ax.plot(scale, gap.value, look.marker, color=look.colour, mfc=fill, mew=0.8, zorder=3)
        coincidence.set_aside(ax, [bars, *point], aside)
    line = ax.plot([scale for scale, _ in gaps], [gap.value for _, gap in gaps], color=look.colour, linewidth=0.4)
    coincidence.set_aside(ax, line, aside)
