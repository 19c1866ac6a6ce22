"""How many tokens a text is, without its tokenizer: an estimate for dry runs. Knows no provider's real count.

A pre-tokenizer in the manner of GPT-4's, one token a piece, long pieces more. Measured against cl100k, o200k and the
published Claude 2 tokenizer: within 10% on English prose and Python source (15% on string literals full of escapes),
within 2% (Claude 2: 12%) on lists of a token and a digit a line, where characters / 4 is 55 to 67% too low. Other
languages: rough.
"""

import re

PIECE = re.compile(r"(?:[^\s\w]| )?[^\W\d_]+|\d{1,3}| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s")
LONGEST_PIECE = 10
"""Bytes that one token may still cover."""
BYTES_PER_TOKEN = {True: 6, False: 3}
"""Of longer pieces, ASCII or not."""
NEWER_CLAUDE = 1.3
"""Claude's tokenizer from Opus 4.7 on makes about 30% more tokens (Anthropic's migration guides)."""
OLDER_CLAUDE = ("-4-5", "-4-6")


def estimate(text: str, model: str = "") -> int:
    """About how many tokens `text` is for a judge."""
    count = sum(map(_tokens, PIECE.findall(text)))
    newer = model.startswith("anthropic/") and not any(mark in model for mark in OLDER_CLAUDE)
    return round(count * NEWER_CLAUDE) if newer else count


def _tokens(piece: str) -> int:
    size = len(piece.encode("utf-8", "replace"))
    if piece.isascii() and size <= LONGEST_PIECE:
        return 1
    return -(-size // BYTES_PER_TOKEN[piece.isascii()])
