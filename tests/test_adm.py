"""guided-diffusion: names, shapes and sizes as published, and the numbers of a second implementation of everything."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cfgbench import plugins
from cfgbench.assets import adm_layout
from cfgbench.assets.adm_layout import Architecture, Networks
from cfgbench.cell import Guidance
from cfgbench.errors import InputError
from cfgbench.generation import guidance, noise, precision, sampling
from cfgbench.models import adm
from cfgbench.models.adm_networks import Classifier, UNet
from cfgbench.planning import experiment, plan
from tests import adm_oracle
from tests.conftest import make_batch

SIZES = {64: (296, 65), 128: (422, 43), 256: (554, 54), 512: (559, 54)}  # millions: Dhariwal & Nichol 2021, table 11
TINY = {
    "split later": Architecture(
        image_size=16, channels=32, multipliers=(1, 2), blocks=1, attention=(8,), head_channels=32, classes=3
    ),
    "split first": Architecture(
        image_size=16,
        channels=64,
        multipliers=(0.5, 1, 1),
        blocks=2,
        attention=(8, 4),
        head_channels=None,
        heads=4,
        split_first=True,
        classes=3,
    ),
}
HEADS = {"split later": 2, "split first": 4}


def randomised(network: nn.Module) -> Any:
    """A network with every weight drawn at random, also those that start at zero."""
    generator = torch.Generator().manual_seed(0)
    for name, values in network.state_dict().items():
        fan_in = values[0].numel() if values.ndim > 1 else 1
        noise = torch.randn(values.shape, generator=generator)
        values.copy_(noise / fan_in**0.5 if values.ndim > 1 else 0.5 * noise + (name.endswith("weight")))
    return network.eval()


def tiny(name: str, classes: int | None = 3) -> Any:
    return randomised(UNet(TINY[name].model_copy(update={"classes": classes})))


@pytest.mark.parametrize("resolution", adm_layout.RESOLUTIONS)
def test_published_networks_have_their_published_sizes_and_shapes(resolution: int) -> None:
    described = adm_layout.published(resolution)
    unet, classifier = adm.build(UNet, described.diffusion), adm.build(Classifier, described.classifier)
    counts = [sum(values.numel() for values in network.parameters()) for network in (unet, classifier)]
    assert tuple(round(count / 1e6) for count in counts) == SIZES[resolution]
    x, timestep = torch.empty(2, 3, resolution, resolution, device="meta"), torch.empty(2, device="meta")
    assert unet(x, timestep, torch.zeros(2, dtype=torch.int64, device="meta")).shape == (2, 6, resolution, resolution)
    assert classifier(x, timestep).shape == (2, 1000)


def expected_keys(shape: Architecture, is_classifier: bool) -> set[str]:
    """The names in a published state dict, from the description of the networks."""
    layer = {
        "residual": ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"],
        "attention": ["norm", "qkv", "proj_out"],
        "plain": [""],
    }
    widths = [int(multiplier * shape.channels) for multiplier in shape.multipliers]
    places: list[tuple[str, str, bool]] = [("input_blocks.0.0", "plain", False)]  # place, kind, changes the width
    kept, width, number = [widths[0]], widths[0], 1
    for level, wide in enumerate(widths):
        has_attention = shape.image_size // 2**level in shape.attention
        for _ in range(shape.blocks):
            places.append((f"input_blocks.{number}.0", "residual", width != wide))
            places += [(f"input_blocks.{number}.1", "attention", False)] if has_attention else []
            width, number = wide, number + 1
            kept.append(wide)
        if level + 1 < len(widths):
            places.append((f"input_blocks.{number}.0", "residual", False))
            number += 1
            kept.append(wide)
    places += [(f"middle_block.{i}", kind, False) for i, kind in enumerate(("residual", "attention", "residual"))]
    for number in range(0 if is_classifier else len(kept)):
        level = len(widths) - 1 - number // (shape.blocks + 1)
        layers = ["residual"]
        layers += ["attention"] if shape.image_size // 2**level in shape.attention else []
        layers += ["residual"] if level and number % (shape.blocks + 1) == shape.blocks else []
        places += [
            (f"output_blocks.{number}.{i}", kind, i == 0 and kind == "residual") for i, kind in enumerate(layers)
        ]
    names = [f"{place}.{part}".rstrip(".") for place, kind, _ in places for part in layer[kind]]
    names += [f"{place}.skip_connection" for place, _, changes in places if changes]
    names += ["time_embed.0", "time_embed.2", "out.0"]
    names += ["out.2.qkv_proj", "out.2.c_proj"] if is_classifier else ["out.2"]
    extra = {"out.2.positional_embedding"} if is_classifier else {"label_emb.weight"}
    return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")} | extra


@pytest.mark.parametrize("resolution", adm_layout.RESOLUTIONS)
def test_every_name_of_the_published_state_dicts_has_its_place(resolution: int) -> None:
    described = adm_layout.published(resolution)
    assert described.classifier is not None
    assert set(adm.build(UNet, described.diffusion).state_dict()) == expected_keys(described.diffusion, False)
    assert set(adm.build(Classifier, described.classifier).state_dict()) == expected_keys(described.classifier, True)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_unet_equals_a_second_implementation(name: str, labelled: bool) -> None:
    network = tiny(name, 3 if labelled else None)
    x, timestep = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 871.5])
    label = torch.tensor([2, 0]) if labelled else None
    facts = adm_oracle.Facts(TINY[name].blocks, HEADS[name], TINY[name].split_first)
    theirs = adm_oracle.unet(network.state_dict(), facts, x, timestep, label)
    with torch.no_grad():
        torch.testing.assert_close(network(x, timestep, label), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_the_classifier_equals_a_second_implementation(name: str) -> None:
    shape = TINY[name].model_copy(update={"split_first": False})
    network = randomised(Classifier(shape))
    x, timestep = torch.randn(2, 3, 16, 16), torch.tensor([3.0, 871.5])
    theirs = adm_oracle.classifier(network.state_dict(), adm_oracle.Facts(shape.blocks, HEADS[name]), x, timestep)
    with torch.no_grad():
        torch.testing.assert_close(network(x, timestep), theirs, rtol=1e-4, atol=1e-4)


NAME = "split later"
FACTS = adm_oracle.Facts(TINY[NAME].blocks, HEADS[NAME])
LABELS = np.array([0, 2, 1])
SCALE = 2.5
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}  # fp32 errors of the noise are 157 times as large in the first clean image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks of one's own: diffusion with and without classes, and a classifier."""
    home = tmp_path_factory.mktemp("adm")
    shape = TINY[NAME]
    (home / "config.json").write_text(Networks(diffusion=shape, classifier=shape).model_dump_json())
    torch.save(tiny(NAME).state_dict(), home / "diffusion.pt")
    save_file(tiny(NAME, None).state_dict(), home / "diffusion_uncond.safetensors")
    save_file(randomised(Classifier(shape)).state_dict(), home / "classifier.safetensors")
    return home


def draw(model: Any, sampler: str, method: str, steps: int = 5, **parameters: object) -> tuple[Tensor, sampling.Counts]:
    batch = make_batch(model, sampler, steps, LABELS, dtype=torch.float32, state_dtype=torch.float64)
    guided = Guidance.model_construct(method=method, parameters=parameters)
    return sampling.sample(batch, guidance.bind(guided), 3, range(len(LABELS)))


class Paper:
    """Dhariwal & Nichol's two samplers with guidance, from state dicts: respaced betas, clipped clean images."""

    def __init__(self, model: Any, steps: int, spacing: str) -> None:
        self.unet, self.classifier = (model.networks[name].state_dict() for name in ("main", "classifier"))
        linspace = np.round(np.linspace(0, 999, steps)).astype(int)
        self.timesteps = linspace if spacing == "linspace" else np.arange(0, 1000, 1000 // steps)
        kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[self.timesteps]
        self.before = np.append(1.0, kept[:-1])
        self.alpha_bar, self.beta = kept, 1 - kept / self.before
        self.posterior = self.beta * (1 - self.before) / (1 - kept)

    def start(self) -> Tensor:
        return torch.from_numpy(noise.initial(3, range(len(LABELS)), (3, 16, 16)))

    def predict(self, x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """The clipped clean image, and the learned variance."""
        timestep = torch.full((len(x),), float(self.timesteps[i]))
        output = adm_oracle.unet(self.unet, FACTS, x.float(), timestep, torch.from_numpy(LABELS)).double()
        eps, v = output[:, :3], output[:, 3:]
        clean = (x - (1 - self.alpha_bar[i]) ** 0.5 * eps) / self.alpha_bar[i] ** 0.5
        smallest = np.log(self.posterior[max(i, 1)])
        log_variance = (v + 1) / 2 * np.log(self.beta[i]) + (1 - v) / 2 * smallest
        return clean.clamp(-1, 1), log_variance.exp()

    def gradient(self, x: Tensor, i: int) -> Tensor:
        x = x.float().requires_grad_(True)
        timestep = torch.full((len(x),), float(self.timesteps[i]))
        logits = adm_oracle.classifier(self.classifier, FACTS, x, timestep)
        chosen = logits.log_softmax(1)[range(len(LABELS)), LABELS].sum()
        return torch.autograd.grad(chosen, x)[0].double()

    def algorithm_1(self, scale: float) -> Tensor:
        x, fresh = self.start(), noise.StepNoise(3, range(len(LABELS)))
        for i in reversed(range(len(self.timesteps))):
            clean, variance = self.predict(x, i)
            to_clean = self.before[i] ** 0.5 * self.beta[i] / (1 - self.alpha_bar[i])
            to_x = (1 - self.beta[i]) ** 0.5 * (1 - self.before[i]) / (1 - self.alpha_bar[i])
            mean = to_clean * clean + to_x * x + scale * variance * self.gradient(x, i)
            x = mean + (variance.sqrt() * torch.from_numpy(fresh.draw((3, 16, 16))) if i else 0)
        return x

    def algorithm_2(self, scale: float) -> Tensor:
        x = self.start()
        for i in reversed(range(len(self.timesteps))):
            clean, _ = self.predict(x, i)
            spread = (1 - self.alpha_bar[i]) ** 0.5
            eps = (x - self.alpha_bar[i] ** 0.5 * clean) / spread - scale * spread * self.gradient(x, i)
            clean = (x - spread * eps) / self.alpha_bar[i] ** 0.5
            x = self.before[i] ** 0.5 * clean + (1 - self.before[i]) ** 0.5 * eps
        return x


@pytest.mark.parametrize("scale", [0.0, SCALE])
def test_the_ancestral_form_is_the_papers_first_algorithm_with_its_learned_variance(folder: Path, scale: float) -> None:
    model = adm.load(str(folder)).configured(timestep_spacing="linspace")
    method = (
        {"method": "classifier", "classifier_scale": scale, "form": "ancestral"} if scale else {"method": "unguided"}
    )
    ours, counts = draw(model, "ddpm_learned", **method)  # type: ignore[arg-type]
    assert counts == sampling.Counts(nfe=5, classifier=5 if scale else 0)
    torch.testing.assert_close(ours, Paper(model, 5, "linspace").algorithm_1(scale), **TOLERANCE)


@pytest.mark.parametrize("scale", [0.0, SCALE])
def test_the_form_for_other_samplers_is_the_papers_second_algorithm(folder: Path, scale: float) -> None:
    model = adm.load(str(folder)).configured(timestep_spacing="leading")
    ours, _ = draw(model, "ddim", "classifier", classifier_scale=scale)
    torch.testing.assert_close(ours, Paper(model, 5, "leading").algorithm_2(scale), **TOLERANCE)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "bf16_emulated"])
@pytest.mark.parametrize("form", ["eps", "ancestral"])
def test_in_half_precision_samples_are_nearly_those_in_full(folder: Path, dtype: str, form: str) -> None:
    def sample(dtype: str) -> Tensor:
        model = adm.load(str(folder), unconditional=True)
        precision.apply(model.networks, dtype)
        batch = make_batch(model, "ddpm_learned", 3, LABELS, dtype=precision.TORCH[dtype], state_dtype=torch.float32)
        guided = Guidance(method="classifier_uncond", parameters={"classifier_scale": SCALE, "form": form})
        return sampling.sample(batch, guidance.bind(guided), 3, range(len(LABELS)))[0]

    whole, half = sample("fp32"), sample(dtype)
    assert 0 < (whole - half).abs().mean() < 0.1


def test_the_last_step_adds_no_learned_noise_whatever_timestep_it_ends_at(folder: Path) -> None:
    model = adm.load(str(folder))  # trailing: the last of 2 timesteps is 499
    batch = make_batch(model, "ddpm_learned", 2, LABELS, dtype=torch.float32)
    trajectory = sampling.start(batch, 0, range(3))
    with torch.no_grad():
        sampling.advance(trajectory, batch, guidance.unguided, 1)
        step = sampling.Step(trajectory, batch)
        clean = step.denoised(step.predict("cond"))
        sampling.advance(trajectory, batch, guidance.unguided, 2)
    torch.testing.assert_close(trajectory.x, clean, rtol=0, atol=1e-5)


def test_cfg_takes_its_unconditional_prediction_from_the_network_without_classes(folder: Path) -> None:
    model = adm.load(str(folder), unconditional=True).configured(clip_denoised=False)
    batch = make_batch(model, "ddim", 4, LABELS, dtype=torch.float32, batched=True)
    step = sampling.Step(sampling.start(batch, 0, range(3)), batch)
    with torch.no_grad():
        cond, uncond = step.predict_all("cond", "uncond")
        x, timestep = step.x.float(), step.timestep.expand(3)
        theirs = adm_oracle.unet(model.networks["unconditional"].state_dict(), FACTS, x, timestep, None)
        labelled = adm_oracle.unet(model.networks["main"].state_dict(), FACTS, x, timestep, torch.from_numpy(LABELS))
    torch.testing.assert_close(uncond, theirs[:, :3].double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cond, labelled[:, :3].double(), rtol=1e-4, atol=1e-4)


def test_scale_one_is_conditional_zero_unconditional_and_the_first_step_affine_between_and_beyond(folder: Path) -> None:
    batch = make_batch(adm.load(str(folder), unconditional=True), "ddim", 4, LABELS, dtype=torch.float32)

    def first(method: str, **parameters: float) -> Tensor:
        guided = Guidance.model_construct(method=method, parameters=parameters)
        with torch.no_grad():
            return guidance.bind(guided)(sampling.Step(sampling.start(batch, 0, range(3)), batch))

    at = {scale: first("cfg", guidance_scale=scale) for scale in (0, 0.5, 1, 3)}
    torch.testing.assert_close(at[1], first("unguided"), rtol=0, atol=1e-12)
    torch.testing.assert_close(at[0], first("unconditional"), rtol=0, atol=1e-12)
    torch.testing.assert_close(at[3] - at[1], 4 * (at[1] - at[0.5]), rtol=1e-9, atol=1e-9)
    assert (at[0.5] - at[1]).abs().max() > 1e-4


def test_methods_that_disturb_attention_find_it(folder: Path) -> None:
    model = adm.load(str(folder))
    plain, _ = draw(model, "ddim", "unguided", 2)
    disturbed, counts = draw(model, "ddim", "pag", 2, pag_scale=1.0)
    assert counts.nfe == 4 and (plain - disturbed).abs().max() > 1e-3


def test_clipping_moves_the_predicted_clean_image_into_the_range_and_nothing_else() -> None:
    x, eps = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    sigma, signal = 2.0, 5**-0.5
    clean, moved = (x / signal - sigma * noise for noise in (eps, adm.clipped(eps, x, sigma)))
    torch.testing.assert_close(moved, clean.clamp(-1, 1))


def planned(path: Path, num_samples: int = 99, **axes: object) -> plan.Plan:
    """The plan of a sweep of `adm` with its parameters `resolution` and `unconditional` and the other axes."""
    model = {"name": "adm", "path": str(path)} | {key: axes.pop(key) for key in MODEL_KEYS if key in axes}
    sweep = {"model": model, "sampler": "ddpm_learned", "steps": 5, **axes}
    return plan.plan(experiment.parse({"name": "x", "num_samples": num_samples, "sweeps": [sweep]}, "x.yaml"))


MODEL_KEYS = ("resolution", "unconditional")
GUIDED: dict[str, Any] = {"method": "classifier", "classifier_scale": 1.0, "form": "ancestral"}


def test_an_own_folder_is_planned_with_its_classes_and_the_weights_it_consults(folder: Path) -> None:
    (guided,), (plain,) = planned(folder, **GUIDED).tasks, planned(folder, method="unguided").tasks
    assert guided.num_classes == 3 and guided.cell.guidance.parameters["form"] == "ancestral"
    assert guided.cell.model.digest != plain.cell.model.digest  # the classifier's weights are part of the one only


def test_published_files_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("128x128_diffusion.pt", "128x128_classifier.pt"):
        (tmp_path / name).write_bytes(name.encode())
    (task,) = planned(tmp_path, 50000, resolution=128, **GUIDED).tasks
    assert task.num_classes == 1000 and task.cell.model.parameters == {"resolution": 128}


def refused(path: Path, **axes: Any) -> str:
    with pytest.raises(InputError) as error:
        planned(path, **axes)
    return str(error.value)


def test_what_is_missing_is_named_with_where_to_get_it(folder: Path, tmp_path: Path) -> None:
    unguided = {"method": "unguided"}
    assert "256x256_diffusion.pt (or .safetensors) is missing; get it from https" in refused(
        tmp_path, resolution=256, **unguided
    )
    assert "say which published networks" in refused(tmp_path, **unguided)
    assert "there is no folder" in refused(tmp_path / "none", resolution=64, **unguided)
    assert "describes others" in refused(folder, resolution=64, **unguided)
    (tmp_path / "256x256_diffusion.pt").write_bytes(b"")
    assert "256x256_classifier.pt (or .safetensors) is missing" in refused(tmp_path, resolution=256, **GUIDED)
    assert "256x256_diffusion_uncond.pt" in refused(tmp_path, resolution=256, unconditional=True, **unguided)


def test_what_does_not_suit_is_refused_when_planning(folder: Path) -> None:
    assert "`unconditional: true` loads one" in refused(folder, method="cfg", guidance_scale=2)
    assert "ddim does not suit form = 'ancestral'" in refused(folder, **{**GUIDED, "sampler": "ddim"})
    assert planned(folder, method="cfg", guidance_scale=2, unconditional=True).tasks


def test_a_method_of_ones_own_that_never_asks_for_no_class_needs_no_network_for_it(
    folder: Path, tmp_path: Path
) -> None:
    lines = [
        "from cfgbench.plugins import declare",
        "@declare(passes=1{})",
        "def method(step):",
        "    return step.predict('cond')",
    ]
    for name, more in (("asks_for_it", ""), ("never_asks", ", unconditional=False")):
        (tmp_path / f"{name}.py").write_text("\n".join(lines).format(more))
    plugins.search(tmp_path)
    assert planned(folder, method="never_asks:method").tasks
    assert "`unconditional: true` loads one" in refused(folder, method="asks_for_it:method")
    plugins.search(folder)  # forgets them


@pytest.mark.parametrize("content", ['{"diffusion": {"image_size": 15}}', '{"diffusion": 3}', "[]", "{"])
def test_a_description_that_is_wrong_is_refused_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert str(tmp_path / "config.json") in refused(tmp_path, method="unguided")


def test_weights_of_another_network_and_pickles_of_code_are_refused(folder: Path, tmp_path: Path) -> None:
    network = adm.build(UNet, TINY["split first"])
    with pytest.raises(ValueError, match="does not hold the weights of this network"):
        adm.load_weights(network, folder / "diffusion.pt")
    torch.save({"run": print}, tmp_path / "diffusion.pt")
    with pytest.raises(ValueError, match=r"diffusion.pt is not a file of tensors alone, .*could run code"):
        adm.load_weights(network, tmp_path / "diffusion.pt")
