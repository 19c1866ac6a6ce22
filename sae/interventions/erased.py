"""Measures an eraser: what a fresh probe still reads, what the model still answers, and what that costs elsewhere.

Shape suffixes: P prompts, N blocks, C tokens of context, D width, B activation vectors, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sae.interventions.erasure import Erase
from sae.measuring.metrics import loss_blocks_at_once
from sae.models.subject import Replace, Subject, batches
from sae.tasks.accuracy import Prompts, last_logits

PROBE_PENALTY = 1.0
"""Inverse strength of the probe's L2 penalty, on columns of deviation 1."""


@dataclass(frozen=True)
class Erased:
    """Holds what one eraser does."""

    probe_P: Tensor
    """Whether a fresh probe names the prompt's class after erasing, at its last token."""
    answer_P: Tensor
    """Whether the model still prefers the prompt's answer to the other one."""
    edit_P: Tensor
    """Length of the change at the last token, over the activations' own."""
    kl_N: Tensor
    """Mean KL divergence, in nats a token, from the untouched prediction on other text, where all tokens are erased."""


def everywhere(erase: Erase) -> Replace:
    """Return a change of activations [N, C, D] that erases at every token."""
    return lambda x_NCD: erase(x_NCD.flatten(0, 1).float()).view_as(x_NCD)


@torch.no_grad()
def measure_erased(
    subject: Subject,
    hook_point: str,
    erase: Erase,
    learnt: tuple[Tensor, Tensor],
    prompts: Prompts,
    is_one_P: Tensor,
    other_NC: Tensor,
) -> Erased:
    """Measure an eraser on prompts that it was not fitted on, and on other text.

    Args:
        learnt: activation vectors [B, D] and their classes [B], on which the fresh probe is fitted, erased.
        is_one_P: the prompts' classes.
        other_NC: blocks of other text.
    """
    x_PD = prompts.at_last(subject.activations(prompts.ids_PC, hook_point))
    x_BD, is_one_B = learnt
    erased_PD = erase(x_PD)
    logits_PV = last_logits(subject, prompts, prompts.ids_PC, {hook_point: everywhere(erase)})
    margin_P = logits_PV.gather(1, prompts.answer_P[:, None]) - logits_PV.gather(1, prompts.other_P[:, None])
    return Erased(
        probe(erase(x_BD), is_one_B, erased_PD) == is_one_P,
        margin_P[:, 0] > 0,
        (erased_PD - x_PD).norm(dim=1) / x_PD.norm(dim=1),
        _divergence(subject, hook_point, erase, other_NC),
    )


def probe(x_BD: Tensor, is_one_B: Tensor, asked_PD: Tensor) -> Tensor:
    """Fit a logistic regression on vectors and return the class it gives others, [P]."""
    from sklearn.linear_model import LogisticRegression

    centre_D, scale_D = x_BD.mean(0), x_BD.std(0).clamp(min=1e-6)
    columns = [((part - centre_D) / scale_D).cpu().numpy() for part in (x_BD, asked_PD)]
    fitted = LogisticRegression(C=PROBE_PENALTY, max_iter=1000).fit(columns[0], is_one_B.cpu().numpy())
    return torch.from_numpy(fitted.predict(columns[1])).to(is_one_B.device)


def _divergence(subject: Subject, hook_point: str, erase: Erase, ids_NC: Tensor) -> Tensor:
    """Return each block's mean KL divergence between the untouched prediction and that with everything erased, [N]."""
    parts = []
    for part_NC in batches(ids_NC, loss_blocks_at_once(ids_NC.shape[1], subject.vocabulary)):
        clean_NCV = subject.logits(part_NC).float().log_softmax(-1)
        erased_NCV = subject.logits(part_NC, {hook_point: everywhere(erase)}).float().log_softmax(-1)
        parts.append((clean_NCV.exp() * (clean_NCV - erased_NCV)).sum(-1).mean(1))
    return torch.cat(parts)
