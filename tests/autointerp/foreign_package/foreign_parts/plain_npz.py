"""A format of dictionaries: a folder with `plain.npz`, which holds encoder and decoder without biases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sae.formats import FORMATS, Format, Header

if TYPE_CHECKING:
    from sae.dictionary import Dictionary

FILE = "plain.npz"


def peek(folder: Path) -> Header:
    """Read the shapes, and the model and hook point."""
    with np.load(folder / FILE) as arrays:
        d_in, n_features = arrays["encoder"].shape
        hook_point = (str(arrays["hook_point"]),)
        return Header("plain", d_in, n_features, hook_point, hook_point, str(arrays["model"]), prepend_bos=False)


def load(folder: Path) -> Dictionary:
    """Read the weights too."""
    import torch

    from sae.dictionary import Dictionary

    header = peek(folder)
    with np.load(folder / FILE) as arrays:
        encoder_DF, decoder_FD = (torch.tensor(arrays[name]) for name in ("encoder", "decoder"))
    biases = torch.zeros(header.n_features), torch.zeros(header.d_in)
    return Dictionary(
        header.name, "sae", encoder_DF, biases[0], decoder_FD, biases[1], reads=header.reads, writes=header.writes,
        model=header.model,
    )  # fmt: skip


FORMATS.register("plain_npz", Format("plain_npz", f"a folder with {FILE}", peek, load, marker=FILE))
