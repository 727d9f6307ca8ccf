"""The answer of an experiment in three lines: the best scale, what it gains, what it costs."""

from collections.abc import Collection, Sequence

from cfgbench.reading.answer_cost import cost_line
from cfgbench.reading.tables.compare import Verdict, difference, value, verdict
from cfgbench.reading.tables.results import (
    SCALE_SYMBOLS,
    Arm,
    Column,
    Results,
    at_edge,
    describe,
    off,
    scale_text,
    varying,
)
from cfgbench.reading.tables.text import held_out, with_error
from cfgbench.reading.tables.tuning import contest_of
from cfgbench.records import CellRecord
from cfgbench.scores.statistics import Estimate


def answer_lines(results: Results) -> tuple[str, str, str]:
    """Three lines for the terminal; `±` is half of a 95 % interval. They say so where something was not measured."""
    columns = held_out(results)
    arm = main_arm(results)
    found = verdict(columns[0], arm.records) if arm is not None else None
    if arm is None or found is None:
        failed = sum(record.status == "failed" for record in results.records.values())
        state = f"{len(results.done)} of {len(results.plan.cells)} cells finished, {failed} failed"
        asked = any(record.absent for record in results.done) or len(results.done) < len(results.plan.cells)
        scores = "no scores yet" if asked else "no scores were asked for"
        return (
            f"Best scale: {scores} ({state})",
            f"Against unguided: {scores}",
            cost_line(results, None),
        )
    return (
        _best_line(results, arm, columns),
        _gain_line(results, arm, columns, found.best),
        cost_line(results, arm),
    )


def main_arm(results: Results) -> Arm | None:
    """The curve with the best score among those that the answer is chosen from."""
    columns, arms = held_out(results), _contenders(results)
    found = verdict(columns[0], [record for arm in arms for record in arm.records]) if columns else None
    return next((arm for arm in arms if found is not None and found.best.id in {r.id for r in arm.records}), None)


def _contenders(results: Results) -> list[Arm]:
    """The curves that the answer is chosen from: of CFG or over a scale of the model's own, of any method where there
    are none, and of the first network, dtype and seed: another network's score is no better guidance.
    """
    columns = held_out(results)
    scored = [arm for arm in results.arms if columns and verdict(columns[0], arm.records) is not None]
    first = [arm for arm in scored if arm.method == "cfg" or arm.over_model]
    arms = first or [arm for arm in scored if len(arm.points) > 1] or scored
    return [arm for arm in arms if contest_of(arm) == contest_of(arms[0])]


def _best_line(results: Results, arm: Arm, columns: Sequence[Column]) -> str:
    alone = len(arm.points) == 1
    parts = [
        _value_part(column, found) if alone else _best_part(arm, column, found, first=column is columns[0])
        for column in columns
        if (found := verdict(column, arm.records)) is not None
    ]
    name = describe(arm.fields, dict.fromkeys(["method", *varying([other.fields for other in results.arms])]))
    tried = f", tried at {SCALE_SYMBOLS[arm.axis]} = {scale_text(arm.points[0].scale)} alone" if alone else ""
    return f"{name}{_among(results, arm, columns[0])}{tried}: " + "; ".join(parts)


def _among(results: Results, arm: Arm, column: Column) -> str:
    """` (best of 45 curves by FID on the samples that score it; 6 others tied)`, where there are others."""
    arms = _contenders(results)
    if len(arms) == 1:
        return ""
    bests = [found.best for other in arms if (found := verdict(column, other.records)) is not None]
    found = verdict(column, bests)
    ties = (
        "" if found is None or found.tied is None else f"; {_others({r.id for r in found.tied} - {found.best.id})} tied"
    )
    return f" (best of {len(arms)} curves by {column.label} on the samples that score it{ties})"


def _others(found: Collection[str]) -> str:
    return f"{len(found) or 'no'} other{'s' if len(found) > 1 else ''}"


def _value_part(column: Column, found: Verdict) -> str:
    """`FID is 1.55 ± 0.16 at N = 2000`, where one scale was tried and nothing is best."""
    result = value(column, found.best)
    return f"{column.label} is {with_error(result) if result else 'missing'} at N = {found.best.num_samples}"


def _best_part(arm: Arm, column: Column, found: Verdict, first: bool) -> str:
    """`FID is lowest at s = 1.1 (1.55 ± 0.16 at N = 2000; tied: 1.1, 1.2)`."""
    end = "lowest" if column.entry.lower_is_better else "highest"
    symbol = SCALE_SYMBOLS[arm.axis]
    result = value(column, found.best)
    facts = [f"{with_error(result)} at N = {found.best.num_samples}"] if first and result is not None else []
    others = [record for record in found.tied or () if record.id != found.best.id]
    if others:
        facts.append("tied: " + ", ".join(scale_text(arm.scale_of(record)) for record in found.tied or ()))
    elif found.tied is not None:
        facts.append("no other tied")
    if at_edge(arm, found.best):
        facts.append("unresolved: the edge of the grid")
    place = f"{column.label} is {end} at {symbol} = {scale_text(arm.scale_of(found.best))}"
    return f"{place} ({'; '.join(facts)})" if facts else place


def _gain_line(results: Results, arm: Arm, columns: Sequence[Column], best: CellRecord) -> str:
    unguided, symbol = results.reference(arm, best), SCALE_SYMBOLS[arm.axis]
    name = f"{symbol} = {scale_text(off(arm.axis))}" if arm.over_model else "unguided"
    if unguided is None:
        return f"Against {name}: not measured (no such cell of this model, sampler, steps, dtype and seed)"
    if best.id == unguided.id:
        state = "that is best" if arm.over_model else "the best scale is off"
        return f"Against {name}: no gain in {columns[0].label}; {state}"
    gaps = ((column, difference(column, best, unguided)) for column in columns)
    parts = [f"{column.label} {signed(gap)}" for column, gap in gaps if gap is not None]
    return f"Against {name}, at {symbol} = {scale_text(arm.scale_of(best))}: " + "; ".join(parts)


def signed(gap: Estimate) -> str:
    """`-0.34 ± 0.09`, or the same with `(within noise)`."""
    text = with_error(gap)
    noise = gap.interval is not None and gap.interval[0] <= 0 <= gap.interval[1]
    return ("" if text.startswith("-") else "+") + text + (" (within noise)" if noise else "")
