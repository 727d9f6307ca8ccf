"""The HTML report as a file: complete, self-contained, safe, small, the same bytes twice, of whatever is finished."""

import base64
import functools
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfgbench.cell import Cell, Guidance, ModelRef
from cfgbench.planning import experiment, plan
from cfgbench.reading import html, report
from cfgbench.reading.figures import style
from cfgbench.reading.html import extras, strips
from cfgbench.reading.html.data import places
from cfgbench.reading.tables import rows, text
from cfgbench.reading.tables.results import load
from cfgbench.running import runner
from cfgbench.store import Store
from tests import synthetic as made

HOSTILE = "</script><script>hacked = 1</script> \"'`${}&amp; \u2028\u2029 \u05e9\u05dc\u05d5\u05dd \U0001f600 \ud800"


def rendered(folder: Path) -> str:
    results = load(folder)
    tables = {"best": text.best_table(results), "results": text.results_table(results)}
    files = {"results.csv": rows.to_csv(rows.result_rows(results)), "scores.csv": rows.to_csv(rows.score_rows(results))}
    return html.render(results, tables, files, ["a note"], ["a machine"])


def element(page: str, name: str) -> str:
    found = re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found.group(1)


def data(page: str) -> Any:
    return json.loads(element(page, "report"))


def unpacked(page: str, name: str) -> str:
    return gzip.decompress(base64.b64decode(element(page, name))).decode()


def test_the_command_to_reproduce_says_where_the_file_is_and_what_was_overridden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "my experiments").mkdir()
    body = "name: x\nnum_samples: 200\nsweeps: [{model: gaussians, sampler: ddim, steps: 5}]"
    (tmp_path / "my experiments" / "x.yaml").write_text(body)
    monkeypatch.chdir(tmp_path)
    for path, named in (
        (Path("my experiments/x.yaml"), "'my experiments/x.yaml'"),
        (tmp_path / "my experiments" / "x.yaml", "x.yaml"),
    ):
        made_plan = plan.plan(experiment.load(path, ["steps=10", "guidance_scale=[1, 2]"]))
        Store(tmp_path / "results").write_record(runner.plan_record(made_plan, ()))
        expected = f"cfgbench run {named} steps=10 'guidance_scale=[1, 2]'"
        assert extras.command(load(tmp_path / "results")) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.folder(tmp_path_factory.mktemp("html"))


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return rendered(folder)


def test_a_build_writes_the_report_and_a_second_one_the_same_bytes(folder: Path) -> None:
    report.build(folder, formats=())
    before = (folder / "report.html").read_bytes()
    report.build(folder, formats=())
    assert (folder / "report.html").read_bytes() == before


def test_the_report_holds_every_csv_file_as_it_is_on_disk(folder: Path) -> None:
    report.build(folder, formats=())
    files = json.loads(unpacked((folder / "report.html").read_text(), "csv"))
    assert files == {name: (folder / name).read_text() for name in files}
    assert set(files) >= {"results.csv", "scores.csv", "best.csv", "speed.csv"}


def test_the_answer_reads_without_scripts(page: str) -> None:
    before_scripts = page[: page.index("<script")]
    assert "FID is lowest at s = 1.1" in before_scripts
    assert "21 of 22 cells finished, 1 failed" in before_scripts


def test_the_policy_forbids_the_network_and_allows_the_two_scripts_alone(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert script is not None
    allowed = [
        f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
        for source in (script.group(1), unpacked(page, "library"))
    ]
    assert f"script-src {' '.join(allowed)};" in policy.group(1)
    assert policy.group(1).startswith("default-src 'none';")
    assert "unsafe-eval" not in policy.group(1)
    assert not re.search(r'(src|href)="(?!#|data:)', page)


def test_text_from_outside_is_never_markup(tmp_path: Path) -> None:
    cells = made.three_arms(model={"note": HOSTILE})
    failure = made.failed(cells[-1]).model_copy(update={"error": f"Traceback\nValueError: {HOSTILE}"})
    folder = made.write(tmp_path, cells, [*map(made.record, cells[:-1]), failure])
    store = Store(folder)
    store.write_record(store.plan().model_copy(update={"name": HOSTILE, "description": HOSTILE}))
    (folder / "claims.csv").write_text('claim,shown\n"</script><b>bold</b>",yes\n')
    page = rendered(folder)
    assert "<script>hacked" not in page
    assert "<b>bold" not in page
    assert page.encode("utf-8")  # a lone surrogate cannot be written
    shown = data(page)
    assert shown["failures"][0]["reason"] == f"ValueError: {HOSTILE}"
    assert HOSTILE in shown["arms"][0]["label"] or HOSTILE in next(iter(shown["cells"].values()))["title"]
    assert "claims.csv" in json.loads(unpacked(page, "csv"))
    assert shown["tables"]["claims"]["rows"][0][0][0] == "</script><b>bold</b>"


def test_colours_and_symbols_are_those_of_the_figures(page: str, folder: Path) -> None:
    results, shown = load(folder), data(page)
    looks = [tuple(arm["look"]) for arm in shown["arms"]]
    assert looks == [tuple(style.method_look(arm.method)) for arm in results.arms]
    assert tuple(shown["colours"]) == style.COLOURS


def test_values_and_verdicts_are_those_of_the_tables(page: str, folder: Path) -> None:
    results, shown = load(folder), data(page)
    best = [row[3] for row in text.best_table(results).rows]
    first = shown["columns"][0]["name"]
    assert [shown["cells"][arm["best"][first]]["scores"][first]["text"] for arm in shown["arms"]] == [
        cell.text for cell in best
    ]
    lacking = [cell["absent"] for cell in shown["cells"].values() if cell["absent"]]
    assert lacking == [{"accuracy": "the network that scores this also guided the samples"}]


def test_uneven_scales_are_spread_out_near_off_and_even_ones_are_not() -> None:
    assert places((1.0, 1.1, 5.0), "guidance_scale")[5.0] == pytest.approx(2.0)
    assert places((0.0, 1.0, 2.0), "classifier_scale") == {0.0: 0.0, 1.0: 1.0, 2.0: 2.0}


def nothing_yet(path: Path) -> Path:
    return made.write(path, made.three_arms(), [])


def half_done(path: Path) -> Path:
    cells = made.three_arms()
    return made.write(path, cells, map(made.record, cells[: len(cells) // 2]))


def all_failed(path: Path) -> Path:
    cells = made.three_arms()
    return made.write(path, cells, map(made.failed, cells))


def no_pictures(path: Path) -> Path:
    folder = half_done(path)
    for strip in (folder / "records").glob("*.png"):
        strip.unlink()
    return folder


def points_of_the_plane(path: Path) -> Path:
    folder = no_pictures(path)
    for record in load(folder).done:
        Store(folder).write_points(record.id, np.full((5, 2), record.cell.guidance_scale), np.arange(5) % 3)
    return folder


def no_cfg(path: Path) -> Path:
    cells = [one for one in made.three_arms() if one.guidance.method != "cfg"]
    return made.write(path, cells, map(made.record, cells))


def one_cell(path: Path) -> Path:
    return made.write(path, [made.cell("unguided")], [made.record(made.cell("unguided"))])


def made_elsewhere(path: Path) -> Path:
    guidances = [Guidance(method="unguided"), *(made.cell("cfg", s).guidance for s in (1.5, 2.0))]
    outside = [Cell(model=ModelRef(name="mine", digest="e" * 16), guidance=one) for one in guidances]
    inside = [made.cell("unguided"), made.cell("cfg", 1.5), made.cell("cfg", 2.0)]
    records = [
        made.record(known).model_copy(update={"cell": cell, "id": cell.id, "nfe": None, "classifier_passes": None})
        for cell, known in zip(outside, inside, strict=True)
    ]
    return made.write(path, outside, records)


def many_arms(path: Path) -> Path:
    return made.sampler_grid(path, ("ddim", "euler", "heun", "unipc"), (5, 10, 25), (1.0, 1.5, 2.0))


PARTIAL: dict[str, Callable[[Path], Path]] = {
    one.__name__: one
    for one in (
        *(nothing_yet, half_done, all_failed, no_pictures, points_of_the_plane),
        *(no_cfg, one_cell, made_elsewhere, many_arms),
    )
}


@pytest.mark.parametrize("name", PARTIAL)
def test_the_report_can_be_made_of_whatever_is_finished(name: str, tmp_path: Path) -> None:
    page = rendered(PARTIAL[name](tmp_path))
    results, shown = load(tmp_path), data(page)
    assert set(shown["cells"]) == {record.id for record in results.done}
    assert len(shown["arms"]) == len(results.arms)


def test_strips_are_kept_as_they_are_while_they_fit(folder: Path) -> None:
    urls = strips.encoded(load(folder))
    name, url = next(iter(urls.items()))
    assert base64.b64decode(url.partition(",")[2]) == (folder / "records" / f"{name}.png").read_bytes()


@functools.cache
def big_page() -> str:
    """The report of 500 cells whose strips are twenty pictures 48 pixels high."""
    scales = tuple(1 + i / 10 for i in range(25))
    coarse = np.random.default_rng(0).integers(0, 256, (12, 240, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((960, 48), Image.Resampling.BICUBIC).save(buffer, "PNG")
    with tempfile.TemporaryDirectory() as place:
        folder = made.sampler_grid(Path(place), ("ddim", "euler", "heun", "unipc"), (5, 10, 15, 20, 25), scales)
        for strip in (folder / "records").glob("*.png"):
            strip.write_bytes(buffer.getvalue())
        return rendered(folder)


def test_a_report_of_500_cells_with_pictures_is_under_25_megabytes() -> None:
    shown = data(big_page())
    assert len(shown["cells"]) == len(json.loads(element(big_page(), "strips"))) == 500
    assert len(big_page()) < 25e6


def test_making_the_report_imports_no_torch() -> None:
    code = "import sys, cfgbench.reading.html.page, cfgbench.reading.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
