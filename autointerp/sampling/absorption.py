"""Measures absorption of what the grammar's subject knows about single words. Imports torch.

Shape suffixes: N blocks, C tokens of context, B activation vectors of words, D their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import torch

from autointerp.sampling.tasks import HOOK_POINT, SIZES, Tasks, task_subject
from autointerp.studies import Session
from sae.common.seeds import derive_seed
from sae.measuring.absorption import Probe, Property, absorption, fit_probe
from sae.tasks import words
from sae.tasks.subject import blocks

BLOCKS = {"pronoun": 300, "script": 100}
"""Blocks of text of each kind of sentence, in which the words stand."""
TESTED = 0.25
"""Share of a class's words that no probe is fitted on."""
SMALLEST = 4
"""Names that a first letter needs."""
NAMES = (*words.FEMALE, *words.MALE)


def _letters() -> dict[str, Sequence[str]]:
    letters = sorted({name[0] for name in NAMES})
    by_letter = {f"{letter}-": [name for name in NAMES if name[0] == letter] for letter in letters}
    return {name: listed for name, listed in by_letter.items() if len(listed) >= SMALLEST}


GROUPS: Mapping[str, tuple[str, Mapping[str, Sequence[str]]]] = {
    "gender": ("pronoun", {"female": words.FEMALE}),
    "script": ("script", {name: text.split() for name, text in words.SCRIPTS.items()}),
    "first letter": ("pronoun", _letters()),
}
"""Of each group of properties the kind of sentence, and the words that have each property. The others of the group are
without it."""


def measure(session: Session, known: float) -> list[dict[str, Any]]:
    """Measure in three sizes of one dictionary each property that a probe tells with an F1 of `known`; plain values."""
    tasks, results = task_subject(session), []
    with session.report("measuring absorption") as progress:
        total = sum(len(classes) for _, classes in GROUPS.values())
        for group, (kind, classes) in GROUPS.items():
            everyone = NAMES if kind == "pronoun" else [word for listed in classes.values() for word in listed]
            x_BD, word_B = _vectors(tasks, kind, everyone)
            for name, listed in classes.items():
                one = _property(tasks.seed, x_BD, word_B, everyone, set(listed))
                probe = fit_probe(one)
                sizes = SIZES if probe.f1 >= known else ()
                measured = [_absorbed(tasks, size.label, one, probe) for size in sizes]
                results.append({"group": group, "property": name, "probe_f1": probe.f1, "dictionaries": measured})
                progress.update(len(results), total)
    return results


def _vectors(tasks: Tasks, kind: str, everyone: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
    """Return the activations of these words in sentences of a kind, [B, D], and each one's word."""
    ids_NC = (
        torch.from_numpy(blocks(tasks.seed + 4, BLOCKS[kind], kinds=(kind,)).ids_NC).long().to(tasks.subject.device)
    )
    texts = [text.strip() for text in tasks.subject.token_strings()]
    known = set(everyone)
    ours_V = torch.tensor([text in known for text in texts], device=ids_NC.device)
    here_NC = ours_V[ids_NC]
    x_BD = tasks.subject.activations(ids_NC, HOOK_POINT)[here_NC]
    return x_BD, [texts[index] for index in ids_NC[here_NC].tolist()]


def _property(
    seed: int, x_BD: torch.Tensor, word_B: Sequence[str], everyone: Sequence[str], having: set[str]
) -> Property:
    """Split the words into those of the probes and those that are tested, with and without the property alike."""
    rng, tested = Random(derive_seed(seed, "words of absorption")), set[str]()
    for part in (sorted(having), sorted(set(everyone) - having)):
        tested |= set(rng.sample(part, max(1, round(TESTED * len(part)))))
    tested_B = torch.tensor([word in tested for word in word_B], device=x_BD.device)
    has_B = torch.tensor([word in having for word in word_B], device=x_BD.device)
    return Property(x_BD[~tested_B], has_B[~tested_B], x_BD[tested_B], has_B[tested_B])


def _absorbed(tasks: Tasks, dictionary: str, one: Property, probe: Probe) -> dict[str, Any]:
    absorbed = absorption(tasks.sparse[dictionary], one, probe)
    return {
        "dictionary": dictionary,
        "sparse_f1": absorbed.f1,
        "features": list(absorbed.features),
        "words": len(absorbed.full_P),
        "fraction": float(absorbed.fraction_P.double().mean()),
        "full": float(absorbed.full_P.double().mean()),
    }
