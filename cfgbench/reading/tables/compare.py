"""Values, paired differences, the best and its tied set, and seconds, from the records of `Results`.

Scores are shown as the registry says: bias-corrected (an estimate at infinite samples) or plain. Comparisons use the
largest sample count that all cells compared have, with error bars if there is one; they are paired where the samples
are (same noise, or the same items elsewhere).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfgbench.reading.tables.results import Column, Results, unguided_cost
from cfgbench.records import CellRecord, Rung, Score, SpeedRecord, Timing
from cfgbench.registry import METHODS
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Estimate, Replicated


@dataclass(frozen=True)
class Verdict:
    """The best of some cells by one score, and those not shown worse; no tied set where there are no error bars."""

    best: CellRecord
    tied: tuple[CellRecord, ...] | None
    num_samples: int


def score(column: Column, record: CellRecord) -> Score | None:
    """A cell's score in a column."""
    return next((score for score in record.scores if score.column == column.name), None)


def rungs(column: Column, record: CellRecord) -> dict[int, Rung]:
    """A cell's score at each of its sample counts, ascending."""
    found = score(column, record)
    return {} if found is None else {**dict(sorted(found.nested.items())), record.num_samples: found}


def shown(column: Column, rung: Rung) -> Estimate | None:
    """The value to show with its error and interval; None where a correction needs replicates that are not there."""
    if not rung.replicates:
        return None if column.corrected else Estimate(rung.value, None, None, None)
    result = statistics.estimate(replicated(column, rung), limits=column.entry.limits)
    return result if column.entry.interval else Estimate(result.value, None, None, None)


def value(column: Column, record: CellRecord) -> Estimate | None:
    """A cell's value to show, or None where the cell lacks the score."""
    found = score(column, record)
    return None if found is None else shown(column, found)


def difference(column: Column, a: CellRecord, b: CellRecord) -> Estimate | None:
    """The difference a - b at the largest common sample count, or None where either lacks the score."""
    common = common_size(column, (a, b))
    if common is None or a.id == b.id:
        return None
    first, second = (rungs(column, record)[common] for record in (a, b))
    if first.replicates and second.replicates:
        compare = statistics.paired_difference if paired((a, b), common) else statistics.independent_difference
        result = compare(replicated(column, first), replicated(column, second))
        return result if column.entry.interval else Estimate(result.value, None, None, None)
    return None if column.corrected else Estimate(first.value - second.value, None, None, None)


def paired(records: Sequence[CellRecord], count: int) -> bool:
    """Whether the first `count` samples of these cells share their noise, or are pictures of the same items."""
    return len({(record.cell.seed, record.num_classes, record.pairing.get(count)) for record in records}) == 1


def verdict(column: Column, records: Sequence[CellRecord]) -> Verdict | None:
    """The best of these cells and its tied set; cells without the score take no part, None if all lack it.

    Nor do those that an adaptive sweep has shown worse in it, as long as others are there.
    """
    scored = [record for record in records if rungs(column, record)]
    candidates = [record for record in scored if column.metric not in record.left] or scored
    common = common_size(column, candidates)
    if common is None:
        return None
    chosen = [rungs(column, record)[common] for record in candidates]
    if column.entry.interval and all(rung.replicates for rung in chosen):
        scores = [replicated(column, rung) for rung in chosen]
        tied = statistics.tied_set(scores, column.entry.lower_is_better, paired=paired(candidates, common))
        return Verdict(candidates[tied.best], tuple(candidates[i] for i in tied.tied), common)
    sign = 1 if column.entry.lower_is_better else -1
    best = min(range(len(chosen)), key=lambda i: sign * chosen[i].value)
    return Verdict(candidates[best], None, common)


def family_verdicts(results: Results) -> dict[tuple[str, str], Verdict | None]:
    """The verdict on all finished cells of each family, by column and `family_name`."""
    families = results.families().items()
    return {(column.name, name): verdict(column, records) for column in results.columns for name, records in families}


def seconds_per_image(results: Results, record: CellRecord) -> tuple[float, int] | None:
    """Median seconds per image at the largest batch timed, one pass at a time, and that batch; None if not measured."""
    for speed in results.speeds:
        if speed.cost_class == record.cell.cost_class and speed.measured and speed.timings:
            timing = max(speed.timings, key=lambda timing: (timing.batch_size, not timing.batched))
            return float(np.median(latency(timing))) / timing.batch_size, timing.batch_size
    return None


def weights_bytes(speed: SpeedRecord) -> int:
    """Bytes of the networks that a cost class needs; one that only other methods consult may be loaded beside them."""
    guides = {name for method in METHODS.values() for name in method.needs}
    needs = METHODS[speed.cell.guidance.method].needs
    return sum(size for name, size in speed.weights_memory_bytes.items() if name in needs or name not in guides)


def latency(timing: Timing) -> list[float]:
    """Seconds from noise to images of one batch, one entry per repeat."""
    return [a + b for a, b in zip(timing.trajectory_s, timing.decode_s, strict=True)]


def ratio_to_unguided(results: Results, speed: SpeedRecord, timing: Timing) -> float | None:
    """Median latency over that of the unguided class of the same model, sampler, steps, batch size and machine."""
    own = unguided_cost(speed.cell)
    for other in results.speeds:
        if other.cell.guidance.method != "unguided" or unguided_cost(other.cell) != own:
            continue
        same = [t for t in other.timings if t.batch_size == timing.batch_size]
        if same and other.measured and other.machine.device == speed.machine.device:
            reference = max(same, key=lambda t: t.batched == timing.batched)
            return float(np.median(latency(timing)) / np.median(latency(reference)))
    return None


def replicated(column: Column, rung: Rung) -> Replicated:
    """The score as `statistics` takes it, so that its bias-corrected value is the one to show."""
    replicates = np.asarray(rung.replicates)
    if not column.corrected:
        replicates = replicates + (rung.value - replicates.mean())
    return Replicated(rung.value, tuple(replicates.tolist()))


def common_size(column: Column, records: Sequence[CellRecord]) -> int | None:
    """The largest sample count at which all of these have the score, with replicates if there is one; None if none."""
    found = [rungs(column, record) for record in records]
    if not found:
        return None
    sizes = set.intersection(*(set(one) for one in found))
    replicated = [size for size in sizes if all(one[size].replicates for one in found)]
    return max(replicated or sizes, default=None)
