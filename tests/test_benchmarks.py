"""A benchmark's flag that makes no sense is refused before anything is measured."""

from __future__ import annotations

import argparse
import importlib
import sys

import pytest

from benchmarks._result import how_many


@pytest.mark.parametrize(
    ("benchmark", "flag"),
    [
        ("replay", "--timed=0"),
        ("svm_sweep", "--trials=0"),
        ("svm_sweep", "--each=0"),
        ("population", "--rounds=0"),
        ("memory", "--workers=0"),
    ],
)
def test_a_count_of_nothing_is_refused(
    benchmark: str, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{benchmark}")
    monkeypatch.setattr(module, "has_mnist", lambda *_, **__: pytest.fail("it was to be refused"))
    monkeypatch.setattr(sys, "argv", [benchmark, flag])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 2
    assert f"argument {flag.removesuffix('=0')}: must be a whole number of at least 1. Got '0'." in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "2.5", "many", "", "²"])
def test_a_count_is_a_whole_number(text: str) -> None:
    assert how_many("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 1"):
        how_many(text)
