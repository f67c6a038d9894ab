"""Programs that know nothing of us, searched by our service: a trial has the value of the run that was handed out."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from paretune.analysis.history import load_runs
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from tests.service.serving import Asked, client, listening
from tests.service.sweeps.test_sweeps import agent, beat, command, created, done, state_of

# Under an agent the client gives every run of a process the sweep's id, so folds that are runs have processes of their own
CROSS_VALIDATION = """\
import os, subprocess, sys, wandb
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

FOLD = "import sys, wandb; run = wandb.init(); run.log({'score': float(sys.argv[1])}); run.finish()"
run = wandb.init(dir=".")
scores = cross_val_score(LogisticRegression(C=run.config["C"], max_iter=500), *load_iris(return_X_y=True), cv=3)
plain = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_SWEEP", "WANDB_RUN_ID"))}
for fold in (scores.argmin(), scores.argmax()):
    subprocess.run([sys.executable, "-c", FOLD, str(scores[fold])], env=plain, check=True)
run.log({"score": scores.mean()})
run.finish()
"""
DEFINITION = {
    "program": "iris.train",
    "command": ["${env}", "${interpreter}", "-m", "${program}"],
    "method": "grid",
    "metric": {"name": "score", "goal": "maximize"},
    "parameters": {"C": {"values": [0.001, 0.01]}},
}


@pytest.mark.parametrize(
    ("summary", "value"),
    [({"loss": 0.5}, 0.5), ({"loss": {"mean": 0.55}}, 0.55), ({"loss": {"last": 0.5}}, 0.5), ({"loss": 7}, 7.0)],
    ids=["as logged", "mean", "last", "set"],
)
def test_a_trial_has_the_value_that_its_own_run_says(tmp_path: Path, summary: dict[str, object], value: float) -> None:
    asked = Asked(tmp_path)
    _, sweep = created(asked, run_cap=1)
    one = agent(asked, sweep)
    own = beat(asked, one)[0]["run_id"]
    asked.run(own, sweep=sweep)
    done(asked, f"{own}-fold", sweep, loss=0.01)
    rows = [json.dumps({"_step": step, "loss": loss}) for step, loss in enumerate([0.9, 0.2, 0.5])]
    files = {
        "wandb-history.jsonl": {"offset": 0, "content": rows},
        "wandb-summary.json": {"offset": 0, "content": [json.dumps(summary)]},
    }
    asked.stream(own, files=files, complete=True, exitcode=0)
    beat(asked, one)
    assert state_of(asked, sweep)["bestLoss"] == pytest.approx(value)


@pytest.mark.slow
def test_a_cross_validation_as_a_module_has_its_mean_offline_and_under_an_agent(away: Path) -> None:
    Path("iris").mkdir()
    Path("iris/train.py").write_text(CROSS_VALIDATION)
    Path("sweep.yaml").write_text(json.dumps(DEFINITION))
    wanted = [
        cross_val_score(LogisticRegression(C=c, max_iter=500), *load_iris(return_X_y=True), cv=3).mean() for c in (0.001, 0.01)
    ]
    trials = run(read_sweep("sweep.yaml"), trials=2, name="own", runs=Path("runs")).get_trials()
    assert [trial.value for trial in trials] == pytest.approx(wanted)
    assert sorted(record.state for record in load_runs("runs/own")) == ["finished"] * 2 + ["member"] * 4

    (away / "service").mkdir()
    with listening(away / "service") as address:
        made = command(address, away, "sweep", "--project", "iris", "sweep.yaml")
        assert made.returncode == 0, made.stderr
        name = made.stderr.split("sweeps/")[1].split()[0]
        assert command(address, away, "agent", f"someone/iris/{name}").returncode == 0
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{away / 'service' / 'studies.db'}")
        read = f"""
            import json, wandb
            print(json.dumps([run.state for run in wandb.Api().sweep("someone/iris/{name}").runs]))
            """
        assert client(address, away, read) == ["finished"] * 2
    assert sorted(trial.value for trial in study.trials) == pytest.approx(sorted(wanted))
