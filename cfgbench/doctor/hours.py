"""Time: what an experiment will take, from what was timed before, is timed now, or is counted."""

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from cfgbench.cell import Cell
from cfgbench.doctor import matmul, resources
from cfgbench.doctor.items import MISSING, NOTE, OK, Item
from cfgbench.planning.experiment import Profile
from cfgbench.planning.plan import Plan, Task
from cfgbench.planning.sample_facts import facts
from cfgbench.records import SpeedRecord
from cfgbench.running import runner
from cfgbench.running.pool import Job, LocalPool
from cfgbench.store import Store

STEPS = 3  # of a sampler, when time is measured


def hours(plan: Plan, device: str, folder: Path, workers: int, measure: bool) -> Iterator[Item]:
    """Hours, from what was timed in the results folder or is timed now; a note where nothing is known."""
    todo = [task for task in plan.tasks if not runner.is_finished(task, Store(folder))]
    if not todo:
        yield Item(OK, "time", "every cell is finished")
        return
    if measure:
        rates, failed = _measured(todo, device)
        yield from (Item(MISSING, "time", text) for text in failed)
    else:
        rates = _recorded(plan, folder, device)
    hint = "" if measure else "; --measure times a few steps of each model"
    known = [task for task in todo if _model(task.cell) in rates]
    if known:
        yield _hours(known, rates, workers)
    others = [task for task in todo if _model(task.cell) not in rates]
    unknown = sorted({_model(task.cell) for task in others if _operations(task) is None})
    if unknown:
        yield Item(NOTE, "time", f"not known for {', '.join(unknown)}{hint}")
    countable = [task for task in others if _operations(task) is not None]
    if countable:
        yield Item(NOTE, "time", _least(countable, device, workers) + hint)


class _Rate(NamedTuple):
    """Seconds of one image on one worker."""

    per_pass: float
    decoding: float
    peak_bytes: int | None


def _hours(todo: Sequence[Task], rates: Mapping[str, _Rate], workers: int) -> Item:
    seconds = 0.0
    for task in todo:
        rate, passes = rates[_model(task.cell)], task.cell.evaluations + task.cell.classifier_evaluations
        seconds += task.num_samples * (passes * rate.per_pass + rate.decoding)
    spoken = _spoken(seconds / workers)
    peaks = [rate.peak_bytes for rate in rates.values() if rate.peak_bytes]
    peak = f"; at most {max(peaks) / 1e9:.1f} GB of memory were in use" if peaks else ""
    count = f"{len(todo)} cells, {workers} worker{'s' if workers > 1 else ''}"
    return Item(OK, "time", f"{spoken} of sampling ({count}), encoding and timing not counted{peak}")


def _least(tasks: Sequence[Task], device: str, workers: int) -> str:
    """The hours of sampling if all operations were as fast as the products of large matrices are on this device."""
    rates = {dtype: matmul.rate(device, dtype) for dtype in {task.cell.dtype for task in tasks}}
    seconds = sum((_operations(task) or 0.0) / rates[task.cell.dtype] for task in tasks)
    workers = 1 if device == "cpu" else workers  # one product has all cores of a CPU already
    fast = ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {dtype}" for dtype, rate in sorted(rates.items()))
    return (
        f"at least {_spoken(seconds / workers)} of sampling ({len(tasks)} cells), by the operations of the published "
        f"shapes at {fast}, which products of large matrices reach here; expect several times as much"
    )


def _operations(task: Task) -> float | None:
    """Of all samples of a cell; None where its shape is not published or its arithmetic is emulated."""
    shape, sides = resources.shape_of(task.cell), facts(task.cell, task.num_samples)
    if shape is None or task.cell.dtype.endswith("_emulated"):
        return None
    costs = shape.costs
    larger: float = sides.get("height", costs.height) * sides.get("width", costs.width) / (costs.height * costs.width)
    return task.num_samples * (task.cell.evaluations * costs.pass_flops + costs.decode_flops) * larger


def _spoken(seconds: float) -> str:
    if seconds <= 90:
        return "a minute or less"
    if seconds > 360_000:
        return f"about {seconds / 3600:,.0f} hours"
    return f"about {seconds / 3600:.1f} hours" if seconds > 5400 else f"about {seconds / 60:.0f} minutes"


def _measured(todo: Sequence[Task], device: str) -> tuple[dict[str, _Rate], list[str]]:
    """Time a few steps of every model at its batch size; and what could not be timed."""
    rates: dict[str, _Rate] = {}
    failed: list[str] = []
    pool = LocalPool(1)
    try:
        for name, task in {_model(task.cell): task for task in reversed(todo)}.items():
            found = _timed(task, Profile(batch_sizes=(task.batch_size,), repeats=3), device, pool)
            if isinstance(found, _Rate):
                rates[name] = found
            else:
                failed.append(f"{name}: {found}")
    finally:
        pool.close()
    return rates, failed


def _timed(task: Task, profile: Profile, device: str, pool: LocalPool) -> _Rate | str:
    """The speed of a few steps of a cell, or why it could not be told."""
    cell = _shortened(task.cell)
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        subject = (cell, task.num_classes, task.batch_prompts((), Path(name)))
        job = Job(("doctor", 0), "cfgbench.running.profiling:measure", ([subject], profile, Path(name), device, 1))
        errors = [str(done.error).strip() for done in pool.run(deque([job])) if done.error is not None]
        speed = Store(Path(name)).speed(runner.speed_id(cell.cost_class, profile, device))
    if errors or speed is None:
        return errors[0].splitlines()[-1] if errors else "nothing was timed"
    return _rate(speed) if speed.timings else "emulated arithmetic, whose speed means nothing"


def _recorded(plan: Plan, folder: Path, device: str) -> dict[str, _Rate]:
    """What an earlier run timed, by model."""
    if plan.experiment.profile is None:
        return {}
    found: dict[str, _Rate] = {}
    for task in plan.tasks:
        speed = Store(folder).speed(runner.speed_id(task.cell.cost_class, plan.experiment.profile, device))
        if speed is not None and speed.measured and speed.timings:
            found.setdefault(_model(task.cell), _rate(speed))
    return found


def _rate(record: SpeedRecord) -> _Rate:
    """Of the largest batch, the fastest way of CFG."""
    largest = max(timing.batch_size for timing in record.timings)
    timings = [timing for timing in record.timings if timing.batch_size == largest]
    best = min(timings, key=lambda timing: median(timing.trajectory_s))
    passes = largest * max(1.0, record.nfe + record.classifier_passes)
    peaks = [best.peak_memory_bytes, best.activation_memory_bytes]
    return _Rate(
        median(best.trajectory_s) / passes,
        median(best.decode_s) / largest if best.decode_s else 0.0,
        next((peak for peak in peaks if peak), None),
    )


def _shortened(cell: Cell) -> Cell:
    if cell.diffusion is None or cell.diffusion.steps <= STEPS:
        return cell
    return cell.model_copy(update={"diffusion": cell.diffusion.model_copy(update={"steps": STEPS})})


def _model(cell: Cell) -> str:
    return f"{cell.model.label} {cell.arithmetic}"
