"""The help of each command begins with what the command does, and names its defaults."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from paretune.cli import COMMANDS

MODULES = {name: module for name, (module, _) in COMMANDS.items()}


def source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


DESCRIBED = [name for name, module in MODULES.items() if "description=__doc__" in source_of(module)]


def test_most_commands_are_described_by_the_first_line_of_their_module() -> None:
    assert len(DESCRIBED) > len(COMMANDS) / 2


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_help_says_the_first_line_of_the_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = (ast.get_docstring(ast.parse(source_of(MODULES[name]))) or "").splitlines()[0]
    with pytest.raises(SystemExit) as exit_info:
        importlib.import_module(MODULES[name]).main(["--help"])
    assert exit_info.value.code == 0
    assert first in " ".join(capsys.readouterr().out.split())
