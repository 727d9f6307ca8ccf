"""Training on pictures: what is read, that it goes on where it was killed, and that what it writes can be guided."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from cfgbench import store
from cfgbench.assets import adm_layout
from cfgbench.assets.adm_layout import Architecture, Networks
from cfgbench.cli import main
from cfgbench.errors import InputError
from cfgbench.models import adm
from cfgbench.models.adm_networks import Classifier, UNet
from cfgbench.planning import experiment, plan
from cfgbench.running import worker
from cfgbench.training import card, cifar10, cifar10_losses, pictures, resumable
from cfgbench.training.cifar10 import Run, Sizes
from tests.test_adm import randomised

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(30) // 3
SMALL = Sizes(steps=6, width=32, batch_size=4)


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, split: str = "train", **columns: list[Any]) -> Path:
    """Pictures as the hub has them."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"img": [{"bytes": encoded(image), "path": None} for image in PIXELS], "label": list(LABELS), **columns}
    pd.DataFrame(given).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("data")
    write_parquet(home / "plain_text")
    write_parquet(home / "plain_text", "test")
    return home


def test_parquet_and_folders_of_images_hold_the_same_pictures(data: Path, tmp_path: Path) -> None:
    for number, (image, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        place = tmp_path / "train" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02}.png").write_bytes(encoded(image))
    from_parquet, from_folders = (pictures.read(folder, "train", 10, 32) for folder in (data, tmp_path))
    assert from_parquet.digest == from_folders.digest
    assert np.array_equal(from_parquet.images, PIXELS.transpose(0, 3, 1, 2))
    assert np.array_equal(from_parquet.labels, LABELS)
    assert pictures.has_split(data, "test") and not pictures.has_split(tmp_path, "test")


def broken(**columns: list[Any]) -> dict[str, list[Any]]:
    return columns


BROKEN = {
    "is 16x16; pictures of 32x32": broken(img=[{"bytes": encoded(PIXELS[0, :16, :16]), "path": None}] * 30),
    "has label 10; the classes are 0 to 9": broken(label=[10] * 30),
    "has no whole number in a column 'label'": broken(label=["cat"] * 30),
    "is no picture": broken(img=[{"bytes": b"x", "path": None}] * 30),
    "has no encoded picture": broken(img=["x"] * 30),
}


@pytest.mark.parametrize("message", BROKEN)
def test_data_that_cannot_be_trained_on_is_refused_with_its_place(message: str, tmp_path: Path) -> None:
    write_parquet(tmp_path, **BROKEN[message])
    with pytest.raises(ValueError, match=message) as error:
        pictures.read(tmp_path, "train", 10, 32)
    assert "row 0 of" in str(error.value)


def test_a_folder_without_pictures_and_one_with_too_few_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither train"):
        pictures.read(tmp_path, "train", 10, 32)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="holds 1 folders; 10 are needed"):
        pictures.read(tmp_path, "train", 10, 32)


def trainer(data: Path, file: Path, name: str = "classifier") -> tuple[resumable.Trainer, tuple[Tensor, Tensor]]:
    read = pictures.read(data, "train", 10, 32)
    recipe = cifar10.recipes_of(read, replace_steps(SMALL, 24))[name]
    network = cifar10._fresh(recipe, torch.device("cpu"))
    made = resumable.Trainer(network, recipe.optimisation, file, recipe.digest)
    return made, (torch.from_numpy(read.images), torch.from_numpy(read.labels))


def replace_steps(sizes: Sizes, steps: int) -> Sizes:
    return sizes._replace(steps=steps)


@pytest.mark.parametrize("name", ["diffusion", "classifier"])
def test_a_training_that_is_killed_goes_on_to_the_same_weights(name: str, data: Path, tmp_path: Path) -> None:
    loss, last = cifar10.LOSSES[name], 6 if name == "classifier" else 5
    whole, tensors = trainer(data, tmp_path / "whole", name)
    for state in resumable.fit(whole, loss, tensors, save_every_s=1e9):
        if state.step == last:
            break
    killed, _ = trainer(data, tmp_path / "killed", name)
    for seconds, step in ((0, 2), (1e9, 3)):  # the step after the last one that was saved is lost
        for state in resumable.fit(killed, loss, tensors, save_every_s=seconds):
            if state.step == step:
                break
    resumed, _ = trainer(data, tmp_path / "killed", name)
    assert resumed.step == 2
    for state in resumable.fit(resumed, loss, tensors, save_every_s=0):
        if state.step == last:
            break
    for key, value in whole.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[key]), key


@pytest.mark.parametrize("name", ["diffusion", "classifier"])
def test_the_loss_in_bfloat16_and_channels_last_is_nearly_the_same(name: str, data: Path, tmp_path: Path) -> None:
    made, (images, labels) = trainer(data, tmp_path / "state", name)
    randomised(made.network)

    def loss() -> Tensor:
        torch.manual_seed(0)
        return cifar10.LOSSES[name](made.network, images[:4], labels[:4])

    with torch.no_grad():
        plain = loss()
        made.network.to(memory_format=torch.channels_last)
        torch.testing.assert_close(loss(), plain, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            half = loss()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, rtol=0.1, atol=0.1)


def test_what_another_recipe_has_begun_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    made, _ = trainer(data, tmp_path / "state")
    made.save()
    with pytest.raises(ValueError, match="another recipe"):
        resumable.Trainer(made.network, replace(made.how, seed=1), tmp_path / "state", "another")


def test_every_picture_is_seen_once_in_an_epoch() -> None:
    how = cifar10.recipes_of(pictures.Pictures(PIXELS, LABELS), Sizes(batch_size=5))["diffusion"].optimisation
    epochs = [np.concatenate([resumable._batch(6 * epoch + k, 30, how) for k in range(6)]) for epoch in (0, 1)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs) and list(epochs[0]) != list(epochs[1])


class Recorder(nn.Module):
    """A network that keeps what it was asked."""

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        self.x, self.timestep, self.label = x, timestep, label
        return torch.zeros_like(x)


def test_labels_are_dropped_for_the_null_label_as_often_as_declared_and_noise_is_the_schedules() -> None:
    torch.manual_seed(0)
    network, images = Recorder(), torch.full((4000, 3, 2, 2), 255, dtype=torch.uint8)
    loss = cifar10_losses.diffusion_loss(network, images, torch.zeros(4000, dtype=torch.int64))
    assert network.label is not None and set(network.label.tolist()) == {0, cifar10_losses.CLASSES}
    assert float((network.label == cifar10_losses.CLASSES).double().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(loss) == pytest.approx(1, abs=0.05)  # of standard normal noise, predicted as zero
    signal = torch.from_numpy(adm_layout.alphas_cumprod("linear"))[network.timestep].sqrt()
    assert float((network.x.mean(dim=(1, 2, 3)) - signal).mean()) == pytest.approx(0, abs=0.02)


def test_moved_pictures_are_windows_of_the_mirrored_ones() -> None:
    images = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    moved = cifar10_losses._moved(images)
    padded = nn.functional.pad(images, [4] * 4, mode="reflect")
    for image, whole in zip(moved, padded, strict=True):
        windows = whole.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert (windows == image).flatten(1).all(dim=1).any()


def test_the_command_trains_both_networks_once_and_the_model_reads_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "cifar10", "--data", str(data), "--output", str(tmp_path), "--device", "cpu"]
    sizes = ["--steps", "4", "--width", "32", "--batch-size", "4"]
    assert main([*command, *sizes]) == 0
    entries = card.read_card(tmp_path)
    assert entries["diffusion"]["steps"] == 4 and entries["classifier"]["held_out_pictures"] == 30
    assert not list(tmp_path.glob(".*"))
    capsys.readouterr()
    assert main([*command, *sizes]) == 0
    assert capsys.readouterr().out.count("finished already") == 2
    assert main([*command, *sizes, "--width", "64"]) == 2
    assert "describes networks of other sizes" in capsys.readouterr().err
    model = adm.load(str(tmp_path))
    assert model.latent_shape == (3, 32, 32) and set(model.networks) == {"main", "classifier"}
    kept = load_file(tmp_path / "diffusion.safetensors")
    assert torch.equal(kept["label_emb.weight"], model.networks["main"].state_dict()["label_emb.weight"])


def test_options_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, message in (
        (["cifar10", "--output", str(tmp_path)], "needs --data"),
        (["cifar10", "--data", str(tmp_path)], "needs --output"),
        (["cifar10", "--data", "x", "--output", "y", "--width", "40"], "multiple of 32"),
        (["digits", "--steps", "3"], "--steps is for cifar10"),
    ):
        assert main(["train", *arguments]) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves behind, but tiny and with random weights."""
    home = tmp_path_factory.mktemp("cifar10")
    shape = Architecture(
        image_size=8, channels=32, multipliers=(1,), blocks=1, attention=(8,), head_channels=32, classes=10
    )
    main_shape = shape.model_copy(update={"null_label": True, "learned_variance": False})
    (home / "config.json").write_text(Networks(diffusion=main_shape, classifier=shape).model_dump_json())
    for name, network in (("diffusion", UNet(main_shape)), ("classifier", Classifier(shape))):
        torch.save(randomised(network).state_dict(), home / f"{name}.pt")
    return home


METHODS: dict[str, dict[str, Any]] = {
    "cfg": {"guidance_scale": [0, 1, 2]},
    "classifier": {"classifier_scale": 3, "sampler": "ddpm", "form": ["eps", "ancestral"]},
    "cads": {"guidance_scale": 2},
}


def test_the_trained_folder_is_swept_with_cfg_and_classifier_guidance(folder: Path, tmp_path: Path) -> None:
    model = {"name": "cifar10", "path": str(folder)}
    sweeps = [{"sampler": "ddim", "steps": 2, "model": model, "method": name, **axes} for name, axes in METHODS.items()]
    body = {"name": "x", "num_samples": 100, "profile": None, "sweeps": sweeps}
    (tmp_path / "experiment.yaml").write_text(json.dumps(body))
    tasks = plan.plan(experiment.load(tmp_path / "experiment.yaml")).tasks
    costs, seen = [], set()
    for task in tasks:
        worker.draw_block(task, 0, tmp_path, "cpu")
        block = store.Store(tmp_path).block(task.cell.id, 0)
        assert block is not None
        seen.add(block["pixels"].tobytes())
        costs.append((float(block["nfe"][0]), float(block["classifier_passes"][0])))
    assert costs == [(2, 0), (2, 0), (4, 0), (2, 2), (2, 2), (4, 0)]
    assert len(seen) == len(tasks)


def test_a_folder_that_was_never_trained_says_how_to(tmp_path: Path) -> None:
    model = {"name": "cifar10", "path": str(tmp_path / "none")}
    sweeps = [{"model": model, "sampler": "ddim", "steps": 2, "guidance_scale": 2}]
    with pytest.raises(InputError) as caught:
        plan.plan(experiment.parse({"name": "x", "num_samples": 100, "sweeps": sweeps}, "x.yaml"))
    assert f"{tmp_path}/none/config.json is missing" in str(caught.value)
    assert f"`cfgbench train cifar10 --data FOLDER --output {tmp_path}/none`" in str(caught.value)
    assert "openaipublic" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_trains_in_bfloat16_and_resumes(data: Path, tmp_path: Path) -> None:
    run = Run(data, tmp_path, torch.device("cuda"), save_every_s=0)
    lines: list[str] = []
    cifar10.train(run, SMALL, None, lines.append)
    assert "loss" in lines[-1] and card.read_card(tmp_path)["classifier"]["device"]
