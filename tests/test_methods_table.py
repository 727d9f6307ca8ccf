"""Curves compared where another score is equal, and methods against tuned CFG: known answers, coverage, honesty."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cfgbench.cell import Cell
from cfgbench.reading import report
from cfgbench.reading.tables.matched import Matched, Unmatched, at_matched
from cfgbench.reading.tables.methods import compare_methods, methods_table
from cfgbench.reading.tables.results import Arm, Column, Point, arm_fields, load
from cfgbench.records import Rung, Score
from cfgbench.scores import statistics
from cfgbench.scores.statistics import Replicated
from tests import synthetic

Floats = NDArray[np.float64]
CFG_SCALES = (1.0, 1.5, 2.0, 3.0)
CLASSIFIER_SCALES = (0.0, 0.5, 1.0, 2.0)
FID, IS, RECALL = (Column(name, name, {}, True) for name in ("fid", "inception_score", "recall"))


def replicated(pseudo: Floats) -> dict[str, object]:
    """The value and replicates that have these pseudo-values."""
    total = float(pseudo.mean())
    return {"value": total, "replicates": tuple(((len(pseudo) * total - pseudo) / (len(pseudo) - 1)).tolist())}


def point(one: Cell, scale: float, pseudo: dict[str, Floats], **changes: object) -> Point:
    scores = [Score(**replicated(p), column=n, metric=n, identity={"metric": n}) for n, p in pseudo.items()]
    return Point(scale, synthetic.record(one, columns=(), scores=tuple(scores), **changes))


def arm(method: str, scales: tuple[float, ...], curves: dict[str, Floats], **changes: object) -> Arm:
    """A curve whose scores have these pseudo-values, (scales, groups)."""
    axis = "guidance_scale" if method == "cfg" else "classifier_scale"
    cells = [synthetic.cell(method, scale) for scale in scales]
    points = [
        point(c, s, {n: p[i] for n, p in curves.items()}, **changes)
        for i, (c, s) in enumerate(zip(cells, scales, strict=True))
    ]
    return Arm(arm_fields(cells[-1]), method, axis, tuple(points))


def exact(fid: list[float], other: list[float], name: str = "inception_score") -> dict[str, Floats]:
    return {"fid": np.tile(fid, (20, 1)).T, name: np.tile(other, (20, 1)).T}


def test_two_straight_lines_are_compared_at_the_level_of_the_second() -> None:
    cfg = arm("cfg", CFG_SCALES, exact([5.0, 2.0, 4.0, 9.0], [6.0, 7.0, 8.0, 8.5]))
    other = arm("classifier", CLASSIFIER_SCALES, exact([5.0, 3.0, 6.0, 8.0], [6.0, 6.5, 7.5, 8.0]))
    match = at_matched(other, cfg, FID, IS, cfg.points[1].record)
    assert isinstance(match, Matched)
    assert match.level == 7.0
    assert match.scales == (0.75, 1.5)
    assert match.gap.value == pytest.approx(4.5 - 2.0)


def test_a_curve_is_met_on_its_way_to_the_turn_and_not_after_it() -> None:
    cfg = arm("cfg", CFG_SCALES, exact([5.0, 2.0, 4.0, 9.0], [6.0, 7.0, 8.0, 6.5]))
    other = arm("classifier", CLASSIFIER_SCALES, exact([5.0, 3.0, 6.0, 8.0], [6.0, 6.8, 6.9, 6.0]))
    late = at_matched(cfg, other, FID, IS, other.points[2].record)
    assert isinstance(late, Matched)
    assert late.scales[0] < 2.0
    beyond = at_matched(other, cfg, FID, IS, cfg.points[1].record)
    assert isinstance(beyond, Unmatched)
    assert "does not reach IS 7" in beyond.reason


def test_curves_of_other_noise_are_refused() -> None:
    cfg = arm("cfg", CFG_SCALES, exact([5.0, 2.0, 4.0, 9.0], [6.0, 7.0, 8.0, 8.5]))
    other = arm("classifier", CLASSIFIER_SCALES, exact([5.0, 3.0, 6.0, 8.0], [6.0, 6.5, 7.5, 8.0]), num_classes=5)
    assert at_matched(other, cfg, FID, IS, cfg.points[1].record) == Unmatched("the curves are not of the same noise")


def test_a_missing_score_is_a_reason_and_no_number() -> None:
    cfg = arm("cfg", CFG_SCALES, exact([5.0, 2.0, 4.0, 9.0], [6.0, 7.0, 8.0, 8.5]))
    assert isinstance(at_matched(cfg, cfg, FID, RECALL, cfg.points[1].record), Unmatched)


def simulated(repetitions: int, seed: int) -> float:
    """How often the interval of the matched difference holds the true one, with noise that curves share."""
    fid = [np.array([5.0, 2.0, 4.0, 9.0]), np.array([5.0, 3.0, 6.0, 8.0])]
    level = [np.array([6.0, 7.0, 8.0, 8.5]), np.array([6.0, 6.5, 7.5, 8.0])]
    truth, rng, hits = 4.5 - 2.0, np.random.default_rng(seed), 0
    for _ in range(repetitions):
        shared = rng.normal(size=(2, 20))
        arms = []
        for i, (name, scales) in enumerate((("cfg", CFG_SCALES), ("classifier", CLASSIFIER_SCALES))):
            own = rng.normal(size=(2, 4, 20))
            noisy = {"fid": fid[i][:, None] + 0.5 * shared[0] + 0.4 * own[0]}
            noisy["inception_score"] = level[i][:, None] + 0.3 * shared[1] + 0.2 * own[1] - 0.1 * own[0]
            arms.append(arm(name, scales, noisy))
        match = at_matched(arms[1], arms[0], FID, IS, arms[0].points[1].record)
        assert isinstance(match, Matched)
        assert match.gap.interval is not None
        hits += match.gap.interval[0] <= truth <= match.gap.interval[1]
    return hits / repetitions


def test_the_interval_of_a_matched_difference_covers() -> None:
    assert 0.90 <= simulated(150, seed=1) <= 1.0


@pytest.mark.slow
def test_the_interval_of_a_matched_difference_covers_in_many_repetitions() -> None:
    assert 0.93 <= simulated(2000, seed=2) <= 0.97


def test_holm_is_bonferroni_for_the_smallest_and_milder_for_the_rest() -> None:
    assert statistics.holm((0.03, None, 0.01, 0.04)) == (pytest.approx(0.06), None, pytest.approx(0.03), 0.06)
    assert statistics.holm((0.9, 0.8)) == (1.0, 1.0)


def test_the_best_of_equal_settings_is_judged_without_flattery() -> None:
    """Twenty settings of the same quality 1: the smallest looks better than it is, the cross-fitted one does not."""
    rng, plain, fair = np.random.default_rng(3), [], []
    for _ in range(400):
        pseudo = 1 + rng.normal(size=(20, 20))
        scores = [Rung.model_validate(replicated(row)) for row in pseudo]
        plain.append(pseudo.mean(axis=1).min())
        found = statistics.cross_fitted([Replicated(s.value, s.replicates) for s in scores], lower_is_better=True)
        fair.append(found.mean())
    assert np.mean(plain) < 0.65
    assert np.mean(fair) == pytest.approx(1.0, abs=4 * np.std(fair) / 20)


def test_methods_are_compared_with_tuned_cfg_and_the_search_is_counted(tmp_path: Path) -> None:
    results = load(synthetic.folder(tmp_path / "three"))
    rows = compare_methods(results)
    assert [row.tuned.method for row in rows] == ["cfg", "classifier", "classifier_uncond"]
    assert [row.tuned.cells for row in rows] == [8, 8, 7]  # the failed cell is not one that was tried
    cfg, drawn = rows[0].tuned, [record for arm in rows[0].tuned.arms for record in arm.records]
    assert cfg.images == sum(record.num_samples for record in drawn) > 0
    assert cfg.passes == sum(record.num_samples * (record.nfe or 0) for record in drawn)
    assert methods_table(results, rows).rows[0][3].text.startswith("8 cells, ")
    assert rows[0].gap is None
    for row in rows[1:]:
        assert row.gap is not None
        assert row.p_holm is not None
        assert row.gap.estimate.p_value is not None
        assert row.p_holm >= row.gap.estimate.p_value
    assert all(len(texts) == len(methods_table(results, rows).header) for texts in methods_table(results, rows).rows)


def test_training_seeds_give_a_row_of_their_mean_with_their_own_spread(tmp_path: Path) -> None:
    cells = [
        synthetic.cell(method, scale, model={"training_seed": seed} if seed else {})
        for seed in (0, 1, 2)
        for method, scales in (("cfg", synthetic.SCALES), ("classifier", synthetic.CLASSIFIER_SCALES[1:]))
        for scale in scales
    ]
    results = load(synthetic.write(tmp_path / "seeds", cells, [synthetic.record(one) for one in cells]))
    *single, mean = compare_methods(results)
    gaps = [row.gap.estimate.value for row in single if row.gap is not None]
    assert (mean.networks, len(gaps), mean.contest["model"]) == (3, 3, "digits")
    assert mean.gap is not None
    assert mean.gap.estimate.value == pytest.approx(np.mean(gaps))
    assert mean.gap.estimate.standard_error == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(3))


def test_one_network_in_two_dtypes_is_not_two_networks(tmp_path: Path) -> None:
    cells = [
        synthetic.cell(method, scale, dtype=dtype)
        for dtype in ("fp32", "bf16_emulated")
        for method, scale in (("cfg", 1.5), ("cfg", 2.0), ("classifier", 0.5), ("classifier", 1.0))
    ]
    results = load(synthetic.write(tmp_path / "dtypes", cells, [synthetic.record(one) for one in cells]))
    rows = compare_methods(results)
    assert [row.networks for row in rows] == [1, 1, 1, 1]
    assert [row.contest["dtype"] for row in rows] == ["fp32", "fp32", "bf16_emulated", "bf16_emulated"]
    assert len({texts[0].text for texts in methods_table(results, rows).rows}) == 2


def test_the_report_writes_the_comparison_where_there_is_one(tmp_path: Path) -> None:
    folder = synthetic.folder(tmp_path / "three")
    report.build(folder, formats=())
    with (folder / "methods.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["cfg", "classifier", "classifier_uncond"]
    assert all(row["fid_vs_cfg"] for row in rows[1:])
    assert "tuned CFG" in (folder / "summary.md").read_text()
    lone = synthetic.sampler_grid(tmp_path / "lone", ("ddim",), (25,), (1.0, 1.5))
    report.build(lone, formats=())
    assert not (lone / "methods.csv").exists()
