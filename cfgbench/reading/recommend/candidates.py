"""The cells that a recommendation can choose from, with what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from cfgbench.reading.recommend.budget import Budget, Cost, cost, excesses
from cfgbench.reading.tables.compare import value
from cfgbench.reading.tables.results import Arm, Column, Results
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS


@dataclass(frozen=True)
class Candidate:
    """A cell that could be chosen, the curve it lies on, and what it costs."""

    record: CellRecord
    arm: Arm
    cost: Cost

    @property
    def scale(self) -> float:
        """Its scale on its curve."""
        return self.arm.scale_of(self.record)


@dataclass(frozen=True)
class Question:
    """What is asked of a results folder."""

    results: Results
    budget: Budget
    columns: tuple[Column, ...]  # that decide, in order

    @property
    def seed(self) -> int:
        """The seed that candidates have: the plan's first."""
        return self.results.plan.cells[0].seed


def gather(question: Question) -> tuple[Candidate, ...]:
    """All finished cells of the seed with all scores that decide, each on one curve, CFG and its like first."""
    results, found = question.results, dict[str, Candidate]()
    for arm in sorted(results.arms, key=lambda arm: (consults(arm.method), len(arm.points) == 1)):
        for record in arm.records:
            known = all(value(column, record) is not None for column in question.columns)
            if known and record.cell.seed == question.seed and record.id not in found:
                found[record.id] = Candidate(record, arm, cost(results, record, question.budget.batch_size))
    return tuple(found.values())


def eligible(gathered: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those in true arithmetic that need no network beside the model; all where there is no such."""
    alone = tuple(one for one in gathered if not consults(one.record.cell.guidance.method))
    true = tuple(one for one in alone if not one.record.cell.dtype.endswith("_emulated"))
    return true or alone or tuple(gathered)


def left_out(question: Question, gathered: Sequence[Candidate]) -> dict[str, int]:
    """How many cells of the plan are no candidates, by reason."""
    results = question.results
    seeds = sum(record.cell.seed != question.seed for record in results.done)
    candidates = eligible(gathered)
    unmeasured = [one for one in candidates if None in excesses(one.cost, question.budget).values()]
    over = [one for one in candidates if one not in unmeasured and not fits(one, question.budget)]
    counts = {
        "not finished or failed": len(results.plan.cells) - len(results.done),
        "of other seeds": seeds,
        "without a score that decides": len(results.done) - seeds - len(gathered),
        "guided by another network or in emulated arithmetic": len(gathered) - len(candidates),
        "of unmeasured cost, which keeps no limit": len(unmeasured),
        "over the budget": len(over),
    }
    return {reason: count for reason, count in counts.items() if count}


def fits(candidate: Candidate, budget: Budget) -> bool:
    """Whether a candidate keeps every limit."""
    return all(ratio is not None and ratio <= 1 for ratio in excesses(candidate.cost, budget).values())


def consults(method: str) -> bool:
    """Whether a guidance method needs a network beside the model."""
    return bool(METHODS[method].needs)
