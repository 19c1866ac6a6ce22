"""How excerpts are written: levels against exact arithmetic, marks and escapes that can be read back."""

import ast
import math
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from autointerp.prompting import render
from autointerp.records import ActivationRecord
from sae.common import resources

word = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=4)
tokens = st.lists(word, min_size=1, max_size=12)
activation = st.floats(-(2.0**60), 2.0**60, width=32)


def record(activations: list[float]) -> ActivationRecord:
    return ActivationRecord(("t",) * len(activations), tuple(activations), 0, "top")


@given(st.lists(st.lists(activation, min_size=1, max_size=6), max_size=4))
@example([[0.0, -1.0], [0.0]])
@example([[3.0, 6.0, 7.0], [10.0]])
def test_levels_are_the_formula_in_exact_arithmetic(values: list[list[float]]) -> None:
    relu = [[max(Fraction(0), Fraction(value)) for value in row] for row in values]
    highest = max((value for row in relu for value in row), default=Fraction(0))
    expected = [tuple(min(10, math.floor(10 * v / highest)) if highest else 0 for v in row) for row in relu]
    assert render.levels([record(row) for row in values]) == expected


@given(st.floats(1e-300, 1e308))
@example(1.951377828803449)
def test_the_strongest_activation_is_always_a_ten(highest: float) -> None:
    assert render.levels([record([highest, 0.0])]) == [(10, 0)]


@given(tokens, st.sets(st.integers(0, 11)))
def test_marks_add_nothing_but_themselves_and_stand_around_the_chosen_tokens(
    words: list[str], marked_indices: set[int]
) -> None:
    marked_indices = {index for index in marked_indices if index < len(words)}
    text = render.marked(words, marked_indices)
    assert text.replace("<<", "").replace(">>", "").strip() == render.plain(words)
    runs = [index for index in sorted(marked_indices) if index - 1 not in marked_indices]
    expected = []
    for start in runs:
        end = next(index for index in range(start, len(words) + 1) if index not in marked_indices)
        expected.append("".join(map(render.visible, words[start:end])))
    assert [piece.split(">>")[0] for piece in text.split("<<")[1:]] == expected
    assert text.count("<<") == text.count(">>") == len(runs)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_visible_text_is_one_line_that_can_be_read_back(text: str) -> None:
    seen = render.visible(text)
    assert len(seen.splitlines()) <= 1
    assert "\t" not in seen
    quotes = seen.replace('"', '\\"')
    assert ast.literal_eval(f'"{quotes}"') == text


def test_marks_by_hand() -> None:
    words = ["The", " big", " red", "\n", " dog", "."]
    assert render.marked(words, [1, 2, 4]) == "The<< big red>>\\n<< dog>>."
    assert render.marked(words, [5, 0]) == "<<The>> big red\\n dog<<.>>"
    assert render.strongly_active(record([3.0, 3.1, 0.0, 10.0])) == [1, 3]
    assert render.strongly_active(record([0.0, -1.0])) == []


FEW_SHOTS = sorted((resources.shipped_folder("prompts") / "few_shot").glob("*.yaml"))


@pytest.mark.parametrize("path", FEW_SHOTS, ids=lambda path: path.stem)
def test_few_shots_are_valid_and_become_records(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    shots = render.shots(content)
    assert len(shots) == len(content["features"]) > 0
    for raw, shot in zip(content["features"], shots, strict=True):
        for excerpt, kept in zip(raw["active"], shot.active, strict=True):
            active = {index: value for index, value in enumerate(kept.activations) if value}
            assert active == excerpt["activations"] != {}
            assert all(isinstance(value, int) and 1 <= value <= render.TOP for value in excerpt["activations"].values())
            assert list(kept.tokens) == excerpt["tokens"]
        assert shot.silent
        assert not any(value for kept in shot.silent for value in kept.activations)
        assert {kept.source for kept in shot.silent} == {"inactive"}
        assert shot.promoted
        assert shot.explanation.strip() == shot.explanation != ""
