"""What is missing or damaged in a checkpoint is said in one sentence before any weights load, and how to get it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cfgbench.assets import checkpoints
from cfgbench.errors import InputError
from cfgbench.planning import experiment, plan
from tests import tiny_pipelines

NAME = "someone/tiny"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
FILES = {
    WEIGHTS: "",
    "vae/diffusion_pytorch_model.safetensors": "",
    "text_encoder/model.safetensors": "",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint, not to be touched."""
    return tiny_pipelines.save("stable_diffusion", tmp_path_factory.mktemp("checkpoint") / "whole")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    checkpoints.locate.cache_clear()
    return tmp_path / "hub"


def refusal(path: str | Path, folder: Path, **more: str) -> str:
    """What the planner says to a model at a path."""
    (folder / "prompts.txt").write_text("a red fox\n")
    body = {
        "name": "x",
        "num_samples": 20,
        "prompts": "prompts.txt",
        "sweeps": [
            {
                "model": {"name": "stable_diffusion", "path": str(path), **more},
                "sampler": "ddim",
                "steps": 2,
                "guidance_scale": 3,
            }
        ],
    }
    with pytest.raises(InputError) as caught:
        plan.plan(experiment.parse(body, str(folder / "x.yaml")))
    text = str(caught.value)
    assert text.startswith("sweeps[0].model in ") and "\n" not in text
    return text


def cached(whole: Path, cache: Path, commit: str = "c" * 40) -> Path:
    """The checkpoint as the hub's client stores it; returns the snapshot's folder."""
    home = cache / "models--someone--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(whole, home / "snapshots" / commit))


def test_a_model_that_is_not_in_the_cache_is_named_with_the_command_that_gets_it(tmp_path: Path, cache: Path) -> None:
    text = refusal(NAME, tmp_path)
    assert f"{NAME} is not in the hub cache {cache}" in text
    assert f"`hf download {NAME}`" in text and "gated" in text and "hf auth login" in text


def test_a_revision_that_is_not_in_the_cache_is_named_with_those_that_are(
    whole: Path, tmp_path: Path, cache: Path
) -> None:
    cached(whole, cache)
    text = refusal(NAME, tmp_path, revision="v2")
    assert "revision 'v2' of someone/tiny is not in" in text
    assert "main" in text and "c" * 40 in text and "--revision v2" in text


def test_a_file_that_was_downloaded_half_is_a_link_to_nothing(whole: Path, tmp_path: Path, cache: Path) -> None:
    snapshot = cached(whole, cache)
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(tmp_path / "blobs" / "gone")
    text = refusal(NAME, tmp_path)
    assert WEIGHTS in text and f"`hf download {NAME}`" in text


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_file_of_a_folder_is_named_with_its_place(file: str, copy: Path, tmp_path: Path) -> None:
    (copy / file).unlink()
    checkpoints.locate.cache_clear()
    text = refusal(copy, tmp_path)
    assert f"{copy / file} is missing" in text and "complete the folder" in text


def test_a_folder_that_is_not_there_is_no_hub_name(tmp_path: Path) -> None:
    text = refusal(tmp_path / "nowhere" / "at" / "all", tmp_path)
    assert "there is no folder" in text and "owner/name" in text


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def scramble(file: Path) -> None:
    file.write_bytes(b"\xff" * file.stat().st_size)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [shorten, scramble, empty])
@pytest.mark.parametrize("file", FILES)
def test_damaged_weights_are_found_before_they_load(
    file: str, damage: Callable[[Path], None], copy: Path, tmp_path: Path
) -> None:
    damage(copy / file)
    text = refusal(copy, tmp_path)
    assert f"{copy / file} is damaged" in text and "get it again" in text


def test_a_pickle_where_safetensors_are_expected_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / WEIGHTS).rename(copy / "unet" / "diffusion_pytorch_model.bin")
    text = refusal(copy, tmp_path)
    assert "only the pickle diffusion_pytorch_model.bin" in text and "save_pretrained" in text


def test_a_missing_shard_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / WEIGHTS).unlink()
    shard = "diffusion_pytorch_model-00001-of-00002.safetensors"
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(f'{{"weight_map": {{"a": "{shard}"}}}}')
    assert f"{copy / 'unet' / shard} is missing" in refusal(copy, tmp_path)


def test_a_shard_outside_its_folder_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / WEIGHTS).unlink()
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    assert "names a shard '../../secret.safetensors' outside its folder" in refusal(copy, tmp_path)


def test_a_variant_that_is_not_there_is_named_with_what_is(whole: Path, tmp_path: Path) -> None:
    text = refusal(whole, tmp_path, variant="fp16")
    assert "diffusion_pytorch_model.fp16.safetensors" in text and "variant" in text


def test_a_checkpoint_of_another_family_is_sent_to_its_adapter(tmp_path: Path) -> None:
    folder = tiny_pipelines.save("flux", tmp_path / "flux")
    text = refusal(folder, tmp_path)
    assert "holds a FluxPipeline, not a StableDiffusionPipeline" in text and "name: flux" in text


def test_a_single_file_is_sent_through_diffusers(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "from_single_file" in refusal(tmp_path / "model.safetensors", tmp_path)


def test_a_size_that_the_network_cannot_have_is_refused(whole: Path, tmp_path: Path) -> None:
    assert "height = 9 is no multiple of 2 pixels" in refusal(whole, tmp_path, height=9)
