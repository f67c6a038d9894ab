"""Every declaration of when a parameter has an effect, by trainings with two of its values: equal where it has none, else not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import Field

from paretune.core.config import ActiveWhen, Config, Part
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.registry import MODELS, model_class
from paretune.models.run_config import RunOptions, configure, inactive_in

SMALL = {"epochs": 2, "train_size": 65, "batch_size": 32, "learning_rate": 0.01}
ANN = {**SMALL, "n_hidden": 1, "width": 8}
CONV = {**SMALL, "n_conv": 1, "channels": 2, "n_hidden": 0}
SVM = {"train_size": 65}
FREE = {"hidden": [8], "conv": [], **SMALL}
AUGMENTED = {**ANN, "augment": True}
# classifier, values of the others, parameter, two of its values
INACTIVE: list[tuple[str, dict[str, Any], str, Any, Any]] = [
    *(("ann", {**ANN, "optimizer": name}, "momentum", 0.0, 0.9) for name in ("adam", "adamw", "nadam", "radam", "adamax")),
    *(("ann", {**ANN, "optimizer": name}, "momentum", 0.0, 0.9) for name in ("adagrad", "adadelta")),
    ("softmax", {**SMALL, "optimizer": "sgd", "optimizer_settings": {"momentum": 0.5}}, "momentum", 0.0, 0.9),
    ("autoencoder", {**SMALL, "hidden": [8]}, "momentum", 0.0, 0.9),
    ("softmax", SMALL, "schedule_settings", {}, {}),  # others are refused
    ("softmax", {**SMALL, "loss": "multi_margin"}, "label_smoothing", 0.0, 0.0),
    ("ann", {**SMALL, "hidden": [8]}, "n_hidden", 1, 1),
    ("ann", {**SMALL, "hidden": [8]}, "width", 64, 64),
    ("ann", {**SMALL, "n_hidden": 0}, "width", 8, 16),
    ("ann", {**ANN, "conv": []}, "n_conv", 0, 0),
    ("ann", {**ANN, "conv": []}, "channels", 16, 16),
    ("ann", {**ANN, "n_conv": 0}, "channels", 4, 32),
    ("ann", {**SMALL, "n_hidden": 0}, "activation", "relu", "tanh"),
    ("ann", {**SMALL, "n_hidden": 0}, "batch_norm", False, True),
    *(
        ("ann", ANN, name, *values)
        for name, values in {"translate": (0.0, 0.3), "scale": (0.0, 0.3), "rotate": (0.0, 90.0)}.items()
    ),
    ("ann", ANN, "flip", False, True),
    ("ann", ANN, "crop", 0, 2),
    *(("svm", {**SVM, "kernel": kernel}, "degree", 2, 5) for kernel in ("rbf", "linear", "sigmoid")),
    *(("svm", {**SVM, "kernel": kernel}, "coef0", 0.0, 2.0) for kernel in ("rbf", "linear")),
    ("svm", {**SVM, "kernel": "linear"}, "gamma", "scale", 9.0),
    ("svm", {**SVM, "kernel": "linear"}, "gamma_factor", 1.0, 9.0),
    ("svm", SVM, "seed", 0, 7),
    ("softmax", {**SMALL, "n_folds": 4}, "holdout", 0.15, 0.5),
    ("softmax", SMALL, "fold", 0, 0),
    ("softmax", SMALL, "preset", None, None),
]
ACTIVE: list[tuple[str, dict[str, Any], str, Any, Any]] = [
    ("softmax", SMALL, "seed", 0, 7),
    ("ann", ANN, "seed", 0, 7),
    ("autoencoder", {**SMALL, "hidden": [8]}, "seed", 0, 7),
    ("svm", {**SVM, "probability": True, "scaling": "standard", "pca": 10, "kernel": "poly"}, "pca", 5, 10),
    ("softmax", SMALL, "class_weight", None, {"0": 3.0}),
    ("softmax", SMALL, "epochs", 1, 2),
    ("softmax", SMALL, "batch_size", 16, 32),
    ("softmax", SMALL, "optimizer", "adam", "sgd"),
    ("softmax", SMALL, "learning_rate", 0.01, 0.02),
    *(("ann", {**ANN, "optimizer": name}, "momentum", 0.0, 0.9) for name in ("sgd", "rmsprop")),
    ("softmax", SMALL, "weight_decay", 0.0, 0.1),
    ("softmax", SMALL, "optimizer_settings", {}, {"betas": [0.5, 0.9]}),
    ("softmax", SMALL, "schedule", "constant", "exponential"),
    ("softmax", {**SMALL, "schedule": "exponential"}, "schedule_settings", {}, {"gamma": 0.1}),
    ("ann", ANN, "train_only", None, ["output"]),
    ("softmax", SMALL, "clip_norm", None, 0.01),
    ("softmax", {**SMALL, "epochs": 6, "learning_rate": 5.0}, "early_stopping", None, 1),
    ("softmax", SMALL, "loss", "cross_entropy", "mse"),
    ("softmax", SMALL, "label_smoothing", 0.0, 0.3),
    ("softmax", SMALL, "normalize", "standard", "half"),
    ("ann", SMALL, "hidden", [8], [9]),
    ("ann", ANN, "n_hidden", 0, 1),
    ("ann", ANN, "width", 8, 16),
    ("ann", {**SMALL, "n_hidden": 0}, "conv", [{"channels": 2}], [{"channels": 3}]),
    ("ann", CONV, "n_conv", 1, 2),
    ("ann", CONV, "channels", 2, 3),
    ("ann", ANN, "activation", "relu", "tanh"),
    ("ann", CONV, "activation", "relu", "tanh"),
    ("ann", ANN, "dropout", 0.0, 0.5),
    ("ann", {**SMALL, "n_hidden": 0}, "dropout", 0.0, 0.5),
    ("ann", ANN, "batch_norm", False, True),
    ("ann", CONV, "batch_norm", False, True),
    ("ann", ANN, "augment", False, True),
    ("ann", AUGMENTED, "translate", 0.0, 0.3),
    ("ann", AUGMENTED, "scale", 0.0, 0.3),
    ("ann", AUGMENTED, "rotate", 0.0, 90.0),
    ("ann", AUGMENTED, "flip", False, True),
    ("ann", AUGMENTED, "crop", 0, 2),
    ("autoencoder", SMALL, "hidden", [8], [9]),
    ("autoencoder", {**SMALL, "hidden": [8]}, "activation", "relu", "tanh"),
    ("autoencoder", {**SMALL, "hidden": [8]}, "dropout", 0.0, 0.5),
    ("svm", SVM, "kernel", "rbf", "linear"),
    ("svm", SVM, "C", 0.1, 1.0),
    *(("svm", {**SVM, "kernel": kernel}, "gamma", "scale", "auto") for kernel in ("rbf", "poly", "sigmoid")),
    *(("svm", {**SVM, "kernel": kernel}, "gamma_factor", 1.0, 0.3) for kernel in ("rbf", "poly", "sigmoid")),
    ("svm", {**SVM, "kernel": "poly"}, "degree", 2, 5),
    *(("svm", {**SVM, "kernel": kernel}, "coef0", 0.0, 1.0) for kernel in ("poly", "sigmoid")),
    ("svm", SVM, "tolerance", 1e-3, 1.0),
    ("svm", SVM, "scaling", "none", "standard"),
    ("svm", SVM, "pca", None, 5),
    ("svm", SVM, "probability", False, True),
    ("softmax", SMALL, "classes", None, ["0", "1", "2"]),
    ("softmax", SMALL, "holdout", 0.15, 0.3),
    ("softmax", SMALL, "n_folds", None, 4),
    ("softmax", {**SMALL, "n_folds": 4}, "fold", 0, 1),
    ("softmax", SMALL, "split_seed", 0, 1),
    ("softmax", SMALL, "train_size", 65, 70),
    ("softmax", SMALL, "average", "macro", "weighted"),
    ("softmax", SMALL, "curves_on_test", False, True),
]
# by no training here: of pictures (a size, a class whose scores count), of large nets, and which epoch of a run counts
ELSEWHERE = {"backbone", "start_from", "image_size", "positive_class", "data", "best_metric"}
CONFIGS = {name: model_class(name).Config for name in MODELS}


def trained(classifier: str, values: Mapping[str, Any]) -> list[Any]:
    """Return the metrics of all epochs and everything learnt."""
    kind = model_class(classifier)
    config, options, _ = configure(kind, values)
    model = kind(config, device="cpu")
    epochs = [
        {name: value for name, value in epoch.metrics.items() if name != "seconds"}
        for epoch in model.fit_epochs(load_data(options))
    ]
    learnt = {name: array.tobytes() for name, array in model.state().items() if name != "gamma"}  # which an svm keeps as it came
    return [epochs, learnt]


def inactive(classifier: str, values: Mapping[str, Any]) -> list[str]:
    return inactive_in(*configure(model_class(classifier), values))


@pytest.mark.parametrize(("classifier", "others", "name", "one", "two"), INACTIVE, ids=lambda part: str(part)[:40])
def test_an_inactive_parameter_changes_nothing(classifier: str, others: dict[str, Any], name: str, one: Any, two: Any) -> None:
    assert {name} <= set(inactive(classifier, {**others, name: one})) & set(inactive(classifier, {**others, name: two}))
    assert trained(classifier, {**others, name: one}) == trained(classifier, {**others, name: two})


@pytest.mark.parametrize(
    ("classifier", "others", "name", "one", "two"),
    [one for one in ACTIVE if one[2] not in ELSEWHERE],
    ids=lambda part: str(part)[:40],
)
def test_an_active_parameter_changes_the_training(classifier: str, others: dict[str, Any], name: str, one: Any, two: Any) -> None:
    assert name not in {*inactive(classifier, {**others, name: one}), *inactive(classifier, {**others, name: two})}
    assert trained(classifier, {**others, name: one}) != trained(classifier, {**others, name: two})


def declared(config: type[Config]) -> set[str]:
    return {name for name, field in config.model_fields.items() if any(isinstance(note, ActiveWhen) for note in field.metadata)}


def test_every_parameter_is_tried_and_every_declaration_on_both_sides() -> None:
    fields = {name for config in (*CONFIGS.values(), DataOptions, RunOptions) for name in config.model_fields}
    assert fields - {"preset"} <= {name for _, _, name, *_ in ACTIVE} | ELSEWHERE
    for config in (*CONFIGS.values(), DataOptions, RunOptions):
        assert declared(config) - {"seed"} <= {name for _, _, name, *_ in INACTIVE}
    assert declared(CONFIGS["svm"]) == {"seed", "gamma", "gamma_factor", "degree", "coef0"}


def test_the_pooling_of_a_block_without_pooling_is_inactive() -> None:
    values = {**SMALL, "n_hidden": 0}
    blocks = [{"channels": 2, "pool_kind": kind} for kind in ("max", "average")]
    assert "conv.0.pool_kind" in inactive("ann", {**values, "conv": blocks[:1]})
    assert trained("ann", {**values, "conv": blocks[:1]}) == trained("ann", {**values, "conv": blocks[1:]})
    pooled = [{**block, "pool": 2} for block in blocks]
    assert not [name for name in inactive("ann", {**values, "conv": pooled}) if name.startswith("conv.")]
    assert trained("ann", {**values, "conv": pooled[:1]}) != trained("ann", {**values, "conv": pooled[1:]})


def test_batch_norm_without_layers_leaves_the_last_image_in_its_batch() -> None:
    values = {**SMALL, "n_hidden": 0, "train_size": 65, "batch_size": 32}
    assert trained("ann", {**values, "batch_norm": True}) == trained("ann", {**values, "batch_norm": False})


class Block(Part):
    width: int = 4
    slope: Annotated[float, ActiveWhen(lambda block: block.width > 4)] = Field(0.1, gt=0)


class OwnConfig(model_class("ann").Config):  # type: ignore[misc]
    gate: bool = False
    blocks: list[Block] = Field(default_factory=lambda: [Block(), Block(width=5)])
    rate: Annotated[float, ActiveWhen(lambda config: config.gate)] = Field(0.5, ge=0, description="with gate")
    depth: Annotated[int, Field(gt=0), ActiveWhen(lambda config: config.gate)] = 1


def test_a_config_of_ones_own_declares_in_the_same_way_and_inherits() -> None:
    assert {"rate", "depth", "momentum", "blocks.0.slope"} <= set(OwnConfig().inactive_parameters())
    assert "blocks.1.slope" not in OwnConfig().inactive_parameters()
    assert not {"rate", "depth"} & set(OwnConfig(gate=True).inactive_parameters())
    assert OwnConfig(gate=True, rate=0.25, depth=2).to_dict()["rate"] == 0.25
