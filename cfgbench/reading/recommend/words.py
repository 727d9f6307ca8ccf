"""A recommendation in words."""

from collections.abc import Iterator, Sequence

from cfgbench.cell import number
from cfgbench.reading.answer import signed
from cfgbench.reading.recommend import deployment
from cfgbench.reading.recommend.budget import LIMITS, Cost
from cfgbench.reading.recommend.candidates import Candidate
from cfgbench.reading.recommend.neighbours import Neighbour
from cfgbench.reading.recommend.rules import Choice, Recommendation, Stage
from cfgbench.reading.tables.compare import difference, value, verdict
from cfgbench.reading.tables.results import SCALE_SYMBOLS, Column, Results, describe, scale_text, varying
from cfgbench.reading.tables.text import with_error
from cfgbench.registry import METHODS
from cfgbench.scores.statistics import Estimate
from cfgbench.units import show_bytes, show_seconds


def to_text(made: Recommendation) -> str:
    """The answer, the reasons, the runner-up, the price of each neighbour, and what to paste."""
    results, chosen = made.question.results, made.choice.candidate
    lines = [impossible(made), ""] if made.exceeded else []
    lead = "Nearest feasible choice" if made.exceeded else "Use"
    lines += [f"{lead}: {_named(results, chosen)}", *(f"  {line}" for line in _measured(made, chosen))]
    lines += ["", "Why", *(f"- {reason}" for reason in reasons(made))]
    if made.runner_up is not None:
        lines += ["", "Runner-up", f"- {_runner_up(made, made.runner_up)}"]
    if made.neighbours:
        lines += ["", "Neighbours: what each change makes of it, paired, ± half of a 95 % interval"]
        lines += [f"- {_neighbour(made, one)}" for one in made.neighbours]
    return "\n".join([*lines, "", "To paste", "", deployment.code(chosen.record.cell).rstrip()])


def impossible(made: Recommendation) -> str:
    """One sentence: which limits fail, by how much, and the nearest feasible choice."""
    results, chosen = made.question.results, made.choice.candidate
    parts = [_exceeded(made, name, ratio) for name, ratio in made.exceeded.items()]
    lead = "without that limit the choice is" if None in made.exceeded.values() else "the nearest feasible is"
    return f"No finished cell keeps the budget: {'; '.join(parts)}; {lead} {_named(results, chosen)}."


def reasons(made: Recommendation) -> Iterator[str]:
    """Why this one, sentence by sentence."""
    yield from (_stage_reason(made, stage) for stage in made.choice.stages)
    yield from _cost_reason(made.choice)
    yield from _tie_reason(made.choice)
    yield from _preference_reason(made)
    yield from _gain_reason(made)
    if made.unresolved is not None:
        column, scale = made.unresolved
        symbol = SCALE_SYMBOLS[made.choice.candidate.arm.axis]
        end = "its optimum on this curve lies at the edge of the grid"
        yield f"{column.label} is unresolved: {end}; next, try {symbol} = {number(scale)}"
    if made.choice.candidate.record.cell.dtype.endswith("_emulated"):
        yield "half precision was emulated, which shows its quality and nothing of its speed"
    counts = ", ".join(f"{count} {reason}" for reason, count in made.left_out.items())
    if counts:
        yield f"cells that are no candidates: {counts}"
    health = made.choice.candidate.record.health
    if health.nan or health.constant or health.saturated:
        counts = f"{health.nan} have NaN, {health.constant} are constant, {health.saturated} saturated"
        yield f"look at its samples: {counts}"


def _stage_reason(made: Recommendation, stage: Stage) -> str:
    """`FID is lowest at ...; tied with it: 3 of 11 candidates`."""
    column, results = stage.column, made.question.results
    best = next((one for one in stage.kept if one.record.id == stage.found.best.id), stage.kept[0])
    result = value(column, best.record)
    shown = f" ({with_error(result)})" if result is not None else ""
    among = f"among {stage.among} candidates" if stage.among > 1 else "of the one candidate left"
    place = f"{column.label} is {_end(column)} {among} at {_named(results, best)}{shown}"
    if stage.found.tied is None:
        return f"{place}; it has no interval, so the best value alone counts"
    count = len(stage.kept) - 1
    if stage.among == 1:
        return place
    return f"{place}; " + (f"tied with it: {count} other{'s'[: count > 1]}" if count else "no other tied")


def _cost_reason(choice: Choice) -> Iterator[str]:
    kept = choice.stages[-1].kept if choice.stages else ()
    if len(kept) < 2:
        return
    what = "seconds per image" if choice.by_seconds else "network evaluations (not all were timed)"
    prices = [one.cost.seconds_per_image if choice.by_seconds else one.cost.passes for one in kept]
    own = choice.candidate.cost.seconds_per_image if choice.by_seconds else choice.candidate.cost.passes
    known = [price for price in prices if price is not None]
    if own is None or not known:
        yield f"of these {len(kept)} it has the best value; what they cost is not known"
        return
    texts = [show_seconds(x) if choice.by_seconds else f"{x:g}" for x in (own, max(known))]
    yield f"of these {len(kept)} the cheapest in {what} wins: {texts[0]}, where the dearest needs {texts[1]}"


def _tie_reason(choice: Choice) -> Iterator[str]:
    """What the tie with the best of the first score may hide."""
    for stage in choice.stages[:1]:
        gap = difference(stage.column, choice.candidate.record, stage.found.best)
        if gap is not None:
            more = "more samples would tell them apart" if len(stage.kept) > 2 else "more samples would tell"
            yield f"against the {_end(stage.column)} {stage.column.label} it is {signed(gap)}: {more}"


def _preference_reason(made: Recommendation) -> Iterator[str]:
    """Where a preferred score alone would lead, and what that costs in the first."""
    if len(made.question.columns) < 2:
        return
    first, preferred = made.question.columns
    found = verdict(preferred, made.choice.candidate.arm.records)
    if found is None or found.best.id == made.choice.candidate.record.id:
        return
    gap = difference(first, found.best, made.choice.candidate.record)
    symbol, scale = SCALE_SYMBOLS[made.choice.candidate.arm.axis], made.choice.candidate.arm.scale_of(found.best)
    price = f", where {first.label} is {signed(gap)}" if gap is not None else ""
    yield f"{preferred.label} alone is {_end(preferred)} on this curve at {symbol} = {scale_text(scale)}{price}"


def _gain_reason(made: Recommendation) -> Iterator[str]:
    results, record = made.question.results, made.choice.candidate.record
    unguided = results.unguided(record.cell)
    if unguided is None or unguided.id == record.id:
        return
    gaps = ((column, difference(column, record, unguided)) for column in made.question.columns)
    texts = [f"{column.label} {signed(gap)}" for column, gap in gaps if gap is not None]
    if texts:
        yield f"against unguided: {', '.join(texts)}"


def _runner_up(made: Recommendation, second: Choice) -> str:
    record, first = second.candidate.record, made.choice.candidate
    gaps = [(column, difference(column, record, first.record)) for column in made.question.columns]
    return f"{_named(made.question.results, second.candidate)}: {_price(made, second.candidate, gaps)}"


def _neighbour(made: Recommendation, one: Neighbour) -> str:
    needs = METHODS[one.candidate.record.cell.guidance.method].needs
    extra = f", needs one more network ({', '.join(needs)})" if needs else ""
    over = "" if one.feasible else ", does not keep the budget"
    return f"{one.change}: {_apart(made, one)}: {_price(made, one.candidate, one.gaps)}{extra}{over}"


def _apart(made: Recommendation, one: Neighbour) -> str:
    """What is not as in the choice."""
    own, other = made.choice.candidate, one.candidate
    if own.arm == other.arm:
        return _scale(other)
    names = [name for name in other.arm.fields if own.arm.fields.get(name) != other.arm.fields[name]]
    return describe(other.arm.fields, names) + (f", {_scale(other)}" if "method" in names else "")


def _price(made: Recommendation, other: Candidate, gaps: Sequence[tuple[Column, Estimate | None]]) -> str:
    texts = [f"{column.label} {signed(gap)}" for column, gap in gaps if gap is not None]
    return ", ".join([*texts, *_ratios(made, other)])


def _ratios(made: Recommendation, other: Candidate) -> list[str]:
    """Costs beside those of the choice."""
    own, cost = made.choice.candidate.cost, other.cost
    texts = [] if not cost.nfe or not own.nfe else [f"{cost.nfe / own.nfe:.3g}x network evaluations"]
    if cost.seconds_per_image and own.seconds_per_image:
        change = cost.seconds_per_image - own.seconds_per_image
        sign = "+" if change > 0 else "-"
        return [*texts, f"{sign}{show_seconds(abs(change))} per image" if change else "same seconds"]
    return texts if own.seconds_per_image is None else [*texts, "seconds not measured"]


def _named(results: Results, one: Candidate) -> str:
    """`s = 1.2 (w = 0.2), ddim, 25 steps, fp32, CFG`, and what else varies in the experiment."""
    others = varying([arm.fields for arm in results.arms])
    names = dict.fromkeys(["sampler", "steps", "dtype", "method", *(name for name in others if name != "seed")])
    return f"{_scale(one)}, {describe(one.arm.fields, names)}"


def _scale(one: Candidate) -> str:
    """`s = 1.2 (w = 0.2)`."""
    text = f"{SCALE_SYMBOLS[one.arm.axis]} = {scale_text(one.scale)}"
    return text + (f" (w = {number(round(one.scale - 1, 9))})" if one.arm.axis == "guidance_scale" else "")


def _measured(made: Recommendation, one: Candidate) -> Iterator[str]:
    """Scores with their intervals, and costs."""
    for column in made.question.columns:
        result = value(column, one.record)
        if result is not None:
            yield f"{column.label} {with_error(result)} at N = {one.record.num_samples}{_bounds(result)}"
    if one.cost.nfe is not None:
        extra = f" and {one.cost.classifier_passes:g} classifier gradients" if one.cost.classifier_passes else ""
        yield f"{one.cost.nfe:g} network evaluations{extra} per image"
    yield _speed_text(made, one.cost)


def _speed_text(made: Recommendation, cost: Cost) -> str:
    if cost.latency_p50_s is None or cost.seconds_per_image is None:
        return f"seconds and memory not measured: {cost.unmeasured}"
    peak = "not measured" if cost.peak_memory_bytes is None else show_bytes(cost.peak_memory_bytes)
    machine = made.question.results.speeds[0].machine
    text = f"{show_seconds(cost.latency_p50_s)} (p50) for a batch of {cost.batch_size}"
    text += f", {show_seconds(cost.seconds_per_image)} per image" if cost.batch_size != 1 else ""
    return f"{text}, peak memory {peak}, on {machine.device}, {machine.processor}"


def _bounds(result: Estimate) -> str:
    if result.interval is None:
        return ""
    low, high = result.interval
    return f" (95 % interval {low:.4g} to {high:.4g})"


def _exceeded(made: Recommendation, name: str, ratio: float | None) -> str:
    """`--max-latency 1 ms fails: the nearest feasible choice needs 3.2 ms latency ..., 3.2 times the limit`."""
    limit, allowed = LIMITS[name], made.question.budget.limits[name]
    if ratio is None:
        reason = made.choice.candidate.cost.unmeasured or "it is not in the records"
        unknown = f"the {limit.what} of no candidate was measured ({reason})"
        return f"{limit.option} {limit.text(allowed)} cannot be shown to hold, since {unknown}"
    need = f"{limit.text(ratio * allowed)} {limit.what}"
    size = f" at batch {made.question.budget.batch_size}" if name != "nfe" else ""
    least = f"the nearest feasible choice needs {need}{size}, {ratio:.3g} times the limit"
    return f"{limit.option} {limit.text(allowed)} fails: {least}"


def _end(column: Column) -> str:
    return "lowest" if column.entry.lower_is_better else "highest"
