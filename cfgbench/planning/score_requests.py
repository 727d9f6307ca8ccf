"""Which scores a cell is asked for, and what exactly each of them is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cfgbench.cell import Cell, canonical_json
from cfgbench.errors import InputError
from cfgbench.planning.encoder_refs import EncoderRef, provider
from cfgbench.planning.experiment import Experiment
from cfgbench.references import sets
from cfgbench.references.sets import Asked, ReferenceSetRef
from cfgbench.registry import ENCODERS, METRICS, Metric


@dataclass(frozen=True)
class ScoreRequest:
    """One score to compute: a column of `results.csv` and the identity that says what it is."""

    column: str  # fid, fid_train, ...
    metric: str
    half: str | None  # of the reference set
    identity: dict[str, str | int | float]


def requests(
    experiment: Experiment, cell: Cell, encoders: Sequence[EncoderRef], reference: ReferenceSetRef | None
) -> Iterator[ScoreRequest]:
    """The scores of a cell by these encoders, against a reference if there is one; raises InputError."""
    for name in experiment.metrics:
        metric = METRICS[name]
        encoder = provider(encoders, metric.needs)
        lacking = None if encoder is None else _lacking(metric, cell, encoder, reference)
        if lacking is not None or encoder is None:
            if experiment.metrics == tuple(METRICS):  # the default asks for all that can be served
                continue
            raise InputError(f"metric {name!r} in {experiment.source} needs {lacking or _unprovided(metric, encoders)}")
        parameters = canonical_json(cell.model.parameters)
        for half in reference.halves if metric.reference and reference else (None,):
            asked = sets.ask(reference, half, metric, encoder, parameters) if half and reference else None
            yield ScoreRequest(column(name, half), name, half, identity(name, encoder, reference, asked))


def column(name: str, half: str | None) -> str:
    """The column of a metric against a half of a reference set."""
    return name if half in (None, "heldout") else f"{name}_{half}"


def _unprovided(metric: Metric, encoders: Sequence[EncoderRef]) -> str:
    """What a metric needs that these encoders do not provide."""
    given = f"encoder {' and '.join(map(str, encoders))} does not provide" if encoders else "no encoder here provides"
    able = ", ".join(name for name, entry in ENCODERS.items() if metric.needs in entry.provides)
    return f"{metric.needs}, which {given}: name one by `encoder`, of {able or 'your own'}"


def _lacking(metric: Metric, cell: Cell, encoder: EncoderRef, reference: ReferenceSetRef | None) -> str | None:
    """What a metric needs and does not have here."""
    if metric.classes and cell.prompts is not None:
        return "classes, and prompts are none"
    if metric.classes and not encoder.entry.classes:
        return f"the model's own classes, which are not those of encoder {encoder}"
    if metric.needs == "clip_scores" and encoder.entry.prompts and cell.prompts is None:
        return f"prompts, with which encoder {encoder} compares pictures"
    return _lacking_reference(metric, cell, encoder, reference) if metric.reference else None


def _lacking_reference(
    metric: Metric, cell: Cell, encoder: EncoderRef, reference: ReferenceSetRef | None
) -> str | None:
    """What a metric needs of a reference set and does not have here."""
    if reference is None:
        return f"a reference set, and model {cell.model.name} has none of its own: name one by `reference`"
    asked = sets.ask(reference, reference.halves[0], metric, encoder, canonical_json(cell.model.parameters))
    if not reference.serves(asked):
        return f"pictures to compare with, and reference {reference.name} holds a mean and a covariance only"
    return None


def identity(
    name: str,
    encoder: EncoderRef,
    reference: ReferenceSetRef | None = None,
    asked: Asked | None = None,
    pixels: str = "uint8-round",
) -> dict[str, str | int | float]:
    """What must agree before two values may share a column: code, encoder weights, quantisation, reference, k."""
    metric = METRICS[name]
    identity: dict[str, str | int | float] = {"metric": name, "pixels": pixels}
    identity |= {"metric_source": metric.digest} if metric.digest is not None else {}
    identity |= encoder.identity(metric.needs)
    if reference is not None and asked is not None:
        identity |= reference.identity(asked)
    return identity | {key: value for key, value in metric.parameters.items() if isinstance(value, str | int | float)}
