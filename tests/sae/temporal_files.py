"""Temporal autoencoders by hand: position after position, head after head, from SAELens' description."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import yaml

from sae.dictionary import ContextAttention, ContextPrediction, Dictionary
from tests.sae.release_files import Array, Case, Tensors, drawn, only, relu, residual, top_k

d, m, HEADS, BOTTLENECK = 6, 24, 2, 3
FOLDER = "gemma-2-2B/layer_12/temporal"
OPTIONS = {
    "n_heads": HEADS, "n_attn_layers": 1, "bottleneck_factor": BOTTLENECK, "sae_diff_type": "topk", "kval_topk": 4,
    "tied_weights": True,
}  # fmt: skip


def forward(options: Mapping[str, Any], scale: float, adds: bool, subtracts: bool, names: tuple[str, str, str]) -> Any:
    """The forward pass on one block: novel features, and the reconstruction with the prediction."""

    def run(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
        t = {name: array.astype(np.float64) for name, array in only(files).items()}
        W_dec, b = t[names[0]], t[names[2]]
        W_enc = W_dec.T if options["tied_weights"] else t[names[1]]
        left, small = scale * x - subtracts * b, 1 / (4 * x.shape[1])
        predicted = np.zeros_like(left)
        for number in range(options["n_attn_layers"]):
            acts = relu(small * left @ W_enc)
            for at, given in enumerate(attended(t, f"attn_layers.{number}.", acts)):
                direction = given @ W_dec
                share = direction @ left[at] / (np.linalg.norm(direction) + 1e-6) ** 2
                predicted[at] += share * direction
                left[at] -= share * direction
        novel = relu(small * left @ W_enc)
        if options["sae_diff_type"] == "topk" and options["kval_topk"]:
            novel = top_k(novel, options["kval_topk"])
        return novel, (novel @ W_dec + predicted + adds * b) / scale

    return run


def attended(t: Tensors, prefix: str, acts: Array) -> Array:
    """What each position's query picks among the positions before it; the first sees a row of zeros."""
    before = np.concatenate([np.zeros_like(acts[:1]), acts[:-1]])
    q, k, v = (
        inputs @ t[f"{prefix}{name}.weight"].T + t[f"{prefix}{name}.bias"]
        for name, inputs in (("q_target", acts), ("k_ctx", before), ("v_ctx", before))
    )
    rows = []
    for at in range(len(acts)):
        heads = []
        for one in range(HEADS):
            narrow, wide = (slice(one * n // HEADS, (one + 1) * n // HEADS) for n in (q.shape[1], v.shape[1]))
            scores = k[: at + 1, narrow] @ q[at, narrow] / np.sqrt(q.shape[1] / HEADS)
            weights = np.exp(scores - scores.max())
            heads.append(weights / weights.sum() @ v[: at + 1, wide])
        rows.append(relu(t[f"{prefix}c_proj.weight"] @ np.concatenate(heads) + t[f"{prefix}c_proj.bias"]))
    return np.stack(rows)


def tensors(names: tuple[str, str, str], options: Mapping[str, Any], width: int = d) -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {names[0]: (m, width), names[2]: (width,)}
    shapes |= {} if options["tied_weights"] else {names[1]: (width, m)}
    for number in range(options["n_attn_layers"]):
        widths = {"k_ctx": m // BOTTLENECK, "q_target": m // BOTTLENECK, "v_ctx": m, "c_proj": m}
        for name, width in widths.items():
            shapes[f"attn_layers.{number}.{name}.weight"] = (width, m)
            shapes[f"attn_layers.{number}.{name}.bias"] = (width,)
    return drawn(15, **shapes)


def release_case(**changes: Any) -> Case:
    options, names = OPTIONS | changes, ("D", "E", "b")
    about = {"llm": {"dimin": d}, "sae": options | {"exp_factor": m / d, "scaling_factor": 0.7}, "data": {}}
    return Case(
        FOLDER, {f"{FOLDER}/latest_ckpt.safetensors": tensors(names, options)},
        forward(options, 0.7, True, True, names), residual(12), residual(12), {f"{FOLDER}/conf.yaml": yaml.dump(about)},
        "google/gemma-2-2b",
    )  # fmt: skip


def saelens_case(factor: float | None = None, subtracts: bool = True, width: int = d, **changes: Any) -> Case:
    options, names = OPTIONS | changes, ("W_dec", "W_enc", "b_dec")
    normalise = {} if factor is None else {"activation_normalization_factor": factor}
    about = {"architecture": "temporal", "d_in": width, "d_sae": m, "apply_b_dec_to_input": subtracts,
             "normalize_activations": "constant_scalar_rescale" if factor else "none", **options, **normalise,
             "metadata": {"hook_name": "blocks.2.hook_resid_post", "model_name": "gpt2"}}  # fmt: skip
    adds = subtracts or not options["tied_weights"]
    return Case(
        "t", {"t/sae_weights.safetensors": tensors(names, options, width)},
        forward(options, factor or 1.0, adds, subtracts, names), residual(2), residual(2),
        {"t/cfg.json": json.dumps(about)}, "gpt2",
    )  # fmt: skip


TEMPORAL = {
    "temporal": release_case(),
    "temporal, two layers, ReLU": release_case(n_attn_layers=2, sae_diff_type="relu", tied_weights=False),
    "saelens temporal": saelens_case(),
    "saelens temporal, a factor, untied": saelens_case(3.0, tied_weights=False, kval_topk=None),
    "saelens temporal, b_dec only added": saelens_case(subtracts=False, tied_weights=False),
    "saelens temporal, b_dec unused": saelens_case(subtracts=False),
}


def temporal(width: int, n_features: int) -> Dictionary:
    """A random one of one layer and head, not read from files."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"A": 4, "F": n_features}
    names = ("W_q_FA", "b_q_A", "W_k_FA", "b_k_A", "W_v_FF", "b_v_F", "W_o_FF", "b_o_F")
    weights = [torch.randn([sizes[size] for size in name.split("_")[2]], generator=generator) for name in names]
    W_FD = torch.randn(n_features, width, generator=generator)
    context = ContextPrediction((ContextAttention(1, *weights),), 1e-6)
    zeros = torch.zeros(n_features), torch.zeros(width)
    return Dictionary("temporal", "sae", W_FD.T, zeros[0], W_FD, zeros[1], context=context)
