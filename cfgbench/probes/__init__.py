"""Small measurements for `cfgbench claims --measure`: what claims need and no sweep records.

Each function returns series of raw numbers by name; `cfgbench/claims` reads them without torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from cfgbench import machine
from cfgbench.claims import measured
from cfgbench.probes import gaussians, networks
from cfgbench.running import worker

Series = dict[str, Sequence[float]]

PROBES: dict[str, Callable[[], Series]] = {
    "toy2d": gaussians.plane,
    "nested": gaussians.nested,
    "sum_over_classes": gaussians.sum_over_classes,
    "losses": networks.losses,
    "cosine": networks.cosines,
}


def measure(folder: Path, names: Sequence[str] = tuple(PROBES)) -> list[Path]:
    """Make these measurements, about a minute on one core, and write each into a folder."""
    worker.ready()
    where = machine.describe("cpu", threads=1)
    paths = []
    for name in names:
        about = " ".join((PROBES[name].__doc__ or "").split())
        series = {key: tuple(map(float, values)) for key, values in PROBES[name]().items()}
        paths.append(measured.write(measured.Measurement(name=name, about=about, series=series, machine=where), folder))
    return paths
