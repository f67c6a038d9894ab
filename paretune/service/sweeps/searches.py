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
from optuna.trial import FrozenTrial

from paretune.runs.study_storage import close, open_storage
from paretune.search.engine.stopping_rules import Plan
from paretune.search.engine.study import open_study
from paretune.search.spec.sweep import Sweep as Definition
from paretune.service.store.database import Database, driven
from paretune.service.store.tables import Issue, Sweep
from paretune.service.sweeps.definitions import definition_of
from paretune.service.sweeps.histories import Watch

ENDLESS = 10**9  # trials of a sweep without run_cap
WAITING = 24  # requests that wait for a study at the same time; the server has 40 threads for all that is asked of it
KEPT, KEPT_ENDED = 3600.0, 60.0  # seconds without a question after which a study is closed
OVER = ("FINISHED", "CANCELED")


class Search:
    """The study of one sweep.

    Args:
        sweep: as it stands; each turn looks it up anew.
    """

    def __init__(self, sweep: Sweep, definition: Definition, study: optuna.Study) -> None:
        self.sweep, self.definition, self.study = sweep, definition, study
        self.plan = Plan(definition, definition.run_cap or ENDLESS)
        self.knows_priors = False  # whether it was told of the runs that the sweep's author named


class _Place:
    """What this process holds of a sweep; it outlives the study that is closed."""

    def __init__(self) -> None:
        self.turn, self.opening = threading.Lock(), threading.Lock()
        self.search: Search | None = None
        self.study: optuna.Study | None = None  # of the search, where there is one; for whoever only reads
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

    @contextlib.contextmanager
    def turn(self, database: Database, sweep: Sweep) -> Iterator[Search | None]:
        """Have the study of a sweep for oneself, before all processes of this server; None where too many wait for one.

        What is known of the sweep is what the database says once the turn has come: it may have been changed in the meantime.
        """
        if not self._waiting.acquire(blocking=False):
            yield None
            return
        try:
            with self._place(sweep.id).turn, database.alone(sweep.id):
                yield self._search(database, sweep.id)
        finally:
            self._waiting.release()

    def _search(self, database: Database, number: int) -> Search | None:
        """Return the study of a sweep, whose turn is had; None of one that was deleted.

        Raises:
            UsageError: if configurations of it were handed out, and it was started from another definition.
        """
        with database.session() as session:
            # locked, as a server that was killed may still be handing out a trial
            sweep = session.scalar(sa.select(Sweep).where(Sweep.id == number).with_for_update())
            trials = sa.select(Issue.id).where(Issue.sweep_id == number, Issue.trial.is_not(None)).limit(1)
            has_begun = session.scalar(trials) is not None
        if sweep is None:
            return None
        place, definition = self._place(number), definition_of(sweep)
        with place.opening:
            study = self._study(place, sweep)
            if study is not None and not has_begun:  # it may be of what the sweep was before, and nothing would be lost of it
                optuna.delete_study(study_name=study.study_name, storage=self.storage)
                place.study = place.search = None
            search = place.search
            if search is None or search.study is not place.study or search.definition.definition != definition.definition:
                search = Search(sweep, definition, open_study(definition, self.storage, _name(sweep), seed=number))
                place.search, place.study, place.watch = search, search.study, None
            search.sweep = sweep
            return search

    def trials(self, sweep: Sweep) -> list[FrozenTrial]:
        """Return the trials of a sweep, without a turn; none of one that nobody has asked yet."""
        place = self._place(sweep.id)
        with place.opening:
            study = self._study(place, sweep)
        try:
            return [] if study is None else study.get_trials(deepcopy=False)
        except KeyError:  # it has just been made anew
            return []

    def _study(self, place: _Place, sweep: Sweep) -> optuna.Study | None:
        """Return the study of a sweep as it is, if there is one: another process may have made it anew."""
        try:
            number = self.storage.get_study_id_from_name(_name(sweep))
        except KeyError:
            return None
        if place.study is None or place.study._study_id != number:
            place.study = optuna.load_study(study_name=_name(sweep), storage=self.storage)
        return place.study

    def watch(self, sweep: Sweep) -> Watch:
        """Return what `early_terminate` has read of a sweep's runs."""
        place = self._place(sweep.id)
        with place.opening:
            place.watch = place.watch or Watch(definition_of(sweep).goals)
            return place.watch

    def tidy(self, database: Database) -> int:
        """Close the studies that nobody has asked for a while, sooner where the sweep is over; return how many stay open."""
        with self._lock:
            held = {number: place for number, place in self._places.items() if place.study or place.watch}
        with database.session() as session:
            ended = set(session.scalars(sa.select(Sweep.id).where(Sweep.id.in_(held), Sweep.state.in_(OVER))))
        begin = time.monotonic()
        for number, place in list(held.items()):
            if begin - place.asked > (KEPT_ENDED if number in ended else KEPT):
                place.search = place.study = place.watch = None
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


def _name(sweep: Sweep) -> str:
    return f"{sweep.id}-{sweep.name}"
