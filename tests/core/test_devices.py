"""Precisions: fp32 is plain torch to the last bit, bf16 differs and learns, tf32 is CUDA's; settings are put back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from paretune.core.devices import numerics
from paretune.core.errors import UsageError
from paretune.core.step import seeded
from paretune.data.dataset import Data, load_data
from paretune.data.options import DataOptions
from paretune.models.contract import Classifier
from paretune.trainers.ann import Ann, AnnConfig
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from paretune.trainers.svm import Svm
from tests.samples import small_data


@pytest.fixture(scope="module")
def digits() -> Data:
    return load_data(DataOptions())


def trained(data: Data, precision: str) -> Classifier:
    config = AnnConfig(epochs=8, learning_rate=0.003, hidden=[32], n_conv=1, channels=8, seed=1)
    return Ann(config, device="cpu", precision=precision).fit(data)


def test_fp32_is_plain_torch_but_for_the_order_of_sums() -> None:
    data = small_data()
    config = SoftmaxConfig(epochs=3, batch_size=16, optimizer="sgd", learning_rate=0.1, momentum=0.9, normalize="none")
    ours = Softmax(config, device="cpu").fit(data)
    cpu = torch.device("cpu")
    with seeded(cpu, 0, 0):
        by_hand = Softmax(config, device="cpu")
        by_hand.start(data)
        net = by_hand.network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, fused=True)
    for number in (1, 2, 3):
        with seeded(cpu, 0, number):
            for batch in torch.randperm(len(data.train.y)).split(16):
                optimizer.zero_grad()
                functional.cross_entropy(net(data.train.x[batch]), data.train.y[batch]).backward()
                optimizer.step()
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(ours.state()[f"net.{name}"], value.numpy(), rtol=0, atol=1e-6)


def test_bf16_gives_other_weights_which_learn_as_well(digits: Data) -> None:
    plain, rounded = trained(digits, "fp32"), trained(digits, "bf16")
    assert digits.holdout is not None
    true = digits.holdout.y.numpy()
    scores = [np.mean(model.predict(digits.holdout.x) == true) for model in (plain, rounded)]
    assert scores[1] > 0.9
    assert abs(scores[0] - scores[1]) < 0.03
    state = rounded.state()
    assert all(array.dtype == np.float32 for array in state.values())
    assert any((array != state[name]).any() for name, array in plain.state().items())
    # the weights keep more than bf16's 8 bits: the updates are made in fp32
    weights = torch.from_numpy(state["net.output.weight"])
    assert (weights.bfloat16().float() != weights).float().mean() > 0.9


def test_a_model_predicts_in_fp32_whatever_it_was_trained_in(digits: Data) -> None:
    rounded = trained(digits, "bf16")
    plain = Ann(rounded.config, device="cpu")
    plain.start(digits)
    plain.load_state(rounded.state())
    np.testing.assert_array_equal(plain.predict_proba(digits.train.x[:50]), rounded.predict_proba(digits.train.x[:50]))


def test_a_training_in_bf16_does_not_go_on_from_one_in_fp32() -> None:
    data = small_data()
    config = SoftmaxConfig(epochs=3, batch_size=16)
    first = Softmax(config, device="cpu")
    epochs = first.fit_epochs(data)
    next(epochs)
    state = first.training_state()
    assert state is not None
    for precision, number in (("fp32", 2), ("bf16", 1)):
        other = Softmax(config, device="cpu", precision=precision)
        other.resume(state)
        assert next(other.fit_epochs(data)).number == number


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "multi_margin"])
def test_every_loss_trains_in_bf16(loss: str) -> None:
    config = SoftmaxConfig(epochs=3, batch_size=16, loss=loss, learning_rate=0.01)
    epochs = list(Softmax(config, device="cpu", precision="bf16").fit_epochs(small_data()))
    assert epochs[-1].metrics["train_loss"] < epochs[0].metrics["train_loss"]


@pytest.mark.parametrize(("precision", "wanted"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_cuda_calculates_as_asked_and_gets_its_settings_back(precision: str, wanted: str) -> None:
    def settings() -> tuple[str, str]:
        return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]

    before = settings()
    with numerics(precision, torch.device("cuda")):
        assert settings() == (wanted, wanted)
    assert settings() == before


@pytest.mark.parametrize(
    ("kind", "precision", "sentence"),
    [
        (Ann, "tf32", "precision tf32 is of CUDA devices alone. Got the device cpu: use fp32 or bf16."),
        (Ann, "bf61", "precision must be one of fp32, tf32, bf16. Got 'bf61'; did you mean 'bf16'?"),
        (Svm, "bf16", "precision must be fp32 for svm. Got 'bf16'."),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(kind: type[Classifier], precision: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        kind(device="cpu", precision=precision)
    assert str(refused.value) == sentence
