"""Reads what `sae info` shows of a dictionary on disk: first its metadata, without torch, then its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sae import formats
from sae.formats.header import Header
from sae.hub.address import is_address

if TYPE_CHECKING:
    from sae.dictionary import Dictionary
    from sae.measuring.evaluate import Directions


LARGE = 2**30
"""Bytes of files from which on the weights are read only if that is asked for: it may take minutes."""


@dataclass(frozen=True)
class Account:
    """Says where a dictionary is on disk, its format and its metadata."""

    path: Path
    size: int
    """Bytes of the files that it is read from, of a folder all."""
    address: str | None
    """Its address on the hub with the commit; None for a path of this machine."""
    format: str
    header: Header


@dataclass(frozen=True)
class Weights:
    """Holds a loaded dictionary (fp32), the number types of its weights on disk if known, and statistics of them."""

    dictionary: Dictionary
    stored: tuple[str, ...]
    directions: Directions

    @property
    def activation(self) -> str:
        """The activation function's name, with k if it has one: `topk, k 32`."""
        activation = self.dictionary.activation
        k = getattr(activation, "k", None)
        return activation.name if k is None else f"{activation.name}, k {k}"


def account(path: str, allow_pickle: bool = False) -> Account:
    """Read a dictionary's metadata. Raises UserError if the path holds no dictionary of a known format."""
    pinned = formats.pin(path)
    location = formats.recognise(pinned)
    address = pinned if is_address(pinned) else None
    return Account(
        location.path, _size(location.path), address, location.format.name, formats.peek(pinned, allow_pickle)
    )


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else (path,)) if each.is_file())


def weights(path: str, cosines: bool = False, allow_pickle: bool = False) -> Weights:
    """Load a dictionary and measure its weights; `cosines` compares every decoder direction with every other.

    Raises UserError for files that do not fit together and for weights that are not finite.
    """
    from sae.common.progress import Progress
    from sae.measuring.evaluate import directions
    from sae.measuring.weights import refuse_non_finite

    dictionary = formats.load(path, allow_pickle)
    refuse_non_finite(dictionary)
    return Weights(dictionary, _stored(formats.recognise(path).path), directions(dictionary, cosines, Progress))


def _stored(folder: Path) -> tuple[str, ...]:
    """Return the number types in a folder's safetensors and npz files (F32, BF16, float32); none for other files."""
    if not folder.is_dir():
        return ()
    types: set[str] = set()
    for path in folder.glob("*.safetensors"):
        types |= _types_of_safetensors(path)
    for path in folder.glob("*.npz"):
        types |= _types_of_npz(path)
    return tuple(sorted(types))


def _types_of_safetensors(path: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def _types_of_npz(path: Path) -> set[str]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        return {str(arrays[name].dtype) for name in arrays}
