"""open_clip models are found by tag, file or folder without torch, loaded as trained, and missed with one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from cfgbench.assets import clip_models, encoder_files
from tests.tiny_encoders import save_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP in open_clip's own layout."""
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_a_folder_is_loaded_with_its_own_preparation(folder: Path) -> None:
    clip = clip_models.load(path=str(folder))
    assert (clip.size, clip.mean, clip.std) == (32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert clip.tokenize(["a cat"]).shape == (1, 16)
    assert not clip.network.training and not any(weight.requires_grad for weight in clip.network.parameters())


def test_a_text_of_more_tokens_than_the_model_reads_is_found(folder: Path) -> None:
    clip = clip_models.load(path=str(folder))
    exact, long = " ".join(["cat"] * 14), " ".join(["cat"] * 15)
    np.testing.assert_array_equal(clip_models.truncated(clip, ["a cat", exact, long]), [False, False, True])
    assert (clip.tokenize([exact])[0] == clip.tokenize([long])[0]).all()


def test_the_table_of_tags_is_that_of_open_clip() -> None:
    import open_clip

    table = json.loads(clip_models.TAGS.read_text())
    for model, tags in table.items():
        for tag, repository in tags.items():
            assert open_clip.get_pretrained_cfg(model, tag)["hf_hub"].rstrip("/") == repository
    assert clip_models.TAG in table[clip_models.MODEL] and len(table) > 60


def test_weights_of_a_tag_are_found_in_the_hub_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--timm--vit_base_patch32_clip_224.openai"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    (home / "snapshots" / "abc").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"safetensors is missing; .*hf download timm/vit_base_patch32"):
        clip_models.weights("ViT-B-32", "openai")
    content = (folder / "open_clip_model.safetensors").read_bytes()
    (home / "snapshots" / "abc" / "open_clip_model.safetensors").write_bytes(content)
    assert clip_models.weights("ViT-B-32", "openai").read_bytes() == content


BAD = {
    "a model that open_clip lacks": ({"model": "ViT-L-13"}, "no pretrained 'ViT-L-13'; it has, for example, ViT-B-16"),
    "a tag that a model lacks": ({"pretrained": "opnai"}, "ViT-L-14 has no pretrained tag 'opnai'; it has"),
    "a tag of no file": ({"pretrained": "openai", "path": "x"}, "says how a weight file was trained, and x is none"),
    "a file that is not there": ({"path": "no/such.safetensors"}, "neither a weight file nor a folder no/such"),
    "a repository that is not there": ({"path": "some/clip"}, "some/clip is not in the hub cache"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_missing_is_named(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    arguments, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        clip_models.weights(**arguments)


def test_a_half_downloaded_file_is_said_to_be_damaged(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged: it has"):
        clip_models.weights(path=str(tmp_path))


def test_weights_of_another_architecture_are_refused_with_a_sentence(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"open_clip cannot load .* as RN50"):
        clip_models.load("RN50", path=str(folder / "open_clip_model.safetensors"))


def test_a_file_of_a_tag_is_loaded_as_that_tag_was_trained(tmp_path: Path) -> None:
    """OpenAI's networks have QuickGELU, which their name alone does not say."""
    import open_clip
    import torch

    file = tmp_path / "weights.pt"
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), file)
    plain, tagged = (clip_models.load("ViT-B-32", tag, str(file)) for tag in (None, "openai"))
    kinds = [{type(module).__name__ for module in clip.network.modules()} for clip in (plain, tagged)]
    assert ["QuickGELU" in found for found in kinds] == [False, True]
    assert encoder_files.clip_settings("ViT-B-32", "openai", str(file)) == {"model": "ViT-B-32", "pretrained": "openai"}
    assert encoder_files.clip_settings("ViT-B-32", None, str(file)) == {"model": "ViT-B-32"}
    assert encoder_files.clip_settings() == {"model": "ViT-L-14", "pretrained": "openai"}
