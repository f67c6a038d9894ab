"""A fitted SVM as a torch module: prepared pixels, kernel values, votes, calibrated probabilities; for export.

The same arithmetic as `paretune.kernel_svm.decisions`, in float64 as there: a vote turns where a decision is near 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from paretune.kernel_svm.decisions import pair_coefficients

if TYPE_CHECKING:
    from paretune.kernel_svm.kernels import Kernel


class SvmInference(nn.Module):
    """From images (n_samples, channels, height, width) in [0, 1] to probabilities (n_samples, n_classes).

    Args:
        state: what the classifier learnt, with its calibration.
        scaled: whether the pixels are standardized first.
        projected: whether they are then mapped to their principal components.
    """

    vectors: torch.Tensor
    norms: torch.Tensor
    weights: torch.Tensor
    offset: torch.Tensor
    firsts: torch.Tensor
    seconds: torch.Tensor
    slopes: torch.Tensor
    shifts: torch.Tensor
    places: torch.Tensor
    mean: torch.Tensor
    spread: torch.Tensor
    centre: torch.Tensor
    directions: torch.Tensor

    def __init__(self, state: Mapping[str, np.ndarray], kernel: Kernel, n_classes: int, *, scaled: bool, projected: bool) -> None:
        super().__init__()
        self.kernel = kernel
        coefficients, offset = pair_coefficients(state["dual_coef"], state["intercept"], state["n_support"])
        present = len(state["classes"])
        pairs = [(i, j) for i in range(present) for j in range(i + 1, present)]
        firsts, seconds = (np.eye(present)[[pair[end] for pair in pairs]] for end in (0, 1))  # (n_pairs, n_present)
        self.scaled, self.projected = scaled, projected
        arrays = {
            "vectors": state["support_vectors"].T,  # (n_features, n_support)
            "norms": np.square(state["support_vectors"]).sum(axis=1),
            "weights": coefficients,  # (n_support, n_pairs)
            "offset": offset,
            "firsts": firsts,
            "seconds": seconds,
            "slopes": state["calibration"][:, 0],
            "shifts": state["calibration"][:, 1],
            "places": np.eye(n_classes)[state["classes"]],  # (n_present, n_classes)
        }
        if self.scaled:
            arrays |= {"mean": state["scaling.mean"], "spread": state["scaling.spread"]}
        if self.projected:
            arrays |= {"centre": state["pca.mean"], "directions": state["pca.components"].T}  # (n_pixels, pca)
        for name, array in arrays.items():
            self.register_buffer(name, torch.tensor(np.array(array), dtype=torch.float64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to probabilities, float32."""
        x = images.double().flatten(start_dim=1)
        if self.scaled:
            x = (x - self.mean) / self.spread
        if self.projected:
            x = (x - self.centre) @ self.directions
        decisions = self._kernel(x) @ self.weights + self.offset  # (n_samples, n_pairs)
        if self.firsts.shape[1] == 2:
            second = torch.sigmoid(self.slopes[0] * decisions - self.shifts[0])
            return (torch.cat([1 - second, second], dim=1) @ self.places).float()
        first = (decisions > 0).double()
        confidence = decisions @ (self.firsts - self.seconds)  # (n_samples, n_present)
        by_class = first @ self.firsts + (1 - first) @ self.seconds + confidence / (3 * (confidence.abs() + 1))
        raw = torch.sigmoid(-(self.slopes * by_class + self.shifts))
        return ((raw / raw.sum(dim=1, keepdim=True)) @ self.places).float()

    def _kernel(self, x: torch.Tensor) -> torch.Tensor:
        values, kernel = x @ self.vectors, self.kernel  # (n_samples, n_support)
        if kernel.name == "rbf":
            distances = (values * -2 + self.norms + (x * x).sum(dim=1, keepdim=True)).clamp_min(0)
            return torch.exp(-kernel.gamma * distances)
        if kernel.name == "poly":
            return (kernel.gamma * values + kernel.coef0) ** kernel.degree
        return torch.tanh(kernel.gamma * values + kernel.coef0) if kernel.name == "sigmoid" else values
