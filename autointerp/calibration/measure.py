"""Measures planted features: four numbers each, so that the harness's error is taken apart.

harness              the score of the explainer's text, on the records that the harness draws
oracle               the score of the true text, on the same records
oracle on all        the correlation of the true text with the feature over the whole score half
closed form          what that correlation must be, from the densities of concept and feature in the score half

harness - oracle is the explainer's loss; oracle - oracle on all is the bias of the records.

Shape suffixes: M blocks of text, L tokens of a block, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autointerp.calibration.catalogue import Catalogue
from autointerp.calibration.cells import Activations, Cell, Planted, activations, closed_form, correlation, is_possible
from autointerp.calibration.concepts import Concept, Family, Mask, unrelated
from autointerp.calibration.generation import Generated, generated
from autointerp.calibration.harness import MISMATCHED, Harness, given
from autointerp.calibration.language import Ids, PlantedText, generate, vocabulary
from autointerp.config import Config
from autointerp.evaluate import Explained
from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_text
from autointerp.prompting.rules import Rule
from autointerp.records import AnswerError, Explanation, FeatureRecord, FeatureResult
from sae.common.progress import Report, Silent
from sae.common.seeds import numpy_generator

if TYPE_CHECKING:
    from autointerp.sampling.given import GivenText

Scores = Mapping[str, float | None]
CARRIER_TOKENS = 30_000
"""Tokens of the text that explanations are written into."""
ALL_TOKENS = "all tokens"
"""Names the exact correlation over every token of the score half, among the scores."""


@dataclass(frozen=True)
class Row:
    """Holds what was measured of one planted feature."""

    family: str
    concept: str
    target_density: float
    density: float
    """The concept's density, in the whole text."""
    firing: float
    """The feature's density."""
    noise: float
    amplitude: float
    explanation: str | None
    harness: Scores
    """Scores of the explainer's explanation, by name."""
    harness_all: float | None
    """Correlation of its prediction over the whole score half; None for an explanation in prose."""
    oracle: Scores
    """Scores of the true text on the same records; empty for a concept that the rules cannot say."""
    oracle_all: float | None
    closed_form: float | None
    """None for a concept that the rules cannot say exactly."""
    control: Scores
    """Scores of another concept's explanation."""
    control_all: float | None
    """Correlation of its prediction over the whole score half."""
    named: bool | None
    """For a token: whether the explanation names it first."""
    sensitivity: float | None
    """Share of the texts written from the explanation in which the concept holds; None for one in prose."""
    specificity: float | None
    """Share of the texts that the explanation says nothing about in which the concept holds nowhere."""
    errors: Mapping[str, str] = field(default_factory=dict)
    tokens: float = 0
    """Language model tokens, in and out, that the explanation and its scores cost."""


@dataclass(frozen=True)
class Session:
    """Holds the text and the harness that all planted features share."""

    text: PlantedText
    score_M: Mask
    """Blocks that score records are drawn from."""
    harness: Harness
    config: Config
    report: Report
    carriers: PlantedText
    """Other text of the language, which explanations are written into."""

    @cached_property
    def score_text(self) -> PlantedText:
        """The score half."""
        return self.text.take(self.score_M)

    def records(self, activations_MLF: Activations) -> list[FeatureRecord | None]:
        """Draw the records of features by the harness's own selection; None for one that is active too rarely."""
        from autointerp.sampling.given import sample_given

        return sample_given(given_text(self.text), activations_MLF, self.config, Silent)

    def on_all(self, explanation: str | None, activations_ML: Activations) -> float | None:
        """Correlate what a text predicts with a feature over the whole score half; None if it is no text of rules."""
        rule_list = read_rules(explanation)
        if rule_list is None:
            return None
        return correlation(predict_text(rule_list, self.score_text.population), activations_ML[self.score_M])


def read_rules(explanation: str | None) -> tuple[Rule, ...] | None:
    """Read an explanation's rules; None if there is none, or if it is not made of rules."""
    try:
        return None if explanation is None else rules.from_text(explanation)
    except AnswerError:
        return None


def make_session(text: PlantedText, harness: Harness, config: Config, report: Report) -> Session:
    """Divide the text into its explain and score half as sampling does, and draw the carriers."""
    from autointerp.sampling.given import score_side

    carriers = generate(CARRIER_TOKENS, config.seed, "carriers")
    return Session(text, score_side(given_text(text), config), harness, config, report, carriers)


def given_text(text: PlantedText) -> GivenText:
    """Write the text for `autointerp.sampling.given`."""
    from autointerp.sampling.given import GivenText

    return GivenText(_strings(text.ids_ML), text.document_M)


def _strings(ids_ML: Ids) -> list[str]:
    names: NDArray[np.object_] = np.array(vocabulary(), dtype=object)
    return names[ids_ML.ravel()].tolist()  # type: ignore[no-any-return]  # strings


@dataclass(frozen=True)
class Grid:
    """Says what is planted: every family at every density, noise and amplitude that is possible."""

    families: tuple[Family, ...]
    densities: tuple[float, ...]
    noises: tuple[float, ...]
    amplitudes: tuple[float, ...]
    copies: int
    """Concepts of each family and density."""

    def plant(self, catalogue: Catalogue) -> list[Planted]:
        """Choose concepts and list the features, those of one noise and amplitude together."""
        pairs = [
            (Cell(family, density, 0.0, 1.0), concept)
            for family in self.families
            for density in (self.densities if family != "position" else (0.0,))
            for concept in catalogue.choose(family, density, self.copies)
        ]
        return [
            Planted(Cell(cell.family, cell.density, noise, amplitude), concept, copy)
            for noise in self.noises
            for amplitude in (self.amplitudes if noise else (1.0,))
            for copy, (cell, concept) in enumerate(pairs)
            if is_possible(catalogue.density(concept), noise) and not (noise and concept.family == "position")
        ]


def measure(session: Session, planted: Sequence[Planted], seed: int) -> Iterator[Row]:
    """Sample, explain and score planted features, those of one noise and amplitude at once."""
    done = 0
    with session.report("measuring planted features") as progress:
        for _, group in groupby(planted, key=lambda one: (one.cell.noise, one.cell.amplitude)):
            together = list(group)
            yield from _measure_group(session, together, seed)
            done += len(together)
            progress.update(done, len(planted))


def _measure_group(session: Session, group: Sequence[Planted], seed: int) -> Iterator[Row]:
    """Measure features of different concepts: each one's control is the explanation of another."""
    held = [planted.concept.holds(session.text) for planted in group]
    made_MLF = np.stack(
        [activations(planted, one, session.text, seed) for planted, one in zip(group, held, strict=True)], axis=-1
    )
    records = session.records(made_MLF)
    kept = [index for index, record in enumerate(records) if record is not None]
    features = [record for record in records if record is not None]
    explained = session.harness.explain(features)
    truths = [given(group[index].concept.truth) for index in kept]
    rng = numpy_generator(seed, "mismatched concepts", group[0].key)
    others = unrelated([group[index].concept for index in kept], rng)
    mismatched = [None if other is None else explained[other].outcome for other in others]
    results = session.harness.score(features, explained, mismatched)
    oracles = session.harness.score(features, truths)
    for index, own, other, result, oracle in zip(kept, explained, mismatched, results, oracles, strict=True):
        density = float(held[index].mean())
        yield _row(session, group[index], density, made_MLF[..., index], own, other, result, oracle)


def _row(
    session: Session,
    planted: Planted,
    density: float,
    made_ML: Activations,
    own: Explained,
    other: Explanation | AnswerError | None,
    result: FeatureResult,
    oracle: FeatureResult,
) -> Row:
    concept, cell = planted.concept, planted.cell
    text, mismatched = (one.text if isinstance(one, Explanation) else None for one in (own.outcome, other))
    says, exactly = bool(concept.rules), bool(concept.parts)
    usage = result.usage
    read = read_rules(text)
    written = Generated(None, None) if read is None else generated(read, concept, session.carriers, session.config.seed)
    return Row(
        family=cell.family,
        concept=concept.name,
        target_density=cell.density,
        density=density,
        firing=float((made_ML > 0).mean()),
        noise=cell.noise,
        amplitude=cell.amplitude,
        explanation=text,
        harness=dict(result.scores),
        harness_all=session.on_all(text, made_ML),
        oracle=dict(oracle.scores) if says else {},
        oracle_all=session.on_all(concept.truth, made_ML) if says else None,
        closed_form=_expected(planted, session, made_ML) if exactly else None,
        control=dict(result.controls[MISMATCHED].scores) if MISMATCHED in result.controls else {},
        control_all=session.on_all(mismatched, made_ML),
        named=names_first(text, concept) if cell.family == "token" else None,
        sensitivity=written.sensitivity,
        specificity=written.specificity,
        errors=dict(result.errors),
        tokens=(usage.get("tokens_in") or 0) + (usage.get("tokens_out") or 0),
    )


def _expected(planted: Planted, session: Session, made_ML: Activations) -> float:
    """Compute the closed form from the densities of the score half, where they may differ from the whole text's."""
    score_ML = made_ML[session.score_M]
    right, firing = float(planted.concept.holds(session.score_text).mean()), float((score_ML > 0).mean())
    return closed_form(right, 1 - right / firing, planted.cell.amplitude) if right else 0.0


def names_first(explanation: str | None, concept: Concept) -> bool:
    """Tell whether an explanation names a token's concept: rules in their first rule, prose anywhere."""
    if explanation is None:
        return False
    token, read = concept.rules[0].key[0], read_rules(explanation)
    if read is None:
        return (token.strip() or "newline") in explanation
    return bool(read) and (read[0].kind, read[0].key) == ("token", (token,))
