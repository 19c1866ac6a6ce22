"""Gets a run's subject and text ready: the model loaded or trained once, the corpus as blocks. Imports torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from autointerp.config import Config
from autointerp.sampling import inputs
from autointerp.sampling.dictionaries import Measured, Workshop
from autointerp.sampling.inputs import Contents
from sae import corpus, toy
from sae.corpus import Blocks, Split
from sae.errors import UserError
from sae.files import sha256_of, write_atomic_with
from sae.progress import Report
from sae.subject import Subject, batches, boot, choose_device

VERSION = 1
"""Changes whenever training or fitting changes what it makes, so that the cache does not serve the old."""
SPLIT_STREAM, SAMPLE_STREAM = 101, 104
"""Set these random choices apart from others of the same seed."""


@dataclass(frozen=True)
class Prepared:
    """Everything sampling needs; `facts` are for the run's own account of itself."""

    subject: Subject
    hook_point: str
    text: Blocks
    dictionaries: tuple[Measured, ...]
    facts: dict[str, Any]


def prepare(config: Config, contents: Contents, cache: Path, report: Report) -> Prepared:
    """Read the corpus, boot the subject, then load, train or fit and measure every dictionary of a resolved config.

    Raises UserError for text that is too short, an unknown hook point, or a dictionary of another width.
    """
    device, reason = choose_device(config.runtime.device)
    is_toy = config.subject.model == inputs.TOY
    folder = toy_folder(config, contents, cache, report, device) if is_toy else str(config.subject.model)
    subject = boot(folder, device, False if is_toy else config.subject.prepend_bos, contents["processing"])
    subject.width(str(config.subject.hook_point))  # refuses an unknown hook point before the text is read
    _check_context(config, subject)
    split = _split(_tokens(subject, config, contents, cache), config)
    workshop = Workshop(config, contents, cache, report, subject, split, _key(config, contents))
    facts = {
        "device": f"{device}: {reason}",
        "corpus_tokens": split.train.n_tokens + split.held_out.n_tokens,
        "held_out_tokens": split.held_out.n_tokens,
    }
    if is_toy:
        facts |= json.loads((Path(folder) / "toy.json").read_text("utf-8"))["losses"]
    sampled = _sampled(split.held_out, config)
    facts["sampled_tokens"] = sampled.n_tokens
    return Prepared(subject, str(config.subject.hook_point), sampled, workshop.measured(), facts)


def toy_folder(config: Config, contents: Contents, cache: Path, report: Report, device: str) -> str:
    """The toy's Hugging Face directory in the cache, trained if it is not there yet."""
    recipe = toy.ToyRecipe(**config.subject.toy.model_dump(), context=config.corpus.context, seed=config.seed)
    folder = cache / "subjects" / _digest([VERSION, vars(recipe), contents["corpus"], _text_settings(config)])
    if not (folder / "toy.json").is_file():
        texts = [document.text for document in inputs.documents(config)]
        tokenizer = toy.train_tokenizer(texts, recipe.vocabulary)
        ids = corpus.token_ids(texts, lambda batch: [encoding.ids for encoding in tokenizer.encode_batch(batch)])
        split = _split(corpus.to_blocks(ids, recipe.context, config.corpus.max_tokens), config)
        model = toy.train_toy(split.train, recipe, report, device)
        toy.save_toy(folder, model, tokenizer, recipe, {"losses": _losses(model, split, device)})
    return str(folder)


def _losses(model: Any, split: Split, device: str) -> dict[str, float]:
    """Cross-entropy in nats a token on all full held-out blocks: the model's, and that of token frequencies."""
    ids_NC = torch.from_numpy(split.held_out.full().ids_NC).long().to(device)
    with torch.no_grad():
        losses = [toy.loss(model, part).item() * len(part) for part in batches(ids_NC, 32)]
    counts = np.bincount(split.train.full().ids_NC.ravel(), minlength=model.config.vocab_size) + 1
    unigram = -np.log(counts / counts.sum())[ids_NC.cpu().numpy()].mean()
    return {"cross_entropy": sum(losses) / len(ids_NC), "unigram_cross_entropy": float(unigram)}


def _check_context(config: Config, subject: Subject) -> None:
    if config.corpus.context > subject.max_context:
        raise UserError(
            f"corpus.context is {config.corpus.context}, but {subject.name} sees at most {subject.max_context} tokens; "
            f"set corpus.context={subject.max_context}"
        )
    if config.corpus.context % config.sampling.fragment:
        raise UserError(
            f"sampling.fragment {config.sampling.fragment} does not divide corpus.context {config.corpus.context}"
        )


def _split(blocks: Blocks, config: Config) -> Split:
    return corpus.split_blocks(blocks, config.corpus.held_out, np.random.default_rng([config.seed, SPLIT_STREAM]))


def _sampled(held_out: Blocks, config: Config) -> Blocks:
    """The held-out documents that records are drawn from."""
    tokens_D = corpus.tokens_per_document(held_out)
    if config.sampling.tokens is None or config.sampling.tokens >= tokens_D.sum():
        return held_out
    rng = np.random.default_rng([config.seed, SAMPLE_STREAM])
    chosen_D = corpus.choose_documents(tokens_D, config.sampling.tokens / tokens_D.sum(), rng)
    return held_out.take(chosen_D[held_out.document_N])


def _tokens(subject: Subject, config: Config, contents: Contents, cache: Path) -> Blocks:
    """The corpus as blocks, tokenised once per corpus and tokenizer."""
    vocabulary = json.dumps(subject.tokenizer.get_vocab(), sort_keys=True)
    content = [VERSION, vocabulary, contents["corpus"], config.corpus.context, config.corpus.max_tokens]
    path = cache / "tokens" / f"{_digest(content)}.safetensors"
    if not path.is_file():
        ids = corpus.token_ids((document.text for document in inputs.documents(config)), subject.token_ids)
        blocks = corpus.to_blocks(ids, config.corpus.context, config.corpus.max_tokens)
        arrays = {"ids": blocks.ids_NC, "length": blocks.length_N, "document": blocks.document_N}
        write_atomic_with(path, lambda temporary: save_file(arrays, temporary))
    arrays = load_file(path)
    return Blocks(arrays["ids"], arrays["length"], arrays["document"])


def _key(config: Config, contents: Contents) -> str:
    """Names everything but the recipe that a fitted dictionary depends on."""
    subject = [contents["model"], contents["processing"], config.subject.hook_point, config.subject.prepend_bos]
    return _digest([VERSION, subject, contents["corpus"], _text_settings(config), config.seed])


def _text_settings(config: Config) -> dict[str, Any]:
    """How the corpus is cut, without where it lies."""
    return config.corpus.model_dump(exclude={"source"})


def _digest(content: list[Any]) -> str:
    return sha256_of([json.dumps(content, sort_keys=True).encode()])[:16]
