"""Where a run came from: the commit, with its changes, the versions, and whether a run is ours."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from paretune.core import provenance
from paretune.core.provenance import Source, git_commit, versions, written_by_us


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *own, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_a_commit_is_told_with_its_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    commit = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "new").touch()
    assert git_commit.__wrapped__() == commit, "a file that is not tracked changes nothing"
    (tmp_path / "a").write_text("2")
    assert git_commit.__wrapped__() == f"{commit}+changes"


def test_outside_of_a_checkout_and_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert git_commit.__wrapped__() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit.__wrapped__() is None


def test_the_versions_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = versions.__wrapped__()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == metadata.version("numpy")
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package", "numpy"))
    assert list(versions.__wrapped__()) == ["python", "numpy"]


@pytest.mark.parametrize(
    ("config", "ours"),
    [
        ({"classifier": "ann", "provenance": {"fingerprints": {}}}, True),
        ({"classifier": "ann", "provenance": {"commit": "x"}}, False),
        ({"classifier": "ann", "provenance": "fingerprints"}, False),
        ({"classifier": "ann"}, False),
        ({"provenance": {"fingerprints": {}}}, False),
        ({}, False),
    ],
)
def test_a_run_is_ours_where_it_says_on_which_data_its_classifier_was_trained(config: dict[str, Any], ours: bool) -> None:
    assert written_by_us(config) is ours


def test_a_source_is_kept_as_its_file_and_sum() -> None:
    assert Source("a.py", "0f").to_dict() == {"file": "a.py", "sha256": "0f"}
