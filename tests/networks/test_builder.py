"""The nets of the source documents have their published sizes, and layers stand where the description puts them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from paretune.core.errors import UsageError
from paretune.models.run_config import configure, read_preset
from paretune.networks.builder import ACTIVATIONS, build_network, layer_table
from paretune.trainers.ann import Activation, Ann, AnnConfig
from tests.samples import ROOT

PRESETS = sorted(path.stem for path in (ROOT / "trainers" / "presets").glob("*.yaml"))
GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def network_of(shape: tuple[int, int, int], *, n_classes: int = 10, **values: Any) -> nn.Module:
    config, _, _ = configure(Ann, values)
    classifier = Ann(config, device="cpu")  # type: ignore[arg-type]
    classifier.input_shape, classifier.class_names = shape, [str(label) for label in range(n_classes)]
    return classifier.network()


def n_parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def kinds(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network.modules() if not list(layer.children())]


@pytest.mark.parametrize(
    ("preset", "shape", "count"),
    [
        ("simple_cnn", GREY, 813_802),
        ("alexnet", COLOUR, 6_199_498),
        ("sigmoid_32", GREY, 784 * 32 + 32 + 32 * 10 + 10),
        ("relu_64_64", GREY, 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10),
        ("dropout_64_64", GREY, 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10),
        ("cnn_10", GREY, (9 + 1) * 10 + 3 * (90 + 1) * 10 + 7 * 7 * 10 * 10 + 10),
    ],
)
def test_a_preset_has_the_documents_number_of_parameters(preset: str, shape: tuple[int, int, int], count: int) -> None:
    network = network_of(shape, preset=preset)
    assert n_parameters(network) == count
    assert network(torch.zeros(2, *shape)).shape == (2, 10)
    assert layer_table(network, shape).splitlines()[-1].split() == ["total", f"{count:,}"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_configuration(preset: str) -> None:
    assert AnnConfig.from_dict(read_preset(preset)).epochs > 0


def test_dropout_stands_before_and_after_the_first_activation_and_nowhere_else() -> None:
    assert kinds(network_of(GREY, preset="dropout_64_64")) == [
        *("Identity", "Flatten"),
        *("Linear", "Dropout", "ReLU", "Dropout"),
        *("Linear", "ReLU"),
        "Linear",
    ]


def test_the_cnn_of_ten_channels_is_two_blocks_of_two_convolutions() -> None:
    assert kinds(network_of(GREY, preset="cnn_10")) == [
        "Identity",
        *("Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d") * 2,
        *("Flatten", "Linear"),
    ]


def test_one_rate_stands_behind_every_hidden_layer() -> None:
    assert kinds(network_of((1, 4, 4), hidden=[5, 6], dropout=0.3)) == [
        *("Identity", "Flatten"),
        *("Linear", "ReLU", "Dropout") * 2,
        "Linear",
    ]


def test_one_rate_without_hidden_layers_stands_before_the_output() -> None:
    assert kinds(network_of((1, 4, 4), hidden=[], dropout=0.3)) == ["Identity", "Flatten", "Dropout", "Linear"]


def test_batch_norm_stands_before_the_activation() -> None:
    assert kinds(network_of((1, 4, 4), conv=[{"channels": 2}], hidden=[3], batch_norm=True)) == [
        *("Identity", "Conv2d", "BatchNorm2d", "ReLU", "Flatten"),
        *("Linear", "BatchNorm1d", "ReLU", "Linear"),
    ]


def test_both_ways_to_describe_layers_build_the_same_network() -> None:
    flat = network_of((1, 8, 8), n_hidden=2, width=5, n_conv=2, channels=3)
    blocks = [{"channels": 3, "pool": 2}, {"channels": 6, "pool": 2}]
    assert str(flat) == str(network_of((1, 8, 8), hidden=[5, 5], conv=blocks))


def test_no_hidden_layers_is_softmax_regression() -> None:
    assert n_parameters(network_of((1, 4, 4), n_hidden=0)) == 16 * 10 + 10


@pytest.mark.parametrize(("kind", "layer"), [("max", "MaxPool2d"), ("average", "AvgPool2d")])
def test_pooling_is_of_the_kind_asked_for(kind: str, layer: str) -> None:
    assert layer in kinds(network_of((1, 4, 4), conv=[{"channels": 2, "pool": 2, "pool_kind": kind}]))


@pytest.mark.parametrize(
    ("block", "size"),
    [({}, 9), ({"stride": 2}, 5), ({"padding": 0}, 7), ({"kernel": 5}, 9), ({"kernel": 2}, 10), ({"pool": 2}, 4)],
)
def test_the_size_behind_a_block_is_computed_as_torch_does(block: dict[str, Any], size: int) -> None:
    network = network_of((1, 9, 9), conv=[{"channels": 1, **block}], hidden=[])
    assert n_parameters(network) == block.get("kernel", 3) ** 2 + 1 + size * size * 10 + 10
    assert network(torch.zeros(1, 1, 9, 9)).shape == (1, 10)


def test_every_activation_that_the_config_names_is_there() -> None:
    from typing import get_args

    assert set(get_args(Activation)) == set(ACTIVATIONS)
    for activation in ACTIVATIONS:
        assert torch.isfinite(network_of((1, 3, 3), hidden=[4], activation=activation)(torch.ones(1, 1, 3, 3))).all()


@pytest.mark.parametrize("values", [{"n_conv": 4}, {"conv": [{"channels": 2, "kernel": 11, "padding": 0}]}])
def test_an_image_too_small_for_a_block_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"conv block \d \(kernel \d+, .*\) does not fit: its input is \dx\d pixels"):
        network_of((1, 8, 8), **values)


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ("hiden_1", "dropout has no layer 'hiden_1' to stand behind; did you mean 'hidden_1'?"),
        ("hidden_3", "did you mean 'hidden_"),
        ("output", "dropout has no layer 'output' to stand behind"),
        ("zzz", "dropout has no layer 'zzz' to stand behind; there are input, flatten, hidden_1, hidden_2"),
        ("hidden_1.norm", "dropout has no layer 'hidden_1.norm' to stand behind"),
    ],
)
def test_an_unknown_dropout_position_is_refused(after: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        network_of((1, 4, 4), hidden=[5, 5], dropout=[{"after": after, "rate": 0.1}])
    assert sentence in str(refusal.value)


def test_the_table_lists_every_layer_with_its_output() -> None:
    network = build_network(
        (1, 6, 6), 3, conv=[{"channels": 2, "kernel": 3, "stride": 1, "padding": None, "pool": 2, "pool_kind": "max"}]
    )
    lines = [line.split() for line in layer_table(network, (1, 6, 6)).splitlines()]
    assert lines[0] == ["layer", "kind", "output", "parameters"]
    assert ["conv_1.conv", "Conv2d", "2x6x6", "20"] in lines
    assert ["conv_1.pool", "MaxPool2d", "2x3x3", "0"] in lines
    assert ["output", "Linear", "3", "57"] in lines
