"""Which scores can be compared with published ones by a protocol of the literature, and why others cannot."""

from collections.abc import Iterator
from typing import NamedTuple

from cfgbench.planning import protocols
from cfgbench.planning.protocols import Check, Protocol
from cfgbench.reading.tables.results import Arm, Point, Results, describe, scale_text, varying
from cfgbench.reading.tables.rows import Row
from cfgbench.reading.tables.text import Table, Text
from cfgbench.registry import METRICS


class Checked(NamedTuple):
    """A score as protocols have it, without a correction for bias, and how it stands."""

    arm: Arm
    point: Point
    check: Check
    value: float | None

    @property
    def inside(self) -> bool | None:
        """Whether a score that can be compared lies in the range that is published for it."""
        if not self.check.comparable or self.value is None or self.check.accept is None:
            return None
        return self.check.accept[0] <= self.value <= self.check.accept[1]


def checked(results: Results, name: str | None = None) -> list[Checked]:
    """Every finished cell against a protocol, or that of the experiment; nothing where there is none."""
    name = name or results.plan.protocol
    return [] if name is None else list(_checked(results, protocols.find(name, "protocol of the experiment")))


def protocol_rows(found: list[Checked]) -> list[Row]:
    """`protocol.csv`: one row per cell and metric of the protocol."""
    return [
        {
            **one.arm.fields,
            "scale": one.point.scale,
            "id": one.point.record.id,
            "metric": one.check.column,
            "value": one.value,
            "comparable": one.check.comparable,
            "accept_low": one.check.accept[0] if one.check.accept else None,
            "accept_high": one.check.accept[1] if one.check.accept else None,
            "inside": one.inside,
            "reasons": "; ".join(one.check.reasons),
            "not_known": "; ".join(one.check.unknown),
        }
        for one in found
    ]


def protocol_table(results: Results, found: list[Checked], name: str | None = None) -> Table:
    """The same as text."""
    protocol = protocols.find(name or results.plan.protocol or "", "protocol of the experiment")
    header = ("curve", "scale", "score", "value", "accepted", "can be compared")
    sentences = [f"{protocol.title} ({protocol.source})", "Scores are plain, as published ones are"]
    sentences += ["What remains different: " + "; ".join(protocol.remarks)] if protocol.remarks else []
    return Table(". ".join(sentences) + ".", header, tuple(_texts(results, one) for one in found))


def lines(found: list[Checked], name: str) -> Iterator[str]:
    """How many scores can be compared, and how they stand."""
    yield protocols.note(name, [one.check for one in found])
    ranged = [one for one in found if one.inside is not None]
    if ranged:
        yield f"{sum(bool(one.inside) for one in ranged)} of {len(ranged)} lie in the published range"


def _checked(results: Results, protocol: Protocol) -> Iterator[Checked]:
    seen: set[str] = set()
    for arm in results.arms:
        for point in arm.points:
            record = point.record
            if record.id in seen:  # curves share their unguided cell
                continue
            seen.add(record.id)
            scores = {score.column: score for score in record.scores}
            identities = {column: score.identity for column, score in scores.items()}
            for check in protocols.check(protocol, record.cell, record.num_samples, identities):
                score = scores.get(check.column)
                yield Checked(arm, point, check, None if score is None else score.value)


def _texts(results: Results, one: Checked) -> tuple[Text, ...]:
    fields = dict.fromkeys(["method", *varying([other.fields for other in results.arms])])
    low_high = "" if one.check.accept is None else f"{one.check.accept[0]:.6g} to {one.check.accept[1]:.6g}"
    mark = {True: " (inside)", False: " (outside)", None: ""}[one.inside]
    return (
        Text(describe(one.arm.fields, fields)),
        Text(scale_text(one.point.scale)),
        Text(METRICS[one.check.column].label),
        Text("" if one.value is None else f"{one.value:.6g}"),
        Text(low_high + mark),
        Text(one.check.verdict),
    )
