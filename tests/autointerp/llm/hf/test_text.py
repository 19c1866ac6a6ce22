"""Generated text, its log-probabilities and its length, against plain forward passes of tiny models."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from autointerp.llm.faults import CallError
from autointerp.llm.providers.hf.drafts import Draft
from autointerp.llm.providers.hf.provider import LocalProvider
from autointerp.llm.types import Completion, Request
from tests.autointerp.llm.hf.tiny import (
    CONTEXT,
    ask,
    chat,
    slotted,
)


def naive(folder: Path, prompt: str, count: int) -> str:
    """The likeliest token each time, by one plain forward pass per token."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = (LlamaForCausalLM if folder.name == "llama" else GPT2LMHeadModel).from_pretrained(folder).eval()
    ids: list[int] = tokenizer(prompt)["input_ids"]
    start = len(ids)
    while len(ids) < start + count and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_greedy_text_is_that_of_plain_forward_passes(folders: dict[str, Path], name: str) -> None:
    texts = ["Why?", "What are the stones in the river?", "red"]
    answers = ask(LocalProvider(str(folders[name]), device="cpu"), *(chat(text) for text in texts))
    for text, answer in zip(texts, answers, strict=True):
        assert answer.text == naive(folders[name], f"Be brief.\n\nUser: {text}\n\nAssistant:", 12)


def test_samples_depend_on_the_request_alone(judge: LocalProvider) -> None:
    asked = [chat("Why?", temperature=1.0, sample=sample) for sample in range(4)]
    alone = [ask(judge, request)[0] for request in asked]
    again = ask(judge, chat("Something longer to share the batch with", temperature=2.0), *reversed(asked))
    assert list(reversed(again[1:])) == alone
    assert len({answer.text for answer in alone}) == 4


def tokens_of(judge: LocalProvider, text: str) -> list[int]:
    return judge.tokens._ids(text)


Script = Callable[[list[int]], None]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes models choose these tokens."""

    def install(ids: list[int]) -> None:
        monkeypatch.setattr(Draft, "_choose", lambda draft, logits: ids[len(draft.ids)])

    return install


@pytest.mark.parametrize(
    "text",
    ["naïve € 🙂 10 stones", "🙂🙂", "ends in a cut 🙂", " \n\t unknown", "a real \N{REPLACEMENT CHARACTER} one"],
)
def test_token_texts_concatenate_to_the_text(one: LocalProvider, script: Script, text: str) -> None:
    ids = tokens_of(one, text)
    if "cut" in text:
        ids = ids[:-1]
    script([*ids, 1])
    (answer,) = ask(one, chat("Why?", max_tokens=99, top_logprobs=3))
    assert "".join(part.token for part in answer.logprobs) == answer.text
    assert answer.text == (text.replace("🙂", "\N{REPLACEMENT CHARACTER}") if "cut" in text else text)
    assert (len(answer.logprobs), answer.stop, answer.usage.tokens_out) == (len(ids), "stop", len(ids))


def test_a_character_in_pieces_comes_with_its_last(one: LocalProvider, script: Script) -> None:
    script([*tokens_of(one, "a€b"), 1])
    (answer,) = ask(one, chat("Why?", top_logprobs=1))
    assert [part.token for part in answer.logprobs] == ["a", "", "", "€", "b"]


def test_log_probabilities_are_those_of_the_unscaled_softmax(folders: dict[str, Path], one: LocalProvider) -> None:
    (answer,) = ask(one, chat("Why?", temperature=3.0, top_logprobs=5, max_tokens=4))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folders["gpt2"])
    model = GPT2LMHeadModel.from_pretrained(folders["gpt2"]).eval()
    ids = tokenizer("Be brief.\n\nUser: Why?\n\nAssistant:")["input_ids"]
    with torch.no_grad():
        logprobs_V = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    first = answer.logprobs[0]
    assert first.token in first.top
    assert max(first.top.values()) == pytest.approx(float(logprobs_V.max()), abs=1e-4)
    assert len(first.top) in (4, 5, 6)  # two pieces of characters have one text
    assert all(part.token in part.top for part in answer.logprobs)


def test_length_stops(one: LocalProvider, script: Script) -> None:
    script([5] * 50)
    short, long = ask(one, chat("Why?", max_tokens=3), chat("Why?", max_tokens=7))
    assert [(answer.stop, answer.usage.tokens_out) for answer in (short, long)] == [("length", 3), ("length", 7)]


def test_the_context_ends_an_answer(one: LocalProvider, script: Script) -> None:
    script([5] * CONTEXT)
    answers = ask(one, chat("1" * (CONTEXT - 30), max_tokens=CONTEXT), chat("Why?", max_tokens=60))
    assert answers[0].stop == "length"
    assert answers[0].usage.tokens_in + answers[0].usage.tokens_out == CONTEXT
    assert answers[1].usage.tokens_out == 60


@pytest.mark.parametrize("request_", [slotted("red " * CONTEXT), chat("1" * CONTEXT)], ids=["slots", "chat"])
def test_a_prompt_beyond_the_context_is_rejected_alone(one: LocalProvider, request_: Request) -> None:
    async def both() -> list[Completion | BaseException]:
        return await asyncio.gather(one.complete(request_), one.complete(slotted("red")), return_exceptions=True)

    error, answer = asyncio.run(both())
    assert isinstance(error, CallError)
    assert error.kind == "rejected"
    assert str(CONTEXT) in str(error)
    assert "\n" not in str(error)
    assert isinstance(answer, Completion)
