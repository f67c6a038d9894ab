"""What a run's config says of its effective configuration: from its provenance, of older runs from the shipped Config."""

from __future__ import annotations

from typing import Any

import pytest

from paretune.models.effective_configuration import effective_configuration, inactive_names, text_of
from paretune.models.registry import model_class
from paretune.models.run_config import configure, run_values

FINGERPRINTS = {"fingerprints": {"test": "t"}}


def written(classifier: str, provenance: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """Return the config of a run as a trainer of ours writes it."""
    kind = model_class(classifier)
    return {**run_values(kind, *configure(kind, values)), "provenance": provenance or FINGERPRINTS}


def test_the_provenance_names_them() -> None:
    config = {"classifier": "mine", "gate": False, "rate": 0.5, "provenance": {**FINGERPRINTS, "inactive": ["rate"]}}
    assert effective_configuration(config) == {"classifier": "mine", "gate": False}


def test_of_older_runs_they_follow_from_the_model() -> None:
    assert {"momentum", "channels", "translate"} <= set(inactive_names(written("ann")))
    found = effective_configuration(written("svm", kernel="rbf", degree=2))
    assert not {"degree", "coef0", "seed", "provenance"} & set(found)
    assert found["gamma"] == "scale"
    assert effective_configuration(written("svm", kernel="poly", degree=2))["degree"] == 2


def test_what_a_study_adds_to_a_run_of_another_program_is_none_of_its_parameters() -> None:
    config = {"rate": 0.1, "best_metric": "acc"}
    assert effective_configuration({**config, "provenance": {"commit": None, "versions": {}}}) == {"rate": 0.1}
    assert effective_configuration(config) == config


def test_a_block_in_a_list_lacks_what_is_inactive_in_it() -> None:
    config = written("ann", conv=[{"channels": 4}, {"channels": 8, "pool": 2}])
    first, second = effective_configuration(config)["conv"]
    assert "pool_kind" not in first
    assert second["pool_kind"] == "max"
    assert "pool_kind" in config["conv"][0], "the run's own config stays"


@pytest.mark.parametrize(
    "config",
    [
        {"momentum": 0.5, "optimizer": "adam"},
        {"momentum": 0.5, "optimizer": "adam", "classifier": "ann"},
        {"momentum": 0.5, "optimizer": "adam", "classifier": "ann", "provenance": "mine"},
        {"momentum": 0.5, "optimizer": "adam", "classifier": "ann", "provenance": {"inactive": ["momentum"]}},
        {"momentum": 0.5, "optimizer": "adam", "classifier": "ann", "provenance": {**FINGERPRINTS, "program": {"file": "x.py"}}},
        {"momentum": 0.5, "optimizer": "adam", "classifier": "ann", "unknown": 1, "provenance": FINGERPRINTS},
        {"momentum": 0.5, "classifier": "of another version", "provenance": FINGERPRINTS},
        {},
    ],
)
def test_of_all_other_runs_nothing_is_known(config: dict[str, Any]) -> None:
    assert inactive_names(config) == []
    theirs = {name: value for name, value in config.items() if not (name == "provenance" and "fingerprints" in value)}
    assert effective_configuration(config) == theirs, "a provenance that is not ours is a parameter of theirs"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (16, 16.0, True),
        (0.1, 0.1 + 1e-16, True),
        (0.3, 0.1 + 0.2, True),
        (0.0, -0.0, True),
        ([64, 32], [64.0, 32.0], True),
        ((64, 32), [64, 32], True),
        ({"a": 1, "b": [0.3]}, {"b": [0.1 + 0.2], "a": 1.0}, True),
        (None, None, True),
        (0.1, 0.1001, False),
        (1, True, False),
        (16, "16", False),
        (None, 0, False),
        (None, "None", False),
        ([1, 2], [2, 1], False),
        (2**60, 2**60 + 1, False),
    ],
)
def test_a_value_has_one_text_however_it_is_written(one: Any, other: Any, same: bool) -> None:
    assert (text_of(one) == text_of(other)) is same
