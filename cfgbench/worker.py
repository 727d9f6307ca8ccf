"""What a worker process does: draw one block of a cell, keep its features, and score cells that are complete.

A worker runs one thread on a CPU: one process per core is faster than one process with several threads, and the bits
of a block then do not depend on the number of cores.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from cfgbench import gallery, guidance, halving, health, noise, precision, sampling, scoring, sharing
from cfgbench.cell import Cell, ModelRef, canonical_json
from cfgbench.encoders import Encoded
from cfgbench.models import Model
from cfgbench.plan import Task
from cfgbench.registry import ENCODERS, MODELS, resolve
from cfgbench.store import Store


def ready() -> bool:
    """Set the arithmetic of a worker process up; the pool calls it before anything else."""
    torch.set_num_threads(1)
    return True


def draw_block(task: Task, start: int, folder: Path, device: str) -> int:
    """Draw samples start .. start + block size of a cell and write their block; returns how many."""
    store, indices = Store(folder), range(start, start + task.block_size)
    parts, size = halving.in_batches(lambda batch: _draw(task, batch, device), indices, task.batch_size, forget_forks)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first = arrays.pop("first")
    if start == 0:
        gallery.write(store, task.cell.id, first)
    arrays["origin"] = np.array(task.origin)
    if size < task.batch_size:
        arrays["batch_size"] = np.array(size)
    store.write_block(task.cell.id, start, arrays)
    return len(indices)


def score_cell(task: Task, folder: Path, device: str) -> bool:
    """Score a cell and write its record; False if a block turned out to be missing or damaged."""
    store = Store(folder)
    gallery.write_points(store, task.cell.id, task.starts)  # first: a cell with a record is never looked at again
    return scoring.score(task, store, device) is not None


def prepare(cell: Cell, labels: np.ndarray, device: str, batched: bool = False) -> sampling.Batch:
    """The batch of a cell for these labels (n,), its model loaded."""
    model = load_model(cell.model, cell.dtype, device)
    dtype = precision.TORCH[cell.dtype]
    default_state = torch.float64 if dtype == torch.float64 else torch.float32
    given = None if cell.diffusion is None else cell.diffusion.state_dtype
    state = precision.TORCH[given] if given else default_state
    labels_tensor = torch.from_numpy(labels).to(device)
    return sampling.Batch(model, cell.diffusion, model.conditions(labels), labels_tensor, dtype, state, batched)


def load_forks(reference: ModelRef, dtype: str, device: str) -> sharing.Forks:
    """What the cells of a model share; it stays in memory as long as the model."""
    return _forks(reference.name, canonical_json(reference.parameters), dtype, device)


def forget_forks() -> None:
    """Free what cells share, as before memory is measured."""
    _forks.cache_clear()


def load_model(reference: ModelRef, dtype: str, device: str) -> Model:
    """A model in a dtype, loaded once; the last two stay in memory."""
    return _load(reference.name, canonical_json(reference.parameters), dtype, device)


@lru_cache(maxsize=2)
def _load(name: str, parameters: str, dtype: str, device: str) -> Model:
    model: Model = resolve(MODELS[name].target)(**json.loads(parameters), device=device)
    precision.apply(model.networks, dtype)
    return model


@lru_cache(maxsize=2)
def _forks(name: str, parameters: str, dtype: str, device: str) -> sharing.Forks:
    return sharing.Forks()


def redraw(cell: Cell, num_classes: int, indices: Sequence[int], device: str) -> np.ndarray:
    """The samples of a cell with these indices, in this order, as one batch; nothing is taken from other cells."""
    batch = prepare(cell, noise.labels(indices, num_classes), device)
    with precision.switches(cell.dtype):
        latents, _ = sampling.sample(batch, guidance.bind(cell.guidance), cell.seed, indices)
        return batch.model.decode(latents)


def _draw(task: Task, indices: range, device: str) -> dict[str, np.ndarray]:
    """What a block keeps of these samples; `first` are those of them that the gallery shows."""
    cell = task.cell
    labels = noise.labels(indices, task.num_classes)
    batch = prepare(cell, labels, device)
    with precision.switches(cell.dtype):
        latents, counts = sharing.sample(batch, cell, indices, load_forks(cell.model, cell.dtype, device))
        samples = batch.model.decode(latents)
    encoded = _encode(task, samples, labels)
    return {
        **{name: value for name, value in encoded._asdict().items() if value is not None},
        **gallery.plane(samples),
        **health.examine(latents.float().cpu().numpy(), samples),
        "first": samples[: max(0, gallery.SIZE - indices.start)],
        "labels": labels,
        "pixels": health.pixel_hashes(samples),
        "nfe": np.full(len(labels), counts.nfe),
        "classifier_passes": np.full(len(labels), counts.classifier),
    }


def _encode(task: Task, samples: np.ndarray, labels: np.ndarray) -> Encoded:
    encoded: Encoded = resolve(ENCODERS[task.encoder].target)(samples, labels, task.cell.model.parameters)
    return encoded
