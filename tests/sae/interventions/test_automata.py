"""Automata: a planted chain of tokens is found, edge by edge, and a model without it has none of its edges."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from sae.dictionary import Dictionary
from sae.interventions.automata import Edge, chains, find_edges
from sae.models import toy
from sae.models.subject import Subject, boot
from sae.tasks.subject import recipe, tokenizer, vocabulary

HOOK = "blocks.0.hook_resid_pre"
CHAIN, D, C = list(range(50, 60)), 64, 16


def unit(n: int, seed: int) -> Tensor:
    """Random unit rows."""
    return torch.nn.functional.normalize(torch.randn(n, D, generator=torch.Generator().manual_seed(seed)))


def subject_of(folder: Path, following: dict[int, int]) -> tuple[Subject, Dictionary]:
    """A model without layers to speak of: a token raises the one that `following` gives; a feature for each of both."""
    config = GPT2Config(
        vocab_size=len(vocabulary()), n_positions=C, n_embd=D, n_layer=1, n_head=2, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    wte_VD = unit(len(vocabulary()), seed=0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        model.transformer.wte.weight.copy_(wte_VD)
        model.transformer.wpe.weight.copy_(unit(C, seed=2))  # or the norm would undo what an ablation takes away
        for token, after in following.items():
            model.lm_head.weight[after] = 1.5 * wte_VD[token]
    toy.save_toy(folder, model, tokenizer(), recipe(0), {})
    W_FD = wte_VD[CHAIN]
    dictionary = Dictionary("chain", "sae", W_FD.T.contiguous(), torch.full((len(W_FD),), -0.4), W_FD, torch.zeros(D))
    return boot(str(folder), prepend_bos=False), dictionary.at(HOOK)


@pytest.fixture(scope="module")
def ids_NC() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    ids_NC = torch.randint(3, 400, (60, C), generator=generator)
    ids_NC[:, ::3] = torch.tensor(CHAIN)[torch.randint(len(CHAIN), (60, len(range(0, C, 3))), generator=generator)]
    return ids_NC


def test_a_planted_chain_is_found_whole_and_not_in_another_model(tmp_path: Path, ids_NC: Tensor) -> None:
    subject, dictionary = subject_of(tmp_path / "chain", dict(pairwise(CHAIN)))
    edges = find_edges(subject, dictionary, ids_NC, 1.0)
    assert {(edge.token, edge.following) for edge in edges} == set(pairwise(CHAIN))
    assert {(edge.first, edge.second) for edge in edges} == set(pairwise(range(len(CHAIN))))
    (chain,) = chains(edges)
    assert [edge.token for edge in chain] == CHAIN[:-1]
    assert min(edge.fall for edge in edges) > 1
    assert max(abs(edge.others) for edge in edges) < min(edge.fall for edge in edges) / 2
    other, dictionary = subject_of(tmp_path / "shuffled", {CHAIN[-1 - i]: 300 + i for i in range(len(CHAIN))})
    assert not find_edges(other, dictionary, ids_NC, 1.0)


def test_chains_follow_the_strongest_edge_and_end_where_a_feature_comes_again() -> None:
    def edge(first: int, second: int, fall: float) -> Edge:
        return Edge(first, second, first, second, fall, 0.0)

    a, b, weak, c = edge(1, 2, 1.0), edge(2, 3, 1.0), edge(2, 9, 0.5), edge(3, 1, 1.0)
    assert chains([a, weak, b, c]) == [[a, b, c]]
    assert chains([a, weak]) == [[a, weak]]
    assert chains([]) == []
