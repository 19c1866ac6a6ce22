"""Makes every random generator of both packages from a seed and the name of a stream. Imports nothing heavy.

Two streams of one seed are independent, and so is every stream of another seed. A stream's name says what it decides
("split", "order of blocks"); `key` tells its uses apart (an epoch, a dictionary's name). No stream's name is used for
two things.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

Key = int | str


def derive_seed(seed: int, stream: str, *key: Key, bits: int = 63) -> int:
    """Return a whole number in [0, 2^bits) that depends on all arguments: for libraries that want a seed.

    Args:
        seed: the user's seed; any whole number.
        stream: what the numbers decide.
        key: tells several uses of one stream apart.
        bits: at most 64; scikit-learn takes 32.
    """
    text = "\0".join([str(seed), stream, *(f"{type(part).__name__} {part}" for part in key)])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") >> (64 - bits)


def numpy_generator(seed: int, stream: str, *key: Key) -> np.random.Generator:
    """Return a NumPy generator (PCG64) for one stream of a seed."""
    import numpy as np

    return np.random.default_rng(derive_seed(seed, stream, *key, bits=64))


def torch_generator(seed: int, stream: str, *key: Key) -> torch.Generator:
    """Return a PyTorch generator on the CPU for one stream of a seed."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, stream, *key))
