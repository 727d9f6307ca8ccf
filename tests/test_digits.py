"""The digits testbed: data, networks, the model behind the protocol, encoders, training and the shipped weights."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.numpy import load_file

from cfgbench.generation import pixels
from cfgbench.models import Level
from cfgbench.models.digits import DigitsModel, load
from cfgbench.testbeds import digits_data as digits
from cfgbench.testbeds import digits_encoders as encoders
from cfgbench.testbeds.digits_captions import CONTEXT_LENGTH, VOCABULARY, all_captions, tokenize
from cfgbench.training import card, digits_dataset
from cfgbench.training.digits import RECIPES, Recipe, evaluate, network_names, train, train_recipes

CARD = card.read_card(digits.WEIGHTS)
LEVEL = Level(torch.tensor(500.0), 1.0)
LABELS = np.arange(20) % 10


@pytest.fixture(scope="module")
def model() -> DigitsModel:
    return load()


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def recipe(name: str, steps: int = 3, snapshots: tuple[int, ...] = ()) -> Recipe:
    known = next(recipe for recipe in RECIPES if recipe.name == name)
    return replace(known, optimisation=replace(known.optimisation, steps=steps), snapshots=snapshots)


# data


def test_the_halves_are_disjoint_complete_and_stratified() -> None:
    train_indices, held_out = digits.split_indices()
    assert sorted([*train_indices, *held_out]) == list(range(1797))
    assert (len(train_indices), len(held_out)) == (898, 899)
    counts = [np.bincount(half().labels) for half in (digits.train_half, digits.held_out_half)]
    assert np.abs(counts[0] - counts[1]).max() <= 2


def test_the_shipped_dataset_is_scikit_learns_with_its_split(tmp_path: Path) -> None:
    digits_dataset.write(tmp_path / "fresh.npz")
    with np.load(tmp_path / "fresh.npz") as fresh, np.load(digits.DATASET) as shipped:
        assert set(fresh) == set(shipped)
        assert all(np.array_equal(fresh[name], shipped[name]) for name in fresh)


def test_images_span_minus_one_to_one_in_seventeen_levels() -> None:
    images = digits.all_digits().images
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert np.array_equal(np.unique(images), np.arange(17, dtype=np.float32) / 8 - 1)


def test_uint8_rounds_to_the_nearest_level_and_clamps() -> None:
    values = np.array([-7.0, -1.0, -1 + 0.51 / 127.5, -1 + 0.49 / 127.5, 1 - 0.4 / 127.5, 1.0, 3.0, np.nan])
    assert pixels.to_uint8(values).tolist() == [0, 0, 1, 0, 255, 255, 255, 0]


def test_uint8_keeps_every_level_of_the_data_apart_and_comes_back_within_half_a_level() -> None:
    images = digits.all_digits().images
    assert len(np.unique(pixels.to_uint8(images))) == 17
    assert np.abs(pixels.from_uint8(pixels.to_uint8(images)) - images).max() <= 0.5 / 127.5 + 1e-6


def test_the_schedule_is_diffusers_cosine_schedule_cut_at_980() -> None:
    scheduler: Any = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")  # type: ignore[no-untyped-call]
    theirs = scheduler.alphas_cumprod.numpy()
    ours = digits.cosine_alphas_cumprod(1000)
    assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-8)
    assert digits.alphas_cumprod().shape == (980,)
    assert digits.alphas_cumprod()[-1] == pytest.approx(9.7e-4, rel=0.01)


def test_planning_needs_neither_torch_nor_scikit_learn() -> None:
    plan = "import sys, cfgbench.testbeds.digits_data as d; d.weight_files(); d.train_half()"
    script = plan + "; print({'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_references_are_quantised_and_cover_both_halves() -> None:
    for half, size in (("heldout", 899), ("train", 898)):
        images, labels = digits.reference(half, {})
        assert images.dtype == np.uint8
        assert images.shape == (size, 1, 8, 8)
        assert labels.shape == (size,)


def test_noise_levels_are_the_schedules_and_increase_to_32() -> None:
    levels = digits.noise_levels(p_uncond=0.5)
    assert levels.shape == (980,)
    assert (np.diff(levels) > 0).all()
    assert levels[-1] == pytest.approx(32.07, abs=0.01)


# which networks exist


@pytest.mark.parametrize(
    "unknown",
    [
        {"training_steps": 1600, "p_uncond": 0.2},
        {"training_seed": 3},
        {"training_steps": 400, "training_seed": 1},
        {"attention": True, "training_seed": 1},
        {"weak_steps": 300},
    ],
)
def test_a_configuration_nobody_trained_is_refused_with_what_is_allowed(unknown: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        digits.weight_files(**unknown)  # type: ignore[arg-type]


def test_every_recipe_has_its_files_and_every_file_its_recipe() -> None:
    names = {name for recipe in RECIPES for name in network_names(recipe)}
    assert names == set(CARD) == {path.stem for path in digits.WEIGHTS.glob("*.safetensors")}


def test_weight_files_name_each_network_once_and_exist() -> None:
    files = digits.weight_files(p_uncond=0.1, training_steps=1600, training_seed=2, weak_steps=100)
    assert [path.name for path in files] == [
        "diffusion-p0.1-1600-seed2.safetensors",
        "classifier.safetensors",
        "diffusion-p0.1-800-seed0-at100.safetensors",
    ]
    assert all(path.exists() for path in files)


def test_missing_weights_name_the_path_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors.*cfgbench train digits"):
        digits.require_weights(tmp_path / "nowhere.safetensors")


# the model


def test_conditions_are_the_labels_and_the_null_label(model: DigitsModel) -> None:
    conditions = model.conditions(LABELS)
    assert conditions["cond"].tolist() == LABELS.tolist()
    assert conditions["cond"].dtype == torch.int64
    assert conditions["uncond"].tolist() == [10] * 20


def test_predictions_have_the_shape_of_the_input_and_depend_on_label_and_network(noise: torch.Tensor) -> None:
    model = load(weak_steps=100)
    conditions = model.conditions(LABELS)
    cond, uncond = (model.predict(noise, LEVEL, conditions[name]) for name in ("cond", "uncond"))
    weak = model.predict(noise, LEVEL, conditions["cond"], "weak")
    assert cond.shape == noise.shape
    assert (cond - uncond).abs().mean() > 0.01
    assert (cond - weak).abs().mean() > 0.01


def test_fractional_timesteps_lie_between_their_neighbours(model: DigitsModel, noise: torch.Tensor) -> None:
    condition = model.conditions(LABELS)["cond"]
    at = {t: model.predict(noise, Level(torch.tensor(t), 1.0), condition) for t in (500.0, 500.5, 501.0)}
    assert not torch.equal(at[500.0], at[500.5])
    error = at[500.5] - (at[500.0] + at[501.0]) / 2
    assert error.abs().max() < 0.2 * (at[500.0] - at[501.0]).abs().max()


def test_one_timestep_for_the_batch_equals_one_per_sample(model: DigitsModel, noise: torch.Tensor) -> None:
    condition = model.conditions(LABELS)["cond"]
    per_sample = Level(torch.full((20,), 500.0), 1.0)
    assert torch.allclose(
        model.predict(noise, LEVEL, condition), model.predict(noise, per_sample, condition), atol=1e-5
    )
    assert torch.allclose(model.class_log_probs(noise, LEVEL), model.class_log_probs(noise, per_sample), atol=1e-6)


def test_class_log_probs_are_normalised_and_their_gradient_is_the_finite_difference(noise: torch.Tensor) -> None:
    model = load()
    model.networks["classifier"].double()
    x = noise.double().requires_grad_(True)
    log_probs = model.class_log_probs(x, LEVEL)
    assert torch.allclose(log_probs.exp().sum(dim=1), torch.ones(20, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(log_probs[:, 3].sum(), x)
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ahead, behind = (model.class_log_probs(x.detach() + h * direction, LEVEL)[:, 3].sum() for h in (1e-5, -1e-5))
    assert (gradient * direction).sum().item() == pytest.approx(((ahead - behind) / 2e-5).item(), rel=1e-5)


def test_decode_quantises_as_the_references_are(model: DigitsModel) -> None:
    images = digits.held_out_half().images
    decoded = model.decode(torch.from_numpy(images))
    assert decoded.dtype == np.uint8
    assert decoded.shape == (899, 1, 8, 8)
    assert np.array_equal(decoded, pixels.to_uint8(images))


def test_replacing_the_attention_map_by_the_identity_changes_the_prediction(noise: torch.Tensor) -> None:
    model = load(attention=True)
    condition = model.conditions(LABELS)["cond"]
    plain = model.predict(noise, LEVEL, condition)
    attention: Any = model.networks["main"].attention
    attention.attend = lambda q, k, v: v
    assert (model.predict(noise, LEVEL, condition) - plain).abs().mean() > 1e-3


# encoders


def test_features_are_64_wide_float32_with_normalised_log_probabilities() -> None:
    images = pixels.to_uint8(digits.held_out_half().images[:50])
    vectors, log_probs = encoders.features(images)
    assert vectors.shape == (50, 64)
    assert vectors.dtype == np.float32
    assert log_probs.shape == (50, 10)
    assert log_probs.dtype == np.float32
    assert np.allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)


def test_clip_scores_prefer_the_right_caption() -> None:
    data = digits.held_out_half()
    images = pixels.to_uint8(data.images)
    right, wrong = (encoders.clip_scores(images, labels) for labels in (data.labels, (data.labels + 1) % 10))
    assert right.shape == (899,)
    assert right.dtype == np.float32
    assert (right > wrong).mean() > 0.95
    assert np.abs(right).max() <= 100.001


def test_the_tokenizer_ends_every_caption_with_the_largest_id() -> None:
    tokens = tokenize([caption for digit in range(10) for caption in all_captions(digit)])
    config = json.loads(encoders.CLIP_CONFIG.read_text())["text_cfg"]
    assert (config["vocab_size"], config["context_length"]) == (len(VOCABULARY), CONTEXT_LENGTH)
    assert (tokens.max(axis=1) == len(VOCABULARY) - 1).all()
    assert (tokens[:, 0] == 1).all()
    assert len(np.unique(tokens, axis=0)) == len(tokens) == 200


@pytest.mark.parametrize("caption", ["a photo of the digit eleven", "a " * 11])
def test_the_tokenizer_refuses_what_it_cannot_represent(caption: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        tokenize([caption])


# training and the shipped weights


def test_the_card_describes_the_files_as_they_are() -> None:
    for name, entry in CARD.items():
        path = digits.weight_path(name)
        assert entry["file"] == path.name
        assert entry["sha256"] == card.file_hash(path)
        buffers = ("running_mean", "running_var", "num_batches_tracked", "attn_mask")
        weights = {key: value for key, value in load_file(path).items() if not key.endswith(buffers)}
        assert sum(value.size for value in weights.values()) == entry["parameters"]
        assert entry["bytes"] == path.stat().st_size


def test_the_card_holds_the_recipes_of_today() -> None:
    assert all(card.finished(digits.WEIGHTS, network_names(recipe), asdict(recipe)) for recipe in RECIPES)


def test_no_held_out_accuracy_is_claimed_for_the_network_that_saw_everything() -> None:
    assert not [key for key in CARD["features"] if "held_out" in key]


def test_all_weights_together_are_small() -> None:
    assert sum(entry["bytes"] for entry in CARD.values()) < 8e6


def test_recorded_flops_are_about_six_per_parameter_and_image_of_a_dense_network() -> None:
    entry = CARD["classifier"]
    assert 4.5 < entry["flops"] / entry["images_seen"] / entry["parameters"] < 6


def test_recorded_accuracies_are_true_and_good() -> None:
    networks = {
        "classifier": load().networks["classifier"],
        "features-half-a": encoders.load_feature_net(digits.weight_path("features-half-a")),
        "clip": encoders.load_clip(digits.weight_path("clip")),
    }
    for name, network in networks.items():
        measured = evaluate(CARD[name]["recipe"]["kind"], network)
        assert measured == pytest.approx({key: CARD[name][key] for key in measured}, abs=0.003)
        assert next(iter(measured.values())) > 0.95


def test_training_twice_gives_the_same_bytes_and_leaves_global_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    threads, expected = torch.get_num_threads(), torch.rand(3)
    torch.manual_seed(0)
    names = ("diffusion-p0.1-800-seed0", "classifier", "features", "clip", "gan-1500-seed0")
    for folder in ("first", "second"):
        train_recipes([recipe(name) for name in names], tmp_path / folder, lambda line: None)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    first, second = (card.read_card(tmp_path / folder) for folder in ("first", "second"))
    assert {name: first[name]["sha256"] for name in names} == {name: second[name]["sha256"] for name in names}


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    seeds = [recipe(f"diffusion-p0.1-800-seed{seed}") for seed in (0, 1)]
    train_recipes(seeds, tmp_path, lambda line: None)
    entries = card.read_card(tmp_path)
    assert len({entry["sha256"] for entry in entries.values()}) == 2


def test_an_interrupted_training_resumes_with_the_network_it_was_at(tmp_path: Path) -> None:
    recipes = [recipe("classifier"), recipe("diffusion-p0.1-800-seed0", snapshots=(1,))]
    lines: list[str] = []

    def interrupt(line: str) -> None:
        if line.startswith("diffusion"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recipes(recipes, tmp_path, interrupt)
    train_recipes(recipes, tmp_path, lines.append)
    assert lines[0] == "classifier: finished already"
    assert "step 3/3" in lines[-1]
    assert sorted(card.read_card(tmp_path)) == ["classifier", *sorted(network_names(recipes[1]))]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_changed_file_or_recipe_is_trained_again(tmp_path: Path) -> None:
    lines: list[str] = []
    train_recipes([recipe("classifier")], tmp_path, lines.append)
    digits.weight_path("classifier", tmp_path).write_bytes(b"damaged")
    train_recipes([recipe("classifier")], tmp_path, lines.append)
    train_recipes([recipe("classifier", steps=4)], tmp_path, lines.append)
    assert [line.split(",")[0] for line in lines] == [f"classifier: step {s}" for s in ("3/3", "3/3", "4/4")]


def test_the_shipped_training_has_nothing_left_to_do_and_knows_its_names() -> None:
    lines: list[str] = []
    train(digits.WEIGHTS, ["classifier"], lines.append)
    assert lines == ["classifier: finished already"]
    with pytest.raises(ValueError, match="no digits network is called 'gan'; allowed are diffusion"):
        train(digits.WEIGHTS, ["gan"], lines.append)
