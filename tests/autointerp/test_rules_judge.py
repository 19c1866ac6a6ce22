"""Scorers judged offline, by the rules' text: planted rules score 1, wrong ones chance, ties and cut-offs as stated."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
from scipy import stats

from autointerp import scorers
from autointerp.config import Config
from autointerp.judges import JUDGES, Judge, OddOneOut, Question, Verdict, YesNo, part_of
from autointerp.llm.ask import answered_by
from autointerp.llm.types import LLMTask
from autointerp.prompting import rules
from autointerp.prompting.rules import Rule
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureId, FeatureRecord
from autointerp.scorers import Scored, Scorer
from autointerp.scorers.fragments import MarkedText
from autointerp.sections import Sampling, ScoreRecords
from sae.common.errors import UserError

T = TypeVar("T")
PROSE = Explanation("the names of rivers", "p", "m")
WORDS = [f" w{number}" for number in range(60)]
KEY = " key"
TRUTH = Rule("token", (KEY,), 10.0)
WRONG = Rule("token", (" w3",), 10.0)
JUDGED = ("detection", "fuzzing", "intruder", "logits")


def text(rng: np.random.Generator, is_active: bool) -> ActivationRecord:
    """Twenty words; an active text has the key at three places, and the feature is active there alone."""
    tokens = rng.choice(WORDS, 20).tolist()
    for position in rng.choice(20, 3, replace=False).tolist() if is_active else ():
        tokens[position] = KEY
    values = tuple(2.0 if token == KEY else 0.0 for token in tokens)
    return ActivationRecord(tuple(tokens), values, 0, "top" if is_active else "inactive")


def planted(index: int = 0) -> FeatureRecord:
    rng = np.random.default_rng(index)
    score = tuple(text(rng, number < 10) for number in range(20))
    promoted, others = (KEY, *WORDS[:4]), tuple(WORDS[10:15])
    return FeatureRecord(FeatureId("d", index), (), score, 0.1, 2.0, (0,) * 64, 1.0, 0.1, promoted, others)


def make(name: str, seed: int = 0, **settings: Any) -> Scorer:
    sampling = Sampling(score=ScoreRecords(top=10, inactive=10))
    own = {name: settings} if settings else {}
    return scorers.make(name, Config(judge="rules", seed=seed, sampling=sampling, **own))


def fail(question: object) -> Any:
    pytest.fail(f"asked {question}")


def scored(scorer: Scorer, of: FeatureRecord, *given: Rule) -> Scored:
    """Judged by nobody but the rules."""
    explanation = Explanation(rules.to_text(given), "p", "rules")
    return answered_by(scorer.score(of, explanation), fail)


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_the_planted_rule_scores_one_and_no_rules_score_chance(name: str) -> None:
    scorer = make(name, logprobs=True)
    details = ("", "/precision", "/recall", "/f1", "/auroc")
    assert scored(scorer, planted(), TRUTH).scores == {f"{name}{detail}": 1.0 for detail in details}
    nothing = scored(scorer, planted()).scores
    assert [nothing[f"{name}{detail}"] for detail in details] == [0.5, None, 0.0, 0.0, 0.5]


def of_wrong_rules(name: str) -> list[float]:
    """The scores of many features by a rule that is not theirs, with some answers of either kind."""
    results = [scored(make(name), planted(index), WRONG) for index in range(60)]
    assert {judgement.answer for result in results for judgement in result.judgements} == {0, 1}
    return [result.scores[name] or 0.0 for result in results]


def test_a_wrong_rule_detects_by_chance() -> None:
    assert stats.ttest_1samp(of_wrong_rules("detection"), 0.5).pvalue > 0.01


def test_a_wrong_rule_fuzzes_no_better_than_chance() -> None:
    """It names a token that is never marked in active texts, but now and then in silent ones: a little below chance."""
    scores = of_wrong_rules("fuzzing")
    assert max(scores) <= 0.5
    assert np.mean(scores) == pytest.approx(0.5, abs=0.05)


def test_a_text_is_active_from_half_the_strongest_rule_on() -> None:
    scorer: Any = make("detection")
    given = [Rule("token", ("a",), 6.6), Rule("token", ("b",), 3.3), Rule("after", ("c",), 3.2)]
    texts = [MarkedText(tokens) for tokens in (("x", "a"), ("b", "x"), ("c", "x"), ("x", "c"), ())]
    verdicts = scorer.by_rules(given, texts)
    assert [verdict.answer for verdict in verdicts] == [1, 1, 0, 0, 0]
    assert [verdict.probability for verdict in verdicts] == pytest.approx([1.0, 0.5, 3.2 / 6.6, 0.0, 0.0])
    assert {verdict.answer for verdict in scorer.by_rules([], texts)} == {0}


def test_marks_are_right_where_more_is_predicted_on_them_than_elsewhere() -> None:
    scorer: Any = make("fuzzing")
    given = [Rule("token", ("a",), 6.0), Rule("token", ("b",), 2.0)]
    texts = [
        MarkedText(("a", "x", "b", "x"), (0,)),  # mean 6 on the marks, 2/3 elsewhere
        MarkedText(("a", "x", "b", "x"), (1, 2)),  # 1 on them, 3 elsewhere
        MarkedText(("b", "b", "b"), (1,)),  # as much as elsewhere
        MarkedText(("x", "x"), (0,)),  # nothing anywhere
        MarkedText(("a", "b"), (0, 1)),  # no elsewhere
        MarkedText(("a", "b"), ()),  # no marks
    ]
    verdicts = scorer.by_rules(given, texts)
    assert [verdict.answer for verdict in verdicts] == [1, 0, 0, 0, 1, 0]
    assert [verdict.probability for verdict in verdicts] == pytest.approx([0.9, 0.25, 0.5, 0.0, 1.0, 0.0])


def test_the_intruder_is_known_by_what_the_other_marks_have_in_common() -> None:
    scores = [scored(make("intruder"), planted(index)).scores["intruder"] for index in range(5)]
    assert scores == [1.0] * 5


def test_without_anything_in_common_the_intruder_is_found_by_chance_whatever_its_position() -> None:
    """All texts are of words of their own: every text is as odd as every other, and the first is named."""
    scorer = make("intruder")
    hits = 0
    for index in range(40):
        one = planted(index)
        score = tuple(
            replace(r, tokens=tuple(f" t{number}_{position}" for position in range(20)))
            for number, r in enumerate(one.score)
        )
        hits += sum(judgement.answer for judgement in scored(scorer, replace(one, score=score)).judgements)
    assert stats.binomtest(hits, 40 * 5, 1 / 5).pvalue > 0.01
    by_rules: Any = scorer
    alien = [MarkedText((f"{name}1", f"{name}2"), (1,)) for name in "abcd"]
    assert by_rules.by_rules(alien) == 0


def test_logits_are_the_tokens_that_a_rule_names() -> None:
    """All of a pair's tokens count, and the control of features that name other tokens gets the chance level."""
    scorer = make("logits", logprobs=True)
    truth = [TRUTH, *(Rule("pair", pair, 4.0) for pair in ((WORDS[0], WORDS[1]), (WORDS[2], WORDS[3])))]
    names = ("logits", "logits/precision", "logits/recall", "logits/f1", "logits/auroc")
    assert scored(scorer, planted(), *truth).scores == dict.fromkeys(names, 1.0)
    assert scored(scorer, planted(), Rule("token", (" w40",), 9.0)).scores["logits"] == 0.5
    assert scored(scorer, planted(), TRUTH).scores["logits"] == pytest.approx(0.6)
    mixed = scored(scorer, planted(), TRUTH, Rule("near", (WORDS[10],), 10.0), Rule("token", (WORDS[10],), 3.0)).scores
    assert (mixed["logits"], mixed["logits/auroc"]) == (pytest.approx(0.5), pytest.approx(0.5))
    judgements = {item.record: item.probability for item in scored(scorer, planted(), *truth).judgements}
    assert judgements == {0: 1.0, **dict.fromkeys(range(1, 5), 0.4), **dict.fromkeys(range(5, 10), 0.0)}


def test_mismatched_explanations_predict_no_logits() -> None:
    """Every feature promotes tokens of its own; each is judged by its own rules, then by the next one's."""
    rng = np.random.default_rng(0)
    sets = [rng.permutation(WORDS).tolist() for _ in range(60)]
    features = [replace(planted(i), promoted=tuple(s[:5]), unpromoted=tuple(s[5:10])) for i, s in enumerate(sets)]
    told = [[Rule("token", (token,), 5.0) for token in s[:5]] for s in sets]
    own = [scored(make("logits"), one, *given).scores["logits"] for one, given in zip(features, told, strict=True)]
    shifted = zip(features, [*told[1:], told[0]], strict=True)
    other = [scored(make("logits"), one, *given).scores["logits"] or 0.0 for one, given in shifted]
    assert set(own) == {1.0}
    assert stats.ttest_1samp(other, 0.5).pvalue > 0.01


@pytest.mark.parametrize("promoted", [(), (KEY,)])
def test_logits_are_undefined_without_tokens_of_both_kinds(promoted: tuple[str, ...]) -> None:
    scores = scored(make("logits"), replace(planted(), promoted=promoted, unpromoted=()), TRUTH).scores
    assert scores == dict.fromkeys(("logits", "logits/precision", "logits/recall", "logits/f1"))


def test_logits_refuse_explainers_that_have_seen_the_answers() -> None:
    with pytest.raises(UserError, match=r"set explanation\.logits=false"):
        scorers.make("logits", Config(judge="rules", explanation={"logits": True}))


@pytest.mark.parametrize("name", JUDGED)
def test_the_same_seed_gives_the_same_judgements_and_another_one_another_order(name: str) -> None:
    once, again, other = (scored(make(name, seed), planted(), TRUTH).judgements for seed in (0, 0, 1))
    assert once == again
    assert once != other


@pytest.mark.parametrize("name", JUDGED)
def test_rules_see_tokens_and_marks_and_no_activation(name: str) -> None:
    """Other activations of the same signs, and another order of strength among them, change no judgement."""
    one = planted()
    louder = tuple(replace(r, activations=tuple(v * (3 + n) for v in r.activations)) for n, r in enumerate(one.score))
    by_record = [
        {item.record: (item.answer, item.probability) for item in scored(make(name), of, TRUTH).judgements}
        for of in (one, replace(one, score=louder))
    ]
    if name != "intruder":  # whose groups are of like strength
        assert by_record[0] == by_record[1]
    assert all(answer == 1 for answer, _ in by_record[1].values()) is (name == "intruder")


@pytest.mark.parametrize("name", ["detection", "fuzzing", "logits"])
def test_prose_is_an_error_and_not_a_no(name: str) -> None:
    with pytest.raises(AnswerError):
        answered_by(make(name).score(planted(), PROSE), fail)


def test_rules_judge_with_the_wording_that_they_read() -> None:
    assert JUDGES.names == ("rules", "language_model")
    assert not part_of("rules").reads_prose
    for name in JUDGED:
        made = make(name)
        assert ([prompt.name for prompt in made.prompts], made.models) == ([rules.PROMPT], ())


class Agrees(Judge):
    """A judge of another package, which says yes to everything and reads nothing."""

    def __init__(self, spec: str, config: Config, question: Question[Any]) -> None:
        self.prompts = ()

    def fits(self, question: YesNo[T], explanation: str, items: Sequence[T]) -> LLMTask[list[Verdict]]:
        yield from ()
        return [Verdict(1) for _ in items]

    def odd_one(self, question: OddOneOut[T], items: Sequence[T]) -> LLMTask[int]:
        yield from ()
        return 0


def test_a_judge_of_another_package_is_a_value_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JUDGES._parts, "agrees", Agrees)
    settings = Config(judge="agrees", sampling=Sampling(score=ScoreRecords(top=10, inactive=10)))
    scores = [answered_by(scorers.make(name, settings).score(planted(), PROSE), fail).scores[name] for name in JUDGED]
    assert scores == [0.5, 0.5, pytest.approx(0.2, abs=0.3), 0.5]


def shown(scorer: Scorer, of: FeatureRecord) -> Sequence[int]:
    return [judgement.record for judgement in scored(scorer, of, TRUTH).judgements]


def test_rules_judge_what_a_language_model_would_be_shown() -> None:
    """In the same order, and each text once."""
    assert sorted(shown(make("detection"), planted())) == list(range(20))
    assert shown(make("detection", texts=3), planted()) == shown(make("detection"), planted())
    assert shown(make("fuzzing"), planted()) != shown(make("detection"), planted())
