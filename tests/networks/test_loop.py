"""The loop that the networks share: losses by hand, early stopping, clipping, what ends a training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paretune.core.devices import pick_device
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.core.step import n_threads, seeded
from paretune.models.saved_models import save
from paretune.networks.classifier import loss_of
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from tests.samples import small_data


def softmax(**values: Any) -> Softmax:
    return Softmax(SoftmaxConfig.from_dict({"epochs": 3, "batch_size": 16, **values}), device="cpu")


def ann(**values: Any) -> Ann:
    return Ann(AnnConfig.from_dict({"epochs": 2, "batch_size": 16, "hidden": [8], **values}), device="cpu")


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -0.2], [1.0, 1.5, 3.0], [-0.5, 0.0, 0.1]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1])
WEIGHT = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


def by_hand(name: str, weight: np.ndarray, smoothing: float) -> float:
    logits, labels = LOGITS.numpy(), LABELS.numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    one_hot = np.eye(3)[labels]
    target = one_hot * (1 - smoothing) + smoothing / 3
    if name == "cross_entropy":
        return float(-(target * weight * np.log(p)).sum() / weight[labels].sum())
    if name == "mse":
        return float((((p - target) ** 2).mean(axis=1) * weight[labels]).sum() / weight[labels].sum())
    margins = np.maximum(0, 1 - (logits[np.arange(4), labels][:, None] - logits)) * (1 - one_hot)
    return float((margins.sum(axis=1) / 3 * weight[labels]).mean())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "smoothing"), [("cross_entropy", 0.0), ("cross_entropy", 0.2), ("mse", 0.0), ("mse", 0.2), ("multi_margin", 0.0)]
)
def test_losses_are_those_computed_by_hand(name: str, weighted: bool, smoothing: float) -> None:
    weight = WEIGHT if weighted else None
    wanted = by_hand(name, WEIGHT.numpy() if weighted else np.ones(3), smoothing)
    assert float(loss_of(name, LOGITS, LABELS, weight=weight, smoothing=smoothing)) == pytest.approx(wanted, abs=1e-12)


def test_train_metrics_accumulate_during_the_epoch() -> None:
    data = small_data()
    classifier = softmax(epochs=1, learning_rate=1e-12, batch_size=7)  # it does not move: the mean is that of the start
    (epoch,) = classifier.fit_epochs(data)
    labels, loss = classifier.predict_with_loss(data.train.x, data.train.y)
    assert epoch.metrics["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert epoch.metrics["train_accuracy"] == pytest.approx(np.mean(labels == data.train.y.numpy()))


def test_test_metrics_are_those_of_the_model_after_the_epoch() -> None:
    data = small_data()
    classifier = ann(dropout=0.4, batch_norm=True, class_weight={"c0": 3.0}, label_smoothing=0.1)
    for epoch in classifier.fit_epochs(data):
        assert data.holdout is not None
        labels, loss = classifier.predict_with_loss(data.holdout.x, data.holdout.y)
        assert epoch.metrics["test_loss"] == pytest.approx(loss, rel=1e-5)
        assert epoch.metrics["test_accuracy"] == pytest.approx(np.mean(labels == data.holdout.y.numpy()))


def test_early_stopping_ends_after_so_many_epochs_without_a_lower_loss() -> None:
    epochs = list(softmax(epochs=500, learning_rate=1.0, early_stopping=3).fit_epochs(small_data()))
    losses = [epoch.metrics["test_loss"] for epoch in epochs]
    assert len(epochs) < 500
    assert len(epochs) == int(np.argmin(losses)) + 1 + 3
    assert [epoch.last for epoch in epochs] == [False] * (len(epochs) - 1) + [True]


@pytest.mark.parametrize("split", ["none", "test"])
def test_early_stopping_is_refused_without_a_hold_out(split: str) -> None:
    with pytest.raises(UsageError, match="early_stopping needs a hold-out"):
        next(softmax(early_stopping=2).fit_epochs(small_data(split=split)))


def test_label_smoothing_is_refused_with_multi_margin() -> None:
    with pytest.raises(UsageError, match="label_smoothing does not apply to loss=multi_margin"):
        next(softmax(label_smoothing=0.1, loss="multi_margin").fit_epochs(small_data()))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "multi_margin"])
def test_every_loss_trains(loss: str) -> None:
    epochs = list(softmax(loss=loss, epochs=15, learning_rate=0.05).fit_epochs(small_data()))
    assert epochs[-1].metrics["test_accuracy"] > 0.8


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    epochs = list(softmax(epochs=50, optimizer="sgd", learning_rate=1e38).fit_epochs(small_data()))
    assert len(epochs) < 50
    assert epochs[-1].last
    assert not math.isfinite(epochs[-1].metrics["train_loss"])
    assert math.isfinite(epochs[-1].metrics["f1"])


def test_clipping_bounds_a_step() -> None:
    data = small_data()

    def start_and_end(**values: Any) -> float:
        classifier = softmax(epochs=1, optimizer="sgd", learning_rate=1.0, batch_size=len(data.train), **values)
        list(classifier.fit_epochs(data))
        with seeded(torch.device("cpu"), 0, 0):
            start = [weight.detach().clone() for weight in classifier.network().parameters()]
        end = [weight.detach() for weight in classifier._net.parameters()]  # type: ignore[union-attr]
        return math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(start, end, strict=True)))

    assert start_and_end(clip_norm=0.01) == pytest.approx(0.01, rel=1e-3)
    assert start_and_end() > 0.05


@pytest.mark.parametrize("size", [60, 59, 20, 7, 100])
def test_batch_norm_trains_whatever_is_left_for_the_last_batch(size: int) -> None:
    epochs = list(ann(batch_norm=True, batch_size=size, n_conv=1, channels=2).fit_epochs(small_data(n_train=60)))
    assert all(math.isfinite(value) for epoch in epochs for value in epoch.metrics.values())


def test_batch_norm_with_one_image_left_trains() -> None:
    epochs = list(ann(batch_norm=True, batch_size=20).fit_epochs(small_data(n_train=61)))
    assert all(math.isfinite(value) for epoch in epochs for value in epoch.metrics.values())


@pytest.mark.parametrize(("normalize", "shift", "spread"), [("half", 0.5, 0.5), ("none", 0.0, 1.0), ("standard", None, None)])
def test_pixels_are_normalized_as_asked(normalize: str, shift: float | None, spread: float | None) -> None:
    data = small_data(3, (3, 4, 4))
    state = softmax(normalize=normalize).fit(data).state()
    x = data.train.x.numpy()
    wanted_shift = x.mean(axis=(0, 2, 3)) if shift is None else np.full(3, shift)
    wanted_spread = x.std(axis=(0, 2, 3), ddof=1) if spread is None else np.full(3, spread)
    np.testing.assert_allclose(state["normalize.shift"].ravel(), wanted_shift, rtol=1e-5)
    np.testing.assert_allclose(state["normalize.spread"].ravel(), wanted_spread, rtol=1e-4)


def test_augmentation_trains_on_changed_images_and_scores_on_unchanged_ones() -> None:
    data = small_data()
    plain, augmented = ann(), ann(augment=True, translate=0.3)
    first, second = next(plain.fit_epochs(data)), next(augmented.fit_epochs(data))
    assert first.metrics["train_loss"] != second.metrics["train_loss"]
    still = ann(augment=True, translate=0, scale=0, rotate=0)
    unmoved = next(still.fit_epochs(data))
    assert unmoved.metrics["train_accuracy"] > 0


def test_seconds_add_up() -> None:
    seconds = [epoch.metrics["seconds"] for epoch in softmax().fit_epochs(small_data())]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_the_number_of_parameters_is_logged() -> None:
    epoch: Epoch = next(softmax().fit_epochs(small_data()))
    assert epoch.metrics["n_parameters"] == 36 * 3 + 3


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="Got 'abacus'"):
        pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="Got 'cuda'"):
            pick_device("cuda")
    assert pick_device("cpu") == torch.device("cpu")


def test_predictions_take_arrays_and_tensors_and_do_not_depend_on_the_batch() -> None:
    data = small_data()
    classifier = ann(batch_norm=True, dropout=0.5).fit(data)
    whole = classifier.predict_proba(data.test.x)
    one_by_one = np.concatenate([classifier.predict_proba(data.test.x.numpy()[i : i + 1]) for i in range(len(data.test))])
    np.testing.assert_allclose(one_by_one, whole, atol=1e-6)


def test_small_steps_train_on_one_thread_and_give_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with n_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with n_threads(None):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_training_starts_from_the_layers_that_fit_and_trains_those_that_are_named(tmp_path: Path) -> None:
    data = small_data()
    first = Ann(AnnConfig(hidden=[6, 5], epochs=2), device="cpu").fit(data)
    folder = save(first, tmp_path / "first", metrics={})
    config = AnnConfig(hidden=[6, 4], epochs=1, start_from=str(folder), train_only=["hidden_2", "output"], batch_norm=False)
    model = Ann(config, device="cpu").initialize(data)
    before, theirs = model.state(), first.state()
    np.testing.assert_array_equal(before["net.hidden_1.linear.weight"], theirs["net.hidden_1.linear.weight"])
    assert before["net.hidden_2.linear.weight"].shape != theirs["net.hidden_2.linear.weight"].shape
    after = Ann(config, device="cpu").fit(data).state()
    np.testing.assert_array_equal(after["net.hidden_1.linear.weight"], before["net.hidden_1.linear.weight"])
    assert not np.array_equal(after["net.hidden_2.linear.weight"], before["net.hidden_2.linear.weight"])
    assert not np.array_equal(after["net.output.weight"], before["net.output.weight"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train_only": ["outptu"]}, "train_only: 'outptu' has nothing to train; did you mean 'output'"),
        ({"start_from": "nowhere"}, "nowhere is not a saved model"),
    ],
)
def test_layers_that_are_not_there_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Ann(AnnConfig(epochs=1, **values), device="cpu").fit(small_data())


def test_a_model_of_other_layers_is_no_start(tmp_path: Path) -> None:
    data = small_data()
    folder = save(Ann(AnnConfig(hidden=[6], epochs=1), device="cpu").fit(data), tmp_path / "first", metrics={})
    other = AnnConfig(conv=[{"channels": 2}], hidden=[3], epochs=1, start_from=str(folder))  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"start_from: no layer of .* has the name and shape of one here"):
        Ann(other, device="cpu").fit(data)
