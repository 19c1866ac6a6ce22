"""Simulators by language models, with scripted answers; and that dry runs' answers suit everybody who asks."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from autointerp import explainers, scorers
from autointerp import simulators as simulation_by
from autointerp.config import Config
from autointerp.evaluate import Case, Explained, evaluate
from autointerp.llm.ask import answered_by
from autointerp.llm.types import (
    Answer,
    Completion,
    EmbeddingRequest,
    Failure,
    LLMTask,
    Question,
    Request,
    StopReason,
    TokenLogprobs,
    Usage,
    Vectors,
)
from autointerp.prompting import render
from autointerp.records import (
    ActivationRecord,
    AnswerError,
    Effect,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureResult,
    Source,
)
from autointerp.scorers import SCORERS
from autointerp.scorers.slices import correlation
from autointerp.sections import Records, Sampling, ScoreRecords
from autointerp.simulators import Predicted, Simulator
from sae.common.errors import UserError

EXPLAINED = Explanation("the word 'unknown'", "p", "m")
AWKWARD = ("a", "\tunknown", "unknown", "\n", "", " ", "<end>", "<start>", "\x00", "é\u2028", "a")


def asked_by(task: LLMTask[object]) -> list[Request]:
    """The requests, each answered by its own example."""
    asked = []

    def example(question: Question) -> Answer:
        if isinstance(question, EmbeddingRequest):
            return Vectors(((1.0,),) * len(question.texts))
        asked.append(question)
        return question.example

    answered_by(task, example)
    return asked


def simulate(
    simulator: Simulator, fragments: Sequence[tuple[str, ...]], answer: Callable[[Request], Answer]
) -> list[Predicted | AnswerError]:
    def given(question: Question) -> Answer:
        assert isinstance(question, Request)
        return answer(question)

    return list(answered_by(simulator.simulate(EXPLAINED, fragments), given))


def simulator(spec: str, **settings: Any) -> Simulator:
    return simulation_by.make(Config(simulator=spec, simulation=settings))


def all_at_once(
    fragments: Sequence[tuple[str, ...]], answer: Callable[[Request], Answer]
) -> list[Predicted | AnswerError]:
    return simulate(simulator("hf/m"), fragments, answer)


def test_slots_are_at_the_unknowns_of_the_last_excerpt_and_nowhere_else() -> None:
    asked = asked_by(simulator("hf/m").simulate(EXPLAINED, [AWKWARD, ("b",)]))
    for tokens, request in zip((AWKWARD, ("b",)), asked, strict=True):
        (message,) = request.messages
        start = message.content.rindex("\n<start>\n", 0, request.slots[0]) + len("\n<start>\n")
        lines, _, rest = message.content[start:].rpartition("\n<end>")
        assert lines == "\n".join(f"{render.visible(token)}\tunknown" for token in tokens)
        assert not rest.strip()
        ends = np.cumsum([len(line) + 1 for line in lines.split("\n")]) + start - 1
        assert list(request.slots) == [int(end) - len("unknown") for end in ends]
        assert f"\nThis feature is active on {EXPLAINED.text}\n" in message.content
    shared = [request.messages[0].content[: request.slots[0] - 2].rpartition("\n")[0] for request in asked]
    assert shared[0] == shared[1], "all before the tokens is the same for every fragment"


def test_the_few_shots_show_unknowns_and_then_their_numbers() -> None:
    (request,) = asked_by(simulator("hf/m").simulate(EXPLAINED, [("b",)]))
    lines = request.messages[0].content[: request.slots[0]].splitlines()
    assert [line for line in lines if line.startswith("Feature")] == [f"Feature {n}" for n in (1, 2, 3, 4)]
    shown = "\n".join(lines).split("<start>\n")[1:-1]
    for excerpt in shown:
        values = [line.split("\t")[1] for line in excerpt.split("\n<end>")[0].split("\n")]
        hidden = values.count("unknown")
        assert values[:hidden] == ["unknown"] * hidden
        assert 0 < hidden < len(values)
        assert set(values[hidden:]) <= {str(n) for n in range(11)}


def test_values_are_expectations_over_the_slots_numbers() -> None:
    rng = np.random.default_rng(0)
    slots = [{str(n): float(x) for n, x in enumerate(rng.normal(-3, 2, 11))} | {" 7": -0.1, "un": 0.0} for _ in "abc"]
    slots[1] = {"2": math.log(0.3), "4": math.log(0.1), "the": math.log(0.6)}
    (result,) = all_at_once([("a", "b", "c")], lambda request: Completion("", slots=tuple(slots)))
    weights = [softmax([slot[str(n)] for n in range(11)]) for slot in (slots[0], slots[2])]
    assert result == pytest.approx((weights[0] @ range(11), 2.5, weights[1] @ range(11)))


def test_a_slot_without_numbers_is_undefined_and_not_zero() -> None:
    slots = ({"0": -0.1}, {"unknown": -0.1, " 7": -3.0}, {"10": -0.1})
    (result,) = all_at_once([("a", "b", "c")], lambda request: Completion("", slots=slots))
    assert result == (0.0, None, 10.0)
    assert correlation([1.0, 2.0, 3.0], (0.0, None, 10.0)) == "undefined"
    (wrong,) = all_at_once([("a", "b", "c")], lambda request: Completion("", slots=slots[:2]))
    assert str(wrong) == "log-probabilities of 2 positions for 3 tokens"


def text_answer(request: Request, levels: Sequence[int]) -> Completion:
    """In the form that the request asks for, about one fragment."""
    if '"silent"' in request.messages[0].content:
        return numbered_answer(request, [levels])
    lines = request.messages[-1].content.partition("<start>\n")[2].rpartition("\n<end>")[0].split("\n")
    if '"t"' in request.messages[0].content:
        entries = [{"t": line, "a": level} for line, level in zip(lines, levels, strict=True)]
        return Completion(json.dumps({"activations": entries}))
    text = "\n".join(f"{line}\t{level}" for line, level in zip(lines, levels, strict=True))
    tokens = tuple(TokenLogprobs(piece, {piece: 0.0}) for piece in re.findall(r"10|.|\n", text))
    return Completion(text, logprobs=tokens if request.top_logprobs else ())


def numbered_answer(request: Request, levels: Sequence[Sequence[int]]) -> Completion:
    """By the numbers in front of the question's tokens."""
    shown = re.split(r"^Excerpt (\d+):\n", request.messages[-1].content, flags=re.MULTILINE)[1:]
    numbers = [[int(n) for n in re.findall(r"^(\d+)\t", text, re.MULTILINE)] for text in shown[1::2]]
    active = [[n, v] for ns, vs in zip(numbers, levels, strict=True) for n, v in zip(ns, vs, strict=True) if v]
    silent = [int(n) for n, vs in zip(shown[::2], levels, strict=True) if not any(vs)]
    return Completion(json.dumps({"active": active, "silent": silent}))


GENERATING: list[tuple[str, dict[str, Any]]] = [
    ("openai/m", {"method": "logprobs"}),
    ("openai/m", {"method": "text", "format": "lines"}),
    ("anthropic/m", {"format": "json"}),
    ("hf/m", {"method": "text", "format": "json"}),
    ("anthropic/m", {"fragments": 1}),
]


@pytest.mark.parametrize(("judge", "settings"), GENERATING)
def test_samples_are_averaged_token_by_token(judge: str, settings: dict[str, Any]) -> None:
    three = simulator(judge, samples=3, **settings)
    fragments = [(" a", "\n", "b"), ("c", "c", "\\")]
    first = ((0, 1, 10), (3, 1, 10), (6, 1, 1))
    second = ((5, 0, 0), (5, 0, 0), (5, 0, 10))

    def answer(request: Request) -> Answer:
        levels = first if re.search(r"(<start>\n|\t) a\n", request.messages[-1].content) else second
        return text_answer(request, levels[request.sample])

    result = simulate(three, fragments, answer)
    assert result == [pytest.approx((3, 1, 7)), pytest.approx((5, 0, 10 / 3))]


def test_generated_log_probabilities_become_expectations_and_one_without_numbers_is_undefined() -> None:
    generated = simulator("openai/m")
    tops = ({"a\t": 0.0}, {"4": math.log(0.5), "8": math.log(0.25)}, {"\n": 0.0}, {"b\t": 0.0}, {"nine": -0.1})
    texts = ("a\t", "4", "\n", "b\t", "9")
    answer = Completion("".join(texts), logprobs=tuple(map(TokenLogprobs, texts, tops)))
    (result,) = simulate(generated, [("a", "b")], lambda request: answer)
    assert result == (pytest.approx(16 / 3), None)
    (wrong,) = simulate(generated, [("a", "b")], lambda request: Completion(answer.text))
    assert "log-probabilities" in str(wrong)


@pytest.mark.parametrize(("judge", "settings"), GENERATING)
def test_unreadable_answers_are_errors_of_their_fragment_and_not_zeros(judge: str, settings: dict[str, Any]) -> None:
    one = simulator(judge, **settings)
    for text in ("", "I cannot do that.", "a\t1\nb\t1\nc\t1", '{"activations": []}', "a\t1\nc\t2", '{"active": []}'):

        def answer(request: Request, text: str = text) -> Completion:
            return (
                text_answer(request, (3, 4))
                if re.search(r"[\n\t]x\n", request.messages[-1].content)
                else Completion(text)
            )

        wrong, right = simulate(one, [("a", "b"), ("x", "b")], answer)
        assert isinstance(wrong, AnswerError)
        assert right == (3, 4)


FOUR = [("a", "b"), ("c",), ("\n", "", "12\t0"), ("d", "Excerpt 2:")]
LEVELS = [(0, 3), (0,), (1, 0, 10), (0, 0)]


def test_one_question_serves_all_fragments_of_a_feature() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Completion:
        asked.append(request)
        return numbered_answer(request, LEVELS)

    assert simulate(simulator("anthropic/m"), FOUR, answer) == LEVELS
    (request,) = asked
    text = request.messages[-1].content
    assert "Excerpt 1:\n1\ta\n2\tb\nExcerpt 2:\n3\tc\nExcerpt 3:\n4\t\\n\n5\t\n6\t12\\t0\nExcerpt 4:\n7\td\n" in text
    assert request.static == len(request.messages) - 1
    asked_by_three = asked_by(simulator("anthropic/m", fragments=3).simulate(EXPLAINED, FOUR))
    assert [len(re.findall("^Excerpt", r.messages[-1].content, re.MULTILINE)) for r in asked_by_three] == [3, 1]
    assert asked_by_three[1].messages[:-1] == request.messages[:-1]
    assert asked_by_three[1].max_tokens < asked_by_three[0].max_tokens < request.max_tokens


def test_only_fragments_whose_answer_is_wrong_are_asked_again_and_once() -> None:
    asked: list[Request] = []
    fields = {"active": [[2, 3], [2, 4], [4, 1], [6, 11]], "silent": [2, 4]}

    def answer(request: Request) -> Completion:
        asked.append(request)
        if len(asked) == 1:
            return Completion(json.dumps(fields))
        return Completion('{"active": [[6, 10]], "silent": []}')

    first, second, third, fourth = simulate(simulator("anthropic/m"), FOUR, answer)
    assert (second, third, fourth) == ((0,), (0, 0, 10), (0, 0))
    assert str(first) == "excerpt 1 is neither silent nor has it an active token"
    assert len(asked) == 2
    again = asked[1].messages[-1].content
    assert re.findall(r"^Excerpt \d", again, re.MULTILINE) == ["Excerpt 1", "Excerpt 3"], "with their first numbers"
    assert "token 2 is listed twice; the activation of token 6 is 11, not a whole number" in again
    assert asked[1].messages[:-1] == asked[0].messages[:-1]


def test_the_words_of_the_second_question_are_among_the_prompts() -> None:
    """They change answers, so that a run's identity holds them."""
    assert any(prompt.name == "again" for prompt in simulator("openai/m", method="text", format="lines").prompts)


@pytest.mark.parametrize("stop", ["length", "refusal"])
def test_a_whole_answer_that_cannot_be_used_is_asked_for_again(stop: StopReason) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Completion:
        asked.append(request)
        return replace(numbered_answer(request, LEVELS), stop=stop if len(asked) == 1 else "stop")

    assert simulate(simulator("anthropic/m"), FOUR, answer) == LEVELS
    assert asked[1].max_tokens == asked[0].max_tokens * (2 if stop == "length" else 1)
    assert asked[1] != asked[0], "or the cache would give the first answer again"


def test_no_answer_at_all_is_an_error_of_its_fragments_and_is_not_asked_for_again() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        return Failure("overloaded") if len(asked) == 1 else numbered_answer(request, [(0, 0)])

    result = simulate(simulator("anthropic/m", fragments=1), [("a", "b"), ("c", "d")], answer)
    assert [str(value) for value in result] == ["overloaded", "(0.0, 0.0)"]
    assert len(asked) == 2


SOURCES: tuple[Source, ...] = ("top", "top", "random", "random", "weighted", "weighted")


def scored_with(unreadable: str) -> FeatureResult:
    """The result of a feature whose records begin with their source; no answer about one of them can be read."""
    score = tuple(ActivationRecord((source, "key"), (0.0, n % 3), n, source) for n, source in enumerate(SOURCES, 1))
    one = FeatureRecord(FeatureId("d", 1), (), score, 0.1, 2.0, (0,) * 64, 1.0, 0.1)
    sampling = Sampling(score=ScoreRecords(top=2, random=2, weighted=2))
    scorer = scorers.make("simulation", Config(simulator="anthropic/m", sampling=sampling))

    def answer(question: Question) -> Answer:
        assert isinstance(question, Request)
        lines = re.findall(r"^(\d+)\t(.*)$", question.messages[-1].content, re.MULTILINE)
        bad = [[int(n), 11] for n, token in lines if token == unreadable]
        return Completion(json.dumps({"active": [[int(n), 9] for n, t in lines if t == "key"] + bad, "silent": []}))

    explained = Explained(EXPLAINED, Usage())
    return answered_by(evaluate(Case(one, "e", explained, {"mismatched": EXPLAINED}, (scorer,))), answer)


def test_a_fragment_that_cannot_be_read_is_an_error_of_the_scores_that_need_it_and_of_no_other() -> None:
    """Neither undefined nor computed from what is left. (The feature has no population, so that is undefined.)"""
    names = ("simulation/population", "simulation/top_and_random", "simulation/top", "simulation/random")
    whole = scored_with("nothing")
    assert (set(whole.scores), whole.errors, whole.status) == (set(names), {}, "undefined")
    for source, needing in (("weighted", names[:1]), ("top", names[1:3]), ("random", (names[1], names[3]))):
        result = scored_with(source)
        assert set(result.errors) == set(needing)
        assert all("is 11, not a whole number" in reason for reason in result.errors.values())
        assert result.scores == {name: value for name, value in whole.scores.items() if name not in needing}
        assert [simulation.record for simulation in result.simulations] == [
            simulation.record for simulation in whole.simulations if SOURCES[simulation.record] != source
        ]
        assert result.controls["mismatched"].errors == result.errors
        assert (result.status == "error") is (result.error is not None) is (source == "weighted")


def test_a_constant_prediction_fails_and_all_that_was_paid_is_counted() -> None:
    """Where the truth varies that is 0, not undefined. A scorer that needs no explanation has no control."""
    score = tuple(ActivationRecord((source, "key"), (0.0, n % 3), n, source) for n, source in enumerate(SOURCES[:4], 1))
    one = FeatureRecord(FeatureId("d", 1), (), score, 0.1, 2.0, (0,) * 64, 1.0, 0.1)
    sampling = Sampling(population=0, score=ScoreRecords(top=2, random=2, inactive=1))
    config = Config(simulator="anthropic/m", judge="rules", sampling=sampling)
    both = tuple(scorers.make(name, config) for name in ("simulation", "intruder"))
    explained = Explained(EXPLAINED, Usage(1, 100, 7))

    def answer(question: Question) -> Answer:
        return Completion('{"active": [], "silent": [1, 2, 3, 4]}', usage=Usage(1, 20, 3))

    result = answered_by(evaluate(Case(one, "e", explained, {"mismatched": EXPLAINED}, both)), answer)
    names = ("simulation/top_and_random", "simulation/top", "simulation/random")
    assert (result.status, result.failed) == ("failed", names)
    assert result.scores == {**dict.fromkeys(names, 0.0), "intruder": None}
    assert result.controls["mismatched"].scores == dict.fromkeys(names, 0.0)
    assert (result.usage["calls"], result.usage["tokens_in"], result.usage["tokens_out"]) == (3, 140, 13)


def test_every_judge_simulates_by_the_best_it_surely_has() -> None:
    judges = ("hf/m", "openai/m", "anthropic/m", "http://localhost:1/v1#m")
    asked = [asked_by(simulator(judge).simulate(EXPLAINED, [("a",)]))[0] for judge in judges]
    assert [bool(r.slots) for r in asked] == [True, False, False, False]
    assert [r.top_logprobs for r in asked[1:]] == [15, 0, 0]
    assert [bool(r.schema) for r in asked[1:]] == [False, True, True]
    assert ['"silent"' in r.messages[0].content for r in asked] == [False, False, True, True]
    for judge, method in (("anthropic/m", "logprobs"), ("anthropic/m", "all_at_once"), ("openai/m", "all_at_once")):
        with pytest.raises(UserError, match=r"simulation\.method=text"):
            simulator(judge, method=method)


def feature() -> FeatureRecord:
    """With tokens that break formats: those of the escapes, the marks and the code fences."""
    active = ActivationRecord(AWKWARD, tuple(float(n) for n in range(len(AWKWARD))), 0, "top")
    fenced = ActivationRecord(("```", "```\n", "<<", '"', "\\"), (0.0, 2.0, 0.0, 1.0, 3.0), 1, "top")
    silent = ActivationRecord(AWKWARD, (0.0,) * len(AWKWARD), 2, "inactive")
    records = (active, fenced, active, fenced, silent, silent)
    effect = Effect(3, 0.1, 0.0, ("x", "\n"), (-0.2, -0.1), ("z",), (0.1,), ("y", " "), 0.5)
    tokens = (("x", "\n"), ("y", " "))
    return FeatureRecord(FeatureId("d", 1), records, records, 0.1, 5.0, (0,) * 64, 1.0, 0.1, *tokens, effect=effect)


def asks_once_each(task: LLMTask[object]) -> None:
    """Driven by the requests' own examples it comes to its end, and nothing has to be asked again."""
    requests = [*asked_by(task)]
    assert requests
    assert not any("cannot be used" in request.messages[-1].content for request in requests)


JUDGES = ("anthropic/m", "openai/m", "hf/m", "http://localhost:1/v1#m")
BOTH = Sampling(explain=Records(top=4, inactive=2), score=ScoreRecords(top=4, inactive=2), effects=1)


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("max_words", [1, 10, 60])
@pytest.mark.parametrize("candidates", [1, 3])
def test_examples_suit_the_explainers(judge: str, max_words: int, candidates: int) -> None:
    for style in ("tokens", "highlighted"):
        warmth = None if judge.startswith("anthropic") else 1.0  # which takes none
        settings = {"style": style, "max_words": max_words, "candidates": candidates, "temperature": warmth}
        explainer = explainers.make(judge, Config(simulator=judge, explanation=settings, sampling=BOTH))
        asks_once_each(explainer.explain(feature()))


@pytest.mark.parametrize("name", [name for name in SCORERS.names if "embedding" not in name])  # which prompt nobody
@pytest.mark.parametrize(
    ("judge", "logprobs"), [*((judge, False) for judge in JUDGES), *((judge, True) for judge in JUDGES[1:])]
)
def test_examples_suit_the_scorers_and_simulators(judge: str, name: str, logprobs: bool) -> None:
    simulation = {"method": "logprobs" if logprobs else "auto", "samples": 2}
    asked_settings = {"detection": {"logprobs": logprobs}, "fuzzing": {"logprobs": logprobs}, "intruder": {"texts": 4}}
    asked_settings |= {"logits": {"logprobs": logprobs}, "surprisal": {"model": "hf/base"}}
    settings = Config(simulator=judge, simulation=simulation, sampling=BOTH, **asked_settings)
    asks_once_each(scorers.make(name, settings).score(feature(), EXPLAINED))


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("form", ["numbered", "lines", "json"])
def test_examples_suit_every_format(judge: str, form: str) -> None:
    settings = Config(simulator=judge, simulation={"method": "text", "format": form}, sampling=BOTH)
    asks_once_each(scorers.make("simulation", settings).score(feature(), EXPLAINED))
