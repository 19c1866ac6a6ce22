"""Says before anything starts whether dictionaries are as wide as what they read, where the model's files say it.

Sampling checks the same once the model is loaded, which may be hours later where several runs follow each other.
"""

from __future__ import annotations

import json
import re
from typing import Any

from autointerp.runs.plan import TOY, Plan
from autointerp.sections import Subject
from sae.common.errors import UserError
from sae.common.resources import path_of

WIDTHS = {
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "d_mlp": ("intermediate_size", "n_inner", "ffn_dim"),
}
"""What the config.json of Hugging Face models calls the width of the residual stream and of the MLP."""
HOOK_POINTS = {
    "d_model": r"hook_embed|blocks\.\d+\.(hook_resid_(pre|mid|post)|hook_attn_out|hook_mlp_out|mlp\.hook_(in|out))",
    "d_mlp": r"blocks\.\d+\.mlp\.hook_(pre|post)",
}
"""Hook points of which it is known how wide they are."""


def refuse_misfits(plan: Plan) -> None:
    """Raise UserError if a dictionary reads vectors of another width than its hook points have.

    Models of the hub are not looked at.
    """
    known = _widths(plan.config.subject)
    for planned in plan.dictionaries:
        widths = [_width(hook_point, known) for hook_point in planned.reads]
        total = sum(width or 0 for width in widths)
        if None not in widths and total != planned.header.d_in:
            raise UserError(
                f"dictionary {planned.header.name} reads vectors of width {planned.header.d_in}, but "
                f"{' + '.join(planned.reads)} of {plan.config.subject.model} is {total} wide; give it with the model "
                "that it was trained on"
            )


def _width(hook_point: str, known: dict[str, int]) -> int | None:
    return next((width for name, width in known.items() if re.fullmatch(HOOK_POINTS[name], hook_point)), None)


def _widths(subject: Subject) -> dict[str, int]:
    """Return d_model and d_mlp, as far as they are known without loading the model."""
    if subject.model == TOY:
        return {"d_model": subject.toy.d_model, "d_mlp": subject.toy.d_mlp}
    try:
        values: Any = json.loads((path_of(str(subject.model)) / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    named = {name: next((values.get(key) for key in keys if values.get(key)), None) for name, keys in WIDTHS.items()}
    return {name: width for name, width in named.items() if isinstance(width, int)}
