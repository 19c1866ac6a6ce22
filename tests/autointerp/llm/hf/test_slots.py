"""Log-probabilities at a prompt's slots, against plain forward passes of tiny models."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from autointerp.llm.faults import CallError
from autointerp.llm.providers.hf.provider import LocalProvider
from autointerp.llm.types import Completion, Message, Request
from tests.autointerp.llm.hf.tiny import NUMBERS, ask, chat, digits_apart, gpt2, save, slotted


def expected_value(logprobs: dict[str, float]) -> float:
    """The sum of v p(v) over the sum of p(v)."""
    p = {int(text): torch.tensor(value, dtype=torch.float64).exp().item() for text, value in logprobs.items()}
    return sum(value * share for value, share in p.items()) / sum(p.values())


def expected_values(answer: Completion) -> list[float]:
    return [expected_value(dict(logprobs)) for logprobs in answer.slots]


def by_hand(folder: Path, request: Request) -> tuple[list[dict[str, float]], int]:
    """Log-probabilities of the numbers at each slot, by a forward pass over the text before it; the text's tokens."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    kind = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "mistral": MistralForCausalLM}[folder.name]
    model = kind.from_pretrained(folder).eval()
    text, result = request.messages[0].content, []
    ids: list[int] = tokenizer(text[: request.slots[0]])["input_ids"]  # with BOS, if the tokenizer adds it
    for start, end in zip(request.slots, [*request.slots[1:], len(text)], strict=True):
        with torch.no_grad():
            logprobs_V = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        result.append({text: float(logprobs_V[tokenizer.convert_tokens_to_ids(text)]) for text in NUMBERS})
        ids = ids + tokenizer(text[start:end], add_special_tokens=False)["input_ids"]
    return result, len(ids)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_expected_values_equal_a_hand_computation_over_the_full_softmax(folders: dict[str, Path], name: str) -> None:
    request = slotted("red stone river the red")
    (answer,) = ask(LocalProvider(str(folders[name]), device="cpu"), request)
    expected, tokens = by_hand(folders[name], request)
    assert [list(slot) for slot in answer.slots] == [NUMBERS] * 5
    assert expected_values(answer) == pytest.approx([expected_value(slot) for slot in expected], abs=1e-5)
    for slot, hand in zip(answer.slots, expected, strict=True):
        assert dict(slot) == pytest.approx(hand, abs=1e-4)
    assert (answer.text, answer.stop, answer.logprobs) == ("", "stop", ())
    assert (answer.usage.calls, answer.usage.tokens_in, answer.usage.tokens_out) == (1, tokens, 0)
    assert answer.usage.cost_usd == 0.0
    assert torch.tensor(expected_values(answer)).std() > 1e-3, "the model is too flat for this test to mean anything"


def test_batch_mates_change_no_answer(judge: LocalProvider) -> None:
    requests = [slotted("red " * n + "stone", "stones " * (n % 3)) for n in range(1, 8)]
    requests.append(slotted("river the", few_shot="Another beginning.\n"))
    alone = [ask(judge, request)[0] for request in requests]
    for answer, single in zip(ask(judge, *requests), alone, strict=True):
        assert expected_values(answer) == pytest.approx(expected_values(single), abs=1e-5)
        assert answer.usage == single.usage


def test_calls_that_wait_share_a_batch(one: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    answers = one._answers
    monkeypatch.setattr(one, "_answers", lambda calls: sizes.append(len(calls)) or answers(calls))
    ask(one, *(slotted(f"red {n}") for n in range(20)), *(chat(f"{n}", max_tokens=1) for n in range(3)))
    assert sorted(sizes) == [3, 4, 16]


def test_a_prefix_is_run_once_and_answers_stay_the_same(folders: dict[str, Path], judge: LocalProvider) -> None:
    folder = Path(judge.endpoint.removeprefix("hf/"))
    batch = [slotted("red " * n + "stone") for n in range(1, 5)]
    runs = []
    for requests in (batch, batch, [slotted("river", "rivers")], batch):
        before = judge.network.tokens_run
        answers = ask(judge, *requests)
        runs.append(judge.network.tokens_run - before)
        for request, answer in zip(requests, answers, strict=True):
            expected = [expected_value(slot) for slot in by_hand(folder, request)[0]]
            assert expected_values(answer) == pytest.approx(expected, abs=1e-5)
    prompt = ask(judge, batch[0])[0].usage.tokens_in
    assert runs[1] < runs[0] - prompt / 2, "the second time the prefix was run again"
    if folder.name != "mistral":  # what a sliding window dropped cannot be had back
        assert runs[2] < prompt / 2, "what two prefixes share was run again"


def test_no_slots_in_a_prefix_are_lost(one: LocalProvider) -> None:
    """A slot within what all prompts share."""
    same = slotted("red stone river")
    longer = slotted("red stone river the")
    for answer, single in zip(ask(one, same, longer), [ask(one, same)[0], ask(one, longer)[0]], strict=True):
        assert expected_values(answer) == pytest.approx(expected_values(single), abs=1e-5)


def test_a_vocabulary_without_numbers_gives_empty_answers(tmp_path: Path) -> None:
    words = {word: index for index, word in enumerate(["<unk>", "red", "stone", "unknown"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = save(
        gpt2(len(words)), PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"), tmp_path / "words"
    )
    judge = LocalProvider(str(folder), device="cpu")
    (answer,) = ask(judge, slotted("red stone"))
    assert judge.tokens.numbers == {}
    assert answer.slots == ({}, {})


def test_a_tokenizer_that_puts_a_space_before_texts(tmp_path: Path) -> None:
    """As Llama 2's: 5 alone is "▁5", but after a tab it is "5", and no slot may get a space."""
    letters = sorted(set("▁\n\tunkowredst0123456789"))
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(["<unk>", *letters, "▁5"])}, [("▁", "5")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    judge = LocalProvider(str(save(gpt2(len(wrapped)), wrapped, tmp_path / "space")), device="cpu")
    assert wrapped.decode(wrapped("5")["input_ids"]) == "5", "decoding tells them not apart"
    assert {text: wrapped.convert_ids_to_tokens(token) for text, token in judge.tokens.numbers.items()} == {
        text: text for text in NUMBERS[:10]
    }
    request = replace(slotted("red", few_shot=""), messages=(Message("user", "red\tunknown\n"),), slots=(4,))
    assert wrapped.decode(judge.tokens.slotted(request).ids) == "red\tunknown\n"


def test_ten_in_two_tokens_is_told_from_one(tmp_path: Path) -> None:
    """How likely a 0 is behind the 1 divides the probability of the 1."""
    tokenizer = digits_apart()
    judge = LocalProvider(str(save(gpt2(len(tokenizer)), tokenizer, tmp_path / "gpt2")), device="cpu", batch=2)
    request = slotted("red stone river")
    one, zero = (tokenizer.convert_tokens_to_ids(digit) for digit in "10")
    prompt = judge.tokens.slotted(request)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "gpt2").eval()
    (answer,) = ask(judge, request)
    assert judge.tokens.ten == [one, zero]
    for slot, position in zip(answer.slots, prompt.positions, strict=True):
        ids = torch.tensor([[*prompt.ids[:position], one]])
        with torch.no_grad():
            logprobs_TV = model(ids).logits[0].log_softmax(-1)
        both = float(logprobs_TV[-2, one] + logprobs_TV[-1, zero])
        assert slot["10"] == pytest.approx(both, abs=1e-4)
        assert math.exp(slot["1"]) + math.exp(slot["10"]) == pytest.approx(float(logprobs_TV[-2, one].exp()), abs=1e-5)


def test_a_slot_before_any_token_is_rejected(one: LocalProvider) -> None:
    with pytest.raises(CallError, match="before the first slot"):
        ask(one, Request("hf/tiny", (Message("user", "unknown"),), 1, slots=(0,)))


def test_a_batch_too_large_for_the_memory_is_halved(one: LocalProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [slotted("red " * n) for n in range(1, 6)]
    expected = [expected_values(answer) for answer in ask(one, *requests)]
    run = one.network._run

    def small(model: Any, ids_BT: torch.Tensor, *rest: Any, **settings: Any) -> Any:
        if len(ids_BT) > limit:
            raise torch.OutOfMemoryError("no")
        return run(model, ids_BT, *rest, **settings)

    monkeypatch.setattr(one.network, "_run", small)
    limit = 2
    for answer, values in zip(ask(one, *requests), expected, strict=True):
        assert expected_values(answer) == pytest.approx(values, abs=1e-5)
    limit = 0
    with pytest.raises(CallError, match="no memory for a prompt of"):
        ask(one, requests[0])
