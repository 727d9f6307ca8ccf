"""A comparison as CSV, Markdown, LaTeX and a figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cfgbench.reading.comparison.contrasts import Contrast, contrast, largest_gap, speed_contrasts
from cfgbench.reading.comparison.matching import Match, Pair
from cfgbench.reading.tables.compare import latency, value
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Column, arm_fields, cost_fields, describe, varying
from cfgbench.reading.tables.rows import Row, to_csv
from cfgbench.reading.tables.text import BEST, PLUS_MINUS, Table, Text, best_table, to_latex, to_markdown, with_error
from cfgbench.records import CellRecord, SpeedRecord
from cfgbench.units import show_seconds

FORMATS = ("pdf", "png")


def write(pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """All files of a comparison; the same records give the same bytes."""
    from cfgbench.reading.figures import contrast as figures
    from cfgbench.reading.figures import save, style

    folder.mkdir(parents=True, exist_ok=True)
    files = {"compare.csv": to_csv([row for pair in pairs for row in score_rows(pair)]), "compare.md": summary(pairs)}
    files["compare.tex"] = "\n".join(to_latex(score_table(pair)) for pair in pairs)
    speeds = [row for pair in pairs for row in speed_rows(pair)]
    files |= {"speed.csv": to_csv(speeds)} if speeds else {}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    written = [folder / name for name in files]
    with style.applied():
        figure = figures.side_by_side(pairs)
        if figure is not None:
            written += [save(figure, folder / f"compare.{kind}") for kind in FORMATS]
    return written


def summary(pairs: Sequence[Pair]) -> str:
    """What is alike and what is not, sentence by sentence, then the tables."""
    sides = [pairs[0].first, *(pair.second for pair in pairs)]
    lines = ["# " + " and ".join(side.name for side in sides), ""]
    lines += [f"- {sentence}" for pair in pairs for sentence in sentences(pair)]
    for pair in pairs:
        lines += ["", f"## Scores: {pair.second.name} against {pair.first.name}", "", to_markdown(score_table(pair))]
        if pair.speeds:
            lines += [f"## Speed: {pair.second.name} against {pair.first.name}", "", to_markdown(speed_table(pair))]
    for side in sides:
        lines += [f"## Best of {side.name}", "", to_markdown(best_table(side.results))]
    return "\n".join(lines)


def sentences(pair: Pair) -> Iterator[str]:
    """How the cells were matched and compared, and how many differ."""
    names = f"{pair.first.name} and {pair.second.name}"
    for by in dict.fromkeys(match.by for match in pair.matches):
        yield f"{names}: {sum(match.by == by for match in pair.matches)} cells matched by {by}"
    for side in (pair.first, pair.second):
        if alone := len(pair.alone(side)):
            yield f"{alone} cells of {side.name} have no counterpart"
    if not pair.columns:
        yield f"{names} have no score in common"
    for column in pair.columns:
        found = [contrast(column, match) for match in pair.matches]
        counts = {
            word: sum(one.verdict == word for one in found) for word in dict.fromkeys(one.verdict for one in found)
        }
        yield f"{column.label} of {pair.second.name}: " + ", ".join(f"{count} {word}" for word, count in counts.items())
    gaps = [gap for match in pair.matches if (gap := largest_gap(pair.columns, match)) is not None]
    if gaps:
        equal = "equal to 1e-5" if max(gaps) <= 1e-5 else "not equal to 1e-5"
        yield f"{len(gaps)} cells are the same in both: their largest score difference is {max(gaps):.2g}, {equal}"
    yield from _machines(pair)


def score_rows(pair: Pair) -> Iterator[Row]:
    """`compare.csv`: one row per cell and score, the cells without a counterpart last."""
    for match in pair.matches:
        gap = largest_gap(pair.columns, match)
        for column in pair.columns:
            head = _head(pair, match.first) | {"matched_by": match.by, "score": column.name}
            row = head | _ends(column, match.first, match.second) | _contrast_part(contrast(column, match))
            yield row | {"largest_score_difference": gap, "equal_to_1e-5": None if gap is None else gap <= 1e-5}
    for side in (pair.first, pair.second):
        for record in pair.alone(side):
            for column in pair.columns:
                both = (record, None) if side is pair.first else (None, record)
                yield _head(pair, record) | {"matched_by": None, "score": column.name} | _ends(column, *both)


def speed_rows(pair: Pair) -> Iterator[Row]:
    """`speed.csv`: one row per cost class, batch size and way of batching."""
    for match in pair.speeds:
        for one in speed_contrasts(match):
            low, high = one.interval or (None, None)
            row: Row = {"first": pair.first.name, "second": pair.second.name, **cost_fields(match.first.cell)}
            row |= {"batch_size": one.first.batch_size, "batched": one.first.batched}
            row |= {"first_latency_p50_s": _median(match.first, latency(one.first))}
            row |= {"second_latency_p50_s": _median(match.second, latency(one.second))}
            row |= {"ratio": one.ratio, "ratio_lo": low, "ratio_hi": high, "verdict": one.verdict}
            row |= {"first_peak_memory_bytes": one.first.peak_memory_bytes}
            row |= {"second_peak_memory_bytes": one.second.peak_memory_bytes}
            yield row | {"first_machine": _machine(match.first), "second_machine": _machine(match.second)}


def score_table(pair: Pair) -> Table:
    """Cell by cell: the first score in both, and of every score second - first, bold where a difference is shown."""
    columns = [column for column in pair.columns if column.name == column.metric] or list(pair.columns)
    names = varying([arm_fields(match.first.cell) for match in pair.matches]) or ["method"]
    rows = [_table_row(columns, match, names) for match in pair.matches]
    kinds = dict.fromkeys(contrast(column, m).paired for column in columns for m in pair.matches)
    how = " and ".join("paired" if kind else "unpaired" for kind in kinds) or "none"
    both = [f"{columns[0].label}: {side.name}" for side in (pair.first, pair.second)] if columns else []
    header = ("curve", "scale", *both, *(f"{column.label}: difference" for column in columns))
    caption = (
        f"Differences are {pair.second.name} less {pair.first.name}, {how}, {PLUS_MINUS} half of a 95 % interval; bold "
        f"where the interval excludes zero. Each stands alone: of twenty without a difference one will be bold."
    )
    return Table(caption, header, tuple(rows))


def speed_table(pair: Pair) -> Table:
    """Seconds per batch side by side, and their ratio with its interval, bold where a difference is shown."""
    names = varying([cost_fields(match.first.cell) for match in pair.speeds]) or ["method"]
    rows = []
    for match in pair.speeds:
        for one in speed_contrasts(match):
            both = [_median(speed, latency(t)) for speed, t in ((match.first, one.first), (match.second, one.second))]
            texts = [Text("not measured" if seconds is None else show_seconds(seconds)) for seconds in both]
            curve = describe(cost_fields(match.first.cell), names)
            rows.append((Text(curve), Text(str(one.first.batch_size)), *texts, _ratio(one.ratio, one.interval)))
    header = ("cost class", "batch", pair.first.name, pair.second.name, "ratio")
    caption = (
        "Median seconds of one batch. The interval of the ratio is from those of both medians, by order statistics at "
        "95 % each; bold where it excludes one. " + "; ".join(_machines(pair)) + "."
    )
    return Table(caption, header, tuple(rows))


def _head(pair: Pair, record: CellRecord) -> Row:
    scale = record.cell.scale
    row: Row = {"first": pair.first.name, "second": pair.second.name, **arm_fields(record.cell)}
    return row | {"scale": record.cell.guidance_scale if scale is None else scale}


def _ends(column: Column, first: CellRecord | None, second: CellRecord | None) -> Row:
    row: Row = {}
    for name, record in (("first", first), ("second", second)):
        result = None if record is None else value(column, record)
        low, high = (result.interval if result else None) or (None, None)
        row |= {
            f"{name}_id": record.id if record else None,
            f"{name}_num_samples": record.num_samples if record else None,
        }
        row |= {f"{name}_value": result.value if result else None, f"{name}_lo": low, f"{name}_hi": high}
    return row


def _contrast_part(found: Contrast) -> Row:
    gap = found.gap
    low, high = (gap.interval if gap else None) or (None, None)
    row: Row = {"comparison": "paired" if found.paired else "unpaired", "difference": gap.value if gap else None}
    row |= {"difference_se": gap.standard_error if gap else None, "difference_lo": low, "difference_hi": high}
    return row | {"verdict": found.verdict}


def _table_row(columns: Sequence[Column], match: Match, names: Sequence[str]) -> tuple[Text, ...]:
    cell = match.first.cell
    axis = "classifier_scale" if cell.scale is not None and cell.classifier_scale else "guidance_scale"
    scale = cell.guidance_scale if cell.scale is None else cell.scale
    ends = [value(columns[0], record) for record in (match.first, match.second)] if columns else []
    head = (Text(describe(arm_fields(cell), names)), Text(f"{SCALE_SYMBOLS[axis]} = {scale:g}"))
    return (*head, *(Text(with_error(end) if end else "") for end in ends), *(_gap(c, match) for c in columns))


def _gap(column: Column, match: Match) -> Text:
    found = contrast(column, match)
    if found.verdict == "equal" or found.gap is None:
        return Text("equal" if found.verdict == "equal" else "")
    return Text(with_error(found.gap), BEST if found.verdict in ("better", "worse") else "")


def _ratio(ratio: float | None, interval: tuple[float, float] | None) -> Text:
    if ratio is None:
        return Text("")
    if interval is None:
        return Text(f"{ratio:.3g} (too few repeats for an interval)")
    low, high = interval
    return Text(f"{ratio:.3g} ({low:.3g} to {high:.3g})", "" if low <= 1 <= high else BEST)


def _median(speed: SpeedRecord, seconds: Sequence[float]) -> float | None:
    return float(np.median(seconds)) if speed.measured else None


def _machines(pair: Pair) -> Iterator[str]:
    for side in (pair.first, pair.second):
        records: list[SpeedRecord | CellRecord] = [*side.results.speeds, *side.results.done]
        machines = dict.fromkeys(map(_machine, records))
        yield f"{side.name} ran on {' and on '.join(machines) or 'no machine yet'}"


def _machine(record: SpeedRecord | CellRecord) -> str:
    machine = record.machine
    return f"{machine.device}, {machine.processor}, torch {machine.packages.get('torch', 'unknown')}"
