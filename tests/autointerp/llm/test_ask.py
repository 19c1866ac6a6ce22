"""How questions are asked again, combined and metered, with scripted answers."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.ask import answered_by, ask, ask_once, attempt, embed, metered, together
from autointerp.llm.types import (
    Answer,
    Completion,
    EmbeddingRequest,
    Failure,
    LLMTask,
    Message,
    Question,
    Request,
    Usage,
    Vectors,
)
from autointerp.records import AnswerError

REQUEST = Request("openai/m", (Message("system", "Count."), Message("user", "How many?")), 40, 0.5, 3, "{}", sample=2)


class Script:
    """Gives these answers in turn and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers, self.asked = list(answers), list[Question]()

    def __call__(self, question: Question) -> Answer:
        self.asked.append(question)
        return self._answers.pop(0)


def number(completion: Completion) -> int:
    if not completion.text.isdecimal():
        raise AnswerError(f"{completion.text!r} is no number")
    return int(completion.text)


def counting() -> LLMTask[int]:
    return ask(REQUEST, number, "No: {}!".format)


def test_a_good_answer_is_asked_for_once() -> None:
    script = Script(Completion("7"))
    assert answered_by(counting(), script) == 7
    assert script.asked == [REQUEST]


@pytest.mark.parametrize(
    ("first", "message", "reason", "longer"),
    [
        (Completion("many"), "many", "'many' is no number", 1),
        (Completion(" "), "(nothing)", "' ' is no number", 1),
        (Completion("7", "refusal"), "7", "the model refused to answer", 1),
        (Completion("7", "length"), "7", "the answer was cut off at 40 tokens", 2),
    ],
)
def test_a_bad_answer_is_asked_for_again_once_with_the_reason(
    first: Completion, message: str, reason: str, longer: int
) -> None:
    """Refused and cut answers are bad whatever their text says."""
    script = Script(first, Completion("8"))
    assert answered_by(counting(), script) == 8
    more = (Message("assistant", message), Message("user", f"No: {reason}!"))
    second = replace(REQUEST, messages=REQUEST.messages + more, max_tokens=longer * 40)
    assert script.asked == [REQUEST, second]


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Completion("some"), "'some' is no number"),
        (Completion("7", "refusal"), "the model refused to answer"),
        (Completion("7", "length"), "the answer was cut off at 40 tokens"),
        (Failure("rejected"), "rejected"),
    ],
)
def test_there_is_no_third_question(second: Answer, reason: str) -> None:
    script = Script(Completion("many"), second)
    with pytest.raises(AnswerError, match=reason):
        answered_by(counting(), script)
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    "task",
    [
        lambda: ask(REQUEST, number, str),
        lambda: ask_once(REQUEST, number),
        lambda: embed(EmbeddingRequest("embedding/m", ("a",))),
    ],
)
def test_a_failure_is_an_error_and_not_asked_again(task: Callable[[], LLMTask[object]]) -> None:
    script = Script(Failure("no answer after 8 tries"))
    with pytest.raises(AnswerError, match="no answer after 8 tries"):
        answered_by(task(), script)
    assert len(script.asked) == 1


def test_where_nothing_is_generated_nothing_is_asked_again() -> None:
    script = Script(Completion("many", "length"))
    with pytest.raises(AnswerError, match="no number"):
        answered_by(ask_once(REQUEST, number), script)
    assert len(script.asked) == 1


def named(name: str) -> Request:
    return replace(REQUEST, messages=(Message("user", name),))


def echo(question: Question) -> Answer:
    assert isinstance(question, Request)
    return Completion(question.messages[0].content, usage=Usage(1))


def asks(name: int, rounds: Sequence[int]) -> LLMTask[list[str]]:
    """In every round as many questions as this says, all of them its own."""
    heard = []
    for turn, count in enumerate(rounds):
        answers = yield tuple(named(f"{name}.{turn}.{index}") for index in range(count))
        heard += [answer.text for answer in answers if isinstance(answer, Completion)]
    return heard


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=5))
def test_together_deals_answers_to_those_who_asked(plans: list[list[int]]) -> None:
    task = together(asks(name, rounds) for name, rounds in enumerate(plans))
    answers: tuple[Answer, ...] | None = None
    sent = []
    while True:
        try:
            questions = task.send(answers)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as stop:
            result = stop.value
            break
        sent.append(len(questions))
        answers = tuple(map(echo, questions))
    names = [[f"{n}.{turn}.{i}" for turn, k in enumerate(plan) for i in range(k)] for n, plan in enumerate(plans)]
    assert result == names
    longest = max(map(len, plans), default=0)
    assert sent == [sum(plan[turn] for plan in plans if turn < len(plan)) for turn in range(longest)]


def test_an_error_ends_all_unless_it_is_an_outcome() -> None:
    failing = Script(Failure("gone"), Completion("1"), Completion("2"))
    result = answered_by(together(attempt(ask(named(n), number, str)) for n in "abc"), failing)
    assert [str(result[0]), *result[1:]] == ["gone", 1, 2]
    assert isinstance(result[0], AnswerError)
    with pytest.raises(AnswerError, match="gone"):
        answered_by(together([counting(), counting()]), Script(Completion("1"), Failure("gone")))


def test_rejected_answers_and_failures_are_metered_too() -> None:
    script = Script(
        Completion("many", usage=Usage(1, 10, 1, 5, 2, 1, 0.25)),
        Completion("7", usage=Usage(1, 20, 2, 0, 3, 1, 0.5)),
        Completion("few", usage=Usage(1, 100, 4, cost_usd=1.0)),
        Failure("gone", Usage(1, 200, cost_usd=2.0)),
    )
    both = (attempt(task) for task in (counting(), counting()))
    one_by_one = (answered_by(metered(task), script) for task in both)
    (first, cost), (second, lost) = one_by_one
    assert (first, cost) == (7, Usage(2, 30, 3, 5, 5, 2, 0.75))
    assert isinstance(second, AnswerError)
    assert lost == Usage(2, 300, 4, cost_usd=3.0)


def test_an_unknown_cost_makes_the_sum_unknown() -> None:
    script = Script(Completion("many", usage=Usage(1, 1, cost_usd=None)), Completion("7", usage=Usage(1, 2, 3)))
    assert answered_by(metered(counting()), script) == (7, Usage(2, 3, 3, cost_usd=None))
    assert sum([Usage(cost_usd=1.0), Usage(cost_usd=None), Usage(cost_usd=2.0)], Usage()).cost_usd is None


def test_metering_changes_no_question_and_no_result() -> None:
    request = EmbeddingRequest("embedding/m", ("a", "b"))
    script = Script(Vectors(((1.0,), (2.0,)), Usage(1, 2, cost_usd=0.0)))
    assert answered_by(metered(embed(request)), script) == (((1.0,), (2.0,)), Usage(1, 2))
    assert script.asked == [request]
