"""The likelihood of a prompt's end, against plain forward passes; and what surprisal makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer

from autointerp import config, scorers
from autointerp.llm.ask import answered_by
from autointerp.llm.cache import canonical, key_of
from autointerp.llm.faults import CallError
from autointerp.llm.providers.hf.provider import LocalProvider
from autointerp.llm.types import Answer, Completion, Message, Question, Request, TokenLogprobs
from autointerp.records import AnswerError, Explanation
from autointerp.scorers import Scorer
from autointerp.sections import Records, Sampling, ScoreRecords
from sae.common.errors import UserError
from tests.autointerp.llm.hf.tiny import ask, chat, slotted
from tests.autointerp.test_judged_scorers import feature

HEAD = "About stones.\n"


def request_of(head: str, text: str) -> Request:
    return Request("hf/tiny", (Message("user", head + text),), max_tokens=1, likelihood_from=len(head))


def by_hand(folder: Path, head: str, text: str) -> list[float]:
    """The log-probability of each token of the text, by one forward pass over each beginning."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids: list[int] = tokenizer(head)["input_ids"]  # with BOS, if the tokenizer adds it
    result = []
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            result.append(float(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token]))
        ids = [*ids, token]
    return result


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_likelihoods_equal_forward_passes_by_hand(folders: dict[str, Path], name: str) -> None:
    """Also in one batch with longer and shorter ones, and with requests of other kinds waiting."""
    texts = ["red stone", "the 10 stones\nriver \N{SNOWMAN} \t10 red stone", "river\tunknown"]
    heads = [HEAD, HEAD * 2, "Of"]
    judge = LocalProvider(str(folders[name]), device="cpu")
    requests = [request_of(head, text) for head, text in zip(heads, texts, strict=True)]
    answers = ask(judge, *requests, slotted("red stone"), chat("hello", max_tokens=2))[:3]
    for head, text, answer in zip(heads, texts, answers, strict=True):
        values = [item.top[item.token] for item in answer.logprobs]
        assert values == pytest.approx(by_hand(folders[name], head, text), abs=1e-4)
        assert "".join(item.token for item in answer.logprobs) == answer.text == text
        assert (answer.stop, answer.slots, answer.usage.tokens_out) == ("stop", (), 0)
    assert len({round(value, 3) for value in by_hand(folders[name], HEAD, texts[1])}) > 5, "the model is too flat"


def test_nothing_before_the_text_is_rejected(one: LocalProvider) -> None:
    with pytest.raises(CallError, match="before the first slot"):
        ask(one, request_of("", "red stone"))


def test_the_offset_is_in_the_key_and_older_keys_stay() -> None:
    plain = Request("hf/tiny", (Message("user", "ab"),), 1)
    keys = {key_of(canonical(request, "")) for request in (plain, request_of("", "ab"), request_of("a", "b"))}
    assert len(keys) == 3
    assert "likelihood_from" not in canonical(plain, "")


def make(**changes: Any) -> Scorer:
    sampling = Sampling(explain=Records(top=1), score=ScoreRecords(top=10, inactive=10))
    return scorers.make("surprisal", config.Config(sampling=sampling, **{"judge": "hf/tiny"} | changes))


@pytest.mark.slow
def test_surprisal_is_the_auroc_of_what_the_explanation_adds(folders: dict[str, Path]) -> None:
    one, explained = feature(1, n_active=3, n_silent=4), Explanation("stones", "p", "m")
    judge = LocalProvider(str(folders["gpt2"]), device="cpu")
    seen: list[Request] = []

    def answer(question: Question) -> Answer:
        assert isinstance(question, Request)
        seen.append(question)
        return ask(judge, question)[0]

    score = answered_by(make().score(one, explained), answer).scores["surprisal"]
    texts = ["".join(r.tokens) for r in one.score if r.source != "random"]
    gains, heads = [], []
    for text in texts:
        both = [r.messages[0].content.removesuffix(text) for r in seen if r.messages[0].content.endswith(text)]
        heads.append(tuple(both))
        gains.append(np.subtract(*(np.mean(by_hand(folders["gpt2"], head, text)) for head in both)))
    assert len(set(heads)) == 1, "all texts stand after the same two beginnings"
    assert ["stones" in head for head in heads[0]] == [True, False]
    assert score == pytest.approx(roc_auc_score([1] * 3 + [0] * 4, gains))


@pytest.mark.parametrize(("gain", "expected"), [(1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)])
def test_what_the_neutral_sentence_gives_as_well_does_not_count(gain: float, expected: float) -> None:
    """Active texts (a...) are likelier anyway, and `gain` more with the explanation."""

    def answer(question: Question) -> Answer:
        assert isinstance(question, Request)
        text = question.messages[0].content[question.likelihood_from :]
        is_active, is_explained = text.startswith(" a"), "the names of rivers" in question.messages[0].content
        value = -9.0 + 3 * is_active + gain * (is_active and is_explained)
        return Completion(text, logprobs=tuple(TokenLogprobs(c, {c: value}) for c in text))

    explained = Explanation("the names of rivers", "p", "m")
    assert answered_by(make().score(feature(0), explained), answer).scores == {"surprisal": expected}


def test_without_silent_texts_it_is_undefined_and_without_an_answer_an_error() -> None:
    explained = Explanation("x", "p", "m")
    assert answered_by(make().score(feature(0, n_silent=0), explained), lambda q: Completion("")).scores == {
        "surprisal": None
    }
    with pytest.raises(AnswerError, match="no log-probabilities"):
        answered_by(make().score(feature(0), explained), lambda q: Completion(""))


@pytest.mark.parametrize("judge", ["rules", "openai/gpt-4o", "http://localhost:1/v1#m"])
def test_it_needs_a_model_in_this_process(judge: str) -> None:
    with pytest.raises(UserError, match=r"set surprisal\.model=hf/NAME"):
        make(judge=judge)
    assert make(judge=judge, surprisal={"model": "hf/tiny"}).models == ("hf/tiny",)
