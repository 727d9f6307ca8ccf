"""Records edited by hand, with their checksum made anew: refused in one sentence, left out, or read; nothing else."""

import copy
import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfgbench import store as store_module
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.reading import report
from cfgbench.reading.tables.results import arm_fields
from cfgbench.records import BudgetRecord, CellRecord, ContestRecord, Score
from cfgbench.registry import METHODS, METRICS
from cfgbench.running import runner, verification
from cfgbench.store import Store
from tests import synthetic

BODY: dict[str, Any] = {
    "name": "edited",
    "num_samples": 800,
    "metrics": ["fid", "accuracy"],
    "common": {"model": "gaussians", "sampler": "ddim", "steps": 5},
    "sweeps": [{"guidance_scale": [1, 1.5, 2]}, {"guidance_scale": 2, "interval": [0.1, 5]}],
}
SCORES = {"fid": "fid", "fid_train": "fid", "accuracy": "accuracy"}
NUMBERS = st.sampled_from([0, -1, 3, 1.5, -0.25, 1e9, 1e300, -1e300, float("nan"), float("inf"), 10**400, True])
JUNK = NUMBERS | st.sampled_from([None, "", "cfg", "nan", "x:y", "no such \n name", [], {}, [1], {"a": 1}, [None, 2.0]])
Place = tuple[str | int, ...]
Change = Callable[[Any, Any], None]


def write(folder: Path) -> Path:
    """A results folder of four cells with scores, points, speed and a contest."""
    plan = planner.plan(experiment.parse(BODY, "edited.yaml"))
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    for task in plan.tasks:
        scores = tuple(_score(task, request) for request in task.scores)
        fields = synthetic.record(task.cell, samples=800, columns=()).model_dump() | {"num_classes": task.num_classes}
        record = CellRecord.model_validate({**fields, "scores": scores, "notes": ("a note",), "left": {"fid": 400}})
        store.write_record(record)
        store.write_points(record.id, synthetic.np.zeros((400, 2)), synthetic.np.arange(400) % task.num_classes)
    cells = [task.cell for task in plan.tasks]
    speeds = [synthetic.speed(one, repeats=3) for one in {one.cost_class: one for one in cells}.values()]
    for speed in speeds:
        store.write_record(speed)
    budget = BudgetRecord(metric="fid", delta=0.1, confidence=0.95, looks=3, refine=0)
    ids = tuple(one.id for one in cells)
    best = ContestRecord(curve=arm_fields(cells[1]), best=ids[1], settled=True, num_samples=800, left=ids[:2])
    whole = runner.plan_record(plan, [speed.id for speed in speeds], (best,))
    store.write_record(whole.model_copy(update={"budget": budget}))
    return folder


def _score(task: planner.Task, request: Any) -> Score:
    made = synthetic.score(task.cell, SCORES.get(request.column, "fid"), 800)
    return made.model_copy(update={"column": request.column, "metric": request.metric, "identity": request.identity})


@cache
def bodies() -> dict[str, dict[str, Any]]:
    """The records of the folder by their file, as JSON without the checksum."""
    with TemporaryDirectory() as name:
        folder = write(Path(name))
        files = [folder / "plan.json", *sorted((folder / "records").glob("*.json"))]
        found = {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in files}
    for body in found.values():
        body.pop("checksum", None)
    return {name: body for name, body in found.items() if not name.endswith(".points.json")}


def places(value: object, path: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value; of long lists of numbers the first."""
    if path:
        yield path
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if not (isinstance(key, int) and key and isinstance(item, float)):
            yield from places(item, (*path, key))


def replaced(value: Any) -> Change:
    def change(holder: Any, key: Any) -> None:
        holder[key] = value

    return change


def removed(holder: Any, key: Any) -> None:
    del holder[key]


def shortened(holder: Any, key: Any) -> None:
    if isinstance(holder[key], list | str):
        holder[key] = holder[key][: min(3, max(0, len(holder[key]) - 1))]


def lengthened(holder: Any, key: Any) -> None:
    if isinstance(holder[key], list | str):
        holder[key] = holder[key] * 2
    elif isinstance(holder[key], dict):
        holder[key]["another"] = next(iter(holder[key].values()), 1)


def edit(folder: Path, file: str, path: Place, change: Change) -> None:
    """Change a record in one place and give it the checksum of what it says now."""
    body = copy.deepcopy(bodies()[file])
    holder: Any = body
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    body["checksum"] = store_module._checksum(body)
    (folder / file).write_text(json.dumps(body))


@contextmanager
def own_registry() -> Iterator[None]:
    """What a plan adds to the tables of names goes with it."""
    tables = ((METHODS, dict(METHODS)), (METRICS, dict(METRICS)))
    try:
        yield
    finally:
        for table, before in tables:
            table.clear()
            table.update(before)  # type: ignore[arg-type]


def is_refused(work: Callable[[], object], file: str) -> bool:
    """Whether a piece of work was refused, in one sentence that names the file, or the cell that it is of."""
    sentence = None
    try:
        work()
    except InputError as error:
        sentence = str(error)
    assert sentence is None or ("\n" not in sentence and Path(file).stem in sentence), sentence
    return sentence is not None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("edited") / "whole")


def numbers(folder: Path, but: str) -> dict[str, str]:
    """The scores of all cells in `results.csv` but for one, by id."""
    with (folder / "results.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["id"] != but]
    return {row["id"]: " ".join(row[name] for name in SCORES) for row in rows}


@cache
def expected() -> dict[str, str]:
    """The scores of all cells as they were written."""
    with TemporaryDirectory() as name:
        report.build(write(Path(name)), ())
        return numbers(Path(name), "")


def check_edit(whole: Path, file: str, place: Place, change: Change) -> None:
    with TemporaryDirectory() as name, own_registry():
        folder = Path(shutil.copytree(whole, Path(name) / "x"))
        edit(folder, file, place, change)
        if not is_refused(lambda: report.build(folder, ()), file):
            edited = Path(file).stem
            if not (folder / file).exists():
                assert f"{edited.removeprefix('speed-')} was damaged" in (folder / "summary.md").read_text()
            for cell, scores in numbers(folder, edited).items():
                assert file == "plan.json" or expected()[cell] == scores
        asked = verification.Request(cells=9, scores=True)
        is_refused(lambda: verification.choose(folder, asked), file)


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, Place, Change]:
    file = draw(st.sampled_from(sorted(bodies())))
    place = draw(st.sampled_from([*places(bodies()[file])]))
    return file, place, draw(st.sampled_from([removed, shortened, lengthened]) | JUNK.map(replaced))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits())
def test_no_edit_of_a_record_gives_a_traceback_or_changes_what_others_say(
    whole: Path, edited: tuple[str, Place, Change]
) -> None:
    check_edit(whole, *edited)


METHOD, FIRST = ("guidance", "method"), ("scores", 0)
FOUND = {  # what once broke the reading half, or was believed
    "a method that nobody knows": ("plan.json", ("cells", 1, *METHOD), replaced("magic")),
    "a scale that is none": ("plan.json", ("cells", 1, "guidance", "parameters", "guidance_scale"), replaced("x")),
    "an interval with one end": ("plan.json", ("cells", 3, "guidance", "parameters", "interval"), replaced([1])),
    "a cell twice": ("plan.json", ("cells",), lengthened),
    "a record of another cell": ("cell", ("cell", "seed"), replaced(3)),
    "a metric that nobody knows": ("cell", (*FIRST, "metric"), replaced("magic")),
    "three replicates": ("cell", (*FIRST, "replicates"), shortened),
    "a score whose square is no number": ("cell", (*FIRST, "value"), replaced(1e300)),
    "an accuracy of 3": ("cell", ("scores", 2, "value"), replaced(3)),
    "no encoder": ("cell", (*FIRST, "identity", "encoder"), removed),
    "a parameter that the model has not": ("plan.json", ("cells", 1, "model", "parameters"), replaced({"size": 3})),
    "another definition": ("cell", (*FIRST, "identity", "encoder"), replaced("another")),
    "no samples": ("cell", ("num_samples",), replaced(0)),
    "memory without end": ("cell", ("machine", "memory_bytes"), replaced(10**400)),
    "times of some repeats": ("speed", ("timings", 0, "decode_s"), shortened),
    "no time at all": ("speed", ("timings", 0, "trajectory_s", 0), replaced(0)),
    "a contest of nobody": ("plan.json", ("contests", 0, "best"), replaced("nobody")),
}


@pytest.mark.parametrize("case", FOUND)
def test_an_edit_that_once_was_believed_or_broke_the_report_is_found(whole: Path, case: str) -> None:
    file, place, change = FOUND[case]
    kinds = {name: "speed" if "speed" in name else "cell" for name in sorted(bodies())} | {"plan.json": "plan.json"}
    file = next(name for name, kind in kinds.items() if kind == file)
    check_edit(whole, file, place, change)
