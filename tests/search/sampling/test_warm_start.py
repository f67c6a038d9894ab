"""Warm start: every kind of source, each thing once, learnt from or tried first, and what does not fit is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.runs.outcome_file import write_outcome
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.wandb_files import read_run
from paretune.search import online
from paretune.search.command_line import main
from paretune.search.engine import in_process
from paretune.search.engine.study import finished, open_study
from paretune.search.engine.worker import run
from paretune.search.sampling.slot_sampler import draw
from paretune.search.sampling.warm_start import bring, read_prior
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.samples import environment, small_data

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 1},
        "learning_rate": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.5},
        "batch_size": {"values": [16, 32, 64]},
    },
}
POINTS = [{"learning_rate": 0.3, "batch_size": 64}, {"learning_rate": 0.2, "batch_size": 16}]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())


def sweep_of(folder: Path, **changes: Any) -> Sweep:
    folder.mkdir(exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**DEFINITION, **changes}.items() if value is not None}))
    return read_sweep(path)


def searched(sweep: Sweep, trials: int, *sources: Path | str, mode: str = "disabled", name: str = "s") -> list[FrozenTrial]:
    def before(study: optuna.Study) -> None:
        bring(study, sweep, list(map(str, sources)))

    runs = sweep.path.parent / "runs"
    return run(sweep, trials=trials, name=name, mode=mode, device="cpu", runs=runs, before=before).get_trials()


def written(folder: Path, points: Any, name: str = "points.yaml") -> Path:
    path = folder / name
    path.write_text(points if isinstance(points, str) else yaml.safe_dump(points))
    return path


def brought(sweep: Sweep, *sources: Path | str) -> tuple[list[str], list[FrozenTrial]]:
    """Bring sources into a new study without running it."""
    study = open_study(sweep, f"sqlite:///{sweep.path.parent}/new.db", "new", seed=0)
    return bring(study, sweep, list(map(str, sources))), study.get_trials()


def learnt(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if study_schema.PRIOR in trial.user_attrs]


# Sources with results


@pytest.mark.parametrize("kind", ["folder", "study.db", "url", "wandb", "file"])
def test_finished_runs_of_every_source_are_learnt_from_and_do_not_count(tmp_path: Path, kind: str) -> None:
    before = searched(sweep_of(tmp_path / "first"), 2, mode="offline")
    folder = tmp_path / "first" / "runs" / "s"
    source = {
        "folder": folder,
        "study.db": folder / "study.db",
        "url": f"sqlite:///{folder}/study.db#s",
        "wandb": folder / "wandb",
        "file": next(folder.rglob("run-*.wandb")),
    }[kind]
    lines, trials = brought(sweep_of(tmp_path / "second"), source)
    count = 1 if kind == "file" else 2
    assert lines == [f"{source}: {count} learnt from"]
    told = [(trial.params, trial.values) for trial in learnt(trials)]
    assert len(told) == count
    assert all(pair in [(trial.params, pytest.approx(trial.values)) for trial in before] for pair in told)
    assert finished(trials) == []


def test_the_same_command_takes_them_once(tmp_path: Path) -> None:
    source = written(tmp_path, [{**POINTS[0], "f1": 0.5}, POINTS[1]])
    sweep = sweep_of(tmp_path)
    for trials in (2, 2, 3):
        found = searched(sweep, trials, source, source)
    assert len(learnt(found)) == 1
    assert sum(study_schema.POINT in trial.user_attrs for trial in found) == 1
    assert len(finished(found)) == 3
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/runs/s/study.db")
    assert bring(study, sweep, [str(source)]) == [f"{source}: 2 known already"]


def test_the_sampler_learns_from_them(tmp_path: Path) -> None:
    results = [{"learning_rate": 0.3 + place / 100, "batch_size": 64, "f1": 0.9 + place / 1000} for place in range(12)]
    results += [{"learning_rate": 0.0001 * (place + 1), "batch_size": 16, "f1": 0.1} for place in range(12)]
    source = written(tmp_path, results)
    without = searched(sweep_of(tmp_path), 5, name="without")
    with_them = searched(sweep_of(tmp_path), 5, source, name="with")
    suggested = [trial.params for trial in with_them if study_schema.PRIOR not in trial.user_attrs]
    assert suggested[0] == without[0].params, "the default configuration comes first in both"
    assert suggested[1:] != [trial.params for trial in without][1:]
    assert sum(params["learning_rate"] > 0.1 for params in suggested[1:]) >= 3


def test_what_breaks_a_constraint_is_learnt_as_such(tmp_path: Path) -> None:
    controller = {"type": "local", "search": {"sampler": "gp", "constraints": ["learning_rate + size <= 1.25"]}}
    points = [{**POINTS[0], "f1": 0.5, "size": 1}, {**POINTS[1], "f1": 0.4, "size": 1}, {**POINTS[0], "f1": 0.9}]
    source = written(tmp_path, [*points, {**POINTS[1], "f1": 0.9, "size": [1]}])
    definition = {"program": str(written(tmp_path, "", "own.py")), "parameters": DEFINITION["parameters"], "controller": controller}
    lines, trials = brought(sweep_of(tmp_path, **definition), source)
    assert lines == [f"{source}: 2 learnt from, 2 left out, as a constraint could not be evaluated"]
    assert [trial.constraints for trial in trials] == [
        {"learning_rate + size <= 1.25": pytest.approx(0.05)},
        {"learning_rate + size <= 1.25": pytest.approx(-0.05)},
    ]


def test_objectives_in_different_rows_of_a_run_file_are_learnt_from(tmp_path: Path) -> None:
    text = "import wandb\nwith wandb.init(config={'rate': 0.5}) as run:\n"
    text += "    for row in ({'a': 0.5}, {'a': 0.7}, {'b': 3, 'huge': 10**400}):\n        run.log(row)\n"
    program = written(tmp_path, text, "own.py")
    subprocess.run(
        [sys.executable, str(program)],
        env=environment(tmp_path) | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)},
        cwd=tmp_path,
        check=True,
    )
    metrics = [{"name": "a", "goal": "maximize"}, {"name": "b", "goal": "minimize"}]
    sweep = sweep_of(tmp_path, program=str(program), metric=None, metrics=metrics, parameters={"rate": {"min": 0.0, "max": 1.0}})
    (found,) = (read_run(file) for file in (tmp_path / "wandb").rglob("run-*.wandb"))
    assert found is not None
    write_outcome(found, SweepOutcome(sweep.goals), tmp_path)  # another file of the same run
    lines, trials = brought(sweep, tmp_path / "wandb")
    assert lines == [f"{tmp_path / 'wandb'}: 1 learnt from"]
    assert trials[0].values == [0.7, 3.0]


def test_a_file_that_is_not_there_is_one_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nope\.csv cannot be read \(No such file or directory\): give a study's folder"):
        brought(sweep_of(tmp_path), tmp_path / "nope.csv")


def test_results_do_not_keep_constraints_from_working(tmp_path: Path) -> None:
    controller = {"type": "local", "search": {"constraints": ["n_parameters <= 1e9"], "sampler": "tpe"}}
    results = [{"learning_rate": 0.01 * (place + 1), "batch_size": 16, "f1": 0.5} for place in range(12)]
    found = searched(sweep_of(tmp_path, controller=controller), 2, written(tmp_path, results))
    assert [trial.state for trial in finished(found)] == [TrialState.COMPLETE] * 2


def test_what_does_not_fit_is_left_out_and_the_reason_said(tmp_path: Path) -> None:
    points = [{"learning_rate": 9.0, "batch_size": 16, "f1": 0.5}, {"learning_rat": 0.1, "batch_size": 16, "f1": 0.5}]
    source = written(tmp_path, [*points, {"learning_rate": 0.1, "batch_size": 16, "f1": float("nan")}])
    lines, trials = brought(sweep_of(tmp_path), source)
    assert lines == [f"{source}: 2 left out, with learning_rate missing or outside the space, 1 left out, without f1"]
    assert learnt(trials) == []


def test_several_objectives_are_taken_from_one_row(tmp_path: Path) -> None:
    metrics = [{"name": "f1", "goal": "maximize"}, {"name": "test_loss", "goal": "minimize"}]
    source = written(tmp_path, [{**POINTS[0], "f1": 0.5, "test_loss": 0.25}, {**POINTS[1], "f1": 0.5}])
    _, trials = brought(sweep_of(tmp_path, metric=None, metrics=metrics), source)
    assert [trial.values for trial in learnt(trials)] == [[0.5, 0.25]]
    assert [study_schema.POINT in trial.user_attrs for trial in trials if trial.state == TrialState.WAITING] == [False, True]


def test_a_run_at_wandb_is_asked_for_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"f1": 0.25, "_step": 0}, {"f1": 0.75, "_step": 1}]
    monkeypatch.setattr(online, "prior_run", lambda path: ({**POINTS[0], "epochs": 1}, rows))
    lines, trials = brought(sweep_of(tmp_path), "someone/tried/run00001")
    assert lines == ["someone/tried/run00001: 1 learnt from"]
    assert [trial.values for trial in learnt(trials)] == [[0.75]]


def test_without_credentials_a_run_at_wandb_is_one_sentence(away: Path) -> None:
    with pytest.raises(UsageError, match="someone/tried/run1 is no file here, and W&B cannot be asked for it: log in"):
        brought(sweep_of(away), "someone/tried/run1")


# Points to try


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("points.yaml", yaml.safe_dump(POINTS)),
        ("points.json", json.dumps(POINTS)),
        ("points.csv", "learning_rate,batch_size\n3e-1,64\n2e-1,16\n"),
    ],
)
def test_points_are_tried_after_the_default_in_their_order_and_count(tmp_path: Path, name: str, text: str) -> None:
    found = searched(sweep_of(tmp_path), 4, written(tmp_path, text, name))
    assert found[0].user_attrs[study_schema.BASELINE]
    assert [trial.params for trial in found[1:3]] == POINTS
    assert len(found) == len(finished(found)) == 4


def test_an_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    source = written(tmp_path, '[{"learning_rate": 1e-3, "batch_size": 16}]', "points.json")
    (known,) = read_prior(str(source), sweep_of(tmp_path))
    assert known.values == {"learning_rate": 0.001, "batch_size": 16}


def test_what_a_point_leaves_open_the_sampler_draws(tmp_path: Path) -> None:
    found = searched(sweep_of(tmp_path), 3, written(tmp_path, "learning_rate,batch_size\n0.3,\n,16\n", "points.csv"))
    assert found[1].params["learning_rate"] == 0.3
    assert found[2].params["batch_size"] == 16
    assert all(trial.params.keys() == {"learning_rate", "batch_size"} for trial in found)


def test_nested_parameters_are_written_with_points_or_nested(tmp_path: Path) -> None:
    parameters = {
        "optimizer_settings": {"parameters": {"weight_decay": {"min": 0.0, "max": 1.0}}},
        "hidden": {"values": [[8], [4, 4]]},
    }
    definition = {"program": "trainers/ann.py", "parameters": parameters}
    points = [{"optimizer_settings.weight_decay": 0.5, "hidden": [4, 4]}, {"optimizer_settings": {"weight_decay": 0.25}}]
    sweep = sweep_of(tmp_path, **definition)
    assert [known.values for known in read_prior(str(written(tmp_path, points)), sweep)] == [
        {"optimizer_settings": {"weight_decay": 0.5}, "hidden": [4, 4]},
        {"optimizer_settings": {"weight_decay": 0.25}},
    ]


def test_a_point_that_was_changed_in_its_file_is_tried_too(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    brought(sweep, written(tmp_path, POINTS[:1]))
    lines, _ = brought(sweep, written(tmp_path, [{**POINTS[0], "batch_size": 32}, POINTS[1]]))
    assert lines == [f"{tmp_path}/points.yaml: 2 to be tried first"]


# What is refused


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        ([POINTS[0], {"learning_rate": 0.9}], "^points.yaml:2: learning_rate must lie in the space of .* Got 0.9.$"),
        ([{"batch_size": 17}], "points.yaml:1: batch_size must lie in the space of .* Got 17.$"),
        ([{"learning_rat": 0.1}], r"learning_rat is not a searched parameter of .*; did you mean 'learning_rate'\?$"),
        ([{"epochs": 7}], "points.yaml:1: epochs is fixed at 1 in .* Got 7: leave it out.$"),
        ([3], "points.yaml:1: a point must be a mapping of parameters to values. Got 3.$"),
        ({"learning_rate": 0.1}, "must hold a list of points, .* Got dict.$"),
        ([], "holds no point"),
        ("a: [", "points.yaml:1: not valid YAML"),
    ],
)
def test_a_point_that_does_not_fit_is_refused_and_nothing_is_added(tmp_path: Path, points: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        brought(sweep_of(tmp_path), written(tmp_path, points))
    assert "\n" not in str(error.value)
    study = optuna.load_study(study_name="new", storage=f"sqlite:///{tmp_path}/new.db")
    assert len(study.trials) == 1, "only the default configuration"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("bad.json", '{"lr": 3\n', r"bad.json:1: a mapping '{' is opened here and not closed in its place \(line 2: expected"),
        ("bad.json", '[\n{"lr": @}]\n', r"bad.json:2: not valid JSON \(found character '@' that cannot start any token\)\.$"),
        ("bad.csv", "lr,k\n1,2\n3,[1\n", r"bad.csv:3: k must be a number, or a text or list as in YAML\. Got '\[1'\.$"),
        ("bad.yaml", "- lr: 1\n- lr: a: b\n", r"bad.yaml:2: not valid YAML \(mapping values are not allowed here; a text"),
    ],
)
def test_a_file_of_points_that_cannot_be_read_is_one_sentence_with_its_line(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        list(read_prior(str(written(tmp_path, text, name)), sweep_of(tmp_path)))
    assert "\n" not in str(error.value)
    assert "<unicode string>" not in str(error.value)


@pytest.mark.parametrize(
    "source", ["nowhere", "nowhere.yaml", "nowhere.db", "nowhere.wandb", "empty", "broken.db", "sqlite:///a.db#b"]
)
def test_a_source_that_is_none_is_one_sentence(away: Path, source: str) -> None:
    (away / "empty").mkdir()
    (away / "broken.db").write_text("no database")
    with pytest.raises(UsageError) as error:
        brought(sweep_of(away), source)
    assert source.partition("#")[0].removeprefix("sqlite:///") in str(error.value)
    assert "\n" not in str(error.value)
    assert not (away / "a.db").exists()


def test_a_study_is_no_source_of_itself(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    searched(sweep, 1)
    with pytest.raises(UsageError, match="is this study itself"):
        searched(sweep, 2, tmp_path / "runs" / "s")


def test_a_grid_takes_no_prior(tmp_path: Path) -> None:
    parameters = {"epochs": {"value": 1}, "batch_size": {"values": [16, 32]}}
    with pytest.raises(UsageError, match="a grid tries every combination once"):
        brought(sweep_of(tmp_path, method="grid", parameters=parameters), written(tmp_path, POINTS))


def test_the_command_line_says_what_came_of_each_source(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_of(away)
    line = ["small.yaml", "--trials=3", "--wandb=disabled", "--device=cpu", "--runs=runs", "--name=s"]
    assert (
        main([*line, "-R", str(written(away, POINTS)), "--prior", str(written(away, [{**POINTS[0], "f1": 0.5}], "old.yaml"))]) == 0
    )
    out = capsys.readouterr().out
    assert f"{away}/points.yaml: 2 to be tried first\n{away}/old.yaml: 1 learnt from\n" in out
    assert "s: 3 complete" in out


def test_given_numbers_are_trained_exactly_where_they_are_drawn_by_their_quantile_also_when_retried(tmp_path: Path) -> None:
    drawn = {
        "learning_rate": {"distribution": "log_normal", "mu": -2},
        "momentum": {"distribution": "normal", "mu": 0.5, "sigma": 0.1},
    }
    sweep = sweep_of(tmp_path, parameters={"epochs": {"value": 1}, **drawn})
    point = {"learning_rate": 0.1, "momentum": 0.1}
    _, waiting = brought(sweep, written(tmp_path, [point]))
    study = optuna.load_study(study_name="new", storage=f"sqlite:///{tmp_path}/new.db")
    assert sweep.space.decode(waiting[1].system_attrs["fixed_params"]) != {"epochs": 1, **point}  # the draws alone are not enough
    defaults = sweep.default_values()
    assert draw(study.ask(), sweep) == {"epochs": 1, **{name: defaults[name] for name in point}}
    assert draw(study.ask(), sweep) == {"epochs": 1, **point}
    interrupted = {study_schema.CAUSE: study_schema.INTERRUPTED, **waiting[1].user_attrs}
    retried = searched(sweep, 1, name="other")  # makes the folder of a study that a killed worker has left behind
    assert retried[0].user_attrs[study_schema.RUN]["config"]["momentum"] == defaults["momentum"]
    left = optuna.load_study(study_name="other", storage=f"sqlite:///{tmp_path}/runs/other/study.db")
    left.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=interrupted, system_attrs=waiting[1].system_attrs))
    again = searched(sweep, 2, name="other")[-1]
    assert {name: again.user_attrs[study_schema.RUN]["config"][name] for name in point} == point
