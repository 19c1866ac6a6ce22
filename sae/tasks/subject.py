"""Trains the grammar's subject: a small transformer that does the grammar's tasks, trained once and kept.

Its tokenizer has one token for each word of the grammar, with the space before it, and no other.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sae.common.progress import Report
from sae.data.blocks import Blocks
from sae.models import toy
from sae.models.cache import digest
from sae.models.entries import make_one
from sae.models.toy_recipe import Toy
from sae.tasks import words
from sae.tasks.grammar import SHARES, sentences, sides

VERSION = 1
"""Changes whenever something here trains another subject by one recipe, so that the cache does not serve the old."""
CONTEXT = 26
"""Tokens of a block: a sentence of indirect objects, and the beginning of the next one."""
TOKEN = r" ?[^ .,\n]+|[.,\n]"
"""A word with the space before it, a mark, or a line break."""
UNKNOWN = "<|unknown|>"
FINGERPRINT = 200
"""Sentences by which the cache tells one grammar from another."""


def recipe(seed: int) -> Toy:
    """Return how the grammar's subject is trained."""
    return Toy(
        vocabulary=len(vocabulary()), d_model=96, d_mlp=192, n_heads=4, n_layers=3, steps=450, batch=96, seed=seed
    )


def vocabulary() -> tuple[str, ...]:
    """Return every token of the grammar's text, and two that stand for the end of a text and for unknown words."""
    scripts, sequences = " ".join(words.SCRIPTS.values()), tuple(words.SEQUENCES.values())
    lists = (
        words.FEMALE, words.MALE, words.OPENERS, words.MEETINGS, words.GIVINGS, words.THANKS, words.ACTIONS,
        words.PLACES, words.THINGS, sequences, [scripts], *words.PRONOUNS,
    )  # fmt: skip
    bare = re.findall(r"[^ .,{}\n]+", re.sub(r"{\w+}", " ", " ".join(text for each in lists for text in each)))
    first = [text.split()[0] for text in (*words.OPENERS, *sequences)] + scripts.split()
    tokens = {f" {word}" for word in bare} | set(first) | set(".,\n")
    return (toy.END_OF_TEXT, UNKNOWN, *sorted(tokens))


def tokenizer() -> Any:
    """Return the grammar's tokenizer as a `tokenizers.Tokenizer`; every text of the grammar round-trips."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    numbered = {token: index for index, token in enumerate(vocabulary())}
    made = Tokenizer(models.WordLevel(numbered, UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), "isolated")
    made.decoder = decoders.Fuse()
    return made


def blocks(
    seed: int, n: int, held_out: bool = False, kinds: tuple[str, ...] = tuple(SHARES), context: int = CONTEXT
) -> Blocks:
    """Return n full blocks of sentences of these kinds, each of whole ones but for the last one, which is cut."""
    texts, encode = sentences(seed, sides(seed)[held_out], kinds), tokenizer().encode_batch
    rows = [row[:context] for row in islice(_rows(texts, encode, context), n)]
    each_N = np.full(n, context, np.int32)
    return Blocks(np.array(rows, np.int32), each_N, np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32))


def _rows(texts: Iterator[str], encode: Any, context: int) -> Iterator[list[int]]:
    row: list[int] = []
    while True:
        for encoding in encode(list(islice(texts, 256))):
            row += encoding.ids
            if len(row) >= context:
                yield row
                row = []


def grammar_subject(cache: Path, by: Toy, report: Report, device: str = "cpu") -> Path:
    """Return the Hugging Face directory of the grammar's subject, trained if the cache folder does not have it."""
    fingerprint = list(islice(sentences(by.seed, sides(by.seed)[0]), FINGERPRINT))
    folder = cache / "subjects" / digest(["grammar", VERSION, by.model_dump(), CONTEXT, *vocabulary(), *fingerprint])

    def make() -> None:
        model = toy.train_toy(blocks(by.seed, by.steps * by.batch), by, report, device)
        toy.save_toy(folder, model, tokenizer(), by, {"sequences": words.SEQUENCES})

    return make_one(folder, make)
