"""YAML -> Config -> command line -> Config keeps every value; what does not fit is refused in words."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from paretune.core.config import Config, value_fits, value_from_text
from paretune.core.errors import UsageError
from paretune.data.options import DataOptions
from paretune.models.registry import MODELS, model_class
from paretune.models.run_config import RunOptions, configure
from paretune.models.train_command import build_parser, parse
from paretune.trainers.ann import AnnConfig
from paretune.trainers.softmax import SoftmaxConfig
from paretune.trainers.svm import SvmConfig

WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12).filter(lambda word: word not in {"inf", "nan"})
SCALARS = st.one_of(
    st.booleans(), st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6).filter(lambda value: not value.is_integer()), WORDS
)


def values_of(kind: Any, bounds: list[Any]) -> st.SearchStrategy[Any]:
    """A strategy for a field's annotation and the bounds on it."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        return values_of(inner, [*bounds, *(part for item in more for part in getattr(item, "metadata", [item]))])
    if origin in (Union, UnionType):
        return st.one_of(*(values_of(part, bounds) for part in get_args(kind)))
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if origin is list:
        return st.lists(values_of(get_args(kind)[0], []), max_size=4)
    if origin is dict:
        _, value = get_args(kind)
        return st.dictionaries(WORDS, SCALARS if value is Any else values_of(value, []), max_size=3)
    if kind is NoneType:
        return st.none()
    if kind is bool:
        return st.booleans()
    if kind is str:
        return WORDS
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return st.fixed_dictionaries({name: of_field(field) for name, field in kind.model_fields.items()})
    low, high, open_low, open_high = None, None, False, False
    for bound in bounds:
        if isinstance(bound, annotated_types.Ge):
            low = bound.ge
        elif isinstance(bound, annotated_types.Gt):
            low, open_low = bound.gt, True
        elif isinstance(bound, annotated_types.Le):
            high = bound.le
        elif isinstance(bound, annotated_types.Lt):
            high, open_high = bound.lt, True
    if kind is int:
        least = -(10**9) if low is None else int(low) + open_low
        return st.integers(least, 10**9 if high is None else int(high) - open_high)
    assert kind is float, kind
    return st.floats(
        -1e9 if low is None else low,
        1e9 if high is None else high,
        exclude_min=low is not None and open_low,
        exclude_max=high is not None and open_high,
        allow_subnormal=False,
    )


def of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return values_of(field.annotation, list(field.metadata))


def some_fields(config: type[Config], *, without: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: of_field(field) for name, field in config.model_fields.items() if name not in without}
    return st.fixed_dictionaries({}, optional=fields)


def consistent(config: type[Config], values: dict[str, Any]) -> bool:
    """Whether values that fit one by one fit together."""
    try:
        config.from_dict(values)
    except UsageError:
        return False
    return True


EXCLUSIVE = {"ann": (("n_hidden", "width", "n_conv", "channels"), ("hidden", "conv"))}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data())
def test_values_survive_yaml_and_the_agents_command_line(name: str, data: st.DataObject) -> None:
    kind = model_class(name)
    left_out = data.draw(st.sampled_from(EXCLUSIVE.get(name, ((),))))
    values = data.draw(some_fields(kind.Config, without=left_out).filter(lambda drawn: consistent(kind.Config, drawn)))
    drawn_options = some_fields(DataOptions, without=("image_size", "average", "positive_class"))
    options = data.draw(drawn_options.filter(lambda drawn: consistent(DataOptions, drawn)))
    config = kind.Config.from_dict(values)
    from_yaml = yaml.safe_load(yaml.safe_dump({**config.to_dict(), **options}))
    assert kind.Config.from_dict({key: from_yaml[key] for key in config.to_dict()}) == config
    flags = [f"--{key}={value}" for key, value in from_yaml.items()]  # as the agent writes them
    _, given_values = parse(build_parser(name, kind), kind, flags)
    read, read_options, _ = configure_without_checks(kind, given_values)
    assert read == config
    assert read_options == DataOptions.from_dict(options)


def configure_without_checks(kind: Any, values: dict[str, Any]) -> tuple[Any, DataOptions, RunOptions]:
    """Sort the values without the checks that span Config and data options (early stopping without a hold-out)."""
    own = {key: value for key, value in values.items() if key in kind.Config.model_fields}
    data = {key: value for key, value in values.items() if key in DataOptions.model_fields}
    return kind.Config.from_dict(own), DataOptions.from_dict(data), RunOptions()


@pytest.mark.parametrize("config", [SoftmaxConfig, AnnConfig, SvmConfig, DataOptions, RunOptions])
def test_every_field_says_what_it_is(config: type[Config]) -> None:
    for name, field in config.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("config", [SoftmaxConfig, AnnConfig, SvmConfig, DataOptions])
def test_a_config_goes_round_as_plain_values(config: type[Config]) -> None:
    import json

    assert config.from_dict(json.loads(json.dumps(config().to_dict()))) == config()


@pytest.mark.parametrize("name", MODELS)
def test_no_name_is_both_a_hyper_parameter_and_an_option(name: str) -> None:
    own, data, run = (set(part.model_fields) for part in (model_class(name).Config, DataOptions, RunOptions))
    assert not own & data
    assert not own & run
    assert not data & run


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rat": 0.1}, "learning_rat is not a hyper-parameter of AnnConfig; did you mean 'learning_rate'?"),
        ({"dropout": 1.5}, "dropout must be less than 1. Got 1.5."),
        ({"epochs": 0}, "epochs must be greater than 0. Got 0."),
        ({"epochs": True}, "epochs must be a valid integer. Got True."),
        ({"learning_rate": False}, "learning_rate must be a valid number. Got False."),
        ({"learning_rate": "0.1"}, "learning_rate must be a valid number. Got '0.1'."),
        ({"epochs": 2.5}, "epochs must be a valid integer. Got 2.5."),
        ({"batch_norm": 1}, "batch_norm must be a valid boolean. Got 1."),
        ({"batch_norm": "True"}, "batch_norm must be a valid boolean. Got 'True'."),
        ({"optimizer": "adm"}, "optimizer must be"),
        ({"hidden": [64, 0]}, "hidden.1 must be greater than 0. Got 0."),
        ({"hidden": 64}, "hidden must be a list or None. Got 64."),
        ({"conv": [{"chanels": 3}]}, "conv.0.c"),
        ({"hidden": [3], "width": 5}, "hidden and n_hidden/width describe the same layers"),
        ({"conv": [{"channels": 3}], "n_conv": 2}, "conv and n_conv/channels describe the same layers"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number. Got inf."),
        ({"weight_decay": float("nan")}, "weight_decay must be a finite number. Got nan."),
        ({"batch_norm": True, "batch_size": 1}, "batch_norm needs a batch_size of at least 2"),
    ],
)
def test_unfit_values_are_refused_in_words(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        AnnConfig.from_dict(values)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(UsageError) as refusal:
        AnnConfig.from_dict({"learning_rat": 0.1, "dropout": 1.5, "epochs": True, "momentum": -1})
    for name in ("learning_rat ", "dropout ", "epochs ", "momentum "):
        assert name in str(refusal.value)


def test_whole_floats_are_whole_numbers() -> None:
    config = AnnConfig.from_dict({"epochs": 16.0, "hidden": [32.0, 8], "conv": [{"channels": 4.0}], "dropout": 0})
    assert config.epochs == 16
    assert isinstance(config.epochs, int)
    assert config.hidden == [32, 8]
    assert config.dropout == 0.0
    assert isinstance(config.dropout, float)


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SoftmaxConfig().epochs = 3  # type: ignore[misc]


def test_replace_checks_again() -> None:
    assert SoftmaxConfig().replace(epochs=3).epochs == 3
    with pytest.raises(UsageError, match="epochs must be greater than 0"):
        SoftmaxConfig().replace(epochs=-3)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("batch_norm", "False", False),
        ("hidden", "[64, 32]", [64, 32]),
        ("hidden", "None", None),
        ("learning_rate", "1e-3", 0.001),
        ("dropout", "[{'after': 'hidden_1', 'rate': 0.5}]", [{"after": "hidden_1", "rate": 0.5}]),
        ("optimizer", "sgd", "sgd"),
        ("optimizer_settings", "{'betas': [0.9, 0.99], 'nesterov': True}", {"betas": [0.9, 0.99], "nesterov": True}),
        ("class_weight", "balanced", "balanced"),
        ("class_weight", "{'3': 2.0}", {"3": 2.0}),
        ("epochs", "16.0", 16),
        ("epochs", "__import__('os').getcwd()", "__import__('os').getcwd()"),  # a text: nothing is evaluated
    ],
)
def test_flags_hold_python_literals(field: str, text: str, value: Any) -> None:
    assert value_from_text(field, AnnConfig.model_fields[field], text) == value


def test_a_text_that_looks_like_a_number_stays_a_text_where_a_text_is_wanted() -> None:
    assert value_from_text("positive_class", DataOptions.model_fields["positive_class"], "3") == "3"


def test_a_single_value_is_held_against_its_field() -> None:
    assert value_fits("dropout", AnnConfig.model_fields["dropout"], 0.3) == ""
    assert value_fits("dropout", AnnConfig.model_fields["dropout"], 1.3) == "dropout must be less than 1. Got 1.3."
    assert value_fits("epochs", AnnConfig.model_fields["epochs"], 8.0) == ""


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"positive_class": "cat"}, "average='binary' and positive_class go together"),
        ({"average": "binary"}, "average='binary' and positive_class go together"),
        ({"image_size": 16}, "image_size is for folder: data"),
        ({"holdout": 1.0}, "holdout must be less than 1"),
        ({"train_size": 0}, "train_size must be greater than 0"),
    ],
)
def test_unfit_data_options_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        DataOptions.from_dict(values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"early_stopping": 3, "holdout": 0}, "early_stopping needs a hold-out"),
        ({"early_stopping": 3, "curves_on_test": True}, "early_stopping needs a hold-out"),
        ({"best_metric": "f2"}, "best_metric 'f2' is not logged by trainers/ann.py"),
        ({"learning_rat": 1}, "learning_rat is not a hyper-parameter of trainers/ann.py; did you mean 'learning_rate'"),
        ({"hold_out": 0.1}, "did you mean 'holdout'"),
        ({"preset": "alexnett"}, "preset 'alexnett' is not known; did you mean 'alexnet'"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        configure(model_class("ann"), values)


def test_given_values_go_before_a_presets() -> None:
    config, _, run = configure(model_class("ann"), {"preset": "sigmoid_32", "learning_rate": 0.5})
    assert (config.hidden, config.activation, config.learning_rate) == ([32], "sigmoid", 0.5)
    assert run.preset == "sigmoid_32"
