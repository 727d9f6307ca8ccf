"""What a run shows: on a terminal the table of finished cells filling, the best so far and the time left; on a pipe a
line per finished cell.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cfgbench.cell import Cell, canonical_json, number
from cfgbench.reading.tables.compare import value, verdict
from cfgbench.reading.tables.results import Column
from cfgbench.reading.tables.text import with_error
from cfgbench.records import CellRecord, Score
from cfgbench.registry import METHODS, METRICS

MAX_SCORES = 4  # of a cell, shown
TITLE_WIDTH, SCORE_WIDTH = 44, 18  # characters that a cell's title gets at least, and a score at most
BELOW = 8  # lines of a terminal that the rows of the table leave to the rest


class Bar:
    """Progress of a run on the terminal (standard error); on a pipe, lines only."""

    def __init__(
        self, cells: int | None = None, earlier: Sequence[CellRecord] = (), console: Console | None = None
    ) -> None:
        """`cells` are planned in all, of which `earlier` are finished."""
        self._console = console or Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console)
        self._samples = self._progress.add_task("samples", total=None, visible=False)
        self._cells, self._records = cells, list(earlier)
        self._live = Live(console=self._console, refresh_per_second=4)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, samples: int, done: int) -> None:
        """A run of so many samples starts, of which some are there already."""
        self._progress.update(self._samples, total=samples, completed=done, visible=samples > 0)
        if self._console.is_interactive and samples:
            self._show()
            self._live.start(refresh=True)

    def drawn(self, samples: int) -> None:
        """So many samples more are drawn."""
        self._progress.advance(self._samples, samples)

    def finished(self, record: CellRecord) -> None:
        """A cell has its record."""
        self._records.append(record)
        if self._live.is_started and record.status == "done":
            self._show()
        else:
            self._print(describe(record))

    def stage(self, text: str) -> None:
        """Something else begins."""
        self._progress.update(self._samples, visible=False)
        self._print(text)

    def _print(self, text: str) -> None:
        """A line that stays, above what changes."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _show(self) -> None:
        rows, width = max(3, self._console.height - BELOW), self._console.width
        self._live.update(Group(standings(self._records, self._cells, rows, width), self._progress))


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal that grows by what its result is called with; nothing on a pipe."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


def standings(records: Sequence[CellRecord], cells: int | None, rows: int, width: int) -> Group:
    """The last finished cells as a table of so many rows, the best so far in bold, and below it the best in words."""
    done = [record for record in records if record.status == "done"]
    columns = _columns(done)
    found = verdict(columns[0], _alike(columns[0], done)) if columns else None
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = columns[: max(1, (width - TITLE_WIDTH) // SCORE_WIDTH)]
    room = max(TITLE_WIDTH, width - SCORE_WIDTH * len(shown))
    table.add_column(_count(len(done), cells, rows), no_wrap=True, max_width=room)
    for column in shown:
        table.add_column(column.label, no_wrap=True, justify="right")
    for record in done[-rows:]:
        results = (value(column, record) for column in shown)
        texts = [title(record.cell), *("" if result is None else with_error(result) for result in results)]
        best = found is not None and record.id == found.best.id
        table.add_row(*map(Text, texts), style="bold green" if best else None)
    return Group(table, Text("" if found is None else _best(columns[0], found.best, len(found.tied or ()))))


def describe(record: CellRecord) -> str:
    """One line about a finished cell: what it is, and its scores with half of their 95 % intervals."""
    if record.status == "failed":
        reason = (record.error or "").strip().splitlines() or ["unknown"]
        return f"{title(record.cell)}  FAILED: {reason[-1]}"
    return "  ".join([title(record.cell), *(_score(column, record) for column in _columns([record]))])


def title(cell: Cell) -> str:
    """A cell in a few words: `digits cfg 1.2 ddim-25 fp32`."""
    parts = [cell.model.label, cell.guidance.method]
    parts += [number(cell.scale)] if cell.scale is not None else []
    scale = METHODS[cell.guidance.method].scale
    rest = {k: v for k, v in cell.guidance.parameters.items() if k != scale} | cell.model.scales
    parts += [f"{key}={number(value)}" for key, value in rest.items()]
    if cell.diffusion is not None:
        state = f"/{cell.diffusion.state_dtype}" if cell.diffusion.state_dtype else ""
        parts += [f"{cell.diffusion.sampler}-{cell.diffusion.steps}", cell.arithmetic + state]
    parts += [cell.arithmetic] if cell.one_pass else []
    return " ".join(parts) + (f" seed {cell.seed}" if cell.seed else "")


def _columns(records: Sequence[CellRecord]) -> list[Column]:
    """The first scores that are against the held-out reference, or against none."""
    found: dict[str, list[Score]] = {}
    for score in (score for record in records for score in record.scores if score.column == score.metric):
        found.setdefault(score.column, []).append(score)
    named = list(found.items())[:MAX_SCORES]
    return [
        Column(name, scores[-1].metric, scores[-1].identity, any(score.replicates for score in scores))
        for name, scores in named
    ]


def _alike(column: Column, records: Sequence[CellRecord]) -> list[CellRecord]:
    """The records whose score is what the last one's is, so that they may be compared."""
    wanted = canonical_json(dict(column.identity))
    return [
        record
        for record in records
        if any(canonical_json(score.identity) == wanted for score in record.scores if score.column == column.name)
    ]


def _count(done: int, cells: int | None, rows: int) -> str:
    text = f"{done} of {cells} cells finished" if cells else f"{done} cells finished"
    return text + (f", the last {rows}" if done > rows else "")


def _best(column: Column, record: CellRecord, tied: int) -> str:
    """`best so far: digits cfg 1.2 ddim-25 fp32, FID 1.43 ± 0.18, one more tied`."""
    others = {0: "", 1: "", 2: ", one more tied"}.get(tied, f", {tied - 1} more tied")
    return f"best so far: {title(record.cell)}, {_score(column, record)}{others}"


def _score(column: Column, record: CellRecord) -> str:
    result = value(column, record)
    return f"{METRICS[column.metric].label} {'absent' if result is None else with_error(result)}"
