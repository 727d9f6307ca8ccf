"""Made-up evidence for the rules of the claims ledger: the cells of the real experiments with scores from a formula.

A world says by how much each score of a cell differs from a flat one; its mirror image turns every difference round.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from cfgbench.cell import Cell
from cfgbench.claims.evidence import Evidence
from cfgbench.costs.record import CodeCost, CostsRecord, SamplingCost, TrainingCost
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.reading.tables.results import Column, Results
from cfgbench.records import CellRecord, Health, PlanRecord, Score, SpeedRecord
from cfgbench.registry import METHODS, Method
from tests import synthetic

ROOT = Path(__file__).parent.parent
FLAT = {"fid": 5.0, "inception_score": 6.5, "precision": 0.7, "recall": 0.6, "accuracy": 0.8, "clip_score": 71.0}
CLIPPED = 0.5  # share of pixels at an end of their range
PIXELS = 100_000
GROUPS = 20
Change = Callable[[Cell], float]


@dataclass(frozen=True)
class World:
    """Differences to the flat scores by name (`clipped` too), measured series, and timed cells' seconds and weights."""

    changes: Mapping[str, Change] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    seconds: Change = lambda cell: float(cell.evaluations)
    weights: Callable[[Cell], dict[str, int]] = lambda cell: {"main": 300, "classifier": 320}
    passes: Change = lambda cell: float(cell.evaluations)
    spread: float = 0.0  # of training seeds
    costs: CostsRecord | None = None


def mirrored(world: World) -> World:
    """The same world with every difference of a score turned round."""
    changes = {name: (lambda cell, change=change: -change(cell)) for name, change in world.changes.items()}
    return World(changes, world.measured, world.seconds, world.weights, world.passes, world.spread, world.costs)


def evidence(world: World, *names: str) -> Evidence:
    """What the rules would read of these experiments in a world."""
    found = {name: results(world, name) for name in names if name not in ("claims", "costs")}
    return Evidence(found, world.measured, world.costs)


@cache
def cells(name: str) -> tuple[Cell, ...]:
    """The cells that an experiment of the repository plans."""
    return tuple(task.cell for task in _planned(name)[0].tasks)


@cache
def _planned(name: str) -> tuple[planner.Plan, dict[str, Method]]:
    """A plan, and the plug-in methods that it names, which the next experiment's loading forgets."""
    made = planner.plan(experiment.load(ROOT / "experiments" / f"{name}.yaml"))
    return made, {method: entry for method, entry in METHODS.items() if ":" in method}


def results(world: World, name: str) -> Results:
    """An experiment's results as if it had been run in a world."""
    METHODS.update(_planned(name)[1])
    records = {cell.id: record(world, cell) for cell in cells(name)}
    plan = PlanRecord(name=name, description="", metrics=tuple(FLAT), num_samples=2000, source="", cells=cells(name))
    columns = tuple(Column(score, score, {"metric": score}, True) for score in FLAT)
    timed = {cell.cost_class: speed(world, cell) for cell in cells(name) if cell.diffusion is not None}
    return Results(Path(name), plan, records, tuple(timed.values()), columns)


def record(world: World, cell: Cell) -> CellRecord:
    """A finished cell of a world."""
    share = CLIPPED + world.changes.get("clipped", lambda _: 0.0)(cell)
    health = Health(clipped_values=round(share * PIXELS), values=PIXELS)
    scores = tuple(_score(world, cell, name) for name in FLAT)
    return synthetic.record(cell, columns=(), scores=scores, nfe=world.passes(cell), health=health)


def speed(world: World, cell: Cell) -> SpeedRecord:
    """The timing of a cell's cost class: eight repeats that hardly vary."""
    made = synthetic.speed(cell, repeats=8)
    seconds = tuple(world.seconds(cell) * (1 + 0.001 * k) for k in range(8))
    zeros = (0.0,) * 8
    timings = tuple(
        timing.model_copy(update={"trajectory_s": seconds, "decode_s": zeros, "batched": False})
        for timing in made.timings
    )
    return made.model_copy(update={"timings": timings, "weights_memory_bytes": world.weights(cell)})


def training_seed(cell: Cell) -> int:
    return int(str(cell.model.parameters.get("training_seed", 0)))


def _score(world: World, cell: Cell, name: str) -> Score:
    """Noise common to all cells, a little of the cell's own, and what the training seed adds."""
    common, own = np.random.default_rng(1), np.random.default_rng(int(cell.id, 16) % 2**32)
    mean = FLAT[name] + world.changes.get(name, lambda _: 0.0)(cell)
    mean += world.spread * own.normal() if training_seed(cell) else 0.0
    pseudo = mean + 0.01 * common.normal(size=GROUPS) + 1e-4 * own.normal(size=GROUPS)
    replicates = (pseudo.sum() - pseudo) / (GROUPS - 1)
    return Score(
        value=float(pseudo.mean()),
        replicates=tuple(replicates.tolist()),
        column=name,
        metric=name,
        identity={"metric": name},
    )


def costs(networks: int = 1, work: float = 0.1, lines: int = 2) -> CostsRecord:
    """Costs of a GAN that samples with so many networks, a classifier of so much work, and CFG of so many lines."""
    weights = {f"network {k}": 100 for k in range(networks)}
    code = [
        CodeCost(method="cfg", part=part, where="x:y", against="x:z", added=("line",) * lines, removed=())
        for part in ("sampling", "training")
    ]
    return CostsRecord(
        training=(_trained("diffusion", 1.0), _trained("classifier", work)),
        sampling=(_held("gan", weights),),
        code=tuple(code),
        null_parameters=64,
        machine=synthetic.MACHINE,
    )


def _trained(name: str, work: float) -> TrainingCost:
    flops, parts = round(1e6 * work), {"main": 100}
    return TrainingCost(
        name=name, recipe=name, parameters=parts, steps=10, batch_size=64, flops_per_step=flops, stretch=1, cpu_s=()
    )


def _held(name: str, weights: dict[str, int]) -> SamplingCost:
    return SamplingCost(
        name=name,
        method="unguided",
        model="digits_gan",
        steps=None,
        batch_size=100,
        weights_bytes=weights,
        activation_bytes=1,
        nfe=1,
        classifier_passes=0,
        flops_per_sample=1,
    )
