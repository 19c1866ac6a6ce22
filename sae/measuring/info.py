"""What `sae info` says of a dictionary on disk, without its model: its own account, then its weights.

The account is read without torch. Knows nothing about printing, language models or text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sae import formats
from sae.formats.header import Header

if TYPE_CHECKING:
    from sae.dictionary import Dictionary
    from sae.measuring.evaluate import Directions


@dataclass(frozen=True)
class Account:
    """Where a dictionary lies, whose format it has, and what it says of itself."""

    place: Path
    format: str
    header: Header


@dataclass(frozen=True)
class Weights:
    """The dictionary as loaded (fp32), the types its weights have on disk if that can be told, and their statistics."""

    dictionary: Dictionary
    stored: tuple[str, ...]
    directions: Directions

    @property
    def activation(self) -> str:
        """`topk, k 32`."""
        activation = self.dictionary.activation
        k = getattr(activation, "k", None)
        return activation.name if k is None else f"{activation.name}, k {k}"


def account(path: str, allow_pickle: bool = False) -> Account:
    """Raises UserError if no dictionary of a known format is there."""
    location = formats.recognise(path)
    return Account(location.path, location.format.name, formats.peek(path, allow_pickle))


def weights(path: str, cosines: bool = False, allow_pickle: bool = False) -> Weights:
    """Load a dictionary; `cosines` compares every decoder direction with every other.

    Raises UserError for files that do not fit and weights that are not finite.
    """
    from sae.common.progress import Progress
    from sae.measuring.evaluate import directions
    from sae.measuring.weights import refuse_non_finite

    dictionary = formats.load(path, allow_pickle)
    refuse_non_finite(dictionary)
    return Weights(dictionary, _stored(formats.recognise(path).path), directions(dictionary, cosines, Progress))


def _stored(place: Path) -> tuple[str, ...]:
    """The types of the tensors in a folder's safetensors or npz files (F32, BF16, float32); none of other files."""
    if not place.is_dir():
        return ()
    found: set[str] = set()
    for path in place.glob("*.safetensors"):
        found |= _types_of_safetensors(path)
    for path in place.glob("*.npz"):
        found |= _types_of_npz(path)
    return tuple(sorted(found))


def _types_of_safetensors(path: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def _types_of_npz(path: Path) -> set[str]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return {str(arrays[name].dtype) for name in arrays}
