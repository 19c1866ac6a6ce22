"""Reads a YAML file of settings into a pydantic model; fields can be changed, and errors are one line."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo

from sae.common.errors import UserError, near, shortened
from sae.common.resources import find, path_of
from sae.common.yaml_files import YamlError, parse

LONGEST_VALUE = 200
"""Characters of a wrong value that are shown."""
LARGEST_CONFIG = 2_000_000
"""Bytes of a file that is read as a config."""

T = TypeVar("T")


class Section(BaseModel):
    """Groups settings that belong together: fixed once read, no unknown keys, documented under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _can_be_written(cls, value: T) -> T:
        """Raise ValueError for text that no file can hold: half a surrogate pair, which a shell makes of a bad byte."""
        try:
            json.dumps(value, default=str, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("holds bytes that are not UTF-8") from error
        return value


AnySection = TypeVar("AnySection", bound=BaseModel)


def read(name_or_path: str, subfolder: str = "") -> tuple[Path, dict[str, Any]]:
    """Return the file of a config and its values, not yet checked.

    Args:
        name_or_path: an explicit path, `NAME` in ./eval_configs, or a shipped one.
        subfolder: a folder in `eval_configs` where names are looked up, such as `train/`.

    Raises:
        UserError: no such config, not YAML, or not a mapping.
    """
    path = find("eval_configs", name_or_path, ".yaml", subfolder)
    _refuse_large(path)
    try:
        values = parse(path.read_text("utf-8"))
    except (YamlError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    values = {} if values is None else values
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path} does not hold a mapping of settings; write each as NAME: VALUE")
    return path, values


def _refuse_large(path: Path) -> None:
    """Raise UserError for a corpus or a dictionary in a config's stead, which would be read as YAML for hours."""
    size = path.stat().st_size
    if size > LARGEST_CONFIG:
        raise UserError(f"{path} has {size:,} bytes, too many for a config (YAML); is it another argument's file?")


def build(model: type[AnySection], values: dict[str, Any], changes: Mapping[str, Any], where: str) -> AnySection:
    """Change some values and validate all.

    Args:
        changes: dotted names to new values, such as {"sampling.features": 50, "dictionaries.0.k": 16}.
        where: what a mistake's line begins with, such as the file's path.

    Raises:
        UserError: an unknown key (with the near one), a value of the wrong kind, an item that a list does not have.
    """
    changed: Any = values
    try:
        for name, value in changes.items():
            changed = _changed(changed, name.split("."), 0, value)
        built = model.model_validate(changed)
        for name in _flags_as_numbers(changed, built):
            raise UserError(f"{name}: write a number, not true or false (YAML reads yes, on, no and off so)")
        return built
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(model, error)}") from error
    except RecursionError as error:
        raise UserError(f"{where}: a value is nested too deeply, or holds itself") from error


def parse_settings(settings: Iterable[str], example: str) -> dict[str, Any]:
    """Read `a.b=value` strings, values in YAML. Raises UserError if one has no `=` or no value that can be read.

    Args:
        example: a setting of this program, for the message.
    """
    parsed = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set {shortened(setting)}: write it as name=value, for example {example}")
        try:
            parsed[name] = parse(value)
        except YamlError as error:
            raise UserError(
                f"--set {shortened(setting)}: the value is not YAML; quote it or close its brackets ({error})"
            ) from error
    return parsed


def _changed(values: Any, path: list[str], depth: int, value: Any) -> Any:
    """Replace what lies at `path` in `values`; `depth` names of the path lead here. What is no list is a mapping."""
    if depth == len(path):
        return value
    name, before = path[depth], ".".join(path[:depth])
    if isinstance(values, list | tuple):
        numbers = [str(number) for number in range(len(values))]
        if name not in numbers:
            raise UserError(f"{before} is a list of {len(values)}, counted from 0: it has no item {name!r}")
        at = int(name)
        return [*values[:at], _changed(values[at], path, depth + 1, value), *values[at + 1 :]]
    if values is None and name.isdecimal():
        raise UserError(f"{before} is not given here, so it has no item {name!r}; set all of it: {before}=[...]")
    if not isinstance(values, dict | None):
        raise UserError(f"{before} is {_short(values)} here, which holds no settings; {name!r} cannot be set in it")
    inner = values or {}
    return inner | {name: _changed(inner.get(name), path, depth + 1, value)}


def _flags_as_numbers(given: Any, made: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of numbers that were given as true or false, which pydantic takes for 1 and 0."""
    if isinstance(given, bool) and not isinstance(made, bool) and isinstance(made, int | float):
        yield name
    elif isinstance(given, dict):
        for key, value in given.items():
            inner = made.get(key) if isinstance(made, dict) else getattr(made, key, None)
            yield from _flags_as_numbers(value, inner, f"{name}.{key}" if name else str(key))
    elif isinstance(given, list | tuple) and isinstance(made, tuple):
        for number, (value, inner) in enumerate(zip(given, made, strict=False)):
            yield from _flags_as_numbers(value, inner, f"{name}.{number}")


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field's type mentions: itself, a list's items, the choices of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in sections_in(argument)]


def leaf_names(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all fields below a section that hold no sections (lists without their numbers)."""
    names: list[str] = []
    for name, info in section.model_fields.items():
        inner = sections_in(info.annotation)
        names += [leaf for choice in inner for leaf in leaf_names(choice, f"{prefix}{name}.")] or [prefix + name]
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class _Slot:
    """Lists the sections that one field of a config can hold; `discriminator` tells them apart. None: a plain value."""

    sections: list[type[BaseModel]]
    discriminator: str | None = None

    @classmethod
    def of(cls, field: FieldInfo) -> _Slot:
        return cls(sections_in(field.annotation), _discriminator(field) or _discriminator(field.annotation))

    def tags(self) -> dict[str, type[BaseModel]]:
        """Return what the discriminator may say, and the section it then means."""
        fields = [(section.model_fields.get(self.discriminator or ""), section) for section in self.sections]
        return {str(tag): section for field, section in fields if field for tag in get_args(field.annotation)}


def _discriminator(annotation: Any) -> str | None:
    """Return the field that tells a union's sections apart, wherever in a type it is noted."""
    own = getattr(annotation, "discriminator", None)
    return own if isinstance(own, str) else next(filter(None, map(_discriminator, get_args(annotation))), None)


@dataclass(frozen=True)
class _Location:
    """Describes where an error is: its dotted name, the part of it below `root`, and what the field can hold.

    root: the innermost section that is an item of a list or a choice of a union, else the whole config.
    """

    name: str
    below: str
    root: type[BaseModel]
    slot: _Slot


def _locate(model: type[BaseModel], location: tuple[int | str, ...]) -> _Location:
    """Follow pydantic's location, whose parts are fields, numbers of items, and tags of unions (no part of a name)."""
    slot, root, names, start = _Slot([model]), model, list[str](), 0
    for part in location:
        if isinstance(part, str) and len(slot.sections) > 1:
            section = slot.tags().get(part)
            slot = _Slot([section] if section else [])
        else:
            names.append(str(part))
            if isinstance(part, str):
                field = slot.sections[0].model_fields.get(part) if slot.sections else None
                slot = _Slot.of(field) if field else _Slot([])
                continue
        if len(slot.sections) == 1:
            root, start = slot.sections[0], len(names)
    return _Location(".".join(names), ".".join(names[start:]), root, slot)


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    problem = error.errors()[0]
    location, about = _locate(model, problem["loc"]), problem.get("ctx", {})
    before = f"{location.name}: " if location.name else ""
    if problem["type"] == "extra_forbidden":
        known = leaf_names(location.root)
        tops = dict.fromkeys(name.split(".")[0] for name in known)
        return f"unknown key {location.name!r}{near(location.below, [*dict.fromkeys([*known, *tops])])}"
    if problem["type"] == "union_tag_invalid":
        tag = about["tag"]
        return f"{location.name}.{location.slot.discriminator}: unknown {tag!r}{near(tag, list(location.slot.tags()))}"
    if problem["type"] == "union_tag_not_found":
        return f"{location.name}.{location.slot.discriminator}: field required{near('', list(location.slot.tags()))}"
    if problem["type"] == "value_error":
        return f"{before}{about['error']}"
    if problem["type"] == "missing":
        return f"{location.name} is required"
    if problem["type"] == "tuple_type":
        return f"{before}write a list: [{_short(problem['input'])}]"
    if problem["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return f"{before}write settings, each as NAME: VALUE (got {_short(problem['input'])})"
    if problem["type"] == "too_short":
        return f"{before}at least {about['min_length']} is needed (got {_short(problem['input'])})"
    return f"{before}{problem['msg'].lower()} (got {_short(problem['input'])})"


def _short(value: Any) -> str:
    """Return the beginning of a value's form in Python; of deep and long ones not all is written."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 4, LONGEST_VALUE, LONGEST_VALUE
    brief.maxlist = brief.maxtuple = brief.maxdict = brief.maxset = 20
    text = repr(value) if isinstance(value, str) else brief.repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def cache_folder(application: str) -> Path:
    """Return the folder in which an application keeps what it can make again: language models, tokens, answers.

    The environment variable APPLICATION_CACHE (`SAE_CACHE` for "sae") names it; without one it is the folder of that
    name in the user's cache folder.
    """
    from platformdirs import user_cache_path

    folder = os.environ.get(f"{application.upper()}_CACHE")
    return path_of(folder) if folder else user_cache_path(application)
