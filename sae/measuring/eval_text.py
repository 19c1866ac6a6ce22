"""Chooses the text that a dictionary is measured on, and cuts it into blocks of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sae.common.errors import UserError
from sae.data import corpus
from sae.data.blocks import Blocks, to_blocks, token_ids
from sae.data.split import TrainingText, recorded, recut, same_corpus
from sae.models.cache import ArtifactCache
from sae.models.subject import Subject

CONTEXT = 128
"""Tokens of a block where neither the user nor the training says otherwise; fewer where a model sees fewer."""
STDLIB = "stdlib"
"""The corpus for dictionaries that name none."""


@dataclass(frozen=True)
class Source:
    """Names a corpus or, if a training on it is given, the part that this training held out."""

    corpus: str
    training: TrainingText | None

    @property
    def part(self) -> str:
        return "held out of its training" if self.training else "whole corpus"

    def context_for(self, context: int | None, subjects: Sequence[Subject]) -> int:
        """Return the tokens of a block. Raises UserError if a model sees fewer than asked for."""
        narrowest = min(subjects, key=lambda subject: subject.max_context)
        if context and context > narrowest.max_context:
            raise UserError(
                f"--context is {context}, but {narrowest.name} sees at most {narrowest.max_context} tokens; give fewer"
            )
        usual = self.training.context if self.training else CONTEXT
        return context or min(usual, narrowest.max_context)

    def read(self, subject: Subject, artifacts: ArtifactCache, tokens: int, context: int) -> Blocks:
        """Return the first blocks, until they have so many tokens. Raises UserError if there is no text."""
        if self.training is None:
            return read_blocks(subject, self.corpus, tokens, context)
        held_out = self.training.held_out(subject.token_ids, lambda text: artifacts.tokens(subject, text))
        return _first(recut(held_out, context), tokens)


def source_of(metadata: Mapping[str, Any], corpus_given: str | None) -> Source:
    """Return the text for a dictionary: the given corpus, else the one that its metadata name, else stdlib.

    Raises UserError if none is given and another version of `sae train` made the dictionary: then the text that it has
    not seen is not known.
    """
    training = recorded(metadata)
    if training is None and corpus_given is None and {"corpus", "text"} <= metadata.keys():
        raise UserError(
            "another version of sae trained this dictionary, so what its training held out is not known; give --corpus "
            "SPEC to measure on all of a text"
        )
    spec = corpus_given or (training.source if training else STDLIB)
    if training and same_corpus(spec, training.source):
        return Source(spec, replace(training, source=spec))
    return Source(spec, None)


def read_blocks(subject: Subject, spec: str, tokens: int, context: int) -> Blocks:
    """Return the first blocks of a corpus in a subject's tokens, until they have so many.

    Raises UserError if it has no text.
    """
    texts = (document.text for document in corpus.documents(spec))
    blocks = to_blocks(token_ids(texts, subject.token_ids), context, tokens)
    if not blocks.n_tokens:
        raise UserError(f"corpus {spec} has no text; give a file or folder with text in it")
    return _first(blocks, tokens)


def _first(blocks: Blocks, tokens: int) -> Blocks:
    before_N = blocks.length_N.cumsum() - blocks.length_N
    return blocks.take(before_N < tokens)
