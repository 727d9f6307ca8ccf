"""What a run shows in the terminal: a bar with the time left, and a line per finished cell."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cfgbench import statistics
from cfgbench.cell import Cell, number
from cfgbench.records import CellRecord, Score
from cfgbench.registry import METRICS


class Bar:
    """Progress of a run on the terminal (standard error); on a pipe, lines only."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._samples = self._progress.add_task("samples", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, samples: int, done: int) -> None:
        """A run of so many samples starts, of which some are there already."""
        self._progress.update(self._samples, total=samples, completed=done, visible=samples > 0)

    def drawn(self, samples: int) -> None:
        """So many samples more are drawn."""
        self._progress.advance(self._samples, samples)

    def finished(self, record: CellRecord) -> None:
        """A cell has its record."""
        self._console.print(describe(record), markup=False)

    def stage(self, text: str) -> None:
        """Something else begins."""
        self._progress.update(self._samples, visible=False)
        self._console.print(text, markup=False)


def describe(record: CellRecord) -> str:
    """One line about a finished cell: what it is, and its scores with their standard errors."""
    if record.status == "failed":
        reason = (record.error or "").strip().splitlines() or ["unknown"]
        return f"{title(record.cell)}  FAILED: {reason[-1]}"
    return f"{title(record.cell)}  " + "  ".join(_score(score) for score in record.scores[:3])


def title(cell: Cell) -> str:
    """A cell in a few words: `digits cfg 1.2 ddim-25 fp32`."""
    parts = [cell.model.label, cell.guidance.method]
    parts += [number(cell.scale)] if cell.scale is not None else []
    rest = {k: v for k, v in cell.guidance.parameters.items() if not k.endswith("_scale")}
    parts += [f"{key}={number(value)}" for key, value in rest.items()]
    if cell.diffusion is not None:
        state = f"/{cell.diffusion.state_dtype}" if cell.diffusion.state_dtype else ""
        parts += [f"{cell.diffusion.sampler}-{cell.diffusion.steps}", cell.dtype + state]
    return " ".join(parts) + (f" seed {cell.seed}" if cell.seed else "")


def _score(score: Score) -> str:
    metric = METRICS[score.metric]
    name = metric.label + score.column.removeprefix(score.metric)
    if not score.replicates or not metric.interval:
        return f"{name} {score.value:.3g}"
    value = score.value
    if metric.headline == "bias_corrected":
        value = statistics.bias_corrected(score.value, score.replicates)
    error = statistics.standard_error(score.replicates)
    return f"{name} {value:.3f}" + (f" ± {error:.3f}" if error is not None else "")
