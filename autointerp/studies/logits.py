"""Studies logit weights: whether they agree with measured ablations, and whether explanations foretell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.studies import MONOSEMANTICITY, STUDIES, Figure, NotApplicable, Session, Study, figure
from autointerp.studies.judged import judged, judged_figures
from autointerp.studies.medians import median_interval

NOTE = "the published judge is a language model that chooses between two tokens; rules know only tokens they name"


class LogitWeights(Study):
    """Reads the agreement that the run's records hold, and the scores of the scorer logits."""

    name = "logits"
    title = (
        "Logit weights are the decoder direction through the output weights, the final layer norm without its scale, "
        "and the unembedding. Agreement: Pearson's correlation over the vocabulary with the fall of each token's "
        "log-probability when the feature is ablated."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Collect agreement and judged tokens of the dictionary's features and of the neurons."""
        measured = {name: _weights(session, name) for name in (session.dictionary, session.neurons)}
        if not measured[session.dictionary]["agreement"]:
            raise NotApplicable(f"no fixed map leads from the features of {session.dictionary} to the logits")
        return {"dictionary": measured[session.dictionary], "neurons": measured[session.neurons]}

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return the medians of agreement, and the scorer's means beside the published ones."""
        figures: list[Figure] = []
        for name, label, published in (("dictionary", "features", 0.74), ("neurons", "neurons", 0.58)):
            agreement = measured[name]["agreement"]
            figures += [
                figure(f"{label}: median agreement with ablations", median_interval(agreement), len(agreement)),
                *judged_figures(
                    measured[name]["judged"],
                    f"{label}: explanation foretells promoted tokens (scorer logits)",
                    published=published,
                    source=MONOSEMANTICITY,
                    note=NOTE,
                ),
            ]
        return figures


def _weights(session: Session, dictionary: str) -> dict[str, Any]:
    effects = [feature.effect for feature in session.features(dictionary) if feature.effect]
    return {
        "agreement": [effect.logit_agreement for effect in effects if effect.logit_agreement is not None],
        "judged": judged(session.results(dictionary), "logits"),
    }


STUDIES.register("logits", LogitWeights)
