"""What is known of how a cell's samples were made, settings that were left out included. Imports no torch."""

from typing import Any

from cfgbench.assets.checkpoints import is_repository
from cfgbench.cell import Cell
from cfgbench.registry import METHODS, MODELS, resolve

NONE = "none"  # what a setting is that is off or left out
_TRAINED_ON = {  # models, and repositories on the hub, whose training set is known by their name
    "gaussians": "gaussians",
    "digits": "digits",
    "digits_gan": "digits",
    "cifar10": "CIFAR-10",
    "facebook/DiT-XL-2-256": "ImageNet",
    "facebook/DiT-XL-2-512": "ImageNet",
}


def facts(cell: Cell, num_samples: int) -> dict[str, Any]:
    """By name; what is not known is left out, as are settings of other methods and models."""
    if cell.made_elsewhere:  # what was not said of them may have been anything
        return {"num_samples": num_samples, "method": cell.guidance.method, **cell.guidance.parameters}
    known: dict[str, Any] = {"num_samples": num_samples, "dtype": cell.dtype, "method": cell.guidance.method}
    if cell.guidance.method in METHODS:
        known |= {key: item.default for key, item in METHODS[cell.guidance.method].parameters.items()}
        known |= {"guidance_scale": cell.guidance_scale}
    if cell.model.name in MODELS:
        known |= _of_model(cell)
    known |= {**cell.model.parameters, **cell.guidance.parameters}
    if cell.diffusion is not None:
        known |= {"sampler": cell.diffusion.sampler, "steps": cell.diffusion.steps, "eta": cell.diffusion.eta}
    return {key: NONE if value is None else value for key, value in known.items()}


def _of_model(cell: Cell) -> dict[str, Any]:
    """Its name, its settings, where its weights come from, what they were trained on, and the size of its pictures."""
    schema = MODELS[cell.model.name].parameters
    known: dict[str, Any] = {key: item.default for key, item in schema.items() if not item.location}
    known |= {"model": cell.model.name}
    sides = [key for key in ("height", "width") if key in known]
    known = {key: value for key, value in known.items() if key not in sides} | _size(cell)
    path = cell.model.location.get("path")
    if path is not None:
        known |= {"path": path if is_repository(path) else f"folder {path}"}
        known |= {"revision": cell.model.location.get("revision")}
    trained = _TRAINED_ON.get(cell.model.name) or _TRAINED_ON.get(path or "")
    if cell.model.name == "adm" and cell.model.parameters.get("resolution"):
        trained = "ImageNet"  # all that was published by a resolution
    return known | ({} if trained is None else {"training_set": trained})


def _size(cell: Cell) -> dict[str, int]:
    """Height and width, where the model says them or its files are here."""
    target = MODELS[cell.model.name].size
    try:
        sides = resolve(target)(**cell.model.arguments) if target else None
    except (ValueError, TypeError):  # the files are on another machine, or the record does not say where they are
        return {}
    return {} if sides is None else dict(zip(("height", "width"), sides, strict=True))
