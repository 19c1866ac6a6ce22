"""Describes a toy subject: its size and how it is trained. Needs no torch."""

from typing import Annotated

from pydantic import Field

from sae.common.field_types import Count, Positive, Seed
from sae.common.settings import Section


class Toy(Section):
    """Sets the size and training of a toy subject (`sae/models/toy.py`); in steps, so that all machines train the same.

    Matrices inside the block are trained with Muon, the rest (embeddings, norms, biases) with AdamW: at the default's
    length that is worth about half a nat against AdamW alone.
    """

    vocabulary: Annotated[int, Field(ge=300)] = 2048
    """Tokens of its byte-level BPE tokenizer, trained on the same text."""
    d_model: Count = 128
    """Width of the residual stream."""
    d_mlp: Count = 512
    """Neurons of the MLP of each layer."""
    n_heads: Count = 4
    """Attention heads of each layer."""
    n_layers: Count = 1
    """Number of layers; a run whose hook points need more makes more."""
    steps: Count = 600
    """Number of training steps."""
    batch: Count = 16
    """Blocks per step."""
    lr: Positive = 2e-2
    """Peak learning rate of AdamW."""
    muon_lr: Positive = 3e-2
    """Peak learning rate of Muon."""
    seed: Seed = 0
    """Seed of weights and batches; two seeds give the two subjects of which universality is measured."""
