"""The default script: what the model says when a test does not care.

A script is a module with these three functions; one that lacks the last two gets them from here.
"""

import hashlib
import math
from typing import Any

NUMBERS = [str(number) for number in range(11)]


def answer(messages: list[dict[str, str]], body: dict[str, Any]) -> str:
    """The text for a conversation, the system's message first; `body` is the request as it was sent."""
    asked = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    return "echo " + hashlib.sha256(asked.encode()).hexdigest()[:8]


def top_logprobs(messages: list[dict[str, str]], text: str, start: int, token: str) -> dict[str, float]:
    """Log-probabilities at the position of `token`, which the model generated at text[start:]."""
    if token not in NUMBERS:
        return {token: math.log(0.9), " x": math.log(0.1)}
    others = [number for number in NUMBERS if number != token]
    weights = _weights(f"{text}:{start}", len(others))
    spread = {other: math.log(0.4 * weight) for other, weight in zip(others, weights, strict=True)}
    return {token: math.log(0.6)} | spread


def prompt_logprobs(prompt: str, offset: int, token: str) -> dict[str, float]:
    """Log-probabilities at the position of `token`, which stands in the prompt at prompt[offset:]."""
    if token != "unknown":
        return {token: math.log(0.9), " x": math.log(0.1)}
    line_end = prompt.find("\n", offset)
    seen = prompt if line_end < 0 else prompt[:line_end]
    return {number: math.log(weight) for number, weight in zip(NUMBERS, _weights(seen, 11), strict=True)}


def _weights(seed: str, count: int) -> list[float]:
    """Positive numbers that sum to 1, the same for the same seed."""
    digest = hashlib.sha256(seed.encode()).digest()
    raw = [1 + byte for byte in digest[:count]]
    return [each / sum(raw) for each in raw]
