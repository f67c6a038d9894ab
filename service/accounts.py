"""Users, their keys and what they may do. A key is shown once; its SHA-256 is kept, as its 40 random characters need no salt."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from service.database import ApiKey, Database, Entity, Membership, User
from trainers.errors import UsageError

ROLES = ("admin", "member", "viewer")
FIRST_USER = "local"
KEY_FORM = re.compile(r"(?:[^-]*-)?[A-Za-z0-9_-]{40,}")  # what the client accepts
NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RESERVED = (  # the first parts of this server's own addresses, below which no projects can lie
    *("artifact-uploads", "artifacts", "artifactsV2", "authorize", "bulk", "contents", "downloads", "files", "graphql", "healthz"),
    *("login", "logout", "metrics", "painter", "sdk", "static", "uploads"),
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
    if role not in ROLES:
        raise UsageError(f"role must be one of {', '.join(ROLES)}. Got {role!r}.")
    key = checked_key(key)
    with database.session(writing=True) as session:
        if session.scalar(sa.select(Entity).where(Entity.name == name)):
            raise UsageError(f"there is a user or team {name!r} already: choose another name.")
        if session.scalar(sa.select(ApiKey).where(ApiKey.digest == digest_of(key))):
            raise UsageError("this key is another user's: leave --key out to have a new one made.")
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
        user = session.scalar(sa.select(User).where(User.name == name))
        if user is None:
            raise UsageError(f"there is no user {name!r}: add it by python -m service user add {name}.")
        session.add(ApiKey(user_id=user.id, digest=digest_of(key)))
    return key


def revoke_keys(database: Database, name: str) -> int:
    """Make every key of a user void, and return how many there were.

    Raises:
        UsageError: if there is no such user.
    """
    with database.session(writing=True) as session:
        user = session.scalar(sa.select(User).where(User.name == name))
        if user is None:
            raise UsageError(f"there is no user {name!r}.")
        keys = session.scalars(sa.select(ApiKey).where(ApiKey.user_id == user.id)).all()
        for key in keys:
            session.delete(key)
        return len(keys)


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
        raise UsageError("a key must have at least 40 letters, digits, dashes or underscores: leave --key out to have one made.")
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
