"""The studies of the sweeps that are open in this process: one engine for all, one caller at a time for each.

Nobody waits for a study inside a transaction of the service's own database: whoever wants a turn has none open, so that a
suggestion of seconds holds nobody else up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import optuna
import sqlalchemy as sa
from optuna.storages import BaseStorage

from paretune.core.errors import UsageError
from paretune.runs.study_storage import close, open_storage
from paretune.search.engine.stopping_rules import Plan
from paretune.search.engine.study import open_study
from paretune.search.spec.sweep import Sweep as Definition
from paretune.service.store.database import Database, driven
from paretune.service.store.tables import Sweep
from paretune.service.sweeps.definitions import definition_of
from paretune.service.sweeps.histories import Watch

ENDLESS = 10**9  # trials of a sweep without run_cap
WAITING = 24  # requests that wait for a study at the same time; the server has 40 threads for all that is asked of it
KEPT, KEPT_ENDED = 3600.0, 60.0  # seconds without a question after which a study is closed
OVER = ("FINISHED", "CANCELED")


class Search:
    """The study of one sweep."""

    def __init__(self, definition: Definition, study: optuna.Study, plan: Plan) -> None:
        self.definition, self.study, self.plan = definition, study, plan
        self.knows_priors = False  # whether it was told of the runs that the sweep's author named


class _Place:
    """What this process holds of a sweep; it outlives the study that is closed."""

    def __init__(self) -> None:
        self.turn, self.opening = threading.Lock(), threading.Lock()
        self.search: Search | None = None
        self.watch: Watch | None = None
        self.asked = time.monotonic()


class Searches:
    """The studies of all sweeps, opened when they are first asked.

    Args:
        storage: URL of Optuna's storage; not the SQLite file of the service, whose transactions would wait for each other.
    """

    def __init__(self, storage: str) -> None:
        self.url = driven(storage)
        self._lock = threading.Lock()
        self._places: dict[int, _Place] = {}
        self._storage: BaseStorage | None = None
        self._waiting = threading.BoundedSemaphore(WAITING)

    def of(self, sweep: Sweep) -> Search:
        """Return the study of a sweep; to change it takes a `turn`."""
        place, definition = self._place(sweep.id), definition_of(sweep)
        with place.opening:
            if place.search is None or place.search.definition.definition != definition.definition:
                study = self._opened(definition, f"{sweep.id}-{sweep.name}", sweep.id)
                place.search, place.watch = Search(definition, study, Plan(definition, definition.run_cap or ENDLESS)), None
            return place.search

    def _opened(self, definition: Definition, name: str, seed: int) -> optuna.Study:
        """Open a study; one of what the sweep was before its first run makes way.

        Raises:
            UsageError: if it has results, and was started from another definition.
        """
        try:
            return open_study(definition, self.storage, name, seed=seed)
        except (UsageError, ValueError):  # ValueError: of other directions
            known = optuna.load_study(study_name=name, storage=self.storage)
            if any(trial.state.is_finished() for trial in known.get_trials(deepcopy=False)):
                raise
            optuna.delete_study(study_name=name, storage=self.storage)
            return open_study(definition, self.storage, name, seed=seed)

    @contextlib.contextmanager
    def turn(self, database: Database, sweep: Sweep) -> Iterator[Search | None]:
        """Have the study of a sweep for oneself, before all processes of this server; None where too many wait for one."""
        if not self._waiting.acquire(blocking=False):
            yield None
            return
        try:
            with self._place(sweep.id).turn, database.alone(sweep.id):
                yield self.of(sweep)
        finally:
            self._waiting.release()

    def watch(self, sweep: Sweep) -> Watch:
        """Return what `early_terminate` has read of a sweep's runs."""
        place = self._place(sweep.id)
        with place.opening:
            place.watch = place.watch or Watch(definition_of(sweep).goals)
            return place.watch

    def tidy(self, database: Database) -> int:
        """Close the studies that nobody has asked for a while, sooner where the sweep is over; return how many stay open."""
        with self._lock:
            held = {number: place for number, place in self._places.items() if place.search or place.watch}
        with database.session() as session:
            ended = set(session.scalars(sa.select(Sweep.id).where(Sweep.id.in_(held), Sweep.state.in_(OVER))))
        begin = time.monotonic()
        for number, place in list(held.items()):
            if begin - place.asked > (KEPT_ENDED if number in ended else KEPT):
                place.search = place.watch = None
                del held[number]
        return len(held)

    @property
    def storage(self) -> BaseStorage:
        """The storage of all studies, with one pool of connections."""
        with self._lock:
            if self._storage is None:
                self._storage = open_storage(self.url, waits=False)  # whoever asks is answered 503, and asks again
            return self._storage

    def close(self) -> None:
        """Let go of every study and of the connections."""
        with self._lock:
            self._places.clear()
            if self._storage is not None:
                close(self._storage)
            self._storage = None

    def _place(self, number: int) -> _Place:
        with self._lock:
            place = self._places.setdefault(number, _Place())
            place.asked = time.monotonic()
            return place
