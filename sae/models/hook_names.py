"""Tells names of modules (`hf:model.layers.3.mlp`) from TransformerLens' names of hook points. Needs no torch."""

from collections.abc import Sequence

from sae.common.errors import UserError

PREFIX, INPUT = "hf:", ":in"
"""How a module's hook points begin, and how that of its input ends."""


def names_modules(hook_points: Sequence[str]) -> bool:
    """Tell whether hook points are names of modules. Raises UserError if only some are, or if one is empty."""
    by_module = [name for name in hook_points if name.startswith(PREFIX)]
    for name in by_module:
        if not name.removeprefix(PREFIX).removesuffix(INPUT):
            raise UserError(f"{name} names no module; write hf:MODULE, such as hf:model.layers.3.mlp")
    if by_module and len(by_module) < len(hook_points):
        other = next(name for name in hook_points if not name.startswith(PREFIX))
        raise UserError(
            f"{by_module[0]} is a hook point of transformers, {other} of TransformerLens, which load the model in two "
            "ways; run them apart"
        )
    return bool(by_module)
