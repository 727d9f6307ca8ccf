"""Experiment -> Plan: the cells of every grid, canonical, each once, the model varying slowest. Imports no torch.

Settings that amount to a cheaper method become that method (s = 1 is `unguided`, s = 0 `unconditional`), so every
curve shares one unguided cell and a scale that is off costs one pass.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cfgbench.assets import prompts
from cfgbench.assets.prompts import Prompts, PromptSet
from cfgbench.cell import Cell, Diffusion, Guidance, canonical_json, digest
from cfgbench.entries import Model, Parameter
from cfgbench.errors import InputError, unknown
from cfgbench.generation import noise
from cfgbench.planning import axes, encoder_refs, model_refs, protocols, suitability
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.experiment import Budget, Experiment
from cfgbench.planning.score_requests import ScoreRequest, requests
from cfgbench.references import sets
from cfgbench.references.sets import Asked, ReferenceSetRef
from cfgbench.registry import METHODS, METRICS, MODELS, SAMPLERS, resolve

NUM_GROUPS = 20  # statistical groups of the delete-group jackknife
BLOCK = 100  # samples in a storage block and in a batch, unless the experiment has larger batches
PROMPT_BLOCK = NUM_GROUPS  # of images, which are expensive
ENCODINGS = "encodings"  # of prompts, in a results folder
MAX_CELLS = 100_000
FEW = 5  # samples for each dimension of features, below which a distance of moments tells little
SAMPLING = {"sampler", "steps", "eta", "state_dtype"}  # axes that a generator of one pass has no use for


@dataclass(frozen=True)
class Task:
    """A cell with what is asked of it."""

    cell: Cell
    num_samples: int
    num_classes: int  # samples in a row that share a statistical group: a round of labels
    block_size: int  # samples per storage block: a whole number of label rounds
    batch_size: int
    encoders: tuple[EncoderRef, ...]
    reference: ReferenceSetRef | None
    scores: tuple[ScoreRequest, ...]
    prompts: PromptSet | None = None
    looks: tuple[int, ...] = ()  # of an adaptive sweep: the sample counts at which scales are compared
    passes: str = "sequential"  # the predictions of a guided step: sequential | batched | measured

    def asks(self, score: ScoreRequest, device: str) -> Asked | None:
        """What one of its scores asks of the reference set, if it is against one."""
        metric = METRICS[score.metric]
        encoder = encoder_refs.provider(self.encoders, metric.needs)
        if score.half is None or self.reference is None or encoder is None:
            return None
        parameters = self.cell.model.parameters if MODELS[self.cell.model.name].files is None else {}
        return sets.ask(self.reference, score.half, metric, encoder, canonical_json(parameters), device)

    @property
    def is_compared(self) -> bool:
        """Whether a score is against the reference."""
        return any(score.half is not None for score in self.scores)

    @property
    def starts(self) -> range:
        """First sample index of each block."""
        return range(0, self.num_samples, self.block_size)

    @property
    def origin(self) -> str:
        """Names what a block's content depends on beside its cell and its first sample."""
        drawn = [self.block_size, self.batch_size, [encoder.digest for encoder in self.encoders]]
        return digest(drawn if self.passes == "sequential" else [*drawn, self.passes])

    def labels(self, indices: Sequence[int]) -> np.ndarray:
        """Number of the class or prompt of samples (n,)."""
        return noise.labels(indices, len(self.prompts) if self.prompts else self.num_classes)

    def batch_prompts(self, indices: Sequence[int], folder: Path) -> Prompts | None:
        """The prompts of samples, their encodings kept in a results folder; None where there are none."""
        if self.prompts is None:
            return None
        texts = self.prompts.texts
        batch = tuple(texts[number] for number in self.labels(indices))
        return Prompts(batch, texts[: self.num_samples], folder / ENCODINGS, self.cell.seed, tuple(indices))

    @property
    def digest(self) -> str:
        """Names what a finished record must contain to need no further work."""
        scores = [[score.column, score.identity] for score in self.scores]
        asked = [self.cell.id, self.num_samples, self.block_size, self.batch_size, scores]
        more = [self.looks] if self.looks else []
        return digest([*asked, *more] if self.passes == "sequential" else [*asked, *more, self.passes])


@dataclass(frozen=True)
class Plan:
    """What a run will do, in order."""

    experiment: Experiment
    tasks: tuple[Task, ...]
    notes: tuple[str, ...]  # conversions and warnings to print


def plan(experiment: Experiment) -> Plan:
    """All cells of an experiment; raises InputError for anything that could not run."""
    notes: list[str] = []
    cells: dict[str, Cell] = {}
    for index, sweep in enumerate(experiment.sweeps):
        for cell in _grid(experiment, index, sweep, notes):
            cells.setdefault(cell.id, cell)
    models = list(dict.fromkeys(cell.model.label for cell in cells.values()))
    ordered = sorted(cells.values(), key=lambda cell: models.index(cell.model.label))
    tasks = tuple(_task(experiment, cell) for cell in ordered)
    _check_columns(tasks, experiment.source)
    if experiment.prompts is not None:
        notes.append(_prompt_note(tasks, experiment))
    for task in tasks:
        notes.extend(task.reference.notes if task.reference is not None and task.is_compared else ())
    notes.extend(note for task in tasks for note in _few_note(task))
    if experiment.protocol is not None:
        notes.append(_protocol_note(tasks, experiment.protocol, experiment.source))
    return Plan(experiment, tasks, tuple(dict.fromkeys(notes)))


def _check_columns(tasks: Sequence[Task], source: str) -> None:
    """Scores with different identities never share a column."""
    first: dict[str, tuple[str, ScoreRequest]] = {}
    for task in tasks:
        for score in task.scores:
            label, other = first.setdefault(score.column, (task.cell.model.label, score))
            if other.identity != score.identity:
                raise InputError(
                    f"column {score.column!r} in {source} would mix two definitions, of {label} and of "
                    f"{task.cell.model.label}; give each an experiment of its own"
                )


def _grid(experiment: Experiment, index: int, sweep: Mapping[str, Any], notes: list[str]) -> Iterator[Cell]:
    where = {key: f"common.{key} in {experiment.source}" for key in experiment.common}
    where |= {key: f"sweeps[{index}].{key} in {experiment.source}" for key in sweep}
    merged: dict[str, Any] = {**experiment.common, **sweep}
    methods = axes.expand(merged.get("method", "cfg"), axes.AXES["method"], where.get("method", ""))
    one_pass = _is_one_pass(merged, where)
    if one_pass:
        merged = _without_sampler(merged, where, sweep, notes)
    for key in ("model",) if one_pass else ("model", "sampler", "steps"):
        if key not in merged:
            raise InputError(f"sweeps[{index}] in {experiment.source} lacks {key!r}, and common has none")
    names = {*axes.AXES, *_settings(merged, where)}.union(*(METHODS[method].parameters for method in methods))
    for key in merged:
        if key not in names:
            raise unknown(f"axis of method {'/'.join(methods)}", key, where[key], names)
    for method in methods:
        for cell in _method_grid(method, merged, where, notes):
            yield _prompted(cell, experiment)


def _settings(merged: Mapping[str, Any], where: Mapping[str, str]) -> dict[str, Parameter]:
    """The settings of a sweep's models, which are axes like any other."""
    models = axes.expand(merged["model"], axes.AXES["model"], where["model"])
    schemas = [MODELS[model["name"]].parameters for model in models]
    return {name: parameter for schema in schemas for name, parameter in schema.items() if parameter.setting}


def _prompted(cell: Cell, experiment: Experiment) -> Cell:
    """The cell with the digest of its prompts; InputError where a model needs some and there are none."""
    if not MODELS[cell.model.name].prompted:
        return cell
    if experiment.prompts is None:
        raise InputError(
            f"{experiment.source} lacks the field 'prompts', which model {cell.model.name} needs: a text file with a "
            "prompt a line, or {file: captions.csv, column: caption}"
        )
    return cell.model_copy(update={"prompts": prompts.load(experiment.prompts, experiment.source).digest})


def _is_one_pass(merged: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Whether a sweep is of generators of one pass; raises InputError where only some of its models are."""
    if "model" not in merged:
        return False
    models = axes.expand(merged["model"], axes.AXES["model"], where["model"])
    by_call = {MODELS[model["name"]].noise_levels is None: model["name"] for model in models}
    if len(by_call) > 1:
        kind = "in a loop of its own" if MODELS[by_call[True]].family == "pipeline" else "in one pass"
        others = f"{by_call[True]} makes its samples {kind}, {by_call[False]} does not"
        raise InputError(f"{where['model']}: {others}; give each a sweep of its own")
    return True in by_call


def _without_sampler(
    merged: Mapping[str, Any], where: Mapping[str, str], sweep: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The axes of generators of one pass: what is common to all sweeps may name a sampler, their own may not."""
    for key in sorted(SAMPLING & sweep.keys()):
        raise InputError(f"{where[key]}: the model of this sweep makes its samples in one pass and takes no {key}")
    common = sorted(SAMPLING & merged.keys())
    if common:
        notes.append(f"{', '.join(common)} of common do not apply to {where['model']}, which makes samples in one pass")
    return {key: value for key, value in merged.items() if key not in SAMPLING}


def _method_grid(method: str, merged: Mapping[str, Any], where: dict[str, str], notes: list[str]) -> Iterator[Cell]:
    schema = METHODS[method].parameters
    scale = METHODS[method].scale
    if scale is not None and scale not in merged:
        raise InputError(f"{where.get('method') or where['model']}: method {method!r} needs the axis {scale!r}")
    known = {**_settings(merged, where), **axes.AXES, **schema}
    order = [key for key in ("model", *merged) if key in known and key != "method"]
    order = list(dict.fromkeys(order))
    values = [axes.expand(merged[key], known[key], where[key]) for key in order]
    points = math.prod(map(len, values))
    if points > MAX_CELLS:
        raise InputError(f"{where['model']}: the axes of this sweep make {points:,} cells; at most {MAX_CELLS:,}")
    for point in itertools.product(*values):
        yield _cell(method, dict(zip(order, point, strict=True)), where, notes)


def _cell(method: str, point: dict[str, Any], where: dict[str, str], notes: list[str]) -> Cell:
    name, parameters = model_refs.parameters(point, where)
    dtype, seed = point.pop("dtype", "fp32"), point.pop("seed", 0)
    execution = point.pop("execution", "eager")
    suitability.check_dtype(dtype, name, where.get("dtype", where["model"]))
    suitability.check_execution(execution, method, name, dtype, where.get("execution", where["model"]))
    suitability.check_needs(method, name, parameters, where.get("method", where["model"]))
    levels = MODELS[name].noise_levels
    diffusion = None if levels is None else _diffusion(point, dtype, where)
    if diffusion is not None:
        suitability.check_variance(diffusion, name, parameters, where["sampler"])
        suitability.check_sampler(method, point, diffusion, where)
    if levels is not None and diffusion is not None and point.get("interval") is not None:
        sigmas = model_refs.says(levels, parameters, where["model"])
        point["interval"] = _interval(point["interval"], sigmas, name, diffusion.steps, where["interval"], notes)
    guidance = canonical(method, point)
    model = model_refs.reference(name, parameters, guidance.method, where["model"])
    notes.extend(model_refs.says(MODELS[name].notes, parameters, where["model"]) or ())
    how = {"dtype": dtype, "execution": execution, "seed": seed}
    return Cell(model=model, guidance=guidance, diffusion=diffusion, one_pass=diffusion is None, **how)


def canonical(method: str, parameters: Mapping[str, Any]) -> Guidance:
    """The guidance record of a method with these parameters: defaults left out, settings that are off made so."""
    entry = METHODS[method]
    given = {
        key: value
        for key, value in parameters.items()
        if key in entry.parameters and (key == entry.scale or value != entry.parameters[key].default)
    }
    end = entry.ends.get(_strength(given[entry.scale])) if entry.scale is not None else None
    rest = {key: value for key, value in given.items() if key != entry.scale}
    if end is None or set(rest) & set(entry.always):
        return Guidance(method=method, parameters=given, digest=entry.digest)
    if end == "unguided" or set(rest) <= set(METHODS[end].parameters):
        return canonical(end, rest)
    return Guidance(method=method, parameters=given, digest=entry.digest)


def _strength(scale: float | None) -> float:
    """A scale as the ends of a method name it: a threshold that is not there is infinite."""
    return math.inf if scale is None else float(scale)


def _diffusion(point: dict[str, Any], dtype: str, where: dict[str, str]) -> Diffusion:
    sampler, steps, eta = point.pop("sampler"), point.pop("steps"), point.pop("eta", 0.0)
    entry = SAMPLERS[sampler]
    if steps < entry.minimum_steps:
        raise InputError(f"{where['steps']} = {steps}; {sampler} needs at least {entry.minimum_steps} steps")
    if eta and not entry.eta:
        raise InputError(f"{where['eta']} = {eta}; sampler {sampler} has no eta, only ddim has")
    state_dtype = point.pop("state_dtype", None)
    usual = "fp64" if dtype == "fp64" else "fp32"
    return Diffusion(sampler=sampler, steps=steps, eta=eta, state_dtype=None if state_dtype == usual else state_dtype)


def _interval(
    value: Any, levels: np.ndarray, model: str, steps: int, place: str, notes: list[str]
) -> tuple[float | None, ...] | None:
    low, high = axes.sigma_interval(value, levels, steps, place)
    if low == 0 and high is None:
        return None
    if isinstance(value, dict) and "sigma" not in value:
        notes.append(f"interval {value} at {steps} steps of {model} is sigma ({low:g}, {high or float('inf'):g}]")
    return (low, high)


def _task(experiment: Experiment, cell: Cell) -> Task:
    entry = MODELS[cell.model.name]
    classes = entry.num_classes
    count = classes if isinstance(classes, int) else int(resolve(classes)(**cell.model.arguments))
    encoders, reference = _encoders(experiment, entry), _reference(experiment, entry)
    if encoders:
        suitability.check_trained(cell.model, f"encoder in {experiment.source}")
    scores = tuple(requests(experiment, cell, encoders, reference))
    prompt_set = prompts.load(experiment.prompts, experiment.source) if experiment.prompts and entry.prompted else None
    count = count if prompt_set is None else _unit(len(prompt_set), experiment.num_samples)
    least = PROMPT_BLOCK if prompt_set else max(1, BLOCK // count) * count
    batch, number = experiment.batch_size or (PROMPT_BLOCK if prompt_set else BLOCK), experiment.num_samples
    if number % least:
        raise InputError(
            f"num_samples = {number} in {experiment.source}; samples of {cell.model.name} come in blocks of {least}: "
            f"use a multiple, and one of {NUM_GROUPS * count} for error bars"
        )
    block = _block_size(least, batch, number)
    several = cell.diffusion is not None and METHODS[cell.guidance.method].passes > 1
    passes = experiment.passes if several else "sequential"
    task = Task(cell, number, count, block, batch, encoders, reference, scores, prompt_set, passes=passes)
    return task if experiment.budget is None else replace(task, looks=_looks(experiment, experiment.budget, task))


def _block_size(least: int, batch: int, number: int) -> int:
    """The smallest block, or the largest that a batch fills: so many of the smallest, and a share of the samples."""
    fitting = (size for size in range(least, batch + 1, least) if number % size == 0)
    return max(fitting, default=least)


def _encoders(experiment: Experiment, entry: Model) -> tuple[EncoderRef, ...]:
    """The encoders that an experiment names, or else its model's own; InputError where two provide the same."""
    several = len(experiment.encoder) > 1
    places = [f"encoder{f'[{i}]' if several else ''} in {experiment.source}" for i in range(len(experiment.encoder))]
    found = encoder_refs.together(experiment.encoder, places)
    return found or ((EncoderRef(entry.encoder),) if entry.encoder else ())


def _reference(experiment: Experiment, entry: Model) -> ReferenceSetRef | None:
    given, file = experiment.reference or entry.reference, Path(experiment.source)
    return None if given is None else sets.find(given, file.parent, f"reference in {file}")


def _looks(experiment: Experiment, budget: Budget, task: Task) -> tuple[int, ...]:
    """The sample counts at which to look: the last is all, each before it half of the next, rounded down to blocks."""
    unit = math.lcm(task.block_size, NUM_GROUPS * task.num_classes)
    if task.num_samples % unit:
        raise InputError(
            f"num_samples = {task.num_samples} in {experiment.source}; an adaptive sweep of {task.cell.model.name} "
            f"needs a multiple of {unit}"
        )
    shares, least = task.num_samples // unit, _least(task, budget.metric)
    if task.num_samples < least:
        raise InputError(
            f"num_samples = {task.num_samples} in {experiment.source}; an adaptive sweep by {budget.metric} needs at "
            f"least {least}, {FEW} for each dimension of the features: with fewer its bias differs from scale to scale"
        )
    sizes = {(shares >> k) * unit for k in range(budget.looks) if shares >> k}
    return tuple(sorted(size for size in sizes if size >= least))


def _least(task: Task, metric: str) -> int:
    """The samples from which a score of moments is worth comparing; 0 for other scores, and of unknown dimensions."""
    encoder = encoder_refs.provider(task.encoders, METRICS[metric].needs) if METRICS[metric].moments else None
    return FEW * ((encoder.entry.dimension if encoder else None) or 0)


def _few_note(task: Task) -> Iterator[str]:
    """Which scores have too few samples to mean much."""
    for score in task.scores:
        if task.num_samples < (least := _least(task, score.metric)):
            yield f"{score.column} of {task.num_samples} samples tells little: it wants {least} or more, see the guide"


def _unit(num_prompts: int, num_samples: int) -> int:
    """How many samples in a row share a statistical group, so that images of one prompt do.

    Few prompts are treated as classes are: every group has each equally, and errors are of these prompts only.
    """
    return 1 if num_samples <= num_prompts or num_prompts % NUM_GROUPS == 0 else num_prompts


def _protocol_note(tasks: Sequence[Task], name: str, source: str) -> str:
    """How many of the scores will be comparable with published ones, and why others will not."""
    protocol = protocols.find(name, f"protocol in {source}")
    asked = ((task, {score.column: score.identity for score in task.scores}) for task in tasks)
    checks = [one for task, said in asked for one in protocols.check(protocol, task.cell, task.num_samples, said)]
    return protocols.note(name, checks)


def _prompt_note(tasks: Sequence[Task], experiment: Experiment) -> str:
    """Which prompts are used, and whether their number gives error bars."""
    task = next((task for task in tasks if task.prompts is not None), None)
    if task is None or task.prompts is None:
        raise InputError(f"prompts in {experiment.source}: no model of the sweeps is asked by prompts")
    used, asked = task.prompts, experiment.num_samples
    text = f"prompts: {min(asked, len(used))} of the {len(used)} in {used.name} ({used.digest})"
    if asked % (NUM_GROUPS * task.num_classes) == 0:
        return text
    return (
        f"{text}; no error bars, since {asked} samples give {NUM_GROUPS} groups no equal share of {len(used)} prompts: "
        f"use at most so many samples, or `limit: {len(used) - len(used) % NUM_GROUPS or NUM_GROUPS}`"
    )
