"""The figures, by name: each a function of `Results` that returns a figure, or None where it does not apply.

To add one: write the function, add a line to FIGURES.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cfgbench.figures import curves, samples, speed, style, tradeoff
from cfgbench.tables.results import Results

FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "quality_vs_scale": curves.quality_vs_scale,
    "gain_vs_scale": curves.gain_vs_scale,
    "quality_tradeoff": tradeoff.quality_tradeoff,
    "sample_grid": samples.sample_grid,
    "latency_and_memory": speed.latency_and_memory,
    "quality_vs_seconds": tradeoff.quality_vs_seconds,
    "quality_vs_nfe": curves.quality_vs_nfe,
}


def draw_all(results: Results, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write every figure that applies in every format (pdf, png); the same records give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with style.applied():
        for name, draw in FIGURES.items():
            figure = draw(results)
            if figure is not None:
                paths = [folder / f"{name}.{kind}" for kind in formats]
                for path in paths:
                    _save(figure, path)
                written += paths
    return written


def _save(figure: Figure, path: Path) -> None:
    dates: dict[str, dict[str, str | None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    figure.savefig(path, metadata=dates.get(path.suffix[1:], {}))
