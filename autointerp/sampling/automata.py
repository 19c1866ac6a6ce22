"""Finds automata in the grammar's subject and compares them with the planted sequences. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from autointerp.sampling.tasks import WITH_SEQUENCES, grammar, last_dictionary
from autointerp.studies import Session
from sae.common.seeds import torch_generator
from sae.interventions.automata import Edge, chains, find_edges
from sae.models.subject import Subject
from sae.tasks.subject import CONTEXT, blocks
from sae.tasks.words import SEQUENCES

BLOCKS = 1_500
"""Blocks of text, one half for finding and one for confirming."""
Pair = tuple[int, int]


def measure(session: Session, least: float) -> dict[str, Any]:
    """Find edges and chains of a dictionary behind the last layer; lists of 0 and 1 for shares, of nats for falls."""
    subject = grammar(session)
    dictionary = last_dictionary(session, subject)
    text = blocks(session.plan.config.seed + 2, BLOCKS, kinds=WITH_SEQUENCES)
    ids_NC = torch.from_numpy(text.ids_NC).long().to(subject.device)
    with session.report(f"looking for automata in {dictionary.name}") as progress:
        edges = find_edges(subject, dictionary, ids_NC, least, progress)
    planted, texts = _planted(subject), subject.token_strings()
    pairs = [(edge.token, edge.following) for edge in edges]
    together = {pair for row in ids_NC.tolist() for pair in pairwise(row)}
    known = {token for pair in pairs for token in pair}
    return {
        "planted": _shares(pairs, planted),
        "planted_shuffled": _shares(_shuffled(pairs, session.plan.config.seed), planted),
        "in_text": [float(pair in together) for pair in pairs],
        "recalled": [float(pair in set(pairs)) for pair in sorted(planted)],
        "possible": [float(pair in set(pairs)) for pair in sorted(planted) if known >= set(pair)],
        "falls": [edge.fall for edge in edges],
        "others": [edge.others for edge in edges],
        "chains": [_chain(chain, texts) for chain in chains(edges)],
    }


def _planted(subject: Subject) -> set[Pair]:
    """Return the neighbouring tokens of the fixed sequences, as far as a block shows them."""
    lists = subject.token_ids([sequence.replace(" ,", ",") for sequence in SEQUENCES.values()])
    return {pair for ids in lists for pair in pairwise(ids[:CONTEXT])}


def _shares(pairs: Sequence[Pair], planted: set[Pair]) -> list[float]:
    """Tell of each pair that begins with a token of a planted sequence whether it is planted."""
    begun = {first for first, _ in planted}
    return [float(pair in planted) for pair in pairs if pair[0] in begun]


def _shuffled(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    order = torch.randperm(len(pairs), generator=torch_generator(seed, "shuffled edges of automata"))
    return [(first, pairs[row][1]) for (first, _), row in zip(pairs, order.tolist(), strict=True)]


def _chain(chain: Sequence[Edge], texts: Sequence[str]) -> dict[str, Any]:
    return {
        "features": [*(edge.first for edge in chain), chain[-1].second],
        "tokens": [texts[token] for token in (*(edge.token for edge in chain), chain[-1].following)],
        "falls": [edge.fall for edge in chain],
    }
