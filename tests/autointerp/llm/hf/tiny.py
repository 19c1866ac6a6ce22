"""Tiny models with random weights, and requests for them."""

import asyncio
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from autointerp.llm.providers.hf.provider import LocalProvider
from autointerp.llm.types import Completion, Message, Request

CONTEXT = 400

NUMBERS = [str(number) for number in range(11)]

FEW_SHOT = "The activations of a neuron that fires on stones.\n" * 4

SIZE: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}


def byte_level(bos: bool) -> PreTrainedTokenizerFast:
    """GPT-2's kind, with tokens for 10 and unknown; with `bos`, one that begins every text with <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    tokenizer.train_from_iterator(["red\tunknown\nstone\tunknown\nriver\t10\n the 10 stones"] * 20, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def digits_apart() -> PreTrainedTokenizerFast:
    """The kind of Llama 2, Gemma and Qwen, which write 10 in two tokens."""
    wrapped = byte_level(bos=False)
    own = wrapped.backend_tokenizer
    own.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), own.pre_tokenizer])
    return wrapped


def save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Weights so large that distributions are far from flat."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    model.save_pretrained(folder)  # type: ignore[operator]  # a transformers model
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(vocab_size: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocab_size, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, **ends)
    )


def llama(vocab_size: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    width = {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": CONTEXT}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, bos_token_id=0, eos_token_id=1, **width, **SIZE))


def mistral(vocab_size: int) -> MistralForCausalLM:
    """Its attention reaches 16 tokens back: the cache forgets what is further away."""
    torch.manual_seed(0)
    width = {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": CONTEXT, "sliding_window": 16}
    return MistralForCausalLM(MistralConfig(vocab_size=vocab_size, bos_token_id=0, eos_token_id=1, **width, **SIZE))


def slotted(words: str, explanation: str = "stones", few_shot: str = FEW_SHOT) -> Request:
    text = f"{few_shot}Explanation: {explanation}\n" + "".join(f"{word}\tunknown\n" for word in words.split())
    slots = tuple(at for at in range(len(text)) if text.startswith("unknown", at))
    return Request("hf/tiny", (Message("user", text),), max_tokens=1, slots=slots)


def chat(text: str, **settings: Any) -> Request:
    return Request("hf/tiny", (Message("system", "Be brief."), Message("user", text)), **{"max_tokens": 12, **settings})


def ask(judge: LocalProvider, *requests: Request) -> list[Completion]:
    async def all_at_once() -> list[Completion]:
        return list(await asyncio.gather(*map(judge.complete, requests)))

    return asyncio.run(all_at_once())
