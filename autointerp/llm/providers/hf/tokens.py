"""Turns texts into token ids and back, by a model's own tokenizer.

Messages hold corpus text, which is hostile: a special token's name in it, such as <|endoftext|>, is read as the
characters it is made of. Only the chat template's own markup and the beginning of a text are special tokens.

Shape suffixes: S slots of a prompt, N numbers.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from autointerp.llm.faults import CallError
from autointerp.llm.providers.hf.drafts import Prompt
from autointerp.llm.types import Completion, Message, Request, StopReason, TokenLogprobs, Usage

NUMBERS = tuple(str(number) for number in range(11))
"""The texts whose log-probabilities are read at slots."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What decoding shows in place of a character whose last bytes are still to come."""
OPEN, CLOSE = "\ufdd0", "\ufdd1"
"""Stand around special tokens' names in messages while a template is rendered. Unicode keeps them for such uses."""
FENCED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}|[{OPEN}{CLOSE}]")


class Tokens:
    """Turns texts to token ids and back, as a language model's provider needs it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        longest_first = sorted(filter(None, specials), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._newline = self._ids("\n")
        first = tokenizer("x")["input_ids"][:1]
        self._bos: list[int] = first if first == [tokenizer.bos_token_id] else []
        ids_of = {text: self._inside(text) for text in NUMBERS}
        whole = {text: ids[0] for text, ids in ids_of.items() if len(ids) == 1 and self._text(ids) == text}
        self.numbers: dict[str, int] = whole
        """The token of each of "0" to "10" that the vocabulary has as one token."""
        ten, one = ids_of["10"], whole.get("1")
        self.ten: list[int] = ten if len(ten) == 2 and ten[0] == one else []
        """The tokens of "10" where it begins with that of "1", as in Llama 2, Gemma and Qwen; else none."""

    @property
    def fingerprint(self) -> str:
        """What changes the answers at slots besides the weights: before 10 was read in two tokens, it counted as 1."""
        return " 10 in two tokens" if self.ten else ""

    def slotted(self, request: Request) -> Prompt:
        """Tokenize a plain text for the model to continue, cut at its slots so that a token begins at each."""
        (message,) = request.messages
        cuts = sorted(set(request.slots))
        pieces = [message.content[start:end] for start, end in pairwise([0, *cuts, len(message.content)])]
        ids = self._bos + self._ids(pieces[0])
        if not ids:
            raise CallError("rejected", "no token stands before the first slot, so nothing is predicted there")
        position_of = {}
        for cut, piece in zip(cuts, pieces[1:], strict=True):
            position_of[cut] = len(ids)
            ids = ids + self._inside(piece)
        return Prompt(ids, tuple(position_of[slot] for slot in request.slots))

    def ended(self, request: Request) -> Prompt:
        """Tokenize a plain text of which the likelihood of the end is asked for; its positions are the end's tokens."""
        assert request.likelihood_from is not None
        prompt = self.slotted(replace(request, slots=(request.likelihood_from,)))
        return Prompt(prompt.ids, tuple(range(prompt.positions[0], len(prompt.ids))))

    def likely(self, prompt: Prompt, logprobs: Sequence[float]) -> Completion:
        """Return the end of a prompt with the log-probability of each of its tokens."""
        texts = self._texts(prompt.ids[prompt.positions[0] :])
        tokens = tuple(TokenLogprobs(text, {text: value}) for text, value in zip(texts, logprobs, strict=True))
        return Completion("".join(texts), "stop", Usage(1, len(prompt.ids), 0), tokens)

    def chat(self, request: Request) -> Prompt:
        """Tokenize messages by the model's chat template, or as a plain text with roles for a model without one."""
        if self._tokenizer.chat_template:
            return Prompt(self._dialogue(request.messages))
        names = {"system": "", "user": "User: ", "assistant": "Assistant: "}
        turns = [names[message.role] + message.content for message in request.messages]
        return Prompt(self._bos + self._ids("\n\n".join([*turns, "Assistant:"])))

    def tens(self, prompt: Prompt) -> list[Prompt]:
        """Return, where "10" is two tokens, for each slot the text before it with them; their position is the 0's.

        A slot alone cannot tell 10 from 1: only how likely the 0 is behind the 1 does.
        """
        positions = prompt.positions if self.ten else ()
        return [Prompt([*prompt.ids[:position], *self.ten], (position + 1,)) for position in positions]

    def at_slots(self, prompt: Prompt, rows_SN: Sequence[Sequence[float]], zero_S: Sequence[float] = ()) -> Completion:
        """Return the log-probabilities of `numbers` at each slot of a prompt.

        Args:
            zero_S: that of the 0 in each of `tens`.
        """
        slots = [dict(zip(self.numbers, row_N, strict=True)) for row_N in rows_SN]
        if self.ten:
            slots = [_with_ten(slot, zero) for slot, zero in zip(slots, zero_S, strict=True)]
        return Completion("", "stop", Usage(1, len(prompt.ids), 0), slots=tuple(slots))

    def written(
        self, prompt: Prompt, ids: list[int], likely: Sequence[Mapping[int, float]], stop: StopReason
    ) -> Completion:
        """Return generated tokens as text, with their log-probabilities.

        Args:
            likely: for each token, log-probabilities by token id, its own among them, the likeliest first; or nothing.
        """
        texts, logprobs = self._texts(ids) if likely else [self._text(ids)], []
        for index, of_token in enumerate(likely):
            top = {texts[index]: of_token[ids[index]]}
            for token, logprob in of_token.items():  # of tokens with one text the likeliest stands for all
                if token != ids[index]:
                    top.setdefault(self._added(ids[:index], token), logprob)
            logprobs.append(TokenLogprobs(texts[index], top))
        return Completion("".join(texts), stop, Usage(1, len(prompt.ids), len(ids)), tuple(logprobs))

    def _texts(self, ids: list[int]) -> list[str]:
        """Return what each token adds to the text; the last piece of a character adds all of it."""
        texts, length = [], 0
        for end in range(1, len(ids) + 1):
            text = self._text(ids[:end])
            whole = end == len(ids) or not text.endswith(UNFINISHED)
            texts.append(text[length:] if whole else "")
            length = len(text) if whole else length
        return texts

    def _added(self, before: list[int], token: int) -> str:
        """Return what a token adds to a text; a few tokens before it show whether it begins with a space."""
        return self._text([*before[-4:], token])[len(self._text(before[-4:])) :]

    def _dialogue(self, messages: Sequence[Message]) -> list[int]:
        """Tokenize messages in the chat template; special tokens count in its own markup, not in contents.

        transformers' sanitize_control_tokens does the same, but older versions that we allow ignore it in silence.
        """
        fenced = [replace(message, content=self._fenced(message.content)) for message in messages]
        first, *others = FENCED.split(self._templated(fenced))  # markup and contents, a name, markup and contents, ...
        ids = self._ids(first, markup=True)
        for index, piece in enumerate(others):
            ids += self._inside(piece or "", markup=index % 2 == 1)
        return ids

    def _fenced(self, content: str) -> str:
        return self._special.sub(rf"{OPEN}\g<0>{CLOSE}", re.sub(f"[{OPEN}{CLOSE}]", "", content))

    def _templated(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": message.content} for message in messages]
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        try:
            return str(self._tokenizer.apply_chat_template(turns, **options))
        except TemplateError:  # some (Gemma 2's) refuse a system turn: the user's first then begins with its text
            merged = {"role": "user", "content": "\n\n".join(turn["content"] for turn in turns[:2])}
            return str(self._tokenizer.apply_chat_template([merged, *turns[2:]], **options))

    def _inside(self, text: str, *, markup: bool = False) -> list[int]:
        """Tokenize a text that follows another.

        Some tokenizers (Llama 2's) begin every text with a space that is not in it; so the text is tokenized after a
        newline, with which neither words nor numbers merge.
        """
        ids, start = self._ids("\n" + text, markup=markup), len(self._newline)
        return ids[start:] if ids[:start] == self._newline else self._ids(text, markup=markup)

    def _ids(self, text: str, *, markup: bool = False) -> list[int]:
        """Tokenize a text; special tokens' names in it count as such only in markup."""
        settings = {"add_special_tokens": False, "split_special_tokens": not markup, "verbose": False}
        return list(self._tokenizer(text, **settings)["input_ids"])

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _with_ten(slot: Mapping[str, float], zero: float) -> dict[str, float]:
    """Divide the log-probability of a 1 between 10, whose 0 has the log-probability `zero` behind it, and 1 itself."""
    alone = math.log(-math.expm1(zero)) if zero < 0 else -math.inf
    return {**slot, "1": slot["1"] + alone, "10": slot["1"] + zero}
