"""Words token rules as a sentence, reads them back, and computes what a set of rules predicts.

The offline explainer and the offline simulator share nothing but the sentence. How rules are learnt is in
`autointerp.explainers.rules`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from autointerp.prompting import templates
from autointerp.records import AnswerError

RuleKind = Literal["token", "pair", "after", "near"]
KINDS: tuple[RuleKind, ...] = ("token", "pair", "after", "near")
NEAR_WINDOW = 8
"""Reach of a `near` rule, in tokens; the wording in prompts/explainer/rules.yaml says the same number."""
PROMPT = "explainer/rules"
_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'


@dataclass(frozen=True)
class Rule:
    """Holds a condition on a token and those before it, and the activation (0-10) that it predicts there."""

    kind: RuleKind
    key: tuple[str, ...]
    """(token,) for `token`, `after` and `near`; (previous token, token) for `pair`."""
    strength: float


def to_text(rules: Sequence[Rule]) -> str:
    """Word the rules as one sentence, in the order given."""
    wording = templates.load(PROMPT).values
    if not rules:
        return str(wording["nothing"])
    return str(wording["opening"] + wording["separator"].join(map(_phrase, rules)) + wording["closing"])


@lru_cache(maxsize=1024)
def from_text(text: str) -> tuple[Rule, ...]:
    """Read a sentence back. Raises AnswerError with the part that is not worded like rules."""
    wording = templates.load(PROMPT).values
    if text == wording["nothing"]:
        return ()
    if not text.startswith(wording["opening"]):
        raise AnswerError(f"the explanation does not begin with {wording['opening']!r}")
    offset, rules, phrase = len(wording["opening"]), [], _any_phrase(templates.load(PROMPT).label)
    while True:
        rule, offset = _read(text, offset, phrase)
        rules.append(rule)
        if text[offset:] == wording["closing"]:
            return tuple(rules)
        if not text.startswith(wording["separator"], offset):
            raise AnswerError(f"the explanation cannot be read from {text[offset : offset + 40]!r} on")
        offset += len(wording["separator"])


def _phrase(rule: Rule) -> str:
    wording = templates.load(PROMPT).values
    names = dict(zip(("a", "b"), map(_quoted, rule.key), strict=False))
    phrase = wording["kinds"][rule.kind].format(**names)
    return str(phrase + wording["strength"].format(strength=f"{rule.strength:.1f}"))


@lru_cache(maxsize=65_536)
def _quoted(token: str) -> str:
    return json.dumps(token, ensure_ascii=False)


@lru_cache(maxsize=65_536)
def _unquoted(token: str) -> str:
    return str(json.loads(token))


def _read(text: str, offset: int, phrase: re.Pattern[str]) -> tuple[Rule, int]:
    match = phrase.match(text, offset)
    if not match or not match.lastgroup:
        raise AnswerError(f"no rule is worded like {text[offset : offset + 40]!r}")
    kind = KINDS[int(match.lastgroup.removeprefix("strength"))]
    names = ("a", "b") if kind == "pair" else ("a",)
    key = tuple(_unquoted(match[f"{name}{KINDS.index(kind)}"]) for name in names)
    return Rule(kind, key, float(match[match.lastgroup])), match.end()


def patterns() -> list[tuple[RuleKind, re.Pattern[str]]]:
    """Return a pattern per kind of rule, with the groups a, b (tokens quoted as JSON) and strength."""
    return _patterns(templates.load(PROMPT).label)


@cache
def _patterns(label: str) -> list[tuple[RuleKind, re.Pattern[str]]]:
    """Make a pattern per kind from the wording; `label` keys the cache."""
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


@cache
def _any_phrase(label: str) -> re.Pattern[str]:
    """Make one pattern of all kinds, its groups numbered by kind: the last one that matched tells which it is."""
    numbered = [
        re.sub(r"\(\?P<(\w+)>", rf"(?P<\g<1>{number}>", pattern.pattern)
        for number, (_, pattern) in enumerate(_patterns(label))
    ]
    return re.compile("|".join(numbered))
