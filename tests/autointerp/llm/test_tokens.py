"""The token estimate: exact on lists of a token and a digit a line, additive elsewhere, more for newer Claudes."""

import random
from dataclasses import replace

import pytest

from autointerp.llm.providers.anthropic import NEWER_TOKENIZER
from autointerp.llm.tokens import estimate, of_request
from autointerp.llm.types import Message, Request

WORDS = (" the", "stone", ".", "(", " =", "    ", "'s", "\\n", " river", " I")


def test_a_token_line_is_its_token_a_tab_a_number_and_a_newline() -> None:
    rng = random.Random(0)
    for _ in range(200):
        tokens = rng.choices(WORDS, k=rng.randint(1, 60))
        lines = "\n".join(f"{token}\t{rng.randrange(11)}" for token in tokens)
        assert estimate(lines) == 4 * len(tokens) - 1


SIGNS = {").": 1, "):\\": 2, "<<=>>": 3, " ('\\": 2, '...".': 2, "====": 1, "\n\n": 1, " " * 23: 1, '"},': 1}
"""Runs of signs and spaces with their number of tokens in o200k (tiktoken 0.14)."""


@pytest.mark.parametrize(("text", "count"), SIGNS.items())
def test_runs_of_signs_and_spaces(text: str, count: int) -> None:
    assert abs(estimate(text) - count) <= 1


def test_a_prompt_has_frames_and_its_schema() -> None:
    turns = (Message("system", "the river"), Message("user", "a stone"))
    plain = Request("openai/gpt-4o-mini", turns, 10)
    schema = '{"type": "object"}'
    assert of_request(plain) == 4 + 2 * 4 + 3
    assert of_request(replace(plain, schema=schema)) == of_request(plain) + estimate(schema)
    assert of_request(replace(plain, slots=(0,))) == 4


def test_parts_make_up_the_whole() -> None:
    """Where texts are joined, a few pieces merge or part; no estimate is far from its parts' sum."""
    rng = random.Random(0)
    for _ in range(3000):
        left, right = ("".join(rng.choices("ab C1.,\n\t é日🎉_'", k=rng.randrange(30))) for _ in range(2))
        assert abs(estimate(left + right) - estimate(left) - estimate(right)) <= 3


def test_more_text_is_never_much_less() -> None:
    rng = random.Random(1)
    text = "".join(rng.choices("ab C1.,\n\t é日🎉_'", k=400))
    sizes = [estimate(text[:length]) for length in range(len(text))]
    assert all(size >= max(sizes[: length + 1]) - 2 for length, size in enumerate(sizes))
    assert estimate("") == 0
    assert estimate(text) > 100


@pytest.mark.parametrize("text", ["word " * 50, "日本語" * 40, "x" * 900, "🎉" * 30])
def test_no_text_has_more_tokens_than_bytes_or_suspiciously_few(text: str) -> None:
    size = len(text.encode())
    assert size / 8 <= estimate(text) <= size / 2.5


def test_newer_claudes_need_more() -> None:
    text = "the quick brown fox " * 25
    plain = estimate(text)
    for model in (
        None,
        "openai/gpt-4o-mini",
        "hf/gpt2",
        "anthropic/claude-opus-4-6",
        "anthropic/claude-haiku-4-5-20251001",
    ):
        assert estimate(text, model) == plain
    for model in ("anthropic/claude-opus-4-7", "anthropic/claude-sonnet-5-5"):
        assert estimate(text, model) == round(plain * NEWER_TOKENIZER) > 1.2 * plain
