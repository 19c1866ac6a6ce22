"""Reads YAML: every way in which a text can fail to be plain data is one error, and no key is silently lost."""

from __future__ import annotations

import re
from typing import Any

import yaml

from sae.common.errors import shortened

DEEPEST = 500
"""Brackets that may be open at once: reading takes time with the square of that."""
MOST_ITEMS = 100_000
"""Values in one file, each reference to an anchor counted: a short file of references can stand for billions."""


class YamlError(ValueError):
    """Says in one line why a text is not YAML, or not plain data."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which YAML's readers keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse(text: str) -> Any:
    """Read a text of YAML. Raises YamlError."""
    try:
        _refuse_deep(text)
        value = yaml.load(text, _Loader)  # a SafeLoader
        count(value)
    except RecursionError as error:
        raise YamlError("its lists and mappings are nested too deeply, or hold themselves") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: dates and numbers that are none
        raise YamlError(shortened(" ".join(str(error).split()), 300)) from error
    return value


def _refuse_deep(text: str) -> None:
    """Raise RecursionError if too many brackets are open at once."""
    depth = 0
    for bracket in re.findall(r"[\[{\]}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        if depth > DEEPEST:
            raise RecursionError


def count(value: Any, seen: int = 0) -> int:
    """Count the values inside a value and itself, after `seen` others. Raises YamlError beyond MOST_ITEMS."""
    seen += 1
    if isinstance(value, set):
        raise YamlError("a set has no order; write a list")
    if seen > MOST_ITEMS:
        raise YamlError(f"it stands for more than {MOST_ITEMS:,} values")
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    if isinstance(inner, list | tuple):
        for one in inner:
            seen = count(one, seen)
    return seen
