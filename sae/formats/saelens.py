"""SAELens' folders, version 6 and before: `cfg.json` and `sae_weights.safetensors`.

Read from the library's `saes/*.py` and `loading/pretrained_sae_loaders.py`, version 6.54. BatchTopK and Matryoshka
autoencoders are saved by it as `jumprelu`.
"""

from pathlib import Path
from typing import Any

from sae.errors import UserError
from sae.formats.header import Header, fitting, read_json, read_tensors, require, without_scaling

ABOUT, WEIGHTS = "cfg.json", "sae_weights.safetensors"
PROCESSING = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
NORMALISATIONS = {
    "none": "none",
    "expected_average_only_in": "none",  # its factor is folded into the weights
    "constant_norm_rescale": "constant_norm_rescale",
    "layer_norm": "layer_norm",
}


def peek(folder: Path) -> Header:
    config = _config(folder)
    about = config["metadata"]
    processing = about.get("model_from_pretrained_kwargs") or {}
    return Header(
        name=folder.resolve().name,
        d_in=require(config, "d_in", folder / ABOUT),
        n_features=require(config, "d_sae", folder / ABOUT),
        hook_point=about.get("hook_name"),
        model=about.get("model_name"),
        prepend_bos=about.get("prepend_bos"),
        processing=_processing(processing),
    )


def load(folder: Path) -> Any:
    from sae.dictionary import Dictionary

    config, header, path = _config(folder), peek(folder), folder / WEIGHTS
    tensors = without_scaling(read_tensors(path), path)
    d, m = header.d_in, header.n_features
    W_dec_FD = fitting(tensors, "W_dec", (m, d), path)
    gated = config["architecture"] == "gated"
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=fitting(tensors, "W_enc", (d, m), path),
        b_enc_F=W_dec_FD.new_zeros(m) if gated else fitting(tensors, "b_enc", (m,), path),
        W_dec_FD=W_dec_FD,
        b_dec_D=fitting(tensors, "b_dec", (d,), path),
        activation=_activation(config, tensors, W_dec_FD, path),
        subtract_b_dec=config.get("apply_b_dec_to_input", True),
        normalisation=_normalisation(config, folder / ABOUT),
        hook_point=header.hook_point,
        model=header.model,
        metadata={"saelens": config},
    )


def _config(folder: Path) -> dict[str, Any]:
    """cfg.json in version 6's layout; the flat layout before it is renamed."""
    config = read_json(folder / ABOUT)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has {ABOUT} but no {WEIGHTS}; a SAELens folder has both")
    if "metadata" in config:
        return config | {"architecture": config.get("architecture", "standard")}
    hook_name = config.get("hook_name", config.get("hook_point"))
    kwargs = config.get("activation_fn_kwargs") or {}
    activation = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    if activation not in ("relu", "topk"):
        raise UserError(f"{folder / ABOUT}: activation function {activation!r} is not supported (relu and topk are)")
    normalise = config.get("normalize_activations") or "none"
    return config | {
        "architecture": "topk" if activation == "topk" else config.get("architecture", "standard"),
        "k": kwargs.get("k", config.get("k")),
        "normalize_activations": "expected_average_only_in" if normalise is True else normalise,
        "metadata": {
            "hook_name": hook_name,
            "model_name": config.get("model_name"),
            "prepend_bos": config.get("prepend_bos", True),
            "model_from_pretrained_kwargs": config.get("model_from_pretrained_kwargs"),
        },
    }


def _processing(kwargs: dict[str, Any]) -> dict[str, bool]:
    """SAELens loads its model unprocessed but for these flags; empty if all of them are off."""
    flags = {name: bool(kwargs.get(name, False)) for name in PROCESSING}
    return flags if any(flags.values()) else {}


def _normalisation(config: dict[str, Any], path: Path) -> Any:
    wanted = config.get("normalize_activations", "none")
    if wanted not in NORMALISATIONS:
        raise UserError(
            f"{path}: normalize_activations {wanted!r} is not supported; fold it with SAELens and save again"
        )
    return NORMALISATIONS[wanted]


def _activation(config: dict[str, Any], tensors: dict[str, Any], W_dec_FD: Any, path: Path) -> Any:
    from sae.dictionary import Gated, JumpReLU, ReLU, TopK

    m = len(W_dec_FD)
    match config["architecture"]:
        case "standard":
            return ReLU()
        case "topk":
            rescale = config.get("rescale_acts_by_decoder_norm", False)
            return TopK(int(require(config, "k", path.parent / ABOUT)), W_dec_FD.norm(dim=1) if rescale else None)
        case "jumprelu":
            return JumpReLU(fitting(tensors, "threshold", (m,), path))
        case "gated":
            b_gate_F, r_mag_F, b_mag_F = (fitting(tensors, name, (m,), path) for name in ("b_gate", "r_mag", "b_mag"))
            return Gated(b_gate_F, r_mag_F, b_mag_F)
        case other:
            raise UserError(
                f"{path.parent / ABOUT}: architecture {other!r} is not supported (standard, topk, jumprelu, gated are)"
            )
