"""Encoders of pictures, against the libraries that define their scores, and what is said where their files are bad."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cfgbench.errors import InputError
from cfgbench.external.images import find_images, read_image
from cfgbench.planning import encoder_refs
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.scores.metrics import Reference, Samples, fid, inception_score
from cfgbench.scores.torchmetrics_scores import OpenClip, clip_score
from tests.tiny_encoders import save_clip, save_dinov2, save_inception

COUNT = 20  # pictures in a folder: Inception takes a quarter of a second for each


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of small pictures whose colours differ."""
    home, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, brightest in (("dark", 120), ("bright", 256)):
        (home / name).mkdir()
        for i in range(COUNT):
            blotches = Image.fromarray(rng.integers(0, brightest, (4, 4, 3)).astype(np.uint8))
            blotches.resize((40, 40), Image.Resampling.BICUBIC).save(home / name / f"{i}.png")
    return home / "dark", home / "bright"


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def encoded(encoder: EncoderRef, folder: Path, asked: np.ndarray | None = None) -> Mapping[str, np.ndarray]:
    samples = np.stack([read_image(path, 3) for path in find_images(folder)])
    return encoder.encode(samples, np.zeros(len(samples), int) if asked is None else asked, {}, "cpu")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fid_and_inception_score_are_those_of_torch_fidelity(folders: tuple[Path, Path], inception: Path) -> None:
    import torch_fidelity

    theirs = torch_fidelity.calculate_metrics(
        **{"input1": str(folders[0]), "input2": str(folders[1]), "feature_extractor_weights_path": str(inception)},
        **{"fid": True, "isc": True, "isc_splits": 1, "cuda": False, "verbose": False, "cache": False},
    )
    encoder = EncoderRef("inception", (("path", str(inception)),))
    dark, bright = (encoded(encoder, folder) for folder in folders)
    groups = np.arange(COUNT) % 2
    samples = Samples(dark["features"], None, dark["log_probs"], None)
    ours = fid(samples, Reference(bright["features"]), groups).value
    assert ours > 1
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert inception_score(samples, None, groups).value == pytest.approx(theirs["inception_score_mean"], rel=1e-6)


def test_clip_score_is_that_of_torchmetrics_with_the_same_model(folders: tuple[Path, Path], clip: Path) -> None:
    import open_clip

    network, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{clip}")

    def processor(text: list[str] | None = None, images: list[Tensor] | None = None, **_: Any) -> dict[str, Tensor]:
        if images is not None:
            pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
            return {"pixel_values": torch.stack([prepare(picture) for picture in pictures])}
        tokens = tokenize(text)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    prompts = [f"a photo of {i} foxes" for i in range(COUNT)]
    pictures = np.stack([read_image(path, 3) for path in find_images(folders[0])])
    with torch.no_grad():
        theirs = clip_score(lambda: (OpenClip(network.eval()), processor), [pictures], prompts)
    ours = encoded(EncoderRef("clip", (("path", str(clip)),)), folders[0], np.array(prompts))["clip_scores"]
    assert ours.std() > 0.01
    assert float(ours.mean()) == pytest.approx(theirs, abs=1e-3)


def test_dinov2_reads_pictures_as_its_published_preparation_has_them(tmp_path: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Model

    folder = save_dinov2(tmp_path / "dino")
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (3, 3, 224, 224)).astype(np.uint8)  # so large that nothing is resized
    prepare = BitImageProcessor(do_resize=False, do_center_crop=False, image_mean=(0.485, 0.456, 0.406))
    prepare.image_std = (0.229, 0.224, 0.225)
    pixels = prepare([picture.transpose(1, 2, 0) for picture in pictures], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = Dinov2Model.from_pretrained(folder).eval()(pixels).last_hidden_state[:, 0]
    ours = EncoderRef("dinov2", (("path", str(folder)),)).encode(pictures, np.zeros(3, int), {}, "cpu")
    np.testing.assert_allclose(ours["features_dinov2"], theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["inception", "clip", "dinov2"])
def test_features_do_not_depend_on_the_company(
    name: str, folders: tuple[Path, Path], inception: Path, clip: Path, tmp_path: Path
) -> None:
    path = {"inception": inception, "clip": clip}.get(name) or save_dinov2(tmp_path / "dino")
    encoder = EncoderRef(name, (("path", str(path)),))
    pictures = np.stack([read_image(path, 3) for path in find_images(folders[0])[:5]])
    together, alone = (encoder.encode(part, np.zeros(len(part), int), {}, "cpu") for part in (pictures, pictures[3:4]))
    for feature, values in together.items():
        np.testing.assert_allclose(values[3:4], alone[feature], rtol=1e-4, atol=1e-5)


def test_settings_and_weights_are_part_of_what_a_score_is(clip: Path, inception: Path) -> None:
    folder = EncoderRef("clip", (("path", str(clip)),))
    assert folder.identity("clip_scores").keys() == {"encoder", "encoder_digest"}  # the folder says what it is
    file = EncoderRef("clip", (("path", str(clip / "open_clip_model.safetensors")), ("model", "ViT-B-32")))
    said = file.identity("clip_scores")
    assert said["encoder_model"] == "ViT-B-32"
    assert said["encoder_digest"] == folder.identity("clip_scores")["encoder_digest"]
    assert EncoderRef("inception", (("path", str(inception)),)).identity("features").keys() == {
        "encoder",
        "encoder_digest",
    }


def test_what_is_missing_is_named_with_the_place_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    sentences = {
        "inception": (f"{tmp_path}/torch/hub/checkpoints/weights-inception", "curl -L"),
        "dinov2": ("facebook/dinov2-large", str(tmp_path / "hub"), "hf download"),
        "clip": ("timm/vit_large_patch14_clip_224.openai", str(tmp_path / "hub"), "hf download"),
    }
    for name, parts in sentences.items():
        with pytest.raises(InputError) as raised:
            encoder_refs.parse(name, "encoder in x.yaml")
        text = str(raised.value)
        assert text.startswith("encoder in x.yaml") and "\n" not in text
        assert all(part in text for part in parts), text


def test_bad_weight_files_are_named(tmp_path: Path, clip: Path) -> None:
    pictures = np.zeros((1, 3, 32, 32), np.uint8)
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"w.pth is not a weight file of torch-fidelity's Inception"):
        EncoderRef("inception", (("path", str(tmp_path / "w.pth")),)).encode(pictures, np.zeros(1, int), {}, "cpu")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth is not a weight file of torch-fidelity's Inception"):
        EncoderRef("inception", (("path", str(tmp_path / "other.pth")),)).encode(pictures, np.zeros(1, int), {}, "cpu")
    short = save_clip(tmp_path / "short") / "open_clip_model.safetensors"
    short.write_bytes(short.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"open_clip_model.safetensors"):
        encoder_refs.parse({"name": "clip", "path": str(short.parent)}, "encoder in x.yaml")


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (5, "an encoder is a name or"),
        ({"model": "ViT-B-32"}, "an encoder is a name or"),
        ({"name": "clip", "modle": "x"}, "did you mean 'model'"),
        ("dino", "unknown encoder 'dino' at encoder"),
        ({"name": "clip", "model": "ViT-L-15"}, "open_clip has no pretrained 'ViT-L-15'"),
    ],
)
def test_a_bad_encoder_is_refused_in_one_sentence(raw: object, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        encoder_refs.parse(raw, "encoder in x.yaml")
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_two_encoders_of_one_thing_are_refused(clip: Path) -> None:
    body = {"name": "clip", "path": str(clip)}
    with pytest.raises(InputError, match=r"encoder\[1\].*leave one out"):
        encoder_refs.together([body, {**body, "model": "ViT-B-32"}], ["encoder[0]", "encoder[1]"])
