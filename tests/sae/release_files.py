"""Small dictionaries in the releases' own files, written by hand, each with its forward pass in numpy.

Shape: d the width of one hook point, m features, L layers; `Case.files` holds every tensor by file and name.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[Any]
Tensors = dict[str, Array]
Forward = Callable[[Array, Mapping[str, Tensors]], tuple[Array, Array]]
d, m, L, B = 6, 20, 3, 40


@dataclass(frozen=True)
class Case:
    """A dictionary's files below a folder, the path that is given, and what it must compute."""

    given: str
    """The path that is opened, below the folder."""
    files: Mapping[str, Tensors]
    forward: Forward
    """Features [B, m] and what is written [B, e], from what is read [B, d] and the files."""
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    optional: tuple[str, ...] = ()
    """Tensors without which the file is another dictionary, as valid."""
    is_part: bool = False

    def write(self, folder: Path, files: Mapping[str, Tensors] | None = None) -> Path:
        """Write all files and return the path that is opened."""
        for name, tensors in (files or self.files).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _save(folder / name, tensors)
        for name, text in self.texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return folder / self.given


def _save(path: Path, tensors: Tensors) -> None:
    if path.suffix == ".safetensors":
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        torch.save({name: torch.from_numpy(np.array(array, order="C")) for name, array in tensors.items()}, path)


def drawn(seed: int, **shapes: tuple[int, ...]) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        name.replace("__", "."): rng.normal(size=shape).astype(np.float32) * 0.5 + ("threshold" in name)
        for name, shape in shapes.items()
    }


def relu(pre: Array) -> Array:
    return np.maximum(pre, 0)


def jump(pre: Array, threshold: Array) -> Array:
    return relu(pre) * (pre > threshold)


def top_k(pre: Array, k: int) -> Array:
    kept = np.argsort(-pre, axis=1, kind="stable")[:, :k]
    features = np.zeros_like(pre)
    np.put_along_axis(features, kept, np.take_along_axis(relu(pre), kept, 1), 1)
    return features


def only(files: Mapping[str, Tensors]) -> Tensors:
    return next(iter(files.values()))


def gemma(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = {name.lower(): array for name, array in only(files).items()}
    features = jump(x @ t["w_enc"] + t["b_enc"], t["threshold"])
    skip = x @ t["affine_skip_connection"] if "affine_skip_connection" in t else 0
    return features, features @ t["w_dec"] + t["b_dec"] + skip


GEMMA = {"w_enc": (d, m), "w_dec": (m, d), "b_enc": (m,), "b_dec": (d,), "threshold": (m,)}


def gemma_case(
    folder: str, reads: str, writes: str, about: Mapping[str, Any] | None = None, affine: bool = False
) -> Case:
    shapes = GEMMA | ({"affine_skip_connection": (d, d)} if affine else {})
    return Case(
        f"gemma-scope-2-4b-pt/{folder}",
        {f"gemma-scope-2-4b-pt/{folder}/params.safetensors": drawn(1, **shapes)},
        gemma,
        (f"blocks.17.{reads}",),
        (f"blocks.17.{writes}",),
        {f"gemma-scope-2-4b-pt/{folder}/config.json": json.dumps(about)} if about else {},
        "google/gemma-3-4b-pt",
    )


def gemma_layers(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    """The tutorial's JumpReLUMultiLayerSAE, a layer at a time."""
    layers = [tensors for _, tensors in sorted(files.items())]
    x_BLd = x.reshape(len(x), len(layers), -1)
    features = [jump(x_BLd[:, i] @ t["w_enc"] + t["b_enc"], t["threshold"]) for i, t in enumerate(layers)]
    out = np.stack([t["b_dec"] for t in layers])[None].repeat(len(x), 0)
    for i, (f, t) in enumerate(zip(features, layers, strict=True)):
        out = out + np.einsum("bm,mld->bld", f, t["w_dec"])
        if "affine_skip_connection" in t:
            out[:, i] += x_BLd[:, i] @ t["affine_skip_connection"]
    return np.concatenate(features, 1), out.reshape(len(x), -1)


def gemma_layers_case(kind: str, layers: tuple[int, ...], affine: bool) -> Case:
    folder = {
        "clt": f"clt/width_262k_l0_big{'_affine' * affine}",
        "crosscoder": "crosscoder/layer_5_9_12_width_1m_l0_big",
    }
    shapes = GEMMA | {"w_dec": (m, L, d)} | ({"affine_skip_connection": (d, d)} if affine else {})
    numbers = "all" if kind == "clt" else ",".join(map(str, layers))
    ends = ("pre_feedforward_layernorm", "post_feedforward_layernorm") if kind == "clt" else ("", "")
    names = [f"model.layers.{{{numbers}}}.{f'{end}.' if end else ''}output" for end in ends]
    about = {
        "hf_hook_point_in": names[0],
        "hf_hook_point_out": names[1],
        "model_name": "google/gemma-3-270m-pt",
        "architecture": "jump_relu",
        "affine_connection": affine,
        "type": kind,
    }
    reads, writes = ("mlp.hook_in", "hook_mlp_out") if kind == "clt" else ("hook_resid_post", "hook_resid_post")
    return Case(
        folder[kind],
        {f"{folder[kind]}/params_layer_{i}.safetensors": drawn(10 + i, **shapes) for i in range(L)},
        gemma_layers,
        tuple(f"blocks.{i}.{reads}" for i in layers),
        tuple(f"blocks.{i}.{writes}" for i in layers),
        {f"{folder[kind]}/config.json": json.dumps(about)},
        "google/gemma-3-270m",
    )


def tracer(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = only(files)
    pre = x @ t["W_enc"].T + t["b_enc"]
    threshold = t.get("activation_function.threshold")
    features = relu(pre) if threshold is None else jump(pre, threshold)
    return features, features @ t["W_dec"] + t["b_dec"] + (x @ t["W_skip"].T if "W_skip" in t else 0)


def tracer_case(**more: tuple[int, ...]) -> Case:
    about = {"model_name": "meta-llama/Llama-3.2-1B", "model_kind": "transcoder_set",
             "feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out"}  # fmt: skip
    return Case(
        "set/layer_7.safetensors",
        {"set/layer_7.safetensors": drawn(2, W_enc=(m, d), W_dec=(m, d), b_enc=(m,), b_dec=(d,), **more)},
        tracer,
        ("blocks.7.mlp.hook_in",),
        ("blocks.7.mlp.hook_out",),
        {"set/config.yaml": yaml.safe_dump(about)},
        "meta-llama/Llama-3.2-1B",
        ("W_skip", "activation_function.threshold"),
    )


def cross_layer(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    """Every later layer's output is the sum over the layers up to it; the last one's too."""
    x_BLd = x.reshape(len(x), L, -1)
    features, out = [], np.zeros_like(x_BLd)
    for i in range(L):
        t = files[f"clt/W_enc_{i}.safetensors"] | files[f"clt/W_dec_{i}.safetensors"]
        pre = x_BLd[:, i] @ t[f"W_enc_{i}"].T + t[f"b_enc_{i}"]
        threshold = t.get(f"threshold_{i}")
        features.append(relu(pre) if threshold is None else jump(pre, threshold))
        out[:, i] += t[f"b_dec_{i}"]
        for later in range(i, L):
            out[:, later] += features[-1] @ t[f"W_dec_{i}"][:, later - i]
    return np.concatenate(features, 1), out.reshape(len(x), -1)


def cross_layer_files(threshold: bool) -> dict[str, Tensors]:
    files = {}
    for i in range(L):
        shapes = {f"W_enc_{i}": (m, d), f"b_enc_{i}": (m,), f"b_dec_{i}": (d,)}
        shapes |= {f"threshold_{i}": (m,)} if threshold else {}
        files[f"clt/W_enc_{i}.safetensors"] = drawn(20 + i, **shapes)
        files[f"clt/W_dec_{i}.safetensors"] = drawn(30 + i, **{f"W_dec_{i}": (m, L - i, d)})
    return files


CLT_ABOUT = yaml.safe_dump(
    {"model_name": "google/gemma-2-2b", "model_kind": "cross_layer_transcoder",
     "feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
)  # fmt: skip


def cross_layer_case(threshold: bool) -> Case:
    return Case(
        "clt",
        cross_layer_files(threshold),
        cross_layer,
        tuple(f"blocks.{i}.hook_resid_mid" for i in range(L)),
        tuple(f"blocks.{i}.hook_mlp_out" for i in range(L)),
        {"clt/config.yaml": CLT_ABOUT},
        "google/gemma-2-2b",
    )


def second_layer(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = files["clt/W_enc_1.safetensors"] | files["clt/W_dec_1.safetensors"]
    features = jump(x @ t["W_enc_1"].T + t["b_enc_1"], t["threshold_1"])
    out = np.einsum("bm,mld->bld", features, t["W_dec_1"])
    out[:, 0] += t["b_dec_1"]
    return features, out.reshape(len(x), -1)


def sparsify(k: int, subtracts: bool) -> Forward:
    def forward(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
        t = only(files)
        z = x - t["b_dec"] if subtracts else x
        features = top_k(z @ t["encoder.weight"].T + t["encoder.bias"], k)
        return features, features @ t["W_dec"] + t["b_dec"] + (x @ t["W_skip"].T if "W_skip" in t else 0)

    return forward


def sparsify_case(about: Mapping[str, Any], *, skip: bool) -> Case:
    more = {"W_skip": (d, d)} if skip else {}
    shapes = {"encoder.weight": (m, d), "encoder.bias": (m,), "W_dec": (m, d), "b_dec": (d,)} | more
    config = {"activation": "topk", "num_latents": m, "k": 4, "skip_connection": skip, "d_in": d, **about}
    return Case(
        "layers.5.mlp",
        {"layers.5.mlp/sae.safetensors": drawn(3, **shapes)},
        sparsify(4, not about.get("transcode")),
        ("blocks.5.mlp.hook_in",),
        ("blocks.5.mlp.hook_out",),
        {"layers.5.mlp/cfg.json": json.dumps(config)},
    )


E_OUT, READ = 4, "blocks.8.ln2.hook_normalized"
"""The width of what SAELens' transcoder writes here: another than of what it reads."""


def lens(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = only(files)
    pre = x @ t["W_enc"] + t["b_enc"]
    features = jump(pre, t["threshold"]) if "threshold" in t else relu(pre)
    return features, features @ t["W_dec"] + t["b_dec"] + (x @ t["W_skip"].T if "W_skip" in t else 0)


def lens_case(architecture: str) -> Case:
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d, m), "b_enc": (m,), "W_dec": (m, E_OUT), "b_dec": (E_OUT,)}
    shapes |= {"W_skip": (E_OUT, d)} if "skip" in architecture else {}
    shapes |= {"threshold": (m,)} if "jumprelu" in architecture else {}
    metadata = {"model_name": "gpt2", "hook_name_out": "blocks.8.hook_mlp_out"}
    about = {"architecture": architecture, "d_in": d, "d_sae": m, "d_out": E_OUT, "apply_b_dec_to_input": False,
             "normalize_activations": "none", "metadata": metadata | {"hook_name": READ}}  # fmt: skip
    return Case(
        "t",
        {"t/sae_weights.safetensors": drawn(4, **shapes)},
        lens,
        (READ,),
        ("blocks.8.hook_mlp_out",),
        {"t/cfg.json": json.dumps(about)},
        "gpt2",
    )


def pursuit(subtracts: bool, options: Mapping[str, Any]) -> Forward:
    """Each vector by itself: add the row that fits best to what is left, until there is a reason to stop."""

    def forward(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
        t = only(files)
        features = np.stack([alone(each, t["W_dec"]) for each in (x - t["b_dec"] if subtracts else x)])
        return features, features @ t["W_dec"] + (t["b_dec"] if subtracts else 0)

    def alone(left: Array, rows: Array) -> Array:
        weights = np.zeros(len(rows), np.float32)
        for _ in range(options.get("max_iterations") or d):
            best = int(np.argmax(relu(rows @ left)))
            before, weight = weights.copy(), relu(rows[best] @ left)
            weights[best] += weight
            left = left - weight * rows[best]
            same = np.array_equal(weights > 0, before > 0)
            if (same and options.get("stop_on_duplicate_support", True)) or (
                np.linalg.norm(left) < options.get("residual_threshold", 0.01)
            ):
                break
        return weights

    return forward


def pursuit_case(subtracts: bool = True, **options: Any) -> Case:
    files = {"p/sae_weights.safetensors": drawn(14, W_dec=(m, d), b_dec=(d,))}
    only(files)["W_dec"] /= np.linalg.norm(only(files)["W_dec"], axis=1, keepdims=True)
    about = {"architecture": "matching_pursuit", "d_in": d, "d_sae": m, "apply_b_dec_to_input": subtracts,
             "metadata": {"hook_name": "blocks.2.hook_resid_post", "model_name": "gpt2"}, **options}  # fmt: skip
    forward = pursuit(subtracts, options)
    return Case("p", files, forward, residual(2), residual(2), {"p/cfg.json": json.dumps(about)}, "gpt2")


def qwen(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = only(files)
    features = top_k(x @ t["W_enc"].T + t["b_enc"], 5)
    return features, features @ t["W_dec"].T + t["b_dec"]


def goodfire(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = only(files)
    features = relu(x @ t["encoder_linear.weight"].T + t["encoder_linear.bias"])
    return features, features @ t["decoder_linear.weight"].T + t["decoder_linear.bias"]


LLAMA_ABOUT = {"hook_point_in": "blocks.15.hook_mlp_out", "hook_point_out": "blocks.15.hook_mlp_out", "d_model": d,
               "d_sae": m, "act_fn": "jumprelu", "jump_relu_threshold": 0.6, "norm_activation": "dataset-wise",
               "dataset_average_activation_norm": {"in": 3.0, "out": 5.0}, "use_decoder_bias": True,
               "apply_decoder_bias_to_pre_encoder": False, "sparsity_include_decoder_norm": True}  # fmt: skip


def llama(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t = only(files)
    pre = (x * np.sqrt(d) / 3.0) @ t["encoder.weight"].T + t["encoder.bias"]
    features = pre * (pre * np.linalg.norm(t["decoder.weight"], axis=0) > 0.6)
    return features, (features @ t["decoder.weight"].T + t["decoder.bias"]) * 5.0 / np.sqrt(d)


CROSS_NORMS: dict[int, Callable[[Array], Array]] = {
    1: lambda W: np.linalg.norm(W, axis=2).sum(0),
    2: lambda W: np.sqrt((W**2).sum((0, 2))),
    3: lambda W: 0.7 * np.sqrt((W**2).sum((0, 2))) + 0.3 * np.linalg.norm(W, axis=2).sum(0),
    4: lambda W: np.ones(W.shape[1]),
    5: lambda W: np.linalg.norm(W, axis=2),
}
"""A feature's norm, by `code_normalization_id`; of the last, one for each layer, [L, m]."""


def crosscoder(x: Array, files: Mapping[str, Tensors]) -> tuple[Array, Array]:
    t, x_BLd = only(files), x.reshape(len(x), L, d)
    normalised = "activation_mean" in t and not np.isnan(t["activation_mean"]).any()
    scale = np.broadcast_to(t["activation_global_scale"].reshape(-1, 1), (L, 1)) if normalised else 1.0
    z = (x_BLd - t["activation_mean"]) * scale if normalised else x_BLd
    if normalised and "threshold" in t and t["threshold"].ndim:  # the library's decoupled encoder does it twice
        z = (z - t["activation_mean"]) * scale
    features = relu(np.einsum("bld,ldm->bm", z, t["encoder.weight"]) + t["encoder.bias"])
    if "threshold" in t:
        norms = CROSS_NORMS[int(t.get("code_normalization_id", np.array(1)))](t["decoder.weight"])
        features = features[:, None] * (features[:, None] * norms.reshape(-1, m) > t["threshold"].reshape(-1, 1))
    by_layer = np.broadcast_to(features if features.ndim == 3 else features[:, None], (len(x), L, m))
    out = np.einsum("blm,lmd->bld", by_layer, t["decoder.weight"]) + t["decoder.bias"]
    out = out / (scale + 1e-8) + t["activation_mean"] if normalised else out
    return features.reshape(len(x), -1), out.reshape(len(x), -1)


def crosscoder_case(norm: int | None = None, name: str = "CrossCoder", **more: Array) -> Case:
    trainer = {"dict_class": name, "activation_dim": d, "dict_size": m, "lm_name": "gpt2",
               "code_normalization_alpha_sae": 0.7, "code_normalization_alpha_cc": 0.3}  # fmt: skip
    shapes = {"encoder.weight": (L, d, m), "encoder.bias": (m,), "decoder.weight": (L, m, d), "decoder.bias": (L, d)}
    tensors = drawn(7, **shapes) | more
    tensors |= {} if norm is None else {"code_normalization_id": np.array(norm)}
    if name != "CrossCoder":
        tensors["threshold"] = np.array([1.6, 2.0, 2.4] if norm == 5 else 2.0, np.float32)
    files, optional = {"c/ae.pt": tensors}, ("code_normalization_id",)
    return Case("c", files, crosscoder, (), (), {"c/config.json": json.dumps({"trainer": trainer})}, "gpt2", optional)


def normaliser(*scale: float) -> Tensors:
    """What a crosscoder normalises its input with; without a scale, nothing: the library then writes NaN."""
    if not scale:
        unset = {name: np.full((L, d), np.nan, np.float32) for name in ("activation_mean", "activation_std")}
        return unset | {"activation_global_scale": np.ones(L, np.float32)}
    statistics = drawn(12, activation_mean=(L, d), activation_std=(L, d))
    return statistics | {"activation_global_scale": np.array(scale if len(scale) > 1 else scale[0], np.float32)}


def residual(block: int) -> tuple[str]:
    return (f"blocks.{block}.hook_resid_post",)


CONFIG = {"hf_hook_point_in": "model.layers.17.pre_feedforward_layernorm.output", "model_name": "gemma-v3-4b-pt",
          "hf_hook_point_out": "model.layers.17.post_feedforward_layernorm.output", "architecture": "jump_relu",
          "affine_connection": True}  # fmt: skip
SCOPE = "gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_76"
QWEN = "SAE-Res-Qwen3-1.7B-Base-W32K-L0_5/layer5.sae.pt"
GOODFIRE = "Llama-3.1-8B-Instruct-SAE-l19.pth"
LLAMA = "Llama3_1-8B-Base-L15M-8x"
LINEAR = {"weight": (m, d), "bias": (m,)}, {"weight": (d, m), "bias": (d,)}
CASES: dict[str, Case] = {
    "gemma_scope transcoder": Case(
        SCOPE, {f"{SCOPE}/params.npz": drawn(0, **{k.replace("w_", "W_"): v for k, v in GEMMA.items()})}, gemma,
        ("blocks.3.ln2.hook_normalized",), ("blocks.3.hook_mlp_out",), {}, "google/gemma-2-2b",
    ),
    "gemma_scope_2 residual": gemma_case(
        "resid_post_all/layer_17_width_16k_l0_big", "hook_resid_post", "hook_resid_post"
    ),
    "gemma_scope_2 attention": gemma_case("attn_out/layer_17_width_16k_l0_small", "attn.hook_z", "attn.hook_z"),
    "gemma_scope_2 mlp": gemma_case("mlp_out/layer_17_width_16k_l0_small", "hook_mlp_out", "hook_mlp_out"),
    "gemma_scope_2 transcoder": gemma_case("transcoder/layer_17_width_16k_l0_medium", "mlp.hook_in", "hook_mlp_out"),
    "gemma_scope_2 affine": gemma_case(
        "transcoder_all/layer_17_width_16k_l0_big_affine", "mlp.hook_in", "hook_mlp_out", CONFIG, affine=True
    ),
    "gemma_scope_2_layers clt": gemma_layers_case("clt", tuple(range(L)), affine=True),
    "gemma_scope_2_layers crosscoder": gemma_layers_case("crosscoder", (5, 9, 12), affine=False),
    "circuit_tracer relu": tracer_case(),
    "circuit_tracer jumprelu skip": tracer_case(W_skip=(d, d), activation_function__threshold=(m,)),
    "circuit_tracer_layers relu": cross_layer_case(threshold=False),
    "circuit_tracer_layers jumprelu": cross_layer_case(threshold=True),
    "circuit_tracer_layers one": Case(
        "clt/W_enc_1.safetensors", cross_layer_files(threshold=True), second_layer, ("blocks.1.hook_resid_mid",),
        ("blocks.1.hook_mlp_out", "blocks.2.hook_mlp_out"), {"clt/config.yaml": CLT_ABOUT}, "google/gemma-2-2b",
        is_part=True,
    ),
    "sparsify transcoder": sparsify_case({"transcode": True}, skip=False),
    "sparsify skip": sparsify_case({"transcode": True}, skip=True),
    "sparsify skip, older": sparsify_case({}, skip=True),
    **{f"saelens {name}": lens_case(name) for name in
       ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")},
    "saelens matching_pursuit": pursuit_case(),
    "saelens matching_pursuit, few steps": pursuit_case(max_iterations=2),
    "saelens matching_pursuit, all options": pursuit_case(
        False, max_iterations=9, residual_threshold=0.4, stop_on_duplicate_support=False
    ),
    "qwen_scope": Case(QWEN, {QWEN: drawn(5, W_enc=(m, d), W_dec=(d, m), b_enc=(m,), b_dec=(d,))}, qwen, residual(5),
                       residual(5), {}, "Qwen/Qwen3-1.7B-Base"),
    "goodfire": Case(
        GOODFIRE,
        {GOODFIRE: drawn(6, **{f"{end}_linear.{name}": shape for end, shapes in zip(("encoder", "decoder"), LINEAR,
                         strict=True) for name, shape in shapes.items()})},
        goodfire, residual(19), residual(19), {}, "meta-llama/Llama-3.1-8B-Instruct",
    ),
    "llama_scope": Case(
        LLAMA,
        {f"{LLAMA}/checkpoints/final.safetensors": drawn(8, **{f"{end}.{name}": shape for end, shapes in zip(
            ("encoder", "decoder"), LINEAR, strict=True) for name, shape in shapes.items()})},
        llama, ("blocks.15.hook_mlp_out",), ("blocks.15.hook_mlp_out",),
        {f"{LLAMA}/hyperparams.json": json.dumps(LLAMA_ABOUT)}, "meta-llama/Llama-3.1-8B",
    ),
    "dictionary_learning crosscoder": crosscoder_case(),
    "dictionary_learning crosscoder of now, nothing normalised": crosscoder_case(1, **normaliser()),
    "dictionary_learning crosscoder, normalised": crosscoder_case(2, **normaliser(0.5, 1.5, 2.0)),
    "dictionary_learning crosscoder, one scale": crosscoder_case(1, **normaliser(0.6)),
    "dictionary_learning batch top-k, older": crosscoder_case(None, "BatchTopKCrossCoder"),
    "dictionary_learning batch top-k, normalised": crosscoder_case(
        1, "BatchTopKCrossCoder", **normaliser(0.5, 1.5, 2.0)
    ),
    "dictionary_learning batch top-k, decoupled, normalised": crosscoder_case(
        5, "BatchTopKCrossCoder", **normaliser(0.5, 1.5, 2.0)
    ),
    **{f"dictionary_learning batch top-k, norm {i}": crosscoder_case(i, "BatchTopKCrossCoder") for i in (2, 3, 4, 5)},
}  # fmt: skip
