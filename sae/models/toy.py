"""Trains the toy subject: a one-layer transformer with a ReLU MLP, trained from scratch on a corpus.

The subject of Towards Monosemanticity (Anthropic 2023) at any size. It is saved as an ordinary Hugging Face GPT-2
directory (model and tokenizer), so that it is booted like any other model.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sae.common.errors import UserError
from sae.common.files import make_folder_atomic
from sae.common.progress import Report
from sae.common.seeds import derive_seed, torch_generator
from sae.data.blocks import Blocks
from sae.models.muon import Muon
from sae.models.quiet import quiet_libraries
from sae.models.toy_recipe import Toy

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer and return it as a `tokenizers.Tokenizer`; every text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_toy(blocks: Blocks, recipe: Toy, report: Report, device: str = "cpu") -> Any:
    """Train on full blocks, each epoch in a new random order; returns a `transformers.GPT2LMHeadModel`.

    Raises UserError if there are fewer blocks than a batch has.
    """
    ids_NC = torch.from_numpy(blocks.full().ids_NC).long()
    if len(ids_NC) < recipe.batch:
        raise UserError(
            f"the corpus has {len(ids_NC)} blocks of {ids_NC.shape[1]} tokens to train the subject on, fewer than a "
            f"batch of {recipe.batch}; give more text"
        )
    generator = torch_generator(recipe.seed, "batches of the toy")
    model = _build(recipe, ids_NC.shape[1]).to(device)
    optimisers = _optimisers(model, recipe)
    with report("training the subject") as progress:
        for step, batch_BC in enumerate(_batches(ids_NC, recipe, generator)):
            for optimiser in optimisers:
                _set_rate(optimiser, step / recipe.steps)
            value = _step(model, batch_BC.to(device), optimisers)
            progress.update(step + 1, recipe.steps, f"loss {float(value):.2f}" if step % 25 == 0 else None)
    return model.eval()


def loss(model: Any, ids_BC: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of tokens 1..C-1 of each block given those before."""
    hidden_BCD = model.transformer(ids_BC).last_hidden_state
    logits_BCV = model.lm_head(hidden_BCD[:, :-1])  # slicing before the head saves a copy of all logits
    return cross_entropy(logits_BCV.flatten(0, 1), ids_BC[:, 1:].flatten())


def save_toy(folder: Path, model: Any, tokenizer: Any, recipe: Toy, about: dict[str, Any]) -> None:
    """Write a Hugging Face directory; `about` (corpus, losses) goes into its `toy.json`."""

    def fill(temporary: Path) -> None:
        with quiet_libraries():
            model.save_pretrained(temporary)
            wrapped(tokenizer).save_pretrained(temporary)
        (temporary / "toy.json").write_text(json.dumps({"recipe": recipe.model_dump()} | about, indent=1))

    make_folder_atomic(folder, fill)


def wrapped(tokenizer: Any) -> Any:
    """Return a tokenizer as transformers has it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)


def config(recipe: Toy, context: int) -> Any:
    """Return the config of transformers' GPT-2 that a toy is."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=recipe.vocabulary,
        n_positions=context,
        n_embd=recipe.d_model,
        n_inner=recipe.d_mlp,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        activation_function="relu",
        initializer_range=0.05,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


def _build(recipe: Toy, context: int) -> Any:
    from transformers import GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(
            derive_seed(recipe.seed, "initial weights of the toy")
        )  # transformers draws initial weights from the global generator
        model = GPT2LMHeadModel(config(recipe, context))
    with torch.no_grad():  # branches that begin as the identity learn faster
        for block in model.transformer.h:
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
    return model


def _optimisers(model: Any, recipe: Toy) -> list[torch.optim.Optimizer]:
    named = list(model.named_parameters())
    matrices = [value for name, value in named if value.ndim == 2 and ".h." in name]
    others = [value for name, value in named if not (value.ndim == 2 and ".h." in name)]
    return [
        Muon(matrices, lr=recipe.muon_lr),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
    ]


def _set_rate(optimiser: torch.optim.Optimizer, done: float) -> None:
    """Warm up over the first 2%, hold, then decay linearly over the last 70%."""
    factor = min(1.0, (done + 0.001) / 0.02, (1.02 - done) / 0.72)
    for group in optimiser.param_groups:
        group["lr"] = factor * group.setdefault("peak_lr", group["lr"])


def _batches(ids_NC: Tensor, recipe: Toy, generator: torch.Generator) -> Iterable[Tensor]:
    done = 0
    while True:
        for rows in torch.randperm(len(ids_NC), generator=generator).split(recipe.batch):
            if done == recipe.steps:
                return
            yield ids_NC[rows]
            done += 1


def _step(model: Any, ids_BC: Tensor, optimisers: list[torch.optim.Optimizer]) -> Tensor:
    value = loss(model, ids_BC)
    value.backward()
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
    return value.detach()
