"""Markdown and LaTeX tables: the best in bold, what is tied with it underlined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isclose, log10
from typing import NamedTuple

from cfgbench.cell import number
from cfgbench.reading.tables.compare import Verdict, value, verdict
from cfgbench.reading.tables.results import Arm, Column, Results, scale_text
from cfgbench.reading.tables.rows import Row, speed_rows
from cfgbench.records import CellRecord
from cfgbench.scores.statistics import Estimate

BEST, TIED = "best", "tied"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


class Text(NamedTuple):
    """A table cell and how it is set."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; `caption` says what is compared with what."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]


def results_table(results: Results) -> Table:
    """Every curve, scale by scale; best and tied within a curve."""
    columns = held_out(results)
    rows = []
    for arm in results.arms:
        several = len(arm.points) > 1
        verdicts = {column.name: verdict(column, arm.records) if several else None for column in columns}
        for point in arm.points:
            scores = [_marked(column, point.record, verdicts[column.name]) for column in columns]
            rows.append((Text(results.label(arm)), *_scale_texts(arm, point.scale), *scores))
    caption = (
        f"Scores {PLUS_MINUS} half of their 95 % intervals. Best of each curve in bold, those tied with it underlined."
    )
    cells = {record.id for arm in results.arms for record in arm.records}
    if len(rows) > len(cells):
        caption += " A cell that curves share, such as the unguided one, is a row of each."
    return Table(caption, ("curve", "scale", "w", *map(_heading, columns)), tuple(rows))


def best_table(results: Results) -> Table:
    """Every curve at the scale that is best by the first score; best and tied among the rows."""
    columns = held_out(results)
    found = [(arm, chosen.best) for arm in results.arms for chosen in _first_verdicts(columns, arm)]
    records = [record for _, record in found]
    verdicts = {column.name: verdict(column, records) if len(records) > 1 else None for column in columns}
    rows = []
    for arm, record in found:
        scores = [_marked(column, record, verdicts[column.name]) for column in columns]
        rows.append((Text(results.label(arm)), *_scale_texts(arm, arm.scale_of(record)), *scores))
    by = columns[0].label if columns else "score"
    caption = f"Each curve at its best scale by {by}."
    caption += " Best of the column in bold, those tied with it underlined." if len(rows) > 1 else ""
    return Table(caption, ("curve", "scale", "w", *map(_heading, columns)), tuple(rows))


def speed_table(results: Results) -> Table:
    """Latency per image, its ratio to unguided sampling, memory and use of every cost class and batch size."""
    several = len({speed.cell.model.label for speed in results.speeds}) > 1
    rows = [_speed_texts(row, several) for row in speed_rows(results)]
    header = ("cost class", "batch", "NFE", "ms per image, median", "9 of 10 repeats below", "slowest", "images/s")
    memory, use = ("weights, MB", "activations, MB"), ("GFLOP/s", "% of matrix product", "J per image")
    caption = (
        "NFE: network evaluations per image. Milliseconds are of the repeats; batched: both passes of CFG as one. "
        "Memory: the weights, and the most that intermediate results took. GFLOP/s: operations per second, also as a "
        "share of what a large matrix product in the same dtype achieves on the device. Columns of what was not "
        "measured are left out."
    )
    return _without_empty(Table(caption, (*header, "ratio to unguided", *memory, *use), tuple(rows)))


def to_markdown(table: Table) -> str:
    """A pipe table with its caption below."""
    marks: dict[str, Callable[[str], str]] = {BEST: lambda t: f"**{t}**", TIED: lambda t: f"<u>{t}</u>", "": str}
    lines = ["| " + " | ".join(map(_escape_markdown, table.header)) + " |", "|" + " --- |" * len(table.header)]
    for row in table.rows:
        lines.append("| " + " | ".join(marks[cell.mark](_escape_markdown(cell.text)) for cell in row) + " |")
    return "\n".join([*lines, "", table.caption, ""])


def to_latex(table: Table) -> str:
    r"""A `tabular` in `booktabs` style with its caption; needs \usepackage{booktabs}."""
    marks: dict[str, Callable[[str], str]] = {
        BEST: lambda t: rf"\textbf{{\boldmath {t}}}",
        TIED: lambda t: rf"\underline{{{t}}}",
        "": str,
    }
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(table.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    lines += [" & ".join(map(escape_latex, table.header)) + r" \\", r"\midrule"]
    for above, row in zip((None, *table.rows), table.rows, strict=False):
        if above is not None and above[0] != row[0] and table.header[0] == "curve":
            lines.append(r"\addlinespace")
        lines.append(" & ".join(marks[cell.mark](escape_latex(cell.text)) for cell in row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    return "".join(_LATEX.get(character, character) for character in text)


def held_out(results: Results) -> list[Column]:
    """The columns against the held-out reference, or against none."""
    return [column for column in results.columns if column.name == column.metric]


def with_error(result: Estimate) -> str:
    """`1.55 ± 0.16`: the value and half of its 95 % interval, to two digits of the error."""
    if result.interval is None:
        return f"{result.value:.3g}" if abs(result.value) < 1000 else f"{result.value:.0f}"
    half = (result.interval[1] - result.interval[0]) / 2
    digits = max(0, 1 - floor(log10(half)))
    return f"{result.value:z.{digits}f} {PLUS_MINUS} {half:.{digits}f}"


def short(number: float) -> str:
    """`0.0465`, `42.6`, `1,280`: three significant digits, and no powers of ten for large numbers."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:.3g}"


def _first_verdicts(columns: Sequence[Column], arm: Arm) -> list[Verdict]:
    """The verdict on an arm by the first score, if there is one."""
    found = verdict(columns[0], arm.records) if columns else None
    return [] if found is None else [found]


def _speed_texts(row: Row, with_model: bool) -> tuple[Text, ...]:
    scale = 1e3 / int(str(row["batch_size"]))
    times = [_scaled(row[name], scale) for name in ("latency_p50_s", "latency_p90_s", "latency_max_s")]
    if not row["measured"]:
        times = ["not measured (emulated)", "", ""]
    rest = (_scaled(row["images_per_s"]), _scaled(row["ratio_to_unguided"]))
    memory = [_scaled(row[name], 1e-6) for name in ("weights_memory_bytes", "activation_memory_bytes")]
    use = (_scaled(row["flops_per_s"], 1e-9), _scaled(row["matmul_share"], 100), _scaled(row["joules_per_image"]))
    first = (_class_text(row, with_model), str(row["batch_size"]), _scaled(row["nfe"]))
    return tuple(map(Text, (*first, *times, *rest, *memory, *use)))


def _without_empty(table: Table) -> Table:
    """A table without the columns in which every row is empty."""
    kept = [i for i in range(len(table.header)) if any(row[i].text for row in table.rows)]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return Table(table.caption, tuple(table.header[i] for i in kept), rows)


def _marked(column: Column, record: CellRecord, found: Verdict | None) -> Text:
    result = value(column, record)
    if result is None:
        return Text("")
    best = value(column, found.best) if found is not None else None
    if best is not None and isclose(result.value, best.value, rel_tol=1e-9):
        return Text(with_error(result), BEST)
    tied = found is not None and record.id in {other.id for other in found.tied or ()}
    return Text(with_error(result), TIED if tied else "")


def _class_text(row: Row, with_model: bool) -> str:
    """A cost class in words; a generator of one pass has no sampler."""
    sampling = [f"{row['sampler']}, {row['steps']} steps"] if "sampler" in row else []
    model = [str(row["model"])] if with_model else []
    batched = ["batched"] if row["batched"] else []
    how = [str(row["execution"])] if row.get("execution") else []
    return ", ".join([str(row["method"]), *model, *sampling, str(row["dtype"]), *how, *batched])


def _scale_texts(arm: Arm, scale: float) -> tuple[Text, Text]:
    return Text(scale_text(scale)), Text(number(round(scale - 1, 9)) if arm.axis == "guidance_scale" else "")


def _heading(column: Column) -> str:
    return f"{column.label} " + ("\N{DOWNWARDS ARROW}" if column.entry.lower_is_better else "\N{UPWARDS ARROW}")


def _scaled(item: object, scale: float = 1.0) -> str:
    return "" if item is None else short(float(str(item)) * scale)


def _escape_markdown(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return "".join("\\" + character if character in "|*_`[]" else character for character in escaped)


_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "{}$&#%_"},
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\n": " ",
    PLUS_MINUS: r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
}
