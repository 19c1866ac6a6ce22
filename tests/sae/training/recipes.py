"""The recipes of all architectures under one name, for tests that train several of them."""

from sae.training.architectures.batch_topk import BatchTopK
from sae.training.architectures.gated import Gated
from sae.training.architectures.jumprelu import JumpReLU
from sae.training.architectures.matryoshka import Matryoshka
from sae.training.architectures.recipe import Recipe, Sparse
from sae.training.architectures.relu import ReLU, Resampling
from sae.training.architectures.tied import Tied
from sae.training.architectures.topk import TopK

__all__ = [
    "BatchTopK", "Gated", "JumpReLU", "Matryoshka", "ReLU", "Recipe", "Resampling", "Sparse", "Tied", "TopK",
]  # fmt: skip
