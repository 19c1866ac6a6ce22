"""Checks that all tensors of a dictionary are finite, and hashes them."""

import json
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.common.files import sha256_of
from sae.dictionary import Dictionary, MatchingPursuit
from sae.products import row_norms

ELEMENTS = 2**22
"""Numbers checked together: the check makes copies, and a matrix may fill the memory by itself."""


def tensors_of(dictionary: Dictionary) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that `encode` and `decode` use, with its name: weights, biases, activation parameters."""
    for owner in (dictionary, dictionary.activation):
        for name, value in sorted(vars(owner).items()):
            if isinstance(value, Tensor):
                yield name, value
    if dictionary.context:
        yield from dictionary.context.tensors().items()


def refuse_non_finite(dictionary: Dictionary) -> None:
    """Raise UserError for a weight, bias or threshold that is NaN or infinite, or a direction whose norm is."""
    for name, tensor in tensors_of(dictionary):
        rows = max(1, ELEMENTS // max(1, tensor[:1].numel()))
        if not all(bool(part.isfinite().all()) for part in tensor.split(rows)):
            raise UserError(
                f"dictionary {dictionary.name} holds weights that are not finite ({name}); its training diverged"
            )
    if not bool(row_norms(dictionary.W_dec_FD).isfinite().all()):
        raise UserError(f"dictionary {dictionary.name} has decoder directions of infinite norm; its training diverged")


def weights_hash(dictionary: Dictionary) -> str:
    """Return a hash that is equal only for dictionaries that encode and decode alike; name and device do not count."""
    activation = dictionary.activation
    about = [
        activation.name, getattr(activation, "k", None), dictionary.subtract_b_dec, dictionary.normalisation,
        [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in tensors_of(dictionary)],
    ]  # fmt: skip
    about += [activation.options] if isinstance(activation, MatchingPursuit) else []
    context = dictionary.context
    about += [[context.epsilon, *(layer.n_heads for layer in context.layers)]] if context else []
    contents = (_bytes_of(tensor) for _, tensor in tensors_of(dictionary))
    return sha256_of(chain([json.dumps(about).encode()], contents))


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes, those in memory themselves where they lie in the tensor's order on the CPU."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
