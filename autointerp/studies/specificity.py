"""Studies whether a feature tells a concept with a rule and nothing else, as Towards Monosemanticity does of Arabic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autointerp.population import PopulationText
from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, NotApplicable, Session, Study, figure
from autointerp.studies.proxies import FEWEST, PARTS, Column, Labelled, Mask, measure_concepts
from autointerp.studies.text_rules import marked
from sae.common.tables import Table, number


class Specificity(Study):
    """Chooses the best feature of each concept on one half of the text and measures it on the other."""

    name = "specificity"
    title = (
        "Concepts that a rule tells: words of the grammar, and patterns in the run's text. Of each the feature whose "
        "activation correlates most with it, on one half of the text, measured on the other; so is the best neuron. "
        "Log-likelihood ratio: log P(token | concept) / P(token), nats. Means over concepts."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Measure the run's own text and, of a toy, the grammar. Raises NotApplicable without a concept in either."""
        from autointerp.sampling.tasks import is_toy

        sources = {"text": measure_concepts(*_own_text(session))}
        if is_toy(session):
            from autointerp.sampling.specificity import grammar_text

            sources = {"grammar": measure_concepts(*grammar_text(session))} | sources
        if not any(one["concepts"] for one in sources.values()):
            raise NotApplicable(f"no concept with a rule has {FEWEST} tokens in each half of the text that was sampled")
        return {"sources": sources}

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return means over the concepts of each text."""
        return [one for source, values in measured["sources"].items() for one in _figures(source, values["concepts"])]

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return every concept: its best feature, and the log-likelihood ratio by interval of activation."""
        sources = measured["sources"].items()
        each = [(source, one) for source, values in sources for one in values["concepts"]]
        rows = [
            [source, one["name"], f"{one['tokens']:,}", str(one["feature"]), *(_shown(one.get(key)) for key in KEYS)]
            for source, one in each
        ]
        without = "; ".join(f"{source}: {', '.join(values['left_out']) or 'none'}" for source, values in sources)
        title = f"Concepts, with 95% intervals over blocks. Too few tokens in a half (less than {FEWEST}): {without}."
        bounds = [f"{part / PARTS:.1g}-{(part + 1) / PARTS:.1g}" for part in range(PARTS)]
        about = "Expected log-likelihood ratio, nats, by activation as a share of the largest."
        return [
            Table(["text", "concept", "tokens", "feature", *KEYS.values()], rows, title),
            Table(
                ["text", "concept", "of", "inactive", *bounds], [row for pair in each for row in _ratios(*pair)], about
            ),
        ]


def _ratios(source: str, one: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of a concept's feature and of its neuron."""
    pairs = [(f"feature {one['feature']}", one["ratios"])]
    if "neuron_ratios" in one:
        pairs.append(("best neuron", one["neuron_ratios"]))
    return [[source, one["name"], label, *map(number, ratios)] for label, ratios in pairs]


KEYS = {
    "correlation": "correlation",
    "neuron_correlation": "best neuron's",
    "sensitivity": "active on the concept's tokens",
    "specificity": "activation on the concept's tokens",
}
"""Columns of the table."""


def _figures(source: str, concepts: Sequence[Mapping[str, Any]]) -> list[Figure]:
    signed, share = (-1.0, 1.0), (0.0, 1.0)
    means = [
        ("correlation with the concept", "correlation", signed),
        ("the best neuron's", "neuron_correlation", signed),
        ("feature minus neuron", "above_neuron", (-2.0, 2.0)),
        ("correlation where the labels are of another block", "control", signed),
        ("share of the concept's tokens on which the feature is active", "sensitivity", share),
        ("share of the feature's activation on the concept's tokens", "specificity", share),
    ]
    figures = []
    for what, key, bounds in means:
        values = [one[key][0] for one in concepts if key in one]
        figures.append(figure(f"{source}: {what}", mean_interval(values, bounds), len(values)))
    for what, part in (("inactive", 0), ("in the strongest fifth of its activation", PARTS)):
        values = [one["ratios"][part] for one in concepts if one["ratios"][part] is not None]
        figures.append(figure(f"{source}: log-likelihood ratio where it is {what}", mean_interval(values), len(values)))
    return figures


def _shown(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else "{} [{}, {}]".format(*map(number, interval))


def _own_text(session: Session) -> tuple[Labelled, list[Column], list[Column]]:
    """Return the text that the run scored on, its concepts, and the activations of the features and neurons there."""
    from autointerp import population_files

    columns: dict[str, list[Column]] = {session.dictionary: [], session.neurons: []}
    text = None
    for name, one in population_files.read(session.folder.path).items():
        if name.dictionary in columns:
            text = one.text
            columns[name.dictionary].append(Column(name.index, one.position_A, one.value_A))
    if text is None:
        raise NotApplicable("the run keeps no activations on all of its text, in which concepts could be looked up")
    labelled = Labelled(text.ids_ML, _half(text), marked(text))
    return labelled, columns[session.dictionary], columns[session.neurons]


def _half(text: PopulationText) -> Mask:
    """Mark the fragments of about half of the text; no document is in both halves."""
    document_D, index_M = text.documents
    counts_D = np.bincount(index_M, minlength=len(document_D))
    sizes, in_first_D = [0, 0], np.zeros(len(document_D), np.bool_)
    for document in np.argsort(-counts_D, kind="stable").tolist():
        side = int(sizes[1] < sizes[0])
        sizes[side] += int(counts_D[document])
        in_first_D[document] = side == 0
    half_M: Mask = in_first_D[index_M]
    return half_M


STUDIES.register("specificity", Specificity)
