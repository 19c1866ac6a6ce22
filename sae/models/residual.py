"""Follows directions along the residual stream, past everything that a model computes from it.

Shape suffixes: F directions, R width of the residual stream.
"""

from typing import Any

from torch import Tensor

STREAM = {"hook_embed", "hook_resid_pre", "hook_resid_mid", "hook_resid_post"}
RESIDUAL = STREAM | {"hook_mlp_out", "hook_attn_out"}
"""Hook points in the residual stream, or of what is added to it."""
NORMED = {"ln1.hook_normalized": False, "ln2.hook_normalized": False, "mlp.hook_in": True}
"""Hook points behind a block's norm, and whether its weights have been applied there."""


def kind_and_layer(hook_point: str) -> tuple[str, int]:
    """Split a hook point's name: `blocks.3.mlp.hook_post` is mlp.hook_post of layer 3."""
    parts = hook_point.split(".")
    if parts[0] == "blocks" and len(parts) > 2 and parts[1].isdigit():
        return ".".join(parts[2:]), int(parts[1])
    return hook_point, 0


def share_basis(one: str, other: str) -> bool:
    """Tell whether two hook points of one model hold vectors of one basis: the same point, or both the residual
    stream's.
    """
    return one == other or (kind_and_layer(one)[0] in RESIDUAL and kind_and_layer(other)[0] in RESIDUAL)


def normed(norm: Any, directions_FR: Tensor, with_weights: bool = True) -> Tensor:
    """Apply a norm's centring and weights, without its scale and bias; None for a norm: nothing."""
    if norm is None:
        return directions_FR
    if not norm.uses_rms_norm:
        directions_FR = directions_FR - directions_FR.mean(1, keepdim=True)
    return directions_FR * (norm.w.to(directions_FR) + int(norm.uses_weight_offset)) if with_weights else directions_FR


def carried(bridge: Any, written: str, read: str, directions_FR: Tensor) -> Tensor | None:
    """Return what directions written at one hook point are at a later one, by the residual stream alone, [F, R].

    The scale of a norm on the way, one positive number per token of text, is left out. None where the stream does not
    lead from the one to the other: an MLP's neurons, say.
    """
    (start, _), (end, layer) = kind_and_layer(written), kind_and_layer(read)
    if start not in RESIDUAL or end not in STREAM | NORMED.keys():
        return None
    if end in STREAM:
        return directions_FR
    block = bridge.blocks[layer]
    return normed(block.ln1 if end.startswith("ln1") else block.ln2, directions_FR, NORMED[end])
