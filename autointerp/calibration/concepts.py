"""Defines concepts of the planted language, where they hold, and the true text about them in the rules' wording.

A concept is one or several parts, each made of rules (`autointerp.prompting.rules`); a domain; or positions in the
block. It holds where some part holds.

Shape suffixes: M blocks of text, L tokens of a block, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from autointerp.calibration.language import DOMAIN_NAMES, PlantedText, domain_ids, vocabulary
from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_text
from autointerp.prompting.rules import Rule, RuleKind

Family = Literal["token", "set", "pair", "near", "mixture of 2", "mixture of 3", "mixture of 5", "domain", "position"]
FAMILIES: tuple[Family, ...] = get_args(Family)
SINGLE: tuple[Family, ...] = ("token", "set", "pair", "near")
MIXTURES: tuple[Family, ...] = ("mixture of 2", "mixture of 3", "mixture of 5")
EXACT = SINGLE + MIXTURES
"""Families whose truth the rules' language can say exactly."""
STRENGTH = 10.0
Mask = NDArray[np.bool_]
Part = tuple[Rule, ...]


@dataclass(frozen=True)
class Concept:
    """Describes where a feature should be active."""

    family: Family
    name: str
    parts: tuple[Part, ...] = ()
    """What it is made of: one part, or several in a mixture."""
    domain: str | None = None
    positions: tuple[int, ...] = ()
    """Positions in the block."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of all parts; of a domain, those that come nearest to it; of positions, none."""
        if self.domain is not None:
            return domain_rules(self.domain)
        return tuple(rule for part in self.parts for rule in part)

    @property
    def words(self) -> frozenset[str]:
        """The tokens that its rules name."""
        return frozenset(token for rule in self.rules for token in rule.key)

    @property
    def truth(self) -> str:
        """The true explanation, in the rules' wording."""
        return rules.to_text(self.rules)

    def holds(self, text: PlantedText) -> Mask:
        """Tell for every token whether the concept holds there, [M, L]."""
        if self.domain is not None:
            here_M = text.domain_M == DOMAIN_NAMES.index(self.domain)
            return np.repeat(here_M[:, None], text.ids_ML.shape[1], axis=1)
        if self.positions:
            return np.broadcast_to(np.isin(np.arange(text.ids_ML.shape[1]), self.positions), text.ids_ML.shape).copy()
        return predict_text(self.rules, text.population) > 0


def unrelated(concepts: Sequence[Concept], rng: np.random.Generator) -> list[int | None]:
    """Draw for each concept the index of another one that shares no word with it; None if there is none."""
    others: list[int | None] = []
    for index, own in enumerate(concepts):
        apart = [i for i, other in enumerate(concepts) if i != index and not own.words & other.words]
        others.append(int(rng.choice(apart)) if apart else None)
    return others


def single(kind: RuleKind, *ids: int) -> Rule:
    """Make a rule of full strength from token indices."""
    return Rule(kind, tuple(vocabulary()[index] for index in ids), STRENGTH)


@cache
def domain_rules(domain: str) -> Part:
    """Return the rules nearest to a domain: its own tokens, and what follows them within reach.

    They miss the start of a block until the domain's first own token; nothing in the text tells it there.
    """
    own = domain_ids(domain)
    return (*(single("token", index) for index in own), *(single("near", index) for index in own))
