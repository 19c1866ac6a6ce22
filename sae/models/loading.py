"""Loads a language model's files, and refuses those that would give another model than the one that was saved.

transformers fills what a checkpoint lacks with newly drawn weights and goes on; here that is an error, and so are
tensors that the model does not use, weights that are not finite, and a folder without a tokenizer.
"""

import struct
from typing import Any

import torch

from sae.common.errors import UserError, shortened
from sae.common.memory import refuse_beyond_memory
from sae.common.resources import path_of
from sae.models.quiet import quiet_libraries

MOST_LAYERS = 10_000
SIZES = ("num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads")
"""Values of a config that are checked, by transformers' common names."""
MOST_NAMED = 3
"""Tensors that a message names."""
BUFFERS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias", "inv_freq")
"""How the names of tensors end that older libraries saved with a model although they are no weights."""


def malformed() -> tuple[type[Exception], ...]:
    """Return what libraries raise on files that are not a model's, or only half of one."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

    return (
        OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
        ArithmeticError, NotImplementedError, ImportError, UnpicklingError, struct.error, SafetensorError,
        StrictDataclassError,
    )  # fmt: skip


def cannot_load(model: str, error: Exception) -> UserError:
    """Return the error for a model that a library could not load, with the beginning of the library's reason."""
    if _is_missing_folder(model):
        return UserError(f"cannot load model {shortened(model)}: no such folder; give --model NAME|DIR")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return UserError(
        f"cannot load model {shortened(model)}: {shortened(' '.join(lines[:2]), 300)} (a hub name or a saved directory)"
    )


def _is_missing_folder(model: str) -> bool:
    """Tell whether a model is written as a path, which no hub name begins like, and nothing is there."""
    return model.startswith(("/", "./", "../", "~")) and not path_of(model).exists()


def config_of(model: str, location: str) -> Any:
    """Read a model's config, without its weights. Raises UserError if there is none, or one that no model can have."""
    from transformers import AutoConfig

    try:
        with quiet_libraries():
            config = AutoConfig.from_pretrained(location)
        text = config.get_text_config()
        layers, width, words, heads = (int(getattr(text, name, 0) or 0) for name in SIZES)
    except malformed() as error:
        raise cannot_load(model, error) from error
    if layers > MOST_LAYERS or min(layers, width, words, heads) < 0:
        sizes = ", ".join(f"{name} {size}" for name, size in zip(SIZES, (layers, width, words, heads), strict=True))
        raise UserError(f"cannot load model {model}: no model has what its config says ({sizes}); fetch it again")
    parameters = (words + 12 * layers * width) * width
    refuse_beyond_memory(4 * parameters, f"model {model}", "choose a smaller one")
    return config


def context_of(model: str, location: str) -> int | None:
    """Return how many tokens a model sees at once, from its config alone; None if that does not say."""
    config = config_of(model, location).get_text_config()
    known = (getattr(config, name, None) for name in ("n_positions", "max_position_embeddings", "n_ctx"))
    return next((int(tokens) for tokens in known if isinstance(tokens, int) and tokens > 0), None)


def tokenizer_of(model: str, location: str) -> Any:
    """Load a model's tokenizer. Raises UserError if there is none, or a damaged one."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, malformed()):
            raise  # a bug: tokenizers raises plain Exception, and no other, on a damaged file
        raise _cannot_read_tokenizer(model, location, error) from error
    if not words:
        raise UserError(f"model {model} has no tokenizer; save one into its folder (tokenizer.save_pretrained)")
    return tokenizer


def _cannot_read_tokenizer(model: str, location: str, error: Exception) -> UserError:
    folder = path_of(location)
    if folder.is_dir() and not any(folder.glob("tokenizer*")):
        return UserError(f"model {model} has no tokenizer; save one into its folder (tokenizer.save_pretrained)")
    return cannot_load(model if _is_missing_folder(model) else f"{model}'s tokenizer", error)


def load_bridge(model: str, location: str, device: str, tokenizer: Any) -> Any:
    """Load a model through TransformerLens. Raises UserError if its checkpoint is damaged or not the config's."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources.transformers import (
        determine_architecture_from_hf_config,
        get_hf_model_class_for_architecture,
    )

    config = config_of(model, location)
    try:
        architecture = get_hf_model_class_for_architecture(determine_architecture_from_hf_config(config))
        loader = CheckedLoader(model, architecture)
        bridge = TransformerBridge.boot_transformers(location, device=device, tokenizer=tokenizer, model_class=loader)
    except malformed() as error:
        raise cannot_load(model, error) from error
    refuse_larger_tokenizer(model, tokenizer, bridge.cfg.d_vocab)
    return bridge


def knows(model: str, location: str) -> bool:
    """Tell whether TransformerLens boots models of this architecture. Raises UserError if there is no config."""
    from transformer_lens.model_bridge.sources.transformers import determine_architecture_from_hf_config

    config = config_of(model, location)
    try:
        determine_architecture_from_hf_config(config)
    except ValueError:
        return False
    return True


def refuse_larger_tokenizer(model: str, tokenizer: Any, n_logits: int) -> None:
    """Raise UserError if a tokenizer has tokens that the model has no logits for."""
    if len(tokenizer) > n_logits:
        raise UserError(
            f"model {model} knows {n_logits:,} tokens, but its tokenizer {len(tokenizer):,}; give those of one model"
        )


class CheckedLoader:
    """Stands in for a class of transformers: loads as it does, then checks what it reports of the checkpoint."""

    def __init__(self, model: str, model_class: Any) -> None:
        self._model, self._class = model, model_class

    def from_pretrained(self, location: str, **options: Any) -> Any:
        """Load a model. Raises UserError naming tensors that are missing, left over, of another shape, not finite."""
        loaded, report = self._class.from_pretrained(
            location, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
        unused = {name for name in report["unexpected_keys"] if not name.endswith(BUFFERS)}
        self._refuse(report["missing_keys"], "lacks")
        self._refuse({name for name, *_ in report["mismatched_keys"]}, "has, in another shape than its config says,")
        self._refuse(unused, "does not use")
        self._refuse({name for name, one in loaded.named_parameters() if not _is_finite(one)}, "has NaN or infinity in")
        return loaded

    def _refuse(self, names: set[str], what: str) -> None:
        if names:
            listed = ", ".join(sorted(map(str, names))[:MOST_NAMED])
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            raise UserError(f"model {self._model} {what} {listed}{more}; its checkpoint is damaged or another model's")


def _is_finite(parameter: torch.Tensor) -> bool:
    return parameter.is_meta or bool(torch.isfinite(parameter.detach()).all())
