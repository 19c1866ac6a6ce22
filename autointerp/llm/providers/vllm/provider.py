"""Runs a causal language model in this process, by vLLM, which forms batches of the calls that are under way.

Prompts reach the engine in token ids, and token ids come back: texts are made of them by the same code as for hf/....
It was written against the classes of vLLM 0.33.0 and tested with them, but never with a running engine. Shape suffixes:
P positions of a prompt from the first that is read to the last, N token ids that are asked for at each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

from autointerp.llm import faults
from autointerp.llm.faults import CallError
from autointerp.llm.providers import Provider
from autointerp.llm.providers.hf.drafts import Prompt
from autointerp.llm.providers.hf.loading import weights_of
from autointerp.llm.providers.hf.requests import kind_of, prompt_of, seed_of
from autointerp.llm.providers.hf.tokens import Tokens
from autointerp.llm.providers.vllm.engine import Engine
from autointerp.llm.types import Completion, Request, StopReason

STOPS: dict[str | None, StopReason] = {"stop": "stop", "length": "length"}
SEEDS = 2**63
"""The engine's seeds are signed 64-bit integers."""


class EngineProvider(Provider):
    """Asks a vLLM engine. Answers are held to a request's JSON schema by vLLM's structured outputs.

    A slot is answered with the log-probabilities of the numbers 0 to 10 under the full softmax. A temperature of None
    is 0: the likeliest token each time. The other prompts of a batch change log-probabilities by rounding.
    """

    def __init__(self, model: str, engine: Engine) -> None:
        """Wrap a running engine.

        Args:
            model: the hub name or directory that the model spec holds.
        """
        self._engine, config = engine.vllm, engine.vllm.model_config
        precision = str(config.dtype).removeprefix("torch.")
        self.tokens = Tokens(engine.tokenizer)
        weights = weights_of(model, config.hf_config)
        super().__init__(f"vllm/{model}", f"{weights} {precision}{self.tokens.fingerprint}", has_timeout=False)
        self._context: int = config.max_model_len
        self._numbers = count()

    async def complete(self, request: Request) -> Completion:
        """Make one attempt. Raises CallError for a prompt that does not fit the model, or a failure of the engine."""
        prompt = prompt_of(request, self.tokens, self._context, self.endpoint)
        kind = kind_of(request)
        if kind == "chat":
            return await self._write(request, prompt)
        if kind == "slots":
            return await self._read(prompt)
        first = prompt.positions[0]
        rows_P1 = await self._scores(prompt, [[token] for token in prompt.ids[first:]])
        return self.tokens.likely(prompt, [row_1[0] for row_1 in rows_P1])

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._engine.shutdown()

    async def _write(self, request: Request, prompt: Prompt) -> Completion:
        from vllm.sampling_params import StructuredOutputsParams

        output = await self._answer(
            prompt.ids,
            max_tokens=min(request.max_tokens, self._context - len(prompt.ids)),
            temperature=request.temperature or 0.0,
            seed=seed_of(request) % SEEDS,
            logprobs=request.top_logprobs or None,
            structured_outputs=StructuredOutputsParams(json=request.schema) if request.schema else None,
        )
        (choice,) = output.outputs
        stop = STOPS.get(choice.finish_reason)
        if stop is None:
            raise CallError("transient", f"{self.endpoint}: stopped for {choice.finish_reason}")
        size = len(choice.token_ids) - (stop == "stop")  # without the token that ends the answer
        likely = [{token: item.logprob for token, item in at.items()} for at in (choice.logprobs or [])[:size]]
        return self.tokens.written(prompt, list(choice.token_ids[:size]), likely, stop)

    async def _read(self, prompt: Prompt) -> Completion:
        numbers, first = list(self.tokens.numbers.values()), min(prompt.positions)
        if not numbers:
            return self.tokens.at_slots(prompt, [[]] * len(prompt.positions))
        rows_PN = await self._scores(prompt, [numbers] * (max(prompt.positions) + 1 - first))
        rows_SN = [rows_PN[position - first] for position in prompt.positions]
        zeros = await asyncio.gather(*(self._scores(one, [[one.ids[-1]]]) for one in self.tokens.tens(prompt)))
        return self.tokens.at_slots(prompt, rows_SN, [rows_11[0][0] for rows_11 in zeros])

    async def _scores(self, prompt: Prompt, candidates_PN: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the log-probabilities of token ids at a prompt's positions, from the first that is read on: [P, N].

        The prompt is cut behind the last of them. One token is generated and ignored: the engine allows no fewer.
        """
        first = min(prompt.positions)
        output = await self._answer(
            prompt.ids[: first + len(candidates_PN)],
            max_tokens=1,
            temperature=0.0,
            prompt_logprob_token_ids=[list(row) for row in candidates_PN],
            prompt_logprob_start=first - 1,  # a row is named by the token before the one that it predicts
        )
        scores_PN = output.prompt_token_id_logprobs
        if scores_PN is None:
            raise CallError("transient", f"{self.endpoint} gave no log-probabilities of the prompt")
        rows: list[list[float]] = scores_PN.tolist()
        return rows

    async def _answer(self, ids: list[int], **settings: Any) -> Any:
        """Return the engine's RequestOutput for a prompt. Raises CallError."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError, VLLMServerError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            whole = SamplingParams(detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY, **settings)
            prompt = {"type": "token", "prompt_token_ids": ids}
            async for output in self._engine.generate(prompt, whole, str(next(self._numbers))):
                if output.finished:
                    return output
        except (VLLMClientError, ValueError) as error:
            raise CallError("rejected", f"{self.endpoint}: {faults.one_line(str(error))}") from error
        except EngineDeadError as error:
            raise CallError("fatal", f"{self.endpoint}: the engine has died; the same command goes on") from error
        except VLLMServerError as error:
            raise CallError("transient", f"{self.endpoint}: {faults.one_line(repr(error))}") from error
        raise CallError("transient", f"{self.endpoint}: the engine gave no answer")
