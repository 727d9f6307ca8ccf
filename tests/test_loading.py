"""A network is loaded whole or not at all: nothing that a file lacks is replaced by random numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

from cfgbench.assets import checkpoints
from cfgbench.assets.weight_files import tensors_digest
from cfgbench.cell import ModelRef
from cfgbench.errors import InputError
from cfgbench.models import loading, pipeline
from cfgbench.models.text_to_image import TextToImage, text_part
from cfgbench.planning import encoder_refs
from cfgbench.running import worker
from tests import tiny_encoders, tiny_pipelines

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint, not to be touched."""
    return tiny_pipelines.save("stable_diffusion", tmp_path_factory.mktemp("loading") / "whole")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def load(path: Path, name: str = "stable_diffusion") -> TextToImage:
    parameters = {"num_inference_steps": 2} if name == "pipeline" else {}
    location = {"path": str(path)}
    model: TextToImage = worker.load_model(ModelRef(name=name, parameters=parameters, location=location), "fp32", "cpu")  # type: ignore[assignment]
    return model


def edit(file: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(file)), file, {"format": "pt"})


def without(part: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda state: {name: value for name, value in state.items() if part not in name}


@pytest.mark.parametrize(("file", "part"), [(UNET, "down_blocks.0"), (VAE, "decoder.")])
@pytest.mark.parametrize("name", ["stable_diffusion", "pipeline"])
def test_a_network_with_missing_weights_is_refused(copy: Path, file: str, part: str, name: str) -> None:
    edit(copy / file, without(part))
    with pytest.raises(ValueError, match=rf"{Path(file).parent}: .* they lack {part}\S* and \d+ more"):
        load(copy, name)


def test_a_text_encoder_with_missing_weights_is_refused(copy: Path) -> None:
    edit(copy / TEXT, without("layers.0"))
    model = load(copy)
    with pytest.raises(ValueError, match=r"text_encoder: .*CLIPTextModel.* they lack \S*layers.0"), text_part(model):
        pass


def test_weights_of_another_shape_are_refused_without_the_advice_to_ignore_them(copy: Path) -> None:
    edit(copy / UNET, lambda state: {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in state.items()})
    with pytest.raises(ValueError, match="unet") as caught:
        load(copy)
    assert "ignore_mismatched_sizes" not in str(caught.value)


def adding(**more: int) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda state: state | {name.replace("__", "."): torch.zeros(size) for name, size in more.items()}


def test_weights_that_a_configuration_has_no_place_for_are_refused_by_name(copy: Path) -> None:
    edit(copy / UNET, adding(add_embedding__linear_1__weight=3, add_embedding__linear_1__bias=3))
    with pytest.raises(ValueError, match=r"unet: .* UNet2DConditionModel, add_embedding.linear_1.bias and 1 more"):
        load(copy)


def test_what_published_files_hold_beside_their_weights_is_let_be(copy: Path) -> None:
    edit(copy / UNET, adding(pos_embed__pos_embed=3, caption_projection__y_embedding=2))
    edit(copy / TEXT, adding(text_model__embeddings__position_ids=77))
    with text_part(load(copy)) as loaded:
        assert loaded.text_encoder is not None


def test_a_text_encoder_that_was_cut_out_of_a_larger_model_is_used_with_a_warning(copy: Path) -> None:
    edit(copy / TEXT, adding(visual_projection__weight=3))
    model = load(copy)
    with pytest.warns(UserWarning, match=r"text_encoder: .* visual_projection.weight, which"), text_part(model):
        pass


def test_a_part_of_neither_library_is_loaded_in_the_variant_that_was_asked_for(copy: Path) -> None:
    for file in copy.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(text_config=sizes, vision_config=sizes | {"image_size": 8, "patch_size": 4}, projection_dim=4)
    StableDiffusionSafetyChecker(config).save_pretrained(copy / "safety_checker", variant="fp16")
    index = json.loads((copy / "model_index.json").read_text())
    CLIPImageProcessor().save_pretrained(copy / "feature_extractor")
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (copy / "model_index.json").write_text(json.dumps(index))
    assert pipeline.load(str(copy), variant="fp16").pipeline.safety_checker is not None


@pytest.mark.parametrize("entry", [[], ["diffusers"], ["diffusers", None], [1, 2], ["a", "b", "c"]])
@pytest.mark.parametrize("name", ["stable_diffusion", "pipeline"])
def test_an_index_whose_entry_is_no_pair_is_damaged(copy: Path, entry: list[object], name: str) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"vae": entry}))
    with pytest.raises(ValueError, match=r"model_index.json is damaged: it names no class for vae"):
        load(copy, name)


def test_the_names_that_older_checkpoints_have_are_known(copy: Path) -> None:
    """Attention of the autoencoder of Stable Diffusion 1.x, as it was published."""
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(new, before)
        return name

    expected = load_file(copy / VAE)
    edit(copy / VAE, lambda state: {renamed(name): value for name, value in state.items()})
    assert load_file(copy / VAE).keys() != expected.keys()
    vae = loading.load(checkpoints.locate(str(copy)), "vae", torch.float32)
    assert all(torch.equal(value, expected[name]) for name, value in vae.state_dict().items())


def test_a_part_that_the_index_does_not_name_is_asked_for_in_words(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    del index["vae"]
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"model_index.json names no class for vae; .*unet"):
        loading.load(checkpoints.locate(str(copy)), "vae", torch.float32)


HEADERS = {
    "nothing": {},
    "only what is about it": {"__metadata__": {"format": "pt"}},
    "a number": {"a": 1},
    "no place": {"a": {"dtype": "F32", "shape": [1]}},
    "a shape of words": {"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}},
    "a negative place": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}},
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_says_nothing_of_tensors_is_damaged(case: str, tmp_path: Path) -> None:
    content = json.dumps(HEADERS[case]).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(content).to_bytes(8, "little") + content + bytes(4))
    with pytest.raises(ValueError, match=r"is damaged: it (holds no weights|does not begin)"):
        checkpoints.check_whole(file)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}'])
def test_an_index_that_names_no_files_is_damaged(copy: Path, content: str) -> None:
    (copy / UNET).unlink()
    (copy / f"{UNET}.index.json").write_text(content)
    with pytest.raises(ValueError, match="its weight_map names no files"):
        checkpoints.locate(str(copy)).network_files("unet")


def test_a_dinov2_that_is_none_or_lacks_weights_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of a clip_text_model, not of a dinov2"):
        encoder_refs.parse({"name": "dinov2", "path": str(whole / "text_encoder")}, "encoder")
    folder = tiny_encoders.save_dinov2(tmp_path / "dino")
    edit(folder / "model.safetensors", without("layer.0"))
    with pytest.raises(ValueError, match=r"Dinov2Model .* they lack \S*layer.0"):
        loading.whole(loading.transformers.Dinov2Model, folder, torch.float32)


def test_a_dinov2_may_be_named_by_its_file(tmp_path: Path) -> None:
    folder = tiny_encoders.save_dinov2(tmp_path / "dino")
    by_file, by_folder = (
        encoder_refs.parse({"name": "dinov2", "path": str(path)}, "encoder")
        for path in (folder / "model.safetensors", folder)
    )
    assert by_file.identity("features_dinov2") == by_folder.identity("features_dinov2")


def test_the_same_tensors_are_known_in_another_container_and_others_are_not(whole: Path, tmp_path: Path) -> None:
    state = load_file(whole / TEXT)
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "same.bin")
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "other.bin")
    (tmp_path / "no.pt").write_bytes(b"nothing")
    same, other, none = (tensors_digest(tmp_path / name) for name in ("same.bin", "other.bin", "no.pt"))
    assert tensors_digest(whole / TEXT) == same
    assert len({same, other, none}) == 3
