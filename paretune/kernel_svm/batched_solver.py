"""All one-against-one problems of an SVM at once: sequential minimal optimisation, batched in torch, on any device.

The kernel matrix lies on the device in float32. Each step picks two images in each problem by second-order information and moves
their alphas; a problem ends at libsvm's own condition, and problems that have ended leave the batch.
Source: Fan, Chen and Lin 2005, "Working set selection using second order information", algorithm 2 (WSS 2); libsvm (Chang and
Lin 2011), section 4, for the condition and the intercept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from paretune.kernel_svm.kernels import Kernel
    from paretune.kernel_svm.pair_solver import Solution

LOOK_EVERY = 64  # steps between looks at which problems have ended; a look waits for the device
MOST_STEPS = 1_000_000
LEAST_CURVATURE = 1e-12  # of a direction, as libsvm has it: kernels such as sigmoid may bend the other way
ROWS = 4_096  # images whose kernel values are computed at a time
FROM = 20_000  # training images from which a GPU solves; chosen by the work, not measured on one
SHARE = 0.8  # of the device's free memory, at most
Found = tuple[np.ndarray, np.ndarray, float]  # of a pair: places of its support vectors, their coefficients, the intercept


def suits(n_train: int, kernel: str, device: torch.device) -> bool:
    """Return whether a fit is to be solved here: large, on a GPU that holds the kernel matrix, and with one optimum.

    The sigmoid kernel is not positive definite: its problems have several optima, and libsvm's is the one that is wanted.
    """
    if device.type != "cuda" or n_train < FROM or kernel == "sigmoid":
        return False
    return 4 * n_train**2 <= SHARE * torch.cuda.mem_get_info(device)[0]


def kernel_on(device: torch.device, x: np.ndarray, kernel: Kernel) -> torch.Tensor:
    """Return the kernel values of images (n_samples, n_features) with each other, float32 (n_samples, n_samples)."""
    rows = torch.as_tensor(x, dtype=torch.float32, device=device)
    norms = torch.as_tensor(np.square(x).sum(axis=1), dtype=torch.float32, device=device)
    values = torch.empty(len(x), len(x), dtype=torch.float32, device=device)
    for start in range(0, len(x), ROWS):
        part = slice(start, start + ROWS)
        torch.mm(rows[part], rows.T, out=values[part])
        kernel.map_(values[part], norms[part], norms)
    if kernel.name == "rbf":
        values.fill_diagonal_(1.0)
    return values


def solve_pairs(
    values: torch.Tensor, ends: np.ndarray, pairs: Sequence[tuple[int, int]], penalties: Sequence[float], tolerance: float
) -> list[Found]:
    """Solve the problem of each pair of classes.

    Args:
        values: kernel values of images sorted by class (n_samples, n_samples).
        ends: where each class begins, and the end (n_classes + 1,).
        penalties: the most that an alpha of each class may be (n_classes,).
        tolerance: of the optimality conditions, in decisions, as libsvm's.

    Returns:
        per pair the places of the support vectors (n_support,) among the images, ascending, their coefficients (n_support,) in
        the decision for the pair's first class, and the intercept.
    """
    problems = _begin(values, ends, pairs, penalties)
    found: dict[int, Found] = {}
    for step in range(MOST_STEPS):
        open_ = _step(values, problems, tolerance)
        if step % LOOK_EVERY == LOOK_EVERY - 1:
            left = open_.cpu()
            for row in torch.nonzero(~left).flatten().tolist():
                found[int(problems.number[row])] = _result(problems, row)
            if not left.any():
                break
            if not left.all():
                problems = problems.only(torch.nonzero(open_).flatten())
    else:
        warnings.warn(f"the SVM's solver stopped after {MOST_STEPS:,} steps: lower C, or scale the pixels.", stacklevel=2)
        for row in range(len(problems.number)):
            found[int(problems.number[row])] = _result(problems, row)
    return [found[number] for number in range(len(pairs))]


def decisions(values: torch.Tensor, solution: Solution) -> np.ndarray:
    """Return the decisions (n_samples, n_pairs) of the images whose kernel values with each other these are."""
    support = torch.from_numpy(solution.support).to(values.device)
    coefficients, offset = (torch.from_numpy(part).to(values.device) for part in (solution.coefficients, solution.offset))
    parts = [
        (values[start : start + ROWS].index_select(1, support).double() @ coefficients + offset).cpu()
        for start in range(0, len(values), ROWS)
    ]
    return torch.cat(parts).numpy()


@dataclass
class Problems:
    """Problems that are still open, padded to one length.

    Args:
        number: which pair each is (n_problems,), on the CPU.
        rows: the places of their images (n_problems, n_images).
        real: False where a place is padding.
        sign: 1 of the first class, -1 of the second.
        limit: the most that an alpha may be.
        diagonal: kernel value of each image with itself.
        alpha: of each image.
        score: minus sign times gradient: how much a decision lacks.
    """

    number: torch.Tensor
    rows: torch.Tensor
    real: torch.Tensor
    sign: torch.Tensor
    limit: torch.Tensor
    diagonal: torch.Tensor
    alpha: torch.Tensor
    score: torch.Tensor

    def only(self, kept: torch.Tensor) -> Problems:
        """Return some of the problems."""
        parts = (self.rows, self.real, self.sign, self.limit, self.diagonal, self.alpha, self.score)
        return Problems(self.number[kept.cpu()], *(part[kept] for part in parts))


def _begin(values: torch.Tensor, ends: np.ndarray, pairs: Sequence[tuple[int, int]], penalties: Sequence[float]) -> Problems:
    counts = np.diff(ends)
    length = max(int(counts[i] + counts[j]) for i, j in pairs)
    rows, real = np.zeros((len(pairs), length), dtype=np.int64), np.zeros((len(pairs), length), dtype=bool)
    sign, limit = np.ones((len(pairs), length)), np.zeros((len(pairs), length))
    for row, (i, j) in enumerate(pairs):
        first, size = int(counts[i]), int(counts[i] + counts[j])
        rows[row, :size] = np.concatenate([np.arange(ends[i], ends[i + 1]), np.arange(ends[j], ends[j + 1])])
        real[row, :size] = True
        sign[row, first:size] = -1.0
        limit[row, :first], limit[row, first:size] = penalties[i], penalties[j]
    places, known, signs, limits = (torch.from_numpy(part).to(values.device) for part in (rows, real, sign, limit))
    diagonal = values.diagonal()[places].double()
    return Problems(torch.arange(len(pairs)), places, known, signs, limits, diagonal, torch.zeros_like(signs), signs.clone())


def _step(values: torch.Tensor, problems: Problems, tolerance: float) -> torch.Tensor:
    """Move two alphas of each open problem; return which were open (n_problems,)."""
    sign, alpha, score = problems.sign, problems.alpha, problems.score
    below, above = alpha < problems.limit, alpha > 0
    may_rise = torch.where(sign > 0, below, above) & problems.real  # alpha times sign
    may_fall = torch.where(sign > 0, above, below) & problems.real
    best, i = score.masked_fill(~may_rise, -torch.inf).max(dim=1, keepdim=True)
    worst = score.masked_fill(~may_fall, torch.inf).amin(dim=1, keepdim=True)
    open_ = best - worst > tolerance

    with_i = values[problems.rows.gather(1, i), problems.rows].double()
    gain = best - score
    curvature = (problems.diagonal.gather(1, i) + problems.diagonal - 2 * with_i).clamp_min_(LEAST_CURVATURE)
    j = (gain.square() / curvature).masked_fill_(~(may_fall & (gain > 0)), -torch.inf).argmax(dim=1, keepdim=True)
    with_j = values[problems.rows.gather(1, j), problems.rows].double()

    length = gain.gather(1, j) / curvature.gather(1, j)
    room_i, room_j = _room(problems, i, rise=True), _room(problems, j, rise=False)
    length = torch.where(open_, torch.minimum(length, torch.minimum(room_i, room_j)), 0.0)
    for place, room, direction in ((i, room_i, 1.0), (j, room_j, -1.0)):
        moved = alpha.gather(1, place) + direction * sign.gather(1, place) * length
        end = torch.where(direction * sign.gather(1, place) > 0, problems.limit.gather(1, place), 0.0)
        alpha.scatter_(1, place, torch.where(open_ & (length >= room), end, moved))  # exactly at its bound
    score.sub_(length * (with_i - with_j))
    return open_.flatten()


def _room(problems: Problems, place: torch.Tensor, *, rise: bool) -> torch.Tensor:
    """Return how far the alpha at `place`, times its sign, may rise or fall (n_problems, 1)."""
    alpha, limit, sign = (part.gather(1, place) for part in (problems.alpha, problems.limit, problems.sign))
    return torch.where((sign > 0) == rise, limit - alpha, alpha)


def _result(problems: Problems, row: int) -> Found:
    real = problems.real[row]
    parts = (problems.rows, problems.alpha, problems.sign, problems.score, problems.limit)
    rows, alpha, sign, score, limit = (part[row][real].cpu().numpy() for part in parts)
    free = (alpha > 0) & (alpha < limit)
    if free.any():
        intercept = float(score[free].mean())
    else:  # between what the two sides allow
        rises = np.where(sign > 0, alpha < limit, alpha > 0)
        intercept = float(score[rises].max() + score[~rises].min()) / 2
    support = np.flatnonzero(alpha > 0)
    return rows[support], alpha[support] * sign[support], intercept
