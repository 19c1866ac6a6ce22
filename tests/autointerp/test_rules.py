"""The rule language and the offline judges."""

import itertools
import random
from typing import TypeVar

import numpy as np
import pytest

from autointerp.config import Config
from autointerp.explainers import make
from autointerp.explainers.rules import LEAST_GAIN, Candidates, learn
from autointerp.llm.ask import answered_by
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_fragments
from autointerp.prompting.rules import KINDS, Rule
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureId, FeatureRecord
from autointerp.simulators.rules import RulesSimulator
from sae.common.errors import UserError

T = TypeVar("T")
AWKWARD = (
    '"',
    "\\",
    "\n",
    "\t",
    "; ",
    " (3.0)",
    "é",
    "漢",
    "\u2028",
    "",
    " right after ",
    "the token",
    ".",
    '")',
    "\x00",
)


def record(tokens: list[str], activations: list[float]) -> ActivationRecord:
    return ActivationRecord(tuple(tokens), tuple(activations), 0, "top")


def alone(task: LLMTask[T]) -> T:
    """Driven by nobody: the rules ask nothing."""
    return answered_by(task, lambda question: pytest.fail(f"asked {question}"))


def explained(spec: str, records: list[ActivationRecord]) -> Explanation:
    feature = FeatureRecord(FeatureId("d", 0), tuple(records), (), 0.1, 1.0, (), 1.0, 0.0)
    return alone(make(spec, Config()).explain(feature))


def random_rules(seed: int) -> list[Rule]:
    rng = random.Random(seed)
    kinds = [rng.choice(KINDS) for _ in range(rng.randint(0, 12))]
    keys = [tuple(rng.choice(AWKWARD) for _ in range(2 if kind == "pair" else 1)) for kind in kinds]
    return [Rule(kind, key, rng.randint(1, 100) / 10) for kind, key in zip(kinds, keys, strict=True)]


@pytest.mark.parametrize("seed", range(200))
def test_text_round_trips(seed: int) -> None:
    expected = tuple(random_rules(seed))
    assert rules.from_text(rules.to_text(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "It fires on names.", 'Active on the token "a" (3.0)', 'Active on the token "a" (3.0); and more.']
)
def test_prose_is_an_error_not_a_zero(text: str) -> None:
    with pytest.raises(AnswerError):
        rules.from_text(text)


def slow_prediction(given: list[Rule], tokens: list[str]) -> list[float]:
    """Word for word what the wording says, without tables."""
    predicted = []
    for i, token in enumerate(tokens):
        strengths = [0.0]
        for rule in given:
            holds = {
                "token": rule.key == (token,),
                "pair": i > 0 and rule.key == (tokens[i - 1], token),
                "after": i > 0 and rule.key == (tokens[i - 1],),
                "near": rule.key[0] in tokens[max(0, i - 8) : i],
            }[rule.kind]
            strengths.append(rule.strength if holds else 0.0)
        predicted.append(max(strengths))
    return predicted


@pytest.mark.parametrize("seed", range(100))
def test_prediction_is_what_the_wording_says(seed: int) -> None:
    rng = random.Random(seed)
    given = [
        Rule(kind, tuple(rng.choice("abcd") for _ in range(2 if kind == "pair" else 1)), rng.randint(1, 100) / 10)
        for kind in (rng.choice(KINDS) for _ in range(4))
    ]
    tokens = [rng.choice("abcdefgh") for _ in range(40)]
    assert list(predict_fragments(given, [tuple(tokens)])[0]) == slow_prediction(given, tokens)


def some_records(seed: int, n: int = 6) -> tuple[ActivationRecord, ...]:
    rng = random.Random(seed)
    texts = [[rng.choice("abcdefghij") for _ in range(20)] for _ in range(n)]
    return tuple(record(tokens, [rng.random() if t in "ab" else 0.0 for t in tokens]) for tokens in texts)


@pytest.mark.parametrize("seed", range(5))
def test_candidates_hold_where_prediction_says_and_predict_the_mean_there(seed: int) -> None:
    records = some_records(seed)
    candidates = Candidates.of(records, KINDS)
    tokens = [token for r in records for token in r.tokens]
    target = np.array([value for r in records for value in r.activations])
    target = 10 * target / target.max()
    for number, rule in enumerate(map(candidates.rule, range(len(candidates.code_R)))):
        held = np.concatenate(
            [np.array(slow_prediction([Rule(rule.kind, rule.key, 1.0)], list(r.tokens))) for r in records]
        )
        assert candidates.positions(number).tolist() == np.flatnonzero(held).tolist(), (rule, tokens)
        assert rule.strength == pytest.approx(target[held > 0].mean(), abs=0.051)


@pytest.mark.parametrize("seed", range(5))
def test_every_rule_lowers_the_error_and_gains_are_right(seed: int) -> None:
    records = some_records(seed)
    target = np.array([value for r in records for value in r.activations])
    target = 10 * target / target.max()
    errors = []
    for n in range(len(learn(records)) + 1):
        predicted = np.concatenate(predict_fragments(learn(records)[:n], [r.tokens for r in records]))
        errors.append(float(((target - predicted) ** 2).sum()))
    assert all(before - after > LEAST_GAIN * errors[0] for before, after in itertools.pairwise(errors))
    candidates = Candidates.of(records, KINDS)
    assert candidates.gains(np.zeros(len(target))).max() == pytest.approx(errors[0] - errors[1])


def test_planted_rules_are_found_and_named() -> None:
    """7 on "x" after "y", nothing on "x" alone; 3 on "z"."""
    rng = random.Random(0)
    texts = [[rng.choice("xyzabcde") for _ in range(64)] for _ in range(20)]
    records = [
        record(
            tokens,
            [
                7.0 if t == "x" and i and tokens[i - 1] == "y" else 3.0 if t == "z" else 0.0
                for i, t in enumerate(tokens)
            ],
        )
        for tokens in texts
    ]
    explanation = explained("rules-2", records)
    assert explanation.text == 'Active on the token "z" (4.3); the token "x" right after "y" (10.0).'
    predicted = alone(RulesSimulator("rules", Config()).simulate(explanation, [tuple("yxaz")]))
    assert predicted == [(0.0, 10.0, 0.0, 4.3)]


def test_token_table_is_every_tokens_mean() -> None:
    explanation = explained("token-table", [record(["a", "b", "a", "c"], [4.0, 1.0, 2.0, 0.0])])
    assert explanation.text == 'Active on the token "a" (7.5); the token "b" (2.5).'


def test_a_silent_feature_gets_an_explanation_that_predicts_nothing() -> None:
    explanation = explained("rules-5", [record(["a", "b"], [0.0, 0.0])])
    assert alone(RulesSimulator("rules", Config()).simulate(explanation, [("a", "b")])) == [(0.0, 0.0)]


@pytest.mark.parametrize("spec", ["rules-0", "rules-", "rules-x", "rules-²", "gpt", "token"])
def test_unknown_explainers_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match="known: rules-N"):
        make(spec, Config())


def test_the_wording_says_the_window_that_the_code_uses() -> None:
    from autointerp.prompting import templates

    assert str(rules.NEAR_WINDOW) in templates.load(rules.PROMPT).values["kinds"]["near"]
