"""Runs a causal language model; keeps the shared beginning of its last prompts with slots, to run it only once.

The other prompts of a batch change no answer beyond rounding.

Shape suffixes: B prompts of a batch, T tokens, S slots of a prompt, W tokens from the first slot on, V vocabulary.
"""

import copy
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from autointerp.llm.providers.hf.drafts import Draft, Prompt

if TYPE_CHECKING:
    from torch import Tensor


class Network:
    """Runs a causal language model; keeps keys and values of the shared beginning of its last prompts with slots."""

    def __init__(self, model: Any) -> None:
        self.tokens_run = 0
        """Positions that went through the model so far, padding included."""
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or float("inf")
        self._model = model
        self._prefix: list[int] = []
        self._cache: Any = None

    def logprobs(self, prompts: list[Prompt], tokens: list[int]) -> list[list[list[float]]]:
        """Return for each prompt and each of its positions some tokens' log-probabilities, by the full softmax."""
        return [logprobs_SV[:, tokens].tolist() for logprobs_SV in self._at_positions(prompts)]

    def likelihoods(self, prompts: list[Prompt]) -> list[list[float]]:
        """Return for each prompt and each of its positions the log-probability of the token that stands there."""
        return [
            logprobs_SV[range(len(prompt.positions)), [prompt.ids[position] for position in prompt.positions]].tolist()
            for prompt, logprobs_SV in zip(prompts, self._at_positions(prompts), strict=True)
        ]

    def _at_positions(self, prompts: list[Prompt]) -> Iterator["Tensor"]:
        """Yield each prompt's log-probabilities at its positions, [S, V].

        Shorter prompts are padded on the right, where causal attention never looks: no mask is needed, and positions
        count on from the prefix by themselves.
        """
        import torch

        first = min(min(prompt.positions) for prompt in prompts)
        prefix = _shared([prompt.ids for prompt in prompts])[: first - 1]
        rest = [prompt.ids[len(prefix) : max(prompt.positions)] for prompt in prompts]
        longest = max(map(len, rest))
        ids_BT = torch.tensor([ids + [0] * (longest - len(ids)) for ids in rest])
        past, kept = self._copies(prefix, len(prompts)) if prefix else None, len(prefix) + longest - first + 1
        logits_BWV = self._run(self._model, ids_BT, past_key_values=past, logits_to_keep=kept).logits
        for prompt, logits_WV in zip(prompts, logits_BWV, strict=True):
            logits_SV = logits_WV[[position - first for position in prompt.positions]]
            yield logits_SV.float().log_softmax(-1)

    def write(self, drafts: list[Draft]) -> None:
        """Generate until every draft has stopped, and so left the batch. Shorter prompts are padded on the left."""
        import torch

        longest = max(len(draft.prompt.ids) for draft in drafts)
        missing = [longest - len(draft.prompt.ids) for draft in drafts]
        ids_BT = torch.tensor([[0] * pad + draft.prompt.ids for pad, draft in zip(missing, drafts, strict=True)])
        mask_BT = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in missing], device=self._model.device)
        cache = None
        if longest > 1:  # without the head: only what follows the last token is needed
            cache = self._run(self._model.base_model, ids_BT[:, :-1], mask_BT[:, :-1]).past_key_values
        ids_B1 = ids_BT[:, -1:]
        while drafts:
            output = self._run(self._model, ids_B1, mask_BT, past_key_values=cache)
            cache, logits_BV = output.past_key_values, output.logits[:, -1].float()
            tokens = [draft.take(logits_V) for draft, logits_V in zip(drafts, logits_BV, strict=True)]
            going = [row for row, draft in enumerate(drafts) if draft.stop is None]
            if len(going) < len(drafts):
                cache.reorder_cache(torch.tensor(going, dtype=torch.long, device=self._model.device))
            drafts, ids_B1 = [drafts[row] for row in going], torch.tensor([[tokens[row]] for row in going])
            mask_BT = torch.cat([mask_BT[going], mask_BT.new_ones(len(going), 1)], 1)

    def _run(self, model: Any, ids_BT: "Tensor", mask_BT: "Tensor | None" = None, **settings: Any) -> Any:
        self.tokens_run += ids_BT.numel()
        if mask_BT is not None:
            positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
            settings |= {"attention_mask": mask_BT, "position_ids": positions_BT}
        return model(ids_BT.to(self._model.device), use_cache=True, **settings)

    def _copies(self, ids: list[int], count: int) -> Any:
        """Return the cache of a prefix, once per prompt. What it shares with the last prefix is not run again."""
        import torch

        kept, cache = self._prefix, self._cache
        self._prefix, self._cache = [], None  # should the run below fail, nothing half done is kept
        cache, known = _cut(cache, len(kept), len(_shared([kept, ids])))
        if known < len(ids):
            rest_BT = torch.tensor([ids[known:]])
            cache = self._run(self._model.base_model, rest_BT, past_key_values=cache).past_key_values
        self._prefix, self._cache = ids, cache
        copies = copy.deepcopy(cache)
        copies.reorder_cache(torch.zeros(count, dtype=torch.long, device=self._model.device))
        return copies


def _cut(cache: Any, held: int, size: int) -> tuple[Any, int]:
    """Cut a cache to its first tokens; returns it and their number: 0 if it cannot be cut (a sliding window's)."""
    from transformers.cache_utils import DynamicLayer

    if held == size:
        return cache, held
    if size == 0 or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None, 0
    cache.crop(size - held)
    return cache, size


def _shared(rows: list[list[int]]) -> list[int]:
    """Return the longest common beginning: the first and the last in order differ as soon as any two do."""
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(rows), max(rows), strict=False))]
