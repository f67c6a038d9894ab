"""The `paretune` command: each sub-command's help, at once and without heavy libraries; what it does not know."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from paretune.cli import COMMANDS, main
from tests.samples import ROOT, start

HEAVY = ("torch", "pandas", "wandb", "optuna", "sklearn", "matplotlib")
PROGRAM = f"""\
import sys
from paretune.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
print("loaded:", sorted({set(HEAVY)!r} & sys.modules.keys()), file=sys.stderr)
sys.exit(code)
"""


def called(*arguments: str, cwd: Path) -> tuple[str, str]:
    """Call the command in a process of its own; return what it prints, and the heavy libraries that it has loaded."""
    done = start(sys.executable, "-c", PROGRAM, *arguments, cwd=cwd, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    text, loaded = called(command, "--help", cwd=tmp_path)
    assert text.startswith("usage: ")
    assert loaded == "loaded: []"


@pytest.mark.parametrize("name", ["ann", "svm", "softmax", "autoencoder"])
def test_a_check_loads_nothing_heavy(name: str, tmp_path: Path) -> None:
    text, loaded = called("check", str(ROOT / "sweeps" / f"{name}.yaml"), cwd=tmp_path)
    assert name in text
    assert loaded == "loaded: []"


def test_status_loads_only_what_reads_the_study(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "fixtures" / "studies" / "finished", tmp_path / "finished")
    text, loaded = called("status", "finished/runs/finished", cwd=tmp_path)
    assert "complete" in text
    assert loaded == "loaded: ['optuna']"


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize(("given", "sentence"), [("swep", "did you mean 'sweep'?"), ("xyz", "'paretune --help' lists them.")])
def test_what_is_no_command_is_one_sentence(given: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([given]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: paretune: {given!r} is no command")
    assert error.endswith(f"{sentence}\n")
    assert error.count("\n") == 1
