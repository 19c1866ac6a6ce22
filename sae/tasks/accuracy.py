"""Measures whether a model does the tasks: whether its most probable next token is a right one.

Shape suffixes: P prompts, C tokens of context, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sae.common.errors import UserError
from sae.measuring.metrics import loss_blocks_at_once
from sae.models.subject import Replace, Subject
from sae.tasks.grammar import Prompt, fixed_sequences, indirect_objects, pronouns, script_texts, sides

LEAST = 0.95
"""Accuracy below which a model does not do a task, and nothing is measured on it."""
FEWEST = 16
"""Prompts that a tokenizer must be able to take."""
FIXED_WORDS = 24
"""Words of a fixed sequence that are asked for, at most: the grammar's subject sees little more at once."""


@dataclass(frozen=True)
class Prompts:
    """Holds prompts in a subject's tokens, padded on the right with token 0."""

    ids_PC: Tensor
    other_ids_PC: Tensor
    """The counterfactual prompts; each is as long as its prompt."""
    last_P: Tensor
    """Index of the last real token."""
    answer_P: Tensor
    """The right next token."""
    other_P: Tensor
    """The right next token of the counterfactual prompt."""

    def __len__(self) -> int:
        return len(self.last_P)

    def take(self, rows: slice) -> "Prompts":
        """Return some of them."""
        return Prompts(*(values[rows] for values in vars(self).values()))

    def at_last(self, values_PCX: Tensor) -> Tensor:
        """Return each prompt's values at its last token, [P, X]."""
        return values_PCX[torch.arange(len(values_PCX), device=values_PCX.device), self.last_P]


def in_tokens(subject: Subject, prompts: Sequence[Prompt]) -> Prompts:
    """Return the prompts whose answers are one token each, and that are as long as their counterfactuals but differ.

    Raises UserError if these are fewer than FEWEST.
    """
    fields = ([getattr(one, name) for one in prompts] for name in ("text", "counterfactual", "answer", "other"))
    rows = zip(*(subject.token_ids(texts) for texts in fields), strict=True)
    fit = [row for row, one in zip(rows, prompts, strict=True) if _fits(row, one)]
    if len(fit) < FEWEST:
        raise UserError(f"{subject.name} takes {len(fit)} of {len(prompts)} prompts: too few names are one token there")
    lengths = [len(row[0]) for row in fit]
    ids_PC, other_PC = (
        torch.tensor([[*row[side], *[0] * (max(lengths) - len(row[side]))] for row in fit], device=subject.device)
        for side in (0, 1)
    )
    last_P, answer_P, other_P = (
        torch.tensor(values, device=subject.device)
        for values in ([n - 1 for n in lengths], [row[2][0] for row in fit], [row[3][0] for row in fit])
    )
    return Prompts(ids_PC, other_PC, last_P, answer_P, other_P)


def _fits(ids: tuple[list[int], ...], prompt: Prompt) -> bool:
    """Tell whether answers are one token, both texts as long, and different words different tokens.

    A tokenizer with one token for all unknown words makes them alike.
    """
    text, counterfactual, answer, other = ids
    alike = (text == counterfactual, answer == other)
    expected = (prompt.text == prompt.counterfactual, prompt.answer == prompt.other)
    return len(text) == len(counterfactual) > 0 and len(answer) == len(other) == 1 and alike == expected


@torch.no_grad()
def last_logits(
    subject: Subject, prompts: Prompts, ids_PC: Tensor, replaced: Mapping[str, Replace] | None = None
) -> Tensor:
    """Return the logits of the token after each prompt, [P, V]; `replaced` as for `Subject.logits`, all in one pass
    then."""
    size = len(prompts) if replaced else loss_blocks_at_once(ids_PC.shape[1], subject.vocabulary)
    parts = []
    for start in range(0, len(prompts), size):
        part = prompts.take(slice(start, start + size))
        parts.append(part.at_last(subject.logits(ids_PC[start : start + size], replaced)).float())
    return torch.cat(parts)


def right(subject: Subject, prompts: Prompts) -> Tensor:
    """Return of each prompt whether its answer is the most probable of all tokens, [P]."""
    return last_logits(subject, prompts, prompts.ids_PC).argmax(1) == prompts.answer_P


def require(subject: Subject, prompts: Prompts, task: str, least: float = LEAST) -> float:
    """Return the accuracy on prompts. Raises UserError if it is less than `least`: the model does not do the task."""
    share = float(right(subject, prompts).double().mean())
    if share < least:
        raise UserError(f"{subject.name} does not do {task}: {share:.1%} of {len(prompts)} prompts, not {least:.0%}")
    return share


def right_scripts(subject: Subject, seed: int) -> list[bool]:
    """Return of each of some texts of one script whether the most probable next token is a word of that script."""
    is_right = []
    for words, texts in script_texts(seed).items():
        accepted = {ids[0] for ids in subject.token_ids([f" {word}" for word in words]) if len(ids) == 1}
        for ids in subject.token_ids(texts):
            logits_1CV = subject.logits(torch.tensor([ids], device=subject.device))
            is_right.append(int(logits_1CV[0, -1].argmax()) in accepted)
    return is_right


def held_out(subject: Subject, seed: int, n: int) -> dict[str, list[bool]]:
    """Return, of every task and everything that was held out of training, which of n prompts are answered rightly.

    Raises UserError if the subject's tokenizer takes too few of the prompts.
    """
    trained, unseen = sides(seed)
    prompts = {
        "indirect objects, pairs of names held out": indirect_objects(unseen.pairs, trained.templates, n, seed),
        "indirect objects, templates held out": indirect_objects(trained.pairs, unseen.templates, n, seed + 1),
        "indirect objects, both held out": indirect_objects(unseen.pairs, unseen.templates, n, seed + 2),
        "pronouns, names and actions held out": pronouns(unseen, n, seed),
        "fixed sequences, any word but the first two": fixed_sequences(FIXED_WORDS),
    }
    asked = {task: in_tokens(subject, each) for task, each in prompts.items()}
    answers = {task: right(subject, each).tolist() for task, each in asked.items()}
    return answers | {"scripts, the next word is of the same one": right_scripts(subject, seed)}
