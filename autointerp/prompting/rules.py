"""The language of token rules: rules to a sentence and back, and what a set of rules predicts.

Used by the offline explainer and the offline simulator, which share nothing but the sentence. Knows nothing about
how rules are learnt.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal

from autointerp.prompting import templates
from autointerp.records import AnswerError

RuleKind = Literal["token", "pair", "after", "near"]
KINDS: tuple[RuleKind, ...] = ("token", "pair", "after", "near")
NEAR_WINDOW = 8
"""Reach of a `near` rule, in tokens; the wording in prompts/explainer/rules.yaml says the same number."""
PROMPT = "explainer/rules"
_QUOTED = r'"(?:[^"\\]|\\.)*"'


@dataclass(frozen=True)
class Rule:
    """A condition on a token and those before it, and the activation (0-10) it predicts there.

    key: (token,) for `token`, `after` and `near`; (previous token, token) for `pair`.
    """

    kind: RuleKind
    key: tuple[str, ...]
    strength: float


class Predictor:
    """Applies rules: a token's activation is the strength of the strongest rule that holds there, else 0."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._token, self._pair, self._after, self._near = tables = [dict[Any, float]() for _ in KINDS]
        for rule in rules:
            key = rule.key if rule.kind == "pair" else rule.key[0]
            table = tables[KINDS.index(rule.kind)]
            table[key] = max(rule.strength, table.get(key, 0.0))

    def predict(self, tokens: Sequence[str]) -> tuple[float, ...]:
        """Activation (0-10) of each token; rules see the fragment's tokens only."""
        predicted = [self._token.get(token, 0.0) for token in tokens]
        if self._pair or self._after:
            for position, pair in enumerate(pairwise(tokens), start=1):
                strongest = max(self._pair.get(pair, 0.0), self._after.get(pair[0], 0.0))
                predicted[position] = max(predicted[position], strongest)
        for position, token in enumerate(tokens if self._near else ()):
            strength = self._near.get(token, 0.0)
            for later in range(position + 1, min(position + 1 + NEAR_WINDOW, len(tokens)) if strength else 0):
                predicted[later] = max(predicted[later], strength)
        return tuple(predicted)


def to_text(rules: Sequence[Rule]) -> str:
    """The rules as one sentence, in the order given."""
    wording = templates.load(PROMPT).values
    if not rules:
        return str(wording["nothing"])
    return str(wording["opening"] + wording["separator"].join(map(_phrase, rules)) + wording["closing"])


@lru_cache(maxsize=1024)
def from_text(text: str) -> tuple[Rule, ...]:
    """Read a sentence back. Raises AnswerError, with the place, where it is not of the wording."""
    wording = templates.load(PROMPT).values
    if text == wording["nothing"]:
        return ()
    if not text.startswith(wording["opening"]):
        raise AnswerError(f"the explanation does not begin with {wording['opening']!r}")
    place, rules = len(wording["opening"]), []
    patterns = _patterns(templates.load(PROMPT).label)
    while True:
        rule, place = _read(text, place, patterns)
        rules.append(rule)
        if text[place:] == wording["closing"]:
            return tuple(rules)
        if not text.startswith(wording["separator"], place):
            raise AnswerError(f"the explanation cannot be read from {text[place : place + 40]!r} on")
        place += len(wording["separator"])


def _phrase(rule: Rule) -> str:
    wording = templates.load(PROMPT).values
    names = dict(zip(("a", "b"), (json.dumps(token, ensure_ascii=False) for token in rule.key), strict=False))
    phrase = wording["kinds"][rule.kind].format(**names)
    return str(phrase + wording["strength"].format(strength=f"{rule.strength:.1f}"))


def _read(text: str, place: int, patterns: list[tuple[RuleKind, re.Pattern[str]]]) -> tuple[Rule, int]:
    for kind, pattern in patterns:
        match = pattern.match(text, place)
        if match:
            found = match.groupdict()
            key = tuple(json.loads(found[name]) for name in ("a", "b") if name in found)
            return Rule(kind, key, float(found["strength"])), match.end()
    raise AnswerError(f"no rule is worded like {text[place : place + 40]!r}")


@cache
def _patterns(label: str) -> list[tuple[RuleKind, re.Pattern[str]]]:
    """A pattern per kind, made from the wording; `label` keys the cache."""
    wording: Any = templates.load(PROMPT).values
    slots = {"a": _QUOTED, "b": _QUOTED, "strength": r"\d+\.\d"}
    patterns: list[tuple[RuleKind, re.Pattern[str]]] = []
    for kind in KINDS:
        pieces = re.split(r"\{(\w+)\}", wording["kinds"][kind] + wording["strength"])
        parts = [
            f"(?P<{piece}>{slots[piece]})" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)
        ]
        patterns.append((kind, re.compile("".join(parts))))
    return patterns
