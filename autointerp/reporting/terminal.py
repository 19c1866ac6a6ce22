"""One feature in a terminal: its explanation, and its excerpts with true and predicted activations shaded.

Text from a corpus may hold control characters: they are shown escaped, never sent to the terminal.
"""

from collections.abc import Sequence

from autointerp.records import ActivationRecord, FeatureRecord, FeatureResult
from autointerp.reporting.tables import number
from autointerp.store import RunFolder
from sae.common.errors import UserError, near

SHADES = (22, 28, 34, 40, 46)
"""256-colour greens from faint to strong."""


def feature_page(folder: RunFolder, name: str, colour: bool) -> str:
    """What is known of one feature. Raises UserError with the near names if the run has no such feature."""
    features = {str(feature.id): feature for feature in folder.read_features()}
    if name not in features:
        raise UserError(f"{folder.path} has no feature {name!r}{near(name, sorted(features))}")
    feature = features[name]
    results = [result for result in folder.results() if result.feature == feature.id]
    return "\n".join(_lines(feature, results, colour))


def feature_list(folder: RunFolder) -> str:
    """Every feature with its main score and explanation, best first within each dictionary."""
    results = list(folder.results())
    main = [result for result in results if result.explainer == results[0].explainer]
    names = list(dict.fromkeys(result.feature.dictionary for result in main))
    main.sort(key=lambda result: (names.index(result.feature.dictionary), -_rank(_main_score(result))))
    return "\n".join(
        f"{result.feature!s:32} {number(_main_score(result)):>6}  {result.status:9}  "
        f"{visible(result.explanation.text if result.explanation else '')[:100]}"
        for result in main
    )


def _main_score(result: FeatureResult) -> float | None:
    return next(iter(result.scores.values()), None)


def _rank(score: float | None) -> float:
    """Below every correlation where there is none."""
    return -2.0 if score is None else score


def _lines(feature: FeatureRecord, results: Sequence[FeatureResult], colour: bool) -> list[str]:
    lines = [f"{feature.id}   density {feature.density:.5f}   largest activation {feature.max_activation:.3g}", ""]
    for result in results:
        lines += _explained(result)
    lines.append("explained from")
    lines += [f"  {record.source:10} {shaded(record, feature.max_activation, colour)}" for record in feature.explain]
    if feature.promoted:
        lines += ["", "promotes " + " ".join(repr(token) for token in feature.promoted)]
    lines += ["", "scored on: true activations, then what was predicted or judged from the first explanation"]
    predicted = {item.record: item.predicted for item in results[0].simulations} if results else {}
    for place, record in enumerate(feature.score):
        lines.append(f"  {record.source:10} {shaded(record, feature.max_activation, colour)}")
        if place in predicted:
            values = tuple(value or 0.0 for value in predicted[place])  # what does not exist is not shaded
            guess = ActivationRecord(record.tokens, values, record.document, record.source)
            lines.append(f"  {'predicted':10} {shaded(guess, 10.0, colour)}")
        lines += _judged(results[0], place) if results else []
    return lines


def _explained(result: FeatureResult) -> list[str]:
    """One explanation with its scores, and the reasons of those that are errors."""
    scores = "  ".join(f"{name.removeprefix('simulation/')} {number(value)}" for name, value in result.scores.items())
    text = visible(result.explanation.text) if result.explanation else "-"
    errors = [f"  {name}: error: {visible(reason)}" for name, reason in result.errors.items()]
    shown = text if len(text) < 1000 else text[:1000] + " ..."
    return [f"{result.explainer} ({result.status})  {scores}", f"  {shown}", *errors, ""]


def _judged(result: FeatureResult, place: int) -> list[str]:
    """What each judging scorer said of one record."""
    return [
        f"  {'judged':10} {scorer}: {item.answer}"
        + ("" if item.probability is None else f" (probability of 1: {item.probability:.2f})")
        for scorer, items in result.judgements.items()
        for item in items
        if item.record == place
    ]


def shaded(record: ActivationRecord, highest: float, colour: bool) -> str:
    """The text with each token's activation as a shade, or as a digit 1-9 in brackets where there is no colour."""
    return "".join(
        _token(visible(token), value / highest if highest > 0 else 0.0, colour)
        for token, value in zip(record.tokens, record.activations, strict=True)
    )


def _token(text: str, share: float, colour: bool) -> str:
    if share <= 0:
        return text
    if colour:
        shade = SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))]
        return f"\033[48;5;{shade}m\033[38;5;15m{text}\033[0m"
    return f"[{text}]{max(1, min(9, round(share * 9)))}"


def visible(text: str) -> str:
    """The text on one line: newlines as a mark, other control characters escaped."""
    return "".join(
        "⏎" if character == "\n" else character if character.isprintable() else repr(character)[1:-1]
        for character in text
    )
