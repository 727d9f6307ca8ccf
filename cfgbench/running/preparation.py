"""Before cells are drawn: the features of reference sets, shared out among the workers and kept for all runs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from cfgbench.planning.plan import Task
from cfgbench.references.features import PART
from cfgbench.references.sets import Asked, ReferenceSetRef
from cfgbench.running.pool import Executor, Job

Part = tuple[ReferenceSetRef, Asked, int]


def encode_references(todo: Sequence[Task], pool: Executor, device: str, stage: Callable[[str], None]) -> None:
    """Encode what these cells are compared with and is not kept yet; raises what a worker raised."""
    asked: dict[tuple[ReferenceSetRef, Asked], None] = {}
    for task in todo:
        for score in task.scores:
            ask = task.asks(score, device)
            if ask is not None and task.reference is not None:
                asked.setdefault((task.reference, ask))
    encode(asked, pool, stage)


def encode(asked: Iterable[tuple[ReferenceSetRef, Asked]], pool: Executor, stage: Callable[[str], None]) -> None:
    """Encode what is not kept yet of what is asked of reference sets; raises what a worker raised."""
    jobs = [
        Job(("reference", number), "cfgbench.running.worker:encode_reference", part)
        for number, part in enumerate(_missing(asked))
    ]
    for number, done in enumerate(pool.run(deque(jobs)) if jobs else (), 1):
        if done.error is not None:
            raise done.error
        stage(f"reference pictures encoded: {number} of {len(jobs)} parts of {PART}")


def _missing(asked: Iterable[tuple[ReferenceSetRef, Asked]]) -> Iterator[Part]:
    """Parts of reference sets whose features are not kept, each once."""
    seen = set()
    for reference, ask in asked:
        for start in reference.missing(ask):
            if (reference, ask.encoder, start) not in seen:
                seen.add((reference, ask.encoder, start))
                yield reference, ask, start
