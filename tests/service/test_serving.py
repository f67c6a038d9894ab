"""The programs of the client that the tests run: what they print counts once they are through, and only so often without an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service import serving
from tests.service.serving import client

STAYS = """
import atexit, threading
atexit.register(threading.Event().wait)
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE", 0.1)
    monkeypatch.setattr(serving, "stuck", [])


def test_a_program_that_has_printed_all_need_not_end_but_only_so_often(tmp_path: Path) -> None:
    for number in range(serving.MOST_STUCK):
        assert client("", tmp_path, f"{STAYS}print({number})") == number
    with pytest.raises(AssertionError, match=r"clients do not end; they stand here: .*threading\.py"):
        client("", tmp_path, f"{STAYS}print(1)")


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "1 / 0", "import os; os._exit(1)"])
def test_a_program_that_fails_has_no_result(tmp_path: Path, end: str) -> None:
    with pytest.raises(AssertionError):
        client("", tmp_path, f"print(1)\n{end}")
    assert serving.stuck == []
