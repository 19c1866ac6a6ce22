"""Sentence embeddings of a tiny model with random weights; without the package, what is said of it."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from autointerp.llm.providers.embedding import Embedder
from autointerp.llm.types import EmbeddingRequest
from sae.common.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "stone", "the", "river", "runs"]
CONTEXT = 16


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"run: pip install 'autointerp\[embedding\]'") as caught:
        Embedder("any")
    assert "\n" not in str(caught.value)


def test_import_loads_no_torch() -> None:
    heavy = "('torch', 'transformers', 'sentence_transformers')"
    code = f"import sys, autointerp.llm.providers.embedding\nprint([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def tiny_bert(folder: Path, words: Sequence[str] = WORDS) -> tuple[Any, Any]:
    """A BERT and its tokenizer, saved."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT, **names)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=CONTEXT, **size)).eval()
    bert.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return bert, wrapped


@pytest.mark.slow  # imports sentence-transformers
def test_vectors_are_normalised_means_of_the_hidden_states(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch

    bert, tokenizer = tiny_bert(tmp_path / "bert")
    plain = sentence_transformers.SentenceTransformer(str(tmp_path / "bert"), device="cpu")  # pools by the mean
    plain.save(str(tmp_path / "sentences"))
    embedder = Embedder(str(tmp_path / "sentences"), device="cpu")
    texts = ("a red stone", "the river runs", "a red stone", "river " * 40)
    answer = asyncio.run(embedder.embed(EmbeddingRequest("tiny", texts)))
    for text, vector in zip(texts, answer.vectors, strict=True):
        ids = tokenizer(text, truncation=True, max_length=CONTEXT, return_tensors="pt")
        with torch.no_grad():
            mean_D = bert(**ids).last_hidden_state[0].mean(0)
        assert vector == pytest.approx((mean_D / mean_D.norm()).tolist(), abs=1e-5)
    assert all(type(value) is float for vector in answer.vectors for value in vector)
    assert (answer.usage.calls, answer.usage.tokens_in, answer.usage.cost_usd) == (1, 5 + 5 + 5 + CONTEXT, 0.0)
    assert asyncio.run(embedder.embed(EmbeddingRequest("tiny", ()))).vectors == ()
    assert embedder.fingerprint == Embedder(str(tmp_path / "sentences"), device="cpu").fingerprint


@pytest.mark.slow  # imports sentence-transformers
def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    for model in ("no/such-model", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(UserError, match=f"cannot load embedding model {model}") as caught:
            Embedder(model, device="cpu")
        assert "\n" not in str(caught.value)
