"""Prints a run in a terminal: its outcome, a dry run's estimate, and one feature's page.

Text from a corpus may hold control characters: they are printed escaped, never sent to the terminal as they are.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from autointerp.peer_faults import FAULTS, loudly, switched_on
from autointerp.records import ActivationRecord, Effect, FeatureRecord, FeatureResult
from autointerp.reporting import seeds
from autointerp.reporting.comparison_tables import in_rounds, resolution_table
from autointerp.reporting.leaderboard import read_comparisons
from autointerp.reporting.tables import scores_tables
from autointerp.scorers import SCORERS, Scorer
from autointerp.scorers.tokens import TokenScorer
from autointerp.store import SITE, RunFolder
from sae.common.errors import UserError, near, shortened, visible
from sae.common.tables import Table, number, print_tables

if TYPE_CHECKING:
    from autointerp.llm.pricing import Prices
    from autointerp.runs.savings import Expected

SHADES = (22, 28, 34, 40, 46)
"""256-colour greens from faint to strong."""
CHANGED = 5
"""Tokens whose probability falls, and rises, most that are shown of an ablation."""


def print_outcome(folder: RunFolder) -> None:
    """Print a finished run: what was sampled, the main explainer's scores, usage, errors, and the next command."""
    about = folder.about
    click.echo("\n" + "\n".join(account(about)) + "\n")
    comparisons = read_comparisons(folder)
    resolution = [resolution_table(comparisons)] if in_rounds(comparisons) else []
    print_tables([*scores_tables(folder.read_leaderboard()), *resolution])
    path, board = (visible(str(one)) for one in (folder.path, folder.path / "leaderboard.md"))
    click.echo(f"\nEverything is in {path}; the other tables in {board}")
    if (index := folder.path / SITE / "index.html").is_file():
        click.echo(f"The pages: {visible(str(index))}, to be opened in a browser")
    totals = about["totals"]
    if totals["calls"]:
        cost = "unknown" if totals["cost_usd"] is None else f"${totals['cost_usd']:.4f}"
        click.echo(
            f"model calls: {totals['calls']:,}, with {totals['tokens_in']:,} tokens in and {totals['tokens_out']:,} "
            f"out; cost {cost}, including answers that came from the cache"
        )
    if totals["error"]:
        click.echo(
            f"{totals['error']} results are errors (autointerp show gives the reasons); the same command with another "
            "--out asks for those again and takes the rest from the cache"
        )
    click.echo(f"next: {shlex.join(['autointerp', 'show', str(folder.path)])}")


def print_seeds(folders: Sequence[RunFolder]) -> None:
    """Print finished runs that differ only in their seed: where they are, the table over seeds, the next command."""
    for folder in folders:
        click.echo(f"seed {folder.about['config']['seed']}: {visible(str(folder.path))}")
    click.echo()
    print_tables(seeds.tables(folders))
    paths = [str(folder.path) for folder in folders]
    click.echo(f"\nnext: {shlex.join(['autointerp', 'leaderboard', *paths])}")


def account(about: Mapping[str, Any]) -> list[str]:
    """Say what was sampled, from run.json: device, corpus, subject, and a line per dictionary."""
    facts = about["sampling"]
    source = about["config"]["corpus"]["source"]
    lines = [
        f"device {facts['device']}",
        f"corpus {source}: {facts['corpus_tokens']:,} tokens, {facts['held_out_tokens']:,} held out by "
        f"{facts['held_out_by']}, {facts['usable_tokens']:,} of them in fragments that records are drawn from",
        f"near-duplicates: {facts['near_duplicate_documents']:,} documents stay on the side of another that has more "
        f"than a quarter of their 16-grams; {facts['score_tokens_in_explain_16_grams']:.1%} of the tokens to score lie "
        "in a 16-gram of the text to explain",
        *(f"note: {note}" for note in about["notes"]),
        *(f"{loudly([name])}: {FAULTS[name].does}" for name in switched_on(about)),
    ]
    if "cross_entropy" in facts:
        lines.append(
            f"subject: held-out cross-entropy {facts['cross_entropy']:.3f} nats "
            f"(token frequencies alone: {facts['unigram_cross_entropy']:.3f})"
        )
    return [visible(line) for line in [*lines, *map(_summary, about["dictionaries"])]]


def _summary(summary: Mapping[str, Any]) -> str:
    l0, fvu, recovered = number(summary["l0"], 1), number(summary["fvu"], 3), number(summary["ce_recovered"], 3)
    dead = "-" if summary["dead"] is None else f"{summary['dead']:.1%}"
    return (
        f"{summary['name']}: {summary['n_features']:,} features, L0 {l0}, FVU {fvu}, "
        f"CE recovered {recovered}, dead {dead}; sampled {summary['n_sampled']} of "
        f"{summary['n_candidates']} candidates ({summary['n_dead']} dead, {summary['n_rare']} too rare)"
        + ("; stopped before it converged" if summary["converged"] is False else "")
    )


def print_estimate(
    rows: Sequence[Mapping[str, Any]],
    prices: Prices,
    features: int,
    savings: Mapping[str, float],
    command: str,
    expected: Expected | None = None,
) -> None:
    """Print a dry run: a row per stage and model, the totals, what would save most, and the next command.

    Args:
        rows: from `llm.estimate.rows`.
        prices: what the costs were computed from.
        features: the run's number of features.
        savings: the share of the cost that other flags save, by these flags.
        command: the same command without --dry-run.
        expected: what a run in rounds is expected to ask.
    """
    if not rows:
        click.echo(f"this run makes no model calls\nnext: {command}")
        return
    print_tables([Table(list(rows[0]), [[_cell(name, value) for name, value in row.items()] for row in rows])])
    total, most = ([row[name] for row in rows] for name in ("usd", "most usd"))
    if None in total:
        unknown = sorted({row["model"] for row in rows if row["usd"] is None})
        click.echo(f"\nno price is known for {', '.join(unknown)}: {prices.advice(unknown[0])}")
    else:
        click.echo(
            f"\nabout ${sum(total):.2f}, ${sum(total) / features:.4f} a feature; at most ${sum(most):.2f}, if every "
            f"answer is as long as it may be. Tokens are estimates; prices as of {prices.as_of}, without prompt-cache "
            "discounts and second questions"
        )
        if expected:
            cost = "a price that is not known" if expected.cost_usd is None else f"${expected.cost_usd:.2f}"
            click.echo(
                "that is for all features, if no comparison is resolved before; expected, as if rules had scored them: "
                f"about {cost}, with {expected.calls:,} calls for {expected.features:,} of {features:,} features"
            )
        for flags, share in savings.items():
            click.echo(f"{flags} would save ${share * sum(total):.2f} ({share:.0%})")
    if any(row["thinking"] != "-" for row in rows):
        click.echo(
            "models that may think are counted with all tokens that an answer may have; `autointerp config effort`"
        )
    known = None not in most and "--max-cost" not in command
    click.echo(f"next: {command}{f' --max-cost {math.ceil(sum(most) * 100) / 100:.2f}' if known else ''}")


def _cell(name: str, value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return number(value, 4) if name.endswith("usd") else str(value)


def feature_page(
    folder: RunFolder, name: str, colour: bool, explainer: str | None = None, all_explanations: bool = False
) -> str:
    """Describe one feature: an explanation with its scores, and the feature's fragments, shaded by activation.

    Args:
        explainer: whose explanation, predictions and judgements; None: the main one's.
        all_explanations: whether those of the other explainers follow at the end.

    Raises UserError with the near names if the run has no such feature, or the feature no such explainer.
    """
    features = {str(feature.id): feature for feature in folder.read_features()}
    if name not in features:
        raise UserError(f"{folder.path} has no feature {name!r}{near(name, sorted(features))}")
    feature = features[name]
    results = [result for result in folder.results() if result.feature == feature.id]
    names = [result.explainer for result in results]
    if explainer and explainer not in names:
        raise UserError(f"{name} has no explanation of {shortened(explainer)!r}{near(explainer, names)}")
    results.sort(key=lambda result: result.explainer != explainer)  # the others keep their order
    return "\n".join([*_lines(feature, results[:1], colour), *_others(results[1:], all_explanations)])


def _others(results: Sequence[FeatureResult], in_full: bool) -> list[str]:
    """Describe the other explanations, or only name their explainers."""
    if in_full:
        return ["", *(line for result in results for line in _explained(result))]
    names = ", ".join(visible(result.explainer) for result in results)
    return ["", f"also explained by {names}: --explainer NAME, or --all"] if results else []


def _lines(feature: FeatureRecord, results: Sequence[FeatureResult], colour: bool) -> list[str]:
    lines = [
        f"{visible(str(feature.id))}   density {feature.density:.5f}   largest activation {feature.max_activation:.3g}",
        "",
    ]
    for result in results:
        lines += _explained(result)
    lines.append("explained from")
    lines += [f"  {record.source:10} {shaded(record, feature.max_activation, colour)}" for record in feature.explain]
    if feature.promoted:
        lines += ["", "promotes " + " ".join(repr(token) for token in feature.promoted)]
    lines += _effect(feature.effect) if feature.effect else []
    lines += _judged_tokens(results[0], feature) if results else []
    lines += ["", "scored on (true activations; below them, what was predicted or judged from the explanation)"]
    predictions = {item.record: item.predicted for item in results[0].simulations} if results else {}
    for index, record in enumerate(feature.score):
        lines.append(f"  {record.source:10} {shaded(record, feature.max_activation, colour)}")
        if index in predictions:
            values = tuple(value or 0.0 for value in predictions[index])  # a missing prediction is not shaded
            predicted = ActivationRecord(record.tokens, values, record.document, record.source)
            lines.append(f"  {'predicted':10} {shaded(predicted, 10.0, colour)}")
        lines += _judged(results[0], index) if results else []
    return lines


def _explained(result: FeatureResult) -> list[str]:
    """Describe one explanation: its scores, its text, and the reasons of errors."""
    scores = "  ".join(
        f"{visible(name).removeprefix('simulation/')} {_with_interval(value, result.intervals.get(name))}"
        for name, value in result.scores.items()
    )
    text = visible(result.explanation.text) if result.explanation else "-"
    errors = [f"  {visible(name)}: error: {visible(reason)}" for name, reason in result.errors.items()]
    shown = text if len(text) < 1000 else text[:1000] + " ..."
    return [f"{visible(result.explainer)} ({result.status})  {scores}", f"  {shown}", *errors, ""]


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    return number(value) + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _judged(result: FeatureResult, index: int) -> list[str]:
    """Describe the judge's answers about one record, a line per scorer that asks about records."""
    return [
        f"  {'judged':10} {scorer}: {item.answer}"
        + ("" if item.probability is None else f" (probability of 1: {item.probability:.2f})")
        for scorer, items in result.judgements.items()
        if not is_about_tokens(scorer)
        for item in items
        if item.record == index
    ]


def _effect(effect: Effect) -> list[str]:
    """Describe what ablating a feature does: the loss, and the tokens whose probability changes most."""
    own, others = ("-" if value is None else f"{value:+.4f}" for value in (effect.loss, effect.loss_others))
    lines = ["", f"ablated: loss {own} nats on {effect.tokens:,} active tokens, {others} on other text; probabilities"]
    for tokens, changes in ((effect.lowered, effect.lowered_by), (effect.raised, effect.raised_by)):
        pairs = list(zip(tokens, changes, strict=True))[:CHANGED]
        lines += ["  " + "  ".join(f"{token!r} {change:+.4f}" for token, change in pairs)] if pairs else []
    return lines


def _judged_tokens(result: FeatureResult, feature: FeatureRecord) -> list[str]:
    """Describe to which tokens the judge says yes, a line per scorer that asks about tokens."""
    lines: list[str] = []
    for scorer, items in result.judgements.items():
        part = SCORERS.get(scorer) if scorer in SCORERS else Scorer
        if issubclass(part, TokenScorer):
            tokens = [token for side in part.asked_tokens(feature) for token in side]
            named = " ".join(repr(tokens[item.record]) for item in items if item.answer)
            lines.append(f"judged {part.yes_means} by {scorer}: {named or '-'}")
    return lines


def is_about_tokens(scorer: str) -> bool:
    """Tell what a scorer's judgements are about; those of a plugin that is not installed here are about records."""
    return scorer in SCORERS and not SCORERS.get(scorer).judges_records


def shaded(record: ActivationRecord, highest: float, colour: bool) -> str:
    """Render a text with each token's activation as a shade, or without colour as `[token]9`, from 1 to 9.

    Args:
        record: the text and its activations.
        highest: the activation that gets the strongest shade.
        colour: whether to use the terminal's colours.
    """
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
