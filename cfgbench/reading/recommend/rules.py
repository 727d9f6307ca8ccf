"""Which scale, sampler, steps and dtype to use, from a results folder: the rules. `words` says why.

- Candidates are the finished cells of the plan's first seed that keep every limit of the budget: measured p50 latency
  of one batch, peak memory of their cost class, network evaluations per image. A cell whose speed was not measured
  keeps no limit on speed or memory. Methods that consult another network (a classifier) are candidates only where
  there is no other; they are priced as neighbours.
- FID decides: its tied set, all candidates not shown worse than the best. A preferred score that rises (CLIP score,
  IS, precision, accuracy) is maximised among those, and its own tied set is kept; a preferred distance (KID) decides
  in place of FID. A score without intervals (recall) keeps its best value only.
- Of what is left the cheapest wins: fewest seconds per image, or network evaluations and classifier gradients where
  some were not timed. Costs within 5 % count as equal, and there the better score wins.
- An optimum at an end of its curve's grid is unresolved, and the next scale to try lies one step further out.
- If no cell keeps the budget, the nearest feasible choice is the one, by the same rules, that exceeds it least. A
  limit on what was measured of no candidate cannot be shown to hold, and the choice is made without it.

Ties, differences and intervals are those of `tables.compare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cfgbench.errors import InputError, unknown
from cfgbench.reading.recommend.budget import NO_BUDGET, Budget, Cost, excesses, timed_batch
from cfgbench.reading.recommend.candidates import Candidate, Question, eligible, fits, gather, left_out
from cfgbench.reading.recommend.neighbours import Neighbour, neighbours
from cfgbench.reading.tables.compare import Verdict, verdict
from cfgbench.reading.tables.results import Arm, Column, Results, at_edge
from cfgbench.records import CellRecord
from cfgbench.registry import METHODS

SAME_COST = 1.05


@dataclass(frozen=True)
class Stage:
    """One score that narrowed the candidates, and to which."""

    column: Column
    found: Verdict
    among: int
    kept: tuple[Candidate, ...]


@dataclass(frozen=True)
class Choice:
    """What the rules choose among some candidates, and how they came to it."""

    candidate: Candidate
    stages: tuple[Stage, ...]
    by_seconds: bool


@dataclass(frozen=True)
class Recommendation:
    """The answer. `exceeded` is empty where the budget is kept; else the choice is the nearest feasible one."""

    question: Question
    choice: Choice
    exceeded: dict[str, float | None]  # need / limit, by limit; None where no candidate's need was measured
    runner_up: Choice | None
    neighbours: tuple[Neighbour, ...]
    unresolved: tuple[Column, float] | None  # the score whose optimum is at the edge of the grid, and a scale to try
    left_out: dict[str, int]  # reason -> cells that are no candidates


def recommend(results: Results, budget: Budget = NO_BUDGET, prefer: str | None = None) -> Recommendation:
    """Choose by the rules above; InputError where there is nothing to choose from."""
    size = timed_batch(results, budget.batch_size)
    question = Question(results, replace(budget, batch_size=size), _columns(results, prefer))
    gathered = gather(question)
    if not gathered:
        raise InputError(f"no finished cell of {results.folder} has a score {question.columns[0].name}")
    pool, exceeded = _within(question, eligible(gathered))
    choice = _choose(question, pool)
    known = replace(question, budget=question.budget.without(n for n, ratio in exceeded.items() if ratio is None))
    others = [one for one in pool if one.record.id != choice.candidate.record.id]
    return Recommendation(
        question,
        choice,
        exceeded,
        _choose(question, others) if others else None,
        neighbours(known, choice.candidate, gathered),
        _unresolved(question, choice.candidate),
        left_out(question, gathered),
    )


def _columns(results: Results, prefer: str | None) -> tuple[Column, ...]:
    """The scores that decide, in order."""
    if not results.columns:
        raise InputError(f"no cell of {results.folder} has a score yet")
    preferred = None if prefer is None else results.column(prefer)
    if prefer is not None and preferred is None:
        raise unknown("score", prefer, "--prefer", [column.name for column in results.columns])
    if preferred is not None and preferred.entry.lower_is_better:
        return (preferred,)
    distances = [column for column in results.columns if column.entry.lower_is_better]
    first = results.column("fid") or next(iter(distances), preferred or results.columns[0])
    return (first,) if preferred is None or preferred is first else (first, preferred)


def _within(question: Question, candidates: Sequence[Candidate]) -> tuple[Sequence[Candidate], dict[str, float | None]]:
    """The candidates that keep the budget; if none does, those that exceed it least, and by how much."""
    budget = question.budget
    needs = [excesses(one.cost, budget) for one in candidates]
    unknowable: dict[str, float | None] = {name: None for name in budget.limits if all(n[name] is None for n in needs)}
    budget = budget.without(unknowable)
    measured = [one for one in candidates if None not in excesses(one.cost, budget).values()]
    fitting = [one for one in measured if fits(one, budget)]
    if fitting or not measured:
        return fitting or candidates, unknowable
    worst = {one.record.id: _worst(one.cost, budget) for one in measured}
    nearest = [one for one in measured if worst[one.record.id] <= SAME_COST * min(worst.values())]
    ratios = excesses(_choose(question, nearest).candidate.cost, budget)
    return nearest, unknowable | {name: ratio for name, ratio in ratios.items() if ratio is not None and ratio > 1}


def _worst(cost: Cost, budget: Budget) -> float:
    """The greatest of need / limit."""
    return max(ratio or 0.0 for ratio in excesses(cost, budget).values())


def _choose(question: Question, candidates: Sequence[Candidate]) -> Choice:
    """The rules, on at least one candidate."""
    left, stages = tuple(candidates), list[Stage]()
    for column in question.columns:
        found = verdict(column, [one.record for one in left])
        if found is not None:
            ids = {record.id for record in found.tied or (found.best,)}
            among, left = len(left), tuple(one for one in left if one.record.id in ids)
            stages.append(Stage(column, found, among, left))
    by_seconds = all(one.cost.seconds_per_image is not None for one in left)
    prices = {one.record.id: _price(one.cost, by_seconds) for one in left}
    cheap = [one for one in left if prices[one.record.id] <= SAME_COST * min(prices.values())]
    return Choice(_best(question.columns[-1], cheap), tuple(stages), by_seconds)


def _price(cost: Cost, by_seconds: bool) -> float:
    price = cost.seconds_per_image if by_seconds else cost.passes
    return price if price is not None else 0.0  # samples made elsewhere: nothing is known, so nothing tells them apart


def _best(column: Column, candidates: Sequence[Candidate]) -> Candidate:
    found = verdict(column, [one.record for one in candidates])
    return next(one for one in candidates if found is None or one.record.id == found.best.id)


def _unresolved(question: Question, chosen: Candidate) -> tuple[Column, float] | None:
    """The first score whose optimum on the chosen curve lies at an end of the grid, and one step beyond that end."""
    first, *preferred = question.columns
    found = verdict(first, chosen.arm.records)
    optima = [(first, found.best)] if found is not None else []
    for column, record in [*optima, *((column, chosen.record) for column in preferred)]:
        if len(chosen.arm.points) > 1 and at_edge(chosen.arm, record):
            return column, _beyond(chosen.arm, record)
    return None


def _beyond(arm: Arm, record: CellRecord) -> float:
    """One step of the grid further out than the end at which a record lies."""
    scales = [point.scale for point in arm.points]
    if arm.scale_of(record) == scales[-1]:
        return round(2 * scales[-1] - scales[-2], 9)
    schema = METHODS[arm.method].parameters.get(arm.axis)
    minimum = schema.minimum if schema is not None and schema.minimum is not None else -float("inf")
    return round(max(2 * scales[0] - scales[1], minimum), 9)
