"""Seconds and bytes of a method in an experiment's speed records, and their ratios."""

from cfgbench.claims.evidence import Evidence
from cfgbench.claims.findings import MEDIANS, LackingError, Measured
from cfgbench.reading.comparison.contrasts import median_interval
from cfgbench.reading.tables.compare import latency, weights_bytes
from cfgbench.reading.tables.results import arm_fields
from cfgbench.records import SpeedRecord, Timing

BATCH = 100


def speed(evidence: Evidence, experiment: str, method: str, model: str = "digits", **parameters: str) -> SpeedRecord:
    """The speed record of a method with exactly these other parameters; LackingError without one."""
    for record in evidence.experiment(experiment).speeds:
        fields = arm_fields(record.cell)
        given = {name: text for name, text in fields.items() if name in record.cell.guidance.parameters}
        scale = {"guidance_scale", "classifier_scale"}
        own = {name: text for name, text in given.items() if name not in scale}
        if (record.cell.guidance.method, record.cell.model.label, own) == (method, model, parameters):
            return record
    raise LackingError(
        f"the timing of {method} on {model} in {experiment}; `cfgbench run experiments/{experiment}.yaml`"
    )


def ratio(first: SpeedRecord, second: SpeedRecord, batch_size: int = BATCH, batched: bool = False) -> Measured:
    """Median seconds of the first over those of the second, one pass after the other, from intervals of both medians.

    `batched` takes the first's passes as one batch, where it was timed so.
    """
    own, other = _timing(first, batch_size, batched), _timing(second, batch_size, False)
    a, b = median_interval(latency(own)), median_interval(latency(other))
    if a is None or b is None:
        raise LackingError("six repeats of each timing")
    middle = _median(own) / _median(other)
    repeats = min(len(latency(own)), len(latency(other)))
    return Measured(middle, a[0] / b[1], a[1] / b[0], MEDIANS.format(n=repeats))


def weights_ratio(first: SpeedRecord, second: SpeedRecord) -> float:
    """Bytes of the networks that the first needs over those that the second needs."""
    return weights_bytes(first) / weights_bytes(second)


def _timing(record: SpeedRecord, batch_size: int, batched: bool) -> Timing:
    for timing in record.timings:
        if timing.batch_size == batch_size and timing.batched == batched and record.measured:
            return timing
    raise LackingError(f"the timing of {record.cell.guidance.method} at batch {batch_size}")


def _median(timing: Timing) -> float:
    seconds = sorted(latency(timing))
    middle = len(seconds) // 2
    return seconds[middle] if len(seconds) % 2 else (seconds[middle - 1] + seconds[middle]) / 2
