"""The door of the offline sweep: flags, fixed values, and the table at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.runs import study_schema
from paretune.search.command_line import main, parse
from paretune.search.engine import in_process
from paretune.search.offline import sweep_of
from paretune.search.status import table
from tests.samples import ROOT, small_data, start

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "run_cap": 3,
    "parameters": {"epochs": {"value": 1}, "learning_rate": {"min": 0.0005, "max": 0.1}, "batch_size": {"values": [16, 64]}},
}


@pytest.fixture
def file(away: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())
    (away / "small.yaml").write_text(yaml.safe_dump(DEFINITION))
    return "small.yaml"


def searched(*arguments: str) -> optuna.Study:
    assert main([*arguments, "--wandb=disabled", "--device=cpu", "--runs=runs"]) == 0
    (folder,) = Path("runs").iterdir()
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///runs/{folder.name}/study.db")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--wandb=disabled", "--device=cpu", "--runs=runs"])
    errors = capsys.readouterr().err
    assert exit_.value.code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


def test_the_files_run_cap_is_the_number_of_trials(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = searched(file)
    assert (study.study_name, len(study.trials)) == ("small-digits", 3)
    out = capsys.readouterr().out
    assert "small-digits: 3 complete" in out
    assert "0 (default)" in out


def test_trials_of_the_command_line_go_before_the_run_cap(file: str) -> None:
    assert len(searched(file, "--trials", "2").trials) == 2


def test_any_value_can_be_fixed(file: str) -> None:
    study = searched(file, "--epochs=2", "--batch-size=32", "--train_size=50", "--trials=1", "--name=mine")
    assert study.study_name == "mine"
    config = study.trials[0].user_attrs[study_schema.RUN]["config"]
    assert (config["epochs"], config["batch_size"], config["train_size"]) == (2, 32, 50)
    assert list(study.trials[0].params) == ["learning_rate"]


def test_a_default_that_is_left_out_is_told(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    definition = {**DEFINITION, "parameters": {"epochs": {"value": 1}, "learning_rate": {"min": 0.5, "max": 0.9}}}
    Path(file).write_text(yaml.safe_dump(definition))
    searched(file, "--trials=1")
    assert "note: the default configuration is not tried first, as the search space leaves out its learning_rate" in (
        capsys.readouterr().out
    )


def test_without_a_number_of_trials_it_is_asked_for(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(file).write_text(yaml.safe_dump({key: value for key, value in DEFINITION.items() if key != "run_cap"}))
    assert "give --trials N, or run_cap in the file" in refused(capsys, file)


def test_a_grid_needs_no_number_of_trials(file: str) -> None:
    parameters = {"epochs": {"value": 1}, "batch_size": {"values": [16, 32]}}
    Path(file).write_text(yaml.safe_dump({"program": "trainers/softmax.py", "method": "grid", "parameters": parameters}))
    assert len(searched(file).trials) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--learning_rat=1"], "--learning_rat is not a flag of sweeps/offline.py; did you mean '--learning_rate'?"),
        (["--trails=3"], "did you mean '--trials'?"),
        (["--trials=0"], "must be a whole number of at least 1. Got '0'."),
        (["--trials=many"], "must be a whole number of at least 1. Got 'many'."),
        (["--seed=-1"], "must be a whole number of at least 0. Got '-1'."),
        (["--holdout=0"], "a sweep chooses, so it needs a hold-out"),
        (["--epochs=0"], "epochs must be greater than 0. Got 0."),
        (["--device=tpu"], "device must be auto"),
        (["--wandb=of"], "wandb must be one of auto, online, offline, disabled. Got 'of'."),
    ],
)
def test_a_mistake_is_one_sentence(file: str, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([file, "--wandb=disabled", "--device=cpu", "--runs=runs", *arguments])
    errors = capsys.readouterr().err
    assert exit_.value.code == 2
    assert errors.startswith("error: ")
    assert sentence in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("flag", ["--device=tpu", "--wandb=of", "--data=mnits", "--data=folder:/no/where"])
def test_what_no_trial_can_run_with_costs_no_trial(
    file: str, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(in_process, "load_data", load_data)
    with pytest.raises(SystemExit):
        main([file, "--device=cpu", "--wandb=disabled", "--runs=runs", "--name=s", flag])
    assert "trial" not in capsys.readouterr().err
    for database in Path("runs/s").glob("study.db"):
        trials = optuna.load_study(study_name="s", storage=f"sqlite:///{database}").get_trials()
        assert {trial.state.name for trial in trials} <= {"WAITING"}


def test_a_missing_sweep_is_one_sentence(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in refused(capsys, "no.yaml")


def test_flags_split_into_options_data_and_the_classifiers(file: str) -> None:
    options, texts, unknown = parse([file, "--trials", "5", "--data=mnist", "--momentum=0.5"])
    assert (options.trials, texts, unknown) == (5, {"data": "mnist"}, ["--momentum=0.5"])
    assert sweep_of(options, texts, unknown)[0].space.fixed == {"epochs": 1, "data": "mnist", "momentum": 0.5}


def test_the_seed_of_training_is_no_flag_of_the_sweep(file: str) -> None:
    options, texts, unknown = parse([file, "--seed=3"])
    assert options.seed == 3
    assert "seed" not in sweep_of(options, texts, unknown)[0].space.fixed


def test_a_folders_sweep_is_named_like_the_folder(file: str) -> None:
    study = searched(file, "--data=folder:/some/where/faces", "--trials=1")
    assert study.study_name == "small-faces"


def test_the_table_shows_the_best_first_and_how_all_ended(file: str) -> None:
    study = searched(file)
    text = table(study, {"f1": "maximize"})
    rows = [line.split() for line in text.splitlines()[2:]]
    assert text.splitlines()[2].split() == ["trial", "f1", "epoch", "batch_size", "learning_rate"]
    values = [float(row[2 if row[1] == "(default)" else 1]) for row in rows[1:]]
    assert values == sorted(values, reverse=True)


def test_a_study_without_a_finished_trial_has_a_table(file: str) -> None:
    study = optuna.create_study(study_name="empty")
    assert "empty: no trial has ended" in table(study, {"f1": "maximize"})


def test_errors_of_a_sweep_are_usage_errors(file: str) -> None:
    options, texts, _ = parse([file])
    with pytest.raises(UsageError, match="is not a flag"):
        sweep_of(options, texts, ["word"])


@pytest.mark.parametrize(("said", "written"), [("disabled", False), ("offline", True), ("", True)])
def test_after_wandb_disabled_a_sweep_writes_no_run_files(said: str, written: bool, file: str) -> None:
    if said:
        assert start(str(Path(sys.executable).with_name("wandb")), said, cwd=Path()).returncode == 0
    asked = "import sys; from paretune.search.command_line import main; sys.exit(main(sys.argv[1:]))"
    flags = [file, "--trials=1", "--device=cpu", "--runs=runs", "--name=s", "--train_size=100"]
    ended = start(sys.executable, "-c", asked, *flags, cwd=Path(), PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    assert bool(list(Path("runs").rglob("run-*.wandb"))) == written
    assert len(optuna.load_study(study_name="s", storage="sqlite:///runs/s/study.db").trials) == 1


def test_a_program_of_ones_own_cannot_be_searched_while_wandb_is_disabled(
    away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    Path("own.py").touch()
    Path("own.yaml").write_text(
        yaml.safe_dump({**DEFINITION, "program": "own.py", "parameters": {"rate": {"min": 0.0, "max": 1.0}}})
    )
    with pytest.raises(SystemExit):
        main(["own.yaml", "--trials=1", "--runs=runs"])
    assert "W&B is disabled here (by --wandb, WANDB_MODE or 'wandb disabled'): use --wandb=offline." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("2026-01-01", "2026-01-01"), ("[1, {a: b}]", [1, {"a": "b"}]), ("{1: a}", {"1": "a"}), ("!!set {a}", "!!set {a}")),
        *(("[1", "[1"), ("a: b: c", "a: b: c"), (".nan", ".nan"), ("null", None), ("!!binary aGk=", "!!binary aGk="), ("", None)),
        *(("2026-13-45", "2026-13-45"), ("9" * 5000, "9" * 5000), ("*x", "*x")),
    ],
)
def test_a_value_for_a_program_of_ones_own_is_what_yaml_reads_or_its_text(text: str, value: Any, away: Path) -> None:
    Path("own.py").touch()
    definition = {"program": "own.py", "method": "random", "metric": {"name": "loss"}, "parameters": {"v": {"values": [1, 2]}}}
    Path("own.yaml").write_text(yaml.safe_dump(definition))
    _, fixed = sweep_of(*parse(["own.yaml", f"--v={text}"]))
    assert fixed == {"v": value}
