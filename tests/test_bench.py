"""The benchmarks: each side does the same work and comes to the same values; arithmetic and files. No times."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cfgbench import cli
from cfgbench.bench import BENCHMARKS, answer, floor, frechet, growth, plain, startup, sweep, write
from cfgbench.bench.result import Finding, Result, in_turn, ratio, seconds_rows
from cfgbench.planning import experiment, plan
from cfgbench.registry import resolve
from cfgbench.scores.metrics import Reference, Samples, frechet_distance


def test_sides_take_turns_and_every_other_round_runs_backwards() -> None:
    calls: list[str] = []
    seconds = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["b", "a", "a", "b", "b", "a"]  # the first round is not timed
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_the_median_over_rounds_with_its_ends() -> None:
    found = ratio("x", [2.0, 9.0, 4.0], [1.0, 3.0, 1.0], target=3.0)
    assert (found.value, found.low, found.high, found.met) == (3.0, 2.0, 4.0, True)
    assert Finding("y", 1.2, 1, 1, 1.1, at_least=False).met is False
    assert Finding("z", 1, 1, 1).met is None


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_there(name: str) -> None:
    assert callable(resolve(BENCHMARKS[name]))


def test_all_distances_are_equal_with_many_samples_and_with_few() -> None:
    for dimension, samples in ((16, 300), (24, 20)):
        _, worst = frechet.distances(dimension, samples, 1)
        assert worst < 1e-6


def test_scores_of_neighbours_equal_those_of_prdc() -> None:
    _, worst = frechet.neighbours(300, 1)
    assert worst < 1e-12


def test_the_floor_replays_every_pass_of_a_trajectory() -> None:
    result = floor.run(quick=True)
    assert [finding.target for finding in result.findings] == [1.10, None, 1.03, None]
    assert {row["side"] for row in result.rows} == {"sampling", "network", floor.PRODUCTS}


def test_start_up_is_timed_for_experiments_that_are_planned_as_large_as_asked() -> None:
    assert len(startup.body(1000)["sweeps"][0]["seed"]) == 100  # type: ignore[index]
    result = startup.run(quick=True)
    assert {row["side"] for row in result.rows} >= {"cfgbench --help", "plan", "resume", "report"}


def test_growth_varies_one_thing_at_a_time() -> None:
    first, *_ = found = [finding.what for finding in growth.run(quick=True).findings]
    assert first == "seconds with 2 times the samples"
    assert [any(word in what for what in found) for word in ("dimensions", "worker")] == [True, True]


def test_the_script_scores_the_same_images_as_cfgbench_does() -> None:
    """Its distance, on the images that it drew, is ours; its noise is its own."""
    from cfgbench.testbeds import digits_data, digits_encoders

    images, labels = plain.draw(2.0, 200, 2)
    reference, _ = digits_encoders.features(digits_data.reference("heldout", {})[0])
    theirs = plain.score(images, labels, reference)
    ours = frechet_distance(Samples(digits_encoders.features(images)[0]), Reference(reference))
    assert theirs.fid == pytest.approx(ours, rel=1e-6)
    assert theirs.clip_score == pytest.approx(digits_encoders.clip_scores(images, labels).mean(), abs=1e-3)


def test_a_sweep_and_the_script_come_to_scores_that_differ_by_their_noise_only() -> None:
    result = sweep.run(quick=True)
    values = {(row["case"], row["side"]): row["value"] for row in result.rows if "value" in row}
    assert len(values) == 2 * len(sweep.SCALES) * len(sweep.METRICS)
    for scale in sweep.SCALES:
        theirs, ours = (float(str(values[f"fid at s = {scale:g}", side])) for side in ("plain script", "cfgbench"))
        assert theirs == pytest.approx(ours, rel=0.35)


POOL = np.random.default_rng(0).normal(size=(len(answer.SCALES), 400, 64)) * 0.05


def test_the_truth_of_a_pool_is_what_many_draws_from_it_tend_to() -> None:
    draws = answer._resample(400, 40_000, np.random.default_rng(1))
    drawn = frechet_distance(Samples(POOL[0][draws]), answer._reference())
    assert drawn == pytest.approx(answer.true_distances(POOL)[0], rel=1e-3)


def test_draws_have_the_class_that_their_place_asks_for() -> None:
    assert (answer._resample(400, 50, np.random.default_rng(0)) % 10 == np.arange(50) % 10).all()


def test_scales_that_leave_get_no_more_images_and_the_same_noise_repeats() -> None:
    pool = POOL[:1] + np.linspace(0, 1, len(POOL))[:, None, None]
    adaptive = answer.answer(pool, same_noise=True, leaving=True, looks=3, seed=0)
    grid = answer.answer(pool, same_noise=True, leaving=False, looks=3, seed=0)
    assert adaptive == answer.answer(pool, same_noise=True, leaving=True, looks=3, seed=0)
    assert adaptive.named == grid.named
    assert adaptive.images <= grid.images


def test_whole_runs_are_of_the_size_that_a_way_takes() -> None:
    ways = {way: answer.body(way, 1234.0, 2, 3, 0) for way in answer.WAYS}
    assert [made["num_samples"] for made in ways.values()] == [1600, 1200, 1200]
    assert ["budget" in made for made in ways.values()] == [True, False, False]
    assert all(len(plan.plan(experiment.parse(made, "bench")).tasks) == len(answer.SCALES) for made in ways.values())
    own = [sweep["seed"] for sweep in ways["grid, own noise"]["sweeps"]]  # type: ignore[attr-defined]
    assert len(set(own)) == len(answer.SCALES)


def test_the_time_to_answer_is_drawn_judged_and_run() -> None:
    result = answer.run(quick=True)
    runs = {row["way"]: row["run_seconds"] for row in result.rows if "run_seconds" in row}
    assert set(runs) == set(answer.WAYS)
    assert all(float(str(seconds)) > 0 for seconds in runs.values())


def test_files_keep_what_was_not_run_again(tmp_path: Path) -> None:
    first = Result(seconds_rows("case", {"a": [1.0, 2.0, 3.0]}), [Finding("one", 1.5, 1, 2, 1.0)])
    other = Result([], [Finding("two", 0.4, 0.3, 0.5, 0.5, at_least=False, unit="s")], ["A note."])
    write.write({"frechet": first}, tmp_path)
    write.write({"startup": other}, tmp_path)
    with (tmp_path / "findings.csv").open() as file:
        assert [row["what"] for row in csv.DictReader(file)] == ["one", "two"]
    text = (tmp_path / "summary.md").read_text()
    assert "| one | 1.5 | 1 to 2 | at least 1 | yes |" in text
    assert "| two | 0.4 s | 0.3 s to 0.5 s | at most 0.5 s | yes |" in text
    assert "A note." in text
    rare = Finding("three", 0.0, 0.0, 0.018, 0.05, at_least=False, interval=True)
    write.write({"answer": Result([], [rare])}, tmp_path)
    assert "| three | 0 | 0 to 0.018 (95 %) | at most 0.05 | yes |" in (tmp_path / "summary.md").read_text()
    write.write({"frechet": Result([], [Finding("one", 0.5, 0.5, 0.5, 1.0)])}, tmp_path)
    assert "| one | 0.5 | 0.5 to 0.5 | at least 1 | no |" in (tmp_path / "summary.md").read_text()


def test_an_unknown_benchmark_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "frechett"]) == 2
    assert "did you mean 'frechet'" in capsys.readouterr().err


def test_the_readme_quotes_the_committed_findings_to_the_letter() -> None:
    root = Path(__file__).parent.parent
    assert write.quoted(write.load(root / "results" / "bench")) in (root / "README.md").read_text()
