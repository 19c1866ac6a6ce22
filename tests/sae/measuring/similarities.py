"""What the tests of cosines and of correlations share."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sae.measuring.nearest import Nearest


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_nearest(result: Nearest, matrix: np.ndarray, digits: float = 1e-12) -> None:
    assert result.similarity_F.numpy() == pytest.approx(matrix.max(1), abs=digits)
    assert result.match_F.tolist() == matrix.argmax(1).tolist()
