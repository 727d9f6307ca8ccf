"""What the planner reads off the two checkpoints of Kandinsky 2.2, its prior and its decoder. No torch."""

from pathlib import Path
from typing import Any

from cfgbench.assets.layouts import KANDINSKY22, KANDINSKY22_PRIOR


def files(prior_path: str, **arguments: Any) -> dict[str, Path]:
    """Every file that the samples depend on; those of the prior are called so."""
    layout, found = KANDINSKY22_PRIOR, KANDINSKY22_PRIOR.open(prior_path, None, arguments.get("variant"))
    prior = {"model_index.json": found.require("model_index.json")}
    prior["scheduler"] = found.require("scheduler/scheduler_config.json")
    prior |= found.network_files(layout.denoiser) | layout.text_files(found)
    return KANDINSKY22.files(**arguments) | {f"main/prior/{name}": file for name, file in prior.items()}


def notes(prior_scale: float = 4.0, prior_steps: int = 25, **arguments: Any) -> list[str]:
    """What the settings stand for, and what is not counted."""
    found = KANDINSKY22.open(**arguments)
    height, width = KANDINSKY22.size(found, **arguments)
    return [
        f"kandinsky22 {Path(found.name).name}: {height} x {width} pixels; unconditional is a picture of zeros; "
        f"the prior at scale {prior_scale:g} in {prior_steps} steps, whose passes and seconds are not counted"
    ]
