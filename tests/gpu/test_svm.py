"""The SVM's solver on the GPU finds libsvm's machine, and a machine decides on the GPU as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from paretune.kernel_svm import batched_solver
from paretune.trainers.svm import Svm
from tests.gpu.comparing import data, trained

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    "values",
    [
        {"C": 10.0},
        {"kernel": "linear", "C": 0.5},
        {"kernel": "poly", "degree": 2, "coef0": 1.0},
        {"class_weight": "balanced", "C": 0.3},
    ],
    ids=str,
)
def test_the_solver_finds_libsvms_machine(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, (wanted,) = trained("svm", "cpu", **values)
    monkeypatch.setattr(batched_solver, "FROM", 0)
    solved: list[bool] = []
    real = batched_solver.solve_pairs

    def noted(kernel_values: torch.Tensor, *rest: Any) -> Any:
        solved.append(kernel_values.is_cuda)
        return real(kernel_values, *rest)

    monkeypatch.setattr(batched_solver, "solve_pairs", noted)
    ours, (found,) = trained("svm", "cuda", **values)
    assert solved == [True], "the GPU's solver fits"
    x = data().test.x
    # within what libsvm's tolerance of 0.001 leaves open
    np.testing.assert_allclose(ours.decisions(x), theirs.decisions(x), atol=0.02)
    assert (ours.predict(x) != theirs.predict(x)).mean() <= 1 / 300
    assert len(ours.state()["support_vectors"]) == pytest.approx(len(theirs.state()["support_vectors"]), rel=0.02)
    for name in set(wanted.metrics) - {"seconds", "n_parameters"}:
        assert found.metrics[name] == pytest.approx(wanted.metrics[name], abs=0.02), name


def test_probabilities_are_calibrated_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, _ = trained("svm", "cpu", probability=True)
    monkeypatch.setattr(batched_solver, "FROM", 0)
    ours, _ = trained("svm", "cuda", probability=True)
    np.testing.assert_allclose(ours.predict_proba(data().test.x), theirs.predict_proba(data().test.x), atol=0.02)


def test_a_machine_of_the_cpu_decides_on_the_gpu_in_float64() -> None:
    theirs, _ = trained("svm", "cpu", C=10.0)
    ours = Svm(theirs.config, device="cuda")
    ours.start(data())
    ours.load_state(theirs.state())
    np.testing.assert_allclose(ours.decisions(data().test.x), theirs.decisions(data().test.x), rtol=0, atol=1e-9)
