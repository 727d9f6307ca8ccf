"""A plan where inputs are missing: published shapes in the place of weights, other prompts, and no scores."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from cfgbench.assets import prompts, shapes
from cfgbench.assets.prompts import PromptSource
from cfgbench.errors import InputError
from cfgbench.planning import plan
from cfgbench.planning.encoder_refs import EncoderRef
from cfgbench.planning.experiment import Experiment
from cfgbench.planning.plan import Plan
from cfgbench.registry import ENCODERS, METRICS, MODELS, resolve


class Sketch(NamedTuple):
    """What can be planned, and what stands in for what."""

    plan: Plan
    taken: tuple[str, ...] = ()
    shapes: bool = False  # whether some weights are missing, so that nothing is known of text encoders


def sketch(experiment: Experiment) -> Sketch | None:
    """The cells of an experiment as far as they are known; None where too little is."""
    taken: dict[str, str] = {}
    common = {key: _models(value, taken) if key == "model" else value for key, value in experiment.common.items()}
    sweeps = tuple(
        {key: _models(value, taken) if key == "model" else value for key, value in sweep.items()}
        for sweep in experiment.sweeps
    )
    bare: dict[str, Any] = {"encoder": (), "reference": None, "protocol": None, "budget": None}
    bare["metrics"] = tuple(METRICS)  # those that an experiment names would have to be scored
    with tempfile.TemporaryDirectory(prefix="cfgbench-") as folder:
        bare["prompts"] = _prompts(experiment, Path(folder), taken)
        try:
            made = plan.plan(experiment.model_copy(update={"common": common, "sweeps": sweeps, **bare}))
        except InputError:
            return None
    said = tuple(f"{name} taken to be {other}" for name, other in taken.items())
    return Sketch(made, said, shapes=bool(taken.keys() - {"prompts"}))


def encoders(experiment: Experiment) -> list[EncoderRef]:
    """The encoders that an experiment names, whether their weights are there or not."""
    named = [raw if isinstance(raw, str) else str(raw.get("name")) for raw in experiment.encoder]
    return [EncoderRef(name) for name in named if name in ENCODERS]


def _models(value: Any, taken: dict[str, str]) -> Any:
    """Models as an experiment names them, those whose weights are missing replaced by a shape where there is one."""
    if isinstance(value, list):
        return [_models(item, taken) for item in value]
    if not isinstance(value, dict) or value.get("name") not in MODELS or not isinstance(value.get("path"), str):
        return value
    name, path = value["name"], value["path"]
    shape = shapes.of_repository(path) or shapes.of_family(name)
    if shape is None or _is_there(value):
        return value
    taken[path] = f"of the published shape of {shape.content['title']}"
    rest = {key: item for key, item in value.items() if key not in ("revision", "variant")}
    return {**rest, "path": shape.name}


def _is_there(model: dict[str, Any]) -> bool:
    target = MODELS[model["name"]].files
    try:
        return target is None or bool(resolve(target)(**{key: item for key, item in model.items() if key != "name"}))
    except (ValueError, TypeError):
        return False


def _prompts(experiment: Experiment, folder: Path, taken: dict[str, str]) -> PromptSource | None:
    """Those of the experiment, or where they are missing numbers: as many as there are samples, or fewer if it says."""
    if experiment.prompts is None:
        return None
    try:
        prompts.load(experiment.prompts, experiment.source)
    except InputError:
        count = experiment.prompts.limit or experiment.num_samples
        file = folder / "prompts.txt"
        file.write_text("\n".join(map(str, range(count))))
        taken["prompts"] = f"{count:,}"
        return PromptSource(file=str(file))
    return experiment.prompts
