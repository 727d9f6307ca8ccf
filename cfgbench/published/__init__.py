"""Curves that papers published, to draw beside ours. Column `provenance` of the CSV files says how each was obtained.

A curve is divided by its own value with guidance off: scores of different encoders and data sets have no common unit,
so only the shapes of curves can be compared.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
OFF = {"guidance_scale": 1.0, "classifier_scale": 0.0}


@dataclass(frozen=True)
class Curve:
    """One published curve: (scale, score) in ascending order of the scale."""

    label: str
    axis: str  # guidance_scale | classifier_scale
    metric: str  # fid | inception_score
    points: tuple[tuple[float, float], ...]

    @property
    def source(self) -> str:
        """The paper and table."""
        return SOURCES[self.axis]


@dataclass(frozen=True)
class Gain:
    """What a paper reports of a method against CFG on one model: two FIDs of the same setting."""

    method: str  # as cfgbench calls it
    source: str
    baseline: float
    value: float
    baseline_tuned: bool  # whether the paper says that the scale of CFG was searched for as well

    @property
    def ratio(self) -> float:
        """Below 1 the method is better."""
        return self.value / self.baseline


def gains(method: str) -> list[Gain]:
    """The published gains of one method over CFG, by FID."""
    rows = [row for row in _read("later_methods.csv") if row["method"] == method]
    return [_gain(row) for row in rows]


def curves(axis: str, metric: str) -> list[Curve]:
    """The published curves of one metric over one scale."""
    found: dict[str, list[tuple[float, float]]] = {}
    column = {"fid": "fid", "inception_score": "is"}[metric]
    for label, scale, row in _rows(axis):
        found.setdefault(label, []).append((scale, float(row[column])))
    return [Curve(label, axis, metric, tuple(sorted(points))) for label, points in found.items()]


def relative(points: tuple[tuple[float, float], ...], axis: str) -> list[tuple[float, float]]:
    """The points from "off" upwards, divided by the value there; none where "off" is missing."""
    start = dict(points).get(OFF[axis])
    return [] if not start else [(scale, score / start) for scale, score in points if scale >= OFF[axis]]


def _gain(row: dict[str, str]) -> Gain:
    source = f"{row['source'].split(' (')[0]}, {row['locator'].lower()}"
    return Gain(
        row["method"], source, float(row["baseline_fid"]), float(row["method_fid"]), row["baseline_tuned"] == "yes"
    )


def _rows(axis: str) -> Iterator[tuple[str, float, dict[str, str]]]:
    if axis == "guidance_scale":
        for row in _read("ho2022_cfg.csv"):
            setting = f"label dropout {row['p_uncond']}" if row["p_uncond"] else f"T = {row['T']}"
            yield f"ImageNet {row['resolution']}, {setting}", float(row["guidance_scale"]), row
    else:
        for row in _read("dhariwal2021_adm.csv"):
            kind = "conditional" if row["conditional"] == "yes" else "unconditional"
            yield f"ImageNet {row['resolution']}, {kind} ADM", float(row["scale"]), row


def _read(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


SOURCES = {
    "guidance_scale": "Ho & Salimans 2022, tables 1 and 2",
    "classifier_scale": "Dhariwal & Nichol 2021, table 4",
}
