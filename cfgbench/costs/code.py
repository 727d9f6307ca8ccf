"""How much code a method adds to ours, counted from the source: the lines that stand in one version and not in another.

A line is one as `ast.unparse` writes it, so that comments, docstrings and wrapping count for nothing. A function that
does the same without the method is what it is compared with; without one, all of it is new.
"""

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cfgbench.costs.record import CodeCost

PACKAGE = Path(__file__).parent.parent


class Addition(NamedTuple):
    """Something that a method needs, by `file:name`."""

    method: str
    part: str
    where: str
    against: str | None = None


ADDITIONS = (
    Addition("cfg", "sampling", "generation/guidance.py:cfg", "generation/guidance.py:unguided"),
    Addition("cfg", "sampling", "models/digits.py:DigitsModel.conditions", "models/digits_gan.py:DigitsGan.conditions"),
    Addition(
        "cfg", "training", "training/digits_losses.py:diffusion_loss", "training/digits_losses.py:conditional_loss"
    ),
    Addition("classifier", "sampling", "generation/guidance.py:classifier", "generation/guidance.py:unguided"),
    Addition("classifier", "sampling", "generation/sampling.py:Step.classifier_score"),
    Addition("classifier", "sampling", "generation/sampling.py:Step.add_score"),
    Addition("classifier", "sampling", "models/digits.py:DigitsModel.class_log_probs"),
    Addition("classifier", "training", "training/digits_losses.py:classifier_loss"),
    Addition("classifier", "network", "models/digits_networks.py:NoisyClassifier"),
)


def count(additions: Sequence[Addition] = ADDITIONS, root: Path = PACKAGE) -> tuple[CodeCost, ...]:
    """What each addition adds and removes; raises LookupError for a name that its file does not have."""
    return tuple(_cost(addition, root) for addition in additions)


def lines(where: str, root: Path = PACKAGE, with_head: bool = True) -> list[str]:
    """The lines of a function or class, `file:name`, with or without its signature."""
    file, _, name = where.partition(":")
    found: ast.AST = ast.parse((root / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        found = _named(found, part, where)
    for node in ast.walk(found):
        _drop_docstring(node)
    body = found if with_head else ast.Module(body=list(getattr(found, "body", [])), type_ignores=[])
    return [line.strip() for line in ast.unparse(body).splitlines() if line.strip()]


def _cost(addition: Addition, root: Path) -> CodeCost:
    new = Counter(lines(addition.where, root, with_head=addition.against is None))
    old = Counter(lines(addition.against, root, with_head=False)) if addition.against else Counter[str]()
    body = addition._asdict() | {"added": tuple((new - old).elements()), "removed": tuple((old - new).elements())}
    return CodeCost.model_validate(body)


def _named(node: ast.AST, name: str, where: str) -> ast.AST:
    definitions = (ast.FunctionDef, ast.ClassDef)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, definitions) and child.name == name:
            return child
    raise LookupError(f"no {name!r} of {where!r} in the source")


def _drop_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        node.body = node.body[1:] or [ast.Pass()]
