"""One thread, as in a worker, and fakes that several test files share."""

import numpy as np
import pytest
import torch

from cfgbench.cell import Diffusion
from cfgbench.generation import sampling
from cfgbench.models import Model
from cfgbench.registry import METHODS, MODELS, SAMPLERS

COMMON_SAMPLERS = [name for name, entry in SAMPLERS.items() if not entry.capabilities]  # those that suit every model

# Methods of diffusion that the digits serve; a guiding CLIP has tests of its own.
DIGITS_METHODS = [
    name
    for name, entry in METHODS.items()
    if "diffusion" in entry.families and set(entry.needs) <= set(MODELS["digits"].networks)
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make_batch(
    model: Model, sampler: str = "ddim", steps: int = 10, labels: np.ndarray | None = None, **fields: object
) -> sampling.Batch:
    """A batch of a model in fp64 (gaussians) or as `dtype`, `state_dtype`, `batched`, `eta` say."""
    labels = np.arange(12) % 3 if labels is None else labels
    eta = float(fields.pop("eta", 0.0))  # type: ignore[arg-type]
    settings: dict[str, object] = {"dtype": torch.float64, "state_dtype": torch.float64} | fields
    diffusion = Diffusion(sampler=sampler, steps=steps, eta=eta)
    conditions = model.conditions(labels)
    return sampling.Batch(model, diffusion, conditions, torch.from_numpy(labels), **settings)  # type: ignore[arg-type]
