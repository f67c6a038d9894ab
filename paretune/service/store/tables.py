"""What the service keeps, as tables: users and their keys, projects, runs with what they logged, files.

SQLite (writing ahead) by default, PostgreSQL by URL. A config or summary is kept whole as JSON text, with NaN and Infinity as
Python writes them, and beside it each of its values as a row, by which runs are filtered and ordered. A change of the tables goes
with a step of migrations/.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from paretune.service.store.safe_json import fit, is_whole


class Words(sa.TypeDecorator[str]):
    """A short text from outside, `fit` where it is stored and where it is looked for."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: sa.Dialect) -> str | None:
        """Return what is kept of a text, or looked for."""
        return None if value is None else fit(value)


class LongWords(Words):
    """A text from outside of any length."""

    impl = sa.Text
    cache_ok = True


NAME = Words(128)  # as long as W&B's own names
NEVER_AGAIN = {"sqlite_autoincrement": True}  # addresses and manifests name rows by number: a deleted one's is not given again
CONTENT = {"content": True}  # `info` of a column that names contents of files by their SHA-256: what is backed up and checked


Row = TypeVar("Row", bound="Base")


def now() -> datetime:
    """Return the time, in UTC and without a zone, as it is kept."""
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    """The tables."""


class Entity(Base):
    """Who owns projects: a user, or a team of users."""

    __tablename__ = "entity"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(NAME, unique=True)
    is_team: Mapped[bool] = mapped_column(default=False)


class User(Base):
    """A person or program; `role` is admin, member or viewer."""

    __tablename__ = "user_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(NAME, unique=True)
    email: Mapped[str] = mapped_column(Words(320), default="")
    role: Mapped[str] = mapped_column(Words(16), default="member")
    entity_id: Mapped[int] = mapped_column(ForeignKey("entity.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    entity: Mapped[Entity] = relationship()


class Membership(Base):
    """A user of a team."""

    __tablename__ = "membership"

    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), primary_key=True)
    entity_id: Mapped[int] = mapped_column(ForeignKey("entity.id"), primary_key=True)


class ApiKey(Base):
    """A key, of which only the hash is kept."""

    __tablename__ = "api_key"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(NAME, default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    user: Mapped[User] = relationship()


class Project(Base):
    """A project of an entity."""

    __tablename__ = "project"
    __table_args__ = (UniqueConstraint("entity_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    entity_id: Mapped[int] = mapped_column(ForeignKey("entity.id"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str] = mapped_column(NAME)
    description: Mapped[str] = mapped_column(LongWords, default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    entity: Mapped[Entity] = relationship()
    user: Mapped[User | None] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("Project", self.name, self.entity.name)


class Run(Base):
    """A run: how it was started, where it stands, and how much of each stream has arrived."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("project_id", "name"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str] = mapped_column(NAME)  # W&B's run id
    display_name: Mapped[str] = mapped_column(Words(256), default="")
    description: Mapped[str] = mapped_column(LongWords, default="")
    notes: Mapped[str | None] = mapped_column(LongWords)
    group_name: Mapped[str | None] = mapped_column(Words(256))
    job_type: Mapped[str | None] = mapped_column(Words(256))
    host: Mapped[str | None] = mapped_column(Words(256))
    program: Mapped[str | None] = mapped_column(LongWords)
    commit: Mapped[str | None] = mapped_column(Words(128))
    repo: Mapped[str | None] = mapped_column(LongWords)
    sweep_name: Mapped[str | None] = mapped_column(NAME, index=True)
    state: Mapped[str] = mapped_column(Words(16), default="running", index=True)
    stop_asked: Mapped[bool] = mapped_column(default=False)
    stop_asked_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    config: Mapped[str] = mapped_column(LongWords, default="{}")
    summary: Mapped[str] = mapped_column(LongWords, default="{}")
    system: Mapped[str] = mapped_column(LongWords, default="{}")  # the latest system metrics
    tags: Mapped[str] = mapped_column(LongWords, default="[]")
    history_keys: Mapped[str] = mapped_column(LongWords, default="{}")
    last_step: Mapped[int] = mapped_column(sa.BigInteger, default=-1)
    history_lines: Mapped[int] = mapped_column(default=0)
    event_lines: Mapped[int] = mapped_column(default=0)
    log_lines: Mapped[int] = mapped_column(default=0)
    compacted: Mapped[int] = mapped_column(default=0, server_default=sa.text("0"))  # history lines that lie in segments
    # clients may keep Parquet files of what this run, or one of its name, was before: they get no more of them
    stale_copies: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    heartbeat_at: Mapped[datetime] = mapped_column(default=now)
    project: Mapped[Project] = relationship()
    user: Mapped[User | None] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("Run", self.name, self.project.name, self.project.entity.name)

    @property
    def identity(self) -> dict[str, Any]:
        """What a signed address says of it; no other run, of the same name or number, has the same."""
        return {"run": self.id, "born": self.created_at.isoformat()}


class Value(Base):
    """One value of a run's config (`place` c) or summary (s), by its dotted path (run_values.py says which kinds there are)."""

    __tablename__ = "run_value"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[str] = mapped_column(String(1), primary_key=True)
    key: Mapped[str] = mapped_column(Words(256), primary_key=True)
    number: Mapped[float | None] = mapped_column(sa.Double)
    text: Mapped[str | None] = mapped_column(Words(512))
    kind: Mapped[str] = mapped_column(String(1), server_default="t")
    size: Mapped[int | None]  # of a list


class Element(Base):
    """A value that lies in a list of a run's config or summary, by its path and its places in lists."""

    __tablename__ = "run_element"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[str] = mapped_column(String(1), primary_key=True)
    key: Mapped[str] = mapped_column(Words(256), primary_key=True)
    position: Mapped[str] = mapped_column(Words(256), primary_key=True)
    is_element: Mapped[bool] = mapped_column(primary_key=True)  # of the list that `key` names
    number: Mapped[float | None] = mapped_column(sa.Double)
    text: Mapped[str | None] = mapped_column(Words(512))
    kind: Mapped[str] = mapped_column(String(1))
    size: Mapped[int | None]


class Chunk(Base):
    """Lines of a stream as they arrived: `content` is their compressed text, the first one is line `first`.

    Where two overlap, the lines of the later one count. The steps are those of history lines, the lowest and the highest; they are
    unknown where it took lines from others.
    """

    __tablename__ = "chunk"
    __table_args__ = (sa.Index("chunk_of_a_stream", "run_id", "stream", "first"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    stream: Mapped[str] = mapped_column(String(8))
    first: Mapped[int]
    count: Mapped[int]
    content: Mapped[bytes]
    first_step: Mapped[int | None] = mapped_column(sa.BigInteger)
    last_step: Mapped[int | None] = mapped_column(sa.BigInteger)


class Segment(Base):
    """Lines of a run's history as a Parquet file (columns.py), which never changes; with its lowest and highest step."""

    __tablename__ = "segment"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[int]
    count: Mapped[int]
    first_step: Mapped[int] = mapped_column(sa.BigInteger)
    last_step: Mapped[int] = mapped_column(sa.BigInteger)
    digest: Mapped[str] = mapped_column(String(64), info=CONTENT)
    size: Mapped[int] = mapped_column(sa.BigInteger)
    plain: Mapped[bool]  # W&B's client reads from the file what was logged


class SharedLines(Base):
    """Where the lines of one process of a shared run lie: its lines from `offset` on are the run's lines from `first` on."""

    __tablename__ = "shared_lines"
    __table_args__ = (sa.Index("shared_lines_of_a_client", "run_id", "client", "stream", "offset"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    client: Mapped[str] = mapped_column(NAME)
    stream: Mapped[str] = mapped_column(String(8))
    offset: Mapped[int]
    first: Mapped[int]
    count: Mapped[int]


class SharedSummary(Base):
    """The summary that one process of a shared run sent last."""

    __tablename__ = "shared_summary"

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    client: Mapped[str] = mapped_column(NAME, primary_key=True)
    summary: Mapped[str] = mapped_column(LongWords)


class FormerRun(Base):
    """The name of a run that was deleted after its Parquet files were given to clients, who may keep them."""

    __tablename__ = "former_run"

    project_id: Mapped[int] = mapped_column(ForeignKey("project.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(NAME, primary_key=True)


class Sweep(Base):
    """A sweep: its definition as it was sent, and where it stands."""

    __tablename__ = "sweep"
    __table_args__ = (UniqueConstraint("project_id", "name"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str] = mapped_column(NAME)  # W&B's sweep id
    display_name: Mapped[str | None] = mapped_column(Words(256))
    description: Mapped[str | None] = mapped_column(LongWords)
    definition: Mapped[str] = mapped_column(LongWords)  # YAML
    method: Mapped[str] = mapped_column(Words(16), default="")
    program: Mapped[str] = mapped_column(LongWords, default="")
    engine: Mapped[str | None] = mapped_column(Words(16))  # of the client's own scheduler, which then searches; else we do
    state: Mapped[str] = mapped_column(Words(16), default="PENDING")
    prior_filters: Mapped[str | None] = mapped_column(LongWords)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    heartbeat_at: Mapped[datetime | None]
    project: Mapped[Project] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("Sweep", self.name, self.project.name, self.project.entity.name)


class Agent(Base):
    """An agent of a sweep."""

    __tablename__ = "agent"
    __table_args__ = NEVER_AGAIN

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweep.id", ondelete="CASCADE"), index=True)
    host: Mapped[str] = mapped_column(Words(256), default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    heartbeat_at: Mapped[datetime] = mapped_column(default=now)
    sweep: Mapped[Sweep] = relationship()


class Issue(Base):
    """A configuration that was handed out as a run: to whom, as which trial of the study, and whether the study was told."""

    __tablename__ = "issue"

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweep.id", ondelete="CASCADE"), index=True)
    agent_id: Mapped[int | None] = mapped_column(ForeignKey("agent.id"))
    run_name: Mapped[str] = mapped_column(NAME, index=True)
    trial: Mapped[int | None]  # none of a run that a person or a client's scheduler enqueued
    values: Mapped[str] = mapped_column(LongWords)  # JSON, nested as the program gets them
    times: Mapped[int] = mapped_column(default=1)  # how often it was handed out
    issued_at: Mapped[datetime] = mapped_column(default=now)  # or when its agent last reported it as running
    pruned: Mapped[bool] = mapped_column(default=False)  # asked to stop by early_terminate
    told: Mapped[bool] = mapped_column(default=False)


class View(Base):
    """A saved view: a workspace (`kind` project-view) or a report (runs, runs/draft), with its spec as the client sent it."""

    __tablename__ = "saved_view"
    __table_args__ = (UniqueConstraint("project_id", "name"), NEVER_AGAIN)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    kind: Mapped[str] = mapped_column(Words(32))
    name: Mapped[str] = mapped_column(NAME)  # the client's: random, and part of a workspace's URL
    display_name: Mapped[str] = mapped_column(Words(256), default="")
    description: Mapped[str] = mapped_column(LongWords, default="")
    spec: Mapped[str] = mapped_column(LongWords, default="{}")  # a JSON object
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    project: Mapped[Project] = relationship()
    user: Mapped[User | None] = relationship()

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("View", str(self.id))


class RunFile(Base):
    """A file of a run; its content lies under its SHA-256 in the folder of files."""

    __tablename__ = "run_file"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Words(1024))
    size: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    md5: Mapped[str] = mapped_column(String(32), default="")
    digest: Mapped[str] = mapped_column(String(64), default="", info=CONTENT)
    updated_at: Mapped[datetime] = mapped_column(default=now)

    __table_args__ = (UniqueConstraint("run_id", "name"), NEVER_AGAIN)

    @property
    def global_id(self) -> str:
        """The identifier that clients get."""
        return global_id("File", str(self.id))


def global_id(kind: str, *names: str) -> str:
    """Return an identifier as W&B's are: base64 of `Run:v1:NAME:PROJECT:ENTITY`."""
    return base64.b64encode(":".join((kind, "v1", *names)).encode()).decode()


def names_of(identifier: str, kind: str) -> list[str] | None:
    """Return the names in an identifier of `global_id`; None where it is none of that kind."""
    try:
        found, version, *names = base64.b64decode(identifier, validate=True).decode().split(":")
    except ValueError:
        return None
    return names if (found, version) == (kind, "v1") else None


def number_of(identifier: str, kind: str) -> int | None:
    """Return the row's number in an identifier of `global_id`; None where it is none of that kind."""
    names = names_of(identifier, kind) or [""]
    return int(names[0]) if is_whole(names[0], 9) else None


def as_json(value: Any) -> str:
    """Return JSON text, NaN and Infinity as the client writes them."""
    return json.dumps(value, separators=(",", ":"))
