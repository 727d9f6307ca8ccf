"""How a model of CIFAR-10 and its noise-aware classifier are trained: `cfgbench train cifar10`, on one GPU.

Both networks are ADM's at 32x32, the diffusion model with one label more, for none: CFG and classifier guidance then
meet on the same pictures. What comes out is a folder that the model `cifar10` reads.
"""

import importlib.metadata
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cfgbench.assets import adm_layout
from cfgbench.assets.adm_layout import Architecture, Networks
from cfgbench.models.adm_networks import Classifier, UNet
from cfgbench.training import card, cifar10_losses, pictures, resumable
from cfgbench.training.cifar10_losses import CLASSES
from cfgbench.training.loop import Optimisation
from cfgbench.training.pictures import Pictures
from cfgbench.training.resumable import Loss, Trainer

SIZE = 32
EVALUATED = (0, 200, 400, 600, 800)  # timesteps at which the classifier's accuracy is recorded
HELD_OUT = 1000  # pictures of the test split that it is recorded on
SAVE_EVERY_S = 60.0  # seconds that a kill may cost
VERSION = 1  # of the code that trains: raise it when a change there gives other weights
LIBRARIES = ("torch", "numpy", "safetensors")

SHAPES = {
    "diffusion": Architecture(
        image_size=SIZE,
        channels=96,
        multipliers=(1, 2, 2, 2),
        blocks=2,
        attention=(16,),
        head_channels=32,
        classes=CLASSES,
        null_label=True,
        learned_variance=False,
        dropout=0.1,
    ),
    "classifier": Architecture(
        image_size=SIZE,
        channels=64,
        multipliers=(1, 2, 2, 2),
        blocks=1,
        attention=(16, 8),
        head_channels=32,
        classes=CLASSES,
    ),
}


@dataclass(frozen=True)
class Recipe:
    """The training of one network; a changed field is another recipe."""

    name: str  # diffusion | classifier
    shape: dict[str, Any]  # of an Architecture
    optimisation: Optimisation
    data: str  # digest of the pictures
    version: int = VERSION

    @property
    def digest(self) -> str:
        """Names the recipe."""
        return card.recipe_hash(asdict(self))


class Sizes(NamedTuple):
    """What a user may change of the recipes; None is the recipe's own."""

    steps: int | None = None  # of the diffusion model; the classifier takes a quarter
    width: int | None = None  # channels of the diffusion model; the classifier has two thirds, in whole 32s
    batch_size: int | None = None


UNCHANGED = Sizes()


class Run(NamedTuple):
    """Where a training reads and writes, and on what it runs."""

    data: Path
    output: Path
    device: torch.device
    save_every_s: float = SAVE_EVERY_S


def train(run: Run, sizes: Sizes, only: list[str] | None, progress: Callable[[str], None]) -> None:
    """Train both networks, or those named in `only`, that are not finished in the output folder.

    Killed, it goes on from the last saved step when it is run again. Raises ValueError for data that cannot be read, an
    unknown name, and a folder that holds other networks.
    """
    unknown = [name for name in only or [] if name not in BUILDERS]
    if unknown:
        raise ValueError(f"no network of cifar10 is called {unknown[0]!r}; allowed are {', '.join(BUILDERS)}")
    data = pictures.read(run.data, "train", CLASSES, SIZE)
    recipes = recipes_of(data, sizes)
    run.output.mkdir(parents=True, exist_ok=True)
    _describe(recipes, run.output)
    progress(f"{len(data.labels):,} pictures ({data.digest}), on {run.device}")
    for name in only or BUILDERS:
        if card.finished(run.output, [name], asdict(recipes[name])):
            progress(f"{name}: finished already")
        else:
            card.write_entries(run.output, {name: _run(recipes[name], data, run, progress)})


def recipes_of(data: Pictures, sizes: Sizes = UNCHANGED) -> dict[str, Recipe]:
    """The recipes of both networks, by name."""
    diffusion = Optimisation(20_000, 256, learning_rate=4e-4, warmup=0.025, averaged=True)
    classifier = Optimisation(5_000, 256, learning_rate=6e-4, weight_decay=0.05, averaged=True)
    shapes = SHAPES
    if sizes.width is not None:
        widths = {"diffusion": sizes.width, "classifier": max(32, sizes.width * 2 // 3 // 32 * 32)}
        shapes = {
            name: Architecture(**{**shape.model_dump(), "channels": widths[name]}) for name, shape in shapes.items()
        }
    if sizes.steps is not None:
        diffusion = replace(diffusion, steps=sizes.steps)
        classifier = replace(classifier, steps=max(1, sizes.steps // 4))
    if sizes.batch_size is not None:
        diffusion, classifier = (replace(how, batch_size=sizes.batch_size) for how in (diffusion, classifier))
    hows = {"diffusion": diffusion, "classifier": classifier}
    return {name: Recipe(name, shape.model_dump(), hows[name], data.digest) for name, shape in shapes.items()}


def _run(recipe: Recipe, data: Pictures, run: Run, progress: Callable[[str], None]) -> dict[str, Any]:
    """Train one network, write its file and return its card entry."""
    file = run.output / f".{recipe.name}.training.safetensors"
    trainer = Trainer(_fresh(recipe, run.device), recipe.optimisation, file, recipe.digest)
    if trainer.step:
        progress(f"{recipe.name}: goes on after step {trainer.step}")
    steps, losses = recipe.optimisation.steps, []
    for state in resumable.fit(trainer, LOSSES[recipe.name], _tensors(data, run.device), run.save_every_s):
        losses.append(state.loss)
        if state.step % 100 == 0 or state.step == steps:
            recent = float(torch.stack(losses).mean())
            losses = []
            progress(f"{recipe.name}: step {state.step}/{steps}, loss {recent:.4f}, {state.seconds:.0f} s")
    entry = _save(recipe, trainer, run)
    file.unlink(missing_ok=True)
    return entry


def _fresh(recipe: Recipe, device: torch.device) -> nn.Module:
    """The network with its first weights, the same on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.optimisation.seed)
        network = BUILDERS[recipe.name](Architecture(**recipe.shape))
    return network.to(device).to(memory_format=torch.channels_last) if device.type == "cuda" else network


def _save(recipe: Recipe, trained: Trainer, run: Run) -> dict[str, Any]:
    """Write the averaged network, and return its card entry."""
    path = run.output / f"{recipe.name}.safetensors"
    weights = {name: values.cpu().contiguous() for name, values in trained.average.state_dict().items()}
    card.write_atomically(path, lambda temporary: save_file(weights, temporary))
    entry = {
        "file": path.name,
        "sha256": card.file_hash(path),
        "bytes": path.stat().st_size,
        "parameters": sum(values.numel() for values in trained.average.parameters()),
        "steps": trained.step,
        "images_seen": trained.step * recipe.optimisation.batch_size,
        "training_s": trained.seconds,
        "device": torch.cuda.get_device_name(run.device)
        if run.device.type == "cuda"
        else platform.processor() or "cpu",
        "recipe": asdict(recipe),
        "recipe_hash": recipe.digest,
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }
    return entry | (_evaluation(trained.average, run) if recipe.name == "classifier" else {})


def _evaluation(network: nn.Module, run: Run) -> dict[str, float]:
    """Accuracies of the classifier on the test pictures, where there are some."""
    if not pictures.has_split(run.data, "test"):
        return {}
    test = pictures.read(run.data, "test", CLASSES, SIZE)
    images, labels = _tensors(Pictures(test.images[:HELD_OUT], test.labels[:HELD_OUT]), run.device)
    accuracies = {t: cifar10_losses.accuracy(network, images, labels, t) for t in EVALUATED}
    return {"held_out_pictures": len(labels)} | {f"held_out_accuracy_t{t}": value for t, value in accuracies.items()}


def _describe(recipes: dict[str, Recipe], output: Path) -> None:
    """Write what the networks look like; ValueError where the folder holds others."""
    shapes = {name: Architecture(**recipe.shape) for name, recipe in recipes.items()}
    text = json.dumps(Networks(**shapes).model_dump(mode="json"), indent=2) + "\n"
    file = output / adm_layout.CONFIG
    if file.exists() and file.read_text() != text:
        raise ValueError(f"{file} describes networks of other sizes; train into another folder")
    card.write_atomically(file, lambda path: path.write_text(text))


def _tensors(data: Pictures, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(data.images).to(device), torch.from_numpy(data.labels).to(device)


BUILDERS: dict[str, Callable[[Architecture], nn.Module]] = {"diffusion": UNet, "classifier": Classifier}
LOSSES: dict[str, Loss] = {
    "diffusion": cifar10_losses.diffusion_loss,
    "classifier": cifar10_losses.classifier_loss,
}
