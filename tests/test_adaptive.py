"""Adaptive sweeps of a model in closed form: who gets samples, what is kept, what a second or a killed run does."""

import csv
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfgbench.errors import InputError
from cfgbench.planning import experiment, plan
from cfgbench.reading import report
from cfgbench.reading.tables.budget import budget_lines
from cfgbench.reading.tables.compare import replicated, rungs
from cfgbench.reading.tables.results import Results, load
from cfgbench.registry import resolve
from cfgbench.running import runner
from cfgbench.running.adaptive import Adaptive
from cfgbench.running.pool import Done, Job
from cfgbench.running.shards import Shard
from cfgbench.scores.statistics import extrapolated
from cfgbench.store import Store

SWEEP: dict[str, Any] = {
    "name": "race",
    "num_samples": 3200,
    "metrics": ["fid", "accuracy"],
    "profile": None,
    "common": {"model": "gaussians", "sampler": "ddim", "steps": 6},
    "sweeps": [{"guidance_scale": [1, 1.45, 1.5, 1.55, 3, 9]}],
    "budget": {"delta": 0, "looks": 4},
}
SAMPLES = (400, 800, 1600, 3200)


class Here:
    """Carries out jobs in this process, one after the other, and may be stopped after some."""

    def __init__(self, stop: int | None = None) -> None:
        self.jobs: list[Job] = []
        self._stop = stop

    def run(self, queue: deque[Job]) -> Iterator[Done]:
        while queue:
            if len(self.jobs) == self._stop:
                raise KeyboardInterrupt
            job = queue.popleft()
            self.jobs.append(job)
            yield Done(job.key, resolve(job.target)(*job.arguments), None)

    def close(self) -> None: ...


class Silent:
    """Progress that nobody watches."""

    def begin(self, samples: int, done: int) -> None: ...
    def drawn(self, samples: int) -> None: ...
    def finished(self, record: object) -> None: ...
    def stage(self, text: str) -> None: ...


def run(folder: Path, here: Here | None = None, **changes: object) -> Results:
    made = plan.plan(experiment.parse({**SWEEP, **changes}, "race.yaml"))
    runner.run(made, runner.Options(folder, profile=False), Silent(), here or Here())
    return load(folder)


def tables(folder: Path) -> dict[str, bytes]:
    report.build(folder, formats=())
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def counts(results: Results) -> dict[float, int]:
    return {record.cell.guidance_scale: record.num_samples for record in results.done}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("race") / "whole"
    run(folder)
    return folder


def test_scales_shown_worse_get_no_more_and_contenders_do(whole: Path) -> None:
    found = counts(load(whole))
    assert set(found.values()) <= set(SAMPLES)
    assert found[9.0] == min(found.values()) == SAMPLES[0]
    assert max(found.values()) > SAMPLES[0]
    best = load(whole).plan.contests[0].best
    assert next(r for r in load(whole).done if r.id == best).num_samples == max(found.values())


def test_records_say_when_a_scale_left_and_by_what(whole: Path) -> None:
    results = load(whole)
    (contest,) = results.plan.contests
    for record in results.done:
        if record.id in contest.left:
            assert record.left == {}
        else:
            assert record.left == {"fid": record.num_samples}


def test_the_first_samples_are_those_of_a_plain_sweep(whole: Path, tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", budget=None, num_samples=SAMPLES[0])
    race = load(whole)
    for record in race.done:
        if record.num_samples == SAMPLES[0]:
            other = plain.records[record.id]
            assert record.scores == other.scores
        else:
            (score, *_), (first, *_) = record.scores, plain.records[record.id].scores
            assert score.nested[SAMPLES[0]].value == pytest.approx(first.value, rel=1e-12)


def test_a_distance_is_judged_without_its_bias_of_second_order_and_other_scores_as_they_are(whole: Path) -> None:
    made, results = plan.plan(experiment.parse(SWEEP, "race.yaml")), load(whole)
    assert made.experiment.budget is not None
    sweep = Adaptive(made, made.experiment.budget, Store(whole))
    record = max(results.done, key=lambda record: record.num_samples)
    for name in ("fid", "accuracy"):
        column = results.column(name)
        assert column is not None
        scores = {size: replicated(column, rung) for size, rung in rungs(column, record).items()}
        sharper = extrapolated(scores[800], 800, scores[400], 400)
        assert sweep._score(column, record, 1) == (sharper if name == "fid" else scores[800])


def test_a_second_run_draws_nothing_even_where_blocks_are_gone(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("blocks"))
    here = Here()
    run(folder, here)
    assert here.jobs == []
    assert tables(folder) == tables(whole)


@pytest.mark.parametrize("stop", [0, 3, 7, 13, 15, 19])
def test_a_run_that_was_stopped_comes_to_the_same_tables_and_draws_nothing_twice(
    whole: Path, tmp_path: Path, stop: int
) -> None:
    first, second = Here(stop), Here()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "race", first)
    run(tmp_path / "race", second)
    assert tables(tmp_path / "race") == tables(whole)
    blocks = [job.key for job in (*first.jobs, *second.jobs) if job.key[1] != runner.SCORE]
    assert len(blocks) == len(set(blocks))


def test_refinement_adds_scales_beside_the_leader_and_counts_them_beforehand(tmp_path: Path) -> None:
    finer: dict[str, Any] = {
        "budget": {"delta": 0, "looks": 3, "refine": 1},
        "sweeps": [{"guidance_scale": [1, 1.4, 1.44, 3]}],
    }
    scales = {record.cell.guidance_scale for record in run(tmp_path, **finer).done}
    assert scales - {1.0, 1.4, 1.44, 3.0} in ({1.2, 1.42}, {1.42, 2.22})  # beside the leader, on both sides
    again = Here()
    run(tmp_path, again, **finer)
    assert again.jobs == []


def test_cells_without_a_contest_get_all_their_samples(tmp_path: Path) -> None:
    lone = {"guidance_scale": 2, "steps": 4}
    results = run(tmp_path, sweeps=[*SWEEP["sweeps"], lone])
    (found,) = [r.num_samples for r in results.done if r.cell.sampler.steps == 4]
    assert found == SWEEP["num_samples"]


def test_the_report_says_what_was_spent_on_what_and_how_it_ended(whole: Path) -> None:
    tables(whole)
    with (whole / "budget.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["scale"]) for row in rows] == [1, 1.45, 1.5, 1.55, 3, 9]
    assert sum(int(row["num_samples"]) for row in rows) == sum(counts(load(whole)).values())
    assert sum(row["leads"] == "true" for row in rows) == 1
    spent, conclusion = budget_lines(load(whole))
    assert "samples were drawn, of at most 19,200" in spent
    assert spent in (whole / "summary.md").read_text()
    assert "with 95 % confidence" in conclusion or "undecided against" in conclusion


def test_a_plain_sweep_says_nothing_of_a_budget(tmp_path: Path) -> None:
    results = run(tmp_path, budget=None, num_samples=400)
    assert list(budget_lines(results)) == []
    tables(tmp_path)
    assert not (tmp_path / "budget.csv").exists()


@pytest.mark.parametrize(
    ("num_samples", "looks", "expected"),
    [
        (3200, 4, (400, 800, 1600, 3200)),
        (4000, 3, (800, 2000, 4000)),
        (2000, 1, (2000,)),
        (800, 9, (400, 800)),
    ],
)
def test_looks_are_whole_blocks_and_groups(num_samples: int, looks: int, expected: tuple[int, ...]) -> None:
    body = {**SWEEP, "num_samples": num_samples, "budget": {"looks": looks}}
    assert {task.looks for task in plan.plan(experiment.parse(body, "race.yaml")).tasks} == {expected}


def test_a_number_of_samples_without_error_bars_is_refused() -> None:
    with pytest.raises(InputError, match=r"num_samples = 500 in race.yaml.*needs a multiple of 400"):
        plan.plan(experiment.parse({**SWEEP, "num_samples": 500}, "race.yaml"))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"metric": "recall"}, "budget.metric = 'recall' in race.yaml"),
        ({"metric": "kid"}, "needs one of its metrics with error bars: fid, accuracy"),
        ({"delta": -1}, "budget.delta = -1 in race.yaml"),
        ({"confidence": 1}, "budget.confidence = 1 in race.yaml"),
        ({"looks": 0}, "budget.looks = 0 in race.yaml"),
        ({"look": 3}, "look"),
        ({"refine": 9}, "budget.refine = 9 in race.yaml"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(budget: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        experiment.parse({**SWEEP, "budget": budget}, "race.yaml")
    assert message in str(caught.value)


def test_an_adaptive_sweep_is_not_shared_out(tmp_path: Path) -> None:
    made = plan.plan(experiment.parse(SWEEP, "race.yaml"))
    with pytest.raises(InputError, match="--shard"):
        runner.draw_share(made, Shard(1, 2), runner.Options(tmp_path), Silent(), Here())


def test_an_adaptive_sweep_looks_at_no_fewer_samples_than_its_score_needs() -> None:
    """Below five for each of the 64 dimensions the bias of the distance differs from scale to scale."""
    digits = {**SWEEP, "common": {**SWEEP["common"], "model": "digits"}}
    made = plan.plan(experiment.parse({**digits, "num_samples": 1600, "budget": {"looks": 5}}, "race.yaml"))
    assert made.tasks[0].looks == (400, 800, 1600)
    with pytest.raises(InputError, match="by fid needs at least 320, 5 for each dimension"):
        plan.plan(experiment.parse({**digits, "num_samples": 200, "budget": {"looks": 1}}, "race.yaml"))


def test_scales_that_have_no_score_are_named(tmp_path: Path) -> None:
    grid = {**SWEEP["sweeps"][0], "guidance_scale": [1, 2, 1e38]}
    results = run(tmp_path / "x", sweeps=[grid])
    (contest,) = results.plan.contests
    (broken,) = (record for record in results.done if record.cell.guidance_scale == 1e38)
    assert contest.unjudged == (broken.id,) and contest.best
    assert any("Not judged, for want of a score: s = " in line for line in budget_lines(results))
    alone = run(tmp_path / "y", sweeps=[{**grid, "guidance_scale": [1, 1e38]}])
    assert any("too few scales have a score to compare" in line for line in budget_lines(alone))
