"""Writes a GPT-2 whose residual stream carries the planted text exactly, and a dictionary that reads it, without torch.

Two kinds, as ordinary Hugging Face directories with a word-level tokenizer:

exact        At `blocks.0.hook_resid_post`: which token, which position, which token before it, as one-hot blocks side
             by side. The last is copied there by an attention head that looks at the position before; at position 0,
             which has none, the head sees the token itself, and a reader takes that off by the position.
superposed   At the same hook point: the sum of a random direction of the token and one of its category, far more
             directions than dimensions, and as interference a rotated mean of the tokens before.

A near context, a domain or a wrong firing has no such linear reading: features of these are planted as given
activations (`autointerp.sampling.given`), not through this model.

Shape suffixes: V vocabulary, C positions, D width of the residual stream, F features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from autointerp.calibration.concepts import Concept
from autointerp.calibration.grammar import CATEGORIES
from autointerp.calibration.language import LENGTH, PlantedText, category_ids, vocabulary
from sae.common.seeds import numpy_generator

Weights = Mapping[str, NDArray[np.float32]]
HOOK_POINT = "blocks.0.hook_resid_post"
SHARPNESS = 60.0
"""Score of the position that the head looks at; all others have 0, so that they get less than 1e-25 of the weight."""
CATEGORY_NORM = 0.7
"""Length of a category's direction; a token's is 1."""
INTERFERENCE = 0.4
"""Length of what the head adds where it sees one token; about 1/sqrt(n) of it where it sees n."""
UNKNOWN = "<unk>"
LAYER_NORM_EPSILON = 1e-5


def write_corpus(text: PlantedText, path: Path) -> None:
    """Write a document a line, as `--corpus` reads it."""
    lines = (json.dumps({"text": document}, ensure_ascii=False) + "\n" for document in text.documents())
    path.write_text("".join(lines), "utf-8")


def write_exact_model(folder: Path) -> None:
    """Write the exact kind. The layer norm is undone by its own weights, as every vector has two ones."""
    n_tokens = len(vocabulary()) + 1
    width = 2 * n_tokens + LENGTH
    tokens, positions = slice(0, n_tokens), slice(n_tokens, n_tokens + LENGTH)
    before = slice(n_tokens + LENGTH, width)
    embed_VD, position_CD = np.zeros((n_tokens, width)), np.zeros((LENGTH, width))
    embed_VD[:, tokens], position_CD[:, positions] = np.eye(n_tokens), np.eye(LENGTH)
    query_DD, key_DD, value_DD, out_DD = (np.zeros((width, width)) for _ in range(4))
    query_DD[positions, :LENGTH] = SHARPNESS * np.sqrt(width) * np.eye(LENGTH, k=-1)
    key_DD[positions, :LENGTH] = np.eye(LENGTH)
    value_DD[tokens, tokens] = np.eye(n_tokens)
    out_DD[tokens, before] = np.eye(n_tokens)
    mean = 2 / width
    spread = np.sqrt(mean - mean**2 + LAYER_NORM_EPSILON)
    norm = {"weight": np.full(width, spread), "bias": np.full(width, mean)}
    attention = {"c_attn.weight": np.concatenate([query_DD, key_DD, value_DD], axis=1), "c_proj.weight": out_DD}
    _write_model(folder, embed_VD, position_CD, norm, attention)


def write_superposed_model(folder: Path, width: int, seed: int) -> None:
    """Write the superposed kind; its head looks at all positions alike, and there are no positions to see."""
    directions_VD = _unit(numpy_generator(seed, "directions of tokens").normal(size=(len(vocabulary()) + 1, width)))
    shared_D = _unit(numpy_generator(seed, "directions of categories").normal(size=(len(CATEGORIES), width)))
    for name, direction_D in zip(CATEGORIES, shared_D, strict=True):
        directions_VD[list(category_ids(name))] += CATEGORY_NORM * direction_D
    rotation_DD = np.linalg.qr(numpy_generator(seed, "interference").normal(size=(width, width))).Q
    norm = {"weight": np.ones(width), "bias": np.zeros(width)}
    nothing_DD, value_DD = np.zeros((width, 2 * width)), INTERFERENCE / np.sqrt(width) * np.eye(width)
    attention = {"c_attn.weight": np.concatenate([nothing_DD, value_DD], axis=1), "c_proj.weight": rotation_DD}
    _write_model(folder, directions_VD, np.zeros((LENGTH, width)), norm, attention)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _write_model(
    folder: Path,
    embed_VD: NDArray[np.float64],
    position_CD: NDArray[np.float64],
    norm: Mapping[str, NDArray[np.float64]],
    attention: Mapping[str, NDArray[np.float64]],
) -> None:
    """Write weights, config and tokenizer of a GPT-2 of one layer with one head, whose MLP adds nothing."""
    width = embed_VD.shape[1]
    block = {f"ln_1.{name}": value for name, value in norm.items()}
    block |= {"ln_2.weight": np.ones(width), "ln_2.bias": np.zeros(width)}
    block |= {f"attn.{name}": value for name, value in attention.items()}
    block |= {"attn.c_attn.bias": np.zeros(3 * width), "attn.c_proj.bias": np.zeros(width)}
    block |= {"mlp.c_fc.weight": np.zeros((width, 1)), "mlp.c_fc.bias": np.zeros(1)}
    block |= {"mlp.c_proj.weight": np.zeros((1, width)), "mlp.c_proj.bias": np.zeros(width)}
    weights = {f"h.0.{name}": value for name, value in block.items()}
    weights |= {"wte.weight": embed_VD, "wpe.weight": position_CD}
    weights |= {"ln_f.weight": np.ones(width), "ln_f.bias": np.zeros(width)}
    folder.mkdir(parents=True)
    _save(folder / "model.safetensors", {f"transformer.{name}": value for name, value in weights.items()})
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": len(embed_VD), "n_positions": LENGTH,
        "n_embd": width, "n_layer": 1, "n_head": 1, "n_inner": 1, "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float32", "tie_word_embeddings": True,
    }  # fmt: skip
    _write_json(folder / "config.json", config)
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose tokens are the planted language's, and an unknown one, which is the last."""
    split = {
        "type": "Split", "pattern": {"Regex": r"\n| ?[^ \n]+"}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip
    indices = {token: index for index, token in enumerate((*vocabulary(), UNKNOWN))}
    model = {"type": "WordLevel", "vocab": indices, "unk_token": UNKNOWN}
    parts = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": split, "model": model} | parts
    _write_json(folder / "tokenizer.json", tokenizer)
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": UNKNOWN, "clean_up_tokenization_spaces": False}
    _write_json(folder / "tokenizer_config.json", about)


def write_exact_dictionary(folder: Path, concepts: Sequence[Concept]) -> None:
    """Write a dictionary in our own format that reads tokens, sets of tokens and pairs from the exact model.

    A token's or a set's feature is the sum of its dimensions. A pair's is 2 relu(second + first before - [position 0]
    - 3/2).
    """
    n_tokens = len(vocabulary()) + 1
    width = 2 * n_tokens + LENGTH
    encoder_DF, bias_F = np.zeros((width, len(concepts))), np.zeros(len(concepts))
    for feature, concept in enumerate(concepts):
        for rule in concept.rules:
            ids = [vocabulary().index(token) for token in rule.key]
            if rule.kind == "token":
                encoder_DF[ids[0], feature] = 1.0
            elif rule.kind == "pair":
                encoder_DF[[ids[1], n_tokens + LENGTH + ids[0]], feature] = 2.0
                encoder_DF[n_tokens, feature], bias_F[feature] = -2.0, -3.0
            else:
                raise ValueError(f"the exact model holds nothing that says {rule.kind!r}")
    about = {
        "format_version": 2, "name": "planted", "kind": "sae", "d_in": width, "n_features": len(concepts),
        "activation": {"name": "relu"}, "subtract_b_dec": False, "normalisation": "none", "reads": [HOOK_POINT],
        "writes": [HOOK_POINT], "metadata": {}, "model": None,
    }  # fmt: skip
    folder.mkdir(parents=True)
    _write_json(folder / "dictionary.json", about)
    tensors = {"W_enc": encoder_DF, "b_enc": bias_F, "W_dec": encoder_DF.T, "b_dec": np.zeros(width)}
    _save(folder / "dictionary.safetensors", tensors)


def _save(path: Path, tensors: Mapping[str, NDArray[np.float64]]) -> None:
    save_file(
        {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, path, {"format": "pt"}
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
