"""What suits what: whether a model has what a method or a sampler asks of it, and comes in a dtype. No torch.

Every check raises InputError, with what is allowed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cfgbench import machine
from cfgbench.assets import shapes
from cfgbench.cell import Diffusion, ModelRef
from cfgbench.errors import InputError, shown
from cfgbench.registry import EXECUTIONS, METHODS, MODELS, SAMPLERS, resolve

UNCONDITIONAL = "unconditional"  # among networks and capabilities: the prediction without condition


def check_dtype(dtype: str, model: str, place: str) -> None:
    """A model comes in a dtype, and this machine can run it."""
    allowed = MODELS[model].dtypes
    if dtype not in allowed:
        raise InputError(f"{place}: dtype {dtype!r} is not offered by model {model}; allowed: {', '.join(allowed)}")
    if dtype in ("tf32", "bf16", "fp16") and not machine.has_cuda():
        hint = "" if dtype == "tf32" else f"; {dtype}_emulated measures its quality here by rounding"
        raise InputError(f"{place}: dtype {dtype!r} needs a CUDA device, and this machine shows none{hint}")


def check_execution(execution: str, method: str, model: str, dtype: str, place: str) -> None:
    """A network of this model and dtype can compute in this way, and so can the passes that a method asks for."""
    entry, who = EXECUTIONS[execution], f"{place}: execution {execution!r}"
    if execution != "eager" and (MODELS[model].files is None or MODELS[model].noise_levels is None):
        raise InputError(f"{who} is of networks in our own sampling loop, and {model} has none; allowed: eager")
    if entry.graphs and not machine.has_cuda():
        raise InputError(f"{who} needs a CUDA device, and this machine shows none; compile works on a CPU too")
    if entry.mode is not None and dtype.endswith("_emulated"):
        raise InputError(f"{who} and dtype {dtype!r}: a compiler may leave out roundings, which are the emulation")
    if entry.mode is not None and "attention" in METHODS[method].capabilities:
        raise InputError(f"{who}: method {method!r} replaces parts of the network, which is compiled as a whole")


def check_needs(method: str, model: str, parameters: Mapping[str, Any], place: str) -> None:
    """A model with these parameters has the networks and capabilities that a method asks for."""
    entry, needed = MODELS[model], METHODS[method]
    if entry.family not in needed.families:
        allowed = ", ".join(name for name, other in METHODS.items() if entry.family in other.families)
        raise InputError(f"{place}: method {method!r} is not one for model {model}; allowed: {allowed}")
    who = f"{place}: method {method!r}"
    lacking = [f"a {network} network" for network in needed.needs if network not in entry.networks]
    lacking += [f"the capability {name}" for name in needed.capabilities if name not in entry.capabilities]
    if lacking:
        raise InputError(f"{who} needs {lacking[0]}, which model {model} lacks")
    asked = (*needed.needs, *needed.capabilities, *([UNCONDITIONAL] if needed.unconditional else []))
    _check_parameters(asked, model, parameters, who)


def check_variance(diffusion: Diffusion, model: str, parameters: Mapping[str, Any], place: str) -> None:
    """A model with these parameters has what a sampler asks for, and the sampler a form for the model's kind."""
    if MODELS[model].family == "flow" and SAMPLERS[diffusion.sampler].flow is None:
        allowed = ", ".join(name for name, entry in SAMPLERS.items() if entry.flow)
        raise InputError(f"{place}: {diffusion.sampler} has no form for flows, and {model} is one; allowed: {allowed}")
    asked = SAMPLERS[diffusion.sampler].capabilities
    who = f"{place}: sampler {diffusion.sampler!r}"
    lacking = [name for name in asked if name not in MODELS[model].capabilities]
    if lacking:
        raise InputError(f"{who} needs the capability {lacking[0]}, which model {model} lacks")
    _check_parameters(asked, model, parameters, who)


def check_sampler(method: str, parameters: Mapping[str, Any], diffusion: Diffusion, where: Mapping[str, str]) -> None:
    """A method with these parameters is right with a sampler."""
    allowed = METHODS[method].samplers
    if allowed and diffusion.sampler not in allowed:
        text = f"{diffusion.sampler} does not suit method {method!r}; allowed: {', '.join(allowed)}"
        raise InputError(f"{where['sampler']}: {text}")
    if allowed and diffusion.eta:
        raise InputError(f"{where['eta']} = {diffusion.eta:g}; method {method!r} needs a sampler without noise: 0")
    for name, parameter in METHODS[method].parameters.items():
        suited = parameter.samplers.get(parameters.get(name)) if parameter.samplers else None
        if suited and diffusion.sampler not in suited:
            text = f"{diffusion.sampler} does not suit {name} = {shown(parameters[name])} of method {method!r}"
            raise InputError(f"{where['sampler']}: {text}; allowed: {', '.join(suited)}")


def check_trained(model: ModelRef, place: str) -> None:
    """A model has learned something, so that its samples can be scored."""
    if shapes.is_random(model.location.get("path", "")):
        text = f"the weights of {model.label} are random, so scores of its samples would mean nothing"
        raise InputError(f"{place}: {text}; leave it out, and speed alone is measured")


def _check_parameters(asked: Sequence[str], model: str, parameters: Mapping[str, Any], who: str) -> None:
    """A model's parameters, and the files they name, leave out nothing of what is asked."""
    entry = MODELS[model]
    for name in asked:
        switch = entry.switches.get(name)
        if switch is not None and not parameters.get(switch):
            parameter = entry.parameters[switch]
            allowed = ", ".join(map(str, parameter.choices or (parameter.doc if parameter.kind == "str" else "true",)))
            message = f"needs {name}, which model {model} has with its parameter {switch!r} only"
            raise InputError(f"{who} {message}; allowed: {allowed}")
    left_out = _left_out(model, parameters, who)
    for name in asked:
        if name in left_out:
            raise InputError(f"{who} needs {name}, which model {model} lacks here: {left_out[name]}")


def _left_out(model: str, parameters: Mapping[str, Any], who: str) -> Mapping[str, str]:
    target = MODELS[model].lacks
    try:
        found: Mapping[str, str] = resolve(target)(**parameters) if target else {}
    except ValueError as error:
        raise InputError(f"{who}: {error}") from None
    return found
