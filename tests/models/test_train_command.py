"""Each trainer started as W&B's agent starts it: by `/usr/bin/env python` and its full path, from another folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paretune.core.command_line import SentenceParser, with_underscores
from paretune.core.errors import UsageError
from paretune.models.registry import MODELS, model_class
from paretune.models.train_command import build_parser, main, model_folder, parse
from tests.samples import ROOT, environment, run_config, run_history, run_records, run_summary, start


def trainer(name: str, *flags: str) -> list[str]:
    return ["/usr/bin/env", "python", str(ROOT / "trainers" / f"{name}.py"), *flags]


def test_without_credentials_or_network_a_trainer_trains_logs_offline_and_saves(tmp_path: Path) -> None:
    flags = ["--batch_norm=True", "--hidden=[64, 32]", "--learning_rate=0.01", "--epochs=1", f"--save={tmp_path / 'model'}"]
    result = start(*trainer("ann", *flags), cwd=tmp_path, closed=True)
    assert result.returncode == 0, result.stderr
    assert "epoch 1/1" in result.stdout
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (saved["config"]["batch_norm"], saved["config"]["hidden"]) == (True, [64, 32])
    assert saved["config"]["learning_rate"] == 0.01
    config = run_config(tmp_path)
    assert (config["batch_norm"], config["hidden"], config["learning_rate"]) == (True, [64, 32], 0.01)
    assert (config["data"], config["evaluation_split"], config["classifier"]) == ("digits", "holdout", "ann")
    assert {"commit", "versions", "device", "fingerprints"} <= set(config["provenance"])
    assert {"momentum", "n_hidden", "width", "channels"} <= set(config["provenance"]["inactive"])
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text())
    assert metrics["split"] == "holdout"
    assert metrics["summary"]["best_epoch"] == 1


SWEPT = {"learning_rate": 0.02, "hidden": [16, 8], "batch_norm": True, "optimizer_settings": {"betas": [0.8, 0.9], "eps": 1e-6}}


@pytest.mark.parametrize("flagged", [True, False], ids=["with flags", "without flags"])
def test_in_an_agents_environment_the_config_is_the_sweeps(tmp_path: Path, flagged: bool) -> None:
    from wandb.sdk.lib.config_util import save_config_file_from_dict

    swept = {**SWEPT, "epochs": 1, "split_seed": 3}
    save_config_file_from_dict(str(tmp_path / "parameters.yaml"), {key: {"value": value} for key, value in swept.items()})
    flags = [f"--{key}={value}" for key, value in swept.items()] if flagged else []
    values = {
        "WANDB_MODE": "offline",
        "WANDB_SWEEP_ID": "abcd1234",
        "WANDB_RUN_ID": "run12345",
        "WANDB_SWEEP_PARAM_PATH": "parameters.yaml",  # relative, as the agent's is
        "WANDB_PROJECT": "p",
        "WANDB_ENTITY": "e",
    }
    line = trainer("ann", *flags, f"--save={tmp_path / 'model'}")
    result = start(*line, cwd=tmp_path, **values)
    assert result.returncode == 0, result.stderr
    saved, config = json.loads((tmp_path / "model" / "config.json").read_text()), run_config(tmp_path)
    for key, value in swept.items():
        assert {**saved["config"], **saved["data_options"]}[key] == value
        assert config[key] == value
    assert {"momentum", "width"} <= set(config["provenance"]["inactive"])
    assert "batch_norm" not in config["provenance"]["inactive"]
    assert list(tmp_path.glob("wandb/offline-run-*-run12345"))


def test_a_misspelt_flag_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    result = start(*trainer("ann", "--learning_rat=1"), cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: --learning_rat is not a flag of trainers/ann.py; did you mean --learning_rate?\n"
    assert not list(tmp_path.iterdir())


def test_sigterm_finishes_the_run(tmp_path: Path) -> None:
    line = trainer("softmax", "--epochs=100000", "--save=none")
    with subprocess.Popen(line, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith("epoch 3/"):
                break
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert [row["epoch"] for row in run_history(tmp_path)][:3] == [1, 2, 3]
    assert any(record.HasField("exit") for record in run_records(tmp_path))
    assert run_summary(tmp_path)["best_epoch"] >= 1


def test_help_needs_no_torch_and_lists_every_field(tmp_path: Path) -> None:
    result = start(sys.executable, "-X", "importtime", str(ROOT / "trainers" / "ann.py"), "--help", cwd=tmp_path)
    assert result.returncode == 0
    for name in (*model_class("ann").Config.model_fields, "holdout", "preset", "wandb"):
        assert f"--{name}" in result.stdout
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"torch", "wandb", "sklearn", "optuna"}


def test_untracked_training_does_not_import_wandb(tmp_path: Path) -> None:
    code = (
        "import sys; from paretune.models.train_command import main\n"
        "assert main('softmax', ['--epochs=1', '--wandb=disabled', '--save=none', '--device=cpu']) == 0\n"
        "assert 'wandb' not in sys.modules"
    )
    result = start(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == []


# In this process


def trained(away: Path, name: str, *flags: str) -> dict[str, Any]:
    arguments = ["--wandb=disabled", "--device=cpu", f"--save={away / 'model'}", *flags]
    assert main(name, arguments) == 0
    return json.loads((away / "model" / "metrics.json").read_text())


@pytest.fixture(autouse=True)
def _same_signals() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", MODELS)
def test_every_trainer_trains_and_saves(away: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    epochs = ["--epochs=2"] if "epochs" in model_class(name).Config.model_fields else []
    metrics = trained(away, name, *epochs)
    assert metrics["split"] == "holdout"
    assert metrics["final"]["n_samples"] == 216
    assert f"model saved in {away / 'model'}" in capsys.readouterr().out


def test_without_a_hold_out_the_locked_part_is_read_once_at_the_end(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = trained(away, "softmax", "--epochs=2", "--holdout=0")
    out = capsys.readouterr().out
    assert metrics["split"] == "test"
    assert metrics["final"]["n_samples"] == 360
    assert metrics["summary"]["test_accuracy"] == metrics["final"]["accuracy"]
    assert "best_epoch" not in metrics["summary"]
    assert out.count("locked test part") == 1
    assert not any("test_accuracy" in line for line in out.splitlines() if line.startswith("epoch "))


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--learning_rat=1"], "--learning_rat is not a flag of trainers/ann.py; did you mean --learning_rate?"),
        (["--learning-rat=1"], "did you mean --learning_rate?"),
        (["--learning=0.1"], "--learning is not a flag"),  # no abbreviations
        (["--zzz"], "--zzz is not a flag of trainers/ann.py; --help lists them."),
        (["--epochs=many"], "epochs must be a valid integer. Got 'many'."),
        (["--epochs=0", "--dropout=2"], "epochs must be greater than 0. Got 0. dropout must be less than 1. Got 2."),
        (["--epochs=True"], "epochs must be a valid integer. Got True."),
        (["--holdout=0", "--early_stopping=3"], "early_stopping needs a hold-out to watch."),
        (["--data=mnits"], "data 'mnits' is not a set; did you mean 'mnist'?"),
        (["--device=tpu"], "device must be auto, cpu, cuda, cuda:N or mps and on this machine. Got 'tpu'"),
        (["--wandb=of"], "wandb must be one of auto, online, offline, disabled. Got 'of'."),
        (["--preset=simple_cn"], "preset 'simple_cn' is not known; did you mean 'simple_cnn'?"),
        (["--conv=[{'channels': 4, 'pool': 2}]*9"], "conv must be"),
        (["--n_conv=5"], "conv block 4"),
        (["extra"], "extra is not a flag of trainers/ann.py"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    away: Path, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--wandb=disabled", "--device=cpu", "--save=none", *flags]
    with pytest.raises(SystemExit) as exit_:
        main("ann", arguments)
    errors = capsys.readouterr().err
    assert exit_.value.code == 2
    assert errors.startswith("error: ")
    assert sentence in errors
    assert errors.count("\n") == 1


def test_both_spellings_of_a_flag_are_the_same() -> None:
    assert with_underscores(["--train-size=5", "--data", "my-set", "--name=a-b", "-1"]) == [
        "--train_size=5",
        "--data",
        "my-set",
        "--name=a-b",
        "-1",
    ]


def test_a_flag_without_a_value_means_true() -> None:
    kind = model_class("ann")
    _, given = parse(build_parser("ann", kind), kind, ["--batch_norm", "--epochs", "3"])
    assert given == {"batch_norm": True, "epochs": 3}


def test_a_negative_value_is_a_value() -> None:
    kind = model_class("svm")
    for flags in (["--coef0=-1.5"], ["--coef0", "-1.5"]):
        assert parse(build_parser("svm", kind), kind, flags)[1] == {"coef0": -1.5}


def test_where_the_model_goes() -> None:
    assert model_folder("ann", None, in_sweep=False) == ROOT / "models" / "ann"
    assert model_folder("ann", None, in_sweep=True) is None
    assert model_folder("ann", "none", in_sweep=False) is None
    assert model_folder("ann", "mine", in_sweep=True) == Path("mine")


def test_the_summary_prints_the_table_and_trains_nothing(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("ann", ["--summary", "--hidden=[32]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["total", "2,410"]  # 64 * 32 + 32 + 32 * 10 + 10
    assert not list(away.iterdir())


def test_a_summary_is_for_networks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main("svm", ["--summary"])
    assert "--summary is for networks" in capsys.readouterr().err


def test_a_preset_of_ones_own_is_read_from_a_file(away: Path) -> None:
    (away / "mine.yaml").write_text("epochs: 1\nbatch_size: 256\n")
    trained(away, "softmax", "--preset=mine.yaml")
    assert json.loads((away / "model" / "config.json").read_text())["config"]["batch_size"] == 256


@pytest.mark.parametrize("text", ["- 1", "a: [", "learning_rat: 3"])
def test_an_unfit_preset_is_refused(away: Path, text: str) -> None:
    (away / "mine.yaml").write_text(text)
    from paretune.models.run_config import configure

    with pytest.raises(UsageError, match=r"mine.yaml|learning_rat is not a hyper-parameter"):
        configure(model_class("softmax"), {"preset": "mine.yaml"})


def test_the_environment_of_these_tests_holds_no_credentials() -> None:
    assert not [name for name in environment(Path("/")) if name.startswith("WANDB_")]
    assert "WANDB_API_KEY" not in os.environ


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--porrt", "3"], "--porrt is not a flag of python -m tried; did you mean '--port'?"),
        (["--porrt=3", "do", "it"], "--porrt is not a flag of python -m tried; did you mean '--port'?"),
        (["do", "it", "--teem", "x"], "--teem is not a flag of python -m tried; did you mean '--team'?"),
        (["do", "--zzzzzz"], "--zzzzzz is not a flag of python -m tried do; --help lists them."),
        (["--port=x"], "argument --port: invalid int value: 'x'"),
        (["undo"], "invalid choice: 'undo'"),
        (["do"], "the following arguments are required: NAME"),
        (["do", "--", "--it", "--teem"], "unrecognized arguments: --teem"),
    ],
)
def test_a_flag_that_is_none_is_named_whatever_stands_behind_it(
    given: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = SentenceParser(prog="python -m tried", allow_abbrev=False)
    parser.add_argument("--port", type=int)
    do = parser.add_subparsers(dest="command").add_parser("do", allow_abbrev=False)
    do.add_argument("name", metavar="NAME")
    do.add_argument("--team")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(given)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_training_that_diverged_reads_no_locked_part_and_saves_nothing(tmp_path: Path) -> None:
    flags = ["--optimizer=sgd", "--learning_rate=1e30", "--epochs=1", "--wandb=disabled", f"--save={tmp_path / 'model'}"]
    for holdout in ("0", "0.15"):
        result = start(*trainer("ann", *flags, f"--holdout={holdout}"), cwd=tmp_path)
        assert result.returncode == 2
        assert "the ann that was trained must have weights that are finite numbers" in result.stderr
        assert "Traceback" not in result.stderr
        assert "locked test part" not in result.stdout
        assert not (tmp_path / "model").exists()
