"""An adaptive sweep names a wrong scale no more often than it says, in worlds whose true scores are known.

Features are Gaussian, so that true Frechet distances have a closed form. The default run repeats less often; its bounds
let a false alarm pass once in ten thousand runs with other seeds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from cfgbench.planning import experiment, plan
from cfgbench.records import CellRecord
from cfgbench.running import runner, scoring
from cfgbench.running.adaptive import Adaptive
from cfgbench.scores import metrics, statistics
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.scores.selection import Rules, look, unseen
from cfgbench.scores.statistics import Replicated, extrapolated
from cfgbench.store import Store
from tests.synthetic import MACHINE

Floats = NDArray[np.float64]
Pair = tuple[Replicated, Replicated]
ALPHA, DIMENSION, CLASSES = 0.05, 4, 4
GAP = 0.11  # between two scales of which one is not within 0.1 of the other
STANDARD = Reference(moments=(np.zeros(DIMENSION), np.eye(DIMENSION)))
few_or_many = pytest.mark.parametrize("repetitions", [15, pytest.param(300, marks=pytest.mark.slow)])


def most(repetitions: int) -> int:
    """Wrong answers that an error rate of alpha exceeds once in ten thousand times."""
    return int(binom.isf(1e-4, repetitions, ALPHA))


class Race(NamedTuple):
    """How one adaptive sweep ended."""

    named: float | None
    scales: tuple[float, ...]


@dataclass(frozen=True)
class World:
    """What is true of every scale, and samples that know nothing else; a part of their noise is the same for all."""

    metric: str
    truth: Callable[[float], float]
    shared: float = 0.7

    def samples(self, scale: float, count: int, seed: int) -> Samples:
        """The first samples of a scale."""
        common, own = (np.random.default_rng([seed, key]) for key in (0, 1 + int(1000 * scale)))
        if self.metric == "accuracy":
            same = own.random(count) < self.shared
            right = np.where(same, common.random(count), own.random(count)) < self.truth(scale)
            return _classified(np.arange(count) % CLASSES, right)
        shape = (count, DIMENSION)
        noise = np.sqrt(self.shared) * common.normal(size=shape) + np.sqrt(1 - self.shared) * own.normal(size=shape)
        direction = np.array([np.cos(scale), np.sin(scale), 0, 0])
        return Samples(np.sqrt(self.truth(scale)) * direction + noise)

    def is_wrong(self, race: Race, delta: float) -> bool:
        """Whether a scale was named that is more than delta from the best of those in the race."""
        sign = 1 if self.metric == "fid" else -1
        best = min(sign * self.truth(scale) for scale in race.scales)
        return race.named is not None and sign * self.truth(race.named) - best > delta


def _classified(labels: NDArray[np.integer], right: NDArray[np.bool_]) -> Samples:
    given = np.where(right, labels, (labels + 1) % CLASSES)
    log_probs = np.log(np.where(np.arange(CLASSES) == given[:, None], 0.97, 0.01))
    return Samples(np.zeros((len(labels), 1)), labels, log_probs)


def race(world: World, made: plan.Plan, seed: int, folder: Path) -> Race:
    """An adaptive sweep of the world, as a run does it but for the drawing of samples."""
    assert made.experiment.budget is not None
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    sweep, scales = Adaptive(made, made.experiment.budget, store), dict[str, float]()
    for tasks in sweep.rounds():
        store.write_record(runner.plan_record(replace(made, tasks=tasks), ()))
        for task in [task for task in tasks if not runner.is_finished(task, store)]:
            store.write_record(_record(world, task, seed))
        scales = {task.cell.id: task.cell.guidance_scale for task in tasks}
    (contest,) = sweep.contests
    return Race(scales[contest.best] if contest.settled else None, tuple(scales.values()))


def _record(world: World, task: plan.Task, seed: int) -> CellRecord:
    request = next(one for one in task.scores if one.column == world.metric)
    samples = world.samples(task.cell.guidance_scale, task.num_samples, seed)
    return CellRecord(
        id=task.cell.id,
        cell=task.cell,
        status="done",
        request=task.digest,
        num_samples=task.num_samples,
        num_classes=task.num_classes,
        block_size=task.block_size,
        batch_size=task.batch_size,
        scores=(scoring.evaluate(request, samples, STANDARD, task.num_classes),),
        machine=MACHINE,
    )


def planned(metric: str, scales: list[float], num_samples: int, **budget: object) -> plan.Plan:
    """An adaptive sweep over these scales."""
    body = {
        "name": "coverage",
        "num_samples": num_samples,
        "metrics": [metric],
        "profile": None,
        "common": {"model": "gaussians", "sampler": "ddim", "steps": 6},
        "sweeps": [{"guidance_scale": scales}],
        "budget": {"metric": metric, **budget},
    }
    return plan.plan(experiment.parse(body, "coverage.yaml"))


def between(scale: float) -> float:
    """A Frechet distance whose least lies between the scales of a grid of whole numbers, the rest just beyond 0.1."""
    return 0.5 if abs(scale - 2.5) < 0.01 else 0.61


@few_or_many
def test_confidence_holds_where_the_grid_is_refined_around_the_leader(repetitions: int, tmp_path: Path) -> None:
    world, made = World("fid", between), planned("fid", [1, 2, 3, 4], 1600, delta=0.1, looks=3, refine=2)
    races = [race(world, made, seed, tmp_path / str(seed)) for seed in range(repetitions)]
    assert sum(len(one.scales) > 4 for one in races) == repetitions
    assert sum(one.named is not None for one in races) > repetitions / 10  # the test can fail
    assert sum(world.is_wrong(one, 0.1) for one in races) <= most(repetitions)


@few_or_many
def test_confidence_holds_where_larger_is_better(repetitions: int, tmp_path: Path) -> None:
    world = World("accuracy", lambda scale: 0.9 if scale == 3 else 0.868)
    made = planned("accuracy", [2, 3, 4], 800, delta=0.03, looks=2)
    races = [race(world, made, seed, tmp_path / str(seed)) for seed in range(repetitions)]
    assert sum(one.named is not None for one in races) > repetitions / 10
    assert sum(world.is_wrong(one, 0.03) for one in races) <= most(repetitions)


@few_or_many
def test_shares_near_one_are_not_called_equal_for_want_of_failures(repetitions: int, tmp_path: Path) -> None:
    """Of 400 samples hardly one fails. The better scale is the later one, as of two that tie the first leads."""
    world = World("accuracy", lambda scale: 0.999 if scale == 3 else 0.9975)
    made = planned("accuracy", [2, 3], 800, delta=0.001, looks=2)
    races = [race(world, made, seed, tmp_path / str(seed)) for seed in range(repetitions)]
    assert sum(world.is_wrong(one, 0.001) for one in races) <= most(repetitions)


def test_the_slack_of_a_share_is_what_so_many_samples_may_hide() -> None:
    rules = Rules(delta=0.0, alpha=ALPHA, looks=1, candidates=2)
    assert (1 - unseen((0, 1), rules, 400)) ** 400 == pytest.approx(rules.level, rel=0.02)
    assert unseen((-np.inf, np.inf), rules, 400) == 0
    same = Replicated(0.99, (0.99,) * 20)
    assert look([same, same], Rules(0.1, ALPHA, 1, 2), slack=0.09).settled
    assert not look([same, same], Rules(0.1, ALPHA, 1, 2), slack=0.11).settled


@pytest.mark.parametrize("lower_is_better", [True, False])
@pytest.mark.parametrize("repetitions", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_of_two_that_are_all_but_equal_the_worse_is_named_as_often_as_it_says(
    repetitions: int, lower_is_better: bool
) -> None:
    """With one look and two scales nothing is lost to the union bound: the error rate is alpha itself."""
    rules = Rules(delta=0.0, alpha=ALPHA, looks=1, candidates=2, lower_is_better=lower_is_better)
    rng, sign, wrong = np.random.default_rng(repetitions), 1 if lower_is_better else -1, 0
    for _ in range(repetitions):
        seen = look([_replicated(sign * (mean + rng.normal(size=20))) for mean in (1e-9, 0)], rules)
        wrong += seen.settled and seen.best == 0
    assert binom.ppf(1e-4, repetitions, ALPHA) <= wrong <= most(repetitions)


@pytest.mark.parametrize("repetitions", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_of_many_that_are_all_but_equal_none_is_named_too_often(repetitions: int) -> None:
    rules, rng, wrong = Rules(delta=0.0, alpha=ALPHA, looks=4, candidates=5), np.random.default_rng(1), 0
    for _ in range(repetitions):
        values, left = np.zeros((5, 20)), list(range(5))
        for number in range(rules.looks):
            values += np.linspace(1e-9, 0, 5)[:, None] + rng.normal(size=values.shape)
            seen = look([_replicated(values[i] / (number + 1)) for i in left], rules)
            left = [one for i, one in enumerate(left) if i not in seen.worse]
        wrong += 4 not in left
    assert wrong <= most(repetitions)


def _replicated(pseudo: Floats) -> Replicated:
    total = float(pseudo.mean())
    return Replicated(total, tuple(((len(pseudo) * total - pseudo) / (len(pseudo) - 1)).tolist()))


def looks_at(count: int, dimension: int, repetitions: int, truth: float = 2.0) -> Iterator[tuple[Pair, Pair]]:
    """Two scales at the same samples: as an adaptive sweep judges them, and by the jackknife alone.

    The first is shifted and just more than delta worse, the second too narrow: so the biases of their distances differ,
    and what is left of them speaks for the worse.
    """
    reference, half = Reference(moments=(np.zeros(dimension), np.eye(dimension))), count // 2
    shift, narrow = np.eye(dimension)[0] * np.sqrt(truth + GAP), 1 - np.sqrt(truth / dimension)
    rng = np.random.default_rng(count)
    for _ in range(repetitions):
        noise = rng.normal(size=(count, dimension))
        plain = [_distance(shift + noise, reference), _distance(narrow * noise, reference)]
        first = [_distance(shift + noise[:half], reference), _distance(narrow * noise[:half], reference)]
        worse, better = (extrapolated(a, count, b, half) for a, b in zip(plain, first, strict=True))
        yield (worse, better), (plain[0], plain[1])


def _distance(features: Floats, reference: Reference) -> Replicated:
    return metrics.fid(Samples(features), reference, statistics.groups(np.arange(len(features)), 1))


def wrong_of(count: int, dimension: int, repetitions: int) -> int:
    """How often the worse of two scales is named."""
    seen = [look(judged, Rules(0.1, ALPHA, 1, 2)) for judged, _ in looks_at(count, dimension, repetitions)]
    return sum(one.settled and one.best == 0 for one in seen)


@pytest.mark.parametrize(
    ("dimension", "repetitions"), [(64, 40), *(pytest.param(d, 400, marks=pytest.mark.slow) for d in (64, 128))]
)
def test_confidence_holds_from_five_samples_per_dimension_and_not_below_the_dimension(
    dimension: int, repetitions: int
) -> None:
    assert wrong_of(plan.FEW * dimension, dimension, repetitions) <= most(repetitions)
    assert wrong_of(5 * dimension // 8, dimension, repetitions) > most(repetitions)


@pytest.mark.slow
def test_in_many_dimensions_the_jackknife_alone_leaves_a_bias_and_the_judged_difference_has_none() -> None:
    found = [
        [statistics.paired_difference(*pair).value - GAP for pair in pairs]
        for pairs in looks_at(1280, 256, repetitions=200)
    ]
    means, errors = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(200)
    assert abs(means[0]) < 3 * errors[0]
    assert means[1] < -4 * errors[1]
