"""The figures, by name: each a function of `Results` that returns a figure, or None where it does not apply.

To add one: write the function, add a line to FIGURES.
"""

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from cfgbench.errors import unwritable
from cfgbench.reading.figures import (
    curves,
    dtypes,
    evaluations,
    gains,
    intervals,
    plane,
    published,
    samples,
    scales,
    speed,
    style,
    tradeoff,
)
from cfgbench.reading.tables.results import Results
from cfgbench.store import replace

Draw = Callable[[Results], Figure | None]

FIGURES: dict[str, Draw] = {
    "quality_vs_scale": curves.quality_vs_scale,
    "gain_vs_scale": curves.gain_vs_scale,
    "dtype_effect": dtypes.dtype_effect,
    "quality_tradeoff": tradeoff.quality_tradeoff,
    "sample_grid": samples.sample_grid,
    "density_grid": plane.density_grid,
    "interval_heatmap": intervals.interval_heatmap,
    "scale_heatmap": scales.scale_heatmap,
    "published_gains": gains.published_gains,
    "latency_and_memory": speed.latency_and_memory,
    "quality_vs_seconds": tradeoff.quality_vs_seconds,
    "quality_vs_nfe": evaluations.quality_vs_nfe,
}
KINDS = ("pdf", "png", "svg")
ON_REQUEST: dict[str, Draw] = {"published_curves": published.published_curves}


def caption(draw: Draw) -> str:
    """What a figure shows: the first sentences of its function."""
    shown, _, _ = " ".join((inspect.getdoc(draw) or "").split()).partition("None where")
    return shown.strip().rstrip(";.") + "."


def draw_all(
    results: Results,
    folder: Path,
    formats: Sequence[str],
    drawn: Mapping[str, Draw] = FIGURES,
    inches: float = style.DOUBLE,
) -> list[Path]:
    """Write every figure that applies in every format (pdf, png); the same records give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with style.applied(inches):
        for name, draw in drawn.items():
            figure = draw(results)
            if figure is not None:
                written += [save(figure, folder / f"{name}.{kind}") for kind in formats]
    return written


def remove_others(folder: Path, made: Sequence[Path]) -> None:
    """Remove the figures of FIGURES in a folder that were made there once and are not among these."""
    names = FIGURES.keys() - {path.stem for path in made}
    for path in (folder / f"{name}.{kind}" for name in names for kind in KINDS):
        path.unlink(missing_ok=True)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure to a pdf, png or svg file without the time of day, in a single step."""
    dates: dict[str, dict[str, str | None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    kind, stream = path.suffix[1:], io.BytesIO()
    figure.savefig(stream, format=kind, metadata=dates.get(kind, {}))
    try:
        replace(path, _shrunk(stream) if kind == "png" else stream.getvalue())
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def _shrunk(drawn: io.BytesIO) -> bytes:
    """256 colours are enough for lines on white, at a third of the size."""
    with Image.open(drawn) as picture:
        small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    small.save(stream, "PNG", optimize=True)
    return stream.getvalue()
