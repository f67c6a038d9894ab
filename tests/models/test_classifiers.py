"""One conformance suite over every model: whoever adds a line to MODELS is tested by it."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.data.dataset import Data
from paretune.models.contract import Classifier
from paretune.models.registry import MODELS, model_class
from paretune.models.saved_models import describe, load, save
from paretune.networks.builder import layer_table
from tests.samples import ROOT, assert_alike, small_data, start

pytestmark = pytest.mark.usefixtures("each_device")

QUICK = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05}
CLOCK = {"seconds"}
NAMES = list(MODELS)

every_model = pytest.mark.parametrize("name", NAMES)
every_classifier = pytest.mark.parametrize("name", [name for name in NAMES if issubclass(model_class(name), Classifier)])


def built(name: str, **values: Any) -> Any:
    kind = model_class(name)
    known = {key: value for key, value in QUICK.items() if key in kind.Config.model_fields}
    return kind(kind.Config.from_dict({**known, **values}))


def without_clock(epochs: list[Epoch]) -> list[tuple[int, dict[str, float], bool]]:
    return [(e.number, {k: v for k, v in e.metrics.items() if k not in CLOCK}, e.last) for e in epochs]


@every_model
def test_the_registered_name_is_the_class_name(name: str) -> None:
    assert model_class(name).name == name


@every_model
def test_epochs_are_numbered_from_one_and_only_the_final_one_is_last(name: str) -> None:
    epochs = list(built(name).fit_epochs(small_data()))
    assert [epoch.number for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert [epoch.last for epoch in epochs] == [False] * (len(epochs) - 1) + [True]


@every_model
def test_an_epoch_carries_the_promised_metrics(name: str) -> None:
    classifier = built(name)
    for epoch in classifier.fit_epochs(small_data()):
        assert set(epoch.metrics) == set(classifier.metric_names(classifier.config))
        assert all(isinstance(value, float) and np.isfinite(value) for value in epoch.metrics.values())


@every_model
def test_where_everything_is_trained_on_no_epoch_carries_test_metrics(name: str) -> None:
    classifier = built(name)
    for epoch in classifier.fit_epochs(small_data(split="none")):
        wanted = {metric for metric in classifier.metric_names(classifier.config) if metric.startswith("train_")}
        assert set(epoch.metrics) == wanted | {"seconds", "n_parameters"}


@every_classifier
def test_a_classifier_learns_what_is_easy(name: str) -> None:
    data = small_data()
    classifier = built(name, **({"epochs": 15} if "epochs" in model_class(name).Config.model_fields else {})).fit(data)
    assert np.mean(classifier.predict(data.test.x) == data.test.y.numpy()) > 0.9


@every_classifier
def test_the_same_seed_trains_the_same_classifier(name: str) -> None:
    data = small_data()
    first, second = built(name, seed=3), built(name, seed=3)
    assert without_clock(list(first.fit_epochs(data))) == without_clock(list(second.fit_epochs(data)))
    np.testing.assert_array_equal(first.predict(data.test.x), second.predict(data.test.x))
    for key, array in first.state().items():
        np.testing.assert_array_equal(array, second.state()[key])


@pytest.mark.parametrize("name", ["softmax", "ann"])
def test_another_seed_trains_another_network(name: str) -> None:
    data = small_data()
    first, second = built(name, seed=0).fit(data), built(name, seed=1).fit(data)
    assert any(not np.array_equal(array, second.state()[key]) for key, array in first.state().items())


@every_model
def test_training_leaves_the_callers_random_state_alone(name: str) -> None:
    import torch

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    built(name).fit(small_data())
    assert torch.equal(torch.rand(3), wanted)


@every_model
@pytest.mark.parametrize("other", NAMES)
def test_interleaved_trainings_do_not_touch_each_other(name: str, other: str) -> None:
    data = small_data()
    alone = [without_clock(list(built(name, seed=1).fit_epochs(data))), without_clock(list(built(other, seed=2).fit_epochs(data)))]
    generators = [built(name, seed=1).fit_epochs(data), built(other, seed=2).fit_epochs(data)]
    together: list[list[Epoch]] = [[], []]
    for _ in range(QUICK["epochs"] + 1):
        for generator, epochs in zip(generators, together, strict=True):
            epoch = next(generator, None)
            if epoch is not None:
                epochs.append(epoch)
    assert [without_clock(epochs) for epochs in together] == alone


def population(name: str, data: Data, stopped: set[int] | None = None, stop_after: int = 0) -> list[list[Epoch]]:
    kind = model_class(name)
    configs = [built(name, seed=1).config, built(name, seed=2).config, built(name, seed=1).config]
    found: list[list[Epoch]] = [[], [], []]
    rounds = kind.fit_population(configs, data, stopped=stopped)
    for number, epochs in enumerate(rounds, start=1):
        assert len(epochs) == len(configs)
        for member, epoch in enumerate(epochs):
            if epoch is not None:
                found[member].append(epoch)
        if stopped is not None and number == stop_after:
            stopped.add(1)
    return found


@every_model
def test_a_population_trains_as_its_members_do_one_by_one(name: str) -> None:
    data = small_data()
    found = population(name, data)
    for member, seed in enumerate((1, 2, 1)):
        assert_alike(found[member], list(built(name, seed=seed).fit_epochs(data)))


@every_model
def test_a_stopped_member_of_a_population_trains_no_further(name: str) -> None:
    data = small_data()
    whole = population(name, data)
    found = population(name, data, set(), stop_after=1)
    assert len(found[1]) == 1
    for member in (0, 2):  # fewer in one program may round otherwise
        assert_alike(found[member], whole[member])


@every_classifier
def test_state_goes_round(name: str) -> None:
    data = small_data()
    classifier = built(name).fit(data)
    copy = built(name)
    copy.input_shape, copy.class_names = classifier.input_shape, classifier.class_names
    copy.load_state(classifier.state())
    np.testing.assert_array_equal(copy.predict(data.test.x), classifier.predict(data.test.x))
    assert copy.n_parameters == classifier.n_parameters
    assert all(isinstance(array, np.ndarray) for array in classifier.state().values())


@every_classifier
def test_a_model_saved_here_is_used_by_a_process_that_knows_only_its_folder(name: str, tmp_path: Path) -> None:
    data = small_data()
    values = {"probability": True} if name == "svm" else {}
    classifier = built(name, **values).fit(data)
    save(classifier, tmp_path / "model", metrics={"f1": 1.0})
    np.save(tmp_path / "x.npy", data.test.x.numpy())
    code = (
        "import sys, numpy; from paretune.models.saved_models import load; model = load(sys.argv[1]); x = numpy.load(sys.argv[2]);"
        "numpy.savez(sys.argv[3], labels=model.predict(x), p=model.predict_proba(x), names=model.class_names)"
    )
    paths = [str(tmp_path / part) for part in ("model", "x.npy", "out.npz")]
    result = start(sys.executable, "-c", code, *paths, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["labels"], classifier.predict(data.test.x))
        np.testing.assert_allclose(found["p"], classifier.predict_proba(data.test.x), atol=1e-6)
        assert list(found["names"]) == data.class_names


@every_classifier
def test_probabilities_add_up_to_one_and_follow_the_classes(name: str) -> None:
    data = small_data()
    classifier = built(name, **({"probability": True} if name == "svm" else {})).fit(data)
    probabilities = classifier.predict_proba(data.test.x)
    assert probabilities.shape == (len(data.test), len(data.class_names))
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    assert np.mean(probabilities.argmax(axis=1) == data.test.y.numpy()) > 0.8


@every_classifier
def test_every_listed_layer_has_an_activation_for_each_image(name: str) -> None:
    data = small_data()
    classifier = built(name).fit(data)
    layers = classifier.layers()
    assert layers[0] == "input"
    for layer in layers:
        values = classifier.activations(data.test.x, layer)
        assert (len(values), values.dtype) == (len(data.test), np.float32)
        assert np.isfinite(values).all()
    with pytest.raises(UsageError, match=rf"this {name} has no layer 'inptu'; did you mean 'input'\?"):
        classifier.activations(data.test.x, "inptu")


def test_the_activations_of_a_network_are_those_of_its_layers_one_after_another() -> None:
    data = small_data()
    classifier = built("ann", n_conv=1, channels=2, hidden=[5], dropout=0.5).fit(data)
    network, inside = classifier._net, classifier.inputs(classifier._on_device(data.test.x))
    network.eval()
    for layer in classifier.layers():
        inside = network.get_submodule(layer)(inside)
        np.testing.assert_allclose(classifier.activations(data.test.x, layer), inside.numpy(force=True), atol=1e-6)
    np.testing.assert_array_equal(classifier.activations(data.test.x, "output").argmax(axis=1), classifier.predict(data.test.x))
    table = [line.split()[0] for line in layer_table(network, data.input_shape).splitlines()[2:-2]]
    assert classifier.layers() == table


@every_classifier
def test_labels_and_loss_come_together(name: str) -> None:
    data = small_data()
    classifier = built(name, **({"probability": True} if name == "svm" else {})).fit(data)
    labels, loss = classifier.predict_with_loss(data.test.x, data.test.y)
    np.testing.assert_array_equal(labels, classifier.predict(data.test.x))
    likelihood = classifier.predict_proba(data.test.x)[np.arange(len(data.test)), data.test.y.numpy()]
    assert loss == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)


def test_an_svm_without_probabilities_has_no_loss_and_says_so() -> None:
    data = small_data()
    classifier = built("svm")
    (epoch,) = classifier.fit_epochs(data)
    assert not [metric for metric in epoch.metrics if metric.endswith("_loss")]
    assert not [metric for metric in classifier.metric_names(classifier.config) if metric.endswith("_loss")]
    assert classifier.predict_with_loss(data.test.x, data.test.y)[1] is None
    with pytest.raises(UsageError, match="probability=True"):
        classifier.predict_proba(data.test.x)


def test_an_svm_with_probabilities_logs_its_loss() -> None:
    (epoch,) = built("svm", probability=True).fit_epochs(small_data())
    assert {"train_loss", "test_loss"} <= set(epoch.metrics)


def test_probabilities_do_not_change_the_labels_of_an_svm() -> None:
    data = small_data()
    with_them, without = built("svm", probability=True).fit(data), built("svm").fit(data)
    np.testing.assert_array_equal(with_them.predict(data.test.x), without.predict(data.test.x))


@pytest.mark.parametrize("values", [{"scaling": "standard"}, {"pca": 4}, {"scaling": "standard", "pca": 4, "gamma": "auto"}])
def test_an_svm_keeps_its_preparation_of_the_pixels(values: dict[str, Any], tmp_path: Path) -> None:
    data = small_data()
    classifier = built("svm", **values).fit(data)
    save(classifier, tmp_path / "model", metrics={})
    again = load(tmp_path / "model")
    assert np.mean(classifier.predict(data.test.x) == data.test.y.numpy()) > 0.9
    np.testing.assert_array_equal(again.predict(data.test.x), classifier.predict(data.test.x))


def test_too_many_principal_components_are_refused() -> None:
    with pytest.raises(UsageError, match="pca must be at most 36"):
        built("svm", pca=37).fit(small_data())


@every_classifier
@pytest.mark.parametrize(("n_classes", "shape"), [(2, (1, 6, 6)), (3, (3, 5, 7)), (10, (1, 4, 12))])
def test_any_number_of_classes_and_any_shape_trains(name: str, n_classes: int, shape: tuple[int, int, int]) -> None:
    data = small_data(n_classes, shape)
    classifier = built(name).fit(data)
    labels = classifier.predict(data.test.x)
    assert labels.shape == (len(data.test),)
    assert set(labels.tolist()) <= set(range(n_classes))


@every_classifier
def test_balanced_weights_lift_the_recall_of_a_rare_class(name: str) -> None:
    import torch

    from paretune.data.images import Samples

    random = np.random.default_rng(0)
    y = np.array([0] * 190 + [1] * 10)
    x = (random.normal(size=(200, 1, 3, 3)) * 0.2 + y[:, None, None, None] * 0.15 + 0.4).astype(np.float32)
    part = Samples(torch.from_numpy(x), torch.from_numpy(y))
    data = Data("rare", ["many", "few"], part, None, part, "test", part)
    values = {"kernel": "linear"} if name == "svm" else {"hidden": []} if name == "ann" else {}
    if name != "svm":
        values |= {"epochs": 15}
    plain, weighted = built(name, **values).fit(data), built(name, class_weight="balanced", **values).fit(data)
    few = y == 1
    assert np.mean(weighted.predict(x)[few] == 1) > np.mean(plain.predict(x)[few] == 1)


@every_classifier
def test_class_weights_are_scikit_learns(name: str) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    data = small_data(3, n_train=50)
    found = built(name, class_weight="balanced").class_weights(data)
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=data.train.y.numpy())
    np.testing.assert_allclose(found, wanted)


@every_classifier
def test_weights_by_class_name_leave_the_others_at_one(name: str) -> None:
    assert built(name, class_weight={"c1": 4.0}).class_weights(small_data()) == [1.0, 4.0, 1.0]


@every_classifier
@pytest.mark.parametrize(
    ("weight", "sentence"),
    [({"c9": 1.0}, "class_weight names 'c9', which is not a class; there are c0, c1, c2"), ("even", "must be 'balanced'")],
)
def test_unfit_class_weights_are_refused(name: str, weight: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        built(name, class_weight=weight).fit(small_data())


@every_classifier
@pytest.mark.parametrize("average", ["weighted", "binary"])
def test_scores_are_averaged_as_the_data_say(name: str, average: str) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    data = small_data(2, average=average, positive=1 if average == "binary" else None)
    classifier = built(name)
    epoch = list(classifier.fit_epochs(data))[-1]
    assert data.holdout is not None
    predicted = classifier.predict(data.holdout.x)
    wanted = precision_recall_fscore_support(data.holdout.y.numpy(), predicted, average=average, zero_division=0)
    assert [epoch.metrics[score] for score in ("precision", "recall", "f1")] == pytest.approx(wanted[:3], abs=1e-9)


# Loading runs no code, and says what is wrong.


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code from a model file was run')",))


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(built(request.param).fit(small_data()), tmp_path / "model", metrics={"f1": 0.5}, origin={"data_options": {}})


def change(model: Path, **values: Any) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_pickle_in_place_of_the_weights_is_refused_unopened(model: Path) -> None:
    (model / "weights.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UsageError, match="is a broken model"):
        load(model)


def test_cut_weights_are_refused(model: Path) -> None:
    weights = model / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(UsageError, match="is a broken model"):
        load(model)


def test_missing_weights_are_refused(model: Path) -> None:
    (model / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match="is a broken model"):
        load(model)


def test_weights_of_something_else_are_refused(model: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"other": np.zeros(3)}, model / "weights.safetensors")
    with pytest.raises(UsageError, match="is a broken model"):
        load(model)


@pytest.mark.parametrize(
    ("change_of", "words"),
    [
        ({"net.output.bias": np.zeros((2, 2))}, "of another shape: output.bias"),
        ({"net.output.bias": None}, "missing: output.bias"),
        ({"net.more": np.zeros(2)}, "unknown: more"),
        ({"net.output.bias": None, "net.more": np.zeros(2)}, "missing: output.bias; unknown: more"),
    ],
)
def test_weights_that_do_not_fit_are_named(change_of: dict[str, np.ndarray | None], words: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = save(built("softmax").fit(small_data()), tmp_path / "model", metrics={})
    weights = load_file(model / "weights.safetensors") | change_of
    save_file({name: value for name, value in weights.items() if value is not None}, model / "weights.safetensors")
    sentence = f"{model} is a broken model (its weights do not fit its config.json; {words}): train it anew or fetch it again."
    with pytest.raises(UsageError, match=f"^{re.escape(sentence)}$"):
        load(model)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"classifier": "sofmax"}, "'sofmax' is not a model of trainers/; did you mean 'softmax'"),
        ({"classifier": "os:system"}, "is not a model of trainers/"),
        ({"config": {"learning_rat": 1}}, "learning_rat is not a hyper-parameter|learning_rat"),
        ({"config": 3}, "broken model"),
        ({"input_shape": [1]}, "broken model"),
        ({"input_shape": None}, "broken model"),
        ({"format": 99}, "is not a model of format 1"),
    ],
)
def test_an_unfit_description_is_refused(model: Path, values: dict[str, Any], sentence: str) -> None:
    change(model, **values)
    with pytest.raises(UsageError, match=sentence):
        load(model)


def test_a_description_that_is_no_json_is_refused(model: Path) -> None:
    (model / "config.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        load(model)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a saved model"):
        load(tmp_path)


def test_saving_again_replaces_the_model(model: Path) -> None:
    name = describe(model)["classifier"]
    (model / "model.onnx").write_text("of the old model")
    save(built(name, seed=7).fit(small_data()), model, metrics={"f1": 0.9})
    assert describe(model)["config"]["seed"] == 7
    assert sorted(path.name for path in model.iterdir()) == ["config.json", "metrics.json", "weights.safetensors"]
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_folder_of_other_files_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="must be a new folder or one of a saved model alone"):
        save(built("softmax").fit(small_data()), tmp_path, metrics={})
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_an_unknown_classifier_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'svm'"):
        model_class("svmm")
