"""Samples drawn again agree with what the records kept, and what was tampered with is found."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfgbench import cli, plugins
from cfgbench.cell import Cell
from cfgbench.errors import InputError
from cfgbench.planning import experiment
from cfgbench.planning import plan as planner
from cfgbench.records import CellRecord
from cfgbench.running import agreement, runner, verification
from cfgbench.running.pool import LocalPool
from cfgbench.running.verification import Request
from cfgbench.store import Store
from tests import tiny_pipelines
from tests.test_resume import Silent
from tests.test_text_to_image_sweeps import Here, Silence

BODY: dict[str, Any] = {
    "name": "x",
    "num_samples": 400,
    "metrics": ["fid", "accuracy"],
    "profile": None,
    "common": {"sampler": "ddim", "steps": 5},
}
DIGITS = [{"model": "digits", "guidance_scale": [1, 3]}, {"model": "digits", "dtype": "bf16_emulated"}]
DIGITS[1]["guidance_scale"] = 2
GAUSSIANS = [{"model": "gaussians", "guidance_scale": 2}]


def made(folder: Path, sweeps: list[dict[str, Any]]) -> Path:
    """The results folder of a run, without blocks, as a clone of a repository has it."""
    plan = planner.plan(experiment.parse({**BODY, "sweeps": sweeps}, "x.yaml"))
    assert runner.run(plan, runner.Options(folder, workers=2), Silent()).failed == []
    shutil.rmtree(folder / "blocks")
    return folder


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("made") / "digits", DIGITS)


@pytest.fixture
def digits(of_digits: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(of_digits, tmp_path / "digits"))


def verify(folder: Path, **fields: Any) -> list[verification.Finding]:
    pool = LocalPool(1)
    try:
        return verification.verify(folder, Request(**{"cells": 9, "samples": 7, **fields}), pool)
    finally:
        pool.close()


def records(folder: Path) -> dict[str, CellRecord]:
    """The records by what they are."""
    store = Store(folder)
    found = [store.cell(cell.id) for cell in store.plan().cells]
    return {name_of(record.cell): record for record in found if record is not None}


def name_of(cell: Cell) -> str:
    return f"{cell.model.name} {cell.guidance_scale:g} {cell.dtype}"


def test_samples_drawn_in_other_company_are_the_same_but_for_rounding(digits: Path) -> None:
    findings = verify(digits, scores=True)
    assert {name_of(finding.cell) for finding in findings} == records(digits).keys()
    assert len(findings) == 6 and all(finding.agrees is True for finding in findings), findings
    texts = [finding.text for finding in findings]
    assert sum("7 identical, 0 of 448 values differ" in text for text in texts) >= 2
    assert sum("3 scores of 400 samples in batches of 12" in text for text in texts) == 3


def test_another_dtype_is_measured_without_a_verdict(digits: Path) -> None:
    by_name = {name_of(finding.cell): finding for finding in verify(digits, dtype="fp32")}
    assert by_name["digits 3 fp32"].agrees is True
    emulated = by_name["digits 2 bf16_emulated"]
    assert emulated.agrees is None and "in fp32" in emulated.text and "values differ, by at most" in emulated.text
    with pytest.raises(InputError, match="--dtype: dtype 'fp64' is not offered by model digits"):
        verify(digits, dtype="fp64")


def test_a_picture_that_is_not_the_cell_s_is_found(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = records(digits)["digits 1 fp32"], records(digits)["digits 3 fp32"]
    shutil.copy(digits / "records" / f"{one.id}.png", digits / "records" / f"{other.id}.png")
    assert cli.main(["verify", str(digits), "--cells", "9", "--device", "cpu"]) == 1
    shown = capsys.readouterr()
    assert [line[:4] for line in shown.out.splitlines() if other.id in line] == ["FAIL"]
    assert shown.out.count("ok  ") == 2 and "1 of 3 comparisons differ" in shown.err


def test_points_and_scores_that_were_changed_are_found(tmp_path: Path) -> None:
    """With a right checksum: by whoever makes a record up."""
    folder = made(tmp_path / "gaussians", GAUSSIANS)
    assert [finding.agrees for finding in verify(folder, samples=40, scores=True)] == [True, True]
    store, (record,) = Store(folder), records(folder).values()
    score = record.scores[0].model_copy(update={"value": record.scores[0].value + 0.05})
    store.write_record(record.model_copy(update={"scores": (score, *record.scores[1:])}))
    path = folder / "records" / f"{record.id}.points.json"
    body = json.loads(path.read_text())
    body["points"][5:] = np.round(np.array(body["points"][5:]) + 0.001, 4).tolist()
    path.write_text(json.dumps(body))
    points, scores = verify(folder, samples=40, scores=True)
    assert points.agrees is False and "others at most 0.001 apart" in points.text
    assert scores.agrees is False and "the farthest is fid" in scores.text


def test_a_cell_of_other_weights_is_not_drawn(digits: Path) -> None:
    store, plan = Store(digits), Store(digits).plan()
    record = records(digits)["digits 3 fp32"]
    cell = record.cell.model_copy(update={"model": record.cell.model.model_copy(update={"digest": "0" * 16})})
    cell = Cell.model_validate(cell.model_dump())
    shutil.copy(digits / "records" / f"{record.id}.png", digits / "records" / f"{cell.id}.png")
    store.write_record(record.model_copy(update={"id": cell.id, "cell": cell}))
    store.write_record(plan.model_copy(update={"cells": (cell,)}))
    with pytest.raises(InputError, match=rf"cell {cell.id}: the weights of its model \('0000"):
        verify(digits)


def test_every_sample_can_be_drawn_again_where_blocks_are_there(tmp_path: Path) -> None:
    """By its features, in random order over all blocks; and one that was put in another's place is found."""
    plan = planner.plan(experiment.parse({**BODY, "sweeps": DIGITS}, "x.yaml"))
    folder = tmp_path / "digits"
    assert runner.run(plan, runner.Options(folder, workers=2), Silent()).failed == []
    findings = verify(folder, samples=12)
    assert len(findings) == 6 and all(finding.agrees for finding in findings), findings
    assert sum("12 of all 400 samples by their features" in finding.text for finding in findings) == 3
    store, cell = Store(folder), next(task.cell for task in plan.tasks if task.cell.dtype == "fp32")
    for start in (100, 300):
        block = store.block(cell.id, start) or {}
        turned = {name: value[::-1] for name, value in block.items() if name in ("features", "pixels")}
        store.write_block(cell.id, start, block | turned)
    failed = [finding for finding in verify(folder, samples=12) if not finding.agrees]
    assert [finding.cell.id for finding in failed] == [cell.id] and "the farthest is 1." in failed[0].text


def test_what_is_drawn_is_told_as_it_is_drawn(digits: Path) -> None:
    request = Request(cells=2, samples=7, batch_size=7, scores=True)
    told: list[int] = []
    chosen = verification.choose(digits, request)
    pool = LocalPool(1)
    try:
        findings = verification.compare(digits, chosen, request, pool, told.append)
        assert next(findings).agrees and told == [7]
        assert len([*findings]) == 3
    finally:
        pool.close()
    assert sum(told) == verification.size(chosen, request) == 2 * (7 + 400)


def test_what_cannot_be_drawn_again_is_said(digits: Path, tmp_path: Path) -> None:
    for path in digits.glob("records/*.p*"):
        path.unlink()
    with pytest.raises(InputError, match="keeps no samples that can be drawn again"):
        verify(digits)
    with pytest.raises(InputError, match=r"holds no plan\.json"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize("levels", [(0, 0), (1, 2), (1, 4), (2, 1)])
def test_a_few_pixels_may_round_the_other_way_and_no_more(levels: tuple[int, int]) -> None:
    step, count = levels
    old = np.full((5, 8, 8), 100, np.uint8)
    new = old.copy()
    new.reshape(-1)[:count] += step
    text, agrees = agreement.of_images(new, old, 1e-5)
    assert agrees == ((step, count) in [(0, 0), (1, 2)]), text  # 2 * 255 * 1e-5 of 320 pixels are 1.6


def test_a_plug_in_that_changed_since_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def method(step, guidance_scale: float):\n    return step.predict('cond')\n"
    (tmp_path / "my_changing.py").write_text(source)
    body = {**BODY, "num_samples": 300, "sweeps": [{"model": "gaussians", "method": "my_changing:method"}]}
    body["sweeps"][0]["guidance_scale"] = 3
    plugins.search(tmp_path)
    folder = tmp_path / "out"
    runner.run(planner.plan(experiment.parse(body, "x.yaml")), runner.Options(folder, workers=1), Silent())
    assert [finding.agrees for finding in verify(folder)] == [True, True]
    (tmp_path / "my_changing.py").write_text(source + "# another line\n")
    with pytest.raises(InputError, match="the source of its method"):
        verify(folder)
    plugins.search(Path.cwd())


def test_a_strip_that_is_no_picture_counts_as_none(digits: Path) -> None:
    names = [f"{record.id}.png" for record in records(digits).values()]
    (digits / "records" / names[0]).write_bytes(b"not a picture")
    Image.new("L", (7, 8)).save(digits / "records" / names[1])
    assert len(verify(digits)) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_samples_of_prompts_are_drawn_again_with_the_prompts_of_their_experiment(tmp_path: Path) -> None:
    folder = tiny_pipelines.save("stable_diffusion", tmp_path / "model")
    file, texts, results = tmp_path / "x.yaml", tmp_path / "prompts.txt", tmp_path / "results"
    texts.write_text("\n".join(f"{i} red foxes" for i in range(20)))
    common = {"model": {"name": "stable_diffusion", "path": str(folder)}, "sampler": "ddim", "steps": 2}
    body = {"name": "x", "num_samples": 20, "prompts": "prompts.txt", "common": common, "profile": None}
    file.write_text(json.dumps({**body, "sweeps": [{"guidance_scale": [1, 3]}]}))
    assert not runner.run(planner.plan(experiment.load(file)), runner.Options(results), Silence(), Here()).failed
    findings = verification.verify(results, Request(samples=5, batch_size=2, experiment=file), Here())
    assert len(findings) == 2 and all(finding.agrees for finding in findings)
    with pytest.raises(InputError, match="keeps no prompts; name the experiment that does by --experiment"):
        verification.verify(results, Request(), Here())
    other = tmp_path / "y.yaml"
    (tmp_path / "blue.txt").write_text("\n".join(f"{i} blue foxes" for i in range(20)))
    other.write_text(file.read_text().replace("prompts.txt", "blue.txt"))
    with pytest.raises(InputError, match="was asked by other prompts"):
        verification.verify(results, Request(experiment=other), Here())
