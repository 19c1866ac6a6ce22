"""Draws new weights for a subject: the same architecture and tokenizer, and nothing of what was learnt.

A dictionary trained on such a subject is a null: what explains its features is the text and the architecture, not what
the model has learnt. Source: Heap et al. 2025, "Sparse Autoencoders Can Interpret Randomly Initialized Transformers"
(arXiv 2501.17727).
"""

from pathlib import Path

import torch

from sae.common.files import make_folder_atomic
from sae.common.seeds import derive_seed
from sae.models.loading import config_of, tokenizer_of
from sae.models.quiet import quiet_libraries
from sae.models.subject import hub_name


def write_reset(model: str, seed: int, folder: Path) -> None:
    """Write a Hugging Face directory of the model with weights drawn by its architecture's own initialiser (float32).

    Args:
        model: a hub name or a Hugging Face directory; of a hub model only the config and the tokenizer are fetched.
        seed: of the weights.
        folder: what is written; nothing happens if it is there already.

    Raises:
        UserError: nothing loadable has that name.
    """
    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        from transformers import AutoModelForCausalLM

        location = hub_name(model)
        config, tokenizer = config_of(model, location), tokenizer_of(model, location)
        torch.manual_seed(
            derive_seed(seed, "weights of a reset subject")
        )  # transformers draws from the global generator
        drawn = AutoModelForCausalLM.from_config(config, dtype=torch.float32)

        def fill(temporary: Path) -> None:
            drawn.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)

        make_folder_atomic(folder, fill)
