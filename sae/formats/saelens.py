"""Reads and writes SAELens' folders, version 6 and before: `cfg.json` and `sae_weights.safetensors`.

Read from the library's `saes/*.py` and `loading/pretrained_sae_loaders.py`, version 6.54. BatchTopK and Matryoshka
autoencoders are saved by it as `jumprelu`. A matching pursuit's encoder is its decoder. Temporal autoencoders are made
by the reader of their own format.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.baselines.registry import kinds
from sae.common.errors import UserError
from sae.formats import temporal
from sae.formats.changes import flags_of
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
)
from sae.formats.model_path import from_stored
from sae.formats.registry import FORMATS, Format
from sae.formats.saelens_save import ABOUT, KWARGS, OURS, WEIGHTS, save
from sae.formats.safe_load import read_tensors
from sae.formats.tensor_checks import require_k, require_tensor, without_scaling

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, Dictionary

TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
PURSUIT = "matching_pursuit"
TEMPORAL, ONE_FACTOR = "temporal", "constant_scalar_rescale"
"""The architecture that may have one factor for all vectors in its options, under this normalisation."""
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated", PURSUIT, TEMPORAL, *TRANSCODERS)
NORMALISATIONS = ("none", "constant_norm_rescale", "layer_norm")
"""The normalisations of every single vector; they have the same names here."""
AVERAGED = "expected_average_only_in"
"""One factor for all vectors, which no file holds. When SAELens folds it into the weights, at the end of a training or
in `from_pretrained` for the releases whose factor it lists, it writes "none". A file with this value is not folded."""
UNKNOWN_PROCESSING = (
    f"{ABOUT} does not say how the model's weights were processed, so they are not processed; dictionaries of "
    f"gpt2 from before SAELens 6 were mostly trained on centred ones: there, set {KWARGS} to "
    '{"center_writing_weights": true}'
)


def peek(folder: Path) -> Header:
    """Read cfg.json."""
    config, path = _config(folder), folder / ABOUT
    if config["architecture"] not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"{path}: architecture {short_repr(config['architecture'])} is not supported ({known} are)")
    _normalisation(config, path)
    about = config["metadata"]
    processing, (reads, writes) = _processing(about, path), _ends(config, path)
    return Header(
        name=folder.resolve().name,
        d_in=positive_int(config, "d_in", path),
        n_features=positive_int(config, "d_sae", path),
        reads=reads,
        writes=writes,
        model=_model(about, path),
        prepend_bos=optional_typed(about, "prepend_bos", bool, path),
        processing=processing,
        notes=((UNKNOWN_PROCESSING,) if processing is None else ())
        + ((temporal.NOTE,) if config["architecture"] == TEMPORAL else ()),
    )


def load(folder: Path) -> Dictionary:
    """Read both files. Raises UserError for what a dictionary cannot express and for tensors that do not fit."""
    from sae.dictionary import Dictionary

    config, header, path = _config(folder), peek(folder), folder / WEIGHTS
    tensors = without_scaling(read_tensors(path), path)
    d, m = header.d_in, header.n_features
    if config["architecture"] == TEMPORAL:
        return _temporal(config, header, tensors, folder)
    transcodes, skips = config["architecture"] in TRANSCODERS, "skip" in config["architecture"]
    e = positive_int(config, "d_out", folder / ABOUT) if transcodes else d
    W_dec_FD = require_tensor(tensors, "W_dec", (m, e), path)
    gated, pursuit = config["architecture"] == "gated", config["architecture"] == PURSUIT
    W_dec_FD = W_dec_FD.float() if pursuit else W_dec_FD  # each step reads all rows: converted once
    b_dec_D = require_tensor(tensors, "b_dec", (e,), path)
    subtracts = _subtracts(config, folder / ABOUT)
    ours = {"kind": "sae"} | (_ours(config["metadata"], folder / ABOUT) or {})
    config["metadata"] = {name: value for name, value in config["metadata"].items() if not _is_ours(name, value)}
    kind = one_of(kinds(), ours, "kind", folder / ABOUT)
    return Dictionary(
        name=header.name,
        kind=kind,
        W_enc_DF=W_dec_FD.T if pursuit else require_tensor(tensors, "W_enc", (d, m), path),
        b_enc_F=b_dec_D.new_zeros(m) if gated or pursuit else require_tensor(tensors, "b_enc", (m,), path),
        W_dec_FD=W_dec_FD,
        b_dec_D=b_dec_D.new_zeros(e) if pursuit and not subtracts else b_dec_D,  # there it adds it back or nothing
        activation=_activation(config, tensors, W_dec_FD, path),
        subtract_b_dec=subtracts,
        normalisation=_normalisation(config, folder / ABOUT),
        reads=header.reads,
        writes=header.writes,
        W_skip_DE=require_tensor(tensors, "W_skip", (e, d), path).T if skips else None,
        model=header.model,
        metadata={"saelens": config} | {name: value for name, value in ours.items() if name not in ("kind", "model")},
    )


def _temporal(config: dict[str, Any], header: Header, tensors: dict[str, Tensor], folder: Path) -> Dictionary:
    """Return a temporal autoencoder, of which SAELens' options have the names that its own format gives them."""
    about = folder / ABOUT
    options = {"tied_weights": True, "apply_b_dec_to_input": True, "sae_diff_type": "topk"} | config
    options = {"n_heads": 8, "n_attn_layers": 1, "bottleneck_factor": 64} | options  # the library's defaults
    one_factor = config.get("normalize_activations") == ONE_FACTOR
    scale = (
        non_negative({"activation_normalization_factor": 1.0} | options, "activation_normalization_factor", about)
        if one_factor
        else 1.0
    )
    names = temporal.Names("W_dec", "W_enc", "b_dec")
    made = temporal.dictionary(
        header, options, tensors, scale, (about, folder / WEIGHTS), names, _normalisation(config, about)
    )
    return replace(made, metadata={"saelens": config})


def _ours(about: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Return what we wrote beside SAELens' own metadata; None if SAELens itself wrote the file."""
    optional_typed(about, OURS, dict, path)
    return next((value for name, value in about.items() if _is_ours(name, value)), None)


def _is_ours(name: str, value: Any) -> bool:
    """Return whether this entry of the metadata is ours. Older versions of this code had another key for it."""
    return name == OURS or (isinstance(value, dict) and "kind" in value)


def _model(about: dict[str, Any], path: Path) -> str | None:
    """Return the model's name or its folder; ours says where a folder lies that was copied with the dictionary's."""
    ours = _ours(about, path) or {}
    stored = optional_typed(ours, "model", str, path)
    return from_stored(stored, path.parent) if stored else optional_typed(about, "model_name", str, path)


def _config(folder: Path) -> dict[str, Any]:
    """Read cfg.json and rename the flat layout of versions before 6 to that of version 6."""
    config = read_json(folder / ABOUT)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has {ABOUT} but no {WEIGHTS}; a SAELens folder has both")
    if "metadata" in config:
        require_typed(config, "metadata", dict, folder / ABOUT)
        return config | {"architecture": config.get("architecture", "standard")}
    hook_name = config.get("hook_name", config.get("hook_point"))
    kwargs = optional_typed(config, "activation_fn_kwargs", dict, folder / ABOUT) or {}
    activation = config.get("activation_fn_str", config.get("activation_fn", "relu"))
    if activation not in ("relu", "topk"):
        raise UserError(
            f"{folder / ABOUT}: activation function {short_repr(activation)} is not supported (relu, topk are)"
        )
    normalise = config.get("normalize_activations") or "none"
    return config | {
        "architecture": "topk" if activation == "topk" else config.get("architecture", "standard"),
        "k": kwargs.get("k", config.get("k")),
        "normalize_activations": AVERAGED if normalise is True else normalise,
        "metadata": {
            "hook_name": hook_name,
            "model_name": config.get("model_name"),
            "hook_name_out": config.get("hook_name_out"),
            "hook_head_index": config.get("hook_head_index"),
            "prepend_bos": config.get("prepend_bos", True),
            KWARGS: config.get(KWARGS),
        },
    }


def _processing(about: dict[str, Any], path: Path) -> dict[str, bool] | None:
    """Return the processing of the model's weights: empty if all flags are off, None if the file does not say.

    SAELens loads its model unprocessed except for these flags. In a file that we wrote an empty mapping may be there
    only because the library needs one: then our own entry says whether the processing is known.
    """
    kwargs, ours = optional_typed(about, KWARGS, dict, path), _ours(about, path)
    if kwargs is None or (not kwargs and ours is not None and "processing" not in ours):
        return None
    return flags_of([name for name, value in kwargs.items() if value])


def _ends(config: dict[str, Any], path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hook points read and written. Raises UserError for a transcoder that does not name both."""
    about = config["metadata"]
    if about.get("hook_head_index") is not None:
        head = short_repr(about["hook_head_index"])
        raise UserError(
            f"{path}: it reads head {head} of its hook point alone (hook_head_index), which is not supported"
        )
    reads = hook_points(optional_typed(about, "hook_name", str, path))
    if config["architecture"] not in TRANSCODERS:
        return reads, reads
    writes = hook_points(optional_typed(about, "hook_name_out", str, path))
    if not reads or not writes or reads == writes:
        raise UserError(
            f"{path}: a transcoder must name what it reads and writes, two hook points; set metadata.hook_name and "
            "metadata.hook_name_out"
        )
    return reads, writes


def _subtracts(config: dict[str, Any], path: Path) -> bool:
    """Tell whether b_dec is subtracted from the input. Raises UserError for a transcoder: its b_dec is the output's."""
    given = optional_typed(config, "apply_b_dec_to_input", bool, path)
    if config["architecture"] not in TRANSCODERS:
        return given is not False
    if given:
        raise UserError(f"{path}: apply_b_dec_to_input is on, which no transcoder can have; set it to false")
    return False


def _normalisation(config: dict[str, Any], path: Path) -> Any:
    name = config.get("normalize_activations", "none")
    if name != "none" and config["architecture"] in TRANSCODERS:
        raise UserError(f"{path}: normalize_activations is {short_repr(name)}; of transcoders only none is supported")
    if name == AVERAGED:
        raise UserError(
            f"{path}: normalize_activations is {name}, and its factor is not in the weights; with SAELens, load it "
            "by SAE.from_pretrained if that knows the release (it folds the factor), or by SAE.load_from_disk and call "
            "sae.fold_activation_norm_scaling_factor(FACTOR), then sae.save_model(FOLDER)"
        )
    if name == ONE_FACTOR and config["architecture"] == TEMPORAL:
        return "none"
    if name not in NORMALISATIONS:
        raise UserError(
            f"{path}: normalize_activations {short_repr(name)} is not supported ({', '.join(NORMALISATIONS)} are); "
            "fold it with SAELens and save again"
        )
    return name


def _activation(config: dict[str, Any], tensors: dict[str, Tensor], W_dec_FD: Tensor, path: Path) -> Activation:
    from sae.dictionary import Gated, JumpReLU, MatchingPursuit, ReLU, TopK
    from sae.products import row_norms

    m = len(W_dec_FD)
    match config["architecture"]:
        case "standard" | "transcoder" | "skip_transcoder":
            return ReLU()
        case "topk":
            rescale = optional_typed(config, "rescale_acts_by_decoder_norm", bool, path.parent / ABOUT)
            k = require_k(require(config, "k", path.parent / ABOUT), m, path.parent / ABOUT)
            return TopK(k, row_norms(W_dec_FD) if rescale else None)
        case "jumprelu" | "jumprelu_transcoder" | "jumprelu_skip_transcoder":
            return JumpReLU(require_tensor(tensors, "threshold", (m,), path))
        case "gated":
            b_gate_F, r_mag_F, b_mag_F = (
                require_tensor(tensors, name, (m,), path) for name in ("b_gate", "r_mag", "b_mag")
            )
            return Gated(b_gate_F, r_mag_F, b_mag_F)
        case "matching_pursuit":
            about, d = path.parent / ABOUT, W_dec_FD.shape[1]
            steps = d if config.get("max_iterations") is None else positive_int(config, "max_iterations", about)
            threshold = non_negative({"residual_threshold": 1e-2} | config, "residual_threshold", about)
            repeat = optional_typed(config, "stop_on_duplicate_support", bool, about)
            return MatchingPursuit(W_dec_FD, steps, threshold, stop_on_repeat=repeat is not False)
        case other:
            raise ValueError(f"architecture {other!r} was let through")


FORMATS.register(
    "saelens",
    Format("saelens", f"a folder with {ABOUT} and {WEIGHTS}", peek, load, save, marker=ABOUT, reads=(ABOUT, WEIGHTS)),
)
