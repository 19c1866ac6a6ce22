"""Reads temporal autoencoders (arXiv 2511.01836): `conf.yaml` and `latest_ckpt.safetensors` of a folder.

Read from SAELens' `saes/temporal_sae.py` and its loader of them, version 6.54; SAELens' own folders of this
architecture come here, too (`saelens`). A block's vectors are predicted from those before them by attention over
features; TopK or ReLU features are of what is left. Decoding adds the prediction back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.common.yaml_files import YamlError, parse
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import first_line, non_negative, one_of, positive_int, require_typed
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import read_tensors
from sae.formats.tensor_checks import require_k, require_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import ContextPrediction, Dictionary, Normalisation

ABOUT, WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
MODELS = {"gemma-2-2b": "google/gemma-2-2b", "llama-3.1-8b": "meta-llama/Llama-3.1-8B"}
"""The models of the release's folders, `gemma-2-2B/layer_12/temporal`."""
EPSILON = 1e-6
"""Added to the norm of a direction that is projected on."""
NOTE = "a token's features depend on the tokens before it in its block, of which a BOS token in front is not one"


@dataclass(frozen=True)
class Names:
    """Holds how a format calls the decoder, the encoder and the bias."""

    W_dec: str = "D"
    W_enc: str = "E"
    b_dec: str = "b"


def peek(folder: Path) -> Header:
    """Read conf.yaml; model and layer are in the names of the folders."""
    path, resolved = folder / ABOUT, folder.resolve()
    d, factor = positive_int(_section(folder, "llm"), "dimin", path), _section(folder, "sae")
    layer = re.search(r"layer_(\d+)", resolved.as_posix())
    model = re.search("|".join(map(re.escape, MODELS)), resolved.as_posix().lower())
    at = hook_points(f"blocks.{layer[1]}.hook_resid_post" if layer else None)
    return Header(
        name=f"{resolved.parent.name}-{resolved.name}",
        d_in=d,
        n_features=int(d * non_negative(factor, "exp_factor", path)),
        reads=at,
        writes=at,
        model=MODELS[model[0]] if model else None,
        processing={},
        notes=(NOTE,),
    )


def load(folder: Path) -> Dictionary:
    """Read both files. Raises UserError if one is damaged or a tensor does not fit."""
    about = {"apply_b_dec_to_input": True} | _section(folder, "sae")
    scale = non_negative(about, "scaling_factor", folder / ABOUT)
    return dictionary(peek(folder), about, read_tensors(folder / WEIGHTS), scale, (folder / ABOUT, folder / WEIGHTS))


def dictionary(
    header: Header,
    about: Mapping[str, Any],
    tensors: Mapping[str, Any],
    scale: float,
    paths: tuple[Path, Path],
    names: Names = Names(),  # frozen
    normalisation: Normalisation = "none",
) -> Dictionary:
    """Return the dictionary. Raises UserError for an option or a tensor that does not fit.

    Args:
        about: SAELens' options of this architecture.
        scale: the vectors are multiplied by it before anything else.
        paths: of the options and of the tensors, for messages.
    """
    from sae.dictionary import Dictionary, ReLU, TopK

    (at, path), d, m = paths, header.d_in, header.n_features
    if not scale:
        raise UserError(f"{at}: the factor of the activations is 0; it must be above 0")
    kind = one_of(("topk", "relu"), about, "sae_diff_type", at)
    k = about.get("kval_topk") if kind == "topk" else None
    tied, subtracts = (require_typed(about, key, bool, at) for key in ("tied_weights", "apply_b_dec_to_input"))
    W_dec_FD = require_tensor(tensors, names.W_dec, (m, d), path)
    b_dec_D = require_tensor(tensors, names.b_dec, (d,), path) / scale
    return Dictionary(
        name=header.name,
        kind="sae",
        W_enc_DF=W_dec_FD.T if tied else require_tensor(tensors, names.W_enc, (d, m), path),
        b_enc_F=b_dec_D.new_zeros(m),
        W_dec_FD=W_dec_FD,
        b_dec_D=b_dec_D.new_zeros(d) if tied and not subtracts else b_dec_D,
        activation=ReLU() if k is None else TopK(require_k(k, m, at)),
        subtract_b_dec=subtracts,
        normalisation=normalisation,
        reads=header.reads,
        writes=header.writes,
        read_scale_D=b_dec_D.new_full((d,), scale / (4 * d)),
        write_scale_E=b_dec_D.new_full((d,), scale),
        context=_context(about, tensors, m, scale, paths),
        model=header.model,
    )


def _context(
    about: Mapping[str, Any], tensors: Mapping[str, Any], m: int, scale: float, paths: tuple[Path, Path]
) -> ContextPrediction:
    """Return the attention layers. Raises UserError if the sizes do not divide each other."""
    from sae.dictionary import ContextAttention, ContextPrediction

    n_heads, bottleneck, n_layers = (
        positive_int(about, key, paths[0]) for key in ("n_heads", "bottleneck_factor", "n_attn_layers")
    )
    if m % (n_heads * bottleneck):
        raise UserError(
            f"{paths[0]}: {m} features are not a multiple of n_heads {n_heads} times bottleneck_factor {bottleneck}"
        )

    def linear(number: int, name: str, width: int) -> tuple[Tensor, Tensor]:
        prefix = f"attn_layers.{number}.{name}"
        weight = require_tensor(tensors, f"{prefix}.weight", (width, m), paths[1])
        return weight.T, require_tensor(tensors, f"{prefix}.bias", (width,), paths[1])

    narrow = m // bottleneck
    layers = [
        ContextAttention(
            n_heads,
            *linear(number, "q_target", narrow),
            *linear(number, "k_ctx", narrow),
            *linear(number, "v_ctx", m),
            *linear(number, "c_proj", m),
        )
        for number in range(n_layers)
    ]
    return ContextPrediction(tuple(layers), EPSILON / scale)


def _section(folder: Path, name: str) -> dict[str, Any]:
    """Return a section of conf.yaml. Raises UserError if the file or the section is missing or holds no mapping."""
    path = folder / ABOUT
    try:
        about = parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YamlError) as error:
        raise UserError(f"cannot read {path}, which a temporal autoencoder has: {first_line(error)}") from error
    return require_typed(about if isinstance(about, dict) else {}, name, dict, path)


FORMATS.register(
    "temporal",
    Format("temporal", f"a folder with {ABOUT} and {WEIGHTS}", peek, load, marker=WEIGHTS, reads=(ABOUT, WEIGHTS)),
)
