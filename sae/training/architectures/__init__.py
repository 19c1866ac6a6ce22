"""One file per kind of autoencoder; `build` chooses by the recipe's class."""

from sae.training import recipes
from sae.training.architectures.base import Architecture, Place
from sae.training.architectures.gated import GatedArchitecture
from sae.training.architectures.jumprelu import JumpReLUArchitecture
from sae.training.architectures.relu import ReLUArchitecture, TiedArchitecture
from sae.training.architectures.topk import BatchTopKArchitecture, MatryoshkaArchitecture, TopKArchitecture

OF: dict[type[recipes.Recipe], type[Architecture]] = {
    recipes.ReLU: ReLUArchitecture,
    recipes.Tied: TiedArchitecture,
    recipes.Gated: GatedArchitecture,
    recipes.JumpReLU: JumpReLUArchitecture,
    recipes.TopK: TopKArchitecture,
    recipes.BatchTopK: BatchTopKArchitecture,
    recipes.Matryoshka: MatryoshkaArchitecture,
}


def build(recipe: recipes.Recipe, place: Place) -> Architecture:
    """An autoencoder of the recipe's kind, its weights still zero."""
    return OF[type(recipe)](recipe, place)
