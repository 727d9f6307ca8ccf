"""The code to paste that makes a cell's samples: a diffusers call, or an experiment file for the testbeds.

diffusers builds a scheduler from a pipeline's own; the settings that make it ours are written out, since its classes
differ in their defaults.
"""

import json
import re
from collections.abc import Iterator

from cfgbench.cell import Cell, number
from cfgbench.registry import EXECUTIONS, METHODS, MODELS, SAMPLERS

TESTBEDS = ("gaussians", "digits")
# no one pipeline of diffusers draws the same: DiT's drops the variance, Kandinsky has two
NO_PIPELINE = ("adm", "cifar10", "dit", "unet2d", "kandinsky22")
_TORCH = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}
_FLOW = {"use_flow_sigmas": "True", "prediction_type": "'flow_prediction'"}
_AS_CHECKPOINT = {  # from_config would drop what the checkpoint leaves to its own scheduler's defaults
    "timestep_spacing": 'pipe.scheduler.config.get("timestep_spacing", "linspace")',
    "steps_offset": 'pipe.scheduler.config.get("steps_offset", 0)',
}
_SHIFT = 'pipe.scheduler.config.get("flow_shift") or pipe.scheduler.config.get("shift", 1.0)'  # one class has each
_EMBEDDED = MODELS["flux"].parameters["embedded_guidance"].default
_CALLED = ("height", "width", "negative_prompt")  # settings that are arguments of a pipeline's call
_UNCLIPPED = ("DDIMScheduler", "DDPMScheduler")  # clip samples unless told not to


def code(cell: Cell) -> str:
    """What to paste: the experiment of one cell and its scheduler, or the pipeline call; a comment where neither is."""
    if cell.made_elsewhere:
        scale = "" if cell.scale is None else f" at {METHODS[cell.guidance.method].scale} = {number(cell.scale)}"
        return f"# made elsewhere: run the tool that made these samples{scale}\n"
    if cell.one_pass or cell.model.name in NO_PIPELINE:
        return f"# recommended.yaml, for `cfgbench run recommended.yaml`\n{experiment_yaml(cell)}"
    if cell.model.name in TESTBEDS:
        name = _scheduler(cell)
        head = f"# recommended.yaml, for `cfgbench run recommended.yaml`\n{experiment_yaml(cell)}"
        return f"{head}\n# the same sampler in diffusers\nfrom diffusers import {name}\n\n{scheduler_line(cell)}\n"
    return pipeline_call(cell)


def experiment_yaml(cell: Cell) -> str:
    """An experiment file whose one cell this is."""
    axes: dict[str, object] = {"model": {"name": cell.model.name, **cell.model.arguments}}
    axes |= {"method": cell.guidance.method, **cell.guidance.parameters}
    interval = axes.get("interval")
    axes |= {"interval": {"sigma": list(interval)}} if isinstance(interval, tuple) else {}
    axes |= {} if cell.one_pass else {"sampler": cell.sampler.sampler, "steps": cell.sampler.steps}
    axes |= {"dtype": cell.dtype, "seed": cell.seed}
    axes |= {} if cell.execution == "eager" else {"execution": cell.execution}
    axes |= {"eta": cell.sampler.eta} if cell.diffusion and cell.diffusion.eta else {}
    axes |= {"state_dtype": cell.sampler.state_dtype} if cell.diffusion and cell.diffusion.state_dtype else {}
    first, *rest = (f"{key}: {_yaml(value)}" for key, value in axes.items())
    asked = [f"prompts: PROMPTS.txt  # the set {cell.prompts}"] if cell.prompts else []
    head = ["name: recommended", "num_samples: 2000", *asked, "sweeps:"]
    return "\n".join([*head, f"  - {first}", *(f"    {line}" for line in rest), ""])


def scheduler_line(cell: Cell) -> str:
    """The diffusers scheduler that is this cell's sampler, from a pipeline's own configuration."""
    name = _scheduler(cell)
    given = "".join(f", {key}={value}" for key, value in _settings(cell, name).items())
    return f"pipe.scheduler = {name}.from_config(pipe.scheduler.config{given})"


def _settings(cell: Cell, scheduler: str) -> dict[str, str]:
    """What a scheduler is told beside the pipeline's own configuration, as Python."""
    own = {key: repr(value) for key, value in SAMPLERS[cell.sampler.sampler].settings.items()}
    if _is_flow(cell):
        return {"shift": _SHIFT} if scheduler.startswith("FlowMatch") else {**_FLOW, "flow_shift": _SHIFT, **own}
    spacing = _AS_CHECKPOINT if cell.prompts else {"timestep_spacing": "'trailing'"}
    return {**spacing, **own} | ({"clip_sample": "False"} if scheduler in _UNCLIPPED else {})


def pipeline_call(cell: Cell) -> str:
    """A complete diffusers program; what its pipelines cannot do is said in comments."""
    dtype = cell.dtype.removesuffix("_emulated")
    lines = ["import torch", f"from diffusers import DiffusionPipeline, {_scheduler(cell)}", ""]
    lines += ["torch.backends.cuda.matmul.allow_tf32 = True"] if dtype == "tf32" else []
    place = cell.model.location
    named = "".join(f", {key}={json.dumps(place[key])}" for key in ("revision", "variant") if key in place)
    path = json.dumps(place.get("path", "MODEL"))
    lines.append(f"pipe = DiffusionPipeline.from_pretrained({path}{named}, torch_dtype=torch.{_TORCH[dtype]})")
    lines += [] if place else [f"# MODEL is what the experiment calls {cell.model.label}"]
    lines += [scheduler_line(cell), *_executed(cell), *_caveats(cell)]
    return "\n".join([*lines, f"images = pipe(PROMPTS, {_arguments(cell)}).images", ""])


def _executed(cell: Cell) -> list[str]:
    """How the network computes, where that is not as it is."""
    entry = EXECUTIONS[cell.execution]
    lines = ["network.to(memory_format=torch.channels_last)"] if entry.channels_last else []
    lines += [f'network.compile(mode="{entry.mode}", fullgraph=True)'] if entry.mode else []
    return ['network = pipe.unet if hasattr(pipe, "unet") else pipe.transformer', *lines] if lines else []


def _yaml(value: object) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return value if isinstance(value, str) and re.fullmatch(r"[a-z]\w+", value) else json.dumps(value)


def _scheduler(cell: Cell) -> str:
    entry = SAMPLERS[cell.sampler.sampler]
    return ((entry.flow if _is_flow(cell) else None) or entry.target).partition(":")[2]


def _is_flow(cell: Cell) -> bool:
    model = MODELS.get(cell.model.name)
    return model is not None and model.family == "flow"


def _arguments(cell: Cell) -> str:
    settings = {key: json.dumps(value) for key, value in cell.model.parameters.items() if key in _CALLED}
    scale = number(cell.guidance_scale)
    given = {"guidance_scale": scale}
    if cell.model.name == "flux":
        embedded = cell.model.parameters.get("embedded_guidance", _EMBEDDED)
        given = {"guidance_scale": number(embedded), "true_cfg_scale": scale, "negative_prompt": '""'}
    given |= settings
    given["num_inference_steps"] = str(cell.sampler.steps)
    if "rescale" in cell.guidance.parameters:
        given["guidance_rescale"] = number(cell.guidance.parameters["rescale"])
    given |= {"eta": number(cell.sampler.eta)} if cell.sampler.eta else {}
    return ", ".join(f"{key}={value}" for key, value in given.items())


def _caveats(cell: Cell) -> Iterator[str]:
    if "unconditional" in cell.model.parameters:
        yield f"# `unconditional: {cell.model.parameters['unconditional']}` needs negative_prompt_embeds"
    if cell.guidance.method not in ("cfg", "unguided"):
        yield f"# diffusers' pipelines have no {METHODS[cell.guidance.method].label}: this call leaves it out"
    elif cell.guidance_scale < 1:
        yield "# most of diffusers' pipelines switch guidance off at guidance_scale <= 1"
    if "interval" in cell.guidance.parameters:
        yield "# guide only at noise levels sigma in {}: needs a callback".format(cell.guidance.parameters["interval"])
    if "guided_channels" in cell.guidance.parameters:
        yield "# guide only the first {guided_channels} channels: diffusers guides all".format(
            **cell.guidance.parameters
        )
    if cell.dtype.endswith("_emulated"):
        yield f"# its quality was measured in emulated {cell.dtype.removesuffix('_emulated')}"
