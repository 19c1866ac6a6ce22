"""The registry of architectures: built-in ones agree with their names, and a foreign package's is trained too."""

import subprocess
import sys
from pathlib import Path

import pytest

from sae.common.errors import UserError
from sae.training.architectures.registry import ARCHITECTURES
from tests.sae.training.small import written

PLUGIN = '''
from __future__ import annotations

from typing import Literal

from sae.training.architectures.recipe import L1
from sae.training.architectures.registry import ARCHITECTURES, Architecture
from sae.training.architectures.relu import ReLUAutoencoder


class Doubled(L1):
    architecture: Literal["doubled"] = "doubled"
    factor: float = 2.0


class DoubledAutoencoder(ReLUAutoencoder):
    """Its penalty is multiplied."""

    def _l1(self):
        return super()._l1() * self.recipe.factor


ARCHITECTURES.register("doubled", Architecture("doubled", "#123456", Doubled, DoubledAutoencoder))
'''
TRAINED = """
import sys
from sae.training import config
recipes = config.load(sys.argv[1]).dictionaries
assert "torch" not in sys.modules
import torch
from sae.common.progress import Silent
from sae.training.loop import learn
x_BD = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
learners = learn(recipes, 3, iter([x_BD] * 3), "cpu", Silent)
penalties = [float(learner.trainer.losses.penalty) for learner in learners]
made = [learner.trainer.dictionary("h", "m", {}) for learner in learners]
print([recipe.label for recipe in recipes], penalties[0] / penalties[1], made[0].metadata["recipe"]["factor"])
"""


def test_every_architecture_is_known_by_the_name_in_its_recipe() -> None:
    parts = ARCHITECTURES.all()
    assert tuple(parts) == ("topk", "batch_topk", "matryoshka", "relu", "tied", "gated", "jumprelu")
    for name, part in parts.items():
        assert part.name == name == part.recipe.model_fields["architecture"].default
    assert len({part.colour for part in parts.values()}) == len(parts)
    with pytest.raises(UserError, match="unknown architecture 'topq'; did you mean topk"):
        ARCHITECTURES.get("topq")


def test_an_architecture_of_another_package_is_validated_and_trained(tmp_path: Path) -> None:
    """A distribution with an entry point lies on the path, as an installed one does."""
    (tmp_path / "foreign.py").write_text(PLUGIN)
    about = tmp_path / "foreign-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sae.architectures]\ndoubled = foreign\n")
    both = "- {architecture: doubled, l1: 0.1, lr: 1.0e-12}\n- {architecture: relu, l1: 0.1, lr: 1.0e-12}"
    path = written(tmp_path, f"dictionaries:\n{both}")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{TRAINED}"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout == "['doubled_8x_l1=0.1', 'relu_8x_l1=0.1'] 2.0 2.0\n", done.stderr
