"""Keeps an autoencoder's encoder or decoder at its random start, or the decoder near it, while the rest is learnt.

What is trained so is a null: a dictionary whose directions were learnt must be explained better than it. Source:
Korznikov et al. 2026, "Sanity Checks for Sparse Autoencoders" (arXiv 2602.14111).

Shape suffixes: F features (of this process), D width.
"""

from math import sqrt

import torch

from sae.training.architectures.base import Autoencoder

MATRIX = {"encoder": "W_enc", "decoder": "W_dec", "near_decoder": "W_dec"}
"""The parameter that each value of a recipe's `frozen` keeps."""
NEAR = 0.8
"""Least cosine of a decoder row with its start under `near_decoder`."""


class Frozen:
    """Holds a matrix of an autoencoder as it is when this object is made, and puts it back after every change.

    Every row is treated by itself, so that processes can share the features.
    """

    def __init__(self, frozen: str, autoencoder: Autoencoder) -> None:
        self._near = frozen == "near_decoder"
        self._matrix_FD, self._grad_FD = (flat[MATRIX[frozen]] for flat in (autoencoder.params, autoencoder.grads))
        self.start_FD = self._matrix_FD.clone()
        """The matrix at its start. A checkpoint keeps it: it is what a continued training is held to."""

    def hold_gradient(self) -> None:
        """Set the gradient of what does not move to 0, so that it counts neither for clipping nor for Adam."""
        if not self._near:
            self._grad_FD.zero_()

    def hold(self) -> None:
        """Put the matrix back to its start; a decoder that must stay near only where a row is too far from its start.

        Such a row is turned to the nearest that is not too far. Rows and starts have unit norm.
        """
        if not self._near:
            self._matrix_FD.copy_(self.start_FD)
            return
        cosine_F1 = (self._matrix_FD * self.start_FD).sum(1, keepdim=True)
        across_FD = self._matrix_FD - cosine_F1 * self.start_FD
        across_FD.mul_(sqrt(1 - NEAR**2) / across_FD.norm(dim=1, keepdim=True).clamp_min(1e-12))
        nearest_FD = across_FD.add_(self.start_FD, alpha=NEAR)
        self._matrix_FD.copy_(torch.where(cosine_F1 < NEAR, nearest_FD, self._matrix_FD))
