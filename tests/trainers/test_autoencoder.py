"""The autoencoder against the same network written out by hand in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from paretune.core.errors import UsageError
from paretune.models.evaluation import evaluate, evaluate_saved
from paretune.models.export import export_saved
from paretune.models.saved_models import load, save
from paretune.networks.builder import layer_table
from paretune.trainers.autoencoder import Autoencoder, AutoencoderConfig
from paretune.trainers.predict import predictions
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")

SGD = {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.5, "batch_size": 16, "epochs": 3}


def built(**values: Any) -> Autoencoder:
    return Autoencoder(AutoencoderConfig.from_dict({**SGD, **values}))


def test_a_training_is_the_one_written_out_by_hand() -> None:
    data = small_data()
    model = built(hidden=[7], seed=4).initialize(data)
    n_pixels = data.train.x[0].numel()
    net = nn.Sequential(nn.Flatten(), nn.Linear(n_pixels, 7), nn.Sigmoid(), nn.Linear(7, n_pixels), nn.Sigmoid())
    learnt = [torch.from_numpy(array.copy()) for array in model.state().values()]
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), learnt, strict=True):
            parameter.copy_(value)
    x = data.train.x
    np.testing.assert_allclose(model.reconstruct(x).reshape(len(x), -1), net(x).detach().numpy(), atol=1e-6)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.5)
    for epoch in model.fit_epochs(data):
        order, losses = epoch_order(4, epoch.number, len(x)), []
        for batch in order.split(16):
            optimizer.zero_grad()
            loss = ((net(x[batch]) - x[batch].flatten(1)) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
        assert epoch.metrics["train_loss"] == pytest.approx(sum(losses) / len(x), rel=1e-5)
        with torch.no_grad():
            held = data.evaluated.x  # type: ignore[union-attr]
            assert epoch.metrics["test_loss"] == pytest.approx(float(((net(held) - held.flatten(1)) ** 2).mean()), rel=1e-5)


def epoch_order(seed: int, epoch: int, n: int) -> torch.Tensor:
    drawn = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
    return torch.randperm(n, generator=torch.Generator().manual_seed(drawn))


def test_the_network_before_training_is_the_one_that_training_starts_from() -> None:
    data = small_data()
    untrained = built(seed=1).initialize(data).errors(data.test.x)
    model = built(seed=1, learning_rate=1e-12, epochs=1, momentum=0.0).fit(data)
    np.testing.assert_allclose(model.errors(data.test.x), untrained, rtol=1e-5)


def test_errors_codes_and_images_go_together() -> None:
    data = small_data()
    model = built(hidden=[9, 4], dropout=0.5).fit(data)
    x = data.test.x.numpy()
    images = model.reconstruct(x)
    assert images.shape == x.shape
    assert ((images > 0) & (images < 1)).all()
    np.testing.assert_allclose(model.errors(x), ((images - x) ** 2).mean(axis=(1, 2, 3)), rtol=1e-5)
    assert model.encode(x).shape == (len(x), 4)
    assert model.layers()[:3] == ["flatten", "encoder_1.linear", "encoder_1.activation"]
    assert model.mean_loss(x, data.test.y) == pytest.approx(float(((images - x) ** 2).mean()), rel=1e-5)
    np.testing.assert_allclose(model.activations(x, "reconstruct"), images, atol=1e-6)


def test_the_parameters_of_the_documents_network() -> None:
    model = built(hidden=[512])
    model.input_shape = (1, 28, 28)
    assert layer_table(model.network(), (1, 28, 28)).endswith(f"{784 * 512 + 512 + 512 * 784 + 784:,}")


def test_it_learns_to_give_its_images_back() -> None:
    data = small_data()
    first, *_, last = built(hidden=[32], optimizer="adam", learning_rate=0.02, momentum=0.0, epochs=60).fit_epochs(data)
    assert last.metrics["test_loss"] < 0.5 * first.metrics["test_loss"]


def test_the_same_seed_trains_the_same_and_another_another() -> None:
    data = small_data()
    first, again, other = (built(seed=seed).fit(data).state() for seed in (3, 3, 5))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert any(not np.array_equal(array, other[name]) for name, array in first.items())


def test_a_saved_one_is_the_same_and_no_classifier(tmp_path: Path) -> None:
    data = small_data()
    model = built(hidden=[5]).fit(data)
    save(model, tmp_path / "m", metrics={})
    again = load(tmp_path / "m")
    assert isinstance(again, Autoencoder)
    np.testing.assert_array_equal(again.reconstruct(data.test.x), model.reconstruct(data.test.x))
    found = evaluate(again, data.test, data)
    assert (found.confusion, list(found.metrics)) == (None, ["loss"])
    assert found.to_dict() == {"loss": found.metrics["loss"], "n_samples": len(data.test)}
    sentence = "is an autoencoder, which tells no classes apart: give the folder of a classifier"
    with pytest.raises(UsageError, match=sentence):
        export_saved(tmp_path / "m")
    with pytest.raises(UsageError, match=sentence):
        next(predictions([str(tmp_path / "m")], Path(__file__)))


def test_a_saved_one_is_evaluated_on_the_locked_part(tmp_path: Path) -> None:
    from paretune.data.dataset import load_data
    from paretune.data.options import DataOptions

    data = load_data(DataOptions())
    model = built(hidden=[5], epochs=1).fit(data)
    save(model, tmp_path / "m", metrics={}, origin={"data_options": DataOptions().to_dict()})
    assert evaluate_saved(str(tmp_path / "m")).metrics["loss"] == pytest.approx(float(model.errors(data.test.x).mean()), rel=1e-5)
