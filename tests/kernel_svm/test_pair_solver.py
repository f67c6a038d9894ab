"""An SVM fitted on products of images, pair by pair, is the one that scikit-learn's SVC finds, with its labels and metrics."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from paretune.core.errors import UsageError
from paretune.data.dataset import Data, load_data
from paretune.data.images import Samples
from paretune.data.options import DataOptions
from paretune.kernel_svm import gram, pair_solver
from paretune.kernel_svm.kernels import Kernel
from paretune.trainers.svm import Svm, SvmConfig
from tests.samples import images, in_8_bits, needs_bytes, small_data

CONFIGURATIONS: list[dict[str, Any]] = [
    {"kernel": "rbf", "C": 10.0},
    {"kernel": "rbf", "C": 1.0, "gamma_factor": 3.0},
    {"kernel": "linear", "C": 30.0},
    {"kernel": "poly", "C": 5.0, "coef0": 0.5, "degree": 2},
    {"kernel": "poly", "C": 50.0, "coef0": 1.0, "degree": 3, "gamma_factor": 0.3},
    {"kernel": "sigmoid", "C": 2.0, "gamma_factor": 0.3},
    {"kernel": "sigmoid", "C": 20.0, "coef0": 0.4, "gamma_factor": 0.3, "gamma": "auto"},
]
every_configuration = pytest.mark.parametrize("values", CONFIGURATIONS, ids=lambda values: f"{values['kernel']}-{values['C']:g}")


@pytest.fixture(autouse=True)
def _small_sets_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "FROM", 0)


def both_ways(data: Data, **values: Any) -> tuple[Svm, Svm, dict[str, float], dict[str, float]]:
    """Fit on products and the ordinary way; return both machines and what each logged."""
    machines, metrics = [], []
    for least in (0, 1e30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gram, "FROM", least)
            machine = Svm(SvmConfig.from_dict(values), device="cpu")
            (epoch,) = machine.fit_epochs(replace(data, kept={}))
        machines.append(machine)
        metrics.append({name: value for name, value in epoch.metrics.items() if name != "seconds"})
    return machines[0], machines[1], metrics[0], metrics[1]


def assert_same_machine(one: Svm, other: Svm, *, tolerance: float = 1e-9) -> None:
    state, wanted = one.state(), other.state()
    assert state.keys() == wanted.keys()
    for name, array in wanted.items():
        assert state[name].dtype == array.dtype
        assert state[name].shape == array.shape, name
        np.testing.assert_allclose(state[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


@every_configuration
def test_the_machine_is_the_one_of_the_ordinary_way_on_digits(values: dict[str, Any]) -> None:
    fast, slow, metrics, wanted = both_ways(load_data(DataOptions()), **values)
    assert_same_machine(fast, slow)
    assert metrics == wanted


@every_configuration
def test_labels_are_those_of_scikit_learn_on_digits(values: dict[str, Any]) -> None:
    data = load_data(DataOptions())
    machine = Svm(SvmConfig.from_dict(values), device="cpu").fit(data)
    x, y = data.train.x.flatten(1).double().numpy(), data.train.y.numpy()
    theirs = SVC(
        C=values["C"],
        kernel=values["kernel"],
        gamma=float(machine.state()["gamma"]),
        degree=values.get("degree", 3),
        coef0=values.get("coef0", 0.0),
    ).fit(x, y)
    np.testing.assert_array_equal(machine.state()["support_vectors"], theirs.support_vectors_)
    np.testing.assert_array_equal(machine.predict(data.test.x), theirs.predict(data.test.x.flatten(1).double().numpy()))


@pytest.mark.needs_data
@pytest.mark.slow
@pytest.mark.parametrize("train_size", [1000, 2500])
@every_configuration
def test_the_machine_is_the_one_of_the_ordinary_way_on_mnist(values: dict[str, Any], train_size: int) -> None:
    try:
        data = load_data(DataOptions(data="mnist", holdout=0.05, train_size=train_size))
    except UsageError as error:
        pytest.skip(str(error))
    fast, slow, metrics, wanted = both_ways(data, **values)
    np.testing.assert_array_equal(fast.predict(data.test.x), slow.predict(data.test.x))
    assert metrics == wanted
    assert_same_machine(fast, slow, tolerance=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize(
    "values",
    [
        {"class_weight": "balanced"},
        {"class_weight": {"c1": 3.0}},
        {"scaling": "standard"},
        {"pca": 7, "seed": 3},
        {"scaling": "standard", "pca": 5, "kernel": "poly"},
        {"probability": True},
        {"probability": True, "kernel": "linear", "class_weight": "balanced"},
    ],
    ids=str,
)
def test_weights_preparations_and_probabilities_are_as_the_ordinary_way_has_them(values: dict[str, Any], n_classes: int) -> None:
    data = small_data(n_classes, n_train=23 * n_classes - 1)
    fast, slow, metrics, wanted = both_ways(data, **values)
    assert_same_machine(fast, slow, tolerance=1e-7)
    assert metrics == pytest.approx(wanted, abs=1e-7)
    np.testing.assert_array_equal(fast.predict(data.test.x), slow.predict(data.test.x))


def test_probabilities_of_many_images_are_calibrated_on_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.trainers.svm.CALIBRATION_ROWS", 40)
    fast, slow, *_ = both_ways(small_data(n_train=90), probability=True)
    assert_same_machine(fast, slow, tolerance=1e-7)


def test_classes_without_training_images_are_left_out() -> None:
    data = small_data(4, n_train=80)
    rows = data.train.y != 2
    fast, slow, metrics, wanted = both_ways(replace(data, train=Samples(data.train.x[rows], data.train.y[rows])))
    assert fast.state()["classes"].tolist() == [0, 1, 3]
    assert_same_machine(fast, slow)
    assert metrics == wanted


def test_where_nothing_is_evaluated_the_training_images_alone_are_scored() -> None:
    fast, slow, metrics, wanted = both_ways(small_data(split="none"))
    assert_same_machine(fast, slow)
    assert metrics == wanted
    assert not any(name.startswith("test") for name in metrics)


@every_configuration
def test_products_in_float32_give_nearly_the_same_machine(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "DOUBLE_TO", 0)
    data = load_data(DataOptions())
    fast, slow, *_ = both_ways(data, **values)
    assert (fast.predict(data.test.x) == slow.predict(data.test.x)).mean() >= 0.997  # at most one image of 360
    assert len(fast.state()["support_vectors"]) == pytest.approx(len(slow.state()["support_vectors"]), rel=0.01)


@needs_bytes
@every_configuration
def test_products_of_8_bit_pictures_give_nearly_the_same_machine(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = in_8_bits(small_data(4, (1, 12, 12), n_train=400))
    monkeypatch.setattr(gram, "DOUBLE_TO", 0)
    monkeypatch.setattr(gram, "products", lambda *_: pytest.fail("nothing was to be stored"))
    fast, slow, metrics, wanted = both_ways(data, **values)
    assert metrics == pytest.approx(wanted, abs=1e-12)
    np.testing.assert_array_equal(fast.predict(data.test.x), slow.predict(data.test.x))
    assert len(fast.state()["support_vectors"]) == pytest.approx(len(slow.state()["support_vectors"]), rel=0.02)


@needs_bytes
def test_probabilities_of_8_bit_pictures_are_calibrated_as_the_ordinary_way_does(monkeypatch: pytest.MonkeyPatch) -> None:
    data = in_8_bits(small_data(n_train=90))
    monkeypatch.setattr(gram, "DOUBLE_TO", 0)
    monkeypatch.setattr(gram, "products", lambda *_: pytest.fail("nothing was to be stored"))
    fast, slow, *_ = both_ways(data, probability=True)
    np.testing.assert_allclose(fast.predict_proba(data.test.x), slow.predict_proba(data.test.x), atol=1e-3)


def test_decisions_in_small_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small_data()
    _, _, metrics, _ = both_ways(data)
    monkeypatch.setattr(pair_solver, "BLOCK_BYTES", 1)
    monkeypatch.setattr(pair_solver, "CHUNK", 1)
    assert both_ways(data)[2] == metrics


def test_a_width_that_rounding_would_show_in_goes_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "DOUBLE_TO", 0)
    monkeypatch.setattr("paretune.trainers.svm.solve", lambda *_, **__: pytest.fail("the ordinary way was to be taken"))
    Svm(SvmConfig(gamma=1e5), device="cpu").fit(small_data())


def test_kernels_say_what_float32_is_too_coarse_for() -> None:
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    assert Kernel("rbf", 0.02, 3, 0.0).suits(200.0, single)
    assert not Kernel("rbf", 20.0, 3, 0.0).suits(200.0, single)
    assert Kernel("rbf", 20.0, 3, 0.0).suits(200.0, double)
    assert not Kernel("poly", 1.0, 20, 0.0).suits(1e5, double)
    assert Kernel("linear", 1.0, 3, 0.0).suits(1e9, single)
    assert Kernel("sigmoid", 0.0128, 3, 1.0).suits(250.0, single)
    for kernel in (Kernel("sigmoid", 0.1, 3, 0.0), Kernel("sigmoid", 0.01, 3, -100.0), Kernel("poly", 0.0128, 3, 1000.0)):
        assert not kernel.suits(250.0, single)
        assert kernel.suits(250.0, double)
    assert Kernel("poly", 0.0128, 3, 100.0).suits(250.0, single)
    assert Kernel("poly", 0.0128, 10, 0.0).suits(250.0, single)


def test_an_image_twice_is_at_no_distance_from_itself() -> None:
    x = torch.from_numpy(np.repeat(images(3, 3).x.flatten(1).double().numpy(), 2, axis=0))
    norms = torch.linalg.vecdot(x, x)
    values = Kernel("rbf", 50.0, 3, 0.0).map_(x @ x.T, norms, norms)
    assert values.max() <= 1.0
    np.testing.assert_allclose(values[0, 1], 1.0, atol=1e-10)


def test_seconds_are_without_the_products_that_trials_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now, products = [0.0], gram.products

    def slow(*arguments: Any) -> np.ndarray:
        now[0] += 60.0
        return products(*arguments)

    monkeypatch.setattr(gram, "products", slow)
    monkeypatch.setattr("paretune.trainers.svm.time", SimpleNamespace(perf_counter=lambda: now[0]))
    (epoch,) = Svm(device="cpu").fit_epochs(small_data())
    assert now == [60.0]
    assert epoch.metrics["seconds"] == 0.0


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_class_weight_that_is_no_penalty_is_refused_in_words(weight: float) -> None:
    with pytest.raises(UsageError, match=rf"^class_weight of an svm must be above 0 for every class\. Got .*'c1': {weight}\}}\.$"):
        SvmConfig(class_weight={"c0": 2.0, "c1": weight})
