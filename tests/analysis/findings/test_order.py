"""The one order of runs: by score, then what is weighed, then test_loss, then n_parameters, then age; every step goes by it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from paretune.analysis import pareto
from paretune.analysis.choose import choose
from paretune.analysis.document.sections import front_table
from paretune.analysis.document.sweep_report import read_study
from paretune.analysis.figures import parameters as figures
from paretune.analysis.findings.confidence import table_of
from paretune.analysis.findings.order import better_first
from paretune.analysis.findings.parameters import tried
from paretune.analysis.history import load_runs
from paretune.analysis.retrain import to_retrain
from paretune.analysis.sources.run_record import runs_table
from paretune.runs import study_schema
from paretune.search import status
from paretune.search.engine.study import best_trial
from tests.analysis.tables import runs_of, scored


def test_equals_go_by_loss_then_by_size_then_by_age() -> None:
    table = pd.DataFrame({"test_loss": [0.3, 0.2, 0.2, math.nan, 0.2, 0.1], "n_parameters": [1.0, 9.0, 8.0, 1.0, 8.0, 1.0]})
    assert better_first(table, [1, 1, 1, 1, 1, 2]).tolist() == [2, 4, 1, 0, 3, 5]


def test_a_table_without_loss_and_size_keeps_its_order_and_a_run_without_score_is_last() -> None:
    table = pd.DataFrame({"run": list("abcd")}, index=[7, 7, 3, 1])
    assert better_first(table, [1, math.nan, 0, 1]).tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_takes_the_first(seed: int) -> None:
    draw = np.random.default_rng(seed)
    score, loss, size = draw.integers(0, 2, (3, 6))
    table = runs_of(
        *(scored(f1, f1, f1, test_loss=float(a), n_parameters=float(b)) for f1, a, b in zip(score, loss, size, strict=True))
    )
    assert choose(table, "f1").run["run"] == table["run"].iloc[better_first(table, -table["f1"])[0]]


def test_the_earlier_run_comes_first_wherever_it_stands() -> None:
    table = pd.DataFrame({"created": [3.0, 1.0, math.nan, 2.0]})
    assert better_first(table, [1, 1, 1, 1]).tolist() == [1, 3, 0, 2]


BEGIN = datetime(2026, 11, 30, 12)
GOALS = {"f1": "maximize"}


def study_of(folder: Path, rows: list[dict[str, Any]]) -> optuna.Study:
    """Make the study of a sweep of softmax, a finished trial per row of metrics; the later a trial, the earlier it began."""
    folder.mkdir()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", study_name=folder.name, directions=["maximize"])
    study.set_user_attr(study_schema.GOALS, GOALS)
    study.set_user_attr(study_schema.CLASSIFIER, "softmax")
    for place, row in enumerate(rows):
        config = {"classifier": "softmax", "learning_rate": 0.1 + place, "evaluation_split": "holdout", "data": "digits", "seed": 0}
        config |= {"provenance": {"fingerprints": {}, "inactive": []}}
        run = {"id": f"run{place}", "host": "here", "path": None, "config": config}
        trial = optuna.trial.create_trial(
            state=TrialState.COMPLETE,
            params={"learning_rate": 0.1 + place},
            distributions={"learning_rate": optuna.distributions.FloatDistribution(0.0, 100.0)},
            values=[row["f1"]],
            user_attrs={study_schema.RUN: run, study_schema.epoch_key(1): {**row, "last": True}},
        )
        trial.datetime_start = BEGIN - timedelta(minutes=place)
        trial.datetime_complete = BEGIN + timedelta(hours=1)
        study.add_trial(trial)
    return study


LEADS: list[dict[str, float]] = [
    {"precision": 0.9, "recall": 0.8, "test_loss": 0.1, "n_parameters": 9},
    {"precision": 0.8, "recall": 0.9, "test_loss": 0.1, "n_parameters": 9},
    {"precision": 0.9, "recall": 0.8, "test_loss": 0.2, "n_parameters": 8},
    {"precision": 0.9, "recall": 0.8, "test_loss": 0.1, "n_parameters": 8},
    {"precision": 0.9, "recall": 0.8, "test_loss": 0.1, "n_parameters": 8},
]


@pytest.mark.parametrize("seed", range(6))
def test_of_equal_runs_every_step_takes_the_same_one(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(seed)
    rows = [{**LEADS[place], "f1": 0.85} for place in random.permutation(len(LEADS))[: 5 - seed % 3]]
    rows += [{"precision": 0.5, "recall": 0.5, "f1": 0.5, "test_loss": 0.01, "n_parameters": 1} for _ in range(7)]
    study = study_of(tmp_path / "s", rows)
    source = str(tmp_path / "s")
    runs = load_runs(source)
    table = runs_table(runs)
    keys = [(-r["f1"], -r["precision"], -r["recall"], r["test_loss"], r["n_parameters"], -place) for place, r in enumerate(rows)]
    best = f"run{min(range(len(rows)), key=keys.__getitem__)}"
    number = int(best.removeprefix("run"))

    assert choose(table, "f1", records=runs).run["run"] == best
    assert to_retrain(runs, "f1", tmp_path / "model")[0][0].run == best
    assert pareto.main([source]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == best
    assert pareto.main([source, "--metrics", "f1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == best
    confidence, _ = table_of(runs, {"f1": "maximize"})
    assert confidence["name"].iloc[0] == f"s-{number}"
    report = read_study(source, "f1", tmp_path)
    assert (report.choice.run["run"], report.marked) == (best, best)
    assert front_table(report)[0].columns[1].startswith(str(number))
    found = tried(runs)
    assert table["run"].iloc[int(found.better_first[0])] == best
    slices = figures.slices_figure(found)
    star = np.asarray(slices.axes[0].collections[-1].get_offsets())
    assert star[0, 0] == pytest.approx(0.1 + number)
    leader = best_trial(study.get_trials(), GOALS, ours=True)
    assert leader is not None
    assert leader.number == number
    assert status.main([source]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[2].split()[0] == str(number)
