"""What the planner reads off any checkpoint in diffusers' layout that is run by its own pipeline. No torch."""

from pathlib import Path
from typing import Any

from cfgbench.assets import checkpoints


def files(path: str, revision: str | None = None, variant: str | None = None, **_: object) -> dict[str, Path]:
    """Every file of the parts that the index names."""
    found = checkpoints.locate(path, revision, variant)
    named = {"model_index.json": found.require("model_index.json")}
    for part in found.parts():
        is_network = (found.folder / part / "config.json").exists()
        named |= found.network_files(part) if is_network else found.tokenizer_files(part)
    return {f"main/{name}": file for name, file in named.items()}


def notes(path: str, revision: str | None = None, variant: str | None = None, **settings: Any) -> list[str]:
    """What is left to the pipeline."""
    name = checkpoints.locate(path, revision, variant).index().get("_class_name")
    steps = settings["num_inference_steps"]
    return [
        f"pipeline: {name} runs its own loop of {steps} steps, with its own scheduler, size and meaning of guidance"
    ]
