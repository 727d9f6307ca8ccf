"""The rounds of a sweep: one for a plain sweep; with a budget one per look, with more samples for those still in it.

Every curve is a contest of its scales. Samples have an identity, so that the first 400 of a cell are the same whether
or not more follow: nothing is drawn twice, decisions are made on the first samples that all contenders have, and a run
that was killed comes to the same ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from cfgbench.cell import Cell, canonical_json
from cfgbench.planning.experiment import Budget
from cfgbench.planning.plan import Plan, Task, canonical
from cfgbench.reading.tables.compare import replicated, rungs
from cfgbench.reading.tables.results import Arm, Column, Fields, Results, load
from cfgbench.records import CellRecord, ContestRecord
from cfgbench.scores.selection import Rules, look, unseen
from cfgbench.scores.statistics import Replicated, extrapolated
from cfgbench.store import Store

DIGITS = 4  # significant ones of a scale that refinement adds


def sweep(plan: Plan, store: Store) -> "Plain | Adaptive":
    """How a plan is swept."""
    budget = plan.experiment.budget
    return Plain(plan) if budget is None else Adaptive(plan, budget, store)


@dataclass
class _Contest:
    """The scales of one curve."""

    curve: Fields
    rules: Rules
    lost: dict[str, int] = field(default_factory=dict)  # ids of cells shown worse, and after how many samples
    settled: bool = False
    best: str = ""
    left: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    num_samples: int = 0

    @property
    def record(self) -> ContestRecord:
        """What it came to."""
        return ContestRecord(
            curve=self.curve,
            best=self.best,
            settled=self.settled,
            num_samples=self.num_samples,
            left=self.left,
            unjudged=self.unjudged,
        )


class Plain:
    """A sweep in which every cell gets its samples at once."""

    contests: tuple[ContestRecord, ...] = ()

    def __init__(self, plan: Plan) -> None:
        self._tasks = plan.tasks

    def rounds(self) -> Iterator[tuple[Task, ...]]:
        """All tasks, once."""
        yield self._tasks


class Adaptive:
    """Who is still in which contest, and how many samples each cell is granted."""

    def __init__(self, plan: Plan, budget: Budget, store: Store) -> None:
        self._budget, self._store = budget, store
        self._planned = {task.cell.id: task for task in plan.tasks}
        self._granted = {task.cell.id: self._size(task, 0) for task in plan.tasks}
        self._contests: dict[str, _Contest] = {}

    def rounds(self) -> Iterator[tuple[Task, ...]]:
        """What to have finished next, as whole lists of tasks. Between two of them the store holds the records."""
        for number in range(self._budget.looks):
            yield self._tasks()
            if not self._decide(number):
                return

    @property
    def contests(self) -> tuple[ContestRecord, ...]:
        """What each curve came to so far."""
        return tuple(contest.record for contest in self._contests.values() if contest.best or contest.unjudged)

    def _tasks(self) -> tuple[Task, ...]:
        """Every cell with the samples that it is granted, or that it has got already."""
        return tuple(replace(task, num_samples=self._at_least(task)) for task in self._planned.values())

    def _decide(self, number: int) -> bool:
        """Look, mark who leaves, grant more to who goes on; whether anything is left to be done."""
        results, before = load(self._store.folder), dict(self._granted)
        column = results.column(self._budget.metric)
        arms = results.arms if column is not None else ()
        for arm in arms:
            if len(arm.points) > 1 and column is not None:
                self._judge(arm, column, number)
        self._mark(results)
        if number + 1 < self._budget.looks:
            self._grant(arms, number + 1)
        return before != self._granted

    def _judge(self, arm: Arm, column: Column, number: int) -> None:
        contest = self._contests.setdefault(_key(arm), _Contest(arm.fields, self._rules(arm, column)))
        if contest.settled:
            return
        left = [record for record in arm.records if record.id not in contest.lost]
        scored = [(record, self._score(column, record, number)) for record in left]
        found = [(record, score) for record, score in scored if score is not None]
        judged = {record.id for record, _ in found}
        contest.unjudged = tuple(record.id for record in left if record.id not in judged)
        if len(found) < 2:
            contest.settled = True
            return
        size = self._look_at(found[0][0], number)
        slack = unseen(column.entry.limits, contest.rules, size)
        seen = look([score for _, score in found], contest.rules, slack)
        contest.lost |= {(one := found[i][0]).id: self._look_at(one, number) for i in seen.worse}
        contest.best, contest.num_samples = found[seen.best][0].id, self._look_at(found[seen.best][0], number)
        contest.left = tuple(record.id for i, (record, _) in enumerate(found) if i not in seen.worse)
        finer = number < min(self._budget.refine, self._budget.looks - 1)
        contest.settled = not (finer and self._refine(arm, found[seen.best][0], number + 1)) and seen.settled

    def _score(self, column: Column, record: CellRecord, number: int) -> Replicated | None:
        """A cell's score at a look, None where it has none; of moments with the sharper correction of its bias."""
        known = {size: rung for size, rung in rungs(column, record).items() if rung.replicates}
        whole = self._look_at(record, number)
        if whole not in known:
            return None
        score, smaller = replicated(column, known[whole]), [size for size in known if 2 * size <= whole]
        if not (column.entry.moments and column.corrected and smaller):
            return score
        return extrapolated(score, whole, replicated(column, known[max(smaller)]), max(smaller))

    def _rules(self, arm: Arm, column: Column) -> Rules:
        finest = (len(arm.points) - 1) * 2**self._budget.refine + 1
        alpha = 1 - self._budget.confidence
        return Rules(self._budget.delta, alpha, self._budget.looks, finest, column.entry.lower_is_better)

    def _refine(self, arm: Arm, best: CellRecord, number: int) -> bool:
        """Add the scales halfway between the best and its neighbours, from the next look on; whether there are any."""
        scales = [point.scale for point in arm.points]
        place = [point.record.id for point in arm.points].index(best.id)
        template = next(record for record in arm.records if record.cell.guidance.method == arm.method)
        before = len(self._planned)
        for other in scales[max(0, place - 1) : place] + scales[place + 1 : place + 2]:
            middle = float(f"{(scales[place] + other) / 2:.{DIGITS}g}")
            if isfinite(middle) and middle not in scales:
                cell = _at(template.cell, arm.axis, middle)
                task = replace(self._planned[template.id], cell=cell)
                if self._planned.setdefault(cell.id, task) is task:
                    self._granted[cell.id] = self._size(task, number)
        return len(self._planned) > before

    def _grant(self, arms: Sequence[Arm], number: int) -> None:
        """More for those that go on in some contest, and everything for those that are in none."""
        for arm in arms:
            contest = self._contests.get(_key(arm))
            going = [] if contest is None or contest.settled else [r for r in arm.records if r.id not in contest.lost]
            for record in going:
                self._granted[record.id] = self._size(self._planned[record.id], number)
            for record in arm.records if len(arm.points) == 1 else ():
                self._granted[record.id] = self._planned[record.id].num_samples

    def _mark(self, results: Results) -> None:
        """Write into each record whether and when the cell left; it did when it lost every contest that it was in."""
        members = {_key(arm): {record.id for record in arm.records} for arm in results.arms}
        for record in results.done:
            own = [contest for key, contest in self._contests.items() if record.id in members[key]]
            lost = [contest.lost.get(record.id) for contest in own]
            left = {self._budget.metric: max(filter(None, lost))} if lost and None not in lost else {}
            if record.left != left:
                self._store.write_record(record.model_copy(update={"left": left}))

    def _size(self, task: Task, number: int) -> int:
        return task.looks[min(number, len(task.looks) - 1)]

    def _look_at(self, record: CellRecord, number: int) -> int:
        return self._size(self._planned[record.id], number)

    def _at_least(self, task: Task) -> int:
        granted, record = self._granted[task.cell.id], self._store.cell(task.cell.id)
        if record is None or record.status != "done" or record.num_samples <= granted:
            return granted
        return record.num_samples if record.request == replace(task, num_samples=record.num_samples).digest else granted


def _key(arm: Arm) -> str:
    return canonical_json(arm.fields)


def _at(cell: Cell, axis: str, scale: float) -> Cell:
    """The cell at another value of its scale."""
    if axis in cell.model.scales:
        return Cell.model_validate({**cell.model_dump(), "model": cell.model.at(**{axis: scale}).model_dump()})
    guidance = canonical(cell.guidance.method, {**cell.guidance.parameters, axis: scale})
    return Cell.model_validate({**cell.model_dump(), "guidance": guidance.model_dump()})
