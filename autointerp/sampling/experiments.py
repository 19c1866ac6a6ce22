"""Measures the parts of a study that need a known task: accuracy, patching, erasure. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autointerp.sampling.tasks import Tasks, own_subject, task_subject
from autointerp.studies import NotApplicable, Session
from sae.common.errors import UserError
from sae.common.progress import Progress
from sae.dictionary import Dictionary
from sae.interventions.erased import measure_erased
from sae.interventions.erasure import Erase, ablated, by_correlation, leace, mean_difference, principal_components
from sae.interventions.patching import Pairs, Patched, patch, search
from sae.measuring.metrics import reconstruction
from sae.tasks.accuracy import Prompts, held_out
from sae.tasks.grammar import indirect_objects, pronouns, sides
from sae.tasks.words import PRONOUNS

TASK = "indirect objects"
PATCHED = ("topk_4x", "sparse", "alpha_0")
"""The grammar's dictionaries that are patched: sparse ones, by TopK and by an L1 penalty, and the non-sparse one."""
ERASED = ("sparse", "sparser", "topk_4x")
"""Those whose features are ablated to erase a concept."""
L0_VECTORS = 4_096
"""Activation vectors on which a dictionary's mean number of active features is measured."""
OTHER_BLOCKS = 128
"""Blocks of other text on which the cost of erasing is measured."""


def task_answers(session: Session, n: int) -> dict[str, Any]:
    """Ask the subject for what was held out; returns of each task which prompts are answered rightly.

    Raises NotApplicable if its tokenizer takes too few of the prompts.
    """
    try:
        return {"answers": held_out(own_subject(session), session.plan.config.seed, n)}
    except UserError as error:
        raise NotApplicable(str(error)) from error


def patched(session: Session, counts: Sequence[int], n_pairs: int, n_search: int, n: int) -> dict[str, Any]:
    """Patch features of every dictionary into prompts of indirect objects, in an order searched on other prompts.

    Each pair of names has its own order and n prompts: features of names are those of one person.

    Returns of each dictionary, for each count of patched features, values of each prompt.

    Raises NotApplicable if the subject does not do the task, or its dictionary cannot be edited.
    """
    tasks = task_subject(session)
    _, unseen = sides(tasks.seed)
    asked = [
        tasks.prompts(indirect_objects([pair], unseen.templates, n_search + n, tasks.seed + row), TASK)
        for row, pair in enumerate(unseen.pairs[:n_pairs])
    ]
    sparse = {name: tasks.sparse[name] for name in (PATCHED if tasks.is_grammar else tasks.sparse)}
    curves: dict[str, Any] = {}
    for name, dictionary in (sparse | tasks.baselines("pca", "neurons", "random")).items():
        with session.report(f"patching features of {name}") as progress:
            done = [_patched(tasks, dictionary, one, counts, n_search, progress) for one in asked]
        curves[name] = {"l0": reconstruction(dictionary, tasks.vectors(L0_VECTORS)).l0} | {
            key: torch.cat([getattr(one, key) for one in done], 1).double().tolist() for key in vars(done[0])
        }
    names = {"sparse": list(sparse)[:2], "dense": "alpha_0" if tasks.is_grammar else None}
    prompts = sum(len(one) - n_search for one in asked)
    return {"counts": list(counts), "prompts": prompts, "curves": curves} | names


def _patched(
    tasks: Tasks, dictionary: Dictionary, prompts: Prompts, counts: Sequence[int], n_search: int, progress: Progress
) -> Patched:
    """Search an order on the first prompts and patch the others."""
    searched, measured = prompts.take(slice(n_search)), prompts.take(slice(n_search, None))
    order = search(Pairs(tasks.subject, dictionary, searched), counts, progress)
    return patch(Pairs(tasks.subject, dictionary, measured), order, counts)


def erased(session: Session, counts: Sequence[int], n: int) -> dict[str, Any]:
    """Erase the gender of a coming pronoun in several ways, fitted on n prompts and measured on n others.

    Returns of each way, in order of strength, values of each prompt and of each block of other text.

    Raises NotApplicable if the subject does not do the task, or its dictionary cannot be edited.
    """
    tasks = task_subject(session)
    both = [pronouns(side, n, tasks.seed) for side in sides(tasks.seed)]
    fitted, measured = (tasks.prompts(each, "pronouns") for each in both)
    feminine = torch.tensor([ids[0] for ids in tasks.subject.token_ids([f" {word}" for word in PRONOUNS[0]])])
    is_one_B, is_one_P = (torch.isin(one.answer_P, feminine.to(one.answer_P)) for one in (fitted, measured))
    x_BD = fitted.at_last(tasks.subject.activations(fitted.ids_PC, tasks.hook_point))
    ways = _erasers(tasks, x_BD, is_one_B, counts)
    other_NC, results = tasks.ids(OTHER_BLOCKS), []
    with session.report("erasing gender") as progress:
        for way, k, erase in ways:
            one = measure_erased(tasks.subject, tasks.hook_point, erase, (x_BD, is_one_B), measured, is_one_P, other_NC)
            results.append({"way": way, "k": k} | {key: value.double().tolist() for key, value in vars(one).items()})
            progress.update(len(results), len(ways))
    return {"results": results, "majority": float(is_one_P.double().mean())}


def _erasers(tasks: Tasks, x_BD: Tensor, is_one_B: Tensor, counts: Sequence[int]) -> list[tuple[str, int, Erase]]:
    """Return ways to erase a class, each with a number of directions or features."""
    sparse = {name: tasks.sparse[name] for name in (ERASED if tasks.is_grammar else tasks.sparse)}
    orders = {name: by_correlation(one, x_BD, is_one_B) for name, one in sparse.items()}
    return [
        ("nothing", 0, ablated(next(iter(sparse.values())), ())),
        ("LEACE", 1, leace(x_BD, is_one_B[:, None])),
        ("mean difference", 1, mean_difference(x_BD, is_one_B)),
        *(
            (f"features of {name}", k, ablated(sparse[name], order[:k]))
            for name, order in orders.items()
            for k in counts
            if k <= len(order)
        ),
        *(("PCA", k, principal_components(x_BD, is_one_B, k)) for k in counts if k <= x_BD.shape[1]),
    ]
