"""Scorers that show texts to a judge: their numbers against scikit-learn, and no cue but the feature itself."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from autointerp import config, scorers
from autointerp.evaluate import Method
from autointerp.llm.ask import answered_by
from autointerp.llm.types import Answer, Completion, EmbeddingRequest, Question, Request, TokenLogprobs, Vectors
from autointerp.prompting import parse
from autointerp.records import ActivationRecord, AnswerError, Effect, Explanation, FeatureId, FeatureRecord, Source
from autointerp.scorers import SCORERS, Scored, Scorer
from autointerp.sections import Records, Sampling, ScoreRecords
from sae.common.errors import UserError

EXPLAINED = Explanation("the names of rivers", "p", "m")
ACTIVE_SOURCES: tuple[Source, ...] = ("top", "quantile", "importance")


def record(name: str, activations: Sequence[float], source: Source) -> ActivationRecord:
    """Every token says whose it is, and where."""
    return ActivationRecord(tuple(f" {name}_{i}" for i in range(len(activations))), tuple(activations), 0, source)


EFFECT = Effect(3, 0.1, 0.0, ("a", " b"), (-0.2, -0.1), ("c",), (0.1,), ("d", "'e"), 0.5)


def feature(index: int, n_active: int = 10, n_silent: int = 10) -> FeatureRecord:
    """Active texts a0, a1, ..., silent ones q0, q1, ..., and two random ones that no judge should be shown."""
    rng = np.random.default_rng(index)
    active = []
    for n in range(n_active):
        values = rng.exponential(1.0, 12) * (rng.random(12) < 0.3)
        values[rng.integers(12)] += 0.1
        active.append(record(f"a{n}", values.tolist(), ACTIVE_SOURCES[n % 3]))
    silent = [record(f"q{n}", [0.0] * 12, "inactive") for n in range(n_silent)]
    random = [record("r0", [1.0] * 12, "random"), record("r1", [0.0] * 12, "random")]
    score = (*random, *active, *silent)
    explain = (record("seen", [1.0, 0.0], "top"), record("hushed", [0.0, 0.0], "inactive"))
    tokens = (("x", " y", "\n"), ("p", " q", "'r"))
    return FeatureRecord(FeatureId("d", index), explain, score, 0.1, 5.0, (0,) * 64, 1.0, 0.1, *tokens, effect=EFFECT)


def make(name: str, seed: int = 0, score: ScoreRecords | None = None, **settings: Any) -> Scorer:
    """A scorer with settings of its own section."""
    sampling = Sampling(explain=Records(top=1, inactive=1), score=score or ScoreRecords(top=10, inactive=10))
    own = {name: settings} if settings else {}
    return scorers.make(name, config.Config(judge="openai/m", seed=seed, sampling=sampling, **own))


def texts_of(request: Question) -> list[str]:
    assert isinstance(request, Request)
    return re.findall(r"^Text \d+: (.*)$", request.messages[-1].content, re.MULTILINE)


def owner(text: str) -> str:
    (name,) = set(re.findall(r"(\w+)_\d+", text))
    return str(name)


def marks(text: str) -> tuple[int, ...]:
    return tuple(int(position) for run in re.findall("<<(.*?)>>", text) for position in re.findall(r"_(\d+)", run))


def strong(text: ActivationRecord) -> tuple[int, ...]:
    """Where the activation is above .3 of the text's largest."""
    values = np.asarray(text.activations)
    return tuple(np.flatnonzero(values > 0.3 * values.max()).tolist())


def judge(sure: Callable[[str], float]) -> Callable[[Question], Completion]:
    """Says 1 for texts whose owner it is surer than half about, with log-probabilities."""

    def answer(question: Question) -> Completion:
        pieces, sep = [TokenLogprobs('{"answers": [', {})], ""
        for text in texts_of(question):
            p = sure(owner(text))
            top = {f"{sep}1": math.log(0.9 * p), f"{sep}0": math.log(0.9 * (1 - p)), "?": math.log(0.1)}
            pieces.append(TokenLogprobs(f"{sep}{int(p > 0.5)}", top))
            sep = ", "
        pieces.append(TokenLogprobs("]}", {}))
        return Completion("".join(piece.token for piece in pieces), logprobs=tuple(pieces))

    return answer


def asked(scorer: Scorer, of: FeatureRecord) -> list[Question]:
    questions: list[Question] = []

    def answer(question: Question) -> Answer:
        questions.append(question)
        return Vectors(((1.0,),) * len(question.texts)) if isinstance(question, EmbeddingRequest) else question.example

    answered_by(scorer.score(of, EXPLAINED), answer)
    return questions


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
@pytest.mark.parametrize("seed", range(10))
def test_numbers_are_scikit_learns(name: str, seed: int) -> None:
    """On random judgements, with ties among the probabilities and classes of other sizes."""
    one = feature(seed, n_active=9, n_silent=14)
    rng = np.random.default_rng(seed)
    sure = {r.tokens[0].split("_")[0].strip(): float(rng.choice([0.1, 0.3, 0.6, 0.7, 0.9])) for r in one.score}
    result = answered_by(make(name, logprobs=True).score(one, EXPLAINED), judge(sure.__getitem__))
    names = [f"a{n}" for n in range(9)] + [f"q{n}" for n in range(14)]
    true, probability = [n[0] == "a" for n in names], [sure[n] for n in names]
    predicted = [p > 0.5 for p in probability]
    assert result.scores == {
        name: pytest.approx(metrics.balanced_accuracy_score(true, predicted)),
        f"{name}/precision": pytest.approx(metrics.precision_score(true, predicted)),
        f"{name}/recall": pytest.approx(metrics.recall_score(true, predicted)),
        f"{name}/f1": pytest.approx(metrics.f1_score(true, predicted)),
        f"{name}/auroc": pytest.approx(metrics.roc_auc_score(true, probability)),
    }
    kept = {owner(" ".join(one.score[j.record].tokens)): (j.answer, j.probability) for j in result.judgements}
    assert kept == {n: (int(sure[n] > 0.5), pytest.approx(sure[n])) for n in names}


def weighted(n: int, rng: np.random.Generator) -> list[ActivationRecord]:
    """Weighted records p0, p1, ...; every second one is active."""
    return [
        replace(record(f"p{i}", [0.0, float(i % 2)], "weighted"), weight=float(rng.uniform(1, 50))) for i in range(n)
    ]


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
@pytest.mark.parametrize("seed", range(5))
def test_population_scores_count_each_record_as_often_as_the_fragments_it_stands_for(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain, extra = feature(seed), weighted(14, rng)
    one = replace(plain, score=(*plain.score, *extra))
    says = {r.tokens[0].split("_")[0].strip(): int(rng.integers(2)) for r in one.score}
    scorer = make(name, score=ScoreRecords(top=10, inactive=10, weighted=14))
    result = answered_by(scorer.score(one, EXPLAINED), judge(lambda text: 0.2 + 0.6 * says[text]))
    total = dict.fromkeys(itertools.product((0, 1), (0, 1)), 0.0)
    for number, r in enumerate(extra):
        total[number % 2, says[f"p{number}"]] += r.weight
    rates = [total[side, side] / (total[side, 0] + total[side, 1]) for side in (0, 1)]
    assert result.scores[f"{name}/population"] == pytest.approx(sum(rates) / 2)
    assert result.scores[f"{name}/population_precision"] == pytest.approx(total[1, 1] / (total[0, 1] + total[1, 1]))
    without = answered_by(make(name).score(plain, EXPLAINED), judge(lambda text: 0.2 + 0.6 * says[text]))
    assert without.scores.items() < result.scores.items(), "the published scores do not change"
    assert {item.record for item in result.judgements} == set(range(2, 22 + 14))
    assert list(scorer.chances)[-2:] == [f"{name}/population", f"{name}/population_precision"]


def test_weighted_records_are_judged_only_where_the_config_draws_them() -> None:
    plain = feature(0)
    one = replace(plain, score=(*plain.score, *weighted(4, np.random.default_rng(0))))
    for name in ("detection", "fuzzing", "intruder"):
        assert asked(make(name), one) == asked(make(name), plain)


def test_population_scores_exist_without_the_published_ones_and_the_other_way_round() -> None:
    score = ScoreRecords(top=10, inactive=10, weighted=4)
    extra = tuple(weighted(4, np.random.default_rng(0)))
    knows = judge(lambda text: 0.9 if text in ("p1", "p3") or text[0] == "a" else 0.1)
    for given, exist in ((extra, (False, True)), (feature(0).score, (True, False)), ((), (False, False))):
        scores = answered_by(make("detection", score=score).score(replace(feature(0), score=given), EXPLAINED), knows)
        names = ("detection", "detection/population")
        assert [scores.scores[name] for name in names] == [1.0 if here else None for here in exist]
        assert set(scores.scores) == set(make("detection", score=score).chances)


def test_population_scores_are_those_of_the_whole_text() -> None:
    """In the mean of many draws with unequal probabilities, of a judge that errs on one strength of text."""
    rng = np.random.default_rng(0)
    texts = [record(f"p{i}", [0.0, float(i % 4)], "weighted") for i in range(400)]
    probability = np.array([0.05 + 0.2 * max(r.activations) for r in texts])
    scorer = make("detection", score=ScoreRecords(top=1, inactive=1, weighted=1))
    estimates = []
    for _ in range(60):
        drawn = [replace(texts[i], weight=1 / probability[i]) for i in np.flatnonzero(rng.random(400) < probability)]
        strong = {f"p{i}" for i in range(400) if i % 4 > 1 or i % 40 == 0}
        known = judge(lambda text, strong=strong: 0.9 if text in strong else 0.1)  # type: ignore[misc]
        estimates.append(answered_by(scorer.score(replace(feature(0), score=tuple(drawn)), EXPLAINED), known).scores)
    whole = {"detection/population": (2 / 3 + 0.9) / 2, "detection/population_precision": 200 / 210}
    for name, value in whole.items():
        assert np.mean([scores[name] or 0.0 for scores in estimates]) == pytest.approx(value, abs=0.02)


def test_saying_always_the_same_gets_the_chances() -> None:
    scorer = make("detection", logprobs=True, score=ScoreRecords(top=4, quantile=2, inactive=14))
    result = answered_by(scorer.score(feature(0, 6, 14), EXPLAINED), judge(lambda name: 0.8))
    chances = dict(scorer.chances)
    assert chances.pop("detection/recall") is None
    assert {name: result.scores[name] for name in chances} == pytest.approx(chances)
    nothing = answered_by(scorer.score(feature(0, 6, 14), EXPLAINED), judge(lambda name: 0.2)).scores
    assert (nothing["detection"], nothing["detection/precision"], nothing["detection/f1"]) == (0.5, None, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_plain_accuracy_is_the_main_score_where_asked_for(seed: int) -> None:
    """SAEBench's 4 active and 10 silent texts: always answering "none" gets 10 of 14."""
    records = ScoreRecords(top=2, importance=2, inactive=10)
    scorer, one = make("detection", score=records, accuracy=True, texts=14), feature(seed, 4, 10)
    rng = np.random.default_rng(seed)
    sure = {name: float(rng.choice([0.2, 0.8])) for name in [f"a{n}" for n in range(4)] + [f"q{n}" for n in range(10)]}
    scores = answered_by(scorer.score(one, EXPLAINED), judge(sure.__getitem__)).scores
    true, predicted = [name[0] == "a" for name in sure], [p > 0.5 for p in sure.values()]
    assert scores["detection/accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert scores["detection"] == pytest.approx(metrics.balanced_accuracy_score(true, predicted))
    assert next(iter(scorer.chances.items())) == ("detection/accuracy", pytest.approx(0.714, abs=5e-4))
    nothing = answered_by(scorer.score(one, EXPLAINED), judge(lambda name: 0.2)).scores
    assert nothing["detection/accuracy"] == pytest.approx(10 / 14)
    assert len(asked(scorer, one)) == 1


def test_chance_levels_are_those_of_the_texts_that_a_feature_has() -> None:
    """A dense feature has fewer silent texts than are asked for, so that "always active" is right more often."""
    score = ScoreRecords(top=2, importance=2, inactive=10)
    scorer, dense = make("detection", score=score, accuracy=True), feature(0, 4, 1)
    chances, always = dict(scorer.chances_of(dense)), answered_by(scorer.score(dense, EXPLAINED), judge(lambda _: 0.8))
    assert chances.pop("detection/recall") is None
    assert {name: always.scores[name] for name in chances} == pytest.approx(chances)
    assert chances["detection/accuracy"] == 0.8
    assert scorer.chances_of(feature(0, 4, 10)) == scorer.chances == scorer.chances_of(feature(0, 4, 0))


def test_a_probability_that_does_not_exist_leaves_only_the_auroc_undefined() -> None:
    def answer(question: Question) -> Completion:
        given = judge(lambda name: 0.9 if name[0] == "a" else 0.1)(question)
        first = replace(given.logprobs[1], top={"?": 0.0})
        return replace(given, logprobs=(given.logprobs[0], first, *given.logprobs[2:]))

    scores = answered_by(make("detection", logprobs=True).score(feature(0), EXPLAINED), answer).scores
    assert (scores["detection"], scores["detection/auroc"]) == (1.0, None)


@pytest.mark.parametrize("name", ["detection", "fuzzing", "intruder", "embedding", "example_embedding"])
def test_labels_come_from_the_activations(name: str) -> None:
    """What only its source calls active or silent is not shown; if a class is then empty, nobody is asked."""
    wrong = (record("w0", [0.0] * 12, "top"), record("w1", [0.0, 0.1] * 6, "inactive"))
    questions = asked(make(name), replace(feature(0), score=feature(0).score + wrong))
    lines = [text for q in questions for text in (q.texts if isinstance(q, EmbeddingRequest) else texts_of(q))]
    shown = {match.group(1) for text in lines if (match := re.search(r"([a-z]+\d+)_\d", text))}
    assert {item[0] for item in shown} == {"a", "q"}
    for n_active, n_silent in ((10, 0), (0, 10)):
        some = replace(feature(0, n_active, n_silent), score=feature(0, n_active, n_silent).score + wrong)
        assert not asked(make(name), some)
        scores = answered_by(make(name).score(some, EXPLAINED), judge(lambda name: 0.5)).scores
        assert set(scores) == set(make(name).chances)
        assert not [value for value in scores.values() if value is not None]


@pytest.mark.parametrize(("n_active", "n_silent"), [(12, 12), (15, 10), (6, 20)])
def test_fuzzing_marks_right_or_like_another_text_so_that_marks_alone_tell_nothing(
    n_active: int, n_silent: int
) -> None:
    features = (feature(number, n_active, n_silent) for number in range(1000))
    one = next(f for f in features if len(set(map(strong, f.score[2 : 2 + n_active]))) == n_active)
    shown = [text for question in asked(make("fuzzing"), one) for text in texts_of(question)]
    result = {owner(text): marks(text) for text in shown}
    assert len(shown) == len(result) == n_active + n_silent
    right = {f"a{n}": strong(one.score[2 + n]) for n in range(n_active)}
    assert {name: indices for name, indices in result.items() if name[0] == "a"} == right
    lent = Counter(indices for name, indices in result.items() if name[0] == "q")
    shares = {name: lent[indices] for name, indices in right.items()}
    assert sum(shares.values()) == n_silent
    assert set(shares.values()) <= {n_silent // n_active, -(-n_silent // n_active)}
    middle = np.average(range(n_active), weights=[shares[f"a{n}"] for n in range(n_active)])
    assert middle == pytest.approx((n_active - 1) / 2), "strong and weak texts lend alike"


@pytest.mark.parametrize(("index", "n_active"), [(0, 10), (1, 10), (2, 10), (3, 9)])
def test_fuzzing_can_mark_active_texts_wrongly(index: int, n_active: int) -> None:
    """Every text is active; of each two one is marked elsewhere, on as many tokens, where the feature is silent."""
    one = feature(index, n_active)
    score = ScoreRecords(top=n_active)  # no silent texts are needed
    scorer = make("fuzzing", score=score, negatives="active")
    by_owner = {owner(" ".join(r.tokens)): r for r in one.score}
    right = {f"a{n}" for n in range(0, n_active, 2)}
    shown = [text for request in asked(scorer, one) for text in texts_of(request)]
    assert sorted(map(owner, shown)) == sorted(f"a{n}" for n in range(n_active))
    for text in shown:
        record = by_owner[owner(text)]
        if owner(text) in right:
            assert marks(text) == strong(record)
        else:
            assert len(marks(text)) == len(strong(record))
            assert not any(record.activations[position] for position in marks(text))
    known = answered_by(scorer.score(one, EXPLAINED), judge(lambda name: 0.9 if name in right else 0.1))
    topic = answered_by(scorer.score(one, EXPLAINED), judge(lambda name: 0.9))
    assert (known.scores["fuzzing"], topic.scores["fuzzing"]) == (1.0, 0.5)
    always = {name: value for name, value in topic.scores.items() if scorer.chances[name] is not None}
    assert {name: scorer.chances[name] for name in always} == pytest.approx(always)


def test_a_short_silent_text_is_marked_inside() -> None:
    """A mark that would lie beyond its end is on its last token."""
    one = feature(0, n_active=2, n_silent=0)
    late = [record(f"a{n}", [0.0, 0.0, 0.0, 1.0], "top") for n in range(2)]
    short = [record(f"q{n}", [0.0, 0.0], "inactive") for n in range(2)]
    shown = [
        text for question in asked(make("fuzzing"), replace(one, score=(*late, *short))) for text in texts_of(question)
    ]
    assert {owner(text): marks(text) for text in shown} == {"a0": (3,), "a1": (3,), "q0": (1,), "q1": (1,)}


def test_wrong_marks_depend_on_the_seed_and_on_the_text() -> None:
    def shown(seed: int, of: FeatureRecord) -> set[str]:
        questions = asked(make("fuzzing", seed, negatives="active"), of)
        return {text for request in questions for text in texts_of(request)}

    one = feature(0)
    assert shown(0, one) == shown(0, replace(one, id=FeatureId("e", 5)))
    assert shown(0, one) != shown(1, one)
    crowded = replace(one, score=tuple(record(f"a{n}", [1.0, 0.2, 0.9, 0.1], "top") for n in range(4)))
    assert {marks(text) for text in shown(0, crowded)} == {(0, 2), (1, 3)}


def test_order_depends_on_seed_and_feature_alone_and_tells_nothing() -> None:
    scorer = make("detection")
    alone = asked(scorer, feature(3))
    for other in range(3):
        asked(scorer, feature(other))
    assert asked(scorer, feature(3)) == alone
    assert asked(make("detection", seed=1), feature(3)) != alone
    assert asked(scorer, replace(feature(3), id=FeatureId("e", 3))) != alone
    assert [len(texts_of(question)) for question in alone] == [5, 5, 5, 5]
    assert [len(texts_of(q)) for q in asked(make("detection", texts=8), feature(3))] == [8, 8, 4]
    first = sum(owner(texts_of(asked(scorer, feature(n))[0])[0])[0] == "a" for n in range(200))
    assert stats.binomtest(first, 200, 0.5).pvalue > 0.001


def find_intruder(question: Question) -> Completion:
    names = [owner(text) for text in texts_of(question)]
    return Completion(json.dumps({"intruder": 1 + next(i for i, name in enumerate(names) if name[0] == "q")}))


def test_an_intruder_stands_among_texts_of_one_strength() -> None:
    """Marked like one that is not shown; the questions go through all strengths."""
    one = feature(2, n_active=48)
    ranks = np.argsort(np.argsort([-max(r.activations) for r in one.score[2:50]]))
    centres, shown = [], []
    for question in asked(make("intruder"), one):
        texts = texts_of(question)
        shown += texts
        assert sorted(owner(text)[0] for text in texts) == ["a"] * 4 + ["q"]
        fellows = {int(owner(text)[1:]): marks(text) for text in texts if owner(text)[0] == "a"}
        (strange,) = [marks(text) for text in texts if owner(text)[0] == "q"]
        hidden = [r for position, r in enumerate(one.score[2:50]) if position not in fellows]
        assert strange in [strong(r) for r in hidden]
        assert all(strong(one.score[2 + n]) == m for n, m in fellows.items())
        among = sorted(int(ranks[n]) for n in fellows)
        assert among[-1] - among[0] == 3, "48 texts make 12 groups of 4"
        centres.append(among[0])
    assert len(centres) == len(set(centres)) == 5
    assert len(shown) == len(set(shown)) == 25, "no text is shown twice"
    assert len({owner(text) for text in shown if owner(text)[0] == "q"}) == 5, "nor an intruder with other marks"
    assert min(centres) < 10
    assert max(centres) >= 36
    assert answered_by(make("intruder").score(one, EXPLAINED), find_intruder).scores == {"intruder": 1.0}


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("blind", ["always the first", "at random"])
def test_blind_judges_find_one_intruder_in_n(n: int, blind: str) -> None:
    scorer, rng = make("intruder", texts=n), np.random.default_rng(0)

    def guess(question: Question) -> Completion:
        return Completion(json.dumps({"intruder": 1 if blind == "always the first" else int(rng.integers(1, n + 1))}))

    result = [answered_by(scorer.score(feature(i), EXPLAINED), guess) for i in range(200)]
    hits = sum(judgement.answer for scored in result for judgement in scored.judgements)
    assert stats.binomtest(hits, 5 * 200, 1 / n).pvalue > 0.001
    assert scorer.chances == {"intruder": 1 / n}


def test_too_few_texts_for_one_intruder_question_are_undefined() -> None:
    assert asked(make("intruder"), feature(0, n_active=4))
    assert not asked(make("intruder"), feature(0, n_active=3))
    assert answered_by(make("intruder").score(feature(0, 3), EXPLAINED), find_intruder).scores == {"intruder": None}


def tokens_of(question: Question) -> list[str]:
    assert isinstance(question, Request)
    assert EXPLAINED.text in question.messages[-1].content
    return re.findall(r"^Token \d+: (.*)$", question.messages[-1].content, re.MULTILINE)


def test_logits_shows_promoted_and_random_tokens_in_quotes_and_no_text() -> None:
    one = feature(0)
    (question,) = asked(make("logits"), one)
    assert sorted(tokens_of(question)) == sorted(map(repr, (*one.promoted, *one.unpromoted)))
    assert question == asked(make("logits"), replace(one, score=()))[0]
    pieces = [tokens_of(q) for q in asked(make("logits", tokens=4), one)]
    assert [len(piece) for piece in pieces] == [4, 2]
    assert [token for piece in pieces for token in piece] == tokens_of(question)
    orders = {tuple(tokens_of(asked(make("logits", seed), one)[0])) for seed in range(10)}
    assert len(orders) > 5


def test_a_judge_that_knows_the_promoted_tokens_scores_one() -> None:
    one = feature(0)
    known = set(map(repr, one.promoted))

    def answer(question: Question) -> Completion:
        return Completion(json.dumps({"answers": [int(token in known) for token in tokens_of(question)]}))

    result = answered_by(make("logits", tokens=4).score(one, EXPLAINED), answer)
    assert set(result.scores.values()) == {1.0}
    assert {item.record: item.answer for item in result.judgements} == {n: int(n < 3) for n in range(6)}


def test_effect_shows_lowered_tokens_among_others_and_needs_ablations() -> None:
    sampling = Sampling(score=ScoreRecords(top=10), effects=5)
    scorer = scorers.make("effect", config.Config(judge="openai/m", sampling=sampling))
    (question,) = asked(scorer, feature(0))
    assert sorted(tokens_of(question)) == sorted(map(repr, ("a", " b", "d", "'e")))
    assert "less likely" in question.messages[0].content  # type: ignore[union-attr]

    def answer(question: Question) -> Completion:
        return Completion(json.dumps({"answers": [int(token in ("'a'", "'d'")) for token in tokens_of(question)]}))

    result = answered_by(scorer.score(feature(0), EXPLAINED), answer)
    assert result.scores["effect"] == 0.5
    assert {item.record: item.answer for item in result.judgements} == {0: 1, 1: 0, 2: 1, 3: 0}
    assert answered_by(scorer.score(replace(feature(0), effect=None), EXPLAINED), answer).scores["effect"] is None
    with pytest.raises(UserError, match=r"set sampling\.effects=5"):
        make("effect")


Embed = Callable[[str], Sequence[float]]


def embedded(name: str, of: FeatureRecord, embed: Embed) -> Scored:
    def answer(question: Question) -> Answer:
        assert isinstance(question, EmbeddingRequest)
        return Vectors(tuple(tuple(embed(text)) for text in question.texts))

    return answered_by(make(name).score(of, EXPLAINED), answer)


@pytest.mark.parametrize("name", ["embedding", "example_embedding"])
@pytest.mark.parametrize(("active", "expected"), [("a", 1.0), ("q", 0.0), ("none", 0.5)])
def test_planted_vectors_are_separated(name: str, active: str, expected: float) -> None:
    """Lengths do not count: texts of the wrong side have much longer vectors."""

    def embed(text: str) -> Sequence[float]:
        plain = text.replace("<<", "").strip()
        return (1.0, 0.1) if plain.startswith(("the names", "seen", active)) else (5.0, 50.0)

    assert embedded(name, feature(0), embed).scores == {name: expected}


def test_embedding_scores_are_cosines_and_their_auroc() -> None:
    one, rng = feature(0, 8, 13), np.random.default_rng(0)
    vectors: dict[str, list[float]] = {}

    def embed(text: str) -> list[float]:
        return vectors.setdefault(text, rng.normal(size=3).tolist())

    def cosine(a: str, b: str) -> float:
        return float(np.dot(vectors[a], vectors[b]) / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))

    scores = embedded("embedding", one, embed).scores
    texts = [text for text in vectors if text != EXPLAINED.text]
    near = [cosine(EXPLAINED.text, text) for text in texts]
    assert scores == {"embedding": pytest.approx(metrics.roc_auc_score([t[0] == "a" for t in texts], near))}
    assert not any("<<" in text for text in texts)
    vectors.clear()
    scores = embedded("example_embedding", one, embed).scores
    (active,), (silent,) = [[t for t in vectors if word in t] for word in ("seen", "hushed")]
    texts = [text for text in vectors if text not in (active, silent)]
    near = [cosine(text, active) - cosine(text, silent) for text in texts]
    assert len(texts) == 21
    assert all("<<" in text for text in vectors)
    true = [owner(text)[0] == "a" for text in texts]
    assert scores == {"example_embedding": pytest.approx(metrics.roc_auc_score(true, near))}


def both(**changes: Any) -> config.Config:
    """With records for every scorer."""
    sampling = Sampling(explain=Records(top=1, inactive=1), score=ScoreRecords(top=10, inactive=10), effects=1)
    return config.Config(sampling=sampling, **changes)


@pytest.mark.parametrize("name", SCORERS.names)
def test_a_scorer_calls_the_models_it_says_it_needs(name: str) -> None:
    needs = SCORERS.get(name).needs
    called = {"hf/s": needs.simulator, "openai/j": needs.judge, "embedding/e": needs.embedder}
    called["hf/base"] = name == "surprisal"
    models = {"embedding": {"model": "e"}, "surprisal": {"model": "hf/base"}}
    scorer = scorers.make(name, both(simulator="hf/s", judge="openai/j", **models))
    assert list(scorer.models) == [model for model, is_called in called.items() if is_called]
    assert next(iter(scorer.chances)).split("/")[0] == name
    if name != "simulation":
        (model,) = {question.model for question in asked(scorer, feature(0))}
        assert model in scorer.models


def test_without_a_judge_the_simulator_judges() -> None:
    assert scorers.make("detection", both(simulator="openai/s")).models == ("openai/s",)
    assert scorers.make("detection", both(simulator="rules", judge="openai/j")).models == ("openai/j",)
    assert scorers.make("detection", both(simulator="rules")).models == ()
    with pytest.raises(UserError, match=r"unknown judge 'other'; give --judge anthropic/MODEL, .*, rules"):
        scorers.make("detection", both(simulator="other"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fuzzing": {"logprobs": True}}, r"anthropic/m gives no log-probabilities; set fuzzing\.logprobs=false"),
        ({"judgement": {"temperature": 1}}, r"anthropic/m takes no temperature; set judgement\.temperature=null"),
        ({"sampling": Sampling(score=ScoreRecords(top=1))}, r"fuzzing needs .* silent; set sampling\.score\.inactive"),
        (
            {"sampling": Sampling(score=ScoreRecords(inactive=1))},
            r"fuzzing needs .* active; set sampling\.score\.quantile",
        ),
    ],
)
def test_what_a_judge_cannot_do_is_refused_before_anything_is_asked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scorers.make("fuzzing", config.Config(**({"judge": "anthropic/m", "sampling": both().sampling} | changes)))


def test_a_run_calls_each_model_once_and_none_that_no_part_needs() -> None:
    experiment = both(explainers=["rules-5"], simulator="openai/s", judge="openai/j", scorers=["detection", "fuzzing"])
    assert Method.of(experiment).models == ["openai/j"]
    everything = ["detection", "simulation", "embedding", "example_embedding"]
    experiment = both(explainers=["openai/e", "rules-1"], simulator="openai/s", judge="openai/e", scorers=everything)
    assert Method.of(experiment).models == ["openai/e", "openai/s", f"embedding/{experiment.embedding.model}"]


def reasoned(name: str, **settings: Any) -> Scorer:
    sampling = Sampling(explain=Records(top=1, inactive=1), score=ScoreRecords(top=10, inactive=10))
    own = {name: settings} if settings else {}
    return scorers.make(name, config.Config(judge="openai/m", sampling=sampling, judgement={"reasoning": True}, **own))


@pytest.mark.parametrize("name", ["detection", "fuzzing", "intruder", "logits"])
def test_reasoning_is_asked_for_shown_in_the_examples_and_left_out_by_default(name: str) -> None:
    thinking, plain = asked(reasoned(name), feature(0)), asked(make(name), feature(0))
    for request, other in zip(thinking, plain, strict=True):
        assert isinstance(request, Request)
        assert isinstance(other, Request)
        assert "First say in a short sentence" in request.messages[0].content
        assert "Write nothing else." in other.messages[0].content
        assert "First say" not in other.messages[0].content
        assert (request.schema is None, other.schema is None) == (True, False)
        for turn, bare in zip(request.messages, other.messages, strict=True):
            if turn.role == "assistant":
                *why, last = turn.content.split("\n")
                assert why
                assert last == bare.content
                assert json.loads(bare.content)
        assert len(request.example.text) > 2 * len(other.example.text)


@pytest.mark.parametrize("seed", range(3))
def test_answers_after_reasoning_are_scored_alike(seed: int) -> None:
    """The reasoning holds digits, brackets and braces of its own, none of which is an answer."""
    rng, why = np.random.default_rng(seed), 'Text 1 {has} [0, 1]: see {"answers": [0]}.\n\n'
    sure = {r.tokens[0].split("_")[0].strip(): float(rng.choice([0.1, 0.6, 0.9])) for r in feature(seed).score}
    plain = judge(sure.__getitem__)

    def answer(question: Question) -> Completion:
        bare = plain(question)
        return Completion(why + bare.text, logprobs=(TokenLogprobs(why, {"0": 0.0}), *bare.logprobs))

    expected = answered_by(make("detection", logprobs=True).score(feature(seed), EXPLAINED), plain)
    assert answered_by(reasoned("detection", logprobs=True).score(feature(seed), EXPLAINED), answer) == expected


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('why\n{"answers": [1, 0]}', True),
        ('{"answers": [1, 0]}', True),
        ('why\n```json\n{"answers": [1, 0]}\n```\n', True),
        ('why\n{\n "answers": [1,\n 0]\n}', True),
        ('why {"answers": [1, 0]}', False),
        ('{"answers": [1, 0]}\nbecause', False),
        ('{"answers": [1, 0]}\n{"answers": [1, 0, 1]}', False),
        ("why", False),
        ("", False),
    ],
)
def test_the_answer_is_the_json_that_ends_the_reasoning(text: str, is_read: bool) -> None:
    def read() -> list[int]:
        return [number.value for number in parse.choices(text, 2, parse.after_reasoning(text))]

    if is_read:
        assert read() == [1, 0]
    else:
        with pytest.raises(AnswerError):
            read()
