"""Figures of the claims ledger: every claim by its verdict, and how clearly each one was decided."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from cfgbench.claims.claim import Decision, decisive
from cfgbench.claims.findings import FAILS, HOLDS, NEEDS, UNDECIDED, VERDICTS, standing, with_interval
from cfgbench.claims.ledger import Section
from cfgbench.reading.figures import style

COLOURS = {HOLDS: "#0072B2", FAILS: "#D55E00", UNDECIDED: "#E6C200", NEEDS: "#E8E8E8"}
INK = {HOLDS: "white", FAILS: "white", UNDECIDED: "black", NEEDS: "#777777"}
TICKS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)
TITLE = 68  # characters in a line of a row's title
FARTHEST = 30.0  # half-widths; what lies farther, and counts, are drawn at the edge
BAND = "#EBEBEB"
ROW = 0.145  # inches


def draw(sections: Sequence[Section], decisions: Sequence[Decision]) -> dict[str, Figure]:
    """The figures by name."""
    found = {"claims_at_a_glance": at_a_glance(sections, decisions)}
    judged = [decision for decision in decisions if decision.findings]
    return found | ({"claims_margins": margins(judged)} if judged else {})


def at_a_glance(sections: Sequence[Section], decisions: Sequence[Decision]) -> Figure:
    """A tile per claim, coloured by verdict, in rows by source."""
    verdicts = {decision.claim.number: decision.verdict for decision in decisions}
    figure = Figure(figsize=(style.width(), 0.33 * len(sections) + 0.5), layout="constrained")
    ax = figure.subplots()
    for row, section in enumerate(sections):
        ax.text(-0.3, row + 0.5, section.title, ha="right", va="center")
        for place, claim in enumerate(section.claims):
            _tile(ax, place, row, claim.number, verdicts[claim.number])
    widest = max(len(section.claims) for section in sections)
    ax.set(xlim=(-0.1, max(widest, 15)), ylim=(len(sections), 0))
    ax.set_axis_off()
    counts = {verdict: sum(one.verdict == verdict for one in decisions) for verdict in VERDICTS}
    handles = [Patch(color=COLOURS[verdict], label=f"{verdict} ({count})") for verdict, count in counts.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1)
    return figure


def margins(decisions: Sequence[Decision]) -> Figure:
    """A row per claim: its decisive number against its threshold, in half-widths of the interval."""
    figure = Figure(figsize=(style.width(), ROW * len(decisions) + 1.1), layout="constrained")
    ax = figure.subplots()
    for row, decision in enumerate(decisions):
        _row(ax, row, decision)
    ax.axvspan(-1, 1, color=BAND, zorder=0)
    ax.axvline(0, color=style.NEUTRAL, linewidth=0.6, zorder=1)
    ax.set_xscale("symlog", linthresh=2)
    ax.set(xlim=(-FARTHEST * 1.3, FARTHEST * 1.3), ylim=(len(decisions), -1))
    ax.set_xticks(TICKS, [f"{tick}".replace("-", "\N{MINUS SIGN}") for tick in TICKS])
    ax.set_yticks(range(len(decisions)), [_title(decision) for decision in decisions], fontsize=5, linespacing=0.95)
    ax.grid(visible=False, axis="y")
    figure.legend(handles=_margins_key(decisions), loc="outside upper center", ncols=3, handlelength=1)
    ax.set_xlabel("← against the claim    decisive number from its threshold, in half-widths    for it →")
    return figure


def _margins_key(decisions: Sequence[Decision]) -> list[Artist]:
    """What colours, the grey band and triangles say."""
    shown = [verdict for verdict in VERDICTS if any(one.verdict == verdict for one in decisions)]
    points = [Line2D([], [], color=COLOURS[verdict], marker="o", ms=3.2, label=verdict) for verdict in shown]
    band = Patch(color=BAND, label="within a half-width: the interval holds the threshold")
    look = Line2D([], [], color=style.NEUTRAL, marker=">", ms=3.2, linestyle="")
    look.set_label(f"a count, or farther than {FARTHEST:g}")
    return [*points, band, look]


def _tile(ax: Axes, x: float, y: float, text: str, verdict: str) -> None:
    ax.add_patch(Rectangle((x + 0.04, y + 0.08), 0.92, 0.84, color=COLOURS[verdict]))
    ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=INK[verdict], fontsize=6)


def _row(ax: Axes, row: int, decision: Decision) -> None:
    finding = decisive(decision)
    place = float(np.clip(standing(finding), -FARTHEST, FARTHEST))
    colour = COLOURS[decision.verdict]
    if abs(place) < FARTHEST:
        ax.plot([place - 1, place + 1], [row, row], color=colour, linewidth=1.5, solid_capstyle="butt")
    marker = "o" if abs(place) < FARTHEST else ">" if place > 0 else "<"
    ax.plot(place, row, marker, color=colour, markersize=3.2)
    side, threshold = (">" if finding.above else "<"), f"{finding.threshold:g}"
    text = f"{with_interval(finding.measured)}, claimed {side} {threshold}"
    ax.annotate(text, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=5)


def _title(decision: Decision) -> str:
    return textwrap.fill(f"{decision.claim.number}  {decisive(decision).statement}", TITLE)
