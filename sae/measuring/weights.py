"""A dictionary's tensors as one thing: are they all finite, and what tells them from any others."""

import json
from collections.abc import Iterator
from itertools import chain

from torch import Tensor

from sae.common.errors import UserError
from sae.common.files import sha256_of
from sae.dictionary import Dictionary

ROWS = 2048
"""Looked at together: a mask of a large matrix is itself large."""


def tensors_of(dictionary: Dictionary) -> Iterator[tuple[str, Tensor]]:
    """All that `encode` and `decode` compute with, by name: weights, biases, the activation's parameters."""
    for owner in (dictionary, dictionary.activation):
        for name, value in sorted(vars(owner).items()):
            if isinstance(value, Tensor):
                yield name, value


def refuse_non_finite(dictionary: Dictionary) -> None:
    """Raises UserError for a weight, bias or threshold that is NaN or infinite."""
    for name, tensor in tensors_of(dictionary):
        if not all(bool(part.isfinite().all()) for part in tensor.split(ROWS)):
            raise UserError(
                f"dictionary {dictionary.name} holds weights that are not finite ({name}); its training diverged"
            )


def weights_hash(dictionary: Dictionary) -> str:
    """The same only for dictionaries that encode and decode alike, whatever their name and device."""
    activation = dictionary.activation
    about = [
        activation.name, getattr(activation, "k", None), dictionary.subtract_b_dec, dictionary.normalisation,
        [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors_of(dictionary)],
    ]  # fmt: skip
    contents = (tensor.detach().cpu().contiguous().numpy().tobytes() for _, tensor in tensors_of(dictionary))
    return sha256_of(chain([json.dumps(about).encode()], contents))
