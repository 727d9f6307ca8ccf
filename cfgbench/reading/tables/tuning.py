"""Guidance methods tuned on one network: what competes with what, what the search cost, and each method's best.

A *contest* is all guided cells of one network, dtype and seed; a second network beside it (a weak one) does not make
it another. Each method is tuned over all its cells there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cfgbench.cell import Cell, ModelRef, canonical_json, number
from cfgbench.reading.tables.compare import common_size, paired, replicated, rungs
from cfgbench.reading.tables.results import (
    SCALE_SYMBOLS,
    Arm,
    Column,
    Fields,
    Results,
    at_edge,
    describe,
    other_parameters,
    varying,
)
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS, MODELS
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Floats

BASELINE = "cfg"
MIN_SCALES = 3  # of a curve; the best of fewer was not searched for


@dataclass(frozen=True)
class Tuned:
    """A method in one contest, at its best setting by FID."""

    method: str  # "cfg", or "cfg, interval" for CFG with a further parameter, which competes with plain CFG
    arms: tuple[Arm, ...]
    arm: Arm
    record: CellRecord
    cross_fitted: Floats  # pseudo-values (B,) of the best, chosen without the group that judges
    cells: int  # tried
    samples: int  # of each cell, to judge it
    images: int  # drawn for all cells tried
    passes: float | None  # of the network for these; None where not known of samples made elsewhere

    @property
    def label(self) -> str:
        """The method as people call it: `CFG, interval`."""
        return ", ".join([METHODS[self.arm.method].label, *self.method.split(", ")[1:]])

    @property
    def setting(self) -> str:
        """`s = 1.2, shape damped`: the best scale, and what else was tried in more than one value."""
        names = [name for name in varying([arm.fields for arm in self.arms]) if name != "method"]
        scale = f"{SCALE_SYMBOLS[self.arm.axis]} = {number(self.arm.scale_of(self.record))}"
        return ", ".join(filter(None, (scale, describe(self.arm.fields, names))))

    @property
    def is_tuned(self) -> bool:
        """Whether its scale was searched for: the best of three or more, and not at an end of the grid."""
        return len(self.arm.points) >= MIN_SCALES and not at_edge(self.arm, self.record)

    @property
    def contest(self) -> Fields:
        """What tells its contest from others."""
        return contest_of(self.arm)

    @property
    def replicate_of(self) -> Fields:
        """The contest, by a name that it shares with those that differ in the training seed of the network alone."""
        model = main_network(self.record.cell.model)
        entry = MODELS.get(model.name)
        name = entry.replicate if entry else None
        kept = {key: value for key, value in model.parameters.items() if key != name}
        return _fields(self.record.cell, model.model_copy(update={"parameters": kept}))


def contests(results: Results, column: Column) -> list[list[Tuned]]:
    """Those that CFG took part in with another method; it comes first."""
    grouped: dict[str, dict[str, list[Arm]]] = {}
    for arm in results.arms:
        if METHODS[arm.method].scale is None:
            continue
        key = canonical_json(contest_of(arm))
        grouped.setdefault(key, {}).setdefault(_name(arm), []).append(arm)
    found = [_tune(methods, column) for methods in grouped.values() if BASELINE in methods]
    return [entries for entries in found if len(entries) > 1 and entries[0].method == BASELINE]


def contest_of(arm: Arm) -> Fields:
    """The contest that an arm takes part in."""
    cell = arm.records[0].cell
    return _fields(cell, main_network(cell.model))


def contest_label(contest: Fields, others: Iterable[Fields]) -> str:
    """The network, and of dtype and seed what is not the same in all contests."""
    return describe(contest, ["model", *(name for name in varying(list(others)) if name != "model")])


def _fields(cell: Cell, model: ModelRef) -> Fields:
    return {"model": model.label, "dtype": cell.dtype, "seed": number(cell.seed)}


def _name(arm: Arm) -> str:
    extra = other_parameters(arm.records[-1].cell) if arm.method == BASELINE else {}
    return ", ".join([arm.method, *extra])


def main_network(model: ModelRef) -> ModelRef:
    """A model without the parameters that only add a network beside the one that is sampled."""
    entry = MODELS.get(model.name)
    beside = {p for name, p in entry.switches.items() if name in entry.networks} if entry else set()
    return model.model_copy(update={"parameters": {k: v for k, v in model.parameters.items() if k not in beside}})


def _tune(methods: dict[str, list[Arm]], column: Column) -> list[Tuned]:
    """Each method at its best, CFG first; all judged at the sample count that every cell has."""
    records = [r for arms in methods.values() for arm in arms for r in arm.records if rungs(column, r)]
    count = common_size(column, records)
    if count is None or not paired(records, count) or not all(rungs(column, r)[count].replicates for r in records):
        return []
    order = sorted(methods, key=lambda name: name != BASELINE)
    return [one for name in order for one in tune(name, methods[name], column, count)]


def tune(method: str, arms: Sequence[Arm], column: Column, count: int) -> list[Tuned]:
    """The method at its best, judged at so many samples; nothing where no cell has the score."""
    tried = {r.id: (arm, r) for arm in arms for r in arm.records if rungs(column, r)}
    if not tried:
        return []
    scores = [replicated(column, rungs(column, record)[count]) for _, record in tried.values()]
    sign = 1 if column.entry.lower_is_better else -1
    best = min(range(len(scores)), key=lambda i: sign * float(statistics.pseudo_values(scores[i]).mean()))
    arm, record = list(tried.values())[best]
    fair = statistics.cross_fitted(scores, column.entry.lower_is_better)
    drawn = [record for _, record in tried.values()]
    images, passes = sum(record.num_samples for record in drawn), _passes(drawn)
    return [Tuned(method, tuple(arms), arm, record, fair, len(tried), count, images, passes)]


def _passes(records: Sequence[CellRecord]) -> float | None:
    passes = [record.num_samples * record.nfe for record in records if record.nfe is not None]
    return sum(passes) if len(passes) == len(records) else None
