"""Holds what a dictionary's own files say of it, read before any weight is touched. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Header:
    """A dictionary's own account of itself; what it does not say is None."""

    name: str
    d_in: int
    n_features: int
    hook_point: str | None
    model: str | None
    prepend_bos: bool | None = None
    processing: Mapping[str, Any] | None = None
    """Weight processing the model was loaded with (TransformerLens' names); empty: none, and that is known."""
    notes: tuple[str, ...] = ()
    """What whoever uses the dictionary should be told, one line each."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What its maker recorded beside the weights; empty where its format has no room for that."""

    @property
    def model_processing(self) -> Mapping[str, Any]:
        """How to load the model; unprocessed where nothing is said."""
        return self.processing or {}
