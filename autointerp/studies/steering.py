"""Studies pinned features: text is generated with a feature held at its largest activation, and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_fragments
from autointerp.records import AnswerError
from autointerp.statistics.intervals import mean_interval
from autointerp.studies import STUDIES, Figure, NotApplicable, Session, Study, figure
from sae.common.tables import Table, number

FEATURES = 20
"""Features that are pinned: those with the best scores."""
SHOWN = 5
"""Features whose text is shown."""


class Steering(Study):
    """Counts on how many generated tokens an explanation's rules hold."""

    name = "steering"
    title = (
        "Text is generated while one of the best-scored features is held at its largest activation, and with the same "
        "random numbers while none is. Share of the generated tokens on which its explanation says that it is active."
    )

    def measure(self, session: Session) -> dict[str, Any]:
        """Generate with each feature pinned and without, and count where the explanations hold.

        Raises NotApplicable if the explanations are not made of rules: counting would cost a call per text.
        """
        texts = _explanations(session)
        if len(texts) < 2:
            raise NotApplicable("needs explanations of two features or more that are made of rules, which count")
        from autointerp.sampling.studies import pinned

        indices = list(texts)
        maxima = {feature.id.index: feature.max_activation for feature in session.features(session.dictionary)}
        generated = pinned(session, indices, [maxima[index] for index in indices])
        rows = []
        for row, index in enumerate(indices):
            own, other = texts[index], texts[indices[(row + 1) % len(indices)]]
            shares = [[_share(text, side) for side in (generated[row], generated[-1])] for text in (own, other)]
            shown = "".join(generated[row][0])
            rows.append({"feature": index, "explanation": own, "own": shares[0], "other": shares[1], "text": shown})
        return {"features": rows, "plain": "".join(generated[-1][0])}

    def figures(self, measured: Mapping[str, Any]) -> Sequence[Figure]:
        """Return the share without and with the feature pinned, and the change by another feature's explanation."""
        rows = measured["features"]
        named = {
            "share where the explanation holds, feature pinned": [row["own"][0] for row in rows],
            "the same, nothing pinned": [row["own"][1] for row in rows],
            "change by pinning": [row["own"][0] - row["own"][1] for row in rows],
            "change of the share where another feature's explanation holds": [
                row["other"][0] - row["other"][1] for row in rows
            ],
        }
        return [figure(what, mean_interval(values), len(values)) for what, values in named.items()]

    def tables(self, measured: Mapping[str, Any]) -> Sequence[Table]:
        """Return some features with the beginning of a text generated under each."""
        rows = [
            [str(row["feature"]), number(row["own"][1]), number(row["own"][0]), repr(row["text"]), row["explanation"]]
            for row in measured["features"][:SHOWN]
        ]
        rows.append(["none", "", "", repr(measured["plain"]), ""])
        header = ["feature", "plain share", "pinned share", "one generated text", "explanation"]
        return [Table(header, rows, "Text under pinned features, from one and the same beginning.")]


def _explanations(session: Session) -> dict[int, str]:
    """Return the explanations of the best-scored features that are made of rules, best first."""
    scored = [r for r in session.results(session.dictionary) if r.explanation and r.scores.get(session.main_score)]
    scored.sort(key=lambda result: (-(result.scores[session.main_score] or 0.0), result.feature))
    texts = {r.feature.index: r.explanation.text for r in scored if r.explanation and _is_rules(r.explanation.text)}
    return dict(list(texts.items())[:FEATURES])


def _is_rules(text: str) -> bool:
    try:
        return bool(rules.from_text(text))
    except AnswerError:
        return False


def _share(explanation: str, texts: Sequence[Sequence[str]]) -> float:
    """Return the share of all tokens on which the explanation's rules predict some activation."""
    predicted = predict_fragments(rules.from_text(explanation), [tuple(tokens) for tokens in texts])
    values = [value for fragment in predicted for value in fragment]
    return sum(bool(value) for value in values) / max(1, len(values))


STUDIES.register("steering", Steering)
