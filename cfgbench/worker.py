"""What a worker process does: draw one block of a cell, keep its features, and score cells that are complete.

A worker runs one thread on a CPU: one process per core is faster than one process with several threads, and the bits
of a block then do not depend on the number of cores.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch

from cfgbench import gallery, guidance, health, precision, sampling, scoring
from cfgbench.cell import Cell, ModelRef, canonical_json
from cfgbench.encoders import Encoded
from cfgbench.models import Configurable, Model, Prompted
from cfgbench.plan import Task
from cfgbench.prompts import Prompts
from cfgbench.registry import ENCODERS, MODELS, resolve
from cfgbench.store import Store


def ready() -> bool:
    """Set the arithmetic of a worker process up; the pool calls it before anything else."""
    torch.set_num_threads(1)
    return True


def draw_block(task: Task, start: int, folder: Path, device: str) -> int:
    """Draw samples start .. start + block size of a cell and write their block; returns how many."""
    indices = range(start, start + task.block_size)
    parts = [
        _draw(task, indices[first : first + task.batch_size], folder, device)
        for first in range(0, len(indices), task.batch_size)
    ]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["origin"] = np.array(task.origin)
    Store(folder).write_block(task.cell.id, start, arrays)
    return len(indices)


def score_cell(task: Task, folder: Path, device: str) -> bool:
    """Score a cell and write its record; False if a block turned out to be missing or damaged."""
    store = Store(folder)
    gallery.write_points(store, task.cell.id, task.starts)  # first: a cell with a record is never looked at again
    return scoring.score(task, store, device) is not None


def prepare(
    cell: Cell, labels: np.ndarray, device: str, batched: bool = False, prompts: Prompts | None = None
) -> sampling.Batch:
    """The batch of a cell for these labels (n,), or these prompts, its model loaded."""
    model = load_model(cell.model, cell.dtype, device)
    dtype = precision.TORCH[cell.dtype]
    default_state = torch.float64 if dtype == torch.float64 else torch.float32
    state = precision.TORCH[cell.sampler.state_dtype] if cell.sampler.state_dtype else default_state
    labels_tensor = torch.from_numpy(labels).to(device)
    conditions = model.conditions(labels) if prompts is None else cast(Prompted, model).text_conditions(prompts)
    return sampling.Batch(model, cell.sampler, conditions, labels_tensor, dtype, state, batched)


def load_model(reference: ModelRef, dtype: str, device: str) -> Model:
    """A model in a dtype, loaded once whatever its settings; the last two stay in memory."""
    schema = MODELS[reference.name].parameters
    settings = {name: value for name, value in reference.parameters.items() if schema[name].setting}
    rest = {name: value for name, value in reference.arguments.items() if name not in settings}
    model = _load(reference.name, canonical_json(rest), dtype, device)
    return cast(Configurable, model).configured(**settings) if settings else model


@lru_cache(maxsize=2)
def _load(name: str, parameters: str, dtype: str, device: str) -> Model:
    entry = MODELS[name]
    loaded_as = {"dtype": precision.TORCH[dtype]} if entry.prompted else {}  # in fp32 first they might not fit
    model: Model = resolve(entry.target)(**json.loads(parameters), device=device, **loaded_as)
    precision.apply(model.networks, dtype, getattr(model, "full_precision", ()))
    return model


def _draw(task: Task, indices: range, folder: Path, device: str) -> dict[str, np.ndarray]:
    cell = task.cell
    labels = task.labels(indices)
    prompts = task.batch_prompts(indices, folder)
    batch = prepare(cell, labels, device, prompts=prompts)
    with precision.switches(cell.dtype):
        latents, counts = sampling.sample(batch, guidance.bind(cell.guidance), cell.seed, indices)
        samples = batch.model.decode(latents)
    if indices.start == 0:
        gallery.write(Store(folder), cell.id, samples)
    return {
        **_encode(task, samples, labels if prompts is None else np.array(prompts.texts)),
        **gallery.plane(samples),
        **health.examine(latents.float().cpu().numpy(), samples),
        "labels": labels,
        "pixels": health.pixel_hashes(samples),
        "nfe": np.full(len(labels), counts.nfe),
        "classifier_passes": np.full(len(labels), counts.classifier),
    }


def _encode(task: Task, samples: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
    """What metrics read of samples, given the class number or prompt (n,) of each; nothing without an encoder."""
    if task.encoder is None:
        return {}
    encoded: Encoded = resolve(ENCODERS[task.encoder].target)(samples, asked, task.cell.model.parameters)
    return {name: value for name, value in encoded._asdict().items() if value is not None}
