"""What guidance costs, in words: an entry for each method, with a range over its curves.

Methods that cost the same share an entry, so that a table of twenty methods is answered in a few lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from cfgbench.reading.tables.compare import latency, ratio_to_unguided
from cfgbench.reading.tables.results import Arm, Results, describe, varying
from cfgbench.records import CellRecord, SpeedRecord
from cfgbench.registry import METHODS

Records = Mapping[str, Sequence[CellRecord]]  # guided cells, one of each curve, by the name of their entry


def cost_line(results: Results, arm: Arm | None) -> str:
    """The cost of one curve and of the other methods beside it; of every guided curve where there is none to choose."""
    records = _every_curve(results) if arm is None else _methods(results, arm)
    shared: dict[str, list[str]] = {}
    for name, found in records.items():
        shared.setdefault(", ".join(_parts(results, found)), []).append(name)
    return "Cost: " + ("; ".join(f"{' / '.join(names)}: {cost}" for cost, names in shared.items()) or "not measured")


def _every_curve(results: Results) -> Records:
    guided = [arm for arm in results.arms if METHODS[arm.method].scale is not None]
    names = dict.fromkeys(["method", *varying([arm.fields for arm in guided])])
    return _by_name((describe(arm.fields, names), arm) for arm in guided)


def _methods(results: Results, main: Arm) -> Records:
    """The main arm's method by that arm alone, the others by all arms at the same sampler, steps, dtype and seed."""
    guided = [other for other in results.arms if METHODS[other.method].scale is not None]
    same = {key: item for key, item in main.fields.items() if key in ("sampler", "steps", "dtype", "seed")}
    rivals = [other for other in guided if other.method != main.method and same.items() <= other.fields.items()]
    return _by_name((describe(arm.fields, ["method"]), arm) for arm in (main, *rivals))


def _by_name(arms: Iterator[tuple[str, Arm]]) -> Records:
    found: dict[str, list[CellRecord]] = {}
    for name, arm in arms:
        guided = next((record for record in arm.records if record.cell.guidance.method == arm.method), None)
        if guided is not None:
            found.setdefault(name, []).append(guided)
    return found


def _parts(results: Results, records: Sequence[CellRecord]) -> Iterator[str]:
    """`2x network passes`, `1.9x seconds per image at batch 100`, `one more network (classifier, 0.3 MB)`."""
    amounts: dict[str, list[float]] = {}
    speeds = [speed for record in records if (speed := _speed(results, record)) is not None]
    counted = (item for record in records for item in _passes(results, record))
    timed = (_seconds(results, speed) for speed in speeds if speed.measured)
    for unit, amount in (*counted, *timed):
        amounts.setdefault(unit, []).append(amount)
    yield from (_range(values) + unit for unit, values in amounts.items())
    if not any(speed.measured for speed in speeds):
        yield "seconds not measured (emulated)" if speeds else "seconds not measured"
    yield _networks(records[0].cell.guidance.method, speeds)


def _speed(results: Results, record: CellRecord) -> SpeedRecord | None:
    return next((s for s in results.speeds if s.cost_class == record.cell.cost_class and s.timings), None)


def _passes(results: Results, record: CellRecord) -> Iterator[tuple[str, float]]:
    """Passes of the network, as multiples of unguided sampling, which makes one at each evaluation; gradients."""
    unguided = results.unguided(record.cell)
    if record.nfe is not None:
        alone = unguided.nfe if unguided is not None and unguided.nfe else record.cell.steps_evaluated
        yield "x network passes", record.nfe / alone
    if record.classifier_passes:
        yield " classifier gradients per image", record.classifier_passes


def _seconds(results: Results, speed: SpeedRecord) -> tuple[str, float]:
    timing = max(speed.timings, key=lambda timing: (timing.batch_size, not timing.batched))
    ratio = ratio_to_unguided(results, speed, timing)
    if ratio is not None:
        return f"x seconds per image at batch {timing.batch_size}", ratio
    return f" ms per image at batch {timing.batch_size}", 1e3 * median(latency(timing)) / timing.batch_size


def _range(values: Sequence[float]) -> str:
    """`2`, or `1.4 to 1.7`."""
    return " to ".join(dict.fromkeys(f"{end:.3g}" for end in (min(values), max(values))))


def _networks(method: str, speeds: Sequence[SpeedRecord]) -> str:
    needs = METHODS[method].needs
    if ":" in method:
        return "a plug-in, whose own networks are not counted"
    if not needs:
        return "no other network"
    size = max((sum(speed.weights_memory_bytes.get(name, 0) for name in needs) for speed in speeds), default=0)
    return "one more network (" + ", ".join(needs) + (f", {size / 1e6:.3g} MB)" if size else ")")
