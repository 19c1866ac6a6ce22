"""Keeps named tensors one after another in one buffer.

The optimiser, the gradient's norm and the exchange between processes then see one vector instead of many tensors.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

ALIGNMENT = 64
"""Every tensor begins at a multiple of so many elements: whole cache lines, whatever comes before."""


class Flat:
    """Holds a buffer [P] and its named parts, which share its memory."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], device: str | torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        sizes = [-(-prod(shape) // ALIGNMENT) * ALIGNMENT for shape in shapes.values()]
        self.buffer = torch.zeros(sum(sizes), device=device, dtype=dtype)
        slices = self.buffer.split(sizes)
        named = zip(shapes.items(), slices, strict=True)
        self.parts: dict[str, Tensor] = {name: piece[: prod(shape)].view(shape) for (name, shape), piece in named}

    def __getitem__(self, name: str) -> Tensor:
        return self.parts[name]

    def like(self, dtype: torch.dtype | None = None) -> "Flat":
        """Return zeros of the same layout."""
        shapes = {name: tuple(part.shape) for name, part in self.parts.items()}
        return Flat(shapes, self.buffer.device, dtype or self.buffer.dtype)

    @property
    def bytes(self) -> int:
        return self.buffer.numel() * self.buffer.element_size()


class Scratch:
    """Keeps working memory by name and shape: made once, shared by all that train one after another on a device.

    What a tensor holds between two requests is undefined.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = device
        self._made: dict[tuple[str, tuple[int, ...], torch.dtype], Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        key = (name, shape, dtype)
        if key not in self._made:
            self._made[key] = torch.empty(shape, device=self.device, dtype=dtype)
        return self._made[key]

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self._made.values())
