"""Reads and writes our own format: `dictionary.json` (all but the weights), `dictionary.safetensors` (fp32 tensors)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from sae.baselines.registry import kinds
from sae.common.errors import UserError
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import (
    non_negative,
    one_of,
    optional_typed,
    positive_int,
    read_json,
    require,
    require_typed,
    short_repr,
    texts,
)
from sae.formats.model_path import from_stored, to_stored
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import read_tensors
from sae.formats.tensor_checks import require_k, require_tensor
from sae.formats.write import write_folder

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, ContextPrediction, Dictionary

VERSION, WITHOUT_SCALES, READABLE = 4, 3, (1, 2, 3, 4)
"""Version 1 names one `hook_point`, both read and written, and local models by absolute paths only. Before version 3
what is written is as wide as what is read, and there is no skip. Before version 4 there are no scales beside the
weights and no context prediction; what has neither is still written as version 3."""
ABOUT, WEIGHTS = "dictionary.json", "dictionary.safetensors"
READ_SCALE, WRITE_SCALE = "read_scale", "write_scale"


def peek(folder: Path) -> Header:
    """Read dictionary.json."""
    about, path = _about(folder), folder / ABOUT
    metadata, (reads, writes) = _metadata(about, path), _hook_points(about, path)
    return Header(
        name=require_typed(about, "name", str, path),
        d_in=positive_int(about, "d_in", path),
        n_features=positive_int(about, "n_features", path),
        reads=reads,
        writes=writes,
        model=_model(about, folder),
        prepend_bos=optional_typed(metadata, "prepend_bos", bool, path),
        processing=optional_typed(metadata, "processing", dict, path),
        metadata=metadata,
    )


def load(folder: Path) -> Dictionary:
    """Read both files. Raises UserError naming the key or tensor that does not fit."""
    from sae.dictionary import Dictionary, Normalisation

    about, header, path = _about(folder), peek(folder), folder / WEIGHTS
    tensors = read_tensors(path)
    d, m, e = header.d_in, header.n_features, _d_out(about, header, folder / ABOUT)
    return Dictionary(
        name=header.name,
        kind=one_of(kinds(), about, "kind", folder / ABOUT),
        W_enc_DF=require_tensor(tensors, "W_enc", (d, m), path),
        b_enc_F=require_tensor(tensors, "b_enc", (m,), path),
        W_dec_FD=require_tensor(tensors, "W_dec", (m, e), path),
        b_dec_D=require_tensor(tensors, "b_dec", (e,), path),
        activation=_activation(require_typed(about, "activation", dict, folder / ABOUT), tensors, m, path),
        subtract_b_dec=require_typed(about, "subtract_b_dec", bool, folder / ABOUT),
        normalisation=one_of(get_args(Normalisation), about, "normalisation", folder / ABOUT),
        reads=header.reads,
        writes=header.writes,
        W_skip_DE=require_tensor(tensors, "W_skip", (d, e), path) if _flag(about, "skip", folder) else None,
        is_part=_flag(about, "is_part", folder),
        read_scale_D=require_tensor(tensors, READ_SCALE, (d,), path) if READ_SCALE in tensors else None,
        write_scale_E=require_tensor(tensors, WRITE_SCALE, (e,), path) if WRITE_SCALE in tensors else None,
        context=_context(about, tensors, m, path),
        model=header.model,
        metadata=_metadata(about, folder / ABOUT),
    )


def save(dictionary: Dictionary, folder: Path) -> None:
    """Write a folder of two files. Raises UserError if it exists or cannot be written."""
    tensors, activation = _tensors(dictionary)
    about = _describe(dictionary, activation) | {"model": to_stored(dictionary.model, folder)}
    write_folder(folder, (ABOUT, about), (WEIGHTS, tensors))


def _about(folder: Path) -> dict[str, Any]:
    """Read dictionary.json. Raises UserError if another version of this code is needed."""
    about = read_json(folder / ABOUT)
    if about.get("format_version") not in READABLE:
        version = short_repr(about.get("format_version"))
        raise UserError(
            f"{folder / ABOUT} has format version {version}; this code reads {', '.join(map(str, READABLE))}"
        )
    return about


def _flag(about: dict[str, Any], key: str, folder: Path) -> bool:
    return optional_typed(about, key, bool, folder / ABOUT) or False


def _d_out(about: dict[str, Any], header: Header, path: Path) -> int:
    """Return the width of what is written. Raises UserError if it is another one than an autoencoder's."""
    if "d_out" not in about:
        return header.d_in
    d_out = positive_int(about, "d_out", path)
    if d_out == header.d_in:
        return d_out
    if header.reads == header.writes:
        raise UserError(f"{path}: d_out is {d_out}, but it writes what it reads, which is {header.d_in} wide")
    if about.get("subtract_b_dec") or about.get("normalisation") != "none":
        raise UserError(f"{path}: subtract_b_dec and normalisation are for dictionaries that write what they read")
    return d_out


def _metadata(about: dict[str, Any], path: Path) -> dict[str, Any]:
    return require_typed(about, "metadata", dict, path) if "metadata" in about else {}


def _hook_points(about: dict[str, Any], path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hook points that are read and those that are written."""
    if about["format_version"] == 1:
        at = hook_points(optional_typed(about, "hook_point", str, path))
        return at, at
    return texts(about, "reads", path), texts(about, "writes", path)


def _model(about: dict[str, Any], folder: Path) -> str | None:
    """Return the model's name or its folder; version 1 has no relative paths."""
    stored = optional_typed(about, "model", str, folder / ABOUT)
    return stored if about["format_version"] == 1 else from_stored(stored, folder)


def _context(about: dict[str, Any], tensors: dict[str, Tensor], m: int, path: Path) -> ContextPrediction | None:
    """Return the context prediction; None if there is none."""
    from sae.dictionary import ContextAttention, ContextPrediction

    context, at = optional_typed(about, "context", dict, path.parent / ABOUT), path.parent / ABOUT
    if context is None:
        return None
    heads = require(context, "heads", at)
    if not isinstance(heads, list) or not all(isinstance(n, int) and n > 0 and m % n == 0 for n in heads):
        raise UserError(f"{at}: heads is {short_repr(heads)}, expected a list of divisors of {m}")

    def layer(number: int) -> ContextAttention:
        queries = require(tensors, f"context.{number}.b_q_A", path)
        width = len(queries) if queries.ndim == 1 and len(queries) % heads[number] == 0 else heads[number]
        sizes = {"A": width, "F": m}
        names = [each.name for each in fields(ContextAttention) if each.name != "n_heads"]
        shapes = {name: tuple(sizes[letter] for letter in name.rpartition("_")[2]) for name in names}
        prefix = f"context.{number}."
        weights = {name: require_tensor(tensors, prefix + name, shape, path) for name, shape in shapes.items()}
        return ContextAttention(n_heads=heads[number], **weights)

    return ContextPrediction(tuple(map(layer, range(len(heads)))), non_negative(context, "epsilon", at))


def _describe(dictionary: Dictionary, activation: dict[str, Any]) -> dict[str, Any]:
    context = dictionary.context
    scales = (dictionary.read_scale_D, dictionary.write_scale_E)
    is_newer = context is not None or any(scale is not None for scale in scales)
    described = {"heads": [layer.n_heads for layer in context.layers], "epsilon": context.epsilon} if context else None
    return ({"context": described} if context else {}) | {
        "format_version": VERSION if is_newer else WITHOUT_SCALES,
        "name": dictionary.name,
        "kind": dictionary.kind,
        "d_in": dictionary.d_in,
        "n_features": dictionary.n_features,
        "activation": activation,
        "subtract_b_dec": dictionary.subtract_b_dec,
        "normalisation": dictionary.normalisation,
        "reads": list(dictionary.reads),
        "writes": list(dictionary.writes),
        "d_out": dictionary.d_out,
        "skip": dictionary.W_skip_DE is not None,
        "is_part": dictionary.is_part,
        "metadata": dict(dictionary.metadata),
    }


def _tensors(dictionary: Dictionary) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from sae.dictionary import Gated, GroupMax, JumpReLU, MatchingPursuit, NonNegative, TopK

    tensors = {
        "W_enc": dictionary.W_enc_DF,
        "b_enc": dictionary.b_enc_F,
        "W_dec": dictionary.W_dec_FD,
        "b_dec": dictionary.b_dec_D,
    }
    if dictionary.W_skip_DE is not None:
        tensors["W_skip"] = dictionary.W_skip_DE
    scales = {READ_SCALE: dictionary.read_scale_D, WRITE_SCALE: dictionary.write_scale_E}
    tensors |= {name: scale for name, scale in scales.items() if scale is not None}
    tensors |= dictionary.context.tensors() if dictionary.context else {}
    activation = dictionary.activation
    about: dict[str, Any] = {"name": activation.name}
    match activation:
        case TopK(k=k, scale_F=scale_F):
            about["k"] = k
            if scale_F is not None:
                tensors["scale"] = scale_F
        case GroupMax(k=k):
            about["k"] = k
        case JumpReLU(threshold_F=threshold_F):
            tensors["threshold"] = threshold_F
        case Gated(b_gate_F=b_gate_F, r_mag_F=r_mag_F, b_mag_F=b_mag_F):
            tensors |= {"b_gate": b_gate_F, "r_mag": r_mag_F, "b_mag": b_mag_F}
        case NonNegative(gram_FF=gram_FF, k=k):
            tensors["gram"] = gram_FF
            about |= {} if k is None else {"k": k}
        case MatchingPursuit(W_FD=W_FD):
            about |= activation.options
            if not W_FD.equal(dictionary.W_dec_FD):
                tensors["rows"] = W_FD
    return tensors, about


def _activation(about: dict[str, Any], tensors: dict[str, Tensor], m: int, path: Path) -> Activation:
    from sae.dictionary import Activation, Gated, GroupMax, JumpReLU, MatchingPursuit, NonNegative, TopK

    bare = {activation.name: activation for activation in get_args(Activation) if not fields(activation)}
    match about.get("name"):
        case str(name) if name in bare:  # nothing but a name: ReLU and its like
            made: Activation = bare[name]()
            return made
        case "topk":
            scale_F = require_tensor(tensors, "scale", (m,), path) if "scale" in tensors else None
            return TopK(require_k(require(about, "k", path.parent / ABOUT), m, path.parent / ABOUT), scale_F)
        case "groupmax":
            return GroupMax(require_k(require(about, "k", path.parent / ABOUT), m, path.parent / ABOUT))
        case "jumprelu":
            return JumpReLU(require_tensor(tensors, "threshold", (m,), path))
        case "gated":
            b_gate_F, r_mag_F, b_mag_F = (
                require_tensor(tensors, name, (m,), path) for name in ("b_gate", "r_mag", "b_mag")
            )
            return Gated(b_gate_F, r_mag_F, b_mag_F)
        case "non_negative":
            k = require_k(about["k"], m, path.parent / ABOUT) if "k" in about else None
            return NonNegative(require_tensor(tensors, "gram", (m, m), path), k)
        case "matching_pursuit":
            d, at = len(tensors["W_enc"]), path.parent / ABOUT
            W_FD = require_tensor(tensors, "rows", (m, d), path) if "rows" in tensors else tensors["W_dec"]
            threshold, steps = non_negative(about, "residual_threshold", at), positive_int(about, "max_steps", at)
            return MatchingPursuit(W_FD, steps, threshold, require_typed(about, "stop_on_repeat", bool, at))
        case other:
            raise UserError(f"{path.parent / ABOUT}: activation {short_repr(other)} is not known to this version")


FORMATS.register(
    "own", Format("own", f"a folder with {ABOUT} and {WEIGHTS}", peek, load, save, marker=ABOUT, reads=(ABOUT, WEIGHTS))
)
