"""YAML as users write it, in experiment files and on the command line."""

from collections import Counter
from typing import Any

import yaml

from cfgbench.errors import InputError, shown


def parse(text: str) -> object:
    """The value of a text; ValueError says what is wrong with it."""
    try:
        return yaml.load(text, _Loader)
    except _ERRORS as error:
        raise ValueError(" ".join(str(error).split())) from None


def mapping(text: str, place: str) -> dict[str, object]:
    """The mapping that a text in braces stands for, `{name: clip, model: ViT-B-32}`; raises InputError."""
    try:
        body = parse(text)
    except ValueError:
        body = None
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise InputError(f"{place} {shown(text)} is no mapping such as {{key: value, key: value}}")
    return body


class _Loader(yaml.SafeLoader):
    """A safe loader for which a key given twice is an error, not a silent overwrite."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            twice = [name for name, count in names.items() if count > 1]
            if twice:
                raise yaml.YAMLError(f"key {shown(twice[0])} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


# PyYAML lets the errors of what it builds values with through: no such day, no such number, too deep
_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError)
