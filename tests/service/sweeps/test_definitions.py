"""Definitions of sweeps: read once each, and never where they would take long."""

from __future__ import annotations

import pytest

from paretune.core.errors import UsageError
from paretune.service.sweeps import definitions

TEXT = "method: grid\nprogram: a.py\nmetric: {name: loss, goal: minimize}\nparameters: {x: {values: [1, 2]}}\n"


def test_a_sweep_without_a_name_is_called_by_its_id_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, original = [], definitions.read_sweep
    monkeypatch.setattr(definitions, "read_sweep", lambda *given, **more: read.append(1) or original(*given, **more))
    text = f"{TEXT}# another\n"
    assert [definitions.read_definition(text, name).name for name in ("abc", "def")] == ["abc", "def"]
    assert definitions.read_definition(f"{text}name: sweep\n", "abc").name == "sweep"
    assert len(read) == 2


@pytest.mark.parametrize("part", ["1,", "- ", "[", "{", "a:\n", "? "])
def test_a_definition_that_would_take_long_is_refused_unread(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "read_sweep", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(UsageError, match="at most about 20,000 lines, keys and values"):
        definitions.read_definition(part * 20_001, "abc")
