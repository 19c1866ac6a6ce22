"""What explainers by language models show, what they take for an explanation, and how the best of several is chosen."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from autointerp import explainers
from autointerp.config import Config
from autointerp.explainers import Explainer
from autointerp.explainers.best_of import held_out
from autointerp.explainers.language_model import LanguageModelExplainer
from autointerp.llm.ask import answered_by
from autointerp.llm.types import Answer, Completion, Failure, Question, Request
from autointerp.records import ActivationRecord, AnswerError, Explanation, FeatureId, FeatureRecord, Source
from sae.common.errors import UserError


def record(name: str, activations: Sequence[float], source: Source = "top") -> ActivationRecord:
    return ActivationRecord(tuple(f" {name}{i}" for i in range(len(activations))), tuple(activations), 0, source)


def feature(*explain: ActivationRecord, score: Sequence[ActivationRecord] = ()) -> FeatureRecord:
    return FeatureRecord(FeatureId("d", 1), explain, tuple(score), 0.1, 5.0, (0,) * 64, 1.0, 0.1, (" rivers", "\n"))


def shown(settings: dict[str, object], of: FeatureRecord) -> str:
    """The question about the feature, after the few-shots."""
    asked: list[Question] = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return question.example  # type: ignore[union-attr]  # explainers embed nothing

    answered_by(LanguageModelExplainer("openai/m", Config(explanation=settings)).explain(of), answer)
    (request,) = asked
    assert isinstance(request, Request)
    return request.messages[-1].content


LEFT_OUT = "with the silent tokens left out"


@pytest.mark.parametrize(("active", "repeated"), [(0, None), (1, True), (3, True), (4, False), (5, False), (20, False)])
def test_silent_tokens_are_left_out_in_a_repetition_if_fewer_than_a_fifth_are_active(
    active: int, repeated: bool | None
) -> None:
    """Active is what is not 0 as a level: the weakest activations are not."""
    values = [10.0] * active + [0.99] * (20 - active)
    one = feature(record("a", values[:10]), record("b", values[10:]))
    if repeated is None:
        one = feature(record("a", [0.0, -1.0]))
        with pytest.raises(AnswerError, match="no explain record on which the feature is active"):
            shown({}, one)
        return
    text = shown({}, one)
    head, _, tail = text.partition(LEFT_OUT)
    assert (LEFT_OUT in text) is repeated
    assert head.count("\t0\n") == 20 - active
    assert head.count("\t10\n") == active
    if repeated:
        assert tail.count("\t0\n") == 0
        assert re.findall(r" \w+\t10\n", tail) == [f" a{i}\t10\n" for i in range(active)]


def test_levels_are_shares_of_the_largest_activation_of_all_excerpts() -> None:
    text = shown({}, feature(record("a", [4.0, 1.99]), record("b", [1.0, -8.0], "random")))
    assert re.findall(r" (\w+\t\d+)\n", text) == ["a0\t10", "a1\t4", "b0\t2", "b1\t0"]


def test_marks_are_on_what_is_strong_in_its_own_excerpt() -> None:
    """A quarter of its own excerpt's maximum is not marked, but its level, of all excerpts' maximum, is told."""
    one = feature(record("a", [8.0, 2.0, 0.0, 2.5]), record("b", [0.0, 2.0, 1.9]), record("c", [0.0, 0.0]))
    text = shown({"style": "highlighted"}, one)
    assert "Excerpt 1: << a0>> a1 a2<< a3>>\n" in text
    assert "Activations: (' a0': 10), (' a1': 2), (' a3': 3)\n" in text
    assert "Excerpt 2: b0<< b1 b2>>\n" in text
    assert "Activations: (' b1': 2), (' b2': 2)\n" in text
    assert "c0" not in text, "an excerpt without levels has nothing to mark"
    assert "Excerpt 1: << a0 a1>> a2<< a3>>\n" in shown({"style": "highlighted", "marked": 0.24}, one)
    assert "Excerpt 1: << a0>> a1 a2<< a3>>\n" in shown({"style": "highlighted", "marked": 0.25}, one), "not above it"


def test_tokens_look_the_same_in_marked_text_and_in_its_pairs() -> None:
    odd = ActivationRecord(("\n", "\\", "\u2028"), (1.0, 1.0, 1.0), 0, "top")
    text = shown({"style": "highlighted"}, feature(odd))
    assert "<<\\n\\\\\\u2028>>" in text
    assert "('\\n': 10), ('\\\\': 10), ('\\u2028': 10)" in text


@pytest.mark.parametrize("style", ["tokens", "highlighted"])
def test_contrast_and_logits_are_shown_only_if_asked_for(style: str) -> None:
    """What was chosen as silent is never among the excerpts, nor counted there; what merely is silent is."""
    one = feature(
        record("a", [3.0, 2.0]),
        record("still", [0.0, 0.0], "random"),
        *[record(f"quiet{n}x", [0.0] * 9, "inactive") for n in range(3)],
    )
    plain = shown({"style": style}, one)
    assert "quiet" not in plain
    assert "rivers" not in plain
    assert LEFT_OUT not in plain
    full = shown({"style": style, "contrast": True, "logits": True}, one)
    before, _, after = full.partition("silent throughout")
    assert "quiet" not in before
    assert (" still0\t0\n" in before) is (style == "tokens")
    assert "still" not in after
    assert all(f" quiet{n}x8" in after for n in range(3))
    assert "\t0" not in after
    assert "' rivers', '\\n'\n" in after
    assert LEFT_OUT not in full


def test_the_explanation_says_what_made_it_and_keeps_its_budget() -> None:
    settings = {"max_words": 4, "style": "highlighted", "contrast": True}
    explainer = LanguageModelExplainer("openai/m", Config(explanation=settings))
    assert explainer.name == "openai/m (highlighted, contrast)"
    one = feature(record("a", [1.0]))
    result = answered_by(explainer.explain(one), lambda question: Completion(" names of rivers\n"))
    assert result == Explanation("names of rivers", explainer.prompts[0].label, "openai/m")
    for text in ("names of the long rivers", "I cannot tell", "names\nrivers", ""):
        with pytest.raises(AnswerError):
            answered_by(explainer.explain(one), lambda question, text=text: Completion(text))


GUESSES = ("nothing", "the even ones", "the odd ones")
"""Of candidates 0, 1 and 2; the last is true."""


def planted() -> FeatureRecord:
    """Active on odd tokens in all explain records, on even ones in the score records."""
    odd, even = [0.0, 5.0, 0.0, 3.0], [9.0, 0.0, 9.0, 0.0]
    records = [record(f"t{n}x", odd) for n in range(5)] + [record(f"r{n}x", odd, "random") for n in range(3)]
    silent = [record(f"s{n}x", [0.0] * 4, "inactive") for n in range(2)]
    return feature(*records, *silent, score=[record(f"asked{n}x", even) for n in range(4)])


class Panel:
    """Explains by its guesses, and simulates what a sentence says of odd and even tokens."""

    def __init__(self, guesses: Sequence[Answer] = tuple(map(Completion, GUESSES))) -> None:
        self._guesses = guesses
        self.explaining, self.simulating = list[str](), list[str]()

    def __call__(self, question: Question) -> Answer:
        assert isinstance(question, Request)
        text = question.messages[-1].content
        if question.stage == "explain":
            self.explaining.append("\n".join(message.content for message in question.messages))
            return self._guesses[question.sample]
        self.simulating.append(text)
        if "riddle" in text or "cannot be used" in text:
            return Completion("I would rather not.")
        odd, even = (10 * (word in text) for word in ("odd", "even"))
        levels = [
            [int(n), odd if int(t[-1]) % 2 else even] for n, t in re.findall(r"^(\d+)\t(.+)$", text, re.MULTILINE)
        ]
        return Completion(json.dumps({"active": levels, "silent": []}))


def best_of(candidates: int) -> Explainer:
    settings = {"candidates": candidates, "contrast": True}
    return explainers.make("anthropic/m", Config(simulator="anthropic/m", explanation=settings))


def test_the_candidate_that_predicts_held_out_explain_records_best_is_taken() -> None:
    panel, one = Panel(), planted()
    result = answered_by(best_of(3).explain(one), panel)
    assert result.text == "the odd ones", "on the score records it would have been the even ones"
    held = [one.explain[index] for index in held_out(one)]
    assert {r.source for r in held} == {"top", "random", "inactive"}
    for r in one.explain:
        is_shown = [r.tokens[0] in text for text in panel.explaining]
        asked = [r.tokens[0] in text for text in panel.simulating]
        assert is_shown == [r not in held] * 3
        assert sum(asked) == 3 * (r in held)
    assert not any("asked" in text for text in (*panel.explaining, *panel.simulating))
    assert answered_by(best_of(3).explain(replace(one, score=())), Panel()) == result


@pytest.mark.parametrize(
    ("guesses", "expected"),
    [
        ((Failure("gone"), Completion("the even ones"), Completion("")), "the even ones"),
        ((Completion("a riddle"), Completion("the even ones"), Completion("nothing")), "the even ones"),
        ((Completion("nothing"), Completion("a riddle"), Completion("nothing")), "nothing"),
        ((Completion("all odd ones"), Completion("the odd ones"), Completion("nothing")), "all odd ones"),
    ],
)
def test_unreadable_and_unscorable_candidates_lose_and_ties_go_to_the_first(
    guesses: Sequence[Answer], expected: str
) -> None:
    assert answered_by(best_of(3).explain(planted()), Panel(guesses)).text == expected


def test_no_readable_candidate_is_an_error() -> None:
    guesses = (Failure("gone"), Completion(""), Completion("I cannot tell"))
    with pytest.raises(AnswerError, match="none of 3 candidates can be read; the first: gone"):
        answered_by(best_of(3).explain(planted()), Panel(guesses))


def test_one_record_a_source_leaves_nothing_to_choose_on_and_the_first_is_taken() -> None:
    panel = Panel()
    assert answered_by(best_of(3).explain(feature(record("a", [1.0]))), panel).text == "nothing"
    assert not panel.simulating


def test_mistakes_are_told_before_anything_is_asked() -> None:
    with pytest.raises(UserError, match="give --simulator"):
        explainers.make("openai/m", Config(simulator="rules"))
    with pytest.raises(UserError, match="give --simulator"):
        explainers.make("openai/m", Config(scorers=["detection"], judge="openai/m", explanation={"candidates": 2}))
    for changes in ({"judge": "rules"}, {"judge": None}, {"simulator": "openai/m", "judge": "rules"}):
        for name in ("detection", "logits"):
            with pytest.raises(UserError, match=r"openai/m writes prose, which the judge `rules` cannot .* --judge"):
                explainers.make("openai/m", Config(scorers=[name], **changes))
    with pytest.raises(UserError, match=r"explanation\.temperature=1"):
        explainers.make("hf/m", Config(simulator="hf/m", explanation={"candidates": 2}))


def test_prose_needs_no_simulator_where_nothing_is_simulated() -> None:
    made = explainers.make("openai/m", Config(scorers=["detection"], judge="anthropic/m"))
    assert made.models == ("openai/m",)
    assert explainers.make("openai/m", Config(scorers=["intruder"], judge="rules")).models == ("openai/m",)
