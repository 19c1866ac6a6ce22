"""The provider `vllm` against the transformers judge, on an engine of the same tiny model; how it starts and fails."""

import asyncio
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from autointerp import config, simulators
from autointerp.llm import specs
from autointerp.llm.ask import answered_by
from autointerp.llm.faults import CallError
from autointerp.llm.providers.hf.provider import LocalProvider
from autointerp.llm.providers.vllm.provider import EngineProvider
from autointerp.llm.resolver import LiveResolver
from autointerp.llm.types import Answer, Completion, Message, Question, Request
from autointerp.records import Explanation
from autointerp.sections import Runtime
from sae.common.errors import UserError
from tests.autointerp.llm.hf.conftest import folders
from tests.autointerp.llm.hf.tiny import ask, byte_level, chat, digits_apart, gpt2, save, slotted
from tests.autointerp.llm.vllm import shapes
from tests.autointerp.llm.vllm.engine import TinyEngine, tiny

__all__ = ["folders"]
CONTEXT = 400


@pytest.fixture(params=["stand-ins", "own"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """vLLM's values: stand-ins, and its own classes where they are installed."""
    if request.param == "own":
        return shapes.own()
    shapes.install(monkeypatch)
    return shapes.STAND_INS


def opened(folder: Path, kind: Any, context: int = CONTEXT) -> EngineProvider:
    return EngineProvider(str(folder), tiny(folder, kind, context))


def engine_of(provider: EngineProvider) -> TinyEngine:
    assert isinstance(provider._engine, TinyEngine)
    return provider._engine


def answers(provider: Any, *requests: Request) -> list[Completion]:
    return ask(provider, *requests)


def likelihood(head: str, text: str) -> Request:
    return Request("m", (Message("user", head + text),), max_tokens=1, likelihood_from=len(head))


def test_ten_in_two_tokens_is_read_as_by_transformers(tmp_path: Path, kind: Any) -> None:
    tokenizer = digits_apart()
    folder = save(gpt2(len(tokenizer)), tokenizer, tmp_path / "gpt2")
    (one,), (other,) = (
        ask(it, slotted("red stone")) for it in (LocalProvider(str(folder), "cpu"), opened(folder, kind))
    )
    assert_close(other, one)
    assert all(set(slot) >= {"1", "10"} for slot in other.slots)


def assert_close(one: Completion, other: Completion) -> None:
    assert (one.text, one.stop, one.usage) == (other.text, other.stop, other.usage)
    assert len(one.slots) == len(other.slots)
    for mine, theirs in zip(one.slots, other.slots, strict=True):
        assert dict(mine) == pytest.approx(dict(theirs), abs=1e-4)
    assert [item.token for item in one.logprobs] == [item.token for item in other.logprobs]
    for item, same in zip(one.logprobs, other.logprobs, strict=True):
        assert dict(item.top) == pytest.approx(dict(same.top), abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_every_kind_of_answer_is_that_of_the_transformers_judge(folders: dict[str, Path], name: str, kind: Any) -> None:
    requests = [
        slotted("red stone river"), slotted("river", few_shot="Another beginning.\n"),
        likelihood("About stones.\n", "the 10 stones\nriver \N{SNOWMAN} red"), likelihood("Of", "river\tunknown"),
        chat("Why?"), chat("What are the stones?", top_logprobs=4), chat("red", max_tokens=60, top_logprobs=2),
    ]  # fmt: skip
    expected = answers(LocalProvider(str(folders[name]), device="cpu"), *requests)
    for one, other in zip(answers(opened(folders[name], kind), *requests), expected, strict=True):
        assert_close(one, other)
    assert len({round(value, 3) for slot in expected[0].slots for value in slot.values()}) > 20, "the model is too flat"


def test_an_answer_that_ends_by_itself_loses_its_last_token(folders: dict[str, Path], kind: Any) -> None:
    """A model whose likeliest token after this prompt is `</s>`."""
    request, folder = chat("Why?", top_logprobs=2), folders["llama"].parent / "ends"
    shutil.copytree(folders["llama"], folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = opened(folder, kind).tokens.chat(request).ids
    with torch.no_grad():
        model.lm_head.weight[1] = 50 * model.model(torch.tensor([ids])).last_hidden_state[0, -1]
    model.save_pretrained(folder)
    (one,), (other,) = (
        answers(opened(folder, kind), request),
        answers(LocalProvider(str(folder), device="cpu"), request),
    )
    assert (one.text, one.stop, one.logprobs, one.usage.tokens_out) == ("", "stop", (), 0)
    assert_close(one, other)


def test_simulated_activations_are_those_of_the_transformers_judge(tmp_path: Path, kind: Any) -> None:
    """All at once, through the simulator itself and its prompt."""
    tokenizer = byte_level(bos=False)
    small = gpt2(len(tokenizer)).config
    folder = save(GPT2LMHeadModel(GPT2Config(**small.to_dict() | {"n_positions": 4096})), tokenizer, tmp_path)
    predicted = []
    for spec, provider in (
        ("hf/m", LocalProvider(str(folder), device="cpu")),
        ("vllm/m", opened(folder, kind, context=4096)),
    ):
        simulator = simulators.make(config.Config(simulator=spec))

        def answer(question: Question, provider: Any = provider) -> Answer:
            assert isinstance(question, Request)
            return answers(provider, question)[0]

        task = simulator.simulate(Explanation("stones", "p", "m"), [(" red", " stone", " 10"), ("river",)])
        predicted.append([value for fragment in answered_by(task, answer) for value in fragment])
    assert len(predicted[0]) == 4
    assert predicted[1] == pytest.approx(predicted[0], abs=1e-4)
    assert len({round(value, 3) for value in predicted[0]}) == 4


def test_what_the_engine_is_asked(folders: dict[str, Path], kind: Any) -> None:
    provider, schema = opened(folders["gpt2"], kind), '{"type":"object"}'
    sampled = [chat("Why?", schema=schema, temperature=0.5, sample=sample) for sample in (1, 2)]
    answers(provider, *sampled, slotted("red stone"))
    first, second, slots = (params for _, params in engine_of(provider).seen)
    assert (first.structured_outputs.json, first.temperature, first.logprobs) == (schema, 0.5, None)
    assert first.seed != second.seed
    assert 0 <= min(first.seed, second.seed) <= max(first.seed, second.seed) < 2**63
    assert (slots.max_tokens, slots.temperature, slots.structured_outputs) == (1, 0.0, None)
    rows = [list(map(int, row)) for row in slots.prompt_logprob_token_ids]
    assert rows == [list(provider.tokens.numbers.values())] * len(rows)
    assert slots.prompt_logprob_start + 1 + len(rows) == len(engine_of(provider).seen[2][0]["prompt_token_ids"])


def test_an_answer_may_fill_the_context(folders: dict[str, Path], kind: Any) -> None:
    provider = opened(folders["gpt2"], kind, context=50)
    (answer,) = answers(provider, chat("Why?", max_tokens=10_000))
    ((prompt, params),) = engine_of(provider).seen
    assert len(prompt["prompt_token_ids"]) + params.max_tokens == 50
    assert answer.stop == "stop" or answer.usage.tokens_in + answer.usage.tokens_out == 50


def test_a_prompt_beyond_the_context_is_rejected(folders: dict[str, Path], kind: Any) -> None:
    for request in (slotted("red " * CONTEXT), chat("1" * CONTEXT), chat("Why?", temperature=2.5)):
        with pytest.raises(CallError) as caught:
            answers(opened(folders["gpt2"], kind), request)
        assert caught.value.kind == "rejected"
        assert "\n" not in str(caught.value)


def test_failures_of_the_engine_are_errors_of_the_call(folders: dict[str, Path], kind: Any) -> None:
    provider = opened(folders["gpt2"], kind)
    for error, expected in ((kind.EngineDeadError(), "fatal"), (kind.VLLMServerError("no\nluck"), "transient")):
        engine_of(provider).raises = error
        with pytest.raises(CallError) as caught:
            answers(provider, chat("Why?"))
        assert caught.value.kind == expected
        assert "\n" not in str(caught.value)


def test_dropped_scores_are_asked_for_again(
    folders: dict[str, Path], kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM drops them where a prefill starts behind the first row, after a preemption."""
    monkeypatch.setattr(TinyEngine, "_prompt_scores", lambda *_: None)
    with pytest.raises(CallError, match="no log-probabilities of the prompt") as caught:
        answers(opened(folders["gpt2"], kind), slotted("red"))
    assert caught.value.kind == "transient"


def test_the_weights_are_in_the_cache_key_and_closing_stops_the_engine(folders: dict[str, Path], kind: Any) -> None:
    provider, same = opened(folders["gpt2"], kind), LocalProvider(str(folders["gpt2"]), device="cpu")
    assert provider.fingerprint == same.fingerprint
    assert provider.fingerprint != opened(folders["llama"], kind).fingerprint
    assert (provider.endpoint, provider.has_timeout) == (f"vllm/{folders['gpt2']}", False)
    asyncio.run(provider.close())
    assert not engine_of(provider).is_running


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> list[dict[str, Any]]:
    """The settings of the engines that are started, each the gpt2."""
    settings: list[dict[str, Any]] = []

    def from_engine_args(arguments: SimpleNamespace) -> TinyEngine:
        settings.append(vars(arguments))
        if not Path(arguments.model).is_dir():
            raise OSError(f"{arguments.model} is not a local folder\nand no model")
        return TinyEngine(folders["gpt2"], shapes.STAND_INS, CONTEXT)

    engine = SimpleNamespace(from_engine_args=from_engine_args)
    shapes.install(monkeypatch, AsyncEngineArgs=SimpleNamespace, AsyncLLM=engine)
    return settings


def test_a_spec_starts_an_engine_and_a_run_asks_it(
    started: list[dict[str, Any]], folders: dict[str, Path], tmp_path: Path
) -> None:
    spec = f"vllm/{folders['gpt2']}"
    assert specs.parse(spec).folder == folders["gpt2"]
    assert specs.parse(spec).has_prompt_logprobs
    request = replace(chat("Why?"), model=spec)
    with LiveResolver([spec], Runtime(device="cpu", gpus=2, gpu_share=0.5), tmp_path) as session:
        answer = session._runner.run(session.client.answer(request))
    assert answer == answers(LocalProvider(str(folders["gpt2"]), device="cpu"), request)[0]
    (settings,) = started
    assert settings == {
        "model": str(folders["gpt2"]), "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5, "max_model_len": -1,
        "max_logprobs": -1, "disable_log_stats": True,
    }  # fmt: skip


def test_what_cannot_be_loaded_is_said_in_one_line(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="cannot load vllm/no/such-model: no/such-model is not") as caught:
        LiveResolver(["vllm/no/such-model"], Runtime(), tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.delattr(shapes.SamplingParams, "prompt_logprob_token_ids")  # an older version
    with pytest.raises(UserError, match=r"0\.33 or newer; run: pip install 'autointerp\[vllm\]'"):
        LiveResolver(["vllm/no/such-model"], Runtime(), tmp_path)


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"run: pip install 'autointerp\[vllm\]'") as caught:
        LiveResolver(["vllm/any"], Runtime(), tmp_path)
    assert "\n" not in str(caught.value)


def test_the_settings_are_those_of_the_true_engine() -> None:
    """Where vLLM is installed: AsyncEngineArgs takes what `start` gives it."""
    arguments = pytest.importorskip("vllm.engine.arg_utils", reason="vLLM is not installed", exc_type=ImportError)
    names = ("model", "tensor_parallel_size", "gpu_memory_utilization", "max_model_len", "max_logprobs")
    assert {*names, "disable_log_stats"} <= set(arguments.AsyncEngineArgs.__dataclass_fields__)
