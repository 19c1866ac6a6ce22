"""Describes a toy subject: its size and how it is trained. Needs no torch."""

from typing import Annotated

from pydantic import Field

from sae.common.field_types import Count, Positive
from sae.common.settings import Section


class Toy(Section):
    """Size and training of a toy subject (`sae/models/toy.py`); in steps, so that every machine trains the same model.

    Matrices inside the block are trained with Muon, the rest (embeddings, norms, biases) with AdamW: at the default's
    length that is worth about half a nat against AdamW alone.
    """

    vocabulary: Annotated[int, Field(ge=300)] = 2048
    d_model: Count = 128
    d_mlp: Count = 512
    n_heads: Count = 4
    n_layers: Count = 1
    steps: Count = 1100
    batch: Count = 16
    """Blocks a step."""
    lr: Positive = 2e-2
    muon_lr: Positive = 3e-2
    seed: int = 0
    """Two seeds give the two subjects of which universality is measured."""
