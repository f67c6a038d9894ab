"""Warm start: results from elsewhere are learnt from and do not count, points are tried first and do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from search import online, training
from search.offline import run
from search.prior import bring
from search.study import finished
from search.sweep import read_sweep
from tests.samples import small_data
from trainers import records
from trainers.errors import UsageError

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metric": {"name": "f1", "goal": "maximize"},
    "controller": {"type": "local", "search": {"sampler": "tpe"}},
    "parameters": {"epochs": {"value": 1}, "learning_rate": {"min": 0.0005, "max": 0.5}, "batch_size": {"values": [16, 64]}},
}
POINTS = [{"learning_rate": 0.25, "batch_size": 16}, {"learning_rate": 0.125}]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "load_data", lambda options, **_: small_data())


def searched(folder: Path, trials: int, *sources: str, name: str = "s", **changes: Any) -> optuna.Study:
    path = folder / "prior.yaml"
    path.write_text(yaml.safe_dump({**DEFINITION, **changes}))
    sweep = read_sweep(path)

    def before(study: optuna.Study) -> None:
        bring(study, sweep, sources)

    return run(sweep, trials=trials, name=name, mode="disabled", device="cpu", runs=folder / "runs", before=before)


@pytest.mark.parametrize("kind", ["folder", "file", "url"])
def test_the_results_of_another_study_are_learnt_from_and_do_not_count(tmp_path: Path, kind: str) -> None:
    first = searched(tmp_path, 12)
    database = tmp_path / "runs" / "s" / "study.db"
    source = {"folder": str(database.parent), "file": str(database), "url": f"sqlite:///{database}#s"}[kind]
    study = searched(tmp_path, 3, source, name="t")
    searched(tmp_path, 4, source, name="t")
    trials = study.get_trials()
    prior = [trial for trial in trials if records.PRIOR in trial.user_attrs]
    assert [trial.values for trial in prior] == [trial.values for trial in first.get_trials()]
    assert len(finished(trials)) == 4
    cold = searched(tmp_path, 3, name="cold").get_trials()
    own = [trial.params for trial in trials if records.PRIOR not in trial.user_attrs]
    assert own[1] != cold[1].params, "the sampler has something to go by"


@pytest.mark.parametrize("suffix", ["yaml", "json", "csv"])
def test_points_are_tried_in_order_and_count(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"points.{suffix}"
    if suffix == "csv":
        path.write_text("learning_rate,batch_size\n0.25,16\n0.125,\n")
    else:
        path.write_text(json.dumps(POINTS) if suffix == "json" else yaml.safe_dump(POINTS))
    trials = searched(tmp_path, 3, str(path)).get_trials()
    assert len(trials) == 3
    assert trials[0].user_attrs.get(records.BASELINE)
    assert trials[1].params == POINTS[0]
    assert trials[2].params["learning_rate"] == 0.125, "the sampler completes what a point leaves open"
    assert len(searched(tmp_path, 3, str(path)).trials) == 3, "each point once"


def test_points_with_a_result_are_results(tmp_path: Path) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(yaml.safe_dump([{**POINTS[0], "f1": 0.75}]))
    trials = searched(tmp_path, 1, str(path)).get_trials()
    assert [(trial.state, trial.value) for trial in trials if records.PRIOR in trial.user_attrs] == [(TrialState.COMPLETE, 0.75)]


def test_a_run_at_wandb_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"learning_rate": 0.25, "batch_size": 64}
    monkeypatch.setattr(online, "prior_run", lambda path: (config, [{"f1": 0.5}, {"f1": 0.625}]))
    trials = searched(tmp_path, 1, "me/project/abc123").get_trials()
    assert [(trial.params, trial.value) for trial in trials if records.PRIOR in trial.user_attrs] == [(config, 0.625)]


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([{"learning_rat": 0.1}], r"points\.yaml:1: learning_rat is not a searched parameter .*did you mean 'learning_rate'"),
        ([POINTS[0], {"learning_rate": 2.0}], r"points\.yaml:2: learning_rate must lie in the space of .*Got 2\.0"),
        ({"learning_rate": 0.1}, "must hold a list of points"),
        (["a"], "a point must be a mapping"),
    ],
)
def test_an_unfit_point_is_refused_in_words(tmp_path: Path, points: Any, sentence: str) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(yaml.safe_dump(points))
    with pytest.raises(UsageError, match=sentence):
        searched(tmp_path, 1, str(path))


def test_a_grid_needs_no_start(tmp_path: Path) -> None:
    parameters = {"epochs": {"value": 1}, "batch_size": {"values": [16, 32]}}
    with pytest.raises(UsageError, match="a grid tries every combination once"):
        searched(tmp_path, 1, "points.yaml", method="grid", parameters=parameters)


def test_a_source_of_no_known_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--prior takes a study's folder"):
        searched(tmp_path, 1, "nonsense")
