"""Plug-ins: a user's own methods, models, metrics, encoders and reference sets, named `module:attribute` in YAML.

A guidance method is a function of a step: its parameters are read off its signature, and `declare` adds what a
signature cannot say. Everything else is an entry of `cfgbench.entries` (`Model`, `Metric`, ...; `Method` too, for legal
ranges). A module is looked for beside the experiment file and on PYTHONPATH, and importing it runs its code. Its file's
digest enters the ids of the cells and scores that it makes.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, NoneType, SimpleNamespace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cfgbench.entries import Encoder, Method, Metric, Model, Parameter, ReferenceSet, resolve
from cfgbench.errors import InputError, shown, unknown
from cfgbench.registry import ENCODERS, METHODS, METRICS, MODELS, REFERENCES

Function = TypeVar("Function", bound=Callable[..., Any])
Named = tuple[str, str]  # kind and name

TABLES: dict[str, tuple[dict[str, Any], type]] = {
    "method": (METHODS, Method),
    "model": (MODELS, Model),
    "metric": (METRICS, Metric),
    "encoder": (ENCODERS, Encoder),
    "reference": (REFERENCES, ReferenceSet),
}
_folders: list[str] = []  # of experiments, on sys.path at present


def declare(
    passes: int = 2,
    ends: Mapping[float, str] | None = None,
    label: str = "",
    source: str = "",
    capabilities: tuple[str, ...] = (),
    unconditional: bool = True,
) -> Callable[[Function], Function]:
    """A decorator that says of a guidance method what its signature does not; the words are those of `Method`."""

    def mark(function: Function) -> Function:
        declared = Method("", None, {}, ends or {}, passes, label=label, source=source, capabilities=capabilities)
        function.declared = replace(declared, unconditional=unconditional)  # type: ignore[attr-defined]
        return function

    return mark


def search(folder: Path) -> None:
    """Look for plug-ins in this folder; those of another experiment are forgotten."""
    for table, _ in TABLES.values():
        for name in [name for name in table if ":" in name]:
            del table[name]
    sys.path[:] = [path for path in sys.path if path not in _folders]
    _folders[:] = [] if str(folder.resolve()) in sys.path else [str(folder.resolve())]
    sys.path.extend(_folders)  # last: a file here hides no installed module


def check(kind: str, name: str, place: str) -> None:
    """Raise InputError unless a name is in its table; a plug-in's is put there."""
    table, _ = TABLES[kind]
    if ":" in name:
        table[name] = load(kind, name, place)
    elif name not in table:
        raise unknown(kind, name, place, table)


def load(kind: str, name: str, place: str) -> Any:
    """The entry of a plug-in, with the digest of its file; InputError says what is wrong with it."""
    module_name, _, attribute = name.partition(":")
    module, where = _imported(module_name, f"{kind} {shown(name)} at {place}")
    if not hasattr(module, attribute):
        raise InputError(f"{where}: {module.__file__} has no {attribute!r}")
    found, entry_type = getattr(module, attribute), TABLES[kind][1]
    if kind == "method" and inspect.isfunction(found):
        found = _method(name, found, where)
    if not isinstance(found, entry_type):
        wanted = "a function of a step, or an entry of class" if kind == "method" else "an entry of class"
        raise InputError(f"{where} is {type(found).__name__}; needs {wanted} cfgbench.entries.{entry_type.__name__}")
    _check_parts(found, where)
    return replace(found, digest=_digest(module))  # type: ignore[type-var]


def names() -> tuple[Named, ...]:
    """The plug-ins in use, for a process that shall know them too."""
    return tuple((kind, name) for kind, (table, _) in TABLES.items() for name in table if ":" in name)


def use(named: tuple[Named, ...]) -> None:
    """Make the plug-ins of another process known in this one."""
    for kind, name in named:
        check(kind, name, "a worker")


def _imported(name: str, where: str) -> tuple[ModuleType, str]:
    """A module, and where it is asked for, for messages."""
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            places = ", ".join([*_folders, "PYTHONPATH"])
            raise InputError(f"{where}: no module {name!r} in {places}") from None
        raise InputError(f"{where}: importing {name!r} failed, since it needs {error.name!r}") from None
    except Exception as error:  # whatever a user's module raises
        raise InputError(f"{where}: importing {name!r} failed with {type(error).__name__}: {error}") from None
    spec = PathFinder.find_spec(name)
    if spec is not None and spec.origin != module.__file__:
        raise InputError(f"{where}: {name!r} was imported from {module.__file__} before; it is not {spec.origin}")
    return module, where


def _digest(module: ModuleType) -> str:
    return hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()[:16]


def _check_target(target: str, where: str) -> None:
    try:
        runs = callable(resolve(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{where}: its target {shown(target)} does not resolve: {error}") from None
    if not runs:
        raise InputError(f"{where}: its target {shown(target)} is not a function")


def _check_parts(entry: Any, where: str) -> None:
    """The functions and the other names that an entry mentions."""
    targets = [entry.target]
    if isinstance(entry, Model):
        named = (entry.noise_levels, entry.files, entry.notes, entry.num_classes)
        targets += [item for item in named if isinstance(item, str)]
        for kind in ("encoder", "reference"):
            if getattr(entry, kind) is not None:
                check(kind, getattr(entry, kind), f"the {kind} of {where}")
    for end in entry.ends.values() if isinstance(entry, Method) else ():
        if end not in METHODS:
            raise unknown("method", end, f"the ends of {where}", METHODS)
    for target in targets:
        _check_target(target, where)


def _method(name: str, function: Callable[..., Any], where: str) -> Method:
    """The entry of a guidance function: parameters from its signature, the rest as declared."""
    step, *own = inspect.signature(function).parameters.values() or (None,)
    if step is None:
        raise InputError(f"{where}: takes no step, which is a method's first parameter")
    bare = [item.name for item in own if item.default is item.empty]
    scales = bare or [item.name for item in own if item.name == "guidance_scale"]
    schema = {item.name: _parameter(item, function, item.name in scales, where) for item in own}
    if len(scales) > 1:
        raise InputError(f"{where}: parameters {', '.join(bare)} have no default; only the scale may lack one")
    declared: Method = getattr(function, "declared", Method("", None, {}, {}, 2))
    label = declared.label or name.partition(":")[2].replace("_", " ")
    return replace(declared, target=name, scale=scales[0] if scales else None, parameters=schema, label=label)


def _parameter(item: inspect.Parameter, function: Callable[..., Any], is_scale: bool, where: str) -> Parameter:
    """A parameter by its annotation, or by the type of its default."""
    if item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD):
        raise InputError(f"{where}: takes {item}; name every parameter, so that a misspelt one is found")
    default = None if item.default is item.empty else item.default
    if is_scale:
        return Parameter("float", default)
    hint = _hint(item, function)
    if get_origin(hint) is Literal:
        return Parameter("str", default, choices=get_args(hint))
    kinds = [part for part in (get_args(hint) or (hint,)) if part is not NoneType]
    if len(kinds) != 1 or kinds[0] not in (float, int, bool, str):
        raise InputError(f"{where}: parameter {item.name!r} needs a type: float, int, bool, str or Literal[...]")
    return Parameter(kinds[0].__name__, default, optional=NoneType in get_args(hint))


def _hint(item: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """A parameter's annotation; the type of its default where there is none, or none that is known when it runs."""
    if item.annotation is item.empty:
        return type(item.default)
    holder = SimpleNamespace(__annotations__={item.name: item.annotation})
    try:
        return get_type_hints(holder, function.__globals__)[item.name]
    except NameError:
        return type(item.default)
