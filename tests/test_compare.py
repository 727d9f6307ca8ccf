"""`cfgbench compare`: cells find their counterparts, identities never mix, and a difference needs its interval."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cfgbench import cli
from cfgbench.cell import Cell
from cfgbench.errors import InputError
from cfgbench.reading.comparison import matching, write
from cfgbench.reading.comparison.contrasts import NOT_SHOWN, Contrast, contrast, largest_gap, median_interval, paired
from cfgbench.reading.tables.compare import difference
from cfgbench.records import CellRecord, Score, SpeedRecord
from cfgbench.scores import statistics
from tests import synthetic as made

SCALES = (1.0, 1.1, 1.2, 2.0)


def folder(path: Path, cells: list[Cell], records: list[CellRecord] | None = None) -> Path:
    return made.write(path, cells, records or [made.record(cell) for cell in cells])


def curve(**rest: object) -> list[Cell]:
    return [made.cell("cfg", s, **rest) for s in SCALES]


def shifted(record: CellRecord, by: float) -> CellRecord:
    """The record with every score moved, shares a fifth as far so that they remain shares."""
    return record.model_copy(update={"scores": tuple(_shifted(score, by) for score in record.scores)})


def _shifted(score: Score, by: float) -> Score:
    body, by = score.model_dump(), by / 5 if score.metric in ("precision", "accuracy") else by
    for rung in (body, *body["nested"].values()):
        rung["value"] += by
        rung["replicates"] = [value + by for value in rung["replicates"]]
    return Score.model_validate(body)


def slower(speed: SpeedRecord, factor: float) -> SpeedRecord:
    timings = tuple(
        timing.model_copy(
            update={
                "trajectory_s": tuple(factor * s for s in timing.trajectory_s),
                "decode_s": tuple(factor * s for s in timing.decode_s),
            }
        )
        for timing in speed.timings
    )
    return speed.model_copy(
        update={"timings": timings, "machine": made.MACHINE.model_copy(update={"processor": "Other"})}
    )


def contrasts(pair: matching.Pair, column: str = "fid") -> list[Contrast]:
    chosen = next(one for one in pair.columns if one.name == column)
    return [contrast(chosen, match) for match in pair.matches]


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return folder(tmp_path / "a", curve())


def test_the_same_cells_on_two_machines_match_by_id_and_their_largest_difference_is_told(
    a: Path, tmp_path: Path
) -> None:
    moved = [shifted(made.record(cell), 2e-6 if cell.guidance_scale == 2 else 0) for cell in curve()]
    (pair,) = matching.read([a, folder(tmp_path / "b", curve(), moved)])
    assert {match.by for match in pair.matches} == {"id"} and len(pair.matches) == len(SCALES)
    assert largest_gap(pair.columns, pair.matches[-1]) == pytest.approx(2e-6, rel=1e-3)
    assert {one.verdict for one in contrasts(pair)} == {"equal"}
    assert "equal to 1e-5" in " ".join(write.sentences(pair))


def test_cells_of_one_id_that_disagree_are_not_called_equal(a: Path, tmp_path: Path) -> None:
    moved = [shifted(made.record(cell), 1e-3) for cell in curve()]
    (pair,) = matching.read([a, folder(tmp_path / "b", curve(), moved)])
    assert all(one.verdict != "equal" for one in contrasts(pair))
    assert "not equal to 1e-5" in " ".join(write.sentences(pair))


def test_retrained_weights_match_by_settings_and_another_model_or_seed_where_there_is_one(
    a: Path, tmp_path: Path
) -> None:
    retrained = [
        cell.model_copy(update={"model": cell.model.model_copy(update={"digest": "e" * 16})}) for cell in curve()
    ]
    others = {
        "settings": retrained,
        "settings, other model": curve(model={"p_uncond": 0.2}),
        "settings, other seed": curve(seed=7),
        "settings, other model and seed": curve(seed=7, model={"p_uncond": 0.2}),
    }
    for i, (by, cells) in enumerate(others.items()):
        (pair,) = matching.read([a, folder(tmp_path / str(i), cells)])
        assert [match.by for match in pair.matches] == [by] * len(SCALES)
        assert all(m.first.cell.guidance == m.second.cell.guidance for m in pair.matches)


def test_cells_without_a_counterpart_are_counted_and_kept_in_the_table(a: Path, tmp_path: Path) -> None:
    (pair,) = matching.read([a, folder(tmp_path / "b", [*curve()[:2], made.cell("cfg", 5.0)])])
    assert [len(pair.alone(side)) for side in (pair.first, pair.second)] == [2, 1]
    rows = [row for row in write.score_rows(pair) if row["score"] == "fid"]
    assert len(rows) == 5
    assert [row["matched_by"] for row in rows].count(None) == 3


def test_common_noise_pairs_cells_of_one_seed_and_the_pair_is_the_registered_difference(
    a: Path, tmp_path: Path
) -> None:
    (pair,) = matching.read([a, folder(tmp_path / "b", curve(model={"p_uncond": 0.2}))])
    column = pair.columns[0]
    for match in pair.matches:
        found = contrast(column, match)
        assert found.paired and found.gap == difference(column, match.second, match.first)


def test_other_seeds_are_compared_unpaired_with_both_errors_added(a: Path, tmp_path: Path) -> None:
    (pair,) = matching.read([a, folder(tmp_path / "b", curve(seed=7))])
    column, match = pair.columns[0], pair.matches[0]
    found = contrast(column, match)
    errors = [statistics.standard_error(record.scores[0].replicates) for record in (match.first, match.second)]
    assert not found.paired and found.gap is not None
    assert found.gap.standard_error == pytest.approx(np.hypot(*[error for error in errors if error is not None]))


def test_an_unpaired_interval_covers_a_true_zero_about_as_often_as_it_says(a: Path, tmp_path: Path) -> None:
    rng, inside = np.random.default_rng(0), 0
    (pair,) = matching.read([a, folder(tmp_path / "b", curve(seed=7))])
    column, match = pair.columns[0], pair.matches[0]
    for _ in range(300):
        records = [_drawn(record, rng) for record in (match.first, match.second)]
        inside += contrast(column, matching.Match(*records, by="settings")).verdict == NOT_SHOWN
    assert 0.92 < inside / 300 <= 0.99


def _drawn(record: CellRecord, rng: np.random.Generator) -> CellRecord:
    """The record with an FID whose pseudo-values are normal around one mean."""
    pseudo = 2 + rng.normal(size=made.GROUPS)
    value = float(pseudo.mean())
    replicates = tuple(((made.GROUPS * value - pseudo) / (made.GROUPS - 1)).tolist())
    score = record.scores[0].model_copy(update={"value": value, "replicates": replicates, "nested": {}})
    return record.model_copy(update={"scores": (score,)})


def test_samples_made_elsewhere_are_paired_where_they_are_of_the_same_items() -> None:
    record = made.record(made.cell("cfg", 1.2))
    cell = record.cell.model_copy(update={"diffusion": None})
    one, same, other = (record.model_copy(update={"cell": cell, "pairing": {2000: key}}) for key in ("x", "x", "y"))
    assert paired(one, same) and not paired(one, other)
    assert not paired(one.model_copy(update={"pairing": {}}), same)


def test_a_difference_is_called_one_only_if_its_interval_says_so(a: Path, tmp_path: Path) -> None:
    records = [
        shifted(made.record(cell), 0.5 if cell.guidance_scale > 1.1 else 0) for cell in curve(model={"p_uncond": 0.2})
    ]
    (pair,) = matching.read([a, folder(tmp_path / "b", curve(model={"p_uncond": 0.2}), records)])
    for found in contrasts(pair):
        assert found.gap is not None and found.gap.interval is not None
        low, high = found.gap.interval
        assert found.verdict == (NOT_SHOWN if low <= 0 <= high else "worse")
    assert {one.verdict for one in contrasts(pair)} == {NOT_SHOWN, "worse"}
    assert {one.verdict for one in contrasts(pair, "inception_score")} == {NOT_SHOWN, "better"}
    assert {one.verdict for one in contrasts(pair, "recall")} == {"no interval"}


def test_scores_of_two_identities_are_refused_in_a_sentence_that_names_both(a: Path, tmp_path: Path) -> None:
    def renamed(record: CellRecord) -> CellRecord:
        scores = (made.score(record.cell, "fid", identity="encoder-b"), *record.scores[1:])
        return record.model_copy(update={"scores": scores})

    b = folder(tmp_path / "b", curve(), [renamed(made.record(cell)) for cell in curve()])
    with pytest.raises(InputError) as refused:
        matching.read([a, b])
    assert "fid is not the same score in both: a has encoder encoder-a, b has encoder encoder-b" in str(refused.value)
    (pair,) = matching.read([a, b], ["recall"])
    assert [column.name for column in pair.columns] == ["recall"]


def test_a_score_that_one_folder_lacks_and_a_folder_given_twice_are_refused(a: Path, tmp_path: Path) -> None:
    b = folder(tmp_path / "b", curve())
    with pytest.raises(InputError, match="unknown score 'kid' at --scores, of a and b both"):
        matching.read([a, b], ["kid"])
    with pytest.raises(InputError, match="is given twice"):
        matching.read([a, a])
    with pytest.raises(InputError, match="at least two"):
        matching.read([a])


def test_seconds_stand_side_by_side_with_the_interval_of_their_ratio(tmp_path: Path) -> None:
    cells = curve()
    speeds = list({cell.cost_class: made.speed(cell) for cell in cells}.values())
    records = [made.record(cell) for cell in cells]
    one = made.write(tmp_path / "a", cells, records, speeds)
    for i, (factor, word) in enumerate({2.0: "slower", 0.5: "faster", 1.0: NOT_SHOWN}.items()):
        (pair,) = matching.read(
            [one, made.write(tmp_path / str(i), cells, records, [slower(s, factor) for s in speeds])]
        )
        rows = list(write.speed_rows(pair))
        assert len(rows) == 2 * len(speeds) and {row["verdict"] for row in rows} == {word}
        for row in rows:
            low, ratio, high = (float(str(row[name])) for name in ("ratio_lo", "ratio", "ratio_hi"))
            assert low <= ratio <= high and ratio == pytest.approx(factor)
        assert "Other" in str(rows[0]["second_machine"])


def test_emulated_and_seldom_repeated_timings_give_no_verdict(tmp_path: Path) -> None:
    cell = made.cell("cfg", 1.2)
    sides = {"a": made.speed(cell, repeats=5), "b": made.speed(cell, repeats=5), "c": made.speed(cell, measured=False)}
    folders = [made.write(tmp_path / name, [cell], [made.record(cell)], [speed]) for name, speed in sides.items()]
    few, emulated = (next(iter(write.speed_rows(pair))) for pair in matching.read(folders))
    assert few["verdict"] == "too few repeats" and few["ratio_lo"] is None and few["ratio"] is not None
    assert emulated["verdict"] == "not measured (emulated)" and emulated["ratio"] is None


def test_the_interval_of_a_median_covers_it_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 12, 30):
        found = [median_interval(rng.exponential(size=n).tolist()) for _ in range(1000)]
        assert np.mean([low <= np.log(2) <= high for low, high in found if low is not None]) > 0.94
    assert median_interval([1.0] * 5) is None


def test_all_files_are_written_twice_with_the_same_bytes(a: Path, tmp_path: Path) -> None:
    others = [folder(tmp_path / "b", curve(model={"p_uncond": 0.2})), folder(tmp_path / "c", curve(seed=7))]
    outputs = []
    for name in ("one", "two"):
        assert cli.main(["compare", str(a), *map(str, others), "--output", str(tmp_path / name)]) == 0
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert outputs[0] == outputs[1]
    assert set(outputs[0]) == {"compare.csv", "compare.md", "compare.tex", "compare.pdf", "compare.png"}
    rows = list(csv.DictReader(outputs[0]["compare.csv"].decode().splitlines()))
    assert {row["second"] for row in rows} == {"b", "c"}
    assert {(row["second"], row["comparison"]) for row in rows} == {("b", "paired"), ("c", "unpaired")}


def test_refused_identities_end_with_exit_code_2_and_one_sentence(
    a: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = curve()
    records = [
        made.record(cell, columns=()).model_copy(update={"scores": (made.score(cell, "fid", identity="z"),)})
        for cell in cells
    ]
    assert cli.main(["compare", str(a), str(folder(tmp_path / "b", cells, records))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cfgbench: fid is not the same score in both") and error.count("\n") == 1
