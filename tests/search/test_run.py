"""`python -m paretune.search.run STUDY --trial N`: the same trial again, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.data.dataset import Data
from paretune.data.options import DataOptions
from paretune.runs import study_schema
from paretune.search.engine import in_process
from paretune.search.engine.worker import run
from paretune.search.run import main
from paretune.search.spec.sweep import read_sweep
from tests.samples import small_data

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "grid",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "epochs": {"value": 3},
        "optimizer": {"value": "sgd"},
        "learning_rate": {"values": [0.5, 0.4, 1e-9]},
        "seed": {"values": [3]},
    },
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(options: DataOptions, **_: Any) -> Data:
        return small_data(n_train=60 + 6 * options.fold)

    monkeypatch.setattr(in_process, "load_data", small)


def searched(folder: Path, trials: int = 3, **changes: Any) -> tuple[str, list[FrozenTrial]]:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**DEFINITION, **changes}))
    study = run(read_sweep(path), trials=trials, name="s", mode="disabled", device="cpu", runs=folder / "runs")
    return str(folder / "runs" / "s"), study.get_trials()


def again(capsys: pytest.CaptureFixture[str], folder: str, trial: int, code: int = 0) -> list[str]:
    capsys.readouterr()
    assert main([folder, f"--trial={trial}", "--device=cpu"]) == code
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    errors = capsys.readouterr().err
    assert exit_.value.code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


def test_a_program_stopped_early_is_compared_up_to_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "import time, wandb\nfrom pathlib import Path\nrun = wandb.init()\n"
        "for step in range(40):\n    run.log({'loss': run.config['rate'], 'padding': 'x' * 4000})\n"
        "seen = Path(__file__).with_name('seen')\n"
        "if run.config['rate'] > 1 and not seen.exists():\n    seen.touch()\n    time.sleep(50)\nrun.finish()\n"
    )
    (tmp_path / "train.py").write_text(text)
    definition = {
        "program": str(tmp_path / "train.py"),
        "method": "grid",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"rate": {"values": [0.1, 9.0]}},
        "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(definition))
    trials = run(read_sweep(tmp_path / "own.yaml"), trials=2, name="s", runs=tmp_path / "runs").get_trials()
    assert trials[1].state == TrialState.PRUNED
    lines = again(capsys, str(tmp_path / "runs" / "s"), 1)
    assert len(lines) == trials[1].user_attrs[study_schema.PRUNED] + 1
    assert lines[-1] == "every epoch is as recorded"


def rows_of(trial: FrozenTrial) -> list[dict[str, Any]]:
    return study_schema.epochs_of(trial.user_attrs)


def test_a_trial_runs_again_to_the_same_epochs_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, trials = searched(tmp_path)
    before = sorted(Path(folder).rglob("*")), (Path(folder) / "study.db").read_bytes()
    for trial in trials:
        lines = again(capsys, folder, trial.number)
        assert len(lines) == 4
        for line, row in zip(lines, rows_of(trial), strict=False):
            assert line.startswith(f"epoch {row['epoch']}  ")
            assert f"f1 {row['f1']:.6f}" in line
            assert "seconds" not in line
        assert lines[-1] == "every epoch is as recorded"
    assert (sorted(Path(folder).rglob("*")), (Path(folder) / "study.db").read_bytes()) == before


def test_a_pruned_trial_stops_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, trials = searched(tmp_path, early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2})
    assert trials[2].state == TrialState.PRUNED
    assert [line.split()[:2] for line in again(capsys, folder, 2)] == [["epoch", "1"], ["every", "epoch"]]


@pytest.mark.parametrize("repeats", [{"seeds": 2}, {"folds": 2}])
def test_repeats_run_again_as_one(tmp_path: Path, repeats: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {"epochs": {"value": 2}, "batch_size": {"values": [16, 32]}}
    controller = {"type": "local", "search": {"repeats": repeats}}
    folder, trials = searched(tmp_path, 2, parameters=parameters, controller=controller)
    assert rows_of(trials[1])[0]["f1_std"] >= 0
    lines = again(capsys, folder, 1)
    assert "f1_std" in lines[0]
    assert lines[2:] == ["every epoch is as recorded"]


def test_epochs_that_differ_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = searched(tmp_path)
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data(n_train=30))
    lines = again(capsys, folder, 0, code=1)
    assert lines[0].startswith("epoch 1 (differs)  ")
    assert lines[1].startswith("  recorded: ")
    assert lines[1].partition(": ")[2] != lines[0].partition("  ")[2]
    assert lines[-1] == "epochs that differ from the record: 1, 2, 3"


def test_a_failed_configuration_says_its_sentence_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {"epochs": {"value": 1}, "n_conv": {"values": [0, 5]}, "channels": {"value": 2}}
    folder, trials = searched(tmp_path, 2, program="trainers/ann.py", parameters=parameters)
    assert trials[1].state == TrialState.FAIL
    assert "trial 1" in refused(capsys, folder, "--trial=1")


# A program of the person's own


PROGRAM = """\
import sys, time, wandb
from pathlib import Path
if Path("broken").exists():
    raise SystemExit("it is broken")
with wandb.init() as run:
    for row in range(1 if Path("short").exists() else 3):
        run.log({"loss": run.config["rate"] * row})
"""


def test_a_program_runs_again_and_says_what_went_otherwise(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (away / "train.py").write_text(PROGRAM)
    definition = {"program": "train.py", "method": "grid", "metric": {"name": "loss"}, "parameters": {"rate": {"values": [2.0]}}}
    (away / "own.yaml").write_text(yaml.safe_dump(definition))
    run(read_sweep("own.yaml"), trials=1, name="s", runs=away / "runs")
    rows = [f"epoch {place + 1}  loss {2.0 * place:.6f}" for place in range(3)]
    files = sorted((away / "runs").rglob("run-*.wandb"))
    assert again(capsys, "runs/s", 0) == [*rows, "every epoch is as recorded"]
    assert sorted((away / "runs").rglob("run-*.wandb")) == files, "nothing that could be taken for a run of the sweep"
    assert main(["runs/s", "--trial=0", "--wandb=offline"]) == 0
    assert len(list((away / "runs" / "s-again").rglob("run-*.wandb"))) == 1
    assert sorted((away / "runs" / "s").rglob("run-*.wandb")) == files
    (away / "short").touch()
    assert again(capsys, "runs/s", 0, code=1)[-1] == "epochs that differ from the record: 2, 3"
    (away / "broken").touch()
    errors = refused(capsys, "runs/s", "--trial=0")
    assert errors == "error: trial 0 did not run again: the program exited with code 1; its last line: it is broken\n"
    (away / "train.py").unlink()
    assert "program 'train.py' is no file seen from" in refused(capsys, "runs/s", "--trial=0")
    assert len(list((away / "runs" / "s" / "trials").iterdir())) == 1


# What cannot run again


def test_a_trial_that_never_began_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = searched(tmp_path)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/study.db")
    study.enqueue_trial({"learning_rate": 0.5})
    assert "trial 3 of s never began (waiting): choose another." in refused(capsys, folder, "--trial=3")


@pytest.mark.parametrize("number", ["-1", "3", "99"])
def test_an_unknown_number_is_refused(tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = searched(tmp_path)
    assert f"s has the trials 0 to 2. Got --trial {number}." in refused(capsys, folder, f"--trial={number}")


def test_what_is_no_study_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="foreign")
    study.add_trial(optuna.trial.create_trial(value=0.5))
    assert "foreign is no study of a sweep of ours" in refused(capsys, str(tmp_path), "--trial=0")
    assert "--trial" in refused(capsys, str(tmp_path))
    assert "holds no study" in refused(capsys, "nowhere", "--trial=0")
