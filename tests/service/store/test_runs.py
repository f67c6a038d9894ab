"""Runs: which may be created and changed by whom, what a stream does to them, and what is left of a deleted one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from paretune.core.errors import UsageError
from paretune.service.store import run_values, runs
from paretune.service.store.accounts import Account
from paretune.service.store.runs import STATES, RefusedError
from paretune.service.store.tables import Chunk, Run, RunFile, User, Value, global_id, now
from tests.service.serving import Asked


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def member(asked: Asked, role: str = "member", *, entities: tuple[str, ...] = ("someone",)) -> Account:
    with asked.database.session() as session:
        user = session.scalars(sa.select(User)).one()
        return Account(user.id, user.name, role, "", entities)


def upserted(asked: Asked, role: str = "member", **values: Any) -> tuple[Run, bool]:
    with asked.database.session(writing=True) as session:
        return runs.upsert(session, member(asked, role), {"modelName": "tried", **values})


def received(asked: Asked, body: dict[str, Any], **before: Any) -> tuple[int, Run]:
    """Let a run of some state receive a body; return the lines and the run."""
    upserted(asked, name="r")
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).values(**before or {"state": "running"}))
    with asked.database.session(writing=True) as session:
        run = session.scalars(sa.select(Run)).one()
        return runs.receive(session, run, body), run


# -- created and changed


def test_a_run_is_new_once_and_keeps_what_is_not_said_again(asked: Asked) -> None:
    first, inserted = upserted(asked, name="r", notes="n", tags=["b", "a", "b"], groupName="g")
    assert (inserted, first.display_name, first.state, json.loads(first.tags)) == (True, "r", "running", ["b", "a"])
    again, inserted = upserted(asked, name="r", groupName="")
    assert (inserted, again.id, again.notes, again.group_name, json.loads(again.tags)) == (False, first.id, "n", "", ["b", "a"])
    assert upserted(asked, name="r", tags=[])[0].tags == "[]"


@pytest.mark.parametrize("state", STATES)
def test_a_client_that_comes_again_resumes_a_run_that_had_ended(asked: Asked, state: str) -> None:
    upserted(asked, name="r", state=state)
    with asked.database.session(writing=True) as session:
        session.execute(sa.update(Run).values(exit_code=3, stop_asked=True))
    run, _ = upserted(asked, name="r")
    ended = state not in runs.LIVE
    assert run.state == (state if state == "preempting" else "running")
    assert (run.exit_code, run.stop_asked) == ((None, False) if ended else (3, True))


def test_an_edit_by_its_identifier_starts_nothing(asked: Asked) -> None:
    identifier = asked.run("r")
    upserted(asked, name="r", state="finished")
    run, inserted = upserted(asked, id=identifier, notes="x")
    assert (run.state, run.notes, inserted) == ("finished", "x", False)
    with pytest.raises(UsageError, match="there is no run"):
        upserted(asked, id=global_id("Run", "none", "tried", "someone"))
    with pytest.raises(UsageError, match="there is no run"):
        upserted(asked, id=global_id("Sweep", "r", "tried", "someone"))
    with pytest.raises(RefusedError, match="someone may not write to someone"):
        upserted(asked, "viewer", id=identifier, notes="y")


@pytest.mark.parametrize("name", ["x" * 128, "a b", "...", "a.b", "ü"])
def test_a_fit_name_is_taken(asked: Asked, name: str) -> None:
    assert upserted(asked, name=name)[0].name == name


@pytest.mark.parametrize("name", ["x" * 129, ".", "..", "a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "a\nb"])
def test_an_unfit_name_is_refused(asked: Asked, name: str) -> None:
    with pytest.raises(UsageError, match="a run's id must be 1 to 128 characters"):
        upserted(asked, name=name)
    with pytest.raises(UsageError, match="a project's name must be 1 to 128 characters"):
        upserted(asked, modelName=name)


def test_a_run_without_a_name_gets_eight_letters_and_digits(asked: Asked) -> None:
    name = upserted(asked)[0].name
    assert len(name) == 8
    assert name.isalnum()
    assert name == name.lower()


@pytest.mark.parametrize("field", ["config", "summaryMetrics"])
@pytest.mark.parametrize("text", ["{", "[1]", "3", "null"])
def test_config_and_summary_are_json_objects(asked: Asked, field: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{field} must be a JSON object"):
        upserted(asked, name="r", **{field: text})


def test_a_state_is_one_of_wandbs(asked: Asked) -> None:
    with pytest.raises(UsageError, match="a run's state is one of running, pending"):
        upserted(asked, name="r", state="asleep")


def test_a_project_is_made_by_whom_may_write_there(asked: Asked) -> None:
    def project(role: str, name: str | None, entity: str | None, *, create: bool) -> str | None:
        with asked.database.session(writing=True) as session:
            found = runs.project_of(session, member(asked, role), name, entity, create=create)
            return None if found is None else found.name

    assert project("member", "a", None, create=False) is None
    assert project("member", None, None, create=True) == runs.UNCATEGORIZED
    assert project("viewer", None, "someone", create=True) == runs.UNCATEGORIZED, "it is there"
    for role, entity in (("viewer", None), ("member", "other")):
        with pytest.raises(RefusedError, match="someone may not write to "):
            project(role, "b", entity, create=True)
    assert project("member", runs.UNCATEGORIZED, "other", create=False) is None
    with pytest.raises(UsageError, match="there is no user or team 'other' on this server"):
        project("admin", "b", "other", create=True)


def test_values_are_found_by_what_they_are_now_and_so_many_at_most(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_values, "MOST_VALUES", 3)

    def kept(session: Session) -> dict[str, Any]:
        found = session.scalars(sa.select(Value).where(Value.place == "c"))
        return {row.key: row.text if row.number is None else row.number for row in found if row.kind != run_values.MAPPING}

    for config, expected in (
        ({"a": {"value": 1}, "b": {"value": {"c": "x"}}, "_wandb": {"value": {"v": 1}}}, {"a": 1.0, "b.c": "x"}),
        ({"a": {"value": "t" * 600}, "d": 2}, {"a": run_values.shortened("t" * 600, 512), "d": 2.0}),
        ({name: {"value": place} for place, name in enumerate("abcde")}, {"a": 0.0, "b": 1.0, "c": 2.0}),
        ({}, {}),
    ):
        upserted(asked, name="r", config=json.dumps(config))
        with asked.database.session() as session:
            assert kept(session) == expected


# -- streamed


@pytest.mark.parametrize(
    ("before", "body", "state"),
    [
        ("running", {}, "running"),
        ("crashed", {}, "running"),
        ("pending", {}, "running"),
        ("finished", {}, "finished"),
        ("running", {"preempting": True}, "preempting"),
        ("running", {"complete": True}, "finished"),
        ("running", {"complete": True, "exitcode": 0}, "finished"),
        ("running", {"complete": True, "exitcode": 1}, "failed"),
        ("running", {"complete": True, "exitcode": -(2**31)}, "failed"),
        ("running", {"complete": False, "exitcode": 1}, "running"),
    ],
)
def test_a_body_says_how_a_run_goes_on(asked: Asked, before: str, body: dict[str, Any], state: str) -> None:
    assert received(asked, body, state=before)[1].state == state


def test_a_run_that_was_asked_to_stop_ends_as_killed(asked: Asked) -> None:
    run = received(asked, {"complete": True, "exitcode": 255}, state="running", stop_asked=True)[1]
    assert (run.state, run.exit_code) == ("killed", 255)


def test_lines_are_counted_and_a_summary_replaces_the_one_before(asked: Asked) -> None:
    files = {
        "wandb-history.jsonl": {"content": ['{"_step": 0}', '{"_step": 1}']},
        "output.log": {"offset": 0, "content": ["x"]},
        "wandb-summary.json": {"content": ['{"a": 1}', '{"b": 2}']},
        "unknown.txt": {"content": ["x"] * 9},
    }
    count, run = received(asked, {"files": files})
    assert (count, run.history_lines, run.log_lines, json.loads(run.summary)) == (3, 2, 1, {"b": 2})
    assert received(asked, {"files": {"wandb-summary.json": {"content": []}}})[1].summary == run.summary


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"files": [1]}, "files must be a mapping of names to lines"),
        ({"files": {"a": 3}}, "files.a must have content, a list of lines"),
        ({"files": {"a": {"content": "x"}}}, "files.a must have content, a list of lines"),
        ({"files": {"a": {"content": [1]}}}, "files.a must have content, a list of lines"),
        ({"files": {"output.log": {"content": [], "offset": True}}}, "files.output.log must have offset, a whole number. Got True"),
        ({"files": {"output.log": {"content": [], "offset": 0.5}}}, "files.output.log must have offset, a whole number. Got 0.5"),
    ],
)
def test_a_body_that_is_none_is_refused(asked: Asked, body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        received(asked, body)


@pytest.mark.parametrize("code", [2**31, -(2**31) - 1, "x"])
def test_an_exit_code_that_is_none_is_a_failure(asked: Asked, code: object) -> None:
    _, run = received(asked, {"complete": True, "exitcode": code})
    assert (run.state, run.exit_code) == ("failed", 1)


# -- silent, stopped and deleted


@pytest.mark.parametrize(("state", "crashes"), [("running", True), ("preempting", True), ("pending", False), ("finished", False)])
def test_a_run_that_is_silent_for_long_has_crashed(asked: Asked, state: str, crashes: bool) -> None:
    upserted(asked, name="r")
    for silent, expected in ((0.5, 0), (1.5, int(crashes))):
        with asked.database.session(writing=True) as session:
            session.execute(sa.update(Run).values(state=state, heartbeat_at=now() - silent * runs.SILENCE))
            assert runs.mark_crashed(session) == expected


@pytest.mark.parametrize(
    ("state", "asks", "after"),
    [
        ("running", True, "running"),
        ("preempting", True, "preempting"),
        ("pending", False, "killed"),
        ("finished", False, "finished"),
    ],
)
def test_a_run_that_goes_on_is_asked_to_stop_and_one_that_waits_is_killed(asked: Asked, state: str, asks: bool, after: str) -> None:
    run = Run(state=state, stop_asked=False)
    runs.ask_to_stop(run)
    assert (run.stop_asked, run.state, run.stop_asked_at is not None) == (asks, after, asks)
    first = run.stop_asked_at
    runs.ask_to_stop(run)
    assert run.stop_asked_at is first


def test_nothing_is_left_of_a_deleted_run(asked: Asked) -> None:
    upserted(asked, name="r", config='{"a": {"value": 1}}')
    upserted(asked, name="other", config='{"a": {"value": 1}}')
    asked.stream("r", files={"wandb-history.jsonl": {"offset": 0, "content": ['{"_step": 0}']}})
    with asked.database.session(writing=True) as session:
        run = session.scalars(sa.select(Run).where(Run.name == "r")).one()
        session.add(RunFile(run_id=run.id, name="a", digest="f", size=1, md5=""))
        session.flush()
        runs.delete(session, run)
    with asked.database.session() as session:
        assert session.scalars(sa.select(Run.name)).all() == ["other"]
        assert [session.scalar(sa.select(sa.func.count()).select_from(table)) for table in (Value, Chunk, RunFile)] == [1, 0, 0]


def test_a_page_of_runs_is_in_order_and_counted(asked: Asked) -> None:
    for number in range(5):
        upserted(asked, name=f"r{number}", groupName="ab"[number % 2])
    with asked.database.session() as session:
        project = session.scalars(sa.select(Run)).first().project  # type: ignore[union-attr]
        found = runs.found_runs(session, project, filters='{"group": "a"}', order="-name", first=2, skip=1)
        assert [run.name for run in found] == ["r2", "r0"]
        assert runs.count_runs(session, project, '{"group": "a"}') == 3
        assert runs.count_runs(session, project) == 5
