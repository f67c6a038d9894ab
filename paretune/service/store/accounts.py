"""Users, their keys and what they may do. A key is shown once; its SHA-256 is kept, as its 40 random characters need no salt."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store.database import Database
from paretune.service.store.tables import ApiKey, Entity, Membership, User

ROLES = ("admin", "member", "viewer")
REMOVED = "removed"  # the role of who has left; the runs stay, and say whose they were
FIRST_USER = "local"
KEY_FORM = re.compile(r"[A-Za-z0-9_]{40,}|[^-]*-[A-Za-z0-9_-]{40,}")  # what the client accepts: it counts behind the first dash
NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RESERVED = (  # the first parts of this server's own addresses, below which no projects can lie
    *("artifact-uploads", "artifacts", "artifactsV2", "authorize", "bulk", "contents", "downloads", "files", "graphql", "healthz"),
    *("login", "logout", "metrics", "painter", "ready", "sdk", "static", "uploads"),
)


@dataclass(frozen=True)
class Account:
    """Who asks: a user as it was when its key was read."""

    id: int
    name: str
    role: str
    email: str
    entities: tuple[str, ...]  # its own, then its teams'

    @property
    def entity(self) -> str:
        """Where its projects go unless it says otherwise."""
        return self.entities[0]

    def may_write(self, entity: str) -> bool:
        """Whether it may change what an entity owns."""
        return self.role == "admin" or (self.role == "member" and entity in self.entities)

    def may_read(self, entity: str) -> bool:
        """Whether it may see what an entity owns."""
        return self.role == "admin" or entity in self.entities

    @property
    def readable(self) -> sa.ColumnElement[bool]:
        """The same as a condition, of a query that joins Entity."""
        return sa.true() if self.role == "admin" else Entity.name.in_(self.entities)


def new_key() -> str:
    """Return a random key of the form that the client accepts."""
    alphabet = string.ascii_letters + string.digits
    return "local-" + "".join(secrets.choice(alphabet) for _ in range(40))


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def add_user(
    database: Database, name: str, *, key: str | None = None, role: str = "member", email: str = "", team: str | None = None
) -> str:
    """Create a user with an entity of its name, and return its key.

    Args:
        key: one that is known already; None makes a new one.
        team: an entity that the user shares with others; it is created where there is none.

    Raises:
        UsageError: if the name is taken or unfit, the role unknown, or the key one that clients refuse.
    """
    if name in RESERVED:
        raise UsageError(f"{name!r} is an address of this server: choose another name.")
    if not NAME_FORM.fullmatch(name):
        raise UsageError(f"a user's name must be 1 to 64 letters, digits, dots, dashes or underscores. Got {name!r}.")
    _check_role(role)
    key = checked_key(key)
    with database.session(writing=True) as session:
        if session.scalar(sa.select(Entity).where(Entity.name == name)):
            raise UsageError(f"there is a user or team {name!r} already: choose another name.")
        check_new(session, key)
        entity = Entity(name=name)
        session.add(entity)
        session.flush()
        user = User(name=name, role=role, email=email, entity_id=entity.id)
        session.add(user)
        session.flush()
        session.add(ApiKey(user_id=user.id, digest=digest_of(key)))
        if team is not None:
            session.add(Membership(user_id=user.id, entity_id=_team(session, team).id))
    return key


def add_key(database: Database, name: str, *, key: str | None = None) -> str:
    """Give a user one more key, and return it.

    Raises:
        UsageError: if there is no such user, or the key is unfit.
    """
    key = checked_key(key)
    with database.session(writing=True) as session:
        user = _user(session, name)
        if user.role == REMOVED:
            raise UsageError(f"{name} was removed: python -m paretune.service user role {name} member lets it in again.")
        check_new(session, key)
        session.add(ApiKey(user_id=user.id, digest=digest_of(key)))
    return key


def check_new(session: Session, key: str) -> None:
    """Refuse a key that somebody has.

    Raises:
        UsageError: that says so.
    """
    if session.scalar(sa.select(ApiKey).where(ApiKey.digest == digest_of(key))):
        raise UsageError("this key is in use already: leave --key out to have a new one made.")


def revoke_keys(database: Database, name: str) -> int:
    """Make every key of a user void, and return how many there were.

    Raises:
        UsageError: if there is no such user.
    """
    with database.session(writing=True) as session:
        return _revoke(session, _user(session, name))


def list_users(database: Database) -> list[tuple[str, str, int, tuple[str, ...]]]:
    """Return each user's name, role, number of keys, and teams, by name."""
    count = sa.select(sa.func.count(ApiKey.id)).where(ApiKey.user_id == User.id).scalar_subquery()
    with database.session() as session:
        found = session.execute(sa.select(User, count).order_by(User.name)).all()
        return [(user.name, user.role, keys, account_in(session, user).entities[1:]) for user, keys in found]


def change_role(database: Database, name: str, role: str) -> None:
    """Give a user another role.

    Raises:
        UsageError: if there is no such user or role, or it is the last admin.
    """
    _check_role(role)
    with database.session(writing=True) as session:
        user = _user(session, name)
        if role != "admin":
            _check_another_admin(session, user)
        user.role = role


def join_team(database: Database, name: str, team: str) -> None:
    """Let a user share a team, which is created where there is none.

    Raises:
        UsageError: if there is no such user, or the team's name is unfit.
    """
    with database.session(writing=True) as session:
        user, entity = _user(session, name), _team(session, team)
        if session.get(Membership, (user.id, entity.id)) is None:
            session.add(Membership(user_id=user.id, entity_id=entity.id))


def leave_team(database: Database, name: str, team: str) -> None:
    """Take a user out of a team.

    Raises:
        UsageError: if there is no such user, or it is in no such team.
    """
    with database.session(writing=True) as session:
        user = _user(session, name)
        entity = session.scalar(sa.select(Entity).where(Entity.name == team))
        found = None if entity is None else session.get(Membership, (user.id, entity.id))
        if found is None:
            raise UsageError(f"{name} is in no team {team!r}: python -m paretune.service user list names the teams.")
        session.delete(found)


def remove_user(database: Database, name: str) -> int:
    """Let a user in no more: its keys are void and its teams left, and its runs stay. Return how many keys there were.

    Raises:
        UsageError: if there is no such user, or it is the last admin.
    """
    with database.session(writing=True) as session:
        user = _user(session, name)
        _check_another_admin(session, user)
        user.role = REMOVED
        session.execute(sa.delete(Membership).where(Membership.user_id == user.id))
        return _revoke(session, user)


def remove_key(database: Database, key: str) -> None:
    """Make one key void."""
    with database.session(writing=True) as session:
        session.execute(sa.delete(ApiKey).where(ApiKey.digest == digest_of(key)))


def checked_key(key: str | None) -> str:
    """Return the key, or a new one.

    Raises:
        UsageError: if it is one that W&B's client refuses before it asks anybody.
    """
    if key is None:
        return new_key()
    if not KEY_FORM.fullmatch(key):
        raise UsageError(
            "a key must have at least 40 letters, digits, dashes or underscores, behind its first dash where it has one: "
            "leave --key out to have one made."
        )
    return key


def account_of(database: Database, key: str) -> Account | None:
    """Return whose key this is; None where it is nobody's."""
    with database.session() as session:
        found = session.scalar(sa.select(ApiKey).where(ApiKey.digest == digest_of(key)))
        if found is None:
            return None
        return account_in(session, found.user)


def account_in(session: Session, user: User) -> Account:
    """Return a user as it is now."""
    teams = session.scalars(
        sa.select(Entity.name)
        .join(Membership, Membership.entity_id == Entity.id)
        .where(Membership.user_id == user.id)
        .order_by(Entity.name)
    ).all()
    return Account(user.id, user.name, user.role, user.email, (user.entity.name, *teams))


def has_users(database: Database) -> bool:
    """Whether anybody can log in."""
    with database.session() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(User)) != 0


def _user(session: Session, name: str) -> User:
    found = session.scalar(sa.select(User).where(User.name == name))
    if found is None:
        raise UsageError(f"there is no user {name!r}: add it by python -m paretune.service user add {name}.")
    return found


def _revoke(session: Session, user: User) -> int:
    keys = session.scalars(sa.select(ApiKey).where(ApiKey.user_id == user.id)).all()
    for key in keys:
        session.delete(key)
    return len(keys)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise UsageError(f"role must be one of {', '.join(ROLES)}. Got {role!r}.")


def _check_another_admin(session: Session, user: User) -> None:
    others = sa.select(User.id).where(User.role == "admin", User.id != user.id).limit(1)
    if user.role == "admin" and session.scalar(others) is None:
        raise UsageError(f"{user.name} is the last admin: make another first, by python -m paretune.service user role NAME admin.")


def _team(session: Session, name: str) -> Entity:
    found = session.scalar(sa.select(Entity).where(Entity.name == name))
    if found is None:
        if name in RESERVED:
            raise UsageError(f"{name!r} is an address of this server: choose another name for the team.")
        if not NAME_FORM.fullmatch(name):
            raise UsageError(f"a team's name must be 1 to 64 letters, digits, dots, dashes or underscores. Got {name!r}.")
        found = Entity(name=name, is_team=True)
        session.add(found)
        session.flush()
    elif not found.is_team:
        raise UsageError(f"{name!r} is a user, not a team: choose another name for the team.")
    return found
