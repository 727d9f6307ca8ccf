"""What the page says beside the scores: broken samples, failures, the claims ledger, the command to run again."""

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cfgbench import console
from cfgbench.reading.tables.results import Results
from cfgbench.reading.tables.text import Table, Text
from cfgbench.records import CellRecord


@dataclass(frozen=True)
class HealthRow:
    """A cell's broken samples and its share of values at the ends of their range."""

    title: str
    num_samples: int
    nan: int
    constant: int
    saturated: int
    clipped: float | None


@dataclass(frozen=True)
class Failure:
    """A cell that raised."""

    title: str
    reason: str
    traceback: str


def health_rows(results: Results) -> list[HealthRow]:
    """One row per finished cell."""
    return [_health_row(record) for record in results.done]


def failures(results: Results) -> list[Failure]:
    """The failed cells in plan order."""
    planned = (results.records.get(cell.id) for cell in results.plan.cells)
    failed = (record for record in planned if record is not None and record.status == "failed")
    return [_failure(record) for record in failed]


def claims_files(folder: Path) -> dict[str, str]:
    """The claims ledger of a results folder by its name, if there is one."""
    path = folder / "claims.csv"
    return {path.name: path.read_text(encoding="utf-8")} if path.exists() else {}


def claims_tables(folder: Path) -> dict[str, Table]:
    """The claims ledger as a table, if there is one."""
    return {name.removesuffix(".csv"): _ledger(text) for name, text in claims_files(folder).items()}


def command(results: Results) -> str | None:
    """The command that made these results; None for samples that were made elsewhere."""
    plan = results.plan
    if not plan.source.endswith((".yaml", ".yml")):
        return None
    return shlex.join(("cfgbench", "run", plan.source, *plan.overrides))


def _ledger(text: str) -> Table:
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    return Table("Published claims and what this experiment shows of them.", tuple(header), tuple(map(_texts, rows)))


def _health_row(record: CellRecord) -> HealthRow:
    health = record.health
    clipped = health.clipped_values / health.values if health.values else None
    title = console.title(record.cell)
    return HealthRow(title, record.num_samples, health.nan, health.constant, health.saturated, clipped)


def _failure(record: CellRecord) -> Failure:
    text = (record.error or "no reason given").strip()
    return Failure(console.title(record.cell), text.split("\n")[-1], text)


def _texts(row: Sequence[str]) -> tuple[Text, ...]:
    return tuple(map(Text, row))
