"""Lists the architectures that can be trained: one file of this package each, or a plugin (group `sae.architectures`).

Names, colours and recipes are read without torch: an architecture's file imports it inside its functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sae.common.registry import Registry

if TYPE_CHECKING:
    from sae.training.architectures.base import Autoencoder, Workspace
    from sae.training.architectures.recipe import Recipe


@dataclass(frozen=True)
class Architecture:
    """Describes one kind of autoencoder that can be trained."""

    name: str
    """What `architecture` says in a config: the only value that the recipe's field of that name takes."""
    colour: str
    """Colour of its points and lines in plots, as #rrggbb."""
    recipe: type[Recipe]
    """The class of its settings."""
    autoencoder: type[Autoencoder]
    """Its parameters and the gradients of its loss; made from a recipe and a workspace."""


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    "sae.training.architectures",
    order=("topk", "batch_topk", "matryoshka", "relu", "tied", "gated", "jumprelu"),
    shared=("registry", "base", "recipe"),
    group="sae.architectures",
)


def build(recipe: Recipe, workspace: Workspace) -> Autoencoder:
    """Return an autoencoder of the recipe's architecture, its weights still zero."""
    return ARCHITECTURES.get(recipe.architecture).autoencoder(recipe, workspace)
