"""Writes the settings of a config with their meanings and values as YAML, which can be read back as a config."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from sae.common.errors import UserError, near
from sae.common.settings import leaf_names, sections_in

WIDTH = 110
"""Characters of a comment's line."""


def settings_yaml(config: BaseModel, section: str = "") -> str:
    """Write all settings, or those of one section (or one setting) by dotted name, such as `sampling.explain`.

    Raises UserError with the near names if there is no such section.
    """
    path = tuple(section.split(".")) if section else ()
    if not _leads_somewhere(config, path):
        leaves = leaf_names(type(config))
        known = dict.fromkeys(name.rsplit(".", depth)[0] for name in leaves for depth in (1, 2, 0))
        raise UserError(
            f"the config has no section {section!r}{near(section, sorted(known, key=lambda name: name.count('.')))}"
        )
    return "\n".join(_settings(config, path, 0)) + "\n"


def _leads_somewhere(section: Any, path: Sequence[str]) -> bool:
    if not path:
        return True
    return (
        isinstance(section, BaseModel)
        and path[0] in type(section).model_fields
        and _leads_somewhere(getattr(section, path[0]), path[1:])
    )


def _settings(section: BaseModel, path: Sequence[str], depth: int, before: str = "") -> list[str]:
    """Write the lines of a section's fields, or of the one that `path` leads to.

    before: the dotted name of the section, with a final dot.
    """
    plain = section.model_dump(mode="json")
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        if path and name != path[0]:
            continue
        value, indent = getattr(section, name), "  " * depth
        lines += _comment(field.description or _meaning(value), depth)
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_settings(value, path[1:], depth + 1, f"{before}{name}.")]
        else:
            lines += _items(sections_in(field.annotation), bool(path), depth, before + name)
            lines.append(f"{indent}{name}: {_inline(plain[name])}")
        if depth == 0:
            lines.append("")
    return lines[:-1] if depth == 0 else lines


def _items(kinds: Sequence[type[BaseModel]], in_full: bool, depth: int, name: str) -> list[str]:
    """Describe the sections that a list may hold, as comments: their kinds, or in full all their settings."""
    tags = [next(iter(kind.model_fields.items())) for kind in kinds]  # the field that tells the kinds apart
    if not in_full:
        values = ", ".join(_inline(field.default) for _, field in tags)
        return _comment(f"{tags[0][0]}: {values}; their settings: autointerp config {name}" if tags else "", depth)
    lines: list[str] = []
    for kind, (tag, tag_field) in zip(kinds, tags, strict=True):
        lines += _comment(f"- {tag}: {_inline(tag_field.default)} # {_meaning(kind)}", depth)
        for inner, field in list(kind.model_fields.items())[1:]:
            default = "(needed)" if field.is_required() else _inline(field.get_default(call_default_factory=True))
            meaning = f" # {field.description}" if field.description else ""
            lines += _comment(f"{inner}: {default}{meaning}", depth, "  ")
    return lines


def _comment(text: str | None, depth: int, margin: str = "") -> list[str]:
    start = f"{'  ' * depth}# {margin}"
    return textwrap.wrap(_words(text), WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _meaning(value: Any) -> str:
    """Return the first paragraph of the docstring of a section's class."""
    kind = value if isinstance(value, type) else type(value)
    return (kind.__doc__ or "").partition("\n\n")[0] if issubclass(kind, BaseModel) else ""


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _inline(value: Any) -> str:
    """Write a value on one line."""
    plain = to_jsonable_python(value)
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
