"""Writes what is known of a dictionary as text for a terminal. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae.measuring import tables

if TYPE_CHECKING:
    from sae.dictionary import Dictionary
    from sae.formats.header import Header
    from sae.measuring.info import Account, Weights


def account(account: Account) -> str:
    """Return what a dictionary's files say, without the weights."""
    header = account.header
    bos = {None: "unknown", True: "yes", False: "no"}[header.prepend_bos]
    rows = {
        "name": header.name,
        "format": f"{account.format}, {account.path}",
        **({"on the hub": account.address} if account.address else {}),
        "model": header.model or "unknown",
        **_hook_points(header),
        "BOS token before each block": bos,
        "processing of the model": _processing(header.processing),
        "width": f"{header.d_in:,}",
        "features": f"{header.n_features:,}",
        "files": f"{account.size / 1e9:,.1f} GB" if account.size >= 1e9 else f"{account.size / 1e6:,.1f} MB",
    }
    rows |= {f"note {number}": note for number, note in enumerate(getattr(header, "notes", ()), start=1)}
    return tables.listed(rows)


def weights(weights: Weights) -> str:
    """Return statistics of the weights, then the recorded metadata."""
    dictionary, directions = weights.dictionary, weights.directions
    rows = {
        "kind": dictionary.kind,
        "activation": weights.activation,
        "normalisation of the input": dictionary.normalisation,
        **_skip(dictionary),
        **_context(dictionary),
        "weights on disk": ", ".join(weights.stored) or "unknown",
        "decoder norm: smallest, median, largest": tables.spread(directions.decoder_norms),
    }
    if directions.paired:
        rows["cosine of encoder and decoder: 5%, median, 95%"] = tables.nearest(directions.paired)
    if directions.nearest:
        rows["cosine with the nearest other: 5%, median, 95%"] = tables.nearest(directions.nearest)
    text = tables.listed(rows)
    return (
        f"{text}\nmetadata:\n{tables.listed(dict(tables.recorded(dictionary.metadata)))}"
        if dictionary.metadata
        else text
    )


def _skip(dictionary: Dictionary) -> dict[str, str]:
    """Return the rows that only transcoders have."""
    if dictionary.reads == dictionary.writes:
        return {}
    part = {"one layer of": "a cross-layer transcoder"} if dictionary.is_part else {}
    skip = "no" if dictionary.W_skip_DE is None else "yes"
    return {"width of what is written": f"{dictionary.d_out:,}", "linear map past the features": skip} | part


def _context(dictionary: Dictionary) -> dict[str, str]:
    """Return the row that only temporal autoencoders have."""
    if dictionary.context is None:
        return {}
    return {"predicted from the tokens before": f"by {len(dictionary.context.layers)} attention layers"}


def _hook_points(header: Header) -> dict[str, str]:
    """Return one row for a dictionary that writes what it reads, two rows for any other."""
    if header.reads == header.writes:
        return {"hook point": header.hook_point or "unknown"}
    return {"reads": ", ".join(header.reads), "writes": ", ".join(header.writes) or "unknown"}


def _processing(options: Mapping[str, Any] | None) -> str:
    """Return the weight processing of the language model as words."""
    if options is None:
        return "unknown"
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "none"
