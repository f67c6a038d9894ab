"""Torchvision's networks as backbones: cut before their output, with random or given weights, saved and exported whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from paretune.core.errors import UsageError
from paretune.models.export import export_onnx
from paretune.models.saved_models import load, save
from paretune.networks.backbone import DEVIATION, MEAN, Backbone, backbone_names
from paretune.trainers.ann import Ann, AnnConfig
from tests.samples import SMALL_BACKBONE as NAME
from tests.samples import small_data

pytestmark = pytest.mark.usefixtures("each_device")


def test_the_features_are_what_entered_the_last_dense_layer(fetched_weights: dict[str, torch.Tensor]) -> None:
    from torchvision import models

    whole = models.get_model(NAME, weights="DEFAULT").eval()
    backbone = Backbone(NAME).eval()
    backbone.take_imagenet()
    images = torch.rand(3, 3, 224, 224)
    with torch.inference_mode():
        features = backbone(images)
        assert features.shape == (3, backbone.n_features)
        torch.testing.assert_close(whole.fc(features), whole(images))


def test_grey_and_small_images_are_shown_enlarged_to_every_channel() -> None:
    backbone = Backbone(NAME).eval()
    grey = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(grey), backbone(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet81", "backbone 'resnet81' is no classification network .* did you mean 'resnet18'"),
        ("inception_v3", "backbone 'inception_v3' is no classification network"),
        ("squeezenet1_0", "backbone 'squeezenet1_0' does not end in a dense layer"),
    ],
)
def test_a_network_that_cannot_be_cut_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Backbone(name)


def test_detectors_are_no_backbones() -> None:
    names = backbone_names()
    assert {"resnet18", "alexnet", "vgg16", "vit_b_16"} <= set(names)
    assert not any("rcnn" in name or "deeplab" in name for name in names)


def test_backbone_and_convolutions_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="backbone stands in place of conv and n_conv"):
        AnnConfig.from_dict({"backbone": NAME, "n_conv": 2})


def test_imagenet_without_a_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match="imagenet gives the weights of a backbone: name one as well"):
        Ann(AnnConfig(epochs=1, start_from="imagenet")).fit(small_data())


@pytest.mark.parametrize("cause", [URLError("no route"), RuntimeError("invalid hash value")])
def test_weights_that_are_not_to_be_had_are_named_with_their_place(
    cause: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise cause

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(
        UsageError, match=rf"ImageNet weights of {NAME} are not on this machine .* put https://.*pth into {tmp_path}"
    ):
        Backbone(NAME).take_imagenet()


@pytest.mark.parametrize("content", [b"", b"<html>a proxy's page</html>", b"PK\x03\x04 cut"])
def test_weights_that_are_broken_are_named(content: bytes, fetched_weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (file,) = (tmp_path / "torch" / "hub" / "checkpoints").iterdir()
    file.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{file.name} is broken .*: remove it, so that it is fetched anew"):
        Backbone(NAME).take_imagenet()


def test_a_frozen_backbone_stays_as_it_began(fetched_weights: dict[str, torch.Tensor]) -> None:
    config = AnnConfig(
        backbone=NAME, hidden=[], epochs=1, batch_size=8, start_from="imagenet", train_only=["output"], normalize="imagenet"
    )
    data = small_data()
    state = Ann(config).fit(data).state()
    for name, array in fetched_weights.items():
        if not name.startswith("fc."):
            np.testing.assert_array_equal(state[f"net.backbone.net.{name}"], array.numpy(), err_msg=name)
    untrained = Ann(config).initialize(data).state()
    assert not np.array_equal(state["net.output.weight"], untrained["net.output.weight"])


def test_a_trained_backbone_changes_and_is_saved_and_exported_whole(
    fetched_weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data()
    config = AnnConfig(backbone=NAME, hidden=[5], epochs=1, batch_size=8, start_from="imagenet")
    model = Ann(config).fit(data)
    assert not np.array_equal(model.state()["net.backbone.net.conv1.0.weight"], fetched_weights["conv1.0.weight"].numpy())
    folder = save(model, tmp_path / "model", metrics={})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))  # a saved model needs no weights but its own
    again: Any = load(folder)
    images = data.test.x.numpy()
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))
    assert again.activations(images, "backbone.features").shape == (len(images), Backbone(NAME).n_features)
    assert export_onnx(again, tmp_path / "model.onnx", images[:4]).difference < 1e-4


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_normalised_as_imagenets_were(channels: int) -> None:
    model: Any = Ann(AnnConfig(normalize="imagenet"))
    shift, spread = model._normalization(torch.rand(4, channels, 5, 5))
    wanted = [np.array(values) if channels == 3 else np.array([np.mean(values)]) for values in (MEAN, DEVIATION)]
    for found, want in zip((shift, spread), wanted, strict=True):
        assert found.shape == (1, channels, 1, 1)
        np.testing.assert_allclose(found.flatten(), want, rtol=1e-6)


def test_batch_norms_that_are_not_trained_keep_their_statistics() -> None:
    data = small_data()
    config = AnnConfig(hidden=[6], batch_norm=True, epochs=2, batch_size=8, train_only=["output"])
    before = Ann(config).initialize(data).state()
    after = Ann(config).fit(data).state()
    assert any("running_mean" in name for name in before)
    for name, array in before.items():
        if "hidden_1" in name:
            np.testing.assert_array_equal(after[name], array, err_msg=name)
    assert isinstance(Ann(config).initialize(data).inference_module(), nn.Module)
