"""Health of the service: whether its disk and its database can be written."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool

from paretune.core.errors import first_line
from paretune.service.http.storage_failures import FAILING, fault_of
from paretune.service.store import migrations
from paretune.service.store.database import Database
from paretune.service.store.files import Files

VALID_SECONDS = 2.0  # of an examination: anybody may ask, as often as they like
WAIT_SECONDS = 10.0  # for the disk and the database
log = logging.getLogger("service")


class Health:
    """Examines a service by writing to both, at most once in a while."""

    def __init__(self, database: Database, files: Files) -> None:
        self.database, self.files = database, files
        self._examination: asyncio.Task[str] | None = None
        self._begun = 0.0

    async def fault(self) -> str:
        """Return a sentence that says what fails; empty where nothing does."""
        now = time.monotonic()
        if self._examination is None or self._examination.done():
            if self._examination is not None and now < self._begun + VALID_SECONDS:
                return self._examination.result()
            self._examination, self._begun = asyncio.create_task(run_in_threadpool(self._examined)), now
        try:
            return await asyncio.wait_for(asyncio.shield(self._examination), max(0.0, self._begun + WAIT_SECONDS - now))
        except TimeoutError:
            return f"the disk or the database has not answered for {WAIT_SECONDS:g} s."

    def _examined(self) -> str:
        probe = self.files.folder / "incoming" / f"health-{secrets.token_hex(4)}"
        try:
            try:
                with open(probe, "wb") as file:
                    file.write(bytes(4096))
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                probe.unlink(missing_ok=True)
            with self.database.session(writing=True) as session:
                version = sa.table(migrations.VERSION_TABLE, sa.column("version_num"))
                session.execute(sa.update(version).values(version_num=version.c.version_num))
        except (*FAILING, sa.exc.DatabaseError) as error:  # as SQLite calls a file that is damaged
            fault = fault_of(error)
            if fault is None:
                log.error("the disk or the database fails (%s)", first_line(getattr(error, "orig", None) or error))
                return "the disk or the database fails: the server's log says how."
            return fault.sentence
        return ""
