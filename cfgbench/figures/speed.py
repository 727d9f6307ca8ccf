"""Latency and memory of every cost class."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfgbench.figures import style
from cfgbench.figures.style import COLOURS
from cfgbench.records import SpeedRecord, Timing
from cfgbench.tables.compare import latency, ratio_to_unguided, weights_bytes
from cfgbench.tables.results import Results, arm_fields, describe, varying

LABEL_WIDTH = 36  # characters in a line beside a bar
MAX_BARS = 40  # in a panel
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
    groups = [_bars(results, size) for size in chosen]
    lines = max(sum(1 + bar.label.count("\n") for bar in bars) + 0.5 * len(bars) for bars in groups)
    panels = len(chosen) + 1
    down, across = (panels, 1) if style.is_narrow() else (1, panels)
    figure = Figure(figsize=(style.width(), 0.5 + (0.6 + 0.115 * lines) * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for ax, size, bars in zip(axes, chosen, groups, strict=False):
        _latency_axes(ax, results, bars)
        ax.set_xlabel(f"ms per image\nbatch {size}")
    _memory_axes(axes[-1], groups[-1])
    axes[-1].set_xlabel(f"memory in MB\nbatch {chosen[-1]}")
    for ax in axes[1:across]:
        ax.tick_params(labelleft=False)
    handles = [*axes[0].get_legend_handles_labels()[0], *axes[-1].get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside upper center", ncols=3 if style.is_narrow() else len(handles))
    return figure


def _bars(results: Results, size: int) -> list[Bar]:
    fields = [arm_fields(speed.cell) | {"seed": ""} for speed in results.speeds]
    names = varying(fields) or ["method"]
    found = []
    for speed, one in zip(results.speeds, fields, strict=True):
        timings = [timing for timing in speed.timings if timing.batch_size == size]
        both = len({timing.batched for timing in timings}) > 1
        for timing in timings:
            passes = (", one batched pass" if timing.batched else ", two passes") if both else ""
            found.append(Bar(textwrap.fill(describe(one, names) + passes, LABEL_WIDTH), speed, timing))
    return found if len(found) <= MAX_BARS else _fewer(found)


def _fewer(bars: Sequence[Bar]) -> list[Bar]:
    """What fits a page: the passes as runs make them, at the largest number of steps; `speed.csv` has all."""
    most = max(bar.speed.cell.sampler.steps for bar in bars)
    return [bar for bar in bars if bar.speed.cell.sampler.steps == most and not bar.timing.batched]


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
