"""Holds what a dictionary's own files say of it, read before any weight is touched. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Header:
    """Holds a dictionary's description of itself; what its files do not say is None or empty."""

    name: str
    d_in: int
    """The width of everything it reads, concatenated."""
    n_features: int
    reads: tuple[str, ...]
    """The model's hook points whose activations it encodes."""
    writes: tuple[str, ...]
    """The hook points whose activations it reconstructs: for an autoencoder, those it reads."""
    model: str | None
    prepend_bos: bool | None = None
    processing: Mapping[str, Any] | None = None
    """Weight processing the model was loaded with (TransformerLens' names); empty: none, and that is known."""
    notes: tuple[str, ...] = ()
    """What anybody who uses the dictionary should know, one line each."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What its maker recorded beside the weights; empty where its format has no room for that."""

    @property
    def is_autoencoder(self) -> bool:
        """Tell whether it reads and writes the same one hook point, or one that its files do not name."""
        return self.reads == self.writes and len(self.reads) <= 1

    @property
    def hook_point(self) -> str | None:
        """Return what it reads as one label, names joined by "+"; None if its files do not say."""
        return "+".join(self.reads) or None


def hook_points(name: str | None) -> tuple[str, ...]:
    """Return an autoencoder's `reads` and `writes`: its one hook point, or none if its files do not say."""
    return () if name is None else (name,)
