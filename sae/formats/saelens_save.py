"""Writes dictionaries as SAELens' version 6 does; refuses what the library has no architecture for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.model_path import is_relative, to_stored
from sae.formats.write import write_folder

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Dictionary, MatchingPursuit

VERSION = "6.54.12"
"""The version whose layout is written. The library reads files that say less than 6 as the flat layout before it."""
OURS = "sae_dictionary"
"""The key of the metadata that holds what SAELens has no field for."""
ABOUT, WEIGHTS = "cfg.json", "sae_weights.safetensors"
INSTEAD = 'save it in our own format (format="own") instead'
KWARGS = "model_from_pretrained_kwargs"


def save(dictionary: Dictionary, folder: Path) -> None:
    """Write a folder that SAELens reads. Raises UserError where SAELens cannot express the dictionary."""
    if len(dictionary.reads) > 1 or len(dictionary.writes) > 1:
        raise UserError(f"cannot save {folder}: SAELens' dictionaries read and write one hook point; {INSTEAD}")
    if dictionary.context is not None:
        raise UserError(f"cannot save {folder}: temporal autoencoders are not written in SAELens' format; {INSTEAD}")
    dictionary = _without_scales(dictionary)
    options, tensors = _expressed(dictionary, folder)
    if not dictionary.is_autoencoder:
        options, tensors = _transcoder(dictionary, options, tensors, folder)
    hook_z = (dictionary.hook_point or "").endswith("hook_z")  # the library flattens its heads
    config = {
        "d_in": dictionary.d_in,
        "d_sae": dictionary.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.subtract_b_dec,
        "normalize_activations": dictionary.normalisation,
        "reshape_activations": "hook_z" if hook_z else "none",
        "metadata": _metadata(dictionary, folder),
    }
    tensors |= {"W_dec": dictionary.W_dec_FD, "b_dec": dictionary.b_dec_D}
    write_folder(folder, (ABOUT, config | options), (WEIGHTS, tensors))


def _without_scales(dictionary: Dictionary) -> Dictionary:
    """Fold the scales of what is read and written into the weights, for which SAELens has nothing else."""
    read_D, write_E = dictionary.read_scale_D, dictionary.write_scale_E
    if read_D is not None:
        W_enc_DF = dictionary.W_enc_DF.float() * read_D[:, None]
        dictionary = replace(dictionary, W_enc_DF=W_enc_DF, read_scale_D=None)
    if write_E is not None:
        dictionary = replace(dictionary, W_dec_FD=dictionary.W_dec_FD.float() / write_E, write_scale_E=None)
    return dictionary


def _expressed(dictionary: Dictionary, folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the options and the tensors that express the activation in SAELens' terms."""
    from sae.dictionary import Gated, JumpReLU, MatchingPursuit, ReLU, TopK

    W_enc = {"W_enc": dictionary.W_enc_DF}
    encoder = W_enc | {"b_enc": dictionary.b_enc_F}
    match dictionary.activation:
        case ReLU():
            return {"architecture": "standard"}, encoder
        case TopK(k=k, scale_F=scale_F):
            rescale = {"rescale_acts_by_decoder_norm": _by_norms(dictionary, scale_F, folder)}
            return {"architecture": "topk", "k": k} | rescale, encoder
        case JumpReLU(threshold_F=threshold_F):
            return {"architecture": "jumprelu"}, encoder | {"threshold": threshold_F}
        case Gated(b_gate_F=b_gate_F, r_mag_F=r_mag_F, b_mag_F=b_mag_F) if not dictionary.b_enc_F.any():
            return {"architecture": "gated"}, W_enc | {"b_gate": b_gate_F, "r_mag": r_mag_F, "b_mag": b_mag_F}
        case Gated():
            raise UserError(f"cannot save {folder}: a gated autoencoder of SAELens has no b_enc; {INSTEAD}")
        case MatchingPursuit() as pursuit:
            return {"architecture": pursuit.name, **_pursuit(dictionary, pursuit, folder)}, {}
        case other:
            raise UserError(f"cannot save {folder}: SAELens has no activation like {other.name}; {INSTEAD}")


def _pursuit(dictionary: Dictionary, pursuit: MatchingPursuit, folder: Path) -> dict[str, Any]:
    """Return a matching pursuit's options. Raises UserError for rows that are not the decoder's, b_dec only added."""
    adds_only = bool(dictionary.b_dec_D.any()) and not dictionary.subtract_b_dec
    if adds_only or not pursuit.W_FD.equal(dictionary.W_dec_FD):
        raise UserError(
            f"cannot save {folder}: a matching pursuit of SAELens picks decoder rows and subtracts b_dec, or has none; "
            f"{INSTEAD}"
        )
    return {
        "max_iterations": pursuit.max_steps,
        "residual_threshold": pursuit.residual_threshold,
        "stop_on_duplicate_support": pursuit.stop_on_repeat,
    }


def _transcoder(
    dictionary: Dictionary, options: dict[str, Any], tensors: dict[str, Tensor], folder: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a transcoder's options and tensors, given an autoencoder's. Raises UserError if SAELens has none such."""
    named = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}
    if options["architecture"] not in named or dictionary.subtract_b_dec or dictionary.normalisation != "none":
        raise UserError(
            f"cannot save {folder}: SAELens' transcoders have ReLU or JumpReLU, and neither normalise nor subtract "
            f"b_dec; {INSTEAD}"
        )
    skip = dictionary.W_skip_DE
    name = named[options["architecture"]]
    name = name if skip is None else name.replace("transcoder", "skip_transcoder")
    tensors |= {} if skip is None else {"W_skip": skip.T}
    return {"architecture": name, "d_out": dictionary.d_out}, tensors


def _by_norms(dictionary: Dictionary, scale_F: Tensor | None, folder: Path) -> bool:
    """Return whether top-k scales pre-activations by the decoder's norms. Raises UserError if by other factors."""
    import torch

    from sae.products import row_norms

    if scale_F is None:
        return False
    if torch.allclose(scale_F, row_norms(dictionary.W_dec_FD), rtol=1e-5, atol=0):
        return True
    raise UserError(f"cannot save {folder}: SAELens scales pre-activations by the decoder's norms only; {INSTEAD}")


def _metadata(dictionary: Dictionary, folder: Path) -> dict[str, Any]:
    """Return SAELens' own metadata: those that the dictionary was read with, then what is known of it now."""
    ours = dict(dictionary.metadata)
    read = (ours.pop("saelens", None) or {}).get("metadata") or {}
    origin = {name: value for name, value in read.items() if name != KWARGS or value is not None}
    known = {
        "model_name": dictionary.model,
        "hook_name": dictionary.hook_point,
        "hook_name_out": None if dictionary.is_autoencoder else dictionary.writes[0],
        "prepend_bos": ours.get("prepend_bos"),
        KWARGS: ours.get("processing"),
    }
    current = {name: value for name, value in known.items() if value is not None}
    stored = to_stored(dictionary.model, folder)  # the library itself reads only names and absolute paths
    near = {"model": stored} if stored and is_relative(stored) else {}
    needed: dict[str, Any] = {"sae_lens_training_version": None, KWARGS: {}}
    layout = {"sae_lens_version": VERSION}  # of the files, not of the training
    return needed | origin | current | layout | {OURS: {"kind": dictionary.kind} | near | ours}
