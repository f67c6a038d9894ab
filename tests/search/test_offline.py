"""What the flags of an offline sweep make of a file: fixed values, names, notes, and how many trials."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState, create_trial

from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.search import offline
from paretune.search.command_line import parse
from paretune.search.offline import default_mode, name_of, notes_of, search, sweep_of
from paretune.search.spec.sweep import Sweep, read_sweep

DEFINITION: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"epochs": {"value": 1}, "learning_rate": {"min": 0.0001, "max": 0.5}},
}


def written(folder: Path, **changes: Any) -> str:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**DEFINITION, **changes}.items() if value is not None}))
    return str(path)


def theirs(folder: Path) -> str:
    """Write a sweep of a program that is no trainer of ours."""
    (folder / "mine.py").write_text("")
    parameters = {"rate": {"min": 0.0, "max": 1.0}, "layers": {"values": [[1], [2]]}, "data": {"value": "x"}}
    return written(folder, program=str(folder / "mine.py"), parameters=parameters, metric={"name": "loss", "goal": "minimize"})


def of_flags(*flags: str) -> tuple[Sweep, dict[str, Any]]:
    return sweep_of(*parse(list(flags)))


@pytest.mark.parametrize("flags", [["--epochs=3", "--data=mnist"], ["--epochs", "3", "--data", "mnist"]])
def test_a_flag_fixes_a_hyper_parameter_or_a_data_option(tmp_path: Path, flags: list[str]) -> None:
    sweep, fixed = of_flags(written(tmp_path), *flags)
    assert fixed == {"epochs": 3, "data": "mnist"}
    assert sweep.space.fixed | {"epochs": 3, "data": "mnist"} == sweep.space.fixed
    assert list(sweep.space.parameters) == ["learning_rate"]


def test_a_searched_parameter_may_be_fixed(tmp_path: Path) -> None:
    sweep, fixed = of_flags(
        written(tmp_path, parameters={**DEFINITION["parameters"], "batch_size": {"values": [8, 16]}}), "--batch_size=8"
    )
    assert fixed == {"batch_size": 8}
    assert list(sweep.space.parameters) == ["learning_rate"]


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--epoch=3", "--epoch is not a flag of sweeps/offline.py; did you mean '--epochs'?"),
        ("--zzz=3", "--zzz is not a flag of sweeps/offline.py; --help lists the flags."),
        ("zzz", "zzz is not a flag of sweeps/offline.py"),
    ],
)
def test_a_flag_that_is_none_is_refused(tmp_path: Path, flag: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        of_flags(written(tmp_path), flag)
    assert str(refusal.value).startswith(sentence)


def test_of_another_program_the_parameters_of_its_file_are_fixed_as_yaml_reads_them(tmp_path: Path) -> None:
    sweep, fixed = of_flags(theirs(tmp_path), "--rate", "0.5", "--layers=[2]", "--data=y")
    assert fixed == {"rate": 0.5, "layers": [2], "data": "y"}
    assert sweep.space.fixed == fixed
    assert sweep.space.parameters == {}


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--rat=3", "--rat fixes no parameter of "),
        ("--zzz=3", "; it takes --data=VALUE, --layers=VALUE, --rate=VALUE."),
        ("--rate", "--rate fixes no parameter of "),
    ],
)
def test_of_another_program_nothing_else_is_fixed(tmp_path: Path, flag: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        of_flags(theirs(tmp_path), flag)


def test_a_study_is_named_by_the_sweep_and_for_our_trainers_by_the_data(tmp_path: Path) -> None:
    assert name_of(read_sweep(written(tmp_path))) == "small-digits"
    assert name_of(of_flags(written(tmp_path), "--data=mnist")[0]) == "small-mnist"
    assert name_of(read_sweep(theirs(tmp_path))) == "small"


def test_a_space_without_the_default_configuration_is_noted(tmp_path: Path) -> None:
    assert notes_of(read_sweep(written(tmp_path))) == []
    elsewhere = {"learning_rate": {"min": 0.4, "max": 0.5}}
    assert notes_of(read_sweep(written(tmp_path, parameters=elsewhere))) == [
        "the default configuration is not tried first, as the search space leaves out its learning_rate"
    ]
    grid = {"learning_rate": {"values": [0.4, 0.5]}}
    assert notes_of(read_sweep(written(tmp_path, method="grid", parameters=grid))) == [], "a grid tries none first"


def test_wandb_is_offline_unless_it_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_mode() == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert default_mode() == "disabled"


@pytest.mark.parametrize(
    ("flags", "workers", "gpus"),
    [
        (["--workers=3"], 3, []),
        (["--gpus=0,1"], 2, ["0", "1"]),
        (["--gpus=0,1", "--gpu_fraction=0.5"], 4, ["0", "1"]),
        (["--gpus=0", "--workers=5"], 5, ["0"]),
        (["--gpus=0"], 1, ["0"]),
    ],
)
def test_several_workers_or_gpus_are_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], workers: int, gpus: list[str]
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(offline, "gpus_of", lambda text: text.split(","))
    monkeypatch.setattr(offline, "run_workers", lambda sweep, fixed, **given: calls.append(given))
    monkeypatch.setattr(offline, "run", lambda *_, **__: pytest.fail("it is no process of its own"))
    options, texts, unknown = parse([written(tmp_path), *flags, "--seed=4"])
    sweep, fixed = sweep_of(options, texts, unknown)
    search(sweep, fixed, options, name="a", trials=7)
    (given,) = calls
    assert (given["workers"], given["gpus"], given["trials"], given["seed"]) == (workers, gpus, 7, 4)


def test_one_worker_is_this_process_and_ctrl_c_ends_it_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = optuna.create_study()
    monkeypatch.setattr(offline, "run", lambda *_, **given: study)
    options, texts, unknown = parse([written(tmp_path)])
    sweep, fixed = sweep_of(options, texts, unknown)
    assert search(sweep, fixed, options, name="a", trials=7) is study

    def interrupted(*_: Any, **__: Any) -> optuna.Study:
        os.kill(os.getpid(), signal.SIGINT)
        return study

    monkeypatch.setattr(offline, "run", interrupted)
    with pytest.raises(SystemExit) as exit_info:
        search(sweep, fixed, options, name="a", trials=7)
    assert exit_info.value.code == 130
    assert "run the same command again to go on" in capsys.readouterr().err


def test_the_terminator_is_the_reason_where_the_sweep_ended_with_the_trials_that_it_saw() -> None:
    plan: Any = SimpleNamespace(
        trials=3, sweep=SimpleNamespace(scheduler=SimpleNamespace(source="own.py")), reason=lambda trials: "another"
    )
    study = optuna.create_study()
    assert offline._reason(study, plan) == "another"
    study.set_user_attr(study_schema.TERMINATED, 2)
    study.add_trial(create_trial(state=TrialState.COMPLETE, values=[1]))
    assert offline._reason(study, plan) == "another", "it went on"
    study.add_trial(create_trial(state=TrialState.COMPLETE, values=[1]))
    assert offline._reason(study, plan) == "the terminator of own.py says so, after 2 trials"
    plan.trials = 2
    assert offline._reason(study, plan) == "another", "all trials ran"
