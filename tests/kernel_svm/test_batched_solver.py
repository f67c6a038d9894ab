"""The batched dual solver finds libsvm's machines: conditions, support vectors, decisions and labels, on the CPU here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from paretune.core.errors import UsageError
from paretune.data.dataset import Data, load_data
from paretune.data.options import DataOptions
from paretune.kernel_svm import batched_solver
from paretune.kernel_svm.kernels import Kernel
from paretune.kernel_svm.pair_solver import pairs_of
from paretune.trainers.svm import Svm, SvmConfig
from tests.samples import small_data

CPU = torch.device("cpu")
N_TEST = 2000  # images of MNIST's test set on which machines are compared: libsvm takes a second for a thousand
CONFIGURATIONS: list[dict[str, Any]] = [
    {"kernel": "rbf", "C": 10.0},
    {"kernel": "rbf", "C": 100.0, "gamma_factor": 3.0},
    {"kernel": "linear", "C": 30.0},
    {"kernel": "poly", "C": 5.0, "coef0": 0.5, "degree": 2},
    {"kernel": "poly", "C": 20.0, "coef0": 1.0, "degree": 3},
    {"kernel": "sigmoid", "C": 1.0, "gamma_factor": 0.3},
]
every_configuration = pytest.mark.parametrize("values", CONFIGURATIONS, ids=lambda values: f"{values['kernel']}-{values['C']:g}")


def both_ways(data: Data, **values: Any) -> tuple[Svm, Svm, dict[str, float], dict[str, float]]:
    """Fit by the batched solver and by libsvm; return both machines and what each logged."""
    machines, metrics = [], []
    for batched in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batched_solver, "suits", lambda *_, batched=batched: batched)
            machine = Svm(SvmConfig.from_dict(values), device="cpu")
            (epoch,) = machine.fit_epochs(replace(data, kept={}))
        machines.append(machine)
        metrics.append({name: value for name, value in epoch.metrics.items() if name not in ("seconds", "n_parameters")})
    return machines[0], machines[1], metrics[0], metrics[1]


def assert_agree(data: Data, **values: Any) -> None:
    """Within what libsvm's tolerance of 0.001 leaves open: decisions, labels of 300 images in 301, one support vector in 100."""
    found, wanted, metrics, expected = both_ways(data, **values)
    decisions, theirs = found.decisions(data.test.x), wanted.decisions(data.test.x)
    assert np.abs(decisions - theirs).max() < 0.02
    assert (found.predict(data.test.x) != wanted.predict(data.test.x)).mean() <= 1 / 300
    assert len(found.state()["support_vectors"]) == pytest.approx(len(wanted.state()["support_vectors"]), rel=0.01)
    assert metrics == pytest.approx(expected, abs=1 / 300)


@every_configuration
def test_digits_get_libsvms_machine(values: dict[str, Any]) -> None:
    assert_agree(load_data(DataOptions()), **values)


@pytest.mark.needs_data
@pytest.mark.slow
@pytest.mark.parametrize("train_size", [1000, 3000])
@every_configuration
def test_mnist_gets_libsvms_machine(values: dict[str, Any], train_size: int) -> None:
    try:
        data = load_data(DataOptions(data="mnist", holdout=0.05, train_size=train_size))
    except UsageError as error:
        pytest.skip(str(error))
    assert_agree(replace(data, test=replace(data.test, x=data.test.x[:N_TEST], y=data.test.y[:N_TEST])), **values)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize(
    "values",
    [{"class_weight": "balanced"}, {"class_weight": {"c1": 3.0}, "C": 0.01}, {"scaling": "standard"}, {"probability": True}],
    ids=str,
)
def test_weights_preparations_and_probabilities_are_taken_along(values: dict[str, Any], n_classes: int) -> None:
    data = small_data(n_classes, n_train=23 * n_classes - 1)
    found, wanted, *_ = both_ways(data, **values)
    assert found.state().keys() == wanted.state().keys()
    np.testing.assert_allclose(found.decisions(data.test.x), wanted.decisions(data.test.x), atol=0.01)
    if "calibration" in wanted.state():
        np.testing.assert_allclose(found.state()["calibration"], wanted.state()["calibration"], rtol=0.02, atol=0.02)


def test_the_conditions_of_the_optimum_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_solver, "LOOK_EVERY", 1)
    random = np.random.default_rng(0)
    y = np.sort(random.integers(0, 3, 120))
    x = random.normal(size=(120, 4)) + y[:, None]
    ends = np.searchsorted(y, np.arange(4))
    kernel = Kernel("rbf", 0.3, 3, 0.0)
    values = batched_solver.kernel_on(CPU, x, kernel)
    penalties = [1.0, 2.0, 5.0]
    for (i, j), (places, coefficients, intercept) in zip(
        pairs_of(3), batched_solver.solve_pairs(values, ends, pairs_of(3), penalties, 1e-6), strict=True
    ):
        rows = np.r_[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
        sign = np.where(y[rows] == i, 1.0, -1.0)
        signed = np.zeros(120)
        signed[places] = coefficients
        alpha = signed[rows] * sign
        limit = np.where(sign > 0, penalties[i], penalties[j])
        assert np.all((alpha >= 0) & (alpha <= limit))
        assert signed.sum() == pytest.approx(0.0, abs=1e-9)
        margin = sign * (values.double().numpy()[rows] @ signed + intercept)
        assert margin[alpha == 0].min() >= 1 - 1e-5
        assert margin[alpha == limit].max() <= 1 + 1e-5
        np.testing.assert_allclose(margin[(alpha > 0) & (alpha < limit)], 1.0, atol=1e-5)
        theirs = SVC(C=1.0, gamma=0.3, tol=1e-6, class_weight={i: penalties[i], j: penalties[j]}).fit(x[rows], y[rows])
        assert set(rows[theirs.support_]) == set(places)
        assert -theirs.intercept_[0] == pytest.approx(intercept, abs=1e-4)


def test_a_solver_that_does_not_end_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_solver, "MOST_STEPS", 3)
    random = np.random.default_rng(0)
    values = batched_solver.kernel_on(CPU, random.normal(size=(40, 3)), Kernel("rbf", 0.3, 3, 0.0))
    with pytest.warns(UserWarning, match="stopped after 3 steps"):
        batched_solver.solve_pairs(values, np.array([0, 20, 40]), [(0, 1)], [1.0, 1.0], 1e-6)


def test_only_a_gpu_solves_at_once_and_only_large_fits_with_one_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20 * 10**9, 0))
    gpu = torch.device("cuda", 0)
    assert batched_solver.suits(60_000, "rbf", gpu)
    assert not batched_solver.suits(60_000, "rbf", CPU)
    assert not batched_solver.suits(10_000, "rbf", gpu)
    assert not batched_solver.suits(60_000, "sigmoid", gpu)
    assert not batched_solver.suits(70_000, "rbf", gpu)  # its kernel matrix would be 19.6 GB
