"""Latency and memory of every cost class."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfgbench.reading.figures import style
from cfgbench.reading.figures.style import COLOURS, PAGE
from cfgbench.reading.tables.compare import latency, ratio_to_unguided, weights_bytes
from cfgbench.reading.tables.results import Fields, Results, cost_fields, describe, varying
from cfgbench.records import SpeedRecord, Timing

LABEL_WIDTH = 36  # characters in a line beside a bar
LINE, BETWEEN = 0.1, 0.07  # inches of a line of a label, and between labels
HEAD, NOTE = 0.6, 0.15  # inches of a panel's x axis, and of what all bars share
ROOM = PAGE - 2 * HEAD  # inches that a page has for bars
PARTS = ("network", "classifier", "guidance and sampler", "decoder")


class Bar(NamedTuple):
    """A cost class at one batch size."""

    label: str
    speed: SpeedRecord
    timing: Timing


def latency_and_memory(results: Results) -> Figure | None:
    """Median seconds per image by part, up to the 90th percentile, at the smallest and largest batch; and memory."""
    sizes = sorted({timing.batch_size for speed in results.speeds for timing in speed.timings})
    if not sizes:
        return None
    chosen = list(dict.fromkeys((sizes[0], sizes[-1])))
    groups, notes = zip(*(_bars(results, size) for size in chosen), strict=True)
    height = HEAD + max(_height([bar.label for bar in bars]) for bars in groups)
    panels = len(chosen) + 1
    stacked = style.is_narrow() and height * panels < ROOM
    down, across = (panels, 1) if stacked else (1, panels)
    below = NOTE if notes[0] else 0.0
    figure = Figure(figsize=(style.width(), min(PAGE, height * down + below)), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax, size, bars in zip(axes, chosen, groups, strict=False):
        _latency_axes(ax, results, bars)
        ax.set_xlabel(f"ms per image\nbatch {size}")
    _memory_axes(axes[-1], groups[-1])
    axes[-1].set_xlabel(f"memory in MB\nbatch {chosen[-1]}")
    for ax in axes[1:across]:
        ax.tick_params(labelleft=False)
    if notes[0]:
        figure.supxlabel(notes[0], fontsize=5.5)
    parts = [*axes[0].get_legend_handles_labels()[0], *axes[-1].get_legend_handles_labels()[0]]
    style.legend(figure, {}, [*parts, *(_marks_key() if any(speed.measured for speed in results.speeds) else [])])
    return figure


def _marks_key() -> list[Line2D]:
    """What stands beside the bars."""
    whisker = Line2D([], [], color="black", linewidth=0.8, label="median to 90th percentile")
    ratio = Line2D([], [], color="black", marker=r"$\times$", ms=4, mew=0.2, linestyle="", label="time over unguided")
    return [whisker, ratio]


def _bars(results: Results, size: int) -> tuple[list[Bar], str]:
    """The bars of a panel, and what all of them share that others of the experiment do not."""
    everything = [(speed, timing) for speed in results.speeds for timing in speed.timings if timing.batch_size == size]
    shown = everything if len(everything) <= _most_bars() else _fewer(everything)
    planned = varying([_fields(speed) for speed in results.speeds]) or ["method"]
    names = varying([_fields(speed) for speed, _ in shown]) or ["method"]
    shared = describe(_fields(shown[0][0]), [name for name in planned if name not in names])
    notes = [shared, "passes one after the other" if len(shown) < len(everything) else ""]
    labels = [_label(shown, one, names) for one in shown]
    wrapped = [_wrapped(label) for label in labels]
    kept = wrapped if _height(wrapped) <= ROOM else labels
    return [Bar(label, *one) for label, one in zip(kept, shown, strict=True)], ", ".join(filter(None, notes))


def _wrapped(label: str) -> str:
    return textwrap.fill(label, LABEL_WIDTH, break_long_words=False, break_on_hyphens=False)


def _height(labels: Sequence[str]) -> float:
    """Inches of equally spaced bars whose labels do not touch."""
    return len(labels) * (BETWEEN + LINE * max(1 + label.count("\n") for label in labels))


def _most_bars() -> int:
    """How many bars of one line each are no taller than a page."""
    return int(ROOM / (LINE + BETWEEN))


def _fields(speed: SpeedRecord) -> Fields:
    return cost_fields(speed.cell)


def _label(shown: Sequence[tuple[SpeedRecord, Timing]], one: tuple[SpeedRecord, Timing], names: Sequence[str]) -> str:
    """What tells a cost class from the others, and its way of batching where both were timed."""
    speed, timing = one
    both = len({other.batched for owner, other in shown if owner is speed}) > 1
    passes = (", one batched pass" if timing.batched else ", two passes") if both else ""
    return describe(_fields(speed), names) + passes


def _fewer(timed: Sequence[tuple[SpeedRecord, Timing]]) -> list[tuple[SpeedRecord, Timing]]:
    """What fits a page: the passes as runs make them, at the largest number of steps; `speed.csv` has all."""
    most = max(speed.cell.sampler.steps for speed, _ in timed)
    kept = [(speed, timing) for speed, timing in timed if speed.cell.sampler.steps == most and not timing.batched]
    return kept[: _most_bars()]


def _latency_axes(ax: Axes, results: Results, bars: Sequence[Bar]) -> None:
    rows = np.arange(len(bars))
    left = np.zeros(len(bars))
    parts = np.array([_parts(bar) for bar in bars])
    for name, widths, colour in zip(PARTS, parts.T, ("#0072B2", "#D55E00", "#BBBBBB", "#56B4E9"), strict=True):
        if widths.any():
            ax.barh(rows, widths, left=left, color=colour, label=name, height=0.7)
        left = left + widths
    for row, bar in enumerate(bars):
        _annotate(ax, row, results, bar)
    _rows(ax, bars)


def _parts(bar: Bar) -> list[float]:
    """Median milliseconds per image: network, classifier, the rest of the trajectory, decoder; zeros if emulated."""
    if not bar.speed.measured:
        return [0.0] * 4
    timing = bar.timing
    lists = (timing.denoiser_s, timing.classifier_s, timing.trajectory_s, timing.decode_s)
    network, classifier, whole, decode = (1e3 * float(np.median(one)) / timing.batch_size for one in lists)
    return [network, classifier, max(0.0, whole - network - classifier), decode]


def _annotate(ax: Axes, row: int, results: Results, bar: Bar) -> None:
    """The ratio to unguided sampling beside the bar, and a whisker to the 90th percentile."""
    if not bar.speed.measured:
        ax.text(0, row, " not measured (emulated)", fontsize=5.5, va="center", color="#666666")
        return
    median, p90 = (1e3 * float(np.quantile(latency(bar.timing), q)) / bar.timing.batch_size for q in (0.5, 0.9))
    ax.plot([median, p90], [row, row], color="black", linewidth=0.8)
    ratio = ratio_to_unguided(results, bar.speed, bar.timing)
    if ratio is not None:
        ax.text(p90, row, f" {ratio:.2f}\N{MULTIPLICATION SIGN}", fontsize=5.5, va="center")


def _memory_axes(ax: Axes, bars: Sequence[Bar]) -> None:
    rows = np.arange(len(bars))
    weights = np.array([weights_bytes(bar.speed) / 1e6 for bar in bars])
    activations = np.array([(bar.timing.activation_memory_bytes or 0) / 1e6 for bar in bars])
    ax.barh(rows, weights, color=COLOURS[2], label="weights", height=0.7)
    ax.barh(rows, activations, left=weights, color=COLOURS[4], label="activations", height=0.7)
    for row, bar in enumerate(bars):
        if bar.timing.activation_memory_bytes is None:
            ax.text(weights[row], row, " activations not measured", fontsize=5.5, va="center", color="#666666")
    _rows(ax, bars)


def _rows(ax: Axes, bars: Sequence[Bar]) -> None:
    ax.set_yticks(np.arange(len(bars)), [bar.label for bar in bars])
    ax.set_ylim(len(bars) - 0.5, -0.5)
    ax.margins(x=0.18)
    ax.grid(axis="y", visible=False)
