"""Reads JSON and checks its values: each mistake is a UserError that names the file and the key. Needs no torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sae.common.errors import UserError, near

T = TypeVar("T")
EXPECTED = {dict: "a mapping", str: "a text", bool: "true or false"}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises UserError if the file is not one, or holds half of a character, as no result can."""
    try:
        value = json.loads(path.read_text("utf-8"))
        json.dumps(value, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:  # also of numbers too long and of nesting too deep
        raise UserError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return value


def require(values: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return values[key]. Raises UserError if it is missing."""
    if key not in values:
        raise UserError(f"{path} lacks {key!r}; it may be incomplete or of another library")
    return values[key]


def require_typed(values: Mapping[str, Any], key: str, kind: type[T], path: Path) -> T:
    """Return values[key]. Raises UserError if it is missing or not of that type (one of `EXPECTED`)."""
    value = require(values, key, path)
    if not isinstance(value, kind):
        raise UserError(f"{path}: {key!r} is {short_repr(value)}, expected {EXPECTED[kind]}")
    return value


def optional_typed(values: Mapping[str, Any], key: str, kind: type[T], path: Path) -> T | None:
    """Return values[key], or None if it is missing or null. Raises UserError if it is not of that type."""
    return None if values.get(key) is None else require_typed(values, key, kind, path)


def positive_int(values: Mapping[str, Any], key: str, path: Path) -> int:
    """Return values[key], a width or a count. Raises UserError if it is missing or not a whole number from 1 on."""
    value = require(values, key, path)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{path}: {key!r} is {short_repr(value)}, expected a whole number from 1 on")
    return value


def non_negative(values: Mapping[str, Any], key: str, path: Path) -> float:
    """Return values[key]. Raises UserError if it is missing or not a finite number from 0 on."""
    value = require(values, key, path)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= sys.float_info.max:
        raise UserError(f"{path}: {key} is {short_repr(value)}, expected a number from 0 on")
    return float(value)


def one_of(known: tuple[str, ...], values: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return values[key]. Raises UserError if it is missing or not one of the known words."""
    value = require(values, key, path)
    if value not in known:
        raise UserError(f"{path}: {key} is {short_repr(value)}{near(str(value), list(known))}")
    return value


def texts(values: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """Return values[key], a list of texts. Raises UserError if it is missing or anything else."""
    value = require(values, key, path)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{path}: {key!r} is {short_repr(value)}, expected a list of texts")
    return tuple(value)


def short_repr(value: Any) -> str:
    """Return a file's value as one short line; of one that is not plain only the type, which runs no foreign code."""
    plain = value is None or isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63)
    text = repr(value) if plain else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
