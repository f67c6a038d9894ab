"""Turns: a user who asks for much at once waits for itself, and not others for it."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from paretune.service.http import service, turns
from paretune.service.http.service import HEARTBEAT_TURNS, STREAMS, lane_of_operation, sent_values
from paretune.service.http.turns import Turns
from paretune.service.sweeps import searches

HEARTBEAT = "mutation H($id: ID!, $runState: JSONString) { agentHeartbeat(input: {id: $id, runState: $runState}) { commands } }"
READING = "{ viewer { id } }"


async def nothing(*_: Any) -> None:
    pass


class Work:
    """The service's reading of requests; each then waits until it is let go. Its user stands in the path."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.read: list[str] = []  # of whose requests parts of bodies were read
        self.ends, self.hangs_up = asyncio.Event(), asyncio.Event()
        self.turns = Turns()
        self.app = self.turns.middleware(self._work)  # type: ignore[arg-type]

    async def _work(self, scope: dict[str, Any], receive: Any, _: Any) -> None:
        lane_of = (lambda _: STREAMS) if scope["streams"] else lane_of_operation
        await sent_values(Request(scope, receive), SimpleNamespace(id=scope["path"]), lane_of=lane_of)  # type: ignore[arg-type]
        self.begun.append(scope["path"])
        await self.ends.wait()

    def ask(
        self, user: str, query: str = READING, *, length: int | None = None, streams: bool = False, half: bool = False
    ) -> asyncio.Task[None]:
        """Send a request, or half of it, and hang up when told so."""
        body = json.dumps({"query": query, "variables": {"noise": "agentHeartbeat"}}).encode()
        messages = iter([{"type": "http.request", "body": body, "more_body": half}])

        async def receive() -> dict[str, Any]:
            if (message := next(messages, None)) is not None:
                self.read.append(user)
                return message
            await self.hangs_up.wait()
            return {"type": "http.disconnect"}

        headers = [(b"content-length", str(len(body) if length is None else length).encode())]
        scope = {"type": "http", "path": user, "headers": headers, "streams": streams}
        return asyncio.create_task(self.app(scope, receive, nothing))  # type: ignore[arg-type]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_user_has_few_turns_and_others_have_their_own() -> None:
    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy") for _ in range(50)]
        await settled()
        assert work.begun == ["busy"] * turns.TURNS
        tasks.append(work.ask("other"))
        await settled()
        assert work.begun[turns.TURNS :] == ["other"]
        work.ends.set()
        await asyncio.gather(*tasks)
        assert work.begun.count("busy") == 50
        assert work.turns._lanes == {}

    asyncio.run(tried())


def test_large_bodies_have_fewer_turns() -> None:
    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy", length=turns.LARGE + 1) for _ in range(9)]
        await settled()
        assert len(work.begun) == turns.LARGE_TURNS
        tasks += [work.ask("busy"), work.ask("busy")]
        await settled()
        assert len(work.begun) == turns.LARGE_TURNS + 2
        work.ends.set()
        await asyncio.gather(*tasks)

    asyncio.run(tried())


def test_too_many_that_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_WAITING", 3)

    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy") for _ in range(turns.TURNS + 3)]
        await settled()
        with pytest.raises(HTTPException, match="3 requests waiting") as refused:
            await work.ask("busy")
        assert (refused.value.status_code, refused.value.headers) == (429, {"retry-after": "1"})
        work.ends.set()
        await asyncio.gather(*tasks)

    asyncio.run(tried())


def test_who_hangs_up_while_waiting_leaves_its_turn_to_others() -> None:
    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy") for _ in range(turns.TURNS + 2)]
        await settled()
        tasks[-2].cancel()
        work.ends.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(work.begun) == turns.TURNS + 1
        assert work.turns._lanes == {}

    asyncio.run(tried())


def test_a_request_that_was_given_up_while_it_waited_is_not_worked_on() -> None:
    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy") for _ in range(turns.TURNS + 2)]
        await settled()
        work.hangs_up.set()
        work.ends.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(work.begun) == turns.TURNS
        assert [type(error) for error in ended if error is not None] == [ClientDisconnect] * 2

    asyncio.run(tried())


def test_heartbeats_and_streams_are_heard_beside_all_else_of_their_user() -> None:
    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy") for _ in range(20)]
        tasks += [work.ask("busy", HEARTBEAT) for _ in range(searches.WAITING)]
        await settled()
        assert len(work.begun) == turns.TURNS + searches.WAITING
        work.begun.clear()
        tasks += [work.ask("busy", HEARTBEAT), work.ask("busy", streams=True)]
        await settled()
        assert len(work.begun) == 2
        work.ends.set()
        await asyncio.gather(*tasks)

    assert HEARTBEAT_TURNS < 40  # threads
    asyncio.run(tried())


@pytest.mark.parametrize(
    "query", ["query agentHeartbeat { viewer { id } }", "mutation # { agentHeartbeat\n{ upsertBucket { id } }", 7]
)
def test_what_only_names_a_heartbeat_is_none(query: Any) -> None:
    assert lane_of_operation({"query": query}) == service.OTHERS


@pytest.mark.parametrize(
    ("length", "number"), [(turns.SMALL_BODY + 1, turns.BODY_TURNS), (turns.LARGE, turns.BODY_TURNS), (2**25, turns.LARGE_TURNS)]
)
def test_few_half_sent_bodies_of_a_user_are_kept_at_once(length: int, number: int) -> None:
    async def tried() -> None:
        work = Work()
        tasks = [work.ask("busy", length=length, half=True) for _ in range(50)]
        await settled()
        assert len(work.read) == number
        tasks += [work.ask("busy", length=length, half=True) for _ in range(turns.MOST_BODIES_WAITING + 1 - len(tasks) + number)]
        await settled()
        assert tasks[-1].exception().status_code == 429  # type: ignore[union-attr]
        tasks.append(work.ask("busy"))
        await settled()
        assert work.begun == ["busy"]
        work.ends.set()
        work.hangs_up.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert work.turns._lanes == {}

    asyncio.run(tried())


def test_no_body_earns_more_than_a_short_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_LEFT", 0.0)

    async def tried() -> None:
        work = Work()
        with pytest.raises(HTTPException, match="a body must come") as refused:
            await work.ask("slow", "x" * 10_000, half=True)
        assert refused.value.status_code == 408

    asyncio.run(tried())
