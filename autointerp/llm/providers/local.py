"""The judge `hf/NAME|DIR`: a causal language model in this process, through transformers.

Calls that wait at the same time run as one batch in one worker thread; who shares a batch changes no answer beyond
rounding. What prompts with slots begin with is run once, its keys and values kept for the next batch. torch and
transformers load with the first judge, not with this module. Knows no retries, no money, and not what is asked.

Shape suffixes: B prompts of a batch, T tokens, S slots of a prompt, N numbers, W tokens
from the first slot on, V vocabulary.
"""

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.asking import Completion, Message, Request, StopReason, TokenLogprobs, Usage
from autointerp.llm.providers import CallError
from sae.errors import UserError
from sae.files import sha256_of, sha256_of_path

if TYPE_CHECKING:
    from torch import Tensor

NUMBERS = tuple(str(number) for number in range(11))
"""The texts whose log-probabilities are wanted at slots."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoding shows in place of a character whose last bytes are still to come."""


@dataclass(eq=False)
class _Call:
    """A request in tokens, then its answer. places: how many tokens stand before each slot; none: text is wanted."""

    request: Request
    ids: list[int]
    places: tuple[int, ...] = ()
    answer: Completion | None = None

    def completion(self, text: str, stop: StopReason, tokens_out: int, **parts: Any) -> Completion:
        return Completion(text, stop, Usage(1, len(self.ids), tokens_out), **parts)


class LocalJudge:
    """A provider. A JSON schema in a request is ignored: nothing constrains what is written.

    numbers: the token of each of "0".."10" that the vocabulary has as one token; a slot is answered with their
    log-probabilities under the full softmax. In float32 (CPU) batch-mates change those by about 1e-6, in bfloat16
    (CUDA) by that type's rounding. A temperature of None is 0: the likeliest token each time.
    """

    def __init__(self, model: str, device: str = "auto", batch: int = 16) -> None:
        """Load a hub name or a directory. Raises UserError."""
        self.device = device_for(device)
        loaded, tokenizer = _load(model, self.device)
        self.endpoint = f"hf/{model}"
        self.fingerprint = f"{weights_of(model, loaded.config)} {str(loaded.dtype).removeprefix('torch.')}"
        self.network, self.tokens, self.batch = _Network(loaded), _Tokens(tokenizer), batch
        self.numbers = self.tokens.numbers
        ends = loaded.generation_config.eos_token_id
        self._ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-judge")
        self._waiting: list[_Call] = []

    async def complete(self, request: Request) -> Completion:
        """One attempt. Raises CallError for a prompt that does not fit the model or the memory.

        Two steps in the worker: all calls that are there by now have joined the queue when the first is answered.
        """
        loop = asyncio.get_running_loop()
        call = await loop.run_in_executor(self._worker, self._join, request)
        return await loop.run_in_executor(self._worker, self._answered, call)

    async def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _join(self, request: Request) -> _Call:
        call = self.tokens.slotted(request) if request.slots else self.tokens.chat(request)
        context, answer = self.network.context, 0 if request.slots else 1
        if len(call.ids) + answer > context:
            held = f"at most {context}" + (" with the answer" if answer else "")
            raise CallError("rejected", f"{self.endpoint}: a prompt of {len(call.ids)} tokens; its context is {held}")
        self._waiting.append(call)
        return call

    def _answered(self, call: _Call) -> Completion:
        """A call's answer; if there is none yet, it and others of its kind are answered together.

        An error reaches this call only: its mates have left the queue and then ask for themselves.
        """
        if call.answer is None:
            alike = [other for other in self._waiting if bool(other.places) == bool(call.places)]
            mates = [call, *(other for other in alike if other is not call)][: self.batch]
            self._waiting = [other for other in self._waiting if other not in mates]
            for mate, answer in zip(mates, self._answers(mates), strict=True):
                mate.answer = answer
        assert call.answer is not None
        return call.answer

    def _answers(self, calls: list[_Call]) -> list[Completion]:
        """Answer a batch; where the memory does not hold it, its halves."""
        import torch

        try:
            with torch.no_grad():
                return self._read(calls) if calls[0].places else self._write(calls)
        except torch.OutOfMemoryError as error:
            if len(calls) == 1:
                message = f"{self.endpoint}: no memory for a prompt of {len(calls[0].ids)} tokens"
                raise CallError("rejected", message) from error
        half = len(calls) // 2
        return [*self._answers(calls[:half]), *self._answers(calls[half:])]

    def _read(self, calls: list[_Call]) -> list[Completion]:
        answers = []
        for call, rows_SN in zip(calls, self.network.logprobs(calls, list(self.numbers.values())), strict=True):
            slots = tuple(dict(zip(self.numbers, row_N, strict=True)) for row_N in rows_SN)
            answers.append(call.completion("", "stop", 0, slots=slots))
        return answers

    def _write(self, calls: list[_Call]) -> list[Completion]:
        room = self.network.context
        drafts = [_Draft(call, min(call.request.max_tokens, room - len(call.ids)), self._ends) for call in calls]
        self.network.write(drafts)
        return [self.tokens.finished(draft) for draft in drafts]


@dataclass
class _Draft:
    """A text under way. room: the most tokens it may get. likely: log-probabilities by token, in each place."""

    call: _Call
    room: float
    ends: set[int | None]
    ids: list[int] = field(default_factory=list)
    likely: list[dict[int, float]] = field(default_factory=list)
    stop: StopReason | None = None

    def __post_init__(self) -> None:
        import torch

        request = self.call.request
        said = [part for message in request.messages for part in (message.role, message.content)]
        seed = sha256_of(part.encode() for part in (*said, repr(request.temperature), repr(request.sample)))
        self._generator = torch.Generator().manual_seed(int(seed[:16], 16))

    def take(self, logits_V: "Tensor") -> int:
        """Choose the next token, or stop."""
        token = self._chosen(logits_V)
        if token in self.ends:
            self.stop = "stop"
            return token
        self.ids.append(token)
        if count := self.call.request.top_logprobs:
            logprobs_V = logits_V.log_softmax(-1)
            top = logprobs_V.topk(min(count, len(logprobs_V)))
            likely = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
            self.likely.append(likely | {token: float(logprobs_V[token])})
        if len(self.ids) >= self.room:
            self.stop = "length"
        return token

    def _chosen(self, logits_V: "Tensor") -> int:
        """The likeliest token, or a sample by the request's own generator, which batch-mates do not touch."""
        temperature = self.call.request.temperature
        if not temperature:
            return int(logits_V.argmax())
        return int((logits_V / temperature).softmax(-1).cpu().multinomial(1, generator=self._generator))


class _Tokens:
    """A tokenizer, asked for what a judge needs."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._newline = self._plain("\n")
        first = tokenizer("x")["input_ids"][:1]
        self._bos: list[int] = first if first == [tokenizer.bos_token_id] else []
        found = {text: self._inside(text) for text in NUMBERS}
        self.numbers = {text: ids[0] for text, ids in found.items() if len(ids) == 1 and self._text(ids) == text}

    def slotted(self, request: Request) -> _Call:
        """A plain text for the model to continue, cut at its slots so that a token begins at each."""
        (message,) = request.messages
        cuts = sorted(set(request.slots))
        pieces = [message.content[start:end] for start, end in pairwise([0, *cuts, len(message.content)])]
        ids = self._bos + self._plain(pieces[0])
        if not ids:
            raise CallError("rejected", "no token stands before the first slot, so nothing is predicted there")
        place_of = {}
        for cut, piece in zip(cuts, pieces[1:], strict=True):
            place_of[cut] = len(ids)
            ids = ids + self._inside(piece)
        return _Call(request, ids, tuple(place_of[slot] for slot in request.slots))

    def chat(self, request: Request) -> _Call:
        """The messages by the model's chat template, or as a plain text with roles for a model without one."""
        if self._tokenizer.chat_template:
            return _Call(request, self._plain(self._templated(request.messages)))
        names = {"system": "", "user": "User: ", "assistant": "Assistant: "}
        turns = [names[message.role] + message.content for message in request.messages]
        return _Call(request, self._bos + self._plain("\n\n".join([*turns, "Assistant:"])))

    def finished(self, draft: _Draft) -> Completion:
        texts, logprobs = self._texts(draft.ids) if draft.likely else [self._text(draft.ids)], []
        for place, likely in enumerate(draft.likely):
            top = {texts[place]: likely[draft.ids[place]]}
            for token, logprob in likely.items():  # the likeliest first: of tokens with one text it stands for all
                if token != draft.ids[place]:
                    top.setdefault(self._added(draft.ids[:place], token), logprob)
            logprobs.append(TokenLogprobs(texts[place], top))
        assert draft.stop is not None
        return draft.call.completion("".join(texts), draft.stop, len(draft.ids), logprobs=tuple(logprobs))

    def _texts(self, ids: list[int]) -> list[str]:
        """What each token adds to the text. The last piece of a character brings all of it, those before nothing."""
        texts, said = [], 0
        for end in range(1, len(ids) + 1):
            text = self._text(ids[:end])
            whole = end == len(ids) or not text.endswith(UNFINISHED)
            texts.append(text[said:] if whole else "")
            said = len(text) if whole else said
        return texts

    def _added(self, before: list[int], token: int) -> str:
        """What a token adds to a text; a few tokens before it show whether it begins with a space."""
        return self._text([*before[-4:], token])[len(self._text(before[-4:])) :]

    def _templated(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": message.content} for message in messages]
        wanted: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        try:
            return str(self._tokenizer.apply_chat_template(turns, **wanted))
        except TemplateError:  # some (Gemma 2's) refuse a system turn: the user's first then begins with its text
            merged = {"role": "user", "content": "\n\n".join(turn["content"] for turn in turns[:2])}
            return str(self._tokenizer.apply_chat_template([merged, *turns[2:]], **wanted))

    def _inside(self, text: str) -> list[int]:
        """The tokens of a text that goes on after another.

        Some tokenizers (Llama 2's) begin every text with a space that is not in it; so the text is tokenized after a
        newline, with which neither words nor numbers merge.
        """
        ids, start = self._plain("\n" + text), len(self._newline)
        return ids[start:] if ids[:start] == self._newline else self._plain(text)

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class _Network:
    """A causal language model, with the keys and values of what its last prompts with slots began with.

    tokens_run: positions put through the model so far, padding included.
    """

    def __init__(self, model: Any) -> None:
        self.tokens_run = 0
        self.context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or float("inf")
        self._model = model
        self._prefix: list[int] = []
        self._cache: Any = None

    def logprobs(self, calls: list[_Call], tokens: list[int]) -> list[list[list[float]]]:
        """For each call, for each of its places, the log-probabilities of some tokens there, by the full softmax.

        Shorter prompts are padded on the right, where causal attention never looks: no mask is needed, and positions
        count on from the prefix by themselves.
        """
        import torch

        first = min(min(call.places) for call in calls)
        prefix = _shared([call.ids for call in calls])[: first - 1]
        rest = [call.ids[len(prefix) : max(call.places)] for call in calls]
        longest = max(map(len, rest))
        ids_BT = torch.tensor([ids + [0] * (longest - len(ids)) for ids in rest])
        past, wanted = self._copies(prefix, len(calls)) if prefix else None, len(prefix) + longest - first + 1
        logits_BWV = self._run(self._model, ids_BT, past_key_values=past, logits_to_keep=wanted).logits
        found = []
        for call, logits_WV in zip(calls, logits_BWV, strict=True):
            logits_SV = logits_WV[[place - first for place in call.places]]
            found.append(logits_SV.float().log_softmax(-1)[:, tokens].tolist())
        return found

    def write(self, drafts: list[_Draft]) -> None:
        """Go on until every draft has stopped. Shorter prompts are padded on the left; who stops leaves the batch."""
        import torch

        longest = max(len(draft.call.ids) for draft in drafts)
        missing = [longest - len(draft.call.ids) for draft in drafts]
        ids_BT = torch.tensor([[0] * pad + draft.call.ids for pad, draft in zip(missing, drafts, strict=True)])
        mask_BT = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in missing], device=self._model.device)
        cache = None
        if longest > 1:  # without the head: only what follows the last token is wanted
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
        """The cache of a prefix, once per prompt. What it shares with the prefix before is not run again."""
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


def _cut(cache: Any, held: int, wanted: int) -> tuple[Any, int]:
    """A cache without its last tokens, and how many it holds then: none if it cannot forget (a sliding window's)."""
    from transformers.cache_utils import DynamicLayer

    if held == wanted:
        return cache, held
    if wanted == 0 or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None, 0
    cache.crop(wanted - held)
    return cache, wanted


def _shared(rows: list[list[int]]) -> list[int]:
    """The longest beginning that all have: the first and the last in order differ as soon as any two do."""
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(rows), max(rows), strict=False))]


def device_for(wanted: str) -> str:
    """`auto` is CUDA where there is any. Raises UserError for a CUDA device that is not there."""
    import torch

    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {wanted}: no CUDA device found; choose cpu, or auto to use one where there is one")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def weights_of(model: str, config: Any) -> str:
    """What tells a model's weights: the hash of a directory's files, or a hub name with its commit if known."""
    folder = Path(model).expanduser()
    return (
        sha256_of_path(folder) if folder.is_dir() else f"{model}@{getattr(config, '_commit_hash', None) or 'unknown'}"
    )


def _load(model: str, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, dtype = Path(model).expanduser(), torch.bfloat16 if device.startswith("cuda") else torch.float32
    location = str(folder) if folder.is_dir() else model
    try:
        loaded, about = AutoModelForCausalLM.from_pretrained(location, dtype=dtype, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(location)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load judge hf/{model}: {reason} (hf/ and a hub name or a saved directory)") from error
    if missing := sorted(about["missing_keys"]):
        raise UserError(f"judge hf/{model} lacks weights ({missing[0]}, ...): it is no causal language model; name one")
    return loaded.to(device).eval(), tokenizer
