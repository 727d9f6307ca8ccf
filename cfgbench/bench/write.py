"""Benchmarks as CSV and Markdown: what was found, on which machine and when. What was not run again stays."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cfgbench import machine
from cfgbench.bench.result import Result
from cfgbench.reading.tables.rows import Row, to_csv
from cfgbench.reading.tables.text import Table, Text, to_markdown

FILE = "findings.csv"
WHAT = "Beside them the least and the greatest, or a 95 % interval where that is said."


def write(results: Mapping[str, Result], folder: Path) -> list[Path]:
    """`<name>.csv` of each benchmark, and `findings.csv` and `summary.md` of all that ever ran in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{name}.csv": to_csv(list(result.rows)) for name, result in results.items()}
    kept = [row for row in _read(folder / FILE) if row["benchmark"] not in results]
    rows = [*kept, *(row for name, result in results.items() for row in _rows(name, result))]
    texts |= {FILE: to_csv(rows), "summary.md": summary(rows)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def load(folder: Path) -> list[Row]:
    """The findings of a folder."""
    return _read(folder / FILE)


def table(rows: list[Row]) -> Table:
    """What to quote, with target, machine and date."""
    body = tuple(tuple(map(Text, _texts(row))) for row in rows)
    return Table("", ("what", "measured", "least to greatest", "target", "met"), body)


def quoted(rows: list[Row]) -> str:
    """The findings that had a target, as Markdown for the README, with where and when."""
    aimed = [row for row in rows if row["target"] not in (None, "")]
    places = dict.fromkeys(f"{row['machine']}, {row['date']}" for row in aimed)
    return f"{to_markdown(table(aimed)).strip()}\n\nMeasured on {'; '.join(places)}."


def summary(rows: list[Row]) -> str:
    """All findings as Markdown, with where and when they were made."""
    places = dict.fromkeys(f"{row['benchmark']}: {row['machine']}, {row['date']}" for row in rows)
    notes = dict.fromkeys(str(row["note"]) for row in rows if row.get("note"))
    lines = ["# Benchmarks", "", "Medians of rounds in which all sides took turns; ratios round by round.", WHAT, ""]
    lines += [to_markdown(table(rows)), "", *(f"- {note}" for note in notes), "", "## Where and when", ""]
    return "\n".join([*lines, *(f"- {place}" for place in places), ""])


def _rows(name: str, result: Result) -> list[Row]:
    where = machine.describe("cpu", threads=machine.cores())
    place = f"{where.processor}, {where.cores} cores, torch {where.packages.get('torch', '?')}"
    made = {"machine": place, "date": f"{datetime.now(UTC):%Y-%m-%d}", "note": " ".join(result.notes)}
    return [{"benchmark": name, **asdict(one), "met": one.met, **made} for one in result.findings]


def _texts(row: Row) -> tuple[str, ...]:
    unit = f" {row['unit']}" if row["unit"] else ""
    side = "at least" if _true(row["at_least"]) else "at most"
    aim = "" if row["target"] in (None, "") else f"{side} {float(str(row['target'])):g}{unit}"
    met = "" if row["met"] in (None, "") else "yes" if _true(row["met"]) else "no"
    low, value, high = (f"{_number(float(str(row[key])))}{unit}" for key in ("low", "value", "high"))
    kind = " (95 %)" if _true(row.get("interval")) else ""
    return str(row["what"]), value, f"{low} to {high}{kind}", aim, met


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _true(value: object) -> bool:
    return str(value).lower() == "true"


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]
