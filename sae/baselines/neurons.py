"""The neuron basis itself, rectified."""

import torch
from torch import Tensor

from sae.dictionary import Dictionary


def neurons(x_BD: Tensor) -> Dictionary:
    """The basis itself, rectified: "identity-ReLU" of Cunningham et al. 2023."""
    identity_DD = torch.eye(x_BD.shape[1], device=x_BD.device)
    zero_D = torch.zeros_like(identity_DD[0])
    return Dictionary("neurons", "neurons", identity_DD, zero_D, identity_DD, zero_D)
