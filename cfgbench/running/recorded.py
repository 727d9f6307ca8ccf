"""What was asked of a finished cell, from its record alone; InputError where it would mean something else today."""

from cfgbench import plugins
from cfgbench.cell import canonical_json
from cfgbench.errors import InputError, shown
from cfgbench.planning import score_requests
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.plan import Task
from cfgbench.planning.score_requests import ScoreRequest
from cfgbench.records import CellRecord, Score
from cfgbench.references import sets
from cfgbench.references.sets import NamedSet
from cfgbench.registry import ENCODERS, METRICS, REFERENCES


def task(record: CellRecord, dtype: str, batch_size: int) -> Task:
    """What was asked of a cell, to be drawn again in a dtype and at a batch size."""
    scores = tuple(_score_request(record, score) for score in record.scores)
    if not scores:
        raise InputError(f"cell {record.id} has no scores to compare; leave --scores away")
    found = encoders(record)
    reference = next((_reference(score)[0] for score in record.scores if "reference" in score.identity), None)
    cell = record.cell.model_copy(update={"dtype": dtype})
    sizes = (record.num_samples, record.num_classes, record.block_size, batch_size)
    return Task(cell, *sizes, found, reference, scores)


def _score_request(record: CellRecord, score: Score) -> ScoreRequest:
    place, identity = f"score {score.column} of cell {record.id}", score.identity
    plugins.check("metric", score.metric, place)
    plugins.check("encoder", str(identity.get("encoder")), place)
    (reference, half), encoder = _reference(score), _encoder(score)
    if half is not None and reference is None:
        raise InputError(f"{place} is against {identity['reference']}, which its results folder does not keep")
    parameters, metric = canonical_json(record.cell.model.parameters), METRICS[score.metric]
    asked = sets.ask(reference, half, metric, encoder, parameters) if reference and half else None
    try:
        now = score_requests.identity(score.metric, encoder, reference, asked)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    changed = [key for key in {*now, *identity} if now.get(key) != identity.get(key)]
    if changed:
        raise InputError(
            f"{place} has {changed[0]} {shown(identity.get(changed[0]))}, which is {shown(now.get(changed[0]))} here"
        )
    return ScoreRequest(score.column, score.metric, half, identity)


def encoders(record: CellRecord) -> tuple[EncoderRef, ...]:
    """The encoders that a cell's scores name; InputError of one that is not known."""
    for score in record.scores:
        plugins.check("encoder", str(score.identity.get("encoder")), f"score {score.column} of cell {record.id}")
    return tuple(dict.fromkeys(_encoder(score) for score in record.scores))


def origin(record: CellRecord, encoders: tuple[EncoderRef, ...], passes: str) -> str:
    """What a block of a cell says that it depends on, if these encoders made it."""
    return Task(
        *(record.cell, record.num_samples, record.num_classes, record.block_size, record.batch_size, encoders),
        reference=None,
        scores=(),
        passes=passes,
    ).origin


def _encoder(score: Score) -> EncoderRef:
    """The encoder that a score names, with its files where they are looked for first."""
    name = str(score.identity.get("encoder"))
    keys = ENCODERS[name].parameters if name in ENCODERS else ()
    given = {key: score.identity[f"encoder_{key}"] for key in keys if f"encoder_{key}" in score.identity}
    return EncoderRef(name, tuple(sorted(given.items())))


def _reference(score: Score) -> tuple[NamedSet | None, str | None]:
    """The named reference set and half that a score is against, if it is."""
    text = score.identity.get("reference")
    name, _, half = str(text or "").rpartition("-")
    if name in REFERENCES and half in REFERENCES[name].halves:
        return NamedSet(name), half
    return None, None if text is None else str(text)
