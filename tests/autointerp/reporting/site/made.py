"""Makes runs by hand: small features with texts, predictions and judgements; also with hostile ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autointerp.population import Population, PopulationText
from autointerp.records import (
    ActivationRecord,
    Control,
    Effect,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureResult,
    Judgement,
    Simulation,
    Status,
)
from autointerp.reporting import leaderboard
from autointerp.reporting.site.neighbours import Neighbours, nearest, nearest_by_decoder
from autointerp.reporting.site.runs import SiteRun
from autointerp.runs.replay import Asked, Exchange

SCORES = {"simulation/population": 0.0, "simulation/top": 0.0, "detection": 0.5}
KINDS = ("sae", "neurons")
HOSTILE = (
    "<script>window.hacked=1</script>", "</script><img src=x onerror=window.hacked=1>", "'\"`--><svg onload=hacked=1>",
    "\u202eoverride\u202c\u2066", "\x00\x07\x1b[31m", "\ud800", "\u2028\u2029", "x" * 10_000, "", " ", "\n", "\t",
    "ع\u200dא", "😀\U000e0041\U0010ffff", "{{ 7*7 }}", "javascript:hacked=1",
)  # fmt: skip
"""Texts that would run, end a script, turn a line around, or vanish, if they were not shown as text."""
FALLS = (-0.6, -0.5, -0.4, -0.3, -0.2, -0.1)
"""Changes of the probabilities of six tokens when a feature is ablated."""
WORDS = ("the", " cat", " sat", "\n", " on", " a", " mat", ".")


def text(n_fragments: int = 260, length: int = 8, vocabulary: Sequence[str] = WORDS) -> PopulationText:
    rng = np.random.default_rng(0)
    ids_ML = rng.integers(0, len(vocabulary), (n_fragments, length)).astype(np.int32)
    return PopulationText(tuple(vocabulary), ids_ML, np.arange(n_fragments, dtype=np.int32))


def population(own: PopulationText, seed: int, share: float = 0.2) -> Population:
    rng = np.random.default_rng(seed)
    position_A = np.flatnonzero(rng.random(own.ids_ML.size) < share).astype(np.int32)
    return Population(own, position_A, rng.gamma(2.0, 1.0, position_A.size).astype(np.float32))


def record(tokens: Sequence[str], source: Any, peak: float) -> ActivationRecord:
    acts = tuple(peak if number == 1 else 0.0 for number in range(len(tokens)))
    return ActivationRecord(tuple(tokens), acts, 7, source, 3.0 if source == "weighted" else 1.0)


def feature(
    dictionary: str, number: int, tokens: Sequence[str] = WORDS, own: PopulationText | None = None
) -> FeatureRecord:
    score = (record(tokens, "top", 2.0), record(tokens, "random", 0.5), record(tokens, "inactive", 0.0))
    return FeatureRecord(
        FeatureId(dictionary, number), (record(tokens, "top", 1.5),), score, 0.001 * (number + 1), 2.0,
        (0,) * 40 + (3, 5, 1) + (0,) * 21, 1.0, 0.3, tuple(tokens[:4]), tuple(tokens[4:]),
        (3.5, 2.0), tuple(tokens[-2:]), (-4.0, -1.5), direction(dictionary, number), "blocks.0.mlp.hook_post",
        population(own, number + len(dictionary)) if own else None,
        Effect(3, 0.25, None, tuple(tokens[:6]), FALLS, tuple(tokens[6:7]), (0.01,), tuple(tokens[2:8]), 0.5),
    )  # fmt: skip


def direction(dictionary: str, number: int) -> np.ndarray:
    """A neuron's own direction, or one beside that of the neuron of the same number."""
    row_D = np.zeros(16, np.float32)
    row_D[number % 16] = 2.0
    noise_D = 0.0 if dictionary == "neurons" else 0.1 * np.random.default_rng(number).normal(size=16)
    return np.asarray(row_D + noise_D, np.float32)


def result(
    one: FeatureRecord, explainer: str, score: float | None = 0.4, words: str = "", status: Status = "ok"
) -> FeatureResult:
    length = len(one.score[0].tokens)
    predicted = tuple(5.0 if number == 1 else 0.0 for number in range(length))
    if status == "error":
        return FeatureResult(one.id, explainer, status, None, (), {}, error="no", errors={"simulation": "no answer"})
    return FeatureResult(
        one.id, explainer, status, Explanation(words or f"number {one.id.index} of {one.id.dictionary}", "p@1", "m"),
        (Simulation(0, predicted), Simulation(1, (0.0,) * length)), dict.fromkeys(SCORES, score),
        {"mismatched": Control(dict.fromkeys(SCORES, 0.01))},
        usage={"calls": 2, "tokens_in": 100, "tokens_out": 10, "cost_usd": 0.001},
        judgements={"detection": (Judgement(0, 1, 0.9), Judgement(2, 0))},
        intervals={} if score is None else {"simulation/population": (score - 0.1, score + 0.1)},
    )  # fmt: skip


def about(names: Sequence[str], n: int, status: str = "complete", **config: Any) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(("n_features", "n_sampled", "n_candidates"), n)
    facts |= dict.fromkeys(("dead", "ce_recovered", "converged"))
    facts |= {"hook_point": "blocks.0.mlp.hook_post", "d_in": 8, "n_dead": 0, "n_rare": 0, "l0": 3.5, "fvu": 0.25}
    return {
        "schema_version": 5, "status": status, "identity": "a" * 64, "name": "made",
        "config": {"name": "made", "seed": 3, "corpus": {"source": "stdlib"}, "subject": {"model": "toy"},
                   "simulator": "rules", "explainers": ["rules-5", "other"]} | config,
        "dictionaries": [{"name": name, "kind": kind} | facts for name, kind in zip(names, KINDS, strict=True)],
        "sampling": {"device": "cpu", "sampled_tokens": 1000}, "notes": ["a note"],
        "versions": {"python": "3.11", "autointerp": "0.1.0"},
        "prompts": {"explainer/p@1": "system: <b>say</b>\nuser: x\n"},
    }  # fmt: skip


def run(
    n: int = 6,
    tokens: Sequence[str] = WORDS,
    words: str = "",
    names: Sequence[str] = ("topk", "neurons"),
    label: str = "made",
    status: Status = "ok",
    explainers: Sequence[str] = ("rules-5", "other"),
    with_population: bool = True,
) -> SiteRun:
    """Make a finished run of n features of each of two dictionaries; scores rise with the feature's number."""
    own = text(vocabulary=tuple(dict.fromkeys(tokens))) if with_population else None
    features = [feature(name, number, tokens, own) for name in names for number in range(n)]
    results = {
        one.id: [result(one, name, round(one.id.index / n, 3), words, status) for name in explainers]
        for one in features
    }
    return _site_run(about(names, n), features, results, label)


def _site_run(
    facts: dict[str, Any],
    features: Sequence[FeatureRecord],
    results: Mapping[FeatureId, Sequence[FeatureResult]],
    label: str,
) -> SiteRun:
    densities: dict[str, list[float]] = {}
    for one in features:
        densities.setdefault(one.id.dictionary, []).append(one.density)
    every = [item for own in results.values() for item in own]
    rows = leaderboard.make_rows(facts, densities, every, SCORES) if every else []
    populations = [one.population for one in features if one.population]
    near = nearest(populations, [one.id.dictionary for one in features]) if populations else Neighbours(0)
    return SiteRun(label, facts, rows, features, results, near, nearest_by_decoder(features), exchanges(results))


def exchanges(results: Mapping[FeatureId, Sequence[FeatureResult]]) -> Asked:
    """One question about each explanation, in which the explanation is quoted."""
    every = [item for own in results.values() for item in own if item.explanation]
    texts = [one.explanation.text if one.explanation else "" for one in every]
    return {
        (one.feature, one.explainer): [Exchange("detection", f"Which?\n{text}", '{"answers": [1]}')]
        for one, text in zip(every, texts, strict=True)
    }


def unfinished(n: int = 3) -> SiteRun:
    """Make a run of which only the first feature of each dictionary has a result, of one explainer of two."""
    whole = run(n)
    first = {name: own[:1] for name, own in whole.results.items() if name.index == 0}
    return _site_run(whole.about | {"status": "scoring"}, whole.features, first, "made")


def empty() -> SiteRun:
    """Make a run that sampled no feature."""
    return _site_run(about(("topk", "neurons"), 0), [], {}, "made")


def hostile() -> SiteRun:
    """Make a run whose every text is hostile: tokens, explanations, names, models, errors, config, prompts."""
    bad = HOSTILE[0] + HOSTILE[1] + HOSTILE[3]
    one = run(3, HOSTILE, bad, (HOSTILE[2] + "\u202e", HOSTILE[1]), HOSTILE[0], explainers=(HOSTILE[1], HOSTILE[2]))
    facts = dict(one.about)
    facts |= {"prompts": {bad: bad}, "notes": [bad], "versions": {"autointerp": bad}, "sampling": {bad: bad}}
    facts["config"] = facts["config"] | {"name": bad, "subject": {"model": bad}, "corpus": {"source": bad}}
    results = {name: [replace(item, errors={bad: bad}) for item in own] for name, own in one.results.items()}
    return replace(one, about=facts, results=results)
