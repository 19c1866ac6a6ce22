"""Reads a request as the language models in this process need it: its kind, its prompt in tokens, its seed."""

from typing import Literal, TypeAlias

from autointerp.llm.faults import CallError
from autointerp.llm.providers.hf.drafts import Prompt
from autointerp.llm.providers.hf.tokens import Tokens
from autointerp.llm.types import Request
from sae.common.files import sha256_of

Kind: TypeAlias = Literal["likelihood", "slots", "chat"]


def kind_of(request: Request) -> Kind:
    """Say what a request asks for; requests of one kind can run as one batch."""
    if request.likelihood_from is not None:
        return "likelihood"
    return "slots" if request.slots else "chat"


def prompt_of(request: Request, tokens: Tokens, context: float, model: str) -> Prompt:
    """Tokenize a request as its kind needs it. Raises CallError for a prompt that does not fit the model.

    Args:
        context: most tokens that the model reads and writes.
        model: its spec, for the message.
    """
    tokenize = {"likelihood": tokens.ended, "slots": tokens.slotted, "chat": tokens.chat}
    prompt = tokenize[kind_of(request)](request)
    answer = 0 if request.only_reads else 1
    if len(prompt.ids) + answer > context:
        held = f"at most {context}" + (" with the answer" if answer else "")
        raise CallError("rejected", f"{model}: a prompt of {len(prompt.ids)} tokens; its context is {held}")
    return prompt


def seed_of(request: Request) -> int:
    """Return the seed of a request's own samples: the rest of the batch does not matter."""
    parts = [part for message in request.messages for part in (message.role, message.content)]
    seed = sha256_of(part.encode() for part in (*parts, repr(request.temperature), repr(request.sample)))
    return int(seed[:16], 16)
