"""Marks the concepts of the grammar's text and encodes the grammar's subject on it. Imports torch.

Shape suffixes: N blocks, C tokens of context, B activation vectors, F features.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch

from autointerp.sampling.tasks import HOOK_POINT, SIZES, task_subject
from autointerp.studies import Session
from autointerp.studies.proxies import Column, Labelled, Mask
from sae.dictionary import Dictionary
from sae.measuring.splitting import active
from sae.models.subject import Subject, batches
from sae.tasks import words
from sae.tasks.subject import blocks

BLOCKS = 2_000
"""Blocks of text, of which every other one is searched and measured."""
FORWARD = 128
"""Blocks read at once."""
WORDS = {
    "female names": words.FEMALE,
    "male names": words.MALE,
    "places": words.PLACES,
    "things": words.THINGS,
    **{name: tuple(text.split()) for name, text in words.SCRIPTS.items()},
}
"""Concepts whose rule is a list of words."""


def grammar_text(session: Session) -> tuple[Labelled, list[Column], list[Column]]:
    """Return text of the grammar with its concepts, and the activations of the largest dictionary and of neurons."""
    tasks = task_subject(session)
    ids_NC = torch.from_numpy(blocks(tasks.seed + 3, BLOCKS).ids_NC).long().to(tasks.subject.device)
    parts = [tasks.subject.activations(part, HOOK_POINT).flatten(0, 1) for part in batches(ids_NC, FORWARD)]
    x_BD, (neurons,) = torch.cat(parts), tasks.baselines("neurons").values()
    searched_N = np.arange(BLOCKS) % 2 == 0
    text = Labelled(ids_NC.cpu().numpy().astype(np.int32), searched_N, _concepts(tasks.subject, ids_NC))
    return text, _columns(tasks.sparse[SIZES[-1].label], x_BD), _columns(neurons, x_BD)


def _columns(dictionary: Dictionary, x_BD: torch.Tensor) -> list[Column]:
    acts_FB = active(dictionary, x_BD).T.contiguous().cpu().numpy()
    positions = [np.flatnonzero(acts_B).astype(np.int32) for acts_B in acts_FB]
    return [Column(index, at, acts_FB[index][at]) for index, at in enumerate(positions) if at.size]


def _concepts(subject: Subject, ids_NC: torch.Tensor) -> dict[str, Mask]:
    """Mark the words of each list, and the neighbouring words of each fixed sequence."""
    named = {text: index for index, text in enumerate(subject.token_strings())}
    masks = {
        name: _among(ids_NC, (named[text] for word in listed for text in (word, f" {word}") if text in named))
        for name, listed in WORDS.items()
    }
    return masks | {name: _in_sequence(subject, ids_NC, text) for name, text in words.SEQUENCES.items()}


def _among(ids_NC: torch.Tensor, ids: Iterable[int]) -> Mask:
    mask_NC: Mask = torch.isin(ids_NC, torch.tensor(list(ids), device=ids_NC.device)).cpu().numpy()
    return mask_NC


def _in_sequence(subject: Subject, ids_NC: torch.Tensor, text: str) -> Mask:
    """Mark the tokens that stand beside the same neighbour as in the sequence."""
    (ids,) = subject.token_ids([text.replace(" ,", ",")])
    codes = [first * subject.vocabulary + second for first, second in pairwise(ids)]
    pair_NC = _among(ids_NC[:, :-1] * subject.vocabulary + ids_NC[:, 1:], codes)
    mask_NC = np.zeros(tuple(ids_NC.shape), np.bool_)
    mask_NC[:, :-1] |= pair_NC
    mask_NC[:, 1:] |= pair_NC
    return mask_NC
