"""Costs by hand, price files, and a budget that random crowds of calls cannot pass."""

import asyncio
import random
import re
from datetime import date
from pathlib import Path

import pytest

from autointerp.llm import specs
from autointerp.llm.ask import ask_once
from autointerp.llm.budget import Budget, BudgetReached
from autointerp.llm.estimate import Estimator
from autointerp.llm.pricing import LongPrompt, Price, Prices, load_prices
from autointerp.llm.types import Completion, EmbeddingRequest, Message, Request, Usage
from autointerp.sections import Runtime
from sae.common.errors import UserError

MODEL = "anthropic/m"
PRICES = Prices({MODEL: Price(input=3, output=15, cache_read=0.3, cache_write=3.75)}, 0.5, "2026-01-01")
PLAIN = Prices({MODEL: Price(input=3, output=15)}, 0.25, "")
LONG_PROMPT = LongPrompt(above=999, input=2, output=1.5)
LONG = Prices({MODEL: Price(input=3, output=15, cache_read=0.3, long=LONG_PROMPT)}, 0.5, "")


@pytest.mark.parametrize(
    ("prices", "usage", "microdollars"),
    [
        (PRICES, Usage(1, 1000, 200), 3 * 1000 + 15 * 200),
        (PRICES, Usage(1, 1000, 200, cache_read=600, cache_write=300), 3 * 100 + 0.3 * 600 + 3.75 * 300 + 15 * 200),
        (PRICES, Usage(1, 1000, 200, cache_read=1000, batch=1), (0.3 * 1000 + 15 * 200) / 2),
        (PLAIN, Usage(1, 1000, 200, cache_read=600, cache_write=300), 3 * 1000 + 15 * 200),
        (PLAIN, Usage(1, 1000, 200, batch=1), (3 * 1000 + 15 * 200) / 4),
        (LONG, Usage(1, 999, 200), 3 * 999 + 15 * 200),
        (LONG, Usage(1, 1000, 200, cache_read=600), 2 * (3 * 400 + 0.3 * 600) + 1.5 * 15 * 200),
    ],
)
def test_costs_by_hand(prices: Prices, usage: Usage, microdollars: float) -> None:
    assert prices.cost(MODEL, usage) == pytest.approx(microdollars / 1e6)
    assert prices.with_cost(MODEL, usage).cost_usd == prices.cost(MODEL, usage)


def test_an_unknown_price_is_not_zero_and_models_here_are_free() -> None:
    assert PRICES.cost("anthropic/m-2", Usage(1, 10, 10)) is None
    assert PRICES.bound(Request("anthropic/m-2", (), 10)) is None
    assert (Usage(cost_usd=1.0) + PRICES.with_cost("openai/m", Usage(1, 10, 10))).cost_usd is None
    for model in ("hf/gpt2", "embedding/e"):
        assert PRICES.cost(model, Usage(1, 10, 10)) == 0
    assert PRICES.bound(EmbeddingRequest("embedding/e", ("a",))) == 0


def test_the_bound_is_above_any_possible_cost() -> None:
    """Whatever the prices, texts and usage, while no token is shorter than a byte and max_tokens holds."""
    rng = random.Random(0)
    for _ in range(2000):
        price = Price(
            input=rng.uniform(0, 9), output=rng.uniform(0, 99),
            cache_read=rng.choice([None, rng.uniform(0, 20)]), cache_write=rng.choice([None, rng.uniform(0, 20)]),
            long=rng.choice([None, LongPrompt(above=rng.randint(1, 200), input=rng.uniform(1, 5), output=1.5)]),
        )  # fmt: skip
        prices = Prices({MODEL: price}, rng.uniform(0, 1), "")
        texts = ["".join(rng.choices("aé日🎉\ud800", k=rng.randrange(30))) for _ in range(rng.randint(1, 4))]
        schema = rng.choice([None, "{}"])
        request = Request(MODEL, tuple(Message("user", text) for text in texts), rng.randint(1, 50), schema=schema)
        tokens = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + len(schema or "")
        read = rng.randint(0, tokens)
        written = rng.randint(0, tokens - read)
        batch = rng.randrange(2)
        cost = prices.cost(MODEL, Usage(1, tokens, rng.randint(0, request.max_tokens), read, written, batch))
        bound = prices.bound(request, batch=bool(batch))
        assert cost is not None
        assert bound is not None
        assert cost <= bound


def test_long_prompts_of_the_shipped_list_cost_and_may_cost_what_their_provider_asks() -> None:
    prices = load_prices()
    for model, tokens, microdollars in [
        ("anthropic/claude-haiku-5-5", 100_000, 0.1 * 100_000 + 0.5 * 10),
        ("anthropic/claude-haiku-5-5", 100_001, 0.5 * 100_001 + 2.5 * 10),
        ("openai/gpt-6-luna", 272_001, 0.2 * 272_001 + 0.75 * 10),
        ("google/gemini-2.5-pro", 200_001, 2.5 * 200_001 + 15 * 10),
        ("anthropic/claude-sonnet-5-5", 500_000, 2 * 500_000 + 10 * 10),
    ]:
        cost = prices.cost(model, Usage(1, tokens, 10))
        assert cost == pytest.approx(microdollars / 1e6)
        assert (prices.bound(Request(model, (Message("user", "a" * tokens),), 10)) or 0) >= cost


def test_a_dry_run_counts_a_question_once_and_at_most_its_limit(tmp_path: Path) -> None:
    request = Request("openai/gpt-4o-mini", (Message("user", "how many?"),), 60, example=Completion("7"))
    estimator = Estimator(Runtime(), tmp_path)
    estimator.resolve([ask_once(request, str) for _ in range(3)], lambda index, value: None, lambda: None)
    (stage,) = estimator.stages
    assert (stage.calls, stage.cached, stage.usage.tokens_out) == (1, 0, 1)
    longest = load_prices().cost(request.model, Usage(1, stage.usage.tokens_in, 60))
    assert stage.most_usd == pytest.approx(longest)
    assert longest > 10 * (stage.usage.cost_usd or 0) > 0


def test_the_shipped_prices_are_positive_and_dated() -> None:
    prices = load_prices()
    assert date(2026, 1, 1) <= date.fromisoformat(prices.as_of) <= date(2100, 1, 1)
    assert 0 < prices.batch_factor < 1
    assert {specs.parse(model).provider for model in prices.models} == {"anthropic", "google", "openai"}
    for model, price in prices.models.items():
        assert 0 < price.input <= price.output < 1000, model
        assert 0 < (price.cache_read or price.input) <= price.input <= (price.cache_write or price.input), model


def test_a_price_file_is_laid_over_the_shipped_one(tmp_path: Path) -> None:
    shipped = load_prices()
    name = next(iter(shipped.models))
    (tmp_path / "own.yaml").write_text(f"as_of: 2030-01-02\nmodels: {{'{name}': {{input: 1, output: 2}}, "
                                       "'http://localhost:1/v1#m': {input: 0, output: 0.5}}")  # fmt: skip
    prices = load_prices(str(tmp_path / "own.yaml"))
    assert prices.models[name] == Price(input=1, output=2)
    assert prices.cost("http://localhost:1/v1#m", Usage(1, 10, 10)) == pytest.approx(5e-6)
    assert prices.models.keys() - shipped.models.keys() == {"http://localhost:1/v1#m"}
    assert prices.as_of == "2030-01-02"
    advised = re.search(r"write (.*) to a file", prices.advice("openai/new"))
    assert advised
    (tmp_path / "advised.yaml").write_text(advised.group(1))
    assert "openai/new" in load_prices(str(tmp_path / "advised.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"models: {a: {input: 1}}", "models.a.output is required"),
        (b"models: {a: {input: -1, output: 1}}", "models.a.input"),
        (b"models: {a: {input: .nan, output: 1}}", "models.a.input"),
        (b"models: {a: {input: cheap, output: 1}}", "models.a.input"),
        (b"models: {a: {input: yes, output: 1}}", "models.a.input: write a number"),
        (b"models: {a: {input: .inf, output: 1}}", "models.a.input"),
        (b"models: {a: {input: 1, output: 1}, a: {input: 2, output: 2}}", "stands there twice"),
        (b"models: {a: {input: 1, output: 1, cached: 1}}", "models.a.cached"),
        (b"modles: {}", "modles"),
        (b"- a\n- b", "prices"),
        (b"models: {a: [}", "cannot read"),
        (b"\xff\xfe", "cannot read"),
        (None, "cannot read"),
    ],
)
def test_a_bad_price_file_is_told_in_a_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_prices(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def crowd(budget: Budget, rng: random.Random) -> tuple[int, int]:
    """Calls with random bounds and costs below them, at once, some cancelled; how many were made, how many refused."""
    under_way: dict[int, float] = {}
    assert budget.limit is not None
    limit, made, refused = budget.limit, 0, 0

    async def call(number: int) -> None:
        nonlocal made, refused
        bound, cost = rng.choice([0.0, rng.uniform(0, 0.4), rng.uniform(0, 2)]), 0.0
        try:
            reserved = await budget.reserve(bound)
        except BudgetReached:
            refused += 1
            # The first ends the run; before that, what is under way may leave enough.
            assert refused > 1 or not any(under_way.values())
            assert budget.spent + sum(under_way.values()) + bound > limit - 1e-9
            return
        under_way[number] = bound
        try:
            assert budget.spent + sum(under_way.values()) <= limit + 1e-9
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
            cost = rng.choice([0.0, bound, rng.uniform(0, bound)])
            made += 1
        finally:
            del under_way[number]
            budget.settle(reserved, cost)

    tasks = [asyncio.create_task(call(number)) for number in range(rng.randint(1, 40))]
    for task in rng.sample(tasks, len(tasks) // 4):
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(100):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return made, refused


def test_a_crowd_never_spends_more_than_the_budget() -> None:
    totals = [0, 0]
    for seed in range(300):
        rng = random.Random(seed)
        budget = Budget(rng.choice([0.0, 1.0, 3.0]))
        made, refused = asyncio.run(crowd(budget, rng))
        assert budget.limit is not None
        assert 0 <= budget.spent <= budget.limit
        assert budget.left == pytest.approx(budget.limit - budget.spent)
        totals = [totals[0] + made, totals[1] + refused]
    assert min(totals) > 1000


def test_without_a_limit_everything_fits_and_is_counted() -> None:
    async def spend() -> Budget:
        budget = Budget(None)
        for _ in range(3):
            budget.settle(await budget.reserve(1e9), 0.5)
        budget.settle(await budget.reserve(None), None)
        return budget

    assert asyncio.run(spend()).spent == 1.5


def test_a_call_waits_for_those_under_way_and_a_refusal_says_how_to_go_on() -> None:
    async def spend() -> None:
        budget = Budget(1.0)
        first = await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.7))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.settle(first, 0.2)
        budget.settle(await waiting, 0.7)
        with pytest.raises(BudgetReached, match=r"--max-cost 1: \$0.9000 spent; .*same command continues") as caught:
            await budget.reserve(0.2)
        assert (caught.value.status, "\n" in str(caught.value)) == (1, False)

    asyncio.run(spend())
