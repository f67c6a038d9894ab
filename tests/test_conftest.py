"""How the tests are shared out among processes: as many as cores and memory allow, files that take long first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


@pytest.mark.parametrize(
    ("cores", "room", "count"), [(2, 9, 2), (8, 3, 3), (1, 9, 0), (4, 1, 0), (4, 0, 0)], ids=lambda value: str(value)
)
def test_there_are_as_many_processes_as_cores_that_memory_has_room_for(
    cores: int, room: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(conftest, "available_memory", lambda: room * conftest.MEMORY + 1)
    assert conftest.pytest_xdist_auto_num_workers() == count


def test_files_with_slow_tests_come_first_side_by_side_and_stay_whole() -> None:
    def item(file: str, name: str, *marks: str) -> Any:
        return SimpleNamespace(path=Path(file), name=name, get_closest_marker=lambda mark: mark in marks or None)

    items = [item("a", "1"), item("b", "2"), item("b", "3", "slow"), item("c", "4"), item("d", "5", "slow"), item("d", "6")]
    conftest.pytest_collection_modifyitems(SimpleNamespace(), items)  # type: ignore[arg-type]
    assert [one.name for one in items] == list("123456"), "one process runs them as they stand"
    conftest.pytest_collection_modifyitems(SimpleNamespace(workerinput={}), items)  # type: ignore[arg-type]
    assert [one.name for one in items] == list("235614")
