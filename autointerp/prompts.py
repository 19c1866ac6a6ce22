"""Prompt texts are data: found by name, hashed, never written in code. Knows nothing about who uses them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from autointerp import shipped
from sae.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """A prompt file: `label` is name@hash of its text, `values` its parsed content."""

    name: str
    text: str
    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        return f"{self.name}@{hashlib.sha256(self.text.encode()).hexdigest()[:12]}"


@cache
def load(name: str) -> Prompt:
    """Read `prompts/NAME.yaml`. Raises UserError if it is missing or not a mapping."""
    path = shipped.find("prompts", name, ".yaml")
    text = path.read_text("utf-8")
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise UserError(f"{path} does not hold a mapping")
    return Prompt(name, text, values)
