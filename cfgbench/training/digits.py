"""How the networks of the digits testbed were trained: `cfgbench train digits`, about eight minutes on one core.

Every network but "features" sees half A of the digits only. Batch sizes, rates and step counts were chosen on a
prototype by looking at FID against half B, so scores of the shipped models are mildly optimistic. Of a GAN only the
generator is kept; what its discriminator cost is in the card.
"""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cfgbench.generation import pixels
from cfgbench.models.digits_gan_networks import Discriminator, Generator
from cfgbench.models.digits_networks import DiffusionNet, FeatureNet, NoisyClassifier
from cfgbench.testbeds import digits_data as digits
from cfgbench.testbeds.digits_encoders import create_clip
from cfgbench.training import adversarial, card, digits_losses, loop
from cfgbench.training.adversarial import Adversarial
from cfgbench.training.loop import Loss, Optimisation, Progress, reproducible

VERSION = 1  # of the code that trains: raise it when a change there gives other weights
CLASSIFIER_TIMESTEPS = (0, 200, 400, 600, 800)  # where the noise-aware classifier's accuracy is recorded
LIBRARIES = ("torch", "numpy", "scikit-learn", "safetensors", "open_clip_torch")


@dataclass(frozen=True)
class Recipe:
    """One training run; a changed field is another recipe and trains anew."""

    name: str
    kind: str  # a key of BUILDERS, or "gan"
    optimisation: Optimisation | Adversarial
    half_a_only: bool = True
    p_uncond: float | None = None  # probability of training a sample without its label (diffusion)
    snapshots: tuple[int, ...] = ()  # steps whose averaged weights are kept too
    version: int = VERSION


class Training(NamedTuple):
    """A training that has not begun."""

    states: Iterator[Progress]  # one per step, made as they are asked for
    flops_per_step: int
    parameters: dict[str, int]  # by network; the first is the one that is kept


def train(output: Path, only: list[str] | None, progress: Callable[[str], None]) -> None:
    """Trains into `output` all runs, or those named in `only`, that are not finished there.

    Raises ValueError on an unknown name. Killed, it resumes with the run that was interrupted.
    """
    names = [recipe.name for recipe in RECIPES]
    unknown = [name for name in only or [] if name not in names]
    if unknown:
        raise ValueError(f"no digits network is called {unknown[0]!r}; allowed are {', '.join(names)}")
    train_recipes([recipe for recipe in RECIPES if only is None or recipe.name in only], output, progress)


def train_recipes(recipes: list[Recipe], output: Path, progress: Callable[[str], None]) -> None:
    """Runs the recipes in order, each unless its files are in `output` already."""
    output.mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        if card.finished(output, network_names(recipe), asdict(recipe)):
            progress(f"{recipe.name}: finished already")
        else:
            card.write_entries(output, _run(recipe, output, progress))


def network_names(recipe: Recipe) -> list[str]:
    """Names of all networks a run leaves behind."""
    return [*(digits.snapshot_name(recipe.name, step) for step in recipe.snapshots), recipe.name]


def evaluate(kind: str, network: nn.Module) -> dict[str, float]:
    """Accuracies of a classifying network on half B, by card key; none for a diffusion network."""
    images, labels = _tensors(digits.held_out_half())
    if kind == "classifier":
        accuracy = partial(digits_losses.classifier_accuracy, network, images, labels)
        return {f"held_out_accuracy_t{timestep}": accuracy(timestep) for timestep in CLASSIFIER_TIMESTEPS}
    measures = {"features": digits_losses.feature_accuracy, "clip": digits_losses.clip_accuracy}
    return {"held_out_accuracy": measures[kind](network, _quantised(images), labels)} if kind in measures else {}


def begin(recipe: Recipe) -> Training:
    """The training of a recipe; fresh weights come from torch's global generator (see `loop.reproducible`)."""
    data, how = _data(recipe), recipe.optimisation
    if isinstance(how, Adversarial):
        pair = adversarial.Pair(Generator(), Discriminator())
        flops, sizes = adversarial.flops_per_step(pair, data, how), dict(pair.named_children())
        return Training(adversarial.fit(pair, data, how), flops, {name: _size(part) for name, part in sizes.items()})
    network, loss = BUILDERS[recipe.kind](), _loss(recipe)
    flops = loop.flops_per_step(network, loss, data, how)
    return Training(loop.fit(network, loss, data, how), flops, {recipe.kind: _size(network)})


def _run(recipe: Recipe, output: Path, progress: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Trains one recipe, writes its files and returns their card entries."""
    how, kept, losses, entries = recipe.optimisation, (*recipe.snapshots, recipe.optimisation.steps), [], {}
    with reproducible(how.seed):
        training = begin(recipe)
        for state in training.states:
            losses.append(state.loss)
            if state.step in kept:
                entry = _save(recipe, state, output)
                recent = losses[-max(1, how.steps // 20) :]
                entries[Path(entry["file"]).stem] = entry | {
                    "flops": training.flops_per_step * state.step,
                    "final_loss": float(np.mean(recent)),
                    **{f"{name}_parameters": size for name, size in [*training.parameters.items()][1:]},
                }
            if state.step in kept or state.step % 100 == 0:
                progress(f"{recipe.name}: step {state.step}/{how.steps}, loss {state.loss:.4f}")
    return entries


def _save(recipe: Recipe, state: Progress, output: Path) -> dict[str, Any]:
    """Writes the network as it is now and returns its card entry."""
    how, final = recipe.optimisation, state.step == recipe.optimisation.steps
    path = digits.weight_path(recipe.name if final else digits.snapshot_name(recipe.name, state.step), output)
    weights = {name: tensor.contiguous() for name, tensor in state.network.state_dict().items()}
    card.write_atomically(path, lambda temporary: save_file(weights, temporary))
    entry = {
        "file": path.name,
        "sha256": card.file_hash(path),
        "bytes": path.stat().st_size,
        "parameters": _size(state.network),
        "steps": state.step,
        "images_seen": state.step * how.batch_size,
        "training_cpu_s": state.cpu_s,
        "seed": how.seed,
        "data": DATA_NOTES[recipe.half_a_only],
        "recipe": asdict(recipe),
        "recipe_hash": card.recipe_hash(asdict(recipe)),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    if recipe.p_uncond is not None:
        entry["p_uncond"] = recipe.p_uncond
    return entry | (evaluate(recipe.kind, state.network) if final and recipe.half_a_only else {})


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _loss(recipe: Recipe) -> Loss:
    if recipe.p_uncond is None:
        return LOSSES[recipe.kind]
    return partial(digits_losses.diffusion_loss, p_uncond=recipe.p_uncond)


def _data(recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Images and labels a recipe trains on; what scores images sees them quantised, as it will when it scores."""
    images, labels = _tensors(digits.train_half() if recipe.half_a_only else digits.all_digits())
    return (_quantised(images) if recipe.kind in ("features", "clip") else images), labels


def _tensors(data: digits.Digits) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.images), torch.from_numpy(data.labels)


def _quantised(images: Tensor) -> Tensor:
    return torch.from_numpy(pixels.from_uint8(pixels.to_uint8(images.numpy())))


def _diffusion_recipe(p_uncond: float, steps: int, seed: int, attention: bool = False) -> Recipe:
    name = digits.diffusion_name(p_uncond, steps, seed, attention)
    return Recipe(
        name,
        "attention" if attention else "diffusion",
        Optimisation(steps, batch_size=64, learning_rate=3e-3, averaged=True, seed=seed),
        p_uncond=p_uncond,
        snapshots=digits.SNAPSHOTS if name == digits.SNAPSHOT_OF else (),
    )


def _gan_recipe(seed: int) -> Recipe:
    rates = {"generator": 1e-3, "discriminator": 2e-3}
    how = Adversarial(digits.GAN_STEPS, 64, rates, latent_size=digits.LATENT_SIZE, seed=seed)
    return Recipe(digits.gan_name(seed), "gan", how)


DATA_NOTES = {
    True: "half A, 898 digits",
    False: "all 1797 digits, half B included, so none is held out; features-half-a is this recipe on half A",
}
BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "diffusion": DiffusionNet,
    "attention": partial(DiffusionNet, attention=True),
    "classifier": NoisyClassifier,
    "features": FeatureNet,
    "clip": create_clip,
}
LOSSES: dict[str, Loss] = {
    "diffusion": digits_losses.conditional_loss,
    "classifier": digits_losses.classifier_loss,
    "features": digits_losses.feature_loss,
    "clip": digits_losses.clip_loss,
}
_FEATURES = Optimisation(560, batch_size=128, learning_rate=3e-3, weight_decay=1e-2, warmup=0.3)
RECIPES = [
    _diffusion_recipe(0.1, 800, 0),
    Recipe(digits.CLASSIFIER, "classifier", Optimisation(1073, 256, learning_rate=2e-3, weight_decay=0.05)),
    Recipe(digits.FEATURES, "features", _FEATURES, half_a_only=False),
    Recipe(digits.FEATURES_HALF_A, "features", _FEATURES),
    Recipe(digits.CLIP, "clip", Optimisation(600, 128, learning_rate=1e-3, weight_decay=0.05)),
    _diffusion_recipe(0.1, 800, 0, attention=True),
    *(
        _diffusion_recipe(p_uncond, 800, seed)
        for p_uncond in (0.1, 0.2, 0.5)
        for seed in (0, 1, 2)
        if (p_uncond, seed) != (0.1, 0)
    ),
    *(_diffusion_recipe(0.1, 1600, seed) for seed in (0, 1, 2)),
    *(_gan_recipe(seed) for seed in digits.GAN_SEEDS),
]
