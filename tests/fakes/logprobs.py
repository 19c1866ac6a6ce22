"""Texts as tokens, and the script's log-probabilities in the two shapes of OpenAI's API."""

import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any

TOKEN = re.compile(r"\d+| ?[^\W\d_]+|.", re.DOTALL)
"""A run of digits, a run of letters with at most one space before it, or any other character."""
NEGLIGIBLE = -9999.0
"""What the API says of a token that the script gives no probability."""

Top = Callable[[int, str], dict[str, float]]
"""Log-probabilities at a position in the text, given the offset and the token that stands there."""


def tokens(text: str) -> list[str]:
    """The text's tokens; together they are the text."""
    return TOKEN.findall(text)


TokenOffsets = list[tuple[int, str]]
"""Tokens with their offsets."""


def tokens_at(text: str, start: int = 0) -> TokenOffsets:
    """The tokens of a text that stands at `start` of a larger one."""
    return [(start + match.start(), match.group()) for match in TOKEN.finditer(text)]


def chat_content(text: str, top: Top, n: int) -> list[dict[str, Any]]:
    """`choices[].logprobs.content` of a chat completion."""
    return [_chat_token(token, top(offset, token), n) for offset, token in tokens_at(text)]


def completion_logprobs(offsets: TokenOffsets, top: Top, n: int, bos: str | None) -> dict[str, Any]:
    """`choices[].logprobs` of a completion, the offsets as vLLM adds them up: a token begins where the one before it
    ends, and the first one, BOS if there is one, at 0.

    Args:
        bos: the text of the BOS token of an echoed prompt, which may be none; None: the prompt is not echoed. The first
            token of an echo has nothing before it to be likely after.
    """
    tops = [top(offset, token) for offset, token in offsets]
    own: list[float | None] = [here.get(token, NEGLIGIBLE) for (_, token), here in zip(offsets, tops, strict=True)]
    # The API adds the token that stands there to the n likeliest, so there may be n + 1.
    likeliest: list[dict[str, float] | None] = [
        {token: here.get(token, NEGLIGIBLE)} | dict(_best(here, n))
        for (_, token), here in zip(offsets, tops, strict=True)
    ]
    tokens = [token for _, token in offsets]
    if bos:
        tokens, own, likeliest = [bos, *tokens], [None, *own], [None, *likeliest]
    elif bos is not None and offsets:
        own[0] = likeliest[0] = None
    return {
        "tokens": tokens,
        "token_logprobs": own,
        "top_logprobs": likeliest,
        "text_offset": list(accumulate(map(len, tokens), initial=0))[:-1],
    }


def _best(here: dict[str, float], n: int) -> list[tuple[str, float]]:
    return sorted(here.items(), key=lambda pair: -pair[1])[:n]


def _chat_token(token: str, here: dict[str, float], n: int) -> dict[str, Any]:
    likeliest = [_entry(other, logprob) for other, logprob in _best(here, n)]
    return _entry(token, here.get(token, NEGLIGIBLE)) | {"top_logprobs": likeliest}


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
