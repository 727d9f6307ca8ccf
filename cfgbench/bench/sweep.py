"""A whole sweep against a script that someone would write: same network, scales, sampler, samples and scores.

On both sides imports are done before the clock starts, and batches are as large as suits this network. Ours has error
bars, ties, a second reference set and a results folder besides; figures and the report are left out, since the script
draws none.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cfgbench import machine
from cfgbench.bench import plain
from cfgbench.bench.floor import PRODUCTS, in_worker
from cfgbench.bench.result import Result, in_turn, ratio, seconds_rows
from cfgbench.bench.startup import Silent
from cfgbench.planning import experiment, plan
from cfgbench.reading.tables.rows import Row
from cfgbench.records import CellRecord
from cfgbench.running import runner
from cfgbench.running.pool import Done, Job, LocalPool
from cfgbench.store import Store

SCALES = [1.0, 1.1, 1.2, 1.5, 2.0]
BATCH = plain.BATCH
METRICS = ("fid", "kid", "inception_score", "clip_score")
STEPS = 25


def run(quick: bool = False) -> Result:
    """Seconds of both, in turn, and the scores of both."""
    samples, steps, rounds = (200, 2, 1) if quick else (10_000, STEPS, 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(machine.cores())
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name, Warm() as pool:
        plans = (plan.plan(experiment.parse(body(samples, steps, seed), "cfgbench bench")) for seed in range(rounds))
        scores: dict[float, plain.Scores] = {}
        folders = (Path(name) / str(number) for number in range(rounds + 1))
        sides = {
            "plain script": lambda: scores.update(plain.sweep(SCALES, samples, steps)),
            "cfgbench": lambda: runner.run(next(plans), runner.Options(next(folders), profile=False), Silent(), pool),
        }
        found = in_turn(sides, rounds, warm=False)
        rows = [*seconds_rows(f"{len(SCALES)} scales, {samples} samples each", found), *_agreement(Path(name), scores)]
        alone, products = _network_alone(samples, steps, rounds)
    torch.set_num_threads(threads)
    sized = f"a sweep of {len(SCALES)} scales with {samples:,} samples each"
    findings = [ratio(f"plain script over cfgbench, {sized}", found["plain script"], found["cfgbench"], 1.5)]
    findings += [ratio(f"its network alone over {side}, {sized}", alone, seconds) for side, seconds in found.items()]
    fastest = np.array(found["cfgbench"]) - np.array(alone) + np.array(products)
    findings.append(ratio(f"plain script over cfgbench with {PRODUCTS} for a network", found["plain script"], fastest))
    rows += seconds_rows("the network alone, on every core", {"network": alone, PRODUCTS: products})
    return Result(rows, findings, [_why(alone, found)])


def _network_alone(samples: int, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the sweep's network passes, and of matrix products of as many operations, and nothing else.

    As if spread over all cores without loss.
    """
    guided = in_worker({"name": "digits"}, BATCH, steps, rounds)  # two passes a step
    batches = samples / BATCH * (len(SCALES) - 0.5) / machine.cores()  # one scale is off, at half the passes
    alone, products = ([seconds * batches for seconds in guided[side]] for side in ("network", PRODUCTS))
    return alone, products


def _why(alone: list[float], found: dict[str, list[float]]) -> str:
    """What either side could gain at most."""
    shares = ", ".join(f"{np.median(alone) / np.median(seconds):.0%} of {side}" for side, seconds in found.items())
    return (
        f"Sweep: the passes of the network, which both sides share, alone would take {shares}, in batches of {BATCH} "
        "and spread over all cores without loss. What scales have in common (first predictions, reference, kernels) is "
        f"computed once by cfgbench; a faster network would not give the same bits, and none can pass the {PRODUCTS} "
        "of as many operations."
    )


def body(samples: int, steps: int, seed: int) -> dict[str, object]:
    """The experiment, with noise of its own, of which workers remember nothing."""
    sweep = {"model": "digits", "guidance_scale": SCALES, "sampler": "ddim", "steps": steps, "seed": seed}
    made = {"name": "sweep", "num_samples": samples, "batch_size": BATCH, "metrics": METRICS, "profile": None}
    return made | {"sweeps": [sweep]}


class Warm:
    """Workers that have imported everything before the clock starts, and that outlive a run."""

    def __init__(self) -> None:
        self._pool = LocalPool(machine.cores())

    def __enter__(self) -> "Warm":
        jobs = (Job(("warm", number), "cfgbench.running.worker:ready", ()) for number in range(machine.cores()))
        deque(self._pool.run(deque(jobs)), maxlen=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        """As the workers do."""
        return self._pool.run(queue)

    def close(self) -> None:
        """Nothing: another run follows."""


def _agreement(root: Path, scores: dict[float, plain.Scores]) -> list[Row]:
    """Both values of every score; they are of different noise."""
    folder = next(path for path in sorted(root.iterdir()) if (path / "plan.json").exists())
    records: dict[float, CellRecord] = {
        cell.guidance_scale: record for cell in Store(folder).plan().cells if (record := Store(folder).cell(cell.id))
    }
    value = partial(_value, records)
    return [
        {"case": f"{name} at s = {scale:g}", "side": side, "value": found}
        for scale, theirs in scores.items()
        for name in METRICS
        for side, found in (("plain script", getattr(theirs, name)), ("cfgbench", value(scale, name)))
    ]


def _value(records: dict[float, CellRecord], scale: float, name: str) -> float:
    return next(score.value for score in records[scale].scores if score.column == name)
