"""Learns, loads and measures dictionaries of a language model's activations; knows nothing about explanations.

    import sae

    trained = sae.train("toy")                      # {name: Dictionary}, as `sae train toy` on the command line
    dictionary = sae.load("trained/toy/topk_4x_k16")
    features_BF = dictionary.encode(activations_BD)
    print(sae.evaluate(dictionary).fvu)

Importing the package imports nothing heavy: each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae.api import evaluate, train
    from sae.dictionary import Dictionary
    from sae.formats import convert, load, save

__all__ = ["Dictionary", "convert", "evaluate", "load", "save", "train"]

_MODULES = {
    "Dictionary": "sae.dictionary",
    "convert": "sae.formats",
    "evaluate": "sae.api",
    "load": "sae.formats",
    "save": "sae.formats",
    "train": "sae.api",
}

if not TYPE_CHECKING:  # else a type checker would take every misspelt name for one that is made here

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module 'sae' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
