"""What rules read: the published experiments' results, and how to find a network's curve or cell in them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isclose
from pathlib import Path

from cfgbench.cell import ModelRef, Value, canonical_json
from cfgbench.claims import measured
from cfgbench.claims.findings import LackingError
from cfgbench.costs import record as costs
from cfgbench.costs.record import CostsRecord
from cfgbench.errors import InputError
from cfgbench.reading.tables import compare
from cfgbench.reading.tables.results import Arm, Column, Results, load
from cfgbench.records import CellRecord
from cfgbench.scores.statistics import Estimate

SEEDS = (0, 1, 2)  # training seeds of the shipped networks
CONSTANT = ("sampler", "eta", "state_dtype", "dtype", "seed")  # of an arm: the same in all experiments here
Arms = tuple[Arm, ...]  # one per training seed


@dataclass(frozen=True)
class Evidence:
    """Results folders by name; what was measured beside them, by name."""

    results: Mapping[str, Results]
    measured: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)  # by series
    cost_record: CostsRecord | None = None

    def experiment(self, name: str) -> Results:
        """The results of an experiment; LackingError where they are not all there."""
        if name not in self.results:
            raise LackingError(f"the results of {name}; {_advice(name)}")
        results = self.results[name]
        missing = len(results.plan.cells) - len(results.done)
        if missing:
            raise LackingError(f"{missing} of {len(results.plan.cells)} cells of {name}; {_advice(name)}")
        return results

    def series(self, name: str) -> Mapping[str, Sequence[float]]:
        """What `cfgbench claims --measure` wrote under a name; LackingError without it."""
        if name not in self.measured:
            raise LackingError(f"the measurement {name!r}; `cfgbench claims --measure` makes it")
        return self.measured[name]

    @property
    def costs(self) -> CostsRecord:
        """What a second model costs; LackingError where that was not measured."""
        if self.cost_record is None:
            raise LackingError("the record of costs; `cfgbench costs` makes it")
        return self.cost_record

    @cached_property
    def columns(self) -> Mapping[str, Column]:
        """Every score of the digits experiments by name; InputError where two experiments mean different scores."""
        found: dict[str, Column] = {}
        for name, results in self.results.items():
            for column in results.columns if _of_digits(results) else ():
                first = found.setdefault(column.name, column)
                if canonical_json(dict(first.identity)) != canonical_json(dict(column.identity)):
                    raise InputError(f"{column.name} of {name} is not the score of that name elsewhere; run it anew")
        return found

    def column(self, name: str) -> Column:
        """A score by name; LackingError where no experiment has it."""
        if name not in self.columns:
            raise LackingError(f"the score {name}, which no experiment has")
        return self.columns[name]

    def arm(self, experiment: str, method: str, model: str, /, **settings: str) -> Arm:
        """The curve of a method on a model with exactly these other settings, as texts; LackingError without it.

        Steps are 25 if not given, and "" for a model without any.
        """
        wanted = {"model": model, "method": method, "steps": "25", **settings}
        wanted = {name: text for name, text in wanted.items() if text}
        for arm in self.experiment(experiment).arms:
            if {name: text for name, text in arm.fields.items() if name not in CONSTANT} == wanted:
                return arm
        described = ", ".join(f"{name} {text}" for name, text in wanted.items())
        raise LackingError(f"finished cells with {described}; {_advice(experiment)}")

    def arms(
        self, experiment: str, method: str, network: Mapping[str, Value] | None = None, /, **settings: str
    ) -> Arms:
        """The curves of a method on a digits network, one per training seed."""
        models = (digits({**(network or {}), "training_seed": seed}) for seed in SEEDS)
        return tuple(self.arm(experiment, method, model, **settings) for model in models)

    def value(self, score: str, record: CellRecord) -> Estimate:
        """A cell's score to show."""
        found = compare.value(self.column(score), record)
        if found is None:
            raise LackingError(f"{score} of cell {record.id}")
        return found

    def gap(self, score: str, a: CellRecord, b: CellRecord) -> Estimate:
        """a - b, paired where the samples are; zero for a cell and itself."""
        if a.id == b.id:
            return Estimate(0.0, 0.0, (0.0, 0.0), None)
        found = compare.difference(self.column(score), a, b)
        if found is None:
            raise LackingError(f"{score} of cells {a.id} and {b.id}")
        return found


def read(folder: Path, names: Iterable[str], measurements: Path) -> Evidence:
    """The experiments of these names that have results in a folder, and the measurements in another."""
    present = [name for name in names if (folder / name / "plan.json").is_file()]
    found = costs.load(folder / "costs") if (folder / "costs" / costs.FILE).is_file() else None
    return Evidence({name: load(folder / name) for name in present}, measured.read(measurements), found)


def gans(evidence: Evidence) -> Arms:
    """The truncation curves of the GAN, one per training seed; no truncation is at infinity."""
    models = ("digits_gan", *(f"digits_gan(training_seed={seed})" for seed in SEEDS[1:]))
    return tuple(evidence.arm("baselines", "truncation", model, steps="") for model in models)


def digits(parameters: Mapping[str, Value]) -> str:
    """How tables call a digits network; parameters at their defaults may be given."""
    defaults: Mapping[str, Value] = {"p_uncond": 0.1, "training_steps": 800, "training_seed": 0, "attention": False}
    given = {name: value for name, value in parameters.items() if value != defaults.get(name)}
    return ModelRef(name="digits", parameters=given).label


def at(arm: Arm, scale: float) -> CellRecord:
    """The cell of a curve at a scale; LackingError without it."""
    for point in arm.points:
        if isclose(point.scale, scale):
            return point.record
    raise LackingError(f"the cell of {arm.method} at scale {scale:g} with {canonical_json(arm.fields)}")


def scales(arms: Arms) -> list[float]:
    """The scales that all these curves have, ascending."""
    common = set.intersection(*({point.scale for point in arm.points} for arm in arms))
    return sorted(common)


def _of_digits(results: Results) -> bool:
    return any(cell.model.name == "digits" for cell in results.plan.cells)


def _advice(experiment: str) -> str:
    return f"`cfgbench run experiments/{experiment}.yaml` makes them"
