"""Users, keys and teams at their bounds: names, roles, what an account may read and write, and the last admin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.core.errors import UsageError
from paretune.service.store import accounts
from paretune.service.store.accounts import RESERVED, Account, account_of, add_key, add_user, change_role, join_team, leave_team
from paretune.service.store.database import Database
from paretune.service.store.tables import ApiKey, Entity

LONG = "k" * 40


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'service.db'}")


def account(database: Database, key: str) -> Account:
    found = account_of(database, key)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["a", "A1", "0", "a.b-c_d", "x" * 64])
def test_a_fit_name_is_that_of_a_user_and_of_its_entity(database: Database, name: str) -> None:
    found = account(database, add_user(database, name))
    assert (found.name, found.entity, found.entities, found.role) == (name, name, (name,), "member")


@pytest.mark.parametrize("name", ["", "x" * 65, "-a", ".a", "_a", "a b", "a/b", "ä", "a\n"])
@pytest.mark.parametrize("whose", ["a user's", "a team's"])
def test_an_unfit_name_is_refused(database: Database, name: str, whose: str) -> None:
    with pytest.raises(UsageError, match=f"{whose} name must be 1 to 64 letters"):
        add_user(database, name) if whose == "a user's" else add_user(database, "someone", team=name)
    assert not accounts.has_users(database)


@pytest.mark.parametrize("name", RESERVED)
def test_addresses_of_the_server_are_no_names(database: Database, name: str) -> None:
    with pytest.raises(UsageError, match="is an address of this server"):
        add_user(database, name)
    with pytest.raises(UsageError, match="choose another name for the team"):
        add_user(database, "someone", team=name)


@pytest.mark.parametrize("key", ["k" * 40, "local-" + "k" * 40, "k" * 86, "a_b-" + "c-_" * 20])
def test_a_key_that_clients_accept_is_taken(database: Database, key: str) -> None:
    assert add_user(database, "someone", key=key) == key
    assert account(database, key).name == "someone"
    assert account_of(database, key + "x") is None


# as `check_api_key` of the client (wandb 0.31) does, which takes other alphabets as well
@pytest.mark.parametrize("key", ["", "k" * 39, "local-" + "k" * 39, "k" * 39 + " ", "k" * 40 + "\n", "ü" * 40])
def test_a_key_that_clients_refuse_is_refused(database: Database, key: str) -> None:
    with pytest.raises(UsageError, match="a key must have at least 40 letters"):
        add_user(database, "someone", key=key)


def test_made_keys_are_of_the_form_that_clients_accept_and_differ() -> None:
    keys = {accounts.new_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(accounts.checked_key(key) == key and len(key) == 46 for key in keys)


def test_no_key_is_stored_and_none_is_of_two_users(database: Database) -> None:
    add_user(database, "someone", key=LONG)
    with pytest.raises(UsageError, match="this key is in use already"):
        add_user(database, "other", key=LONG)
    with pytest.raises(UsageError, match="this key is in use already"):
        add_key(database, "someone", key=LONG)
    with database.session() as session:
        assert all(LONG not in digest for digest in session.scalars(sa.select(ApiKey.digest)))
        assert session.scalars(sa.select(Entity.name)).all() == ["someone"], "nothing is left of what was refused"


def test_keys_are_made_void_one_by_one_or_all(database: Database) -> None:
    first = add_user(database, "someone")
    second, third = add_key(database, "someone"), add_key(database, "someone")
    accounts.remove_key(database, second)
    assert account_of(database, second) is None
    assert accounts.revoke_keys(database, "someone") == 2
    assert account_of(database, first) is account_of(database, third) is None
    assert accounts.revoke_keys(database, "someone") == 0


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [
        ("admin", ["mine", "lab", "theirs"], ["mine", "lab", "theirs"]),
        ("member", ["mine", "lab"], ["mine", "lab"]),
        ("viewer", ["mine", "lab"], []),
    ],
)
def test_a_role_says_what_may_be_read_and_written(role: str, reads: list[str], writes: list[str]) -> None:
    one = Account(1, "mine", role, "", ("mine", "lab"))
    entities = ["mine", "lab", "theirs"]
    assert [entity for entity in entities if one.may_read(entity)] == reads
    assert [entity for entity in entities if one.may_write(entity)] == writes


def test_a_removed_user_may_write_nothing() -> None:
    assert not Account(1, "mine", accounts.REMOVED, "", ("mine",)).may_write("mine")


@pytest.mark.parametrize("role", ["admin", "member"])
def test_what_may_be_read_is_the_same_as_a_condition(database: Database, role: str) -> None:
    for name in ("mine", "theirs"):
        add_user(database, name, role="admin")
    one = Account(1, "mine", role, "", ("mine",))
    with database.session() as session:
        found = session.scalars(sa.select(Entity.name).where(one.readable).order_by(Entity.name)).all()
    assert found == [name for name in ("mine", "theirs") if one.may_read(name)]


def test_teams_are_shared_entered_once_and_left(database: Database) -> None:
    key, other = add_user(database, "someone", team="lab"), add_user(database, "other", team="lab")
    join_team(database, "someone", "lab")
    join_team(database, "someone", "atelier")
    assert account(database, key).entities == ("someone", "atelier", "lab")
    assert account(database, other).entities == ("other", "lab")
    leave_team(database, "someone", "lab")
    assert account(database, key).entities == ("someone", "atelier")
    for team in ("lab", "none"):
        with pytest.raises(UsageError, match=f"someone is in no team '{team}'"):
            leave_team(database, "someone", team)
    with pytest.raises(UsageError, match="'other' is a user, not a team"):
        join_team(database, "someone", "other")
    with pytest.raises(UsageError, match="there is a user or team 'lab' already"):
        add_user(database, "lab")


def test_the_last_admin_stays_one(database: Database) -> None:
    add_user(database, "boss", role="admin")
    add_user(database, "someone")
    for change in (lambda: change_role(database, "boss", "viewer"), lambda: accounts.remove_user(database, "boss")):
        with pytest.raises(UsageError, match="boss is the last admin"):
            change()
    change_role(database, "boss", "admin")
    change_role(database, "someone", "admin")
    change_role(database, "boss", "viewer")
    assert accounts.list_users(database) == [("boss", "viewer", 1, ()), ("someone", "admin", 1, ())]
    with pytest.raises(UsageError, match="role must be one of admin, member, viewer"):
        change_role(database, "boss", "king")


def test_who_was_removed_gets_no_key_and_is_let_in_again_by_a_role(database: Database) -> None:
    add_user(database, "boss", role="admin")
    key = add_user(database, "someone", team="lab")
    assert accounts.remove_user(database, "someone") == 1
    assert account_of(database, key) is None
    with pytest.raises(UsageError, match=r"someone was removed: python -m paretune\.service user role someone member"):
        add_key(database, "someone")
    change_role(database, "someone", "member")
    assert account(database, add_key(database, "someone")).entities == ("someone",)


@pytest.mark.parametrize("change", [add_key, accounts.revoke_keys, accounts.remove_user])
def test_a_user_that_is_not_there_is_named_with_the_command_that_adds_it(database: Database, change: Any) -> None:
    with pytest.raises(UsageError, match=r"there is no user 'nobody': add it by python -m paretune\.service user add nobody"):
        change(database, "nobody")
