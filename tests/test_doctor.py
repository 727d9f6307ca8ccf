"""The doctor names all that is missing at once, with where to put it, and tells what a run will take."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cfgbench import cli
from cfgbench.registry import METRICS
from tests import tiny_pipelines

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SMALL: dict[str, Any] = {
    "name": "small",
    "num_samples": 200,
    "common": {"model": {"name": "gaussians"}, "sampler": "ddim", "steps": 2},
    "sweeps": [{"guidance_scale": [1, 2]}],
    "metrics": ["fid"],
}


@pytest.fixture(autouse=True)
def _nothing_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def examine(file: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, str]]]:
    """Exit code and items."""
    capsys.readouterr()
    code = cli.main(["doctor", str(file), "--json", "--output", str(file.parent / "nowhere"), *options])
    return code, json.loads(capsys.readouterr().out)


def written(folder: Path, **changes: object) -> Path:
    file = folder / "x.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}))
    return file


def of(items: list[dict[str, str]], topic: str) -> list[tuple[str, str]]:
    return [(item["state"], item["text"]) for item in items if item["topic"] == topic]


def test_what_has_all_it_needs_is_said_to_be_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, items = examine(written(tmp_path), capsys)
    assert code == 0 and {item["state"] for item in items} == {"ok", "note"}
    ((_, plan),) = of(items, "plan")
    assert plan == "2 cells, 400 images, at most 1,200 network passes"
    assert of(items, "time") == [("note", "not known for gaussians fp32; --measure times a few steps of each model")]
    assert not (tmp_path / "nowhere").exists()
    assert cli.main(["doctor", str(tmp_path / "x.yaml")]) == 0
    assert "all there; start it by `cfgbench run" in capsys.readouterr().out


def test_time_is_measured_on_demand_and_known_after_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, profile={"batch_sizes": [1], "repeats": 3}, batch_size=10)
    (measured,) = of(examine(file, capsys, "--measure", "--workers", "2")[1], "time")
    assert measured[0] == "ok" and measured[1].startswith("a minute or less of sampling (2 cells, 2 workers)")
    assert cli.main(["run", str(file), "--output", str(tmp_path / "nowhere"), "--workers", "1"]) == 0
    assert of(examine(file, capsys)[1], "time") == [("ok", "every cell is finished")]
    more = of(examine(file, capsys, "guidance_scale=[3]")[1], "time")
    assert more[0][0] == "ok" and "1 cells, " in more[0][1]


def test_all_that_is_missing_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, items = examine(EXPERIMENTS / "sdxl_coco5k.yaml", capsys)
    missing = {topic: of(items, topic) for topic in ("weights", "encoder", "reference", "prompts")}
    assert code == 1 and all(state == "missing" for found in missing.values() for state, _ in found)
    assert [len(found) for found in missing.values()] == [1, 2, 1, 1]
    assert f"not in the hub cache {tmp_path / 'hub'}" in missing["weights"][0][1]
    assert "weights-inception-2015-12-05" in missing["encoder"][0][1] and "curl -L" in missing["encoder"][0][1]
    assert "hf download timm/vit_base_patch32_clip_224.openai" in missing["encoder"][1][1]
    for topic, name, folder in (("reference", "val2014.npz", "tools"), ("prompts", "captions_source.tsv", "coco2014")):
        ((_, text),) = missing[topic]
        assert f"{name} is published at https://github.com/mlcommons/inference, in its folder text_to_image" in text
        assert f"text_to_image/{folder}" in text
    assert cli.main(["doctor", str(EXPERIMENTS / "sdxl_coco5k.yaml")]) == 1
    assert "things are missing; nothing was started" in capsys.readouterr().out


def test_where_weights_are_missing_the_published_shape_tells_work_memory_disk_and_least_hours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = examine(EXPERIMENTS / "sdxl_coco5k.yaml", capsys)[1]
    ((state, work),) = of(items, "plan")
    assert state == "note" and work.startswith("8 cells, 40,000 images")
    assert "stabilityai/stable-diffusion-xl-base-1.0 taken to be of the published shape of Stable Diffusion XL" in work
    assert "prompts taken to be 5,000" in work
    ((_, memory),) = of(items, "memory")
    assert "weights take 10.6 GB in fp32; activations and text encoders come on top, not estimated" in memory
    ((_, disk),) = of(items, "disk")
    assert "3.18 of them encodings of prompts" in disk  # (77 x 2048 + 1280) x 4 bytes x 5001
    ((state, time),) = of(items, "time")
    assert state == "note" and time.startswith("at least about") and "--measure" in time
    ((_, unknown),) = of(examine(EXPERIMENTS / "adm64.yaml", capsys)[1], "plan")
    assert "not known before what is missing is there" in unknown


def test_a_shape_weighs_what_it_is_published_to_weigh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(f"{i} foxes" for i in range(20)))
    common = {"model": {"name": "flux", "path": "random:flux"}, "sampler": "euler", "steps": 20}
    changes: dict[str, Any] = {"prompts": "prompts.txt", "num_samples": 20, "metrics": list(METRICS)}
    ((_, memory),) = of(examine(written(tmp_path, common=common, **changes), capsys)[1], "memory")
    assert memory.startswith("weights take 47.9 GB in fp32; activations come on top")


def test_licences_are_read_off_model_cards_and_gates_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((state, text),) = of(examine(EXPERIMENTS / "flux.yaml", capsys)[1], "licence")
    assert state == "note" and "it is gated: accept the licence on its page, then `hf auth login`" in text
    assert "FLUX.1 [dev] Non-Commercial License, known when this version was made" in text
    home = tmp_path / "hub" / "models--owner--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots").mkdir()
    tiny_pipelines.save("stable_diffusion", home / "snapshots" / "abc")
    (home / "snapshots" / "abc" / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n")
    (tmp_path / "prompts.txt").write_text("a fox\n" * 1 + "\n".join(f"{i} foxes" for i in range(19)))
    common = {"model": {"name": "stable_diffusion", "path": "owner/tiny"}, "sampler": "ddim", "steps": 2}
    file = written(tmp_path, common=common, prompts="prompts.txt", metrics=["clip_score"], encoder=[], num_samples=20)
    items = examine(file, capsys)[1]
    assert "creativeml-openrail-m by its model card" in of(items, "licence")[0][1]
    ((state, text),) = of(items, "weights")
    assert state == "ok" and "stable_diffusion(path=owner/tiny)" in text and "GB" in text


def test_what_cannot_be_planned_for_another_reason_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, items = examine(written(tmp_path, sweeps=[{"guidance_scale": [1], "stepz": 3}]), capsys)
    ((state, text),) = of(items, "plan")
    assert (code, state) == (1, "missing") and "did you mean 'steps'" in text


def test_memory_is_of_the_weights_in_the_dtype_of_the_cells(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from cfgbench.assets import checkpoints

    save_file({"a": np.zeros((3, 5), np.float16), "b": np.zeros(7, np.float32)}, tmp_path / "x.safetensors")
    assert checkpoints.elements(tmp_path / "x.safetensors") == 22
