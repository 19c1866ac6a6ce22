"""Joins the recipes of all architectures into the settings of a dictionary to train. Needs no torch."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from sae.training.architectures.recipe import Recipe
from sae.training.architectures.registry import ARCHITECTURES


def recipe_type() -> Any:
    """Return the type of a config's field that takes a recipe of any architecture, plugins' too.

    It is a union that pydantic tells apart by the field `architecture`.
    """
    recipes = [architecture.recipe for architecture in ARCHITECTURES.all().values()]
    return Annotated[reduce(or_, recipes), Field(discriminator="architecture")]


if TYPE_CHECKING:
    AnyRecipe = Recipe
else:
    AnyRecipe = recipe_type()
