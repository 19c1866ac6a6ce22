"""Attacks scorers with wrong labels: each must get the score that its error deserves.

The true text of a planted concept is compared with texts that are wrong in one known way. A scorer orders them if the
truth scores above every wrong text, every partly right text above an unrelated one, and a paraphrase the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.calibration.catalogue import Catalogue
from autointerp.calibration.cells import Planted, activations
from autointerp.calibration.concepts import Concept, Part, single, unrelated
from autointerp.calibration.harness import given
from autointerp.calibration.language import vocabulary
from autointerp.calibration.measure import ALL_TOKENS, Session
from autointerp.prompting import rules
from autointerp.prompting.rules import Rule
from autointerp.records import FeatureResult
from sae.common.seeds import numpy_generator

TRUTH, SHUFFLED, PARAPHRASE, THOUGHT = "truth", "shuffled", "paraphrase", "chain of thought left in"
BROAD, NARROW, MISSING, ADDED = "too broad", "too narrow", "one missing", "one added"
PARTLY_RIGHT = (BROAD, NARROW, MISSING, ADDED)
ORDERINGS = (
    (TRUTH, SHUFFLED),
    *((TRUTH, wrong) for wrong in PARTLY_RIGHT),
    *((wrong, SHUFFLED) for wrong in PARTLY_RIGHT),
)  # fmt: skip
"""(better, worse)."""
BROADER = 3.0
"""A text that is too broad also names other tokens, so many times as frequent as the concept."""
SAME = 0.02
"""Scores of a text and its paraphrase may differ by so much."""
WEAKER = 6.0
"""Strength of every rule in the paraphrase."""


@dataclass(frozen=True)
class Attacked:
    """Holds the scores of all texts about one planted feature."""

    family: str
    concept: str
    density: float
    noise: float
    scores: Mapping[str, Mapping[str, float | None]]
    """By the score's name, then by text: None where it is undefined."""
    errors: Mapping[str, tuple[str, ...]]
    """By the score's name: the texts that are errors, which have no score."""


@dataclass(frozen=True)
class Orderings:
    """Counts how often a score orders two texts."""

    compared: int
    wrong: int
    """The worse text scores above the better one; or a paraphrase differs, or a chain of thought gets a number."""
    tied: int
    """Both score the same."""

    @property
    def failure_rate(self) -> float | None:
        """The share of comparisons that are wrong or tied: either way the score does not order them."""
        return (self.wrong + self.tied) / self.compared if self.compared else None


def texts(concept: Concept, other: Concept, catalogue: Catalogue, seed: int) -> dict[str, str]:
    """Write every text about a concept that its rules allow.

    Args:
        other: an unrelated concept.
    """
    part = concept.rules
    thought = f"Let me look at the examples first. The tokens seem to have something in common. {concept.truth}"
    written = {
        TRUTH: part,
        SHUFFLED: other.rules,
        BROAD: (*part, *_more_tokens(concept, catalogue, seed)),
        NARROW: _narrowed(concept, catalogue),
        MISSING: tuple(rule for some in concept.parts[:-1] for rule in some),
        ADDED: (*part, *other.rules),
        PARAPHRASE: tuple(replace(rule, strength=WEAKER) for rule in reversed(part)),
    }
    return {name: rules.to_text(value) for name, value in written.items() if value} | {THOUGHT: thought}


def _more_tokens(concept: Concept, catalogue: Catalogue, seed: int) -> Part:
    """Return other tokens, drawn at random, that together are BROADER times as frequent as the concept."""
    rng = numpy_generator(seed, "broader texts", concept.family, concept.name)
    frequent = np.argsort(-catalogue.token_V)[: len(vocabulary()) // 2]
    drawn: list[Rule] = []
    total = 0.0
    for index in rng.permutation(frequent).tolist():
        if total >= BROADER * catalogue.density(concept):
            break
        if vocabulary()[index] not in concept.words:
            drawn.append(single("token", index))
            total += float(catalogue.token_V[index])
    return tuple(drawn)


def _narrowed(concept: Concept, catalogue: Catalogue) -> Part:
    """Return rules that hold at some of a single concept's tokens only; none for a pair, which has no narrower rule.

    A token: only after the token it follows most often. A set: its rarer half. Near a token: only right after it.
    """
    part = concept.rules
    if concept.family == "set":
        return part[len(part) // 2 :]
    if concept.family == "near":
        return (replace(part[0], kind="after"),)
    if concept.family == "token":
        index = vocabulary().index(part[0].key[0])
        return (single("pair", int(catalogue.pair_VV[:, index].argmax()), index),)
    return ()


def attack(session: Session, planted: Sequence[Planted], catalogue: Catalogue, seed: int) -> Iterator[Attacked]:
    """Score all texts about planted features; features that are active too rarely are left out."""
    if not planted:
        return
    made_MLF = np.stack([activations(p, p.concept.holds(session.text), session.text, seed) for p in planted], axis=-1)
    kept = [(index, record) for index, record in enumerate(session.records(made_MLF)) if record is not None]
    concepts = [planted[index].concept for index, _ in kept]
    others = unrelated(concepts, numpy_generator(seed, "unrelated concepts"))
    tasks = [
        (number, name, text)
        for number, ((index, _), other) in enumerate(zip(kept, others, strict=True))
        if other is not None
        for name, text in texts(planted[index].concept, planted[kept[other][0]].concept, catalogue, seed).items()
    ]
    harness = session.harness
    attacked = [kept[number][1] for number, _, _ in tasks]
    results = harness.score(attacked, [given(text) for _, _, text in tasks], by=harness.judging)
    for number, (index, _) in enumerate(kept):
        own = {name: (text, result) for (n, name, text), result in zip(tasks, results, strict=True) if n == number}
        exact = {name: session.on_all(text, made_MLF[..., index]) for name, (text, _) in own.items()}
        yield _attacked(session, planted[index], catalogue, {name: result for name, (_, result) in own.items()}, exact)


def _attacked(
    session: Session,
    planted: Planted,
    catalogue: Catalogue,
    results: Mapping[str, FeatureResult],
    exact: Mapping[str, float | None],
) -> Attacked:
    names = session.harness.compared_scores
    scores = {s: {text: r.scores[s] for text, r in results.items() if s in r.scores} for s in names}
    errors = {s: tuple(text for text, r in results.items() if s not in r.scores) for s in names}
    scores[ALL_TOKENS] = {text: value for text, value in exact.items() if value is not None}
    errors[ALL_TOKENS] = tuple(text for text, value in exact.items() if value is None)
    concept, cell = planted.concept, planted.cell
    return Attacked(cell.family, concept.name, catalogue.density(concept), cell.noise, scores, errors)


def orderings(attacked: Sequence[Attacked], score: str) -> dict[str, Orderings]:
    """Count a score's orderings by kind of comparison, `better > worse`, and over `all` of them.

    Comparisons with an undefined score are left out; an error counts as the lowest score.
    """
    outcomes: dict[str, list[str]] = {}
    for one in attacked:
        for kind, outcome in _outcomes(one.scores[score], one.errors[score]).items():
            outcomes.setdefault(kind, []).append(outcome)
    outcomes["all"] = [outcome for kind in outcomes.values() for outcome in kind]
    return {
        kind: Orderings(len(some), some.count("wrong"), some.count("tied")) for kind, some in outcomes.items()
    }  # fmt: skip


def _outcomes(scores: Mapping[str, float | None], errors: Sequence[str]) -> dict[str, str]:
    made = {}
    for better, worse in ORDERINGS:
        a, b = scores.get(better), scores.get(worse)
        if a is not None and b is not None:
            made[f"{better} > {worse}"] = "right" if a > b + 1e-9 else "tied" if a > b - 1e-9 else "wrong"
    truth, same = scores.get(TRUTH), scores.get(PARAPHRASE)
    if truth is not None and same is not None:
        made[f"{PARAPHRASE} = {TRUTH}"] = "right" if abs(truth - same) <= SAME else "wrong"
    if truth is not None:
        made[f"{THOUGHT} is an error"] = "right" if THOUGHT in errors else "wrong"
    return made
