"""Aligns a server's tokens with their text: those of an answer, and those of an echoed prompt with what was sent.

For an echoed prompt the server's own `text_offset` is not used. vLLM's adds up the lengths of the tokens, each written
alone (`_create_completion_logprobs`): so it counts a BOS token, which is not in the prompt. Here the prompt is walked,
and every token must stand where the walk has come to.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.llm.reading import logprobs_of, text_of

PART = "\ufffd"
"""What servers write for bytes that are no whole character."""
SPACE = re.compile(r"\s*")
TEN = re.compile(r"\t10(?=\n)")


def token_texts(text: str, content: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what each token adds to an answer's text; the last piece of a character adds all of it.

    A piece of a character is no text: servers write it as an escape such as `\\xf0\\x9f`, with its bytes beside it, as
    U+FFFD, or as nothing. Where the tokens do not lead to the text, they are returned as they are written.

    Args:
        content: the chat completion's `logprobs.content`.
    """
    written = [text_of(item["token"]) for item in content]
    if not written or "".join(written) == text:
        return written
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    encoded = [bytes(item.get("bytes") or token.encode()) for item, token in zip(content, written, strict=True)]
    pieces = [decoder.decode(piece) for piece in encoded]
    return pieces if "".join(pieces) == text else _spread(text, written)


def _spread(text: str, tokens: Sequence[str]) -> list[str]:
    """Return what each token adds to a text, where pieces of characters are written as U+FFFD or as nothing: the last
    piece adds all that stands before the next whole token.

    Returns the tokens as they are if a whole one is not the text's, or something stands where there is no piece.
    """
    try:
        starts = token_starts(text, [token or PART for token in tokens], len(text))
    except LookupError:
        return list(tokens)
    whole = {index for index, token in enumerate(tokens) if token and PART not in token}
    pieces, end = [""] * len(tokens), 0
    for start, index in (*starts.items(), (len(text), len(tokens))):
        if end < start and index - 1 in whole | {-1}:
            return list(tokens)
        pieces[index - 1] += text[end:start]
        if index in whole:
            pieces[index] = tokens[index]
            end = start + len(tokens[index])
    return pieces if whole == set(starts.values()) else list(tokens)


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
