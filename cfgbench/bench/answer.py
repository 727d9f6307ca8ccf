"""Time to answer: images until a scale within 0.1 FID of the best is named with 95 % confidence.

A pool of samples of every scale stands for all samples that could ever be drawn: repetitions draw from it with
replacement, so the true FID of every scale is that of its pool, exactly, and any number of repetitions costs nothing.
Three ways look at the same sample counts with the same tests: an adaptive sweep, the same grid without anybody leaving
(both with the same noise at every scale), and that grid with noise of its own for each scale. What such a count of
images means in seconds is timed on whole runs: adaptive sweeps that end by themselves, and grids of the mean size.
"""

import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from cfgbench import machine
from cfgbench.bench.result import Finding, Result, ratio
from cfgbench.bench.startup import Silent
from cfgbench.bench.sweep import Warm
from cfgbench.planning import experiment, plan
from cfgbench.reading.tables.rows import Row
from cfgbench.running import runner
from cfgbench.running.pool import Job, LocalPool
from cfgbench.scores import metrics, statistics
from cfgbench.scores.metrics import Reference, Samples
from cfgbench.scores.selection import Rules, look
from cfgbench.scores.statistics import Floats, Ints, Replicated
from cfgbench.store import Store
from cfgbench.testbeds import digits_data, digits_encoders

SCALES = [0.0, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0]
CLASSES = 10
DELTA, ALPHA = 0.1, 0.05
POOL, STEPS, LOOKS, REPETITIONS = 20_000, 25, 9, 200
FIRST = 400  # samples at the first look; each later one has twice as many
ROUNDS = 3  # of whole runs, each with seeds of its own
WAYS = {"adaptive, same noise": (True, True), "grid, same noise": (True, False), "grid, own noise": (False, False)}


class Answer(NamedTuple):
    """What one repetition came to."""

    named: int  # a scale by position; -1: none
    images: int
    passes: int  # of the network per step


def run(quick: bool = False) -> Result:
    """Images until the answer in every repetition, by way; how often the answer was wrong or did not come."""
    samples, steps, repetitions, looks = (400, 2, 2, 2) if quick else (POOL, STEPS, REPETITIONS, LOOKS)
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as name:
        begin = time.perf_counter()
        features = draw_pool(samples, steps, Path(name))
        per_pass = (time.perf_counter() - begin) / _answer(-1, np.full(len(SCALES), samples)).passes  # and step
        truth = [float(distance) for distance in true_distances(features)]
        np.save(Path(name) / "pool.npy", features)
        found = {way: _repeat(way, Path(name) / "pool.npy", repetitions, looks) for way in WAYS}
        whole = whole_runs(found, steps, looks, Path(name), rounds=1 if quick else ROUNDS)
    near = {i for i, distance in enumerate(truth) if distance - min(truth) <= DELTA}
    rows = [_row(way, k, one, near) for way, answers in found.items() for k, one in enumerate(answers)]
    rows = [{**row, "seconds": per_pass * float(str(row["passes_per_step"]))} for row in rows]
    findings = [*_findings(found, near), *_seconds(found, per_pass), *_as_run(whole)]
    return Result([*rows, *_run_rows(whole)], findings, [_note(truth, near, samples, repetitions)])


def _row(way: str, repetition: int, one: Answer, near: set[int]) -> Row:
    told = one.named >= 0
    row: Row = {"way": way, "repetition": repetition, "named": SCALES[one.named] if told else None}
    return row | {"right": one.named in near if told else None, "images": one.images, "passes_per_step": one.passes}


def whole_runs(
    found: dict[str, list[Answer]], steps: int, looks: int, folder: Path, rounds: int
) -> dict[str, list[float]]:
    """Seconds of runs by way: drawing, encoding, scoring and deciding, on workers that have imported everything."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with Warm() as pool:
        for number in range(rounds):
            for way, answers in found.items():
                grid = float(np.mean([one.images for one in answers])) / len(SCALES)
                made = plan.plan(experiment.parse(body(way, grid, steps, looks, number), "cfgbench bench"))
                begin = time.perf_counter()
                runner.run(made, runner.Options(folder / f"{way} {number}", profile=False), Silent(), pool)
                seconds[way].append(time.perf_counter() - begin)
    return seconds


def body(way: str, grid: float, steps: int, looks: int, seed: int) -> dict[str, object]:
    """The experiment of a way: an adaptive sweep up to the last look, or a grid of `grid` samples per scale."""
    same_noise, leaving = WAYS[way]
    common = {"model": "digits", "sampler": "ddim", "steps": steps}
    seeds = [1000 * (seed + 1) + (0 if same_noise else k) for k in range(len(SCALES))]
    sweeps = [{"guidance_scale": SCALES, "seed": seeds[0]}] if same_noise else _apart(seeds)
    unit = CLASSES * plan.NUM_GROUPS  # of error bars
    samples = FIRST << (looks - 1) if leaving else max(FIRST, unit * round(grid / unit))
    made = {"name": "answer", "num_samples": samples, "metrics": ["fid"], "profile": None, "common": common}
    budget = {"delta": DELTA, "confidence": 1 - ALPHA, "looks": looks}
    return made | {"sweeps": sweeps} | ({"budget": budget} if leaving else {})


def _apart(seeds: Sequence[int]) -> list[dict[str, object]]:
    return [{"guidance_scale": scale, "seed": seed} for scale, seed in zip(SCALES, seeds, strict=True)]


def draw_pool(samples: int, steps: int, folder: Path) -> Floats:
    """Features (scales, n, 64) of samples with the same noise at every scale."""
    sweep = {"model": "digits", "guidance_scale": SCALES, "sampler": "ddim", "steps": steps}
    body = {"name": "pool", "num_samples": samples, "metrics": ["inception_score"], "profile": None, "sweeps": [sweep]}
    made = plan.plan(experiment.parse(body, "cfgbench bench"))
    runner.run(made, runner.Options(folder / "pool", workers=machine.cores(), profile=False), Silent())
    store, by_scale = Store(folder / "pool"), {}
    for task in made.tasks:
        blocks = [store.block(task.cell.id, start) for start in task.starts]
        by_scale[task.cell.guidance_scale] = np.concatenate(
            [block["features"] for block in blocks if block is not None]
        )
    return np.stack([by_scale[scale] for scale in SCALES]).astype(np.float64)


def true_distances(features: Floats) -> Floats:
    """The Frechet distance of each scale's law, which is its pool, (scales,)."""
    reference, values = _reference(), []
    for pool in features:
        centred = pool - pool.mean(axis=0)
        z = reference.root @ (centred.T @ centred / len(pool)) @ reference.root
        roots = np.sqrt(np.linalg.eigvalsh(z).clip(min=0)).sum()
        gap = pool.mean(axis=0) - reference.mean
        spread = float((centred**2).sum() / len(pool) + np.trace(reference.covariance))
        values.append(float(gap @ gap) + spread - 2 * float(roots))
    return np.array(values)


def repetitions(way: str, pool: Path, seeds: Sequence[int], looks: int) -> list[Answer]:
    """What some repetitions come to; each draws by its own seed."""
    features = _pool(pool)
    return [answer(features, *WAYS[way], looks, seed) for seed in seeds]


def answer(features: Floats, same_noise: bool, leaving: bool, looks: int, seed: int) -> Answer:
    """One repetition: look after look until it is settled, or the looks are over."""
    rules = Rules(DELTA, ALPHA, looks, len(features))
    rngs = [np.random.default_rng([seed, 0 if same_noise else scale]) for scale in range(len(features))]
    left, worse, spent = list(range(len(features))), set[int](), np.zeros(len(features), dtype=int)
    chosen: list[list[Ints]] = [[] for _ in features]
    for number in range(looks):
        size = FIRST << number
        for i in left:
            chosen[i].append(_resample(features.shape[1], size - spent[i], rngs[i]))
            spent[i] = size
        scores = [_score(features[i][np.concatenate(chosen[i])]) for i in left]
        seen = look(scores, rules)
        worse |= {left[i] for i in seen.worse}
        if seen.settled:
            return _answer(left[seen.best], spent)
        left = [i for i in left if not leaving or i not in worse]
    return _answer(-1, spent)


def _answer(named: int, spent: Ints) -> Answer:
    passes = sum(int(n) * (1 if scale in (0.0, 1.0) else 2) for n, scale in zip(spent, SCALES, strict=True))
    return Answer(named, int(spent.sum()), passes)


def _resample(pool: int, count: int, rng: np.random.Generator) -> Ints:
    """Indices into a pool, with replacement, each of the class that its place asks for."""
    rounds = rng.integers(0, pool // CLASSES, size=(count // CLASSES, CLASSES))
    return np.asarray((rounds * CLASSES + np.arange(CLASSES)).ravel())


def _score(features: Floats) -> Replicated:
    """As an adaptive sweep judges it."""
    half = len(features) // 2
    return statistics.extrapolated(_fid(features), len(features), _fid(features[:half]), half)


def _fid(features: Floats) -> Replicated:
    groups = statistics.groups(np.arange(len(features)), CLASSES)
    return metrics.fid(Samples(features), _reference(), groups)


def _repeat(way: str, pool: Path, count: int, looks: int) -> list[Answer]:
    """All repetitions, over the cores."""
    shares = [list(range(count))[core :: machine.cores()] for core in range(machine.cores())]
    jobs = [
        Job((way, k), "cfgbench.bench.answer:repetitions", (way, pool, seeds, looks)) for k, seeds in enumerate(shares)
    ]
    workers, found = LocalPool(machine.cores()), dict[int, Answer]()
    try:
        for done in workers.run(deque(jobs)):
            if done.error is not None:
                raise done.error
            found |= dict(zip(shares[done.key[1]], done.value, strict=True))  # type: ignore[call-overload]
    finally:
        workers.close()
    return [found[k] for k in range(count)]


def _findings(found: dict[str, list[Answer]], near: set[int]) -> list[Finding]:
    own, same, adaptive = (np.array([one.images for one in found[way]]) for way in reversed(WAYS))
    made = [
        _fewer("images, a grid with noise of its own per scale over an adaptive sweep", own, adaptive, 5.0),
        _fewer("of this by noise that is the same at every scale", own, same),
        _fewer("of this by scales that leave", same, adaptive),
    ]
    for way, answers in found.items():
        images = np.array([one.images for one in answers])
        made.append(Finding(f"images, {way}", float(images.mean()), float(images.min()), float(images.max())))
        wrong = [one.named >= 0 and one.named not in near for one in answers]
        made += [_share(f"wrong answers, {way}", wrong, ALPHA)]
        made += [_share(f"no answer, {way}", [one.named < 0 for one in answers])]
    return made


def _seconds(found: dict[str, list[Answer]], per_pass: float) -> Iterator[Finding]:
    """At the rate at which the pool was drawn, workers' start included."""
    for way, answers in found.items():
        seconds = per_pass * np.array([one.passes for one in answers])
        mean, low, high = (float(number) for number in (seconds.mean(), seconds.min(), seconds.max()))
        yield Finding(f"drawing until the answer, {way}", mean, low, high, unit="s")


def _as_run(whole: dict[str, list[float]]) -> Iterator[Finding]:
    """Seconds of whole runs, and their ratios round by round."""
    for way, seconds in whole.items():
        yield Finding(f"a whole run, {way}", float(np.median(seconds)), min(seconds), max(seconds), unit="s")
    adaptive, *grids = whole
    for way in grids:
        yield ratio(f"seconds of a whole run, {way}, over an adaptive sweep", whole[way], whole[adaptive])


def _run_rows(whole: dict[str, list[float]]) -> Iterator[Row]:
    for way, seconds in whole.items():
        for number, taken in enumerate(seconds):
            yield {"way": way, "round": number, "run_seconds": taken}


def _fewer(what: str, many: Ints, few: Ints, target: float | None = None) -> Finding:
    """The ratio of mean images, with a 95 % bootstrap interval over repetitions."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(many), size=(2000, len(many)))
    ratios = many[draws].mean(axis=1) / few[draws].mean(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Finding(what, float(many.mean() / few.mean()), float(low), float(high), target, interval=True)


def _share(what: str, found: Sequence[bool], target: float | None = None) -> Finding:
    """How often something was so, with its exact binomial interval (Clopper & Pearson 1934)."""
    counted = binomtest(sum(found), len(found))
    ends = counted.proportion_ci(0.95, method="exact")
    return Finding(what, counted.statistic, ends.low, ends.high, target, at_least=False, interval=True)


def _note(truth: Sequence[float], near: set[int], samples: int, count: int) -> str:
    best = SCALES[int(np.argmin(truth))]
    right = ", ".join(f"{SCALES[i]:g}" for i in sorted(near))
    return (
        f"Time to answer: {count} repetitions on digits, DDIM with {STEPS} steps, {len(SCALES)} scales; each draws "
        f"with replacement from {samples:,} samples per scale, whose FID is the truth (best at s = {best:g}; right: "
        f"{right}). Looks at {FIRST} samples and each doubling; ratios are of means, with bootstrap intervals. "
        f"Whole runs: {ROUNDS} rounds of an adaptive sweep that ends by itself, and of grids with the images that each "
        "took on average."
    )


@lru_cache(maxsize=1)
def _reference() -> Reference:
    return Reference(digits_encoders.features(digits_data.reference("heldout", {})[0])[0])


@lru_cache(maxsize=1)
def _pool(path: Path) -> Floats:
    return np.asarray(np.load(path))
