"""The SVM by matrix products gives libsvm's decisions, scikit-learn's labels and its calibrated probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from paretune.kernel_svm import decisions as votes
from paretune.kernel_svm.decisions import PairwiseMachine, calibrated_probabilities, winners
from paretune.kernel_svm.kernels import Kernel

KERNELS = {
    "rbf": {"gamma": 0.4, "degree": 3, "coef0": 0.0},
    "linear": {"gamma": 1.0, "degree": 3, "coef0": 0.0},
    "poly": {"gamma": 0.3, "degree": 3, "coef0": 0.7},
    "sigmoid": {"gamma": 0.1, "degree": 3, "coef0": -0.2},
}
every_machine = [
    pytest.mark.parametrize("kernel", KERNELS),
    pytest.mark.parametrize("n_classes", [2, 3, 10]),
    pytest.mark.parametrize("weighted", [False, True]),
]


def points(n_classes: int, *, n_samples: int = 150, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size."""
    random = np.random.default_rng(seed)
    y = np.sort(np.concatenate([np.arange(n_classes).repeat(6), random.integers(0, n_classes, n_samples) ** 2 // n_classes]))
    centres = np.random.default_rng(99).normal(size=(n_classes, 5))
    return centres[y] + random.normal(size=(len(y), 5)) * 0.9, y


def machine(kernel: str, n_classes: int, weighted: bool, **values: Any) -> SVC:
    x, y = points(n_classes)
    weight = {label: 1.0 + label for label in range(n_classes)} if weighted else None
    settings = {**KERNELS[kernel], **values}
    return SVC(kernel=kernel, C=2.0, class_weight=weight, decision_function_shape="ovo", **settings).fit(x, y)


def decisions_of(fitted: SVC, x: np.ndarray) -> np.ndarray:
    machine = PairwiseMachine(
        fitted.support_vectors_,
        fitted.dual_coef_,
        fitted.intercept_,
        fitted.n_support_,
        kernel=Kernel(fitted.kernel, fitted.gamma, fitted.degree, fitted.coef0),
        device=torch.device("cpu"),
    )
    return machine.decisions(x)


def all_machines(test: Any) -> Any:
    for mark in every_machine:
        test = mark(test)
    return test


@all_machines
def test_decisions_are_libsvms(kernel: str, n_classes: int, weighted: bool) -> None:
    fitted = machine(kernel, n_classes, weighted)
    x, _ = points(n_classes, seed=1)
    wanted = fitted.decision_function(x)
    if n_classes == 2:
        wanted = -wanted[:, None]  # scikit-learn's sign: above 0 means the second class
    np.testing.assert_allclose(decisions_of(fitted, x), wanted, atol=1e-8)


@all_machines
def test_labels_are_scikit_learns_wherever_no_decision_is_within_rounding_of_zero(
    kernel: str, n_classes: int, weighted: bool
) -> None:
    fitted = machine(kernel, n_classes, weighted)
    x, _ = points(n_classes, n_samples=400, seed=2)
    decisions = decisions_of(fitted, x)
    clear = (np.abs(decisions) >= 1e-5).all(axis=1)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(winners(decisions, n_classes)[clear], fitted.predict(x)[clear])


@all_machines
def test_probabilities_are_those_of_scikit_learns_calibration(kernel: str, n_classes: int, weighted: bool) -> None:
    x, y = points(n_classes)
    fresh, _ = points(n_classes, seed=3)
    unfitted = machine(kernel, n_classes, weighted).set_params(decision_function_shape="ovr")
    calibrated = CalibratedClassifierCV(unfitted, ensemble=False, method="sigmoid", cv=3).fit(x, y)
    inner = calibrated.calibrated_classifiers_[0]
    sigmoids = np.array([[sigmoid.a_, sigmoid.b_] for sigmoid in inner.calibrators])
    found = calibrated_probabilities(decisions_of(inner.estimator, fresh), n_classes, sigmoids)
    np.testing.assert_allclose(found, calibrated.predict_proba(fresh), atol=1e-9)


def test_the_first_class_wins_ties() -> None:
    one_each = np.array([[1.0, -1.0, 1.0]])  # 0 beats 1, 2 beats 0, 1 beats 2
    assert winners(one_each, 3).tolist() == [0]
    assert winners(np.array([[-1.0, 1.0, 1.0]]), 3).tolist() == [1]


def test_a_decision_of_exactly_zero_votes_for_the_second_class_as_in_libsvm() -> None:
    assert winners(np.array([[0.0]]), 2).tolist() == [1]


def test_ties_of_three_classes_fall_as_in_scikit_learn() -> None:
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    y = np.repeat([0, 1, 2], 30)
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    fitted = SVC(kernel="linear", C=0.01, gamma=1.0, decision_function_shape="ovo").fit(x, y)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 41), np.linspace(-1, 1, 41)), axis=-1).reshape(-1, 2)
    decisions = decisions_of(fitted, grid)
    clear = (np.abs(decisions) >= 1e-5).all(axis=1)
    np.testing.assert_array_equal(winners(decisions, 3)[clear], fitted.predict(grid)[clear])


def test_blocks_give_what_one_product_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = machine("rbf", 3, weighted=False)
    x, _ = points(3, seed=4)
    whole = decisions_of(fitted, x)
    monkeypatch.setattr(votes, "BLOCK_BYTES", 8 * len(fitted.support_vectors_) * 7)
    np.testing.assert_allclose(decisions_of(fitted, x), whole, atol=1e-12)


def test_no_samples_have_no_decisions() -> None:
    fitted = machine("rbf", 3, weighted=False)
    assert decisions_of(fitted, np.zeros((0, 5))).shape == (0, 3)
