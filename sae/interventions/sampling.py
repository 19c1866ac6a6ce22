"""Generates text while a feature is held at a value (pinned-feature sampling, Towards Monosemanticity).

Shape suffixes: N texts, C tokens so far, V vocabulary.
"""

import torch
from torch import Tensor

from sae.common.seeds import torch_generator
from sae.dictionary import Dictionary
from sae.interventions.hold import hold, hook_point_of
from sae.models.subject import Subject


@torch.no_grad()
def continue_text(
    subject: Subject,
    ids_NC: Tensor,
    n_tokens: int,
    seed: int,
    pinned: tuple[Dictionary, Tensor, Tensor] | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Continue N texts by `n_tokens` each, drawn from the model's distribution; returns the new tokens [N, n_tokens].

    The same seed draws with the same random numbers whatever is pinned, so that two continuations of one text differ
    only where the model's distribution does.

    Args:
        pinned: a dictionary, of each text the feature [N] that is held at every token, and the value [N] it has there.
        temperature: divides the logits.

    Raises:
        UserError: the dictionary does not read and write one hook point.
        ValueError: the model does not see that many tokens at once.
    """
    n_given = ids_NC.shape[1]
    if n_given + n_tokens > subject.max_context:
        raise ValueError(f"{n_given} + {n_tokens} tokens are more than {subject.name} sees ({subject.max_context})")
    replaced = {hook_point_of(pinned[0]): hold(*pinned)} if pinned else None
    generator = torch_generator(seed, "continued text")
    for _ in range(n_tokens):
        logits_NV = subject.logits(ids_NC, replaced)[:, -1].float()
        uniform_N = torch.rand(len(ids_NC), generator=generator, dtype=torch.float64).to(ids_NC.device)
        ids_NC = torch.cat([ids_NC, _drawn(logits_NV / temperature, uniform_N)[:, None]], 1)
    return ids_NC[:, n_given:]


def _drawn(logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """Draw a token of each row: the first at which the distribution function exceeds the uniform number."""
    cumulative_NV = logits_NV.double().softmax(1).cumsum(1)
    return torch.searchsorted(cumulative_NV, uniform_N[:, None] * cumulative_NV[:, -1:], right=True).squeeze(1)
