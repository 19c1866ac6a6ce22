"""Gets a run's subject and text ready: the model loaded or trained once, the corpus as blocks. Imports torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.config import Config
from autointerp.sampling import inputs
from autointerp.sampling.dictionaries import DictionaryBuilder, Measured
from autointerp.sampling.inputs import Contents
from sae.common.errors import UserError
from sae.common.progress import Report
from sae.data.blocks import Blocks, tokens_per_document
from sae.data.corpus import Text
from sae.data.split import Split, choose_documents, split_blocks
from sae.models.cache import ArtifactCache, digest
from sae.models.subject import Subject, boot, choose_device

VERSION = 2
"""Changes whenever training or fitting a dictionary changes what it makes, so that the cache does not serve the old."""
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
    text = Text(config.corpus.source, config.corpus.context, config.corpus.max_tokens, contents["corpus"])
    artifacts = ArtifactCache(cache, report, device)
    folder = str(_toy_folder(config, text, artifacts) if is_toy else config.subject.model)
    subject = boot(folder, device, False if is_toy else config.subject.prepend_bos, contents["processing"])
    subject.width(str(config.subject.hook_point))  # refuses an unknown hook point before the text is read
    _check_context(config, subject)
    split = _split(artifacts.tokens(subject, text), config)
    builder = DictionaryBuilder(config, contents, cache, report, subject, split, _key(config, contents))
    facts = {
        "device": f"{device}: {reason}",
        "corpus_tokens": split.train.n_tokens + split.held_out.n_tokens,
        "held_out_tokens": split.held_out.n_tokens,
    }
    if is_toy:
        facts |= json.loads((Path(folder) / "toy.json").read_text("utf-8"))["losses"]
    sampled = _sampled(split.held_out, config)
    facts["sampled_tokens"] = sampled.n_tokens
    return Prepared(subject, str(config.subject.hook_point), sampled, builder.measured(), facts)


def _toy_folder(config: Config, text: Text, artifacts: ArtifactCache) -> Path:
    """The toy's Hugging Face directory, trained on the text that is not held out."""
    toy = config.subject.toy
    recipe = toy.model_copy(update={"seed": config.seed + toy.seed})
    return artifacts.toy(recipe, text, lambda blocks: _split(blocks, config), [config.corpus.held_out, config.seed])


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
    return split_blocks(blocks, config.corpus.held_out, np.random.default_rng([config.seed, SPLIT_STREAM]))


def _sampled(held_out: Blocks, config: Config) -> Blocks:
    """The held-out documents that records are drawn from."""
    tokens_D = tokens_per_document(held_out)
    if config.sampling.tokens is None or config.sampling.tokens >= tokens_D.sum():
        return held_out
    rng = np.random.default_rng([config.seed, SAMPLE_STREAM])
    chosen_D = choose_documents(tokens_D, config.sampling.tokens / tokens_D.sum(), rng)
    return held_out.take(chosen_D[held_out.document_N])


def _key(config: Config, contents: Contents) -> str:
    """Names everything but the recipe that a fitted dictionary depends on."""
    subject = [contents["model"], contents["processing"], config.subject.hook_point, config.subject.prepend_bos]
    return digest([VERSION, subject, contents["corpus"], _text_settings(config), config.seed])


def _text_settings(config: Config) -> dict[str, Any]:
    """How the corpus is cut, without where it lies."""
    return config.corpus.model_dump(exclude={"source"})
