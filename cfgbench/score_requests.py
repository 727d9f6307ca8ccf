"""Which scores a cell is asked for, and what exactly each of them is."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cfgbench.cell import Cell, digest
from cfgbench.errors import InputError
from cfgbench.experiment import Experiment
from cfgbench.registry import ENCODERS, METRICS, REFERENCES, Metric, resolve
from cfgbench.weight_files import file_digest


@dataclass(frozen=True)
class ScoreRequest:
    """One score to compute: a column of `results.csv` and the identity that says what it is."""

    column: str  # fid, fid_train, ...
    metric: str
    half: str | None  # of the reference set
    identity: dict[str, str | int | float]


def requests(experiment: Experiment, cell: Cell, encoder: str | None, reference: str | None) -> Iterator[ScoreRequest]:
    """The scores of a cell by an encoder and against a reference, either of which may be None; raises InputError."""
    for name in experiment.metrics:
        metric, lacking = METRICS[name], _lacking(METRICS[name], cell, encoder, reference)
        if lacking is not None or encoder is None:
            if experiment.metrics == tuple(METRICS):  # the default asks for all that can be served
                continue
            raise InputError(f"metric {name!r} in {experiment.source} needs {lacking}")
        halves = REFERENCES[reference].halves if metric.reference and reference else (None,)
        for half in halves:
            column = name if half in (None, "heldout") else f"{name}_{half}"
            yield ScoreRequest(column, name, half, identity(metric, name, encoder, reference, half, cell))


def _lacking(metric: Metric, cell: Cell, encoder: str | None, reference: str | None) -> str | None:
    """What a metric needs and does not have here."""
    if encoder is None:
        return f"{metric.needs}, and model {cell.model.name} has no encoder of its own: name one by `encoder`"
    if metric.needs not in ENCODERS[encoder].provides:
        return f"{metric.needs}, which encoder {encoder!r} lacks"
    if metric.reference and reference is None:
        return f"a reference set, and model {cell.model.name} has none of its own: name one by `reference`"
    if metric.classes and cell.prompts is not None:
        return "classes, and prompts are none"
    return None


def identity(
    metric: Metric, name: str, encoder: str, reference: str | None, half: str | None, cell: Cell
) -> dict[str, str | int | float]:
    """What must agree before two values may share a column: code, encoder weights, quantisation, reference, k."""
    identity: dict[str, str | int | float] = {"metric": name, "encoder": encoder, "pixels": "uint8-round"}
    sources = {"metric_source": metric.digest, "encoder_source": ENCODERS[encoder].digest}  # of plug-ins
    identity |= {key: value for key, value in sources.items() if value is not None}
    files = ENCODERS[encoder].files
    if files:
        identity["encoder_digest"] = file_digest(resolve(files)()[metric.needs])
    if half is not None and reference is not None:
        target = REFERENCES[reference].target
        identity |= {"reference": f"{reference}-{half}"}
        identity["reference_digest"] = reference_digest(target, half, digest(cell.model.parameters), cell)
    identity |= {key: value for key, value in metric.parameters.items() if isinstance(value, str | int | float)}
    return identity


_REFERENCE_DIGESTS: dict[tuple[str, str, str], str] = {}


def reference_digest(target: str, half: str, key: str, cell: Cell) -> str:
    """Digest of a reference set's samples and labels, computed once per process."""
    if (target, half, key) not in _REFERENCE_DIGESTS:
        samples, labels = resolve(target)(half, cell.model.parameters)
        content = hashlib.sha256(samples.tobytes() + labels.tobytes()).hexdigest()[:16]
        _REFERENCE_DIGESTS[target, half, key] = content
    return _REFERENCE_DIGESTS[target, half, key]
