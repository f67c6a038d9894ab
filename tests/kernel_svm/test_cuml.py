"""Pairs of classes are fitted by cuML's interface; a stand-in with scikit-learn's SVC behind it, as no GPU is at hand."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from paretune.kernel_svm import cuml as rapids
from paretune.trainers.svm import Svm, SvmConfig
from tests.samples import small_data


class OnTheGpu:
    """An array that must be fetched, as CuPy's."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def get(self) -> np.ndarray:
        return self.values


def stand_in(sign: float) -> type[Any]:
    class StandIn:
        """cuML's SVC for two classes; `sign` says which of them counts as positive."""

        def __init__(self, **values: Any) -> None:
            self.machine = SVC(**values)

        def fit(self, x: np.ndarray, y: np.ndarray) -> Any:
            assert x.dtype == np.float32
            self.machine.fit(x, y)
            shuffled = np.random.default_rng(0).permutation(len(self.machine.support_))  # their order is not promised
            self.support_ = OnTheGpu(self.machine.support_[shuffled])
            self.dual_coef_ = OnTheGpu(sign * self.machine.dual_coef_[:, shuffled])
            self.intercept_ = sign * self.machine.intercept_
            return self

    return StandIn


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize(
    "values",
    [{}, {"kernel": "sigmoid", "C": 3.0}, {"kernel": "poly", "class_weight": {"c1": 4.0}}, {"scaling": "standard"}],
    ids=str,
)
def test_the_machine_is_the_ordinary_ways(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], n_classes: int, sign: float
) -> None:
    data = small_data(n_classes, n_train=24 * n_classes)
    wanted = Svm(SvmConfig.from_dict(values), device="cpu").fit(data)
    cuml, svm = ModuleType("cuml"), ModuleType("cuml.svm")
    svm.SVC = stand_in(sign)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuml", cuml)
    monkeypatch.setitem(sys.modules, "cuml.svm", svm)
    monkeypatch.setattr(rapids, "suits", lambda *_: True)
    found = Svm(SvmConfig.from_dict(values), device="cpu").fit(data)
    assert found.state().keys() == wanted.state().keys()
    for name, array in wanted.state().items():
        np.testing.assert_allclose(found.state()[name], array, rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(found.predict(data.test.x), wanted.predict(data.test.x))


def test_it_is_asked_only_on_a_gpu_where_it_is_installed() -> None:
    assert not rapids.suits(60_000, torch.device("cpu"))
    assert not rapids.suits(60_000, torch.device("cuda", 0))  # these tests' environment has none
