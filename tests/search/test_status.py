"""`python -m paretune.search.status`: what it says of a study in every state, and the tables that it writes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from paretune.runs import study_schema
from paretune.search.status import main
from tests.samples import ROOT, environment, start

BEGIN = datetime(2026, 11, 21, 12, 0, 0)
SPACE: dict[str, optuna.distributions.BaseDistribution] = {
    "learning_rate": optuna.distributions.FloatDistribution(0.0, 1.0),
    "hidden": optuna.distributions.CategoricalDistribution(["[8]", "[4, 4]"]),
}


def study_of(folder: Path, goals: Mapping[str, str] | None = None, name: str = "s") -> optuna.Study:
    """Make an empty study as a sweep makes it."""
    goals = goals or {"f1": "maximize"}
    folder.mkdir(exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", study_name=name, directions=list(goals.values()))
    study.set_user_attr(study_schema.GOALS, dict(goals))
    return study


def add(study: optuna.Study, state: TrialState, *values: float, minutes: int = 0, rate: float = 0.5, **attributes: Any) -> None:
    """Add a trial whose config holds the real values of what was drawn."""
    config = {"learning_rate": rate, "hidden": [4, 4], "epochs": 3}
    run = {"id": f"run{len(study.trials)}", "host": "here", "path": None, "config": config}
    trial = optuna.trial.create_trial(
        state=state,
        params={"learning_rate": rate, "hidden": "[4, 4]"},
        distributions=SPACE,
        values=list(values) or None,
        user_attrs={study_schema.RUN: run, **attributes},
    )
    trial.datetime_start = BEGIN
    trial.datetime_complete = BEGIN + timedelta(minutes=minutes) if state.is_finished() else None
    study.add_trial(trial)


def epoch(number: int, **metrics: float) -> dict[str, Any]:
    return {study_schema.epoch_key(number): {**metrics, "last": False}}


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    errors = capsys.readouterr().err
    assert exit_.value.code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


def test_a_finished_study_shows_its_best_first_with_real_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    add(study, TrialState.COMPLETE, 0.25, minutes=1, **{study_schema.BASELINE: True}, **epoch(1, f1=0.25))
    for place in range(6):
        add(study, TrialState.COMPLETE, 0.5 + place / 100, minutes=2 + place, rate=place / 10, **epoch(2, f1=0.5 + place / 100))
    lines = shown(capsys, str(tmp_path / "s"))
    assert lines[0] == "s: 7 complete"
    assert lines[1].split() == ["trial", "f1", "epoch", "learning_rate", "hidden"]
    assert [line.split()[0] for line in lines[2:8]] == ["6", "5", "4", "3", "2", "0"]
    assert lines[2].split(maxsplit=4) == ["6", "0.5500", "2", "0.5", "[4, 4]"]
    assert lines[7].startswith("0 (default)  0.2500")
    assert len({line.index("[4, 4]") for line in lines[2:8]}) == 1, "the columns stand under each other"
    assert lines[8:] == ["rate: 60 trials an hour"]


def test_an_inactive_parameter_has_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    for value, inactive in ((0.25, []), (0.5, ["learning_rate"])):
        config = {"learning_rate": 0.5, "hidden": [4, 4], "classifier": "ann"}
        config["provenance"] = {"fingerprints": {}, "inactive": inactive}
        run = {"id": "r", "host": "here", "path": None, "config": config}
        add(study, TrialState.COMPLETE, value, **{study_schema.RUN: run}, **epoch(1, f1=value))
    lines = shown(capsys, str(tmp_path / "s"))
    assert [line.split(maxsplit=4)[3] for line in lines[2:4]] == ["-", "0.5"]


@pytest.mark.parametrize("goals", [{"f1": "maximize"}, {"f1": "maximize", "seconds": "minimize"}])
def test_a_configuration_whose_trials_came_out_alike_is_shown_once(
    goals: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(tmp_path / "s", goals)
    for rate, value in ((0.1, 0.5), (0.2, 0.5), (0.3, 0.5), (0.4, 0.4)):
        provenance = {"fingerprints": {}, "inactive": ["learning_rate"] if value == 0.5 else []}
        config = {"learning_rate": rate, "hidden": [4, 4], "classifier": "ann", "provenance": provenance}
        run = {"id": "r", "host": "here", "path": None, "config": config}
        values = [value, 1.0][: len(goals)]
        add(
            study,
            TrialState.COMPLETE,
            *values,
            rate=rate,
            **{study_schema.RUN: run},
            **epoch(1, **dict(zip(goals, values, strict=True))),
        )
    lines = shown(capsys, str(tmp_path / "s"))
    assert lines[0] == "s: 4 complete"
    rows = [line for line in lines if line.startswith(("0 ", "1 ", "2 ", "3 "))]
    assert rows[0].startswith("0 (3 trials)  0.5000")
    assert [row.split()[0] for row in rows] == ["0", "3"][: 3 - len(goals)]
    if len(goals) > 1:
        assert lines[1].startswith("front of 1 trial; ")


def test_equal_trials_are_in_the_order_of_the_analysis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    study.set_user_attr(study_schema.CLASSIFIER, "ann")
    for place, (loss, size) in enumerate(((0.3, 5), (0.2, 9), (0.2, 5), (0.2, 5))):
        add(
            study,
            TrialState.COMPLETE,
            0.5,
            rate=place / 10,
            **epoch(1, f1=0.5, precision=0.5, recall=0.5, test_loss=loss, n_parameters=size),
        )
    add(study, TrialState.COMPLETE, 0.5, **epoch(1, f1=0.5, precision=0.6, recall=0.4, test_loss=0.9, n_parameters=99))
    lines = shown(capsys, str(tmp_path / "s"))
    assert [line.split()[0] for line in lines[2:7]] == ["4", "2", "3", "1", "0"]


def test_the_seconds_of_the_suggestions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    for seconds in (0.25, 0.5, 2.0):
        run = {"id": "r", "host": "h", "path": None, "config": {}, "suggested": seconds}
        add(study, TrialState.COMPLETE, 0.5, **{study_schema.RUN: run})
    assert "suggestions: 0.500 s in the median, 2.000 s at most" in shown(capsys, str(tmp_path / "s" / "study.db"))


def test_a_running_study_shows_who_trains_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    add(study, TrialState.RUNNING, **{study_schema.WORKER: {"host": "left", "lock": "x"}})
    rows = {**epoch(1, f1=0.25), **epoch(2, f1=0.375)}
    add(study, TrialState.RUNNING, **{study_schema.WORKER: {"host": "right", "lock": "x"}}, **rows)
    add(study, TrialState.RUNNING)
    study.enqueue_trial({"learning_rate": 0.5})
    assert shown(capsys, str(tmp_path / "s" / "study.db")) == [
        "s: no trial has ended",
        "running: trial 0 on left, no epoch yet",
        "running: trial 1 on right, epoch 2, f1 0.3750",
        "running: trial 2 on an unknown machine, no epoch yet",
        "waiting: 1",
    ]


def test_failures_stand_with_their_causes_and_retries_with_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(tmp_path / "s")
    for cause in ("f1 was never a finite number", "it is too deep", "f1 was never a finite number", study_schema.INTERRUPTED):
        add(study, TrialState.FAIL, minutes=1, **{study_schema.CAUSE: cause})
    add(study, TrialState.PRUNED, minutes=1, **{study_schema.PRUNED: 2})
    add(study, TrialState.COMPLETE, 0.5, minutes=1, **{study_schema.PRIOR: "other/3"})
    assert shown(capsys, str(tmp_path / "s")) == [
        "s: 1 pruned, 3 failed",
        "failed: trials 0, 2: f1 was never a finite number",
        "failed: trial 1: it is too deep",
        "given back and tried again: trial 3",
        "learnt from elsewhere: 1 finished runs",
    ]


def test_several_objectives_show_the_front_and_a_hypervolume_that_never_falls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(tmp_path / "s", {"f1": "maximize", "n_parameters": "minimize"})
    for pair in ((0.5, 100.0), (0.4, 200.0), (0.6, 300.0), (0.45, 50.0), (0.3, 400.0)):
        add(study, TrialState.COMPLETE, *pair)
    lines = shown(capsys, str(tmp_path / "s"))
    assert lines[0] == "s: 5 complete"
    assert lines[1].startswith("front of 3 trials; hypervolume from the worst values (f1 0.3, n_parameters 400) over the trials: ")
    volumes = [float(part.split()[0]) for part in lines[1].partition("over the trials: ")[2].split(", ")]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]
    assert lines[2].split()[:4] == ["trial", "f1", "n_parameters", "epoch"]
    assert [line.split()[0] for line in lines[3:6]] == ["0", "2", "3"]


def test_trials_that_break_a_constraint_do_not_compete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    for value, violation in ((0.5, -1.0), (0.75, 2.0)):
        trial = study.ask()
        trial.set_constraint("n_parameters <= 5", violation)
        study.tell(trial, value)
    lines = shown(capsys, str(tmp_path / "s"))
    assert lines[:2] == ["s: 2 complete", "1 of the complete trials break a constraint and do not compete"]
    assert [line.split()[0] for line in lines[2:4]] == ["trial", "0"]


def test_repeats_show_their_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    add(study, TrialState.COMPLETE, 0.5, **epoch(1, f1=0.5, f1_std=0.03125))
    assert "0.5000 ± 0.0312" in shown(capsys, str(tmp_path / "s"))[2]


def test_a_parameter_with_a_point_in_its_name_shows_its_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    run = {"id": "r", "host": "h", "path": None, "config": {"a.b": "dotted", "c": {"d": "nested"}}}
    trial = optuna.trial.create_trial(
        params={"a.b": 0.5, "c.d": 0.5},
        distributions={name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in ("a.b", "c.d")},
        value=0.5,
        user_attrs={study_schema.RUN: run},
    )
    study.add_trial(trial)
    assert shown(capsys, str(tmp_path / "s"))[2].split() == ["0", "0.5000", "dotted", "nested"]


# Export


def test_the_tables_read_back_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    add(study, TrialState.COMPLETE, 0.1 + 0.2, minutes=1, rate=1 / 3, **epoch(1, f1=0.3))
    add(study, TrialState.FAIL, minutes=2, rate=2 / 3, **{study_schema.CAUSE: "it broke, twice\n"})
    study.enqueue_trial({"learning_rate": 0.5})
    wanted = {
        "trial": [0, 1, 2],
        "state": ["complete", "fail", "waiting"],
        "cause": [None, "it broke, twice\n", None],
        "run": ["run0", "run1", None],
        "epochs": [1, 0, 0],
        "f1": [0.1 + 0.2, None, None],
        "ended": ["2026-11-21T12:01:00", "2026-11-21T12:02:00", None],
        "config.learning_rate": [1 / 3, 2 / 3, None],
    }
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": lambda path: pd.DataFrame(json.loads(path.read_text()))}
    for ending, read in readers.items():
        path = tmp_path / f"all.{ending}"
        assert shown(capsys, str(tmp_path / "s"), "--export", str(path)) == [f"wrote {path}"]
        table = read(path)
        found = {name: [None if pd.isna(value) else value for value in table[name]] for name in wanted}
        assert found == wanted, ending
        assert str(table["config.hidden"][0]) == "[4, 4]"


def test_an_export_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_of(tmp_path / "s")
    assert "--export must end in .csv, .parquet or .json" in refused(capsys, str(tmp_path / "s"), "--export=a.xlsx")
    assert "cannot be written" in refused(capsys, str(tmp_path / "s"), f"--export={tmp_path}/no/a.csv")
    assert "cannot be written" in refused(capsys, str(tmp_path / "s"), f"--export={tmp_path}/no/a.json")


@pytest.mark.parametrize("ending", ["csv", "parquet", "json"])
def test_an_empty_study_can_be_exported(tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    study_of(tmp_path / "s")
    shown(capsys, str(tmp_path / "s"), f"--export={tmp_path}/all.{ending}")
    assert (tmp_path / f"all.{ending}").is_file()


# What is pointed at


@pytest.mark.parametrize(
    "source", ["nowhere", "empty", "broken.db", "text.txt", "sqlite:///no.db", "sqlite:///no.db#s", "zoo://x", "journal:///no.log"]
)
def test_what_is_no_study_is_one_sentence(away: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    (away / "empty").mkdir()
    (away / "broken.db").write_text("no database")
    (away / "text.txt").write_text("no database")
    before = sorted(away.rglob("*"))
    refused(capsys, source)
    assert sorted(away.rglob("*")) == before


def test_of_several_studies_one_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        study_of(tmp_path / "s", name=name)
    folder = str(tmp_path / "s")
    assert "holds 2 studies (a, b): name one with --name." in refused(capsys, folder)
    assert "holds no study 'c'; there are a, b." in refused(capsys, folder, "--name=c")
    assert shown(capsys, folder, "--name=b") == ["b: no trial has ended"]
    assert shown(capsys, f"sqlite:///{folder}/study.db#a") == ["a: no trial has ended"]


def test_a_study_of_another_program_is_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="foreign")
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    with contextlib.suppress(ZeroDivisionError):
        study.optimize(lambda trial: 1 / 0, n_trials=1)
    lines = shown(capsys, str(tmp_path))
    assert lines[0] == "foreign: 2 complete, 1 failed"
    assert lines[1].split() == ["trial", "value", "0", "epoch", "x"]
    assert "failed: trial 2: no cause is known" in lines
    shown(capsys, str(tmp_path), f"--export={tmp_path}/all.csv")


# --watch and --help


def test_watch_shows_what_changes_until_ctrl_c(tmp_path: Path) -> None:
    study = study_of(tmp_path / "s")
    line = [sys.executable, "-m", "paretune.search.status", str(tmp_path / "s"), "--watch"]
    values = environment(tmp_path, PYTHONPATH=str(ROOT))
    with subprocess.Popen(line, cwd=tmp_path, env=values, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "s: no trial has ended\n"
        trial = study.ask()
        trial.set_user_attr(*epoch(1, f1=0.5).popitem())
        seen = [process.stdout.readline() for _ in range(3)]
        study.tell(trial, 0.5)
        seen += [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert "running: trial 0 on an unknown machine, epoch 1, f1 0.5000\n" in seen
    assert "s: 1 complete\n" in seen


HELPFUL = {
    **{
        f"paretune.search.{name}": f"python -m paretune.search.{name} "
        for name in ("check", "status", "run", "agent", "online", "sync")
    },
    str(ROOT / "sweeps" / "offline.py"): "sweeps/offline.py SWEEP.yaml ",
    "paretune.painter": "python -m paretune.painter ",
}


def loaded_by(command: str, argument: str, folder: Path) -> tuple[str, str]:
    """Return what a module or a script prints, and which of the libraries that take long to load it has loaded by its end."""
    code = (
        f"import sys, runpy; sys.argv = ['x', {argument!r}]\n"
        f"try:\n    runpy.{'run_path' if command.endswith('.py') else 'run_module'}({command!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'optuna', 'wandb', 'pandas', 'sklearn', 'matplotlib'} & sys.modules.keys()))"
    )
    result = start(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    *printed, found = result.stdout.splitlines()
    return "\n".join(printed), found


@pytest.mark.parametrize("command", HELPFUL, ids=lambda command: Path(command).name)
def test_help_is_quick_and_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    printed, found = loaded_by(command, "--help", tmp_path)
    assert found == "[]"
    assert printed.startswith(f"usage: {HELPFUL[command]}")


@pytest.mark.parametrize("sweep", ["ann", "svm", "softmax"])
def test_a_whole_check_loads_nothing_heavy(sweep: str, tmp_path: Path) -> None:
    printed, found = loaded_by("paretune.search.check", str(ROOT / "sweeps" / f"{sweep}.yaml"), tmp_path)
    assert found == "[]"
    assert f"{sweep}.yaml: " in printed


def test_help_takes_less_than_half_a_second_of_a_processor(tmp_path: Path) -> None:
    def seconds() -> float:
        begin = os.times()
        start(sys.executable, "-m", "paretune.search.status", "--help", cwd=tmp_path, PYTHONPATH=str(ROOT))
        end = os.times()
        return end.children_user + end.children_system - begin.children_user - begin.children_system

    assert min(seconds() for _ in range(3)) < 0.5


def test_a_constraint_that_could_not_be_evaluated_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    for value, constraints in ((0.9, {"a <= 1": math.inf, "b <= 1": -1.0}), (0.8, {"a <= 1": 2.0}), (0.7, {"a <= 1": -1.0})):
        study.add_trial(optuna.trial.create_trial(value=value, constraints=constraints))
    lines = shown(capsys, str(tmp_path / "s"))
    assert "1 of the complete trials break a constraint and do not compete" in lines
    assert "a <= 1 could not be evaluated for trial 0, so that they do not compete" in lines
    assert lines[4].split()[:2] == ["2", "0.7000"]


def test_whole_numbers_stay_whole_beside_empty_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "s")
    for name in ("few", "many"):
        study.add_trial(
            optuna.trial.create_trial(value=1.0, params={name: 3}, distributions={name: optuna.distributions.IntDistribution(1, 9)})
        )
    shown(capsys, str(tmp_path / "s"), f"--export={tmp_path}/all.csv")
    cells = pd.read_csv(tmp_path / "all.csv", dtype=str, keep_default_na=False)
    assert cells["config.few"].tolist() == ["3", ""]
    assert cells["f1"].tolist() == ["1.0", "1.0"]
