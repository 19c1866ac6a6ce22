"""Defines types of values that the fields of several configs have."""

from collections.abc import Hashable, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from sae.common.errors import visible

LONGEST_FILE_NAME = 100
"""Characters of a name that begins a folder's name; file systems allow 255 bytes."""
T = TypeVar("T", bound=Sequence[Hashable])


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give a value, or leave the setting out")
    return text


def _file_name(name: str) -> str:
    """Return a name that stays in its folder. Raises ValueError for any other."""
    if set(name) & set("/\\") or not name.strip(". "):
        raise ValueError(f"{visible(name)!r} cannot name a folder; choose a name without slashes")
    if visible(name) != name:
        raise ValueError(f"{visible(name)!r} holds characters that cannot be printed; choose another name")
    if len(name) > LONGEST_FILE_NAME:
        raise ValueError(f"a name of {len(name):,} characters; choose one of at most {LONGEST_FILE_NAME}")
    return name


def _different(values: T) -> T:
    """Return values of which none is there twice. Raises ValueError naming one that is."""
    twice = next((value for value in values if list(values).count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is listed twice; leave one out")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0, lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Two of them can be added: every stream of random numbers takes any whole number."""
Text = Annotated[str, AfterValidator(_not_empty)]
"""Any text but an empty one."""
FileName = Annotated[str, AfterValidator(_file_name)]
"""A name that a file or a folder can have, and a terminal can print."""
Different = AfterValidator(_different)
"""Of a list: no item twice."""
