"""Our own format: `dictionary.json` (what it is) and `dictionary.safetensors` (canonical tensors, fp32)."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from sae.dictionary import Activation, Dictionary, Gated, GroupMax, JumpReLU, Kind, NonNegative, Normalisation, TopK
from sae.errors import UserError, near
from sae.formats.header import Header, fitting, fitting_k, read_json, read_tensors, require, write_folder

VERSION = 1
ABOUT, WEIGHTS = "dictionary.json", "dictionary.safetensors"


def peek(folder: Path) -> Header:
    about = _about(folder)
    metadata = about.get("metadata", {})
    return Header(
        name=require(about, "name", folder / ABOUT),
        d_in=require(about, "d_in", folder / ABOUT),
        n_features=require(about, "n_features", folder / ABOUT),
        hook_point=about.get("hook_point"),
        model=about.get("model"),
        prepend_bos=metadata.get("prepend_bos"),
        processing=metadata.get("processing", {}),
    )


def load(folder: Path) -> Dictionary:
    about, header, path = _about(folder), peek(folder), folder / WEIGHTS
    tensors = read_tensors(path)
    d, m = header.d_in, header.n_features
    return Dictionary(
        name=header.name,
        kind=_one_of(get_args(Kind), about, "kind", folder / ABOUT),
        W_enc_DF=fitting(tensors, "W_enc", (d, m), path),
        b_enc_F=fitting(tensors, "b_enc", (m,), path),
        W_dec_FD=fitting(tensors, "W_dec", (m, d), path),
        b_dec_D=fitting(tensors, "b_dec", (d,), path),
        activation=_activation(require(about, "activation", folder / ABOUT), tensors, m, path),
        subtract_b_dec=require(about, "subtract_b_dec", folder / ABOUT),
        normalisation=_one_of(get_args(Normalisation), about, "normalisation", folder / ABOUT),
        hook_point=header.hook_point,
        model=header.model,
        metadata=about.get("metadata", {}),
    )


def save(dictionary: Dictionary, folder: Path) -> None:
    tensors, activation = _tensors(dictionary)
    write_folder(folder, (ABOUT, _describe(dictionary, activation)), (WEIGHTS, tensors))


def _about(folder: Path) -> dict[str, Any]:
    about = read_json(folder / ABOUT)
    if about.get("format_version") != VERSION:
        raise UserError(f"{folder / ABOUT} has format version {about.get('format_version')}; this code reads {VERSION}")
    return about


def _one_of(known: tuple[str, ...], about: dict[str, Any], key: str, path: Path) -> Any:
    value = require(about, key, path)
    if value not in known:
        raise UserError(f"{path}: {key} is {value!r}{near(str(value), list(known))}")
    return value


def _describe(dictionary: Dictionary, activation: dict[str, Any]) -> dict[str, Any]:
    return {
        "format_version": VERSION,
        "name": dictionary.name,
        "kind": dictionary.kind,
        "d_in": dictionary.d_in,
        "n_features": dictionary.n_features,
        "activation": activation,
        "subtract_b_dec": dictionary.subtract_b_dec,
        "normalisation": dictionary.normalisation,
        "hook_point": dictionary.hook_point,
        "model": dictionary.model,
        "metadata": dict(dictionary.metadata),
    }


def _tensors(dictionary: Dictionary) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {
        "W_enc": dictionary.W_enc_DF,
        "b_enc": dictionary.b_enc_F,
        "W_dec": dictionary.W_dec_FD,
        "b_dec": dictionary.b_dec_D,
    }
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
    return tensors, about


def _activation(about: dict[str, Any], tensors: dict[str, Tensor], m: int, path: Path) -> Activation:
    bare = {activation.name: activation for activation in get_args(Activation) if not fields(activation)}
    match about.get("name"):
        case str(name) if name in bare:  # nothing but a name: ReLU and its like
            made: Activation = bare[name]()
            return made
        case "topk":
            scale_F = fitting(tensors, "scale", (m,), path) if "scale" in tensors else None
            return TopK(fitting_k(require(about, "k", path.parent / ABOUT), m, path.parent / ABOUT), scale_F)
        case "groupmax":
            return GroupMax(fitting_k(require(about, "k", path.parent / ABOUT), m, path.parent / ABOUT))
        case "jumprelu":
            return JumpReLU(fitting(tensors, "threshold", (m,), path))
        case "gated":
            b_gate_F, r_mag_F, b_mag_F = (fitting(tensors, name, (m,), path) for name in ("b_gate", "r_mag", "b_mag"))
            return Gated(b_gate_F, r_mag_F, b_mag_F)
        case "non_negative":
            k = fitting_k(about["k"], m, path.parent / ABOUT) if "k" in about else None
            return NonNegative(fitting(tensors, "gram", (m, m), path), k)
        case other:
            raise UserError(f"{path.parent / ABOUT}: activation {other!r} is not known to this version")
