"""The grammar and its subject: what is held out never stands in the text; accuracy against plain transformers."""

import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.models.subject import Subject, boot
from sae.tasks import words
from sae.tasks.accuracy import held_out, in_tokens, require, right, right_scripts
from sae.tasks.grammar import Prompt, fixed_sequences, indirect_objects, pronouns, sentences, sides
from sae.tasks.subject import CONTEXT, blocks, grammar_subject, recipe, tokenizer, vocabulary

NAMES = "|".join((*words.FEMALE, *words.MALE))


def test_no_held_out_pair_and_no_held_out_action_stands_in_the_text() -> None:
    trained, unseen = sides(0)
    assert not set(trained.pairs) & set(unseen.pairs)
    assert not set(trained.templates) & set(unseen.templates)
    shares = [len(part) / (len(part) + len(rest)) for part, rest in zip(*map(vars_of, (unseen, trained)), strict=True)]
    assert np.allclose(shares, 0.2, atol=0.01)
    pairs = {frozenset(re.findall(NAMES, text)) for text in islice(sentences(0, trained), 4_000)}
    assert not pairs & {frozenset(pair) for pair in unseen.pairs}
    assert len(pairs) > 1_000
    said = {gender_and_start(text) for text in islice(sentences(0, trained, ("pronoun",)), 4_000)}
    forbidden = {(words.FEMALE, words.MALE)[g][n] + a.split("{n}")[1].split("{")[0] for g, n, a in unseen.actions}
    assert not said & forbidden
    assert len(said) > 300


def vars_of(side: object) -> list[tuple[object, ...]]:
    return list(vars(side).values())


def gender_and_start(text: str) -> str:
    """The name and the words up to the first slot, by another way than the grammar's."""
    after = re.split(r", (?=(?:" + NAMES + r")\b)", text, maxsplit=1)[1]
    return next(
        after[: len(name) + len(start)]
        for name in re.findall(NAMES, after)[:1]
        for start in sorted((a.split("{n}")[1].split("{")[0] for a in words.ACTIONS), key=len, reverse=True)
        if after[len(name) :].startswith(start)
    )


def test_the_answer_is_the_one_who_did_not_give() -> None:
    trained, _ = sides(0)
    for one in indirect_objects(trained.pairs, trained.templates, 200, 0):
        first, second, giver = re.findall(NAMES, one.text)
        assert {one.answer.strip(), giver} == {first, second}
        assert re.findall(NAMES, one.counterfactual) == [first, second, one.answer.strip()]
        assert one.other == f" {giver}"


def test_the_pronoun_follows_the_name() -> None:
    trained, _ = sides(0)
    asked = pronouns(trained, 400, 0)
    for one in asked:
        (name,), (other,) = re.findall(NAMES, one.text), re.findall(NAMES, one.counterfactual)
        assert (name in words.FEMALE) == (one.answer.strip() in words.PRONOUNS[0])
        assert (name in words.FEMALE) != (other in words.FEMALE)
        assert one.text.replace(name, "") == one.counterfactual.replace(other, "")
    assert {one.answer.strip() for one in asked} == {word for forms in words.PRONOUNS for word in forms}


def test_every_text_round_trips_and_no_token_is_unknown(subject: Subject) -> None:
    texts = list(islice(sentences(1, sides(1)[0]), 500))
    for text, ids in zip(texts, subject.token_ids(texts), strict=True):
        assert subject.tokenizer.decode(ids) == text
        assert vocabulary().index("<|unknown|>") not in ids
    assert subject.token_strings() == list(vocabulary())


def test_blocks_begin_with_a_sentence_and_are_the_seeds() -> None:
    text = blocks(0, 300)
    assert text.ids_NC.shape == (300, CONTEXT)
    assert (blocks(0, 300).ids_NC == text.ids_NC).all()
    assert (blocks(1, 300).ids_NC != text.ids_NC).any()
    starts = {vocabulary()[index] for index in text.ids_NC[:, 0]}
    assert not [word for word in starts if word.startswith(" ") or word in ".,\n"]


def test_accuracy_is_that_of_plain_transformers(folder: Path, subject: Subject) -> None:
    """One prompt at a time, without padding."""
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    trained, _ = sides(0)
    prompts = fixed_sequences(12) + indirect_objects(trained.pairs, trained.templates, 40, 0)
    texts = [tokenizer().encode(one.text).ids for one in prompts]
    with torch.no_grad():
        best = [int(plain(torch.tensor([ids])).logits[0, -1].argmax()) for ids in texts]
    swapped = [
        Prompt(one.text, vocabulary()[token] if row % 3 else one.answer, one.counterfactual, one.other)
        for row, (one, token) in enumerate(zip(prompts, best, strict=True))
    ]
    expected = [vocabulary()[token] == one.answer for one, token in zip(swapped, best, strict=True)]
    kept = [row for row, one in enumerate(swapped) if len(tokenizer().encode(one.answer).ids) == 1]
    answers = right(subject, in_tokens(subject, [swapped[row] for row in kept])).tolist()
    assert answers == [expected[row] for row in kept]
    assert {True, False} == set(answers)


def test_a_model_that_does_not_do_a_task_is_refused_in_one_line(subject: Subject) -> None:
    with pytest.raises(UserError, match=r"does not do indirect objects: \d.*% of 40 prompts, not 95%$"):
        require(subject, in_tokens(subject, pronouns(sides(0)[0], 40, 0)), "indirect objects")
    with pytest.raises(UserError, match="takes 0 of 20 prompts: too few names are one token there"):
        in_tokens(subject, [Prompt("Then", " two words", "Then", " one")] * 20)


def test_a_script_is_any_of_its_words(subject: Subject) -> None:
    assert len(right_scripts(subject, 0)) == 4 * len(words.SCRIPTS)
    assert set(held_out(subject, 0, 20)) >= {"indirect objects, both held out", "pronouns, names and actions held out"}


@pytest.mark.slow
def test_the_trained_subject_does_every_task_on_what_was_held_out(tmp_path: Path) -> None:
    folder = grammar_subject(tmp_path, recipe(0), Silent)
    assert grammar_subject(tmp_path, recipe(0), Silent) == folder
    for task, answers in held_out(boot(str(folder), prepend_bos=False), 0, 200).items():
        assert np.mean(answers) >= 0.95, task
