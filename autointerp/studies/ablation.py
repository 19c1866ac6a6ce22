"""Studies what features do: each is ablated on held-out text where it is active, and on other text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, NotApplicable, Session, Study, figure
from autointerp.studies.judged import judged, judged_figures
from sae.common.tables import Table, number

SHOWN = 10
"""Features in the table, those whose ablation costs most."""
TOKENS = 5
"""Tokens of each that are shown."""


class Ablation(Study):
    """Reads the effects that the run's records hold."""

    name = "ablation"
    title = (
        "Each feature is subtracted from the activations. Change of the next token's loss in nats, and whether the "
        "explanation foretells which tokens become less likely (balanced accuracy; chance .5)."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Collect the effects of the dictionary's features and of the neurons."""
        measured = {name: _effects(session, name) for name in (session.dictionary, session.neurons)}
        if not measured[session.dictionary]["own"]:
            raise NotApplicable(f"features of {session.dictionary} cannot be ablated: it does not write what it reads")
        texts = {r.feature: r.explanation.text for r in session.results(session.dictionary) if r.explanation}
        strongest = sorted(
            (one for one in session.features(session.dictionary) if one.effect and one.effect.loss is not None),
            key=lambda one: -(one.effect.loss or 0.0) if one.effect else 0.0,
        )[:SHOWN]
        rows = [
            [str(one.id), one.effect.loss, list(one.effect.lowered[:TOKENS]), texts.get(one.id, "-")]
            for one in strongest
            if one.effect
        ]
        return {"dictionary": measured[session.dictionary], "neurons": measured[session.neurons], "strongest": rows}

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return the mean changes, the share of features that help, and the scorer's means."""
        own = measured["dictionary"]
        helps = [float(value > 0) for value in own["own"]]
        return [
            figure("loss where the feature is active, nats", mean_interval(own["own"]), len(own["own"])),
            figure("loss on other text, nats", mean_interval(own["others"]), len(own["others"])),
            figure("share of features whose ablation costs loss there", mean_interval(helps, (0, 1)), len(helps)),
            figure(
                "neurons: loss where the neuron is active, nats",
                mean_interval(measured["neurons"]["own"]),
                len(measured["neurons"]["own"]),
            ),
            *judged_figures(own["judged"], "explanation foretells lowered tokens (scorer effect)"),
        ]

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return the features whose ablation costs most."""
        rows = [
            [name, number(loss, 3), " ".join(map(repr, tokens)), text]
            for name, loss, tokens, text in measured["strongest"]
        ]
        return [Table(["feature", "loss, nats", "less likely without it", "explanation"], rows, "Costliest ablations.")]


def _effects(session: Session, dictionary: str) -> dict[str, Any]:
    effects = [feature.effect for feature in session.features(dictionary) if feature.effect]
    return {
        "own": [effect.loss for effect in effects if effect.loss is not None],
        "others": [effect.loss_others for effect in effects if effect.loss_others is not None],
        "judged": judged(session.results(dictionary), "effect"),
    }


STUDIES.register("ablation", Ablation)
