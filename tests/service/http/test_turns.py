"""Turns: a user who asks for much at once waits for itself, and not others for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from paretune.service.http import turns
from paretune.service.http.turns import Turns, take_large_turn, take_turn


async def nothing(*_: Any) -> dict[str, Any]:
    return {"type": "http.request"}


class Work:
    """An application in which each request waits until it is let go; its user stands in the path."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ends = asyncio.Event()
        self.turns = Turns()
        self.app = self.turns.middleware(self._work)  # type: ignore[arg-type]

    async def _work(self, scope: dict[str, Any], *_: Any) -> None:
        request = Request(scope)
        await take_large_turn(request, scope["path"])
        await take_turn(request, scope["path"])
        self.begun.append(scope["path"])
        await self.ends.wait()

    def ask(self, user: str, length: int = 0) -> asyncio.Task[None]:
        headers = [(b"content-length", str(length).encode())]
        return asyncio.create_task(self.app({"type": "http", "path": user, "headers": headers}, nothing, nothing))  # type: ignore[arg-type]


async def settled() -> None:
    for _ in range(5):
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
        tasks = [work.ask("busy", turns.LARGE + 1) for _ in range(9)]
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
