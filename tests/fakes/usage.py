"""How many tokens a text has, and which of them a prompt cache holds.

A token is four characters: wrong for any real model, but anybody can check the sums.
"""

import hashlib

CHARACTERS = 4
"""A token's."""
BLOCK = 128
"""OpenAI caches prompts in blocks of so many tokens."""
LEAST = 1024
"""And none shorter than this."""


def count(text: str) -> int:
    return (len(text) + CHARACTERS - 1) // CHARACTERS


class PromptCache:
    """The prefixes seen so far, for the mode in which they matter.

    In mode "read" everything was seen before, in mode "write" nothing was.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def holds(self, model: str, prefix: str, mode: str) -> bool:
        """Whether this prefix is read from the cache; afterwards it would be."""
        if mode != "real":
            return mode == "read"
        key = hashlib.sha256(f"{model}\0{prefix}".encode()).hexdigest()
        seen = key in self._seen
        self._seen.add(key)
        return seen

    def blocks(self, model: str, prompt: str, mode: str) -> int:
        """How many of a prompt's tokens are read when caching needs no marks: whole blocks from the start."""
        whole = count(prompt) // BLOCK * BLOCK
        lengths = range(LEAST, whole + 1, BLOCK)
        return max((n for n in lengths if self.holds(model, prompt[: n * CHARACTERS], mode)), default=0)
