"""How much models think: what the table says, what is sent for it, and that it is in the cache's key."""

import dataclasses
import json
from datetime import date
from pathlib import Path
from typing import Any

import anthropic.types
import openai.types.shared.reasoning_effort as openai_efforts
import pytest
import yaml

from autointerp import config as configs
from autointerp.llm import efforts, specs
from autointerp.llm.cache import canonical, key_of
from autointerp.llm.efforts import AS_IT_IS, Effort, RequestSettings, family_of, manner_of
from autointerp.llm.estimate import Estimator
from autointerp.llm.pricing import load_prices
from autointerp.llm.providers.anthropic.messages import parameters as to_anthropic
from autointerp.llm.providers.hosted import with_extra
from autointerp.llm.providers.openai.chat import parameters as to_openai
from autointerp.llm.types import EmbeddingRequest, Message, Request
from autointerp.runs.requests import described, models_by_purpose, request_settings
from autointerp.sections import Runtime
from sae.common.errors import UserError

LOCAL = "http://localhost:1/v1#m"
TABLE = yaml.safe_load(efforts.TABLE.read_text("utf-8"))
LISTED = [f"{family['provider']}/{model}" for family in TABLE["families"] for model in family["models"]]


def asked(model: str, stage: str = "simulate", **more: Any) -> Request:
    return Request(model, (Message("user", "hello"),), 100, stage=stage, **more)


def body_of(request: Request) -> dict[str, Any]:
    """The body as its provider sends it."""
    spec = specs.parse(request.model)
    plain = to_anthropic(spec, request) if spec.provider == "anthropic" else to_openai(spec.model, "n", request)
    return {name: value for name, value in with_extra(plain, request).items() if name not in ("model", "messages", "n")}


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("anthropic/claude-haiku-5-5", None, {"thinking": {"type": "disabled"}}),
        ("anthropic/claude-haiku-5-5", "low", {"output_config": {"effort": "low"}}),
        ("anthropic/claude-haiku-4-5-20251001", None, {}),
        ("anthropic/claude-sonnet-5-5", "off", {"thinking": {"type": "between_tools"}}),
        ("anthropic/claude-opus-5-5", None, {"output_config": {"effort": "low"}}),
        ("anthropic/claude-opus-4-8", "high", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ("anthropic/claude-new", None, {}),
        ("anthropic/claude-new", "off", {"thinking": {"type": "disabled"}}),
        ("openai/gpt-4o-mini", None, {"temperature": 0.0}),
        ("openai/gpt-5-nano-2025-08-07", None, {"reasoning_effort": "minimal"}),
        ("openai/gpt-5.4-mini", None, {"reasoning_effort": "none", "temperature": 0.0}),
        ("openai/gpt-5.4-mini", "medium", {"reasoning_effort": "medium"}),
        ("openai/gpt-5.4-mini", "default", {"temperature": 0.0}),
        ("openai/gpt-6-luna", None, {"reasoning_effort": "none"}),
        ("openai/gpt-6.1-sol", None, {"reasoning_effort": "low"}),
        ("openai/o3", None, {"reasoning_effort": "low"}),
        ("google/gemini-2.5-flash", None, {"reasoning_effort": "none", "temperature": 0.0}),
        ("google/gemini-3.5-flash-lite", None, {}),
        ("google/gemini-3.8-flash", None, {"reasoning_effort": "low"}),
        ("google/gemini-3.8-flash", "high", {"reasoning_effort": "high"}),
        ("google/gemini-new", None, {}),
        ("openai/gpt-6-lunar", None, {}),
        ("openai/gpt-6-lunar", "off", {"reasoning_effort": "none"}),
        (LOCAL, None, {"temperature": 0.0}),
        (LOCAL, "low", {"reasoning_effort": "low", "temperature": 0.0}),
    ],
)
def test_what_each_model_is_sent(model: str, effort: Effort | None, sent: dict[str, Any]) -> None:
    if effort == "low" and model == LOCAL:
        assert "reasoning_effort" in body_of(RequestSettings({"simulating": effort}).prepared(asked(model)))  # type: ignore[arg-type]
    request = RequestSettings({"simulating": effort}).prepared(asked(model))
    assert isinstance(request, Request)
    sent = {name: value for name, value in sent.items() if name != "max_tokens"}
    assert {name: value for name, value in body_of(request).items() if name != "max_tokens"} == sent


@pytest.mark.parametrize(
    ("model", "effort", "message"),
    [
        ("anthropic/claude-opus-5-5", "off", "cannot stop thinking; set effort.judging=low"),
        ("openai/gpt-6-astra", "off", "cannot stop thinking"),
        ("openai/gpt-4o", "low", "takes no effort; set effort.judging=default"),
        ("anthropic/claude-haiku-4-5", "high", "takes no effort"),
        ("hf/gpt2", "low", "takes no effort"),
    ],
)
def test_an_effort_that_a_model_lacks_is_one_line(model: str, effort: Effort, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        manner_of(model, effort, "judging")
    assert "\n" not in str(caught.value)


def test_the_table_names_known_models_once_and_only_values_of_the_sdks() -> None:
    assert date(2026, 1, 1) <= TABLE["as_of"] <= date(2100, 1, 1)
    assert len(LISTED) == len(set(LISTED))
    priced = {model for model in load_prices().models if not model.endswith("-pro")}
    assert {model for model in priced if not family_of(model).is_known} == {"openai/gpt-5.2-pro-2025-12-11"}
    assert set(TABLE["unknown"]) == {"anthropic", "openai", "google", "compatible"}
    for family in [*TABLE["families"], *TABLE["unknown"].values()]:
        assert "off" in family or "least" in family
        assert family["temperature"] in ("always", "while_off", "never")
        assert family["logprobs"] in ("always", "while_off", "never")
        for fields in (family.get("off", {}), family.get("least", {}), *family.get("levels", {}).values()):
            _check_fields(fields)


def _check_fields(fields: dict[str, Any]) -> None:
    """Every field and value is one that the SDK's own types list."""
    assert set(fields) <= {"thinking", "output_config", "reasoning_effort"}
    kinds = {"adaptive", "disabled", "between_tools"}
    assert fields.get("thinking", {"type": "adaptive"})["type"] in kinds
    for name in kinds:
        assert hasattr(anthropic.types, f"ThinkingConfig{''.join(map(str.title, name.split('_')))}Param")
    assert fields.get("output_config", {"effort": "low"})["effort"] in ("low", "medium", "high")
    assert fields.get("reasoning_effort", "none") in str(openai_efforts.ReasoningEffort)


def test_log_probabilities_are_not_asked_of_models_that_always_think() -> None:
    assert specs.parse("openai/gpt-4o-mini").has_logprobs
    assert specs.parse("openai/gpt-5.4-mini").has_logprobs
    for model in ("openai/gpt-5-mini", "openai/gpt-6-luna", "openai/o3"):
        assert not specs.parse(model).may_have_logprobs
    with pytest.raises(UserError, match=r"takes no temperature; set simulation\.temperature=null"):
        specs.refuse_temperature(specs.parse("openai/gpt-5-mini"), 0.5, "simulation.temperature")


def test_purposes_have_efforts_of_their_own_and_the_key_knows_them() -> None:
    settings = RequestSettings({"explaining": "high", "simulating": "low", "judging": None}, {LOCAL: {"seed": 1}})
    model = "openai/gpt-5.4"
    bodies = {stage: body_of(settings.prepared(asked(model, stage))) for stage in ("explain", "simulate", "fuzzing")}  # type: ignore[arg-type]
    assert [body["reasoning_effort"] for body in bodies.values()] == ["high", "low", "none"]
    keys = {key_of(canonical(settings.prepared(asked(model, stage)), "")) for stage in bodies}
    assert len(keys) == 3
    echoed = settings.prepared(asked(LOCAL, slots=(0,)))
    assert isinstance(echoed, Request)
    assert (json.loads(echoed.extra), echoed.temperature) == ({"seed": 1}, None)


def test_extra_fields_are_the_users_and_merge_into_objects() -> None:
    extra = {"anthropic/claude-haiku-5-5": {"service_tier": "standard_only", "output_config": {"effort": "medium"}}}
    request = RequestSettings({}, extra).prepared(asked("anthropic/claude-haiku-5-5", schema='{"type": "object"}'))
    assert isinstance(request, Request)
    assert {name: value for name, value in body_of(request).items() if name != "max_tokens"} == {
        "thinking": {"type": "disabled"}, "service_tier": "standard_only",
        "output_config": {"effort": "medium", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    }  # fmt: skip


def test_what_is_given_stays_and_what_is_not_asked_of_an_api_is_not_touched() -> None:
    settings = RequestSettings()
    assert settings.prepared(asked("openai/gpt-4o", temperature=0.7)).temperature == 0.7  # type: ignore[union-attr]
    varied = RequestSettings(varied=frozenset({"simulating"}))
    assert varied.prepared(asked("openai/gpt-4o")).temperature is None  # type: ignore[union-attr]
    for question in (asked("hf/gpt2"), EmbeddingRequest("embedding/e", ("a",))):
        assert settings.prepared(question) is question
    assert AS_IT_IS.prepared(asked("openai/gpt-4o")) == asked("openai/gpt-4o")


def test_a_config_says_who_is_asked_how_and_the_identity_holds_it() -> None:
    changes: dict[str, Any] = {
        "explainers": ["anthropic/claude-opus-5-5", "rules-5"], "simulator": "openai/gpt-5.4", "judge": "rules",
        "scorers": ["simulation", "detection"], "effort.simulating": False,
    }  # fmt: skip
    config = configs.load("judged", changes)
    assert config.effort.simulating == "off"
    assert models_by_purpose(config) == [
        ("explaining", "anthropic/claude-opus-5-5"), ("simulating", "openai/gpt-5.4"),
    ]  # fmt: skip
    assert described(config) == {
        "explaining anthropic/claude-opus-5-5": {"default_temperature": None, "fields": {}},
        "simulating openai/gpt-5.4": {"default_temperature": 0.0, "fields": {"reasoning_effort": "none"}},
    }
    assert described(configs.load("demo")) == {}
    with pytest.raises(UserError, match="hf/gpt2 runs in this process and takes no extra_body"):
        request_settings(configs.load("judged", {"extra_body": {"hf/gpt2": {"a": 1}}}))
    for name in ("max_completion_tokens", "n", "stream"):  # the first two pass any bound on a call's cost
        with pytest.raises(UserError, match=f"leave {name} out"):
            request_settings(configs.load("judged", {"extra_body": {"openai/m": {"seed": 3, name: 4}}}))
    many = configs.load("judged", changes | {"simulation.samples": 3})
    assert described(many)["simulating openai/gpt-5.4"]["default_temperature"] is None


def test_a_dry_run_counts_thinking_up_to_the_limit(tmp_path: Path) -> None:
    def counted(effort: Effort | None) -> tuple[int, bool]:
        settings = RequestSettings({"simulating": effort})
        estimator = Estimator(Runtime(), tmp_path, settings)
        estimator._answer(dataclasses.replace(asked("openai/gpt-5.4")))
        (stage,) = estimator.stages
        return stage.usage.tokens_out, stage.thinks

    assert counted(None) == (0, False)
    assert counted("low") == (100, True)
