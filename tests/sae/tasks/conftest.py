"""A tiny subject with the grammar's tokenizer and random weights."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sae.models import toy
from sae.models.subject import Subject, boot
from sae.tasks.subject import recipe, tokenizer, vocabulary

CONTEXT = 32


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": len(vocabulary()), "n_positions": CONTEXT, "n_embd": 16, "n_layer": 2, "n_head": 2}
        model = GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.4, bos_token_id=0, eos_token_id=0))
    folder = tmp_path_factory.mktemp("grammar") / "model"
    toy.save_toy(folder, model.eval(), tokenizer(), recipe(0), {})
    return folder


@pytest.fixture(scope="session")
def subject(folder: Path) -> Subject:
    return boot(str(folder), prepend_bos=False)
