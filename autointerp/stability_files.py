"""Reads and writes how stable a run's features are: among its dictionaries, and over runs of several seeds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from autointerp.records import Stability
from sae.common.errors import UserError
from sae.common.files import write_atomic

OF_RUN, OVER_SEEDS = "stability.json", "seeds.json"
"""The first is written by sampling, where a run has dictionaries of several seeds; the second after several runs, with
their identities."""
_READER = TypeAdapter(dict[str, Stability])


def write(folder: Path, stability: Mapping[str, Stability]) -> None:
    """Write how stable features are among a run's dictionaries, if that was measured of any."""
    if stability:
        _write(folder / OF_RUN, _plain(stability))


def write_over_seeds(folder: Path, runs: Sequence[str], stability: Mapping[str, Stability]) -> None:
    """Write how stable features are over runs of several seeds, which have these identities."""
    _write(folder / OVER_SEEDS, {"runs": list(runs), "dictionaries": _plain(stability)})


def is_over(folder: Path, runs: Sequence[str]) -> bool:
    """Tell whether the stability over the runs of these identities is there."""
    try:
        return bool(json.loads((folder / OVER_SEEDS).read_text("utf-8"))["runs"] == list(runs))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read(folder: Path) -> dict[str, Stability]:
    """Read it, by dictionary; what is known among the run's own dictionaries goes over what is known over runs.

    Raises UserError if a file cannot be read.
    """
    known: dict[str, Stability] = {}
    for path in (folder / OVER_SEEDS, folder / OF_RUN):
        if path.is_file():
            try:
                values = json.loads(path.read_text("utf-8"))
                known |= _READER.validate_python(values["dictionaries"] if path.name == OVER_SEEDS else values)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} cannot be read; run again with another --out") from error
    return known


def _plain(stability: Mapping[str, Stability]) -> object:
    return {name: vars(one) for name, one in stability.items()}


def _write(path: Path, value: object) -> None:
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
