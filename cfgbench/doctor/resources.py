"""Device, memory and disk: what there is, and what an experiment will take."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from cfgbench import machine
from cfgbench.assets import checkpoints, shapes
from cfgbench.assets.shapes import Shape
from cfgbench.assets.weight_files import weight_files
from cfgbench.cell import Cell
from cfgbench.doctor.items import MISSING, OK, Item
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.plan import Plan, Task

BYTES = {"fp64": 8, "bf16": 2, "fp16": 2}  # of a weight; others have 4
SAMPLE_BYTES = {"features": 8192, "log_probs": 4032, "features_dinov2": 4096, "features_clip": 3072}  # as usual
SMALL, STRIP = 1000, 50_000  # bytes of a sample's features by the encoder of a testbed, and of a cell's first samples


def device(name: str) -> Item:
    """What the cells are drawn on."""
    ram = machine.memory_bytes() / 1e9
    if name == "cpu":
        return Item(OK, "device", f"cpu: {machine.cores()} cores, {ram:.0f} GB of memory")
    return Item(OK, "device", f"{machine.device_name(name)}; {machine.cuda_devices()} visible, {ram:.0f} GB of memory")


def work(plan: Plan) -> str:
    """Cells, images and network passes."""
    images = sum(task.num_samples for task in plan.tasks)
    passes = sum(task.num_samples * task.cell.evaluations for task in plan.tasks)
    classifier = sum(task.num_samples * task.cell.classifier_evaluations for task in plan.tasks)
    extra = f" and {classifier:,} of a classifier" if classifier else ""
    return f"{len(plan.tasks)} cells, {images:,} images, at most {passes:,} network passes{extra}"


def memory(plan: Plan, device: str, without_text: bool = False) -> Item:
    """What the largest model's weights take; activations come on top, and text encoders whose weights are missing."""
    need = max(_weight_bytes(task.cell) for task in plan.tasks)
    have = _free_bytes(device)
    largest = max(plan.tasks, key=lambda task: _weight_bytes(task.cell)).cell
    texts = " and text encoders" if without_text else ""
    text = f"weights take {need / 1e9:.1f} GB in {largest.dtype}; activations{texts} come on top"
    return Item(OK if need < have else MISSING, "memory", f"{text}, not estimated; {have / 1e9:.1f} GB are there")


def disk(plan: Plan, encoders: Sequence[EncoderRef], folder: Path) -> Item:
    """What features, samples and encodings of prompts in the results folder may take."""
    samples = sum(task.num_samples * sum(map(_feature_bytes, encoders or task.encoders)) + STRIP for task in plan.tasks)
    encoded, unknown = _encoding_bytes(plan.tasks)
    need = samples + encoded
    home = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    free = shutil.disk_usage(home).free
    text = f"results take up to about {max(need / 1e9, 0.01):.2f} GB"
    text += f", {encoded / 1e9:.2f} of them encodings of prompts" if encoded else ""
    text += f", encodings of prompts of {', '.join(unknown)} not counted" if unknown else ""
    return Item(OK if need < free else MISSING, "disk", f"{text}; {free / 1e9:.0f} GB are free at {home}")


def shape_of(cell: Cell) -> Shape | None:
    """The published shape of a cell's model, by its name or that of its repository; None where there is none."""
    path = str(cell.model.location.get("path"))
    return shapes.find(path) if shapes.is_random(path) else shapes.of_repository(path)


def _encoding_bytes(tasks: Sequence[Task]) -> tuple[int, list[str]]:
    """Of the prompts of every model in every dtype, and models of whose encodings the size is not known."""
    prompted = {f"{task.cell.model.location} {task.cell.dtype}": task for task in tasks if task.prompts is not None}
    total, unknown = 0, []
    for task in prompted.values():
        shape = shape_of(task.cell) or shapes.of_family(task.cell.model.name)
        if shape is None:
            unknown.append(task.cell.model.name)
        else:
            size = sum(map(math.prod, shape.encoding.values())) * BYTES.get(task.cell.dtype, 4)
            total += size * (min(len(task.prompts or ()), task.num_samples) + 1)  # and the one that says nothing
    return total, sorted(set(unknown))


def _feature_bytes(encoder: EncoderRef) -> int:
    """What an encoder's output takes of each sample."""
    if not encoder.entry.on_device:
        return SMALL
    return sum(SAMPLE_BYTES.get(name, 8) for name in encoder.entry.provides)


def _weight_bytes(cell: Cell) -> int:
    """Of the networks that a cell's method consults, as they are in memory; of a shape, as it is published."""
    path = str(cell.model.location.get("path"))
    if shapes.is_random(path):
        costs = shapes.find(path).costs
        return (costs.parameters + costs.autoencoder_parameters) * BYTES.get(cell.dtype, 4)
    files = weight_files(cell.model.name, cell.model.arguments, cell.guidance.method)
    return sum(_elements(file) for file in set(files.values())) * BYTES.get(cell.dtype, 4)


def _elements(file: Path) -> int:
    """How many numbers a weight file holds; those of a pickle are taken to have four bytes."""
    if file.suffix == ".safetensors":
        return checkpoints.elements(file)
    return file.stat().st_size // 4 if file.suffix in (".pt", ".pth", ".bin") else 0


def _free_bytes(device: str) -> int:
    if device == "cpu":
        return machine.memory_bytes()
    import torch

    return int(torch.cuda.mem_get_info(device)[1])
