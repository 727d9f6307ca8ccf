"""Protocols of the literature: whether a score can be compared with published ones, and if not, why.

They are in `published/protocols.toml`. A score is comparable where its cell and its identity are known to have the
values that the protocol fixes; one that has another is not, and where a value is not known it cannot be told. What a
protocol leaves open is free. Imports no torch.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, model_validator

from cfgbench import published
from cfgbench.cell import Cell, number
from cfgbench.errors import unknown
from cfgbench.planning.sample_facts import facts
from cfgbench.registry import METRICS

FILE = published.FOLDER / "protocols.toml"
Value = str | int | float
_WANTS = ", the protocol has "


class Rule(BaseModel):
    """What a value has to be: one of some, or text that matches a pattern as a whole; `{height}` is the pictures'."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    values: tuple[Value, ...] = ()
    pattern: str | None = None
    unsure: str | None = None  # a pattern of values that are neither right nor wrong: they say too little

    @model_validator(mode="before")
    @classmethod
    def _values_alone(cls, given: object) -> object:
        return {"values": given} if isinstance(given, list) else given

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.values and self.pattern is None:
            raise ValueError("a rule has values or a pattern")
        return self

    @property
    def wanted(self) -> str:
        """What is right, in words."""
        return " or ".join([*map(_text, self.values), *([f"one like {self.pattern}"] if self.pattern else [])])

    def allows(self, value: object) -> bool:
        """Whether a value is right."""
        return value in self.values or _matches(self.pattern, value)

    def filled(self, height: object) -> Self:
        """The same with the height of the pictures in its pattern; any where it is not known."""
        text = None if self.pattern is None else self.pattern.replace("{height}", str(height or r"\d+"))
        return self.model_copy(update={"pattern": text})


class Protocol(BaseModel):
    """What is fixed of cells and of each metric's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    source: str
    remarks: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()  # what matters and is never known here
    cell: dict[str, Rule]
    metrics: dict[str, dict[str, Rule]]
    accept: dict[str, tuple[float, float]] = {}


class Check(NamedTuple):
    """One score of a cell against a protocol."""

    column: str
    reasons: tuple[str, ...]  # why it cannot be compared
    unknown: tuple[str, ...]  # what would have to be known besides
    accept: tuple[float, float] | None

    @property
    def comparable(self) -> bool | None:
        """Whether it can be compared; None where it cannot be told."""
        return False if self.reasons else None if self.unknown else True

    @property
    def verdict(self) -> str:
        """The same in words, with what is in the way."""
        if self.reasons:
            return "no: " + "; ".join(self.reasons)
        return "cannot tell: " + "; ".join(self.unknown) if self.unknown else "yes"


class Difference(NamedTuple):
    """A value that is not known to be as a rule has it."""

    text: str
    known: bool  # to be another


@cache
def all_protocols() -> dict[str, Protocol]:
    """The protocols by name."""
    return {name: Protocol.model_validate(body) for name, body in tomllib.loads(FILE.read_text()).items()}


def find(name: str, place: str) -> Protocol:
    """A protocol by name; InputError of another."""
    if name not in all_protocols():
        raise unknown("protocol", name, place, all_protocols())
    return all_protocols()[name]


def check(
    protocol: Protocol, cell: Cell, num_samples: int, identities: Mapping[str, Mapping[str, Value]]
) -> Iterator[Check]:
    """Each metric of a protocol against a cell with so many samples, whose scores by column are these."""
    known = facts(cell, num_samples)
    of_cell = [*differences(protocol.cell, known)]
    for metric, rules in protocol.metrics.items():
        found, sized = identities.get(metric), {name: rule.filled(known.get("height")) for name, rule in rules.items()}
        lacking = Difference(f"there is no {METRICS[metric].label}", known=True)
        all_found = [*of_cell, *([lacking] if found is None else differences(sized, found))]
        reasons = tuple(one.text for one in all_found if one.known)
        open_ones = tuple(one.text for one in all_found if not one.known)
        yield Check(metric, reasons, (*open_ones, *protocol.unverified), protocol.accept.get(metric))


def differences(rules: Mapping[str, Rule], known: Mapping[str, Any]) -> Iterator[Difference]:
    """What is known otherwise than these rules have it, is not known, or says too little."""
    for name, rule in rules.items():
        value = known.get(name)
        if value is None:
            yield Difference(f"{name} is not known{_WANTS}{rule.wanted}", known=False)
        elif not rule.allows(value):
            unsure = _matches(rule.unsure, value)
            too_little = " says too little" if unsure else ""
            yield Difference(f"{name} = {_text(value)}{too_little}{_WANTS}{rule.wanted}", known=not unsure)


def _matches(pattern: str | None, value: object) -> bool:
    return pattern is not None and re.fullmatch(pattern, str(value)) is not None


def _text(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)


def note(name: str, checks: Sequence[Check]) -> str:
    """How many scores of an experiment can be compared, and what is in the way of the others, most frequent first."""
    good, open_ones = (sum(one.comparable is state for one in checks) for state in (True, None))
    text = f"protocol {name}: {good} of {len(checks)} scores can be compared with published ones"
    text += f", of {open_ones} it cannot be told" if open_ones else ""
    others = _most_frequent([said for one in checks for said in one.reasons or one.unknown])
    return f"{text}; of the others: {others}" if others else text


def _most_frequent(differences: Sequence[str]) -> str:
    groups: dict[tuple[str, str], list[str]] = {}  # by field and what the protocol has of it
    for reason in differences:
        said, _, wanted = reason.partition(_WANTS)
        groups.setdefault((said.split(" ")[0] if wanted else said, wanted), []).append(reason)
    worst = sorted(groups.items(), key=lambda item: -len(item[1]))[:4]
    return "; ".join(f"{_common(*key, reasons)} ({len(reasons)})" for key, reasons in worst)


def _common(field: str, wanted: str, reasons: Sequence[str]) -> str:
    return reasons[0] if len(set(reasons)) == 1 else f"{field} is another than {wanted}"
