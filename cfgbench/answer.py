"""The answer of an experiment in three lines: the best scale, what it gains, what it costs."""

from collections.abc import Iterator, Sequence
from statistics import median

from cfgbench.records import CellRecord, SpeedRecord
from cfgbench.registry import METHODS
from cfgbench.statistics import Estimate
from cfgbench.tables.compare import Verdict, difference, latency, ratio_to_unguided, value, verdict
from cfgbench.tables.results import SCALE_SYMBOLS, Arm, Column, Results, at_edge, describe, scale_text, varying
from cfgbench.tables.text import held_out, with_error


def answer_lines(results: Results) -> tuple[str, str, str]:
    """Three lines for the terminal; `±` is half of a 95 % interval. They say so where something was not measured."""
    columns = held_out(results)
    arm = main_arm(results)
    found = verdict(columns[0], arm.records) if arm is not None else None
    if arm is None or found is None:
        failed = sum(record.status == "failed" for record in results.records.values())
        state = f"{len(results.done)} of {len(results.plan.cells)} cells finished, {failed} failed"
        return (
            f"Best scale: no scores yet ({state})",
            "Against unguided: no scores yet",
            _cost_line(results, None),
        )
    return (
        _best_line(results, arm, columns),
        _gain_line(results, arm, columns, found.best),
        _cost_line(results, arm),
    )


def main_arm(results: Results) -> Arm | None:
    """The CFG curve (of any method where there is none) that reaches the best first score."""
    columns = held_out(results)
    if not columns:
        return None
    scored = [arm for arm in results.arms if verdict(columns[0], arm.records) is not None]
    arms = [arm for arm in scored if arm.method == "cfg"] or [arm for arm in scored if len(arm.points) > 1] or scored
    found = verdict(columns[0], [record for arm in arms for record in arm.records])
    return next((arm for arm in arms if found is not None and found.best.id in {r.id for r in arm.records}), None)


def _best_line(results: Results, arm: Arm, columns: Sequence[Column]) -> str:
    rivals = [other for other in results.arms if other.method == arm.method]
    among = f" (best of {len(rivals)} curves)" if len(rivals) > 1 else ""
    parts = [
        _best_part(arm, column, found, first=column is columns[0])
        for column in columns
        if (found := verdict(column, arm.records)) is not None
    ]
    name = describe(arm.fields, dict.fromkeys(["method", *varying([other.fields for other in results.arms])]))
    return f"{name}{among}: " + "; ".join(parts)


def _best_part(arm: Arm, column: Column, found: Verdict, first: bool) -> str:
    """`FID is lowest at s = 1.1 (1.55 ± 0.16 at N = 2000; tied: 1.1, 1.2)`."""
    end = "lowest" if column.entry.lower_is_better else "highest"
    symbol = SCALE_SYMBOLS[arm.axis]
    result = value(column, found.best)
    facts = [f"{with_error(result)} at N = {found.best.num_samples}"] if first and result is not None else []
    others = [record for record in found.tied or () if record.id != found.best.id]
    if others:
        facts.append("tied: " + ", ".join(scale_text(arm.scale_of(record)) for record in found.tied or ()))
    elif found.tied is not None and len(arm.points) > 1:
        facts.append("no other tied")
    if len(arm.points) > 1 and at_edge(arm, found.best):
        facts.append("unresolved: the edge of the grid")
    place = f"{column.label} is {end} at {symbol} = {scale_text(arm.scale_of(found.best))}"
    return f"{place} ({'; '.join(facts)})" if facts else place


def _gain_line(results: Results, arm: Arm, columns: Sequence[Column], best: CellRecord) -> str:
    unguided = results.unguided(best.cell)
    if unguided is None:
        return "Against unguided: not measured (no unguided cell of this model, sampler, steps, dtype and seed)"
    if best.id == unguided.id:
        return f"Against unguided: no gain in {columns[0].label}; the best scale is off"
    gaps = ((column, difference(column, best, unguided)) for column in columns)
    parts = [f"{column.label} {signed(gap)}" for column, gap in gaps if gap is not None]
    return f"Against unguided, at {SCALE_SYMBOLS[arm.axis]} = {scale_text(arm.scale_of(best))}: " + "; ".join(parts)


def signed(gap: Estimate) -> str:
    """`-0.34 ± 0.09`, or the same with `(within noise)`."""
    text = with_error(gap)
    noise = gap.interval is not None and gap.interval[0] <= 0 <= gap.interval[1]
    return ("" if text.startswith("-") else "+") + text + (" (within noise)" if noise else "")


def _cost_line(results: Results, arm: Arm | None) -> str:
    parts = [] if arm is None else list(_costs(results, arm))
    return "Cost: " + ("; ".join(parts) if parts else "not measured")


def _costs(results: Results, arm: Arm) -> Iterator[str]:
    """The main arm's cost, then those of the other methods at the same sampler, steps, dtype and seed."""
    rivals = [other for other in results.arms if other.method != arm.method and len(other.points) > 1]
    same = {key: item for key, item in arm.fields.items() if key in ("sampler", "steps", "dtype", "seed")}
    for one in (arm, *(other for other in rivals if same.items() <= other.fields.items())):
        record = next((r for r in one.records if r.cell.guidance.method == one.method), None)
        if record is not None:
            yield f"{METHODS[one.method].label}: " + ", ".join(_cost_parts(results, record))


def _cost_parts(results: Results, record: CellRecord) -> Iterator[str]:
    """`2x network passes`, `1.9x seconds per image at batch 100`, `one more network (classifier, 0.3 MB)`."""
    unguided = results.unguided(record.cell)
    if record.nfe is not None and unguided is not None and unguided.nfe:
        yield f"{record.nfe / unguided.nfe:.3g}x network passes"
    elif record.nfe is not None:
        yield f"{record.nfe:g} network passes"
    if record.classifier_passes:
        yield f"{record.classifier_passes:g} classifier gradients per image"
    speed = next((s for s in results.speeds if s.cost_class == record.cell.cost_class and s.timings), None)
    yield _seconds_part(results, speed)
    yield _networks_part(METHODS[record.cell.guidance.method].needs, speed)


def _seconds_part(results: Results, speed: SpeedRecord | None) -> str:
    if speed is None:
        return "seconds not measured"
    if not speed.measured:
        return "seconds not measured (emulated)"
    timing = max(speed.timings, key=lambda timing: (timing.batch_size, not timing.batched))
    ratio = ratio_to_unguided(results, speed, timing)
    if ratio is not None:
        return f"{ratio:.3g}x seconds per image at batch {timing.batch_size}"
    return f"{1e3 * median(latency(timing)) / timing.batch_size:.3g} ms per image at batch {timing.batch_size}"


def _networks_part(needs: Sequence[str], speed: SpeedRecord | None) -> str:
    if not needs:
        return "no other network"
    size = 0 if speed is None else sum(speed.weights_memory_bytes.get(name, 0) for name in needs)
    return "one more network (" + ", ".join(needs) + (f", {size / 1e6:.3g} MB)" if size else ")")
