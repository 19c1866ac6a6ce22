"""Studies universality: whether another subject, trained from another seed, has the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.runs.plan import TOY
from autointerp.studies import MONOSEMANTICITY, STUDIES, Figure, NotApplicable, Session, Study, figure
from autointerp.studies.medians import median_interval


class Universality(Study):
    """Trains a second toy and the same dictionary of it."""

    name = "universality"
    title = (
        "A second toy is trained from another seed, and the same dictionary of it. For each feature the largest "
        "Pearson correlation of its activations with those of a feature of the other, on held-out text."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Correlate the dictionary with the other subject's, and the neurons with its neurons."""
        config = session.plan.config
        if config.subject.model != TOY or not config.dictionaries.train:
            raise NotApplicable("needs a second model: only a toy subject with dictionaries of its own has one")
        from autointerp.sampling.studies import other_seed

        return other_seed(session)

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return the medians beside the published ones, and how logit weights follow."""
        features, neurons = measured["features"], measured.get("neurons", [])
        note = "41 million tokens and 4,096 features there; a toy and its dictionary are trained for much shorter"
        rank = measured["logit_similarity"]
        return [
            figure(
                "features: median of the largest correlations", median_interval(features), len(features),
                published=0.72, source=MONOSEMANTICITY, note=note,
            ),
            figure(
                "neurons: median of the largest correlations", median_interval(neurons), len(neurons),
                published=0.46, source=MONOSEMANTICITY, note=note,
            ),
            Figure("features: Spearman correlation of activation with logit-weight similarity", rank, n=len(features)),
        ]  # fmt: skip


STUDIES.register("universality", Universality)
