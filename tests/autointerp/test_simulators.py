"""Simulators by language models, with scripted answers; and that dry runs' answers suit everybody who asks."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from autointerp import explainers, scorers
from autointerp import simulators as simulation_by
from autointerp.config import Config, Records, Sampling, ScoreRecords
from autointerp.llm.ask import answered_by
from autointerp.llm.types import (
    Answer,
    Completion,
    EmbeddingRequest,
    LLMTask,
    Question,
    Request,
    TokenLogprobs,
    Vectors,
)
from autointerp.prompting import render
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureId, FeatureRecord
from autointerp.scorers import SCORERS
from autointerp.scorers.simulation import correlation
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
) -> list[Predicted]:
    def given(question: Question) -> Answer:
        assert isinstance(question, Request)
        return answer(question)

    return answered_by(simulator.simulate(EXPLAINED, fragments), given)


def simulator(spec: str, **settings: Any) -> Simulator:
    return simulation_by.make(Config(simulator=spec, simulation=settings))


def all_at_once(fragments: Sequence[tuple[str, ...]], answer: Callable[[Request], Answer]) -> list[Predicted]:
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
    assert correlation([1.0, 2.0, 3.0], result) == "undefined"
    with pytest.raises(AnswerError, match="2 positions for 3 tokens"):
        all_at_once([("a", "b", "c")], lambda request: Completion("", slots=slots[:2]))


def text_answer(request: Request, levels: Sequence[int]) -> Completion:
    """In the form that the request asks for."""
    lines = request.messages[-1].content.partition("<start>\n")[2].rpartition("\n<end>")[0].split("\n")
    if request.schema:
        entries = [{"t": line, "a": level} for line, level in zip(lines, levels, strict=True)]
        return Completion(json.dumps({"activations": entries}))
    text = "\n".join(f"{line}\t{level}" for line, level in zip(lines, levels, strict=True))
    tokens = tuple(TokenLogprobs(piece, {piece: 0.0}) for piece in re.findall(r"10|.|\n", text))
    return Completion(text, logprobs=tokens if request.top_logprobs else ())


GENERATING = [("openai/m", "logprobs"), ("openai/m", "text"), ("anthropic/m", "auto"), ("hf/m", "text")]


@pytest.mark.parametrize(("judge", "method"), GENERATING)
def test_samples_are_averaged_token_by_token(judge: str, method: str) -> None:
    three = simulator(judge, method=method, samples=3)
    fragments = [(" a", "\n", "b"), ("c", "c", "\\")]
    first = ((0, 1, 10), (3, 1, 10), (6, 1, 1))
    second = ((5, 0, 0), (5, 0, 0), (5, 0, 10))

    def answer(request: Request) -> Answer:
        levels = first if "<start>\n a\n" in request.messages[-1].content else second
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
    with pytest.raises(AnswerError, match="log-probabilities"):
        simulate(generated, [("a", "b")], lambda request: Completion(answer.text))


@pytest.mark.parametrize(("judge", "method"), GENERATING)
def test_unreadable_answers_are_errors_and_not_zeros(judge: str, method: str) -> None:
    one = simulator(judge, method=method)
    for text in ("", "I cannot do that.", "a\t1\nb\t1\nc\t1", '{"activations": []}', "a\t1\nc\t2"):
        with pytest.raises(AnswerError):
            simulate(one, [("a", "b")], lambda request, text=text: Completion(text))


def test_every_judge_simulates_by_the_best_it_surely_has() -> None:
    judges = ("hf/m", "openai/m", "anthropic/m", "http://localhost:1/v1#m")
    asked = [asked_by(simulator(judge).simulate(EXPLAINED, [("a",)]))[0] for judge in judges]
    assert [bool(r.slots) for r in asked] == [True, False, False, False]
    assert [r.top_logprobs for r in asked[1:]] == [15, 0, 0]
    assert [bool(r.schema) for r in asked[1:]] == [False, True, True]
    for judge, method in (("anthropic/m", "logprobs"), ("anthropic/m", "all_at_once"), ("openai/m", "all_at_once")):
        with pytest.raises(UserError, match=r"simulation\.method=text"):
            simulator(judge, method=method)


def feature() -> FeatureRecord:
    """With tokens that break formats: those of the escapes, the marks and the code fences."""
    active = ActivationRecord(AWKWARD, tuple(float(n) for n in range(len(AWKWARD))), 0, "top")
    fenced = ActivationRecord(("```", "```\n", "<<", '"', "\\"), (0.0, 2.0, 0.0, 1.0, 3.0), 1, "top")
    silent = ActivationRecord(AWKWARD, (0.0,) * len(AWKWARD), 2, "inactive")
    records = (active, fenced, active, fenced, silent, silent)
    return FeatureRecord(FeatureId("d", 1), records, records, 0.1, 5.0, (0,) * 64, 1.0, 0.1, ("x", "\n"), ("y", " "))


def asks_once_each(task: LLMTask[object]) -> None:
    """Driven by the requests' own examples it comes to its end, and nothing has to be asked again."""
    assert not any("cannot be used" in request.messages[-1].content for request in asked_by(task))


JUDGES = ("anthropic/m", "openai/m", "hf/m", "http://localhost:1/v1#m")
BOTH = Sampling(explain=Records(top=4, inactive=2), score=ScoreRecords(top=4, inactive=2))


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("max_words", [1, 10, 60])
@pytest.mark.parametrize("candidates", [1, 3])
def test_examples_suit_the_explainers(judge: str, max_words: int, candidates: int) -> None:
    for style in ("tokens", "highlighted"):
        warmth = None if judge.startswith("anthropic") else 1.0  # which takes none
        settings = {"style": style, "max_words": max_words, "candidates": candidates, "temperature": warmth}
        explainer = explainers.make(judge, Config(simulator=judge, explanation=settings, sampling=BOTH))
        asks_once_each(explainer.explain(feature()))


@pytest.mark.parametrize("name", SCORERS.names)
@pytest.mark.parametrize(
    ("judge", "logprobs"), [*((judge, False) for judge in JUDGES), *((judge, True) for judge in JUDGES[1:])]
)
def test_examples_suit_the_scorers_and_simulators(judge: str, name: str, logprobs: bool) -> None:
    simulation = {"method": "logprobs" if logprobs else "auto", "samples": 2}
    asked_settings = {"detection": {"logprobs": logprobs}, "fuzzing": {"logprobs": logprobs}, "intruder": {"texts": 4}}
    asked_settings["logits"] = {"logprobs": logprobs}
    settings = Config(simulator=judge, simulation=simulation, sampling=BOTH, **asked_settings)
    asks_once_each(scorers.make(name, settings).score(feature(), EXPLAINED))
