"""Draws text and prompts from the grammar: indirect objects, pronouns, fixed sequences and scripts. Needs no torch.

Pairs of names with a template, and names with an action, are in one of two sides: trained on, or held out. Text for
training has only the first; prompts are drawn from either.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from random import Random
from typing import TypeVar

from sae.common.seeds import derive_seed
from sae.tasks.words import (
    ACTIONS,
    FEMALE,
    GIVINGS,
    MALE,
    MEETINGS,
    OPENERS,
    PLACES,
    PRONOUNS,
    SCRIPTS,
    SEQUENCES,
    THANKS,
    THINGS,
)

HELD_OUT = 0.2
"""Share of the pairs of names, of the templates, and of the combinations of name and action that are held out."""
SHARES = {"indirect": 0.7, "pronoun": 0.15, "fixed": 0.1, "script": 0.05}
"""How often each kind of sentence is drawn."""
SCRIPT_WORDS = 8
"""Words of a sentence of another script."""
T = TypeVar("T")
Template = tuple[str, str, str]
"""An opener, a meeting and a giving."""


@dataclass(frozen=True)
class Prompt:
    """Holds the beginning of a sentence and the word that follows, beside one that would, were one word another."""

    text: str
    answer: str
    """The right next word, with the space before it."""
    counterfactual: str
    """The same text with one word exchanged for another of the same kind."""
    other: str
    """The right next word there."""


@dataclass(frozen=True)
class Sides:
    """Holds what is trained on or what is held out."""

    pairs: tuple[tuple[str, str], ...]
    templates: tuple[Template, ...]
    actions: tuple[tuple[int, int, str], ...]
    """Gender (0 female), the name's index among those, and the action."""


@lru_cache
def sides(seed: int) -> tuple[Sides, Sides]:
    """Return what is trained on, and what is held out, by a seed."""
    pairs = tuple(combinations((*FEMALE, *MALE), 2))
    templates = tuple(product(OPENERS, MEETINGS, GIVINGS))
    actions = tuple((gender, name, action) for gender in (0, 1) for name in range(len(FEMALE)) for action in ACTIONS)
    parts = [_two(items, seed, kind) for kind, items in (("pairs", pairs), ("templates", templates), ("act", actions))]
    trained, held_out = (Sides(*(part[side] for part in parts)) for side in (0, 1))  # type: ignore[arg-type]
    return trained, held_out


def _two(items: tuple[T, ...], seed: int, kind: str) -> tuple[tuple[T, ...], tuple[T, ...]]:
    shuffled = Random(derive_seed(seed, "held out of the grammar", kind)).sample(items, len(items))
    n = round(HELD_OUT * len(items))
    return tuple(shuffled[n:]), tuple(shuffled[:n])


def indirect_objects(
    pairs: Iterable[tuple[str, str]], templates: Iterable[Template], n: int, seed: int
) -> list[Prompt]:
    """Return n prompts whose next word is the indirect object; the counterfactual exchanges who gives.

    >>> from sae.tasks.grammar import indirect_objects
    >>> (one,) = indirect_objects([("Mary", "John")], [("Then", "{a} and {b} met", "{s} gave a ring to {o}")], 1, 0)
    >>> one.text, one.answer, one.counterfactual
    ('Then, Mary and John met. John gave a ring to', ' Mary', 'Then, Mary and John met. Mary gave a ring to')
    """
    rng, pairs, templates = Random(derive_seed(seed, "indirect objects")), tuple(pairs), tuple(templates)
    return [_indirect(rng, _one(rng, pairs), _one(rng, templates)) for _ in range(n)]


def _indirect(rng: Random, pair: tuple[str, str], template: Template) -> Prompt:
    a, b = pair if rng.random() < 0.5 else pair[::-1]
    subject, indirect = (a, b) if rng.random() < 0.5 else (b, a)
    opener, meeting, giving = template
    met = f"{opener}, {meeting}. ".format(a=a, b=b, place=_one(rng, PLACES))
    thing = _one(rng, THINGS)
    text, swapped = (met + giving.partition(" {o}")[0].format(s=s, thing=thing) for s in (subject, indirect))
    return Prompt(text, f" {indirect}", swapped, f" {subject}")


def pronouns(side: Sides, n: int, seed: int) -> list[Prompt]:
    """Return n prompts whose next word is a pronoun; the counterfactual has a name of the other gender."""
    rng = Random(derive_seed(seed, "pronouns"))
    return [_pronoun(rng, *_one(rng, side.actions)) for _ in range(n)]


def _pronoun(rng: Random, gender: int, name: int, action: str) -> Prompt:
    return _spoken(rng, gender, name, action)[0]


def _spoken(rng: Random, gender: int, name: int, action: str) -> tuple[Prompt, str]:
    """Return a prompt that ends before the pronoun, and the rest of its sentence."""
    opener, words = _one(rng, OPENERS), {"place": _one(rng, PLACES), "thing": _one(rng, THINGS)}
    names = (FEMALE, MALE)
    before, _, after = action.partition(" {subject}")
    form = 0
    for other, mark in ((1, " {possessive}"), (2, " {reflexive}")):
        if mark in action:
            before, _, after = action.partition(mark)
            form = other
    texts = [f"{opener}, {before}".format(n=names[each][name], **words) for each in (gender, 1 - gender)]
    answers = [f" {PRONOUNS[each][form]}" for each in (gender, 1 - gender)]
    return Prompt(texts[0], answers[0], texts[1], answers[1]), after.format(**words)


def fixed_sequences(longest: int) -> list[Prompt]:
    """Return a prompt for each word of the fixed sequences but the first two, up to a length in words.

    Their counterfactuals are themselves.
    """
    prompts = []
    for sequence in SEQUENCES.values():
        marked = sequence.split(" ")
        for end in range(2, min(len(marked), longest)):
            text, word = " ".join(marked[:end]).replace(" ,", ","), marked[end]
            answer = word if word == "," else f" {word}"
            prompts.append(Prompt(text, answer, text, answer))
    return prompts


def script_texts(seed: int, n: int = 4) -> dict[tuple[str, ...], list[str]]:
    """Return of each script's words n texts of a few of them."""
    rng = Random(derive_seed(seed, "texts of scripts"))
    lists = [tuple(words.split()) for words in SCRIPTS.values()]
    return {words: [" ".join(rng.choices(words, k=SCRIPT_WORDS // 2)) for _ in range(n)] for words in lists}


def sentences(seed: int, side: Sides, kinds: tuple[str, ...] = tuple(SHARES)) -> Iterator[str]:
    """Yield sentences without end, each with a line break; `kinds` are drawn by their SHARES."""
    rng = Random(derive_seed(seed, "sentences of the grammar"))
    draw: dict[str, Callable[[], str]] = {
        "indirect": lambda: _indirect_sentence(rng, side),
        "pronoun": lambda: _pronoun_sentence(rng, side),
        "fixed": lambda: _one(rng, tuple(SEQUENCES.values())).replace(" ,", ","),
        "script": lambda: _script_sentence(rng, _one(rng, tuple(SCRIPTS.values()))),
    }
    shares = [SHARES[kind] for kind in kinds]
    while True:
        yield draw[rng.choices(kinds, shares)[0]]() + ".\n"


def _indirect_sentence(rng: Random, side: Sides) -> str:
    prompt = _indirect(rng, _one(rng, side.pairs), _one(rng, side.templates))
    thanks = _one(rng, THANKS).format(o=prompt.answer.strip(), s=prompt.other.strip())
    return f"{prompt.text}{prompt.answer}. {thanks}"


def _pronoun_sentence(rng: Random, side: Sides) -> str:
    prompt, rest = _spoken(rng, *_one(rng, side.actions))
    return prompt.text + prompt.answer + rest


def _script_sentence(rng: Random, words: str) -> str:
    return " ".join(_one(rng, tuple(words.split())) for _ in range(SCRIPT_WORDS))


def _one(rng: Random, items: tuple[T, ...] | list[T]) -> T:
    return items[int(rng.random() * len(items))]
