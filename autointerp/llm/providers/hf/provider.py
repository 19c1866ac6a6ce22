"""Runs a causal language model in this process, by transformers. Calls that wait at the same time run as one batch.

torch and transformers load with the first model, not with this module. `tokens` turns texts to token ids and back,
`network` and `drafts` compute on token ids.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from autointerp.llm.faults import CallError
from autointerp.llm.providers import Provider
from autointerp.llm.providers.hf.drafts import Draft, Prompt
from autointerp.llm.providers.hf.loading import device_for, load, weights_of
from autointerp.llm.providers.hf.network import Network
from autointerp.llm.providers.hf.requests import kind_of, prompt_of, seed_of
from autointerp.llm.providers.hf.tokens import Tokens
from autointerp.llm.types import Completion, Request


@dataclass(eq=False)
class _Call:
    """Holds a request in tokens, then its answer."""

    request: Request
    prompt: Prompt
    answer: Completion | None = None


class LocalProvider(Provider):
    """Runs a language model in one worker thread. Ignores a request's JSON schema: nothing constrains the answer.

    A slot is answered with the log-probabilities of the numbers 0 to 10 under the full softmax; where "10" is two
    tokens, that takes a short pass more for each slot. In float32 (CPU) the
    other prompts of a batch change those by about 1e-6, in bfloat16 (CUDA) by that type's rounding. A temperature of
    None is 0: the likeliest token each time.
    """

    def __init__(self, model: str, device: str = "auto", batch: int = 16) -> None:
        """Load a hub name or a directory. Raises UserError if it cannot be loaded.

        Args:
            device: `auto`, or as torch names it.
            batch: most prompts that run at once.
        """
        self.device = device_for(device)
        loaded = load(model, self.device)
        precision = str(loaded.model.dtype).removeprefix("torch.")
        tokens = Tokens(loaded.tokenizer)
        weights = weights_of(model, loaded.model.config)
        super().__init__(f"hf/{model}", f"{weights} {precision}{tokens.fingerprint}", has_timeout=False)
        self.network, self.tokens, self.batch = Network(loaded.model), tokens, batch
        ends = loaded.model.generation_config.eos_token_id
        self._ends = {loaded.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hf")
        self._waiting: list[_Call] = []

    async def complete(self, request: Request) -> Completion:
        """Make one attempt. Raises CallError for a prompt that does not fit the model or the memory.

        Two steps in the worker: all calls that are there by now have joined the queue when the first is answered.
        """
        loop = asyncio.get_running_loop()
        call = await loop.run_in_executor(self._worker, self._join, request)
        return await loop.run_in_executor(self._worker, self._answered, call)

    async def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _join(self, request: Request) -> _Call:
        call = _Call(request, prompt_of(request, self.tokens, self.network.context, self.endpoint))
        self._waiting.append(call)
        return call

    def _answered(self, call: _Call) -> Completion:
        """Return a call's answer; if there is none yet, answer it together with others of its kind.

        An error reaches this call only: the others have left the queue and are then answered by themselves.
        """
        if call.answer is None:
            alike = [other for other in self._waiting if kind_of(other.request) == kind_of(call.request)]
            batch = [call, *(other for other in alike if other is not call)][: self.batch]
            self._waiting = [other for other in self._waiting if other not in batch]
            for member, answer in zip(batch, self._answers(batch), strict=True):
                member.answer = answer
        assert call.answer is not None
        return call.answer

    def _answers(self, calls: list[_Call]) -> list[Completion]:
        """Answer a batch; where the memory does not hold it, its halves."""
        import torch

        answer = {"likelihood": self._weigh, "slots": self._read, "chat": self._write}[kind_of(calls[0].request)]
        try:
            with torch.no_grad():
                return answer(calls)
        except torch.OutOfMemoryError as error:
            if len(calls) == 1:
                message = f"{self.endpoint}: no memory for a prompt of {len(calls[0].prompt.ids)} tokens"
                raise CallError("rejected", message) from error
        half = len(calls) // 2
        return [*self._answers(calls[:half]), *self._answers(calls[half:])]

    def _weigh(self, calls: list[_Call]) -> list[Completion]:
        prompts = [call.prompt for call in calls]
        return list(map(self.tokens.likely, prompts, self.network.likelihoods(prompts)))

    def _read(self, calls: list[_Call]) -> list[Completion]:
        prompts = [call.prompt for call in calls]
        rows = self.network.logprobs(prompts, list(self.tokens.numbers.values()))
        return list(map(self.tokens.at_slots, prompts, rows, map(self._zeros, prompts)))

    def _zeros(self, prompt: Prompt) -> list[float]:
        """Return the log-probability of the 0 of "10" at each slot where that is two tokens; else nothing."""
        tens = self.tokens.tens(prompt)
        parts = [tens[start : start + self.batch] for start in range(0, len(tens), self.batch)]
        return [value for part in parts for (value,) in self.network.likelihoods(part)]

    def _write(self, calls: list[_Call]) -> list[Completion]:
        drafts = [self._draft(call.request, call.prompt) for call in calls]
        self.network.write(drafts)
        return list(map(self._written, drafts))

    def _written(self, draft: Draft) -> Completion:
        assert draft.stop is not None, "a draft has not stopped"
        return self.tokens.written(draft.prompt, draft.ids, draft.likely, draft.stop)

    def _draft(self, request: Request, prompt: Prompt) -> Draft:
        max_tokens = min(request.max_tokens, self.network.context - len(prompt.ids))
        return Draft(prompt, max_tokens, self._ends, request.temperature, request.top_logprobs, seed_of(request))
