"""Random affine changes of a whole batch of images at once, on its device: move, scale, turn, mirror, crop.

Method: one sampling grid per image (`torch.nn.functional.affine_grid` and `grid_sample`, bilinear).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional


def augment(
    x: torch.Tensor,
    *,
    translate: float = 0.0,
    scale: float = 0.0,
    rotate: float = 0.0,
    flip: bool = False,
    crop: int = 0,
) -> torch.Tensor:
    """Return changed copies of images `x` (n_samples, channels, height, width); what moves in from outside is 0.

    Args:
        translate: largest move along each axis, as a share of the side.
        scale: largest growth or shrinkage, as a share.
        rotate: largest turn, in degrees.
        flip: mirror each image left to right with probability one half.
        crop: largest move along each axis in whole pixels.
    """
    n_samples, _, height, width = x.shape

    def uniform(largest: float) -> torch.Tensor:
        return (torch.rand(n_samples, device=x.device) * 2 - 1) * largest

    angle = uniform(math.radians(rotate))
    factor = 1 / (1 + uniform(scale))  # the grid maps output to input: a larger image reads a smaller field
    mirror = torch.where(torch.rand(n_samples, device=x.device) < 0.5, -1.0, 1.0) if flip else torch.ones_like(angle)
    move_x, move_y = uniform(2 * translate), uniform(2 * translate)  # the grid spans [-1, 1]
    if crop:
        pixels = torch.randint(-crop, crop + 1, (2, n_samples), device=x.device)
        move_x, move_y = move_x + pixels[0] * (2 / width), move_y + pixels[1] * (2 / height)
    cosine, sine = torch.cos(angle) * factor, torch.sin(angle) * factor
    aspect = height / width  # turn in pixels, not in the grid's units
    matrix = torch.stack(
        [
            torch.stack([cosine * mirror, -sine * aspect, move_x], dim=1),
            torch.stack([sine * mirror / aspect, cosine, move_y], dim=1),
        ],
        dim=1,
    )  # (n_samples, 2, 3)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
