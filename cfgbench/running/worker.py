"""What a worker process does: draw one block of a cell, keep its features, and score cells that are complete.

A worker runs one thread on a CPU: one process per core is faster than one process with several threads, and the bits
of a block then do not depend on the number of cores.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from cfgbench import machine
from cfgbench.assets.prompts import Prompts
from cfgbench.cell import Cell, ModelRef, canonical_json
from cfgbench.generation import execution, gallery, guidance, halving, health, noise, precision, sampling, sharing
from cfgbench.models import Configurable, Guided, Model, Prompted
from cfgbench.planning import encoder_refs
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.plan import Task
from cfgbench.references.sets import Asked, ReferenceSetRef
from cfgbench.registry import METHODS, MODELS, resolve
from cfgbench.running import passes, scoring
from cfgbench.store import Store


def ready() -> bool:
    """Set the arithmetic of a worker process up; the pool calls it before anything else."""
    torch.set_num_threads(1)
    return True


def draw_block(task: Task, start: int, folder: Path, device: str) -> int:
    """Draw samples start .. start + block size of a cell and write their block; returns how many."""
    store, indices = Store(folder), range(start, start + task.block_size)
    draw = partial(_draw, task, folder, device)
    parts, size = halving.in_batches(draw, indices, task.batch_size, forget_forks)
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    first = arrays.pop("first")
    if start == 0:
        gallery.write(store, task.cell.id, first)
    arrays["origin"] = np.array(task.origin)
    arrays["machine"] = np.array(machine.kind(device))
    if size < task.batch_size:
        arrays["batch_size"] = np.array(size)
    store.write_block(task.cell.id, start, arrays)
    return len(indices)


def score_cell(task: Task, folder: Path, device: str) -> bool:
    """Score a cell and write its record; False if a block turned out to be missing or damaged."""
    store = Store(folder)
    gallery.write_points(store, task.cell.id, task.starts)  # first: a cell with a record is never looked at again
    return scoring.score(task, store, device) is not None


def encode_reference(reference: ReferenceSetRef, asked: Asked, start: int) -> None:
    """Encode a part of a reference set, and keep it for all runs."""
    reference.prepare(asked, start)


def prepare(
    cell: Cell, labels: np.ndarray, device: str, batched: bool = False, prompts: Prompts | None = None
) -> sampling.Batch:
    """The batch of a cell for these labels (n,), or these prompts, its model loaded."""
    model = load_model(cell.model, cell.dtype, device, cell.execution)
    guided = "guide" in METHODS[cell.guidance.method].needs
    dtype = precision.TORCH[cell.dtype]
    default_state = torch.float64 if dtype == torch.float64 else torch.float32
    given = None if cell.diffusion is None else cell.diffusion.state_dtype
    state = precision.TORCH[given] if given else default_state
    labels_tensor = torch.from_numpy(labels).to(device)
    conditions = model.conditions(labels) if prompts is None else cast(Prompted, model).text_conditions(prompts)
    if guided and prompts is not None:
        conditions["guide"] = cast(Guided, model).guide_condition(prompts)
        model = cast(Guided, model).with_guide()
    return sampling.Batch(model, cell.diffusion, conditions, labels_tensor, dtype, state, batched)


def load_forks(cell: Cell, device: str) -> sharing.Forks:
    """What the cells of a model share; it stays in memory as long as the model."""
    return _forks(cell.model.name, canonical_json(cell.model.arguments), cell.dtype, cell.execution, device)


def forget_forks() -> None:
    """Free what cells share, as before memory is measured."""
    _forks.cache_clear()


def load_model(reference: ModelRef, dtype: str, device: str, how: str = "eager") -> Model:
    """A model in a dtype and execution, loaded once whatever its settings; the last two stay in memory."""
    schema = MODELS[reference.name].parameters
    settings = {name: value for name, value in reference.arguments.items() if schema[name].setting}
    rest = {name: value for name, value in reference.arguments.items() if name not in settings}
    model = _load(reference.name, canonical_json(rest), dtype, device, how)
    return cast(Configurable, model).configured(**settings) if settings else model


@lru_cache(maxsize=2)
def _load(name: str, parameters: str, dtype: str, device: str, how: str) -> Model:
    entry = MODELS[name]
    loaded_as = {"dtype": precision.TORCH[dtype]} if entry.prompted else {}  # in fp32 first they might not fit
    model: Model = resolve(entry.target)(**json.loads(parameters), device=device, **loaded_as)
    precision.apply(model.networks, dtype, getattr(model, "full_precision", ()))
    execution.apply(model.networks, how)
    return model


@lru_cache(maxsize=2)
def _forks(name: str, parameters: str, dtype: str, how: str, device: str) -> sharing.Forks:
    return sharing.Forks()


def redraw(
    cell: Cell, num_classes: int, indices: Sequence[int], device: str, prompts: Prompts | None = None
) -> np.ndarray:
    """The samples of a cell with these indices, in this order, as one batch; nothing is taken from other cells."""
    batch = prepare(cell, noise.labels(indices, num_classes), device, prompts=prompts)
    with precision.switches(cell.dtype):
        latents, _ = sampling.sample(batch, guidance.bind(cell.guidance), cell.seed, indices)
        return batch.model.decode(latents)


def redraw_features(
    cell: Cell,
    num_classes: int,
    indices: Sequence[int],
    device: str,
    prompts: Prompts | None,
    encoders: Sequence[EncoderRef],
) -> dict[str, np.ndarray]:
    """What a block keeps of the content of these samples: their hashes, and what metrics read of them."""
    samples = redraw(cell, num_classes, indices, device, prompts)
    asked = noise.labels(indices, num_classes) if prompts is None else np.array(prompts.texts)
    encoded = encoder_refs.encode(encoders, samples, asked, cell.model.parameters, device)
    return {"pixels": health.pixel_hashes(samples), **encoded}


def _draw(task: Task, folder: Path, device: str, indices: range) -> dict[str, np.ndarray]:
    """What a block keeps of these samples; `first` are those of them that the gallery shows."""
    cell = task.cell
    labels = task.labels(indices)
    prompts = task.batch_prompts(indices, folder)
    batch = prepare(cell, labels, device, prompts=prompts)
    batch = replace(batch, batched=passes.are_joint(task, batch, Store(folder), indices, device))
    with precision.switches(cell.dtype):
        latents, counts = sharing.sample(batch, cell, indices, load_forks(cell, device))
        samples = batch.model.decode(latents)
    return {
        **_encode(task, samples, labels if prompts is None else np.array(prompts.texts), device),
        **gallery.plane(samples),
        **health.examine(latents.float().cpu().numpy(), samples),
        "first": samples[: max(0, gallery.SIZE - indices.start)],
        "labels": labels,
        "pixels": health.pixel_hashes(samples),
        "nfe": np.full(len(labels), counts.nfe),
        "classifier_passes": np.full(len(labels), counts.classifier),
        "batched": np.full(len(labels), batch.batched),
    }


def _encode(task: Task, samples: np.ndarray, asked: np.ndarray, device: str) -> dict[str, np.ndarray]:
    """What metrics read of samples, given the class number or prompt (n,) of each; nothing without an encoder."""
    return encoder_refs.encode(task.encoders, samples, asked, task.cell.model.parameters, device)
