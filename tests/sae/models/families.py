"""Small random models of many families, saved as a user has them: config, weights and tokenizer in a folder.

Weights, norms and biases are random, so that a norm folded or forgotten changes every number.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

N_LAYERS, WORDS = 2, 40
SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4, "max_position_embeddings": 32,
}  # fmt: skip
GROUPED = SIZES | {"num_key_value_heads": 2}
WIDE = GROUPED | {"head_dim": 8}
"""Heads that are together wider than the residual stream."""
SLIDING = WIDE | {"sliding_window": 4}
GEMMA = SLIDING | {"query_pre_attn_scalar": 8}
FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=64, n_embd=16, n_inner=24, n_layer=N_LAYERS, n_head=4, n_positions=32
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES),
    "gpt_neox_sequential": lambda: transformers.GPTNeoXConfig(**SIZES, use_parallel_residual=False),
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "gemma2": lambda: transformers.Gemma2Config(**GEMMA),
    "gemma3": lambda: transformers.Gemma3TextConfig(**GEMMA),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "qwen3": lambda: transformers.Qwen3Config(**WIDE),
    "mistral": lambda: transformers.MistralConfig(**SLIDING),
    "helium": lambda: transformers.HeliumConfig(**GROUPED, head_dim=4),  # TransformerLens does not boot it
}


def write_model(family: str, folder: Path) -> None:
    """Write a model's folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(float(parameter.ndim == 1), 0.3)
    model.save_pretrained(folder)
    vocabulary = {"<unk>": 0, "<s>": 1} | {f"w{index}": index + 2 for index in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>").save_pretrained(folder)


def reference(folder: Path) -> Any:
    """Load a model by transformers alone."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
