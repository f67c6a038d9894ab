"""What runs are compared by: metrics and goals from flags, from their sweep, or from the names."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest

from paretune.analysis.findings.aims import (
    add_aims,
    aims_of,
    candidates_by,
    check_aims,
    default_metrics,
    explained_metric,
    goals_of,
)
from paretune.analysis.history import RunRecord
from paretune.core.errors import UsageError


def run_of(name: str, goals: dict[str, str] | None = None, **scores: float) -> RunRecord:
    columns = {"epoch": np.ones(1), **{metric: np.array([value]) for metric, value in scores.items()}}
    config = {"classifier": "softmax", "evaluation_split": "holdout"}
    return RunRecord(name, state="finished", config=config, columns=columns, goals=goals or {})


def test_given_metrics_have_given_goals_then_those_of_the_sweep_then_those_of_their_names() -> None:
    runs = [run_of("a", {"f1": "minimize"}, f1=0.5, loss=0.1, x=3.0)]
    assert aims_of(runs, ["f1", "loss"]) == {"f1": "minimize", "loss": "minimize"}
    assert aims_of(runs, ["f1", "x"], ["maximize", "minimize"]) == {"f1": "maximize", "x": "minimize"}
    assert aims_of([], ["f1", "loss"]) == {"f1": "maximize", "loss": "minimize"}
    with pytest.raises(UsageError, match="whether x shall be maximized or minimized"):
        aims_of(runs, ["x"])


def test_a_metric_that_is_not_there_is_named_before_its_goal_is_asked_for() -> None:
    with pytest.raises(UsageError, match="no run has the metric 'y'"):
        aims_of([run_of("a", f1=0.5)], ["y"])


def test_without_metrics_the_objectives_of_the_sweep_or_precision_and_recall_are_weighed() -> None:
    two = {"size": "minimize", "x": "maximize"}
    assert aims_of([run_of("a", two, size=1.0, x=2.0)]) == two
    assert aims_of([]) == {"precision": "maximize", "recall": "maximize"}
    assert aims_of([run_of("a", {"f1": "maximize"}, f1=0.5, precision=0.5, recall=0.5)]) == {
        "precision": "maximize",
        "recall": "maximize",
    }
    assert default_metrics([run_of("a", {"f1": "maximize"}, f1=0.5, precision=0.5)]) == ("f1",), "recall is not logged"


def test_every_metric_of_unknown_goal_is_named() -> None:
    with pytest.raises(UsageError, match="whether a and c shall be"):
        goals_of(["a", "loss", "c"], {})
    assert goals_of(["a", "loss"], {"a": "minimize"}) == ["minimize", "minimize"]
    assert goals_of([], {}) == []


def test_the_candidates_by_one_metric_have_a_value_of_it() -> None:
    runs = [run_of("a", {"x": "minimize"}, x=1.0), run_of("b", {"x": "minimize"}, x=math.nan)]
    found, goal = candidates_by(runs, "x")
    assert (found["run"].tolist(), goal) == (["a"], "minimize")
    assert candidates_by(runs, "x", "maximize")[1] == "maximize"
    with pytest.raises(UsageError, match="as in --metric x"):
        candidates_by(runs, "zzz")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--metrics f1 loss f1 f1 loss", "--metrics must name each metric once. Got f1, loss twice."),
        ("--goals maximize", "--goals must come with --metrics, one for each"),
        ("--metrics f1 loss --goals maximize", "--goals must be one per metric, 2 (f1, loss). Got 1."),
        ("--metrics f1 --goals maximize minimize", "--goals must be one per metric, 1 (f1). Got 2."),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags: str, sentence: str) -> None:
    parser = argparse.ArgumentParser()
    add_aims(parser)
    with pytest.raises(UsageError) as refusal:
        check_aims(parser.parse_args(flags.split()))
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize("flags", ["", "--metrics f1", "--metrics f1 loss", "--metrics f1 loss --goals maximize minimize"])
def test_flags_that_go_together_are_taken(flags: str) -> None:
    parser = argparse.ArgumentParser()
    add_aims(parser)
    check_aims(parser.parse_args(flags.split()))


def test_a_run_that_its_study_knows_to_be_ours_says_what_picked_its_best_epoch() -> None:
    run = RunRecord("a", config={"classifier": "mine", "best_metric": "recall"}, ours=True)
    assert explained_metric([run])[0] == "recall"
    assert explained_metric([RunRecord("b", config=run.config)])[0] == "f1"
