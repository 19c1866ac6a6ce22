"""Makes dictionaries of crosscoders that dictionary_learning's fork for model diffing trained.

Read from its `dictionary.py`, commit 173f7fa. A crosscoder reads and writes L activations side by side, which its
config does not name. Its input may be normalised, (x - mean) * scale, and its output back. Features are those of the
library's `encode`, not multiplied by the decoder's norms.

Shape suffixes: L activations, D the width of each, F features, E the width of all that is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header
from sae.formats.json_checks import non_negative, optional_typed, positive_int
from sae.formats.safe_load import shapes_of
from sae.formats.tensor_checks import require_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary

BATCH_TOP_K = "BatchTopKCrossCoder"
CROSSCODERS = ("CrossCoder", BATCH_TOP_K)
NORMS = {1: "crosscoder", 2: "sae", 3: "mixed", 4: "none", 5: "decoupled"}
"""What `code_normalization_id` stands for: how a feature's norm, which its threshold is compared with, is made of the
decoder's norms of its L directions: their sum, the norm of all, both weighted, 1, or each of the L by itself."""
ID = "code_normalization_id"
MEAN, STD, SCALE = "activation_mean", "activation_std", "activation_global_scale"


def header(tensors: Mapping[str, Any], trainer: Mapping[str, Any], path: Path) -> Header:
    """Return the header; only the weights say how many activations it reads.

    Args:
        tensors: the state dict, of which shapes are read.
        trainer: the config's section, from `path`.
    """
    shapes = shapes_of(tensors)
    shape = shapes.get("encoder.weight", ())
    layers = shape[0] if len(shape) == 3 else 1
    decoupled = trainer["dict_class"] == BATCH_TOP_K and len(shapes.get("threshold", ())) == 1
    flags = " ".join("--hook NAME" for _ in range(layers))
    return Header(
        name=path.resolve().parent.name,
        d_in=layers * positive_int(trainer, "activation_dim", path),
        n_features=(layers if decoupled else 1) * positive_int(trainer, "dict_size", path),
        reads=(),
        writes=(),
        model=optional_typed(trainer, "lm_name", str, path) or None,
        notes=(f"a crosscoder of {layers} activations side by side; name their hook points: sae convert ... {flags}",),
    )


def dictionary(tensors: Mapping[str, Any], trainer: Mapping[str, Any], header: Header, path: Path) -> Dictionary:
    """Return the dictionary. Raises UserError if a tensor is missing or does not fit.

    A decoupled crosscoder switches a feature off in each of the L outputs by itself: here its features are L times as
    many, those of the first output first, and each writes one output.
    """
    import torch

    from sae import products
    from sae.dictionary import Dictionary, JumpReLU, ReLU

    W_enc_LDF, W_dec_LFD = _matrices(tensors, trainer, path)
    layers, d, m = W_enc_LDF.shape
    mean_LD, scale_in_L, scale_out_L = _normalisation(tensors, layers, d, path)
    parts = header.n_features // m
    shift_LD = mean_LD
    if parts > 1:  # the library's encoder normalises the normalised input of a decoupled one again, in training too
        shift_LD, scale_in_L = mean_LD + mean_LD / scale_in_L[:, None], scale_in_L**2
    W_enc_DF, shift_1D = W_enc_LDF.flatten(0, 1), (shift_LD * scale_in_L[:, None]).view(1, -1)
    b_enc_F = products.encoded(require_tensor(tensors, "encoder.bias", (m,), path), -shift_1D, W_enc_DF)[0]
    b_dec_LD = require_tensor(tensors, "decoder.bias", (layers, d), path) / scale_out_L[:, None] + mean_LD
    threshold_PF = _thresholds(tensors, trainer, W_dec_LFD, path)
    W_dec_FE = products.side_by_side(W_dec_LFD) if parts == 1 else torch.block_diag(*W_dec_LFD)
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=W_enc_DF.repeat(1, parts) if parts > 1 else W_enc_DF,
        b_enc_F=b_enc_F.repeat(parts),
        W_dec_FD=W_dec_FE,
        b_dec_D=b_dec_LD.flatten(),
        activation=ReLU() if threshold_PF is None else JumpReLU(threshold_PF.flatten()),
        subtract_b_dec=False,
        read_scale_D=scale_in_L.repeat_interleave(d),
        write_scale_E=scale_out_L.repeat_interleave(d),
        model=header.model,
    )


def _matrices(tensors: Mapping[str, Any], trainer: Mapping[str, Any], path: Path) -> tuple[Tensor, Tensor]:
    """Return the encoder [L, D, F] and the decoder [L, F, D]."""
    layers = shapes_of(tensors).get("encoder.weight", (1,))[0]
    d, m = (positive_int(trainer, key, path) for key in ("activation_dim", "dict_size"))
    return (
        require_tensor(tensors, "encoder.weight", (layers, d, m), path),
        require_tensor(tensors, "decoder.weight", (layers, m, d), path),
    )


def _normalisation(tensors: Mapping[str, Any], layers: int, d: int, path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the input's mean is, [L, D], and what input and output are multiplied and divided by, [L] each."""
    import torch

    off = torch.zeros(layers, d), torch.ones(layers), torch.ones(layers)
    if not any(name in tensors for name in (MEAN, STD, SCALE)):  # of older versions
        return off
    mean_LD, std_LD = (require_tensor(tensors, name, (layers, d), path) for name in (MEAN, STD))
    one_scale = shapes_of(tensors).get(SCALE) == ()  # of versions before that with one for each activation
    scale_L = require_tensor(tensors, SCALE, () if one_scale else (layers,), path).expand(layers)
    if bool(mean_LD.isnan().any() or std_LD.isnan().any()):  # as the library says that there is none
        return off
    return mean_LD, scale_L, scale_L + 1e-8


def _thresholds(tensors: Mapping[str, Any], trainer: Mapping[str, Any], W_dec_LFD: Tensor, path: Path) -> Tensor | None:
    """Return the pre-activations above which features are active, [1, F] or, of a decoupled one, [L, F]; None: 0.

    The library compares pre-activations times norms with one threshold, or one for each output.
    """
    if trainer["dict_class"] != BATCH_TOP_K:
        return None
    norm_PF, parts = _norms(tensors, trainer, W_dec_LFD, path)
    return require_tensor(tensors, "threshold", (parts,) if parts > 1 else (), path).reshape(-1, 1) / norm_PF


def _norms(tensors: Mapping[str, Any], trainer: Mapping[str, Any], W_dec_LFD: Tensor, path: Path) -> tuple[Tensor, int]:
    """Return the features' norms, [1, F] or [L, F], and how many thresholds there are."""
    import torch

    from sae.products import row_norms

    number = int(require_tensor(tensors, ID, (), path).item()) if ID in tensors else 1  # older ones know no other
    by_layer_LF = torch.stack([row_norms(W_dec_FD) for W_dec_FD in W_dec_LFD])
    together_1F, summed_1F = by_layer_LF.norm(dim=0, keepdim=True), by_layer_LF.sum(0, keepdim=True)
    match NORMS.get(number):
        case "crosscoder":
            norm_PF = summed_1F
        case "sae":
            norm_PF = together_1F
        case "mixed":
            sae, cross = (non_negative(trainer, f"code_normalization_alpha_{of}", path) for of in ("sae", "cc"))
            norm_PF = together_1F * sae + summed_1F * cross
        case "none":
            norm_PF = torch.ones_like(summed_1F)
        case "decoupled":
            norm_PF = by_layer_LF
        case _:
            raise UserError(f"{path}: {ID} is {number}, which is not known ({', '.join(map(str, NORMS))} are)")
    return norm_PF.clamp_min(1e-30), len(by_layer_LF) if NORMS[number] == "decoupled" else 1
