"""The memory available: the tightest of the machine's and of the control groups', of both versions, own and above."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretune.core import memory
from paretune.core.memory import available_memory

MOST = 9223372036854771712  # what version 1 says where there is no limit


def test_it_is_a_number_of_bytes_of_this_machine() -> None:
    assert 10 * 2**20 < available_memory() < 2**50


def group(folder: Path, limit: int | str, usage: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    return tmp_path / "groups"


def test_without_groups_it_is_the_machines(groups: Path) -> None:
    assert available_memory() == 5000 * 1024


@pytest.mark.parametrize("tightest", ["user.slice", "user.slice/job.scope"])
def test_the_own_group_and_those_above_it_count(groups: Path, tightest: str) -> None:
    (groups.parent / "own").write_text("0::/user.slice/job.scope\n")
    for folder in ("user.slice", "user.slice/job.scope"):
        group(groups / folder, "max", 100)
    assert available_memory() == 5000 * 1024
    group(groups / tightest, 1000, 300)
    group(groups / "other.slice", 10, 9)
    assert available_memory() == 700


@pytest.mark.parametrize("tightest", ["memory", "memory/jobs", "memory/jobs/7"])
def test_groups_of_version_1_count(groups: Path, tightest: str) -> None:
    (groups.parent / "own").write_text("5:cpu,cpuacct:/jobs/8\n4:hugetlb,memory:/jobs/7\n0::/\n")
    for folder in ("memory", "memory/jobs", "memory/jobs/7"):
        group(groups / folder, MOST, 100, version=1)
    group(groups / tightest, 1000, 400, version=1)
    assert available_memory() == 600


def test_a_container_that_does_not_see_its_groups_folder_sees_the_top(groups: Path) -> None:
    (groups.parent / "own").write_text("4:memory:/docker/abc\n")
    group(groups / "memory", 1000, 100, version=1)
    assert available_memory() == 900
