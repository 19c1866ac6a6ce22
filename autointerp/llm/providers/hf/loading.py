"""Shares what language models and embedders in this process need: device, weights' fingerprint, loading.

torch and transformers load inside the functions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae.common.errors import UserError
from sae.common.files import sha256_of_path


@dataclass(frozen=True)
class Loaded:
    """Holds a causal language model, ready to answer, and its tokenizer."""

    model: Any
    tokenizer: Any


def device_for(device: str) -> str:
    """Return the device for a setting; `auto` is CUDA where there is any. Raises UserError if CUDA is not there."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device}: no CUDA device found; choose cpu, or auto to use one where there is one")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def weights_of(model: str, config: Any) -> str:
    """Identify a model's weights: the hash of a directory's files, or a hub name with its commit if known."""
    folder = Path(model).expanduser()
    return (
        sha256_of_path(folder) if folder.is_dir() else f"{model}@{getattr(config, '_commit_hash', None) or 'unknown'}"
    )


def location_of(model: str) -> str:
    """Return a directory's path, or a hub name as it is."""
    folder = Path(model).expanduser()
    return str(folder) if folder.is_dir() else model


def load(model: str, device: str) -> Loaded:
    """Load a hub name or a directory, in bfloat16 on CUDA and float32 elsewhere. Raises UserError if it cannot."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    location, dtype = location_of(model), torch.bfloat16 if device.startswith("cuda") else torch.float32
    try:
        loaded, about = AutoModelForCausalLM.from_pretrained(location, dtype=dtype, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load hf/{model}: {reason}; write hf/ and a hub name or a saved directory") from error
    if missing := sorted(about["missing_keys"]):
        raise UserError(f"hf/{model} lacks weights ({missing[0]}, ...): it is no causal language model; name one")
    return Loaded(loaded.to(device).eval(), tokenizer)
