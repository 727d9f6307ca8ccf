"""`cfgbench doctor`: what an experiment needs, looked at one by one before anything starts.

`inputs.py` looks for weights, encoders, reference and prompts, `licences.py` for their terms, `resources.py` and
`hours.py` at device, memory, disk and time. Where something is missing, `sketch.py` has what is known without it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cfgbench.doctor import hours, inputs, resources, sketch
from cfgbench.doctor.items import MISSING, NOTE, OK, Item
from cfgbench.doctor.sketch import Sketch
from cfgbench.errors import InputError
from cfgbench.planning import plan
from cfgbench.planning.experiment import Experiment
from cfgbench.planning.plan import Plan


class Place(NamedTuple):
    """Where the experiment is to run."""

    device: str
    folder: Path  # of results
    workers: int
    measure: bool = False  # time a few steps of every model


def examine(experiment: Experiment, place: Place) -> Iterator[Item]:
    """All that an experiment needs, as it is looked at, and what it takes, as far as that is known."""
    yield resources.device(place.device)
    lacking = False
    for item in inputs.examine(experiment):
        lacking |= item.state == MISSING
        yield item
    made = _planned(experiment)
    if isinstance(made, InputError) and not lacking:
        yield Item(MISSING, "plan", str(made))
        return
    found = sketch.sketch(experiment) if isinstance(made, InputError) else Sketch(made)
    if found is None:
        yield Item(NOTE, "plan", "cells, memory, disk and hours are not known before what is missing is there")
        return
    yield Item(NOTE if found.taken else OK, "plan", "; ".join([resources.work(found.plan), *found.taken]))
    yield resources.memory(found.plan, place.device, without_text=found.shapes)
    yield resources.disk(found.plan, sketch.encoders(experiment), place.folder)
    yield from hours.hours(found.plan, place.device, place.folder, place.workers, place.measure)


def _planned(experiment: Experiment) -> Plan | InputError:
    try:
        return plan.plan(experiment)
    except InputError as error:
        return error
