"""The commands on users: who there is, their roles and teams, and who has left."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from paretune.service.__main__ import main
from paretune.service.store.accounts import account_of
from paretune.service.store.tables import Project
from tests.service.serving import KEY, Asked


def told(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """Return what a command on users prints."""
    assert main(["user", *words, "--data", str(folder)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> str:
    """Return the sentence of a command on users that is refused."""
    with pytest.raises(SystemExit, match="2"):
        main(["user", *words, "--data", str(folder)])
    return capsys.readouterr().err


def test_users_are_listed_changed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(tmp_path)
    asked.run()
    told(capsys, tmp_path, "add", "boss", "--role", "admin", "--team", "lab")
    told(capsys, tmp_path, "team", "someone", "lab")
    assert told(capsys, tmp_path, "list") == "boss: admin, 1 keys, of lab\nsomeone: member, 1 keys, of lab\n"
    told(capsys, tmp_path, "role", "someone", "viewer")
    account = account_of(asked.database, KEY)
    assert account is not None
    assert (account.role, account.entities) == ("viewer", ("someone", "lab"))
    told(capsys, tmp_path, "team", "someone", "lab", "--leave")
    assert "someone: viewer, 1 keys\n" in told(capsys, tmp_path, "list")
    assert "its 1 keys are void" in told(capsys, tmp_path, "remove", "someone")
    assert account_of(asked.database, KEY) is None
    with asked.database.session() as session:
        project = session.scalars(sa.select(Project)).one()
        assert project.user is not None
        assert project.user.name == "someone"
    assert "someone was removed" in refused(capsys, tmp_path, "key", "someone")
    told(capsys, tmp_path, "role", "someone", "member")
    told(capsys, tmp_path, "key", "someone", "--key", KEY)
    assert account_of(asked.database, KEY) is not None
    asked.searches.close()
    asked.database.close()


def test_what_cannot_be_done_to_users_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, tmp_path, "add", "boss", "--role", "admin")
    for words, sentence in (
        (("role", "boss", "viewer"), "boss is the last admin"),
        (("remove", "boss"), "boss is the last admin"),
        (("role", "boss", "king"), "role must be one of admin, member, viewer"),
        (("team", "boss", "lab", "--leave"), "boss is in no team 'lab'"),
        (("team", "boss", "boss"), "is a user, not a team"),
        (("remove", "nobody"), "there is no user 'nobody'"),
    ):
        assert sentence in refused(capsys, tmp_path, *words)
