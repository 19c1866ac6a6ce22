"""Answers are read exactly or not at all: what the reader lets pass is the truth, whatever was done to the text."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.special import softmax

from autointerp.llm.types import Completion, TokenLogprobs
from autointerp.prompting import numbered, parse, render
from autointerp.prompting.parse import Number
from autointerp.records import AnswerError

AWKWARD = (
    "\t", "\n", "\r\n", "\u2028", "\x85", "\\", "\\n", "\\t", '"', "'", "", " ", "   ", " the", "the", "```", "```\n",
    "7", "\t7", "10", "<end>", "{", "]", "é", "漢", "\ufffd", "\x00", "\u3000", "e\u0301", "😀",
)  # fmt: skip
token = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
pairs = st.lists(st.tuples(token, st.integers(0, render.TOP)), min_size=1, max_size=10)
Pairs = list[tuple[str, int]]


def unzipped(annotated: Pairs) -> tuple[list[str], list[int]]:
    return [t for t, _ in annotated], [n for _, n in annotated]


def written(annotated: Pairs) -> str:
    return render.token_lines(*unzipped(annotated))


def shown(text: str) -> str:
    return render.visible(text).strip()


def check_spans(result: Sequence[Number], text: str, required: list[int]) -> None:
    assert [number.value for number in result] == required
    assert [text[n.start : n.start + len(n.text)] for n in result] == [str(number) for number in required]


@given(pairs, st.sampled_from([("", ""), ("```\n", "\n```"), (" \n```text\n", "\n```\n "), ("\n\n", " \n")]))
@example([("```", 1), ("```\n", 10), ("```", 0)], ("```\n", "\n```"))
def test_every_list_of_tokens_comes_back_with_its_numbers_and_their_places(
    annotated: Pairs, around: tuple[str, str]
) -> None:
    tokens, numbers = unzipped(annotated)
    text = around[0] + written(annotated) + around[1]
    result = parse.token_lines(text, tokens)
    check_spans(result, text, numbers)
    ends = np.cumsum([len(render.visible(t)) + len(f"\t{n}\n") for t, n in annotated]) + len(around[0])
    required = [int(end) - len(f"{number}\n") for end, number in zip(ends, numbers, strict=True)]
    assert [number.start for number in result] == required


@given(pairs, st.sampled_from(["", " ", "  "]), st.sampled_from(["", " ", "\r"]))
def test_spaces_around_numbers_do_not_move_their_places(annotated: Pairs, before: str, after: str) -> None:
    tokens, numbers = unzipped(annotated)
    text = render.token_lines(tokens, [f"{before}{number}{after}" for number in numbers])
    check_spans(parse.token_lines(text, tokens), text, numbers)


def dropped(annotated: Pairs, index: int) -> Pairs:
    return annotated[:index] + annotated[index + 1 :]


def repeated(annotated: Pairs, index: int) -> Pairs:
    return annotated[: index + 1] + annotated[index:]


def swapped(annotated: Pairs, index: int) -> Pairs:
    other = (index + 1) % len(annotated)
    assume(shown(annotated[index][0]) != shown(annotated[other][0]))
    changed = list(annotated)
    changed[index], changed[other] = changed[other], changed[index]
    return changed


def altered(annotated: Pairs, index: int) -> Pairs:
    text, number = annotated[index]
    return [*annotated[:index], (text.strip() + "x", number), *annotated[index + 1 :]]


MISTAKES = (dropped, repeated, swapped, altered)
Mistake = Callable[[Pairs, int], Pairs]


@given(pairs, st.sampled_from(MISTAKES), st.integers(0, 9))
def test_missing_repeated_swapped_and_altered_tokens_are_errors(annotated: Pairs, wrong: Mistake, index: int) -> None:
    tokens, _ = unzipped(annotated)
    changed = wrong(annotated, index % len(annotated))
    with pytest.raises(AnswerError):
        parse.token_lines(written(changed), tokens)
    with pytest.raises(AnswerError):
        parse.token_json(as_json(changed), tokens)


@given(
    pairs, st.sampled_from(["Here it is:\n", "Sure! ", "```\n"]), st.sampled_from(["\n\nDone.", " (strong)", "\n```"])
)
def test_prose_around_the_lines_is_an_error(annotated: Pairs, before: str, after: str) -> None:
    tokens, text = [t for t, _ in annotated], written(annotated)
    for answer in (before + text, text + after, f"Here:\n```\n{text}\n```", f"```\n{text}\n```\nDone."):
        with pytest.raises(AnswerError):
            parse.token_lines(answer, tokens)


NO_LEVEL = ("11", "-1", "3.5", "", "7 or 8", "seven", "07", "+7", "٣", "７", "7.", "1e0", "0x1", "1_0")  # noqa: RUF001


@given(pairs, st.sampled_from(NO_LEVEL), st.integers(0, 9))
def test_what_is_not_a_level_is_an_error(annotated: Pairs, value: str, index: int) -> None:
    tokens, numbers = unzipped(annotated)
    values: list[object] = [*numbers]
    values[index % len(values)] = value
    with pytest.raises(AnswerError):
        parse.token_lines(render.token_lines(tokens, values), tokens)


@given(pairs)
def test_a_cut_is_an_error_or_takes_nothing_away(annotated: Pairs) -> None:
    """But for a 10 at the very end that is cut to 1: only the stop reason shows that, and `ask` minds it."""
    assume(annotated[-1][1] != render.TOP)
    tokens, numbers = unzipped(annotated)
    for text in (written(annotated), f"```\n{written(annotated)}\n```"):
        for end in range(len(text)):
            try:
                result = parse.token_lines(text[:end], tokens)
            except AnswerError:
                continue
            check_spans(result, text, numbers)
    text = as_json(annotated)
    for end in range(len(text)):
        with pytest.raises(AnswerError):
            parse.token_json(text[:end], tokens)


def as_json(annotated: Pairs, ascii_only: bool = False) -> str:
    entries = [{"t": render.visible(t), "a": n} for t, n in annotated]
    return json.dumps({"activations": entries}, ensure_ascii=ascii_only)


@given(pairs, st.booleans())
def test_json_comes_back_too_and_only_as_asked_for(annotated: Pairs, ascii_only: bool) -> None:
    tokens, numbers = unzipped(annotated)
    text = as_json(annotated, ascii_only)
    assert parse.token_json(text, tokens) == numbers
    assert parse.token_json(f"```json\n{text}\n```", tokens) == numbers
    twice = text[:-1] + f', "activations": {json.dumps([{"t": t, "a": 0} for t in tokens])}}}'
    entries = text.removeprefix('{"activations": ').removesuffix("}")
    for answer in ("Sure: " + text, text + " Done.", twice, entries, f'{{"activation": {entries}}}', "[" + text + "]"):
        with pytest.raises(AnswerError):
            parse.token_json(answer, tokens)


questions = st.lists(pairs, min_size=1, max_size=5)
Fields = dict[str, list[object]]


def numbers_of(question: list[Pairs]) -> list[list[int]]:
    """The numbers of each excerpt's tokens: 1, 2, ... through all excerpts."""
    lengths = [len(annotated) for annotated in question]
    return [list(range(1 + sum(lengths[:i]), 1 + sum(lengths[: i + 1]))) for i in range(len(lengths))]


def sparse(question: list[Pairs]) -> Fields:
    """The answer as a model should write it."""
    by_excerpt = list(zip(numbers_of(question), question, strict=True))
    active = [[n, value] for ns, annotated in by_excerpt for n, (_, value) in zip(ns, annotated, strict=True) if value]
    silent = [i for i, annotated in enumerate(question, 1) if not any(value for _, value in annotated)]
    return {"active": active, "silent": silent}  # type: ignore[dict-item]


def read_numbered(question: list[Pairs], fields: object) -> list[numbered.Levels | AnswerError]:
    return numbered.read(json.dumps(fields), numbered.excerpts([tuple(unzipped(a)[0]) for a in question]))


@given(questions, st.randoms(use_true_random=False))
def test_numbered_answers_come_back_in_any_order(question: list[Pairs], rng: Random) -> None:
    fields, truth = sparse(question), [tuple(unzipped(annotated)[1]) for annotated in question]
    assert read_numbered(question, fields) == truth
    for listed in fields.values():
        rng.shuffle(listed)
    assert read_numbered(question, fields) == truth
    shown = numbered.excerpts([tuple(unzipped(annotated)[0]) for annotated in question])
    assert json.loads(numbered.answer(shown, truth)) == sparse(question)


@given(questions)
def test_numbered_tokens_are_shown_with_their_numbers_a_line_each(question: list[Pairs]) -> None:
    shown = numbered.excerpts([tuple(unzipped(annotated)[0]) for annotated in question])
    assert [excerpt.number for excerpt in shown] == list(range(1, len(question) + 1))
    for excerpt, annotated, numbers in zip(shown, question, numbers_of(question), strict=True):
        lines = [line.partition("\t") for line in excerpt.lines.split("\n")]
        assert [int(number) for number, _, _ in lines] == numbers
        assert [text for _, _, text in lines] == [render.visible(t) for t, _ in annotated]


@given(questions, st.data())
def test_a_wrong_entry_spoils_its_own_excerpt_alone(question: list[Pairs], data: st.DataObject) -> None:
    fields, numbers = sparse(question), numbers_of(question)
    spoilt = data.draw(st.integers(0, len(question) - 1))
    own = [entry for entry in fields["active"] if entry[0] in numbers[spoilt]]  # type: ignore[index]
    wrong: list[object] = [11, -1, 3.5, None, True, "7", [7]]
    kind = data.draw(st.sampled_from(["value", "twice", "both", "forgotten"]))
    if kind == "value":
        fields["active"] = [e for e in fields["active"] if e not in own]
        fields["active"].append([numbers[spoilt][-1], data.draw(st.sampled_from(wrong))])
    elif kind == "twice":
        fields["active"] += [[numbers[spoilt][0], 1], [numbers[spoilt][0], 1]]
    elif kind == "both":
        fields["active"] = [*(e for e in fields["active"] if e not in own), [numbers[spoilt][0], 2]]
        fields["silent"] = [*fields["silent"], spoilt + 1]
    else:
        fields["active"] = [e for e in fields["active"] if e not in own]
        fields["silent"] = [number for number in fields["silent"] if number != spoilt + 1]
    result = read_numbered(question, fields)
    assert isinstance(result.pop(spoilt), AnswerError)
    assert result == [tuple(unzipped(a)[1]) for i, a in enumerate(question) if i != spoilt]


TWO_EXCERPTS: list[Pairs] = [[("a", 1), ("b", 0)], [("c", 0)]]


@pytest.mark.parametrize(
    "entry", [[0, 1], [4, 1], [-1, 1], ["1", 1], [True, 1], [1.0, 1], [1], [1, 1, 1], 1, None, "1"]
)
def test_an_entry_of_no_token_spoils_the_whole_answer(entry: object) -> None:
    with pytest.raises(AnswerError):
        read_numbered(TWO_EXCERPTS, {"active": [[1, 1], entry], "silent": [2]})


@pytest.mark.parametrize(
    "fields",
    [
        {"active": [[1, 1]], "silent": [2, 3]}, {"active": [[1, 1]], "silent": [0, 2]},
        {"active": [[1, 1]], "silent": [2, True]},
        {"active": [[1, 1]], "silent": ["2"]}, {"active": [[1, 1]]}, {"active": [[1, 1]], "silent": 2}, [[1, 1]],
        {"active": {"1": 1}, "silent": [2]}, {"active": [[1, 1]], "silent": [2], "why": ""}, {},
    ],
)  # fmt: skip
def test_a_numbered_answer_has_its_form_and_names_excerpts_that_are_there(fields: object) -> None:
    with pytest.raises(AnswerError):
        read_numbered(TWO_EXCERPTS, fields)


@given(questions)
def test_a_numbered_answer_that_is_cut_or_has_prose_around_it_is_an_error(question: list[Pairs]) -> None:
    text = json.dumps(sparse(question))
    shown = numbered.excerpts([tuple(unzipped(annotated)[0]) for annotated in question])
    assert numbered.read(f"```json\n{text}\n```", shown) == numbered.read(text, shown)
    for answer in (
        *(text[:end] for end in range(len(text))),
        "Sure: " + text,
        text + " Done.",
        text[:-1] + ', "active": []}',
    ):
        with pytest.raises(AnswerError):
            numbered.read(answer, shown)


def test_what_an_explanation_completes_is_not_part_of_it() -> None:
    for text in ("This feature is active on the word dog", "this feature is active on: the word dog", "the word dog"):
        assert parse.explanation(text, 3) == "the word dog"
    assert parse.explanation('"This feature is active on ... the word dog"', 3) == "the word dog"
    assert parse.explanation("words after 'this feature is active on'", 9) == "words after 'this feature is active on'"
    with pytest.raises(AnswerError, match="empty"):
        parse.explanation("This feature is active on ...", 3)


@pytest.mark.parametrize("value", ["11", "-1", "3.5", "null", "true", '"7"', "[7]", "NaN", "1e0", "9" * 5000])
def test_json_levels_are_whole_numbers(value: str) -> None:
    with pytest.raises(AnswerError):
        parse.token_json(f'{{"activations": [{{"t": "a", "a": {value}}}]}}', ["a"])
    with pytest.raises(AnswerError):
        parse.choices(f'{{"answers": [{value}]}}', 1)
    with pytest.raises(AnswerError):
        parse.one_of(f'{{"intruder": {value}}}', 5)


@pytest.mark.parametrize("entry", ['{"t": "a"}', '{"t": "a", "a": 1, "b": 2}', '{"t": 1, "a": 1}', '["a", 1]', '"a"'])
def test_json_entries_have_their_form(entry: str) -> None:
    with pytest.raises(AnswerError):
        parse.token_json(f'{{"activations": [{entry}]}}', ["a"])


@given(st.lists(st.integers(0, 1), min_size=1, max_size=8), st.sampled_from([None, 0, 2]), st.booleans())
def test_choices_come_back_with_their_places(bits: list[int], indent: int | None, fenced: bool) -> None:
    plain = json.dumps({"answers": bits}, indent=indent)
    text = f"\n```json\n{plain}\n```" if fenced else plain
    check_spans(parse.choices(text, len(bits)), text, bits)
    twice = f'{{"answers": {bits}, "answers": {[1 - bit for bit in bits]}}}'
    for answer in ("My answer: " + plain, plain + "\nThat is all.", twice, json.dumps(bits), "", "{}"):
        with pytest.raises(AnswerError):
            parse.choices(answer, len(bits))
    for count in (len(bits) - 1, len(bits) + 1):
        with pytest.raises(AnswerError):
            parse.choices(text, count)
    for end in range(len(plain)):
        with pytest.raises(AnswerError):
            parse.choices(plain[:end], len(bits))


def test_one_of_counts_from_one() -> None:
    assert [parse.one_of(f'{{"intruder": {n}}}', 5) for n in range(1, 6)] == [0, 1, 2, 3, 4]
    assert parse.one_of('```json\n{"intruder": 2}\n```', 5) == 1
    for text in ("0", "6", "1.0", "true", "null", '"2"', "[2]", '2, "intruder": 3', '2, "why": "odd"', "2} because"):
        with pytest.raises(AnswerError):
            parse.one_of(f'{{"intruder": {text}}}', 5)


@pytest.mark.parametrize(
    "text", ["the word 'dog'", 'words such as "the"', '"the" and "a"', "« le »", "sorry, as a word"]
)
def test_explanations_are_kept_as_they_are(text: str) -> None:
    assert parse.explanation(f" {text}\n", 5) == text
    with pytest.raises(AnswerError, match="words"):
        parse.explanation(text + " and" * 5, 5)


def test_quotes_around_all_of_an_explanation_are_not_part_of_it() -> None:
    assert parse.explanation(' "the word dog" ', 3) == "the word dog"


@pytest.mark.parametrize(
    "text",
    [
        "", " \n", '""', '"', "names\nof dogs", "names\u2028of dogs", "```\nnames\n```", "I'm sorry, but no.",
        "I’m unable to do that", "I can’t tell", "I cannot say", "i won't", "As an AI, I",  # noqa: RUF001
    ],
)  # fmt: skip
def test_what_is_no_explanation_is_an_error(text: str) -> None:
    with pytest.raises(AnswerError):
        parse.explanation(text, 60)


NEAR_NUMBERS = st.sampled_from([" 7", "7 ", "07", "11", "-1", "7\n", "\t7", "seven", "", "٧", "1.0"])  # noqa: RUF001
logprob = st.floats(-30, 0)


@given(st.dictionaries(st.sampled_from(parse.NUMBERS), logprob), st.dictionaries(NEAR_NUMBERS, logprob))
def test_expected_is_the_softmax_over_exact_numbers(exact: dict[str, float], near: dict[str, float]) -> None:
    result = parse.expected(near | exact)
    if not exact:
        assert result is None
        return
    required = softmax(list(exact.values())) @ [int(number) for number in exact]
    assert result == pytest.approx(required)


def completion(*tokens: tuple[str, dict[str, float]]) -> Completion:
    """Tokens with the probabilities of the likeliest at their positions."""
    logprobs = tuple(TokenLogprobs(t, {k: math.log(p) for k, p in top.items()}) for t, top in tokens)
    return Completion("".join(t for t, _ in tokens), logprobs=logprobs)


@given(pairs, st.lists(st.integers(0, 200), max_size=30), st.lists(st.floats(0.01, 1), min_size=11, max_size=11))
def test_expected_values_do_not_depend_on_how_the_answer_was_cut_into_tokens(
    annotated: Pairs, cuts: list[int], weights: list[float]
) -> None:
    """Each token's alternatives hold every number at its number's position, so all expectations are known."""
    tokens, _ = unzipped(annotated)
    text = written(annotated)
    numbers = parse.token_lines(text, tokens)
    bounds = sorted({0, len(text), *(cut % len(text) for cut in cuts)})
    pieces, required = [], {}
    for start, end in pairwise(bounds):
        piece, top = text[start:end], {text[start:end]: 0.5, "junk": 0.3}
        for index in [i for i, n in enumerate(numbers) if start <= n.start < end][:1]:
            number, split = numbers[index], numbers[index].start + len(numbers[index].text) > end
            head, tail = piece[: number.start - start], piece[number.start - start + len(number.text) :]
            levels = range(10 if split else 11)
            top = {f"{head}{level}{tail}": weights[level] for level in levels} | {"junk": 0.3}
            means = [10 if split and level == 1 else level for level in levels]
            required[index] = np.average(means, weights=weights[: len(levels)])
        pieces.append((piece, top))
    result = parse.expected_at(completion(*pieces), numbers)
    assert {index: result[index] for index in required} == {index: pytest.approx(required[index]) for index in required}


def test_expected_values_by_hand() -> None:
    """Tokens that merge the tab or the line break with a number, that split 10, or that offer no number at all."""
    answer = completion(
        ("a", {"a": 1.0}), ("\t7", {"\t7": 0.6, "\t3": 0.2, "7": 0.1, " 7": 0.1}), ("\nb\t", {"\nb\t": 1.0}),
        ("5\n", {"5\n": 0.5, "6\n": 0.5, "9": 0.4, "9,": 0.4}), ("c\t", {"c\t": 1.0}), ("1", {"1": 0.75, "2": 0.25}),
        ("0", {"0": 0.9, "\n": 0.1}), ("\nd\t", {"\nd\t": 1.0}), ("4", {"?": 0.9}),
    )  # fmt: skip
    numbers = parse.token_lines(answer.text, ["a", "b", "c", "d"])
    assert parse.expected_at(answer, numbers) == [pytest.approx(6.0), pytest.approx(5.5), pytest.approx(8.0), None]
    for wrong in (answer.logprobs[1:], answer.logprobs[:-1], (*answer.logprobs, TokenLogprobs("\n", {"\n": 0.0})), ()):
        with pytest.raises(AnswerError):
            parse.expected_at(Completion(answer.text, logprobs=wrong), numbers)


def test_a_ten_that_was_split_keeps_what_the_whole_ten_had() -> None:
    answer = completion(("a\t", {"a\t": 1.0}), ("1", {"1": 0.5, "10": 0.25, "2": 0.25}), ("0", {"0": 1.0}))
    assert parse.expected_at(answer, parse.token_lines(answer.text, ["a"])) == [pytest.approx(8.0)]
