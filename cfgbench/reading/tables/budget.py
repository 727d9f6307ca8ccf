"""What an adaptive sweep spent on each scale, which scales left and when, and whether the best was named."""

from collections.abc import Iterator

from cfgbench.reading.tables.compare import difference, value
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Arm, Column, Point, Results, describe, scale_text, varying
from cfgbench.reading.tables.rows import Row
from cfgbench.reading.tables.text import BEST, TIED, Table, Text, with_error
from cfgbench.records import BudgetRecord, ContestRecord


def budget_rows(results: Results) -> list[Row]:
    """`budget.csv`: one row per scale of each contest; none for a plain sweep."""
    return [_row(results, arm, contest, point) for arm, contest in _contests(results) for point in arm.points]


def budget_table(results: Results) -> Table:
    """The same as text: the leader in bold, those that were still in underlined."""
    column = _column(results)
    name = column.label if column else "score"
    rows = [_texts(results, arm, contest, p) for arm, contest in _contests(results) for p in arm.points]
    header = ("curve", "scale", "samples", name, "behind the leader", "left after")
    marks = "Bold: the leader; underlined: not shown worse by the sweep's test, which is strict since it looks often."
    return Table(" ".join([*budget_lines(results), marks]), header, tuple(rows))


def budget_lines(results: Results) -> Iterator[str]:
    """What was spent of what a plain sweep would have been, and what each contest came to."""
    budget = results.plan.budget
    if budget is None:
        return
    spent, whole = sum(r.num_samples for r in results.done), results.plan.num_samples * len(results.done)
    yield (
        f"Adaptive sweep: {spent:,} samples were drawn, of at most {whole:,}; a scale gets no more once it is shown "
        f"worse than the leader at one of {budget.looks} looks."
    )
    for arm, contest in _contests(results):
        yield _conclusion(results, arm, contest, budget)


def _contests(results: Results) -> list[tuple[Arm, ContestRecord]]:
    found = {tuple(sorted(one.curve.items())): one for one in results.plan.contests}
    pairs = ((arm, found.get(tuple(sorted(arm.fields.items())))) for arm in results.arms)
    return [(arm, contest) for arm, contest in pairs if contest is not None]


def _conclusion(results: Results, arm: Arm, contest: ContestRecord, budget: BudgetRecord) -> str:
    column, scales = _column(results), {point.record.id: scale_text(point.scale) for point in arm.points}
    name = column.label if column else budget.metric
    without = [scales.get(one, "?") for one in contest.unjudged]
    unjudged = f" Not judged, for want of a score: {SCALE_SYMBOLS[arm.axis]} = {', '.join(without)}." if without else ""
    if not contest.best:
        return f"{_name(results, arm)}: too few scales have a score to compare.{unjudged}"
    leader = f"{_name(results, arm)}: {SCALE_SYMBOLS[arm.axis]} = {scales.get(contest.best, '?')}"
    others = [scales[one] for one in contest.left if one != contest.best and one in scales]
    if not contest.settled:
        rivals = f"{', '.join(others)} after {contest.num_samples:,} samples of each"
        return f"{leader} leads, undecided against {rivals}.{unjudged}"
    bound = f"within {budget.delta:g} of the best {name}" if others else f"the best of these scales by {name}"
    sure = f"with {100 * budget.confidence:g} % confidence, after {contest.num_samples:,} samples"
    return f"{leader} is {bound}, {sure}.{unjudged}"


def _row(results: Results, arm: Arm, contest: ContestRecord, point: Point) -> Row:
    record = point.record
    row: Row = {**arm.fields, "scale": point.scale, "id": record.id, "num_samples": record.num_samples}
    return row | {
        "left_after": record.left.get(_metric(results)),
        "leads": record.id == contest.best,
        "settled": contest.settled,
    }


def _texts(results: Results, arm: Arm, contest: ContestRecord, point: Point) -> tuple[Text, ...]:
    column, record = _column(results), point.record
    shown = value(column, record) if column else None
    leader = next((one.record for one in arm.points if one.record.id == contest.best), None)
    gap = difference(column, record, leader) if column and leader else None
    mark = BEST if record.id == contest.best else TIED if record.id in contest.left else ""
    texts = (with_error(shown) if shown else "", with_error(gap) if gap else "")
    left = record.left.get(_metric(results))
    name, scale, count = _name(results, arm), scale_text(point.scale), f"{record.num_samples:,}"
    return (Text(name), Text(scale, mark), Text(count), *map(Text, texts), Text("" if left is None else f"{left:,}"))


def _column(results: Results) -> Column | None:
    return results.column(_metric(results))


def _metric(results: Results) -> str:
    return results.plan.budget.metric if results.plan.budget else ""


def _name(results: Results, arm: Arm) -> str:
    return describe(arm.fields, dict.fromkeys(["method", *varying([other.fields for other in results.arms])]))
