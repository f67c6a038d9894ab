"""Programs as people write them: several runs in a trial, folders of their own, modules and commands, values in the summary."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from paretune.analysis.history import load_runs
from paretune.analysis.pareto import main as pareto
from paretune.analysis.sources.run_record import runs_table
from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.runs.wandb_files import read_run
from paretune.runs.whole_runs import own_run, summary_values
from paretune.search.engine.trial_runs import TrialRuns
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import Sweep, read_sweep
from paretune.search.sync import offline_runs
from tests.samples import start
from tests.waiting import wait_until

LOGS = "for loss in (3.0, 1.0, 5.0):\n    run.log({'loss': loss, 'a': {'loss': loss}, 'val/loss': loss})\n"
FOLDS = """\
import wandb
scores = (0.3, 0.9, 0.3)
run = wandb.init()
for fold, score in enumerate(scores):
    with wandb.init(id=f"{run.id}-fold-{fold}", reinit="create_new") as member:
        member.log({"score": score})
run.log({"score": sum(scores) / len(scores)})
run.finish()
"""
SCORE = {"name": "score", "goal": "maximize"}


def sweep_of(text: str, **changes: Any) -> Sweep:
    """Write a program and a sweep file over it here; return the sweep."""
    Path("train.py").write_text(text)
    definition: dict[str, Any] = {
        "program": "train.py",
        "method": "random",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"rate": {"min": 0.0, "max": 1.0}},
        **changes,
    }
    Path("own.yaml").write_text(yaml.safe_dump({key: value for key, value in definition.items() if value is not None}))
    return read_sweep("own.yaml")


def value_of(sweep: Sweep, name: str = "own") -> float | None:
    """Return the value of the one trial of a sweep."""
    (trial,) = run(sweep, trials=1, name=name, runs=Path("runs")).get_trials()
    assert trial.state == TrialState.COMPLETE, trial.user_attrs
    return trial.value


# -- several runs


@pytest.mark.usefixtures("away")
def test_the_runs_of_folds_are_members_of_their_trial(capsys: pytest.CaptureFixture[str]) -> None:
    assert value_of(sweep_of(FOLDS, metric=SCORE)) == 0.5
    states = {record.run: record.state for record in load_runs("runs/own")}
    assert sorted(states.values()) == ["finished", "member", "member", "member"]
    assert [state for name, state in states.items() if "-fold-" in name] == ["member"] * 3
    assert pareto(["runs/own"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 1 finished run is on the front" in printed
    assert "0.5000" in printed
    assert "0.9000" not in printed


@pytest.mark.parametrize(
    ("runs", "own"),
    [
        ({"abc": [], "other": ["loss"]}, "abc"),
        ({"mine": []}, "mine"),
        ({"mine": ["loss"], "upload": ["size"]}, "mine"),
        ({"a": ["loss"], "b": ["loss"]}, None),
        ({}, None),
    ],
    ids=["handed out", "the only one", "the only one with the objective", "two with it", "none"],
)
def test_the_trials_own_run_is_the_one_with_the_id_that_was_handed_out(runs: dict[str, list[str]], own: str | None) -> None:
    assert own_run(runs, "abc", ["loss"]) == own


# -- where the run files lie


@pytest.mark.parametrize(
    "init",
    [
        "wandb.init(dir='.')",
        "wandb.init(settings=wandb.Settings(root_dir=tempfile.mkdtemp(dir='.')))",
        "os.environ.__setitem__('WANDB_DIR', 'deep/er') or os.makedirs('deep/er') or wandb.init()",
        "os.mkdir('.wandb') or wandb.init(dir='.')",
        "wandb.init(dir='.', id='mine')",
        "os.mkdir('in') or os.chdir('in') or wandb.init(dir='.')",
    ],
)
@pytest.mark.usefixtures("away")
def test_a_run_is_found_wherever_its_program_writes_it(init: str) -> None:
    text = f"import os, tempfile, wandb\nrun = {init}\n{LOGS}run.finish()\n"
    assert value_of(sweep_of(text)) == 5.0
    (record,) = load_runs("runs/own")
    assert [row["loss"] for row in record.rows] == [3.0, 1.0, 5.0]
    assert "trials" in Path(record.file).parts
    assert len(load_runs(".")) == 1, "one run, not one for each way to its file"
    files = [file for folder in offline_runs([Path("runs")]) for file in folder.glob("run-*.wandb")]
    assert [file.name for file in files] == [Path(record.file).name] * 2, "the program's file, and what the sweep says of the run"


@pytest.fixture
def silent(away: Path) -> Iterator[Callable[[], int]]:
    """Starts a program that holds a run file open in a folder of its own, and says nothing; gives its number."""
    code = "import sys\nfile = open(sys.argv[1], 'wb')\nprint(flush=True)\nsys.stdin.read()\n"
    file = away / "any" / "wandb" / "offline-run-20260101_000000-abc" / "run-abc.wandb"
    file.parent.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield lambda: process.pid
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process holds open")
def test_a_run_file_that_the_program_holds_open_is_found(silent: Callable[[], int], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "trials" / "x"
    folder.mkdir(parents=True)
    runs = TrialRuns(folder, "x", folder / "output.log")
    runs.look(silent())
    assert [path.name for path in runs.files()] == ["run-abc.wandb"]


@pytest.mark.usefixtures("away")
def test_a_program_without_a_run_is_told_where_it_was_looked_for() -> None:
    (trial,) = run(sweep_of("print('done')\n"), trials=1, name="own", runs=Path("runs")).get_trials()
    cause = trial.user_attrs[study_schema.CAUSE]
    assert cause.startswith(f"the program wrote no W&B run below {Path.cwd()} or ")
    assert cause.endswith("it must call wandb.init and log loss")


# -- one id, several files


RESUMED = """\
import sys, wandb
with wandb.init(id="one", project="p", config={sys.argv[1]: 1}) as run:
    for step, loss in enumerate(map(float, sys.argv[2:])):
        run.log({"loss": loss, sys.argv[1]: 1}, step=step + (1 if sys.argv[1] == "second" else 0))
"""


def test_one_id_is_one_run_in_however_many_files_it_was_written(away: Path) -> None:
    Path("train.py").write_text(RESUMED)
    for part, *losses in (("first", "9", "8", "7"), ("second", "5", "4", "3")):
        started = start(sys.executable, "train.py", part, *losses, cwd=away, WANDB_MODE="offline", WANDB_DIR=str(away / part))
        assert started.returncode == 0, started.stderr
    files = list(away.rglob("run-one.wandb"))
    assert len(files) == 2
    wait_until(lambda: all((run := read_run(file)) is not None and run.state == "finished" for file in files))
    (record,) = load_runs(away)
    assert [row["loss"] for row in record.rows] == [9.0, 5.0, 4.0, 3.0]
    assert record.config == {"first": 1, "second": 1}
    assert [name in record.rows[1] for name in ("first", "second")] == [True, True]
    assert record.summary["loss"] == 3


# -- what a program may be


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("pkg.mod", ["${env}", "${interpreter}", "-m", "${program}", "${args}"]),
        ("pkg", ["${env}", "${interpreter}", "-m", "${program}", "${args}"]),
        ("pkg", None),
        ("./tool", ["${program}", "${args}"]),
        ("a label", ["${env}", "${interpreter}", "train.py"]),
    ],
    ids=["module", "package", "folder", "command", "label"],
)
@pytest.mark.usefixtures("away")
def test_a_program_is_what_command_makes_of_it(program: str, command: list[str] | None) -> None:
    text = f"import wandb\nwith wandb.init() as run:\n    run.log({{'loss': 0.25}})\n"  # noqa: F541
    Path("pkg").mkdir()
    for name in ("pkg/mod.py", "pkg/__main__.py"):
        Path(name).write_text(text)
    Path("pkg/__init__.py").touch()
    Path("tool").write_text(f"#!{sys.executable}\n{text}")
    Path("tool").chmod(0o755)
    assert value_of(sweep_of(text, program=program, command=command)) == 0.25


@pytest.mark.usefixtures("away")
def test_a_module_that_is_missing_fails_its_trial_with_pythons_own_words() -> None:
    command = ["${env}", "${interpreter}", "-m", "${program}"]
    (trial,) = run(sweep_of("", program="no.such", command=command), trials=1, name="own", runs=Path("runs")).get_trials()
    assert "exited with code 1" in trial.user_attrs[study_schema.CAUSE]
    assert "No module named 'no'" in trial.user_attrs[study_schema.CAUSE]


@pytest.mark.parametrize("command", [None, ["python3", "-u", "${program}"], ["${env}", "${interpreter}", "${program}"]], ids=str)
@pytest.mark.usefixtures("away")
def test_a_file_that_python_shall_run_must_be_there(command: list[str] | None) -> None:
    with pytest.raises(UsageError, match=r"program 'nowhere\.py' is no file seen from"):
        sweep_of("", program="nowhere.py", command=command)


# -- the value of a metric


@pytest.mark.parametrize(
    ("said", "metric", "goal", "value"),
    [
        ("", "loss", "minimize", 5.0),
        ("run.summary['loss'] = 7", "loss", "minimize", 7.0),
        ("run.summary.update({'a': {'loss': 7}})", "a.loss", "minimize", 7.0),
        ("run.define_metric('loss', summary='min')", "loss", "minimize", 1.0),
        ("run.define_metric('loss', summary='min,max')", "loss", "maximize", 5.0),
        ("run.define_metric('loss', summary='last')", "loss", "minimize", 5.0),
        ("run.define_metric('loss', summary='mean')", "loss", "minimize", 3.0),
        ("run.define_metric('loss', summary='max')", "loss.max", "minimize", 5.0),
        ("run.define_metric('val/*', summary='mean')", "val/loss", "minimize", 3.0),
        ("run.define_metric('a.loss', summary='mean')", "a.loss", "minimize", 3.0),
        ("run.define_metric('loss', summary='none')", "loss", "minimize", 5.0),
    ],
)
@pytest.mark.usefixtures("away")
def test_a_trial_has_the_value_that_its_program_decides(said: str, metric: str, goal: str, value: float) -> None:
    before, after = (said, "") if "define" in said else ("", said)
    text = f"import wandb\nrun = wandb.init()\n{before}\n{LOGS}{after}\nrun.finish()\n"
    assert value_of(sweep_of(text, metric={"name": metric, "goal": goal})) == value
    (record,) = load_runs("runs/own")
    assert runs_table([record])[metric][0] == value, "the analysis sees it as the study does"


@pytest.mark.parametrize(
    ("summary", "decided"),
    [
        ({"loss": 2.0}, {}),
        ({"loss": float("nan")}, {}),
        ({}, {}),
        ({"loss.best": 1.0, "loss.last": 2.0}, {"loss": 1.0}),
        ({"loss.max": 9.0}, {}),
        ({"loss.first": 4.0}, {"loss": 4.0}),
    ],
)
def test_what_the_summary_repeats_is_no_decision(summary: dict[str, float], decided: dict[str, float]) -> None:
    latest = {"loss": float("nan") if summary.get("loss") != summary.get("loss") else 2.0}
    assert summary_values(summary, latest, {"loss": "minimize"}) == decided


@pytest.mark.parametrize("rows", ["[{'epoch': 0.5, 'loss': 2.0}]", "[{'epoch': 3.0}]"], ids=["logged", "in the summary"])
@pytest.mark.usefixtures("away")
def test_a_program_may_count_its_epochs_in_its_own_way(rows: str) -> None:
    text = f"import wandb\nwith wandb.init() as run:\n    for row in {rows}:\n        run.log(row)\n    run.summary['loss'] = 2.0\n"
    (trial,) = run(sweep_of(text), trials=1, name="own", runs=Path("runs")).get_trials()
    assert trial.value == 2.0
    assert [row["epoch"] for row in study_schema.epochs_of(trial.user_attrs)] == [1]


@pytest.mark.parametrize(
    ("logged", "said"), [("nan", ""), ("inf", ""), ("-inf", ""), ("0.1", "run.summary['loss'] = float('nan')")], ids=str
)
@pytest.mark.usefixtures("away")
def test_a_program_that_comes_apart_in_the_end_has_no_value(logged: str, said: str) -> None:
    logs = f"    for loss in ('1', '0.5', '{logged}'):\n        run.log({{'loss': float(loss)}})\n"
    text = f"import wandb\nwith wandb.init() as run:\n{logs}    {said}\n"
    (trial,) = run(sweep_of(text), trials=1, name="own", runs=Path("runs")).get_trials()
    assert trial.state.name == "FAIL"
    assert trial.user_attrs[study_schema.CAUSE] == "loss was no finite number in the end"
    (record,) = load_runs("runs/own")
    assert record.state == "failed"
    shutil.copytree("runs/own", "alone", symlinks=False, ignore=shutil.ignore_patterns("study.db"))
    (alone,) = load_runs("alone")
    assert not math.isfinite(runs_table([alone])["loss"][0]), "what W&B's summary says of it"
