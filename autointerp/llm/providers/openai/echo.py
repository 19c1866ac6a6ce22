"""Aligns the tokens that a server echoes with the prompt that was sent, to know which of them begins at an offset.

The server's own `text_offset` is not used. vLLM's adds up the lengths of the tokens, each written alone
(`_create_completion_logprobs`): so it counts a BOS token, which is not in the prompt. Here the prompt is walked, and
every token must stand where the walk has come to.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.llm.reading import logprobs_of

PART = "\ufffd"
"""What servers write for bytes that are no whole character."""
SPACE = re.compile(r"\s*")
TEN = re.compile(r"\t10(?=\n)")


def slot_logprobs(prompt: str, slots: Sequence[int], logprobs: Mapping[str, Any]) -> tuple[Mapping[str, float], ...]:
    """Return the log-probabilities of the likeliest tokens at each offset in `slots`.

    Raises LookupError if no token begins at one of them, or if 10 is not one token; one of UNREADABLE for wrong JSON.

    Args:
        logprobs: an echoed completion's, with `tokens` and `top_logprobs`.
    """
    starts = token_starts(prompt, logprobs["tokens"], max(slots))
    if any(logprobs["tokens"][starts[at]] == "1" for at in _tens(prompt) if at in starts):
        raise LookupError("the model writes 10 as two tokens, the first of which cannot be told from 1")
    missing = [slot for slot in slots if slot not in starts]
    if missing:
        raise LookupError(f"no token of the echoed prompt begins at offset {missing[0]}, where one should")
    tops = [logprobs["top_logprobs"][starts[slot]] for slot in slots]
    return tuple(logprobs_of(top or {}) for top in tops)


def _tens(prompt: str) -> list[int]:
    """Return where the examples of a prompt have the activation 10."""
    return [match.end() - 2 for match in TEN.finditer(prompt)]


def token_starts(prompt: str, tokens: Sequence[str], last: int) -> dict[int, int]:
    """Return the index of the token that begins at an offset of the prompt, for all tokens up to the offset `last`.

    Tokens before the prompt's first one, such as BOS, are skipped. Some tokenizers write a token alone without its
    space, or a part of a character as U+FFFD or nothing: so much of the prompt may be passed over before a token.
    Raises LookupError if a token is not the prompt's.
    """
    starts: dict[int, int] = {}
    offset = unseen = 0
    for index, token in enumerate(tokens):
        if offset > last:
            break
        if not token or PART in token:
            unseen += len(token)
            continue
        begin = _find(prompt, token, offset, unseen)
        if begin is not None:
            starts[begin] = index
            offset, unseen = begin + len(token), 0
        elif starts:
            raise LookupError(f"the echoed token {token!r} is not the prompt's at offset {offset}")
    return starts


def _find(prompt: str, token: str, offset: int, unseen: int) -> int | None:
    """Return where a token begins: here, or after white space, or after up to `unseen` characters."""
    space = SPACE.match(prompt, offset)
    furthest = max(space.end() if space else offset, offset + unseen)
    return next((at for at in range(offset, furthest + 1) if prompt.startswith(token, at)), None)
