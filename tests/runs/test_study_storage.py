"""Where studies are kept: every storage by one suite, and what is said when one cannot be read or written."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from paretune.core.errors import UsageError
from paretune.runs import study_schema, study_storage
from paretune.runs.study_storage import close, database, is_local, open_storage, settle, shown
from paretune.search.engine import in_process
from paretune.search.engine.study import finished
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import Sweep, read_sweep
from paretune.search.status import open_existing
from tests.postgres import binaries, needs_postgres, postgres, postgres_away
from tests.samples import small_data

SWEEP: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "bayes",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"epochs": {"value": 2}, "learning_rate": {"distribution": "log_normal", "mu": -3}},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("server"))
    return f"{request.param}:///{tmp_path}/a.study"


def sweep_of(folder: Path) -> Sweep:
    path = folder / "storage.yaml"
    path.write_text(yaml.safe_dump(SWEEP))
    return read_sweep(path)


def searched(folder: Path, trials: int, storage: str | None, name: str = "s") -> optuna.Study:
    return run(sweep_of(folder), trials=trials, name=name, storage=storage, mode="disabled", device="cpu", runs=folder / "runs")


def test_a_study_is_searched_stopped_and_gone_on_with(tmp_path: Path, url: str) -> None:
    name = f"s-{tmp_path.name}"
    at_once = [(t.params, t.values) for t in searched(tmp_path, 4, None).get_trials()]
    searched(tmp_path, 2, url, name)
    study = searched(tmp_path, 4, url, name)
    assert [(trial.params, trial.values) for trial in study.get_trials()] == at_once
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 4
    opened = optuna.load_study(study_name=name, storage=open_storage(url))
    assert len(opened.trials) == 4
    settle(opened)
    settle(study)


def test_a_trial_that_a_dead_worker_left_is_tried_again(tmp_path: Path, url: str) -> None:
    name = f"dead-{tmp_path.name}"
    study = searched(tmp_path, 1, url, name)
    trial = study.ask()
    lock = tmp_path / "runs" / name / "workers" / "1-dead.lock"
    lock.write_text("")
    trial.set_user_attr(study_schema.WORKER, {"host": "here", "lock": str(lock)})
    settle(study)
    study = searched(tmp_path, 2, url, name)
    trials = study.get_trials()
    settle(study)
    assert len(finished(trials)) == 2
    assert trials[1].user_attrs[study_schema.CAUSE] == study_schema.INTERRUPTED
    assert trials[2].user_attrs[study_schema.RETRY_OF] == 1


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_several_may_open_a_new_database_at_once(tmp_path: Path, place: str, request: pytest.FixtureRequest) -> None:
    """Each makes the tables that are not there yet; the one that comes second to a table must not fail."""
    fresh = [f"sqlite:///{tmp_path}/{number}.db" for number in range(3)]
    if place == "postgresql":
        server = request.getfixturevalue("server")
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for number in range(3):
                connection.exec_driver_sql(f"CREATE DATABASE fresh{number}")
        engine.dispose()
        fresh = [server.replace("/postgres", f"/fresh{number}") for number in range(3)]
    for url in fresh:
        line = threading.Barrier(6)

        def opened(url: str = url, line: threading.Barrier = line) -> list[Any]:
            line.wait()
            storage = open_storage(url)
            found = storage.get_all_studies()
            close(storage)
            return found

        with ThreadPoolExecutor(6) as pool:
            assert [one.result() for one in [pool.submit(opened) for _ in range(6)]] == [[]] * 6


def test_a_copy_of_the_file_alone_is_whole(tmp_path: Path) -> None:
    study = searched(tmp_path, 2, None)
    shutil.copy(tmp_path / "runs" / "s" / "study.db", tmp_path / "copy.db")
    assert len(open_existing(str(tmp_path / "copy.db")).trials) == len(study.trials) == 2


@pytest.mark.parametrize(
    ("url", "local"),
    [("sqlite:///a.db", True), ("journal:///a.log", True), ("postgresql://a@b/c", False), ("mysql://a@b/c", False)],
)
def test_files_are_local_and_servers_are_not(url: str, local: bool) -> None:
    assert is_local(url) == local


def test_a_password_is_not_shown() -> None:
    assert "secret" not in shown("postgresql://me:secret@host/base")
    assert shown("journal:///a/b") == "journal:///a/b"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1:9/base", "refused"),
        ("nonsense", "Could not parse"),
        ("sqlite:////no/such/folder/a.db", "unable to open"),
        ("mysql://me@127.0.0.1/base", "Please install"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_sentence(tmp_path: Path, url: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be read or written .*{reason}.*run the same command again") as caught:
        searched(tmp_path, 1, url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_sentence_and_the_study_goes_on_after(tmp_path: Path) -> None:
    """A file system of 1 MiB, filled up in the middle of a sweep; then room is made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        url = f"sqlite:///{disk}/study.db"
        searched(tmp_path, 2, url)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"0" * 4096):
                pass
        with pytest.raises(UsageError, match=r"cannot be read or written \(.*full.*\); finished trials stay in it"):
            searched(tmp_path, 40, url)
        filler.unlink()
        trials = searched(tmp_path, 5, url).get_trials()
        assert len(finished(trials)) >= 5
        assert all(trial.state != TrialState.RUNNING for trial in trials)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@needs_postgres
def test_a_database_that_goes_away_is_one_sentence_and_the_study_goes_on_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paretune.search.engine.worker import Engine

    monkeypatch.setattr(study_storage, "PATIENCE", 0.5)

    original = Engine._observe
    with postgres(tmp_path) as url:
        searched(tmp_path, 1, url)

        def losing(self: Engine, *arguments: Any) -> bool:
            programs = binaries()
            assert programs is not None
            stop = [str(programs / "pg_ctl"), "-D", str(tmp_path / "postgres"), "-m", "immediate", "stop"]
            subprocess.run(["runuser", "-u", "postgres", "--", *stop], check=True, capture_output=True, cwd="/")
            return original(self, *arguments)

        monkeypatch.setattr(Engine, "_observe", losing)
        with pytest.raises(UsageError, match="cannot be read or written"):
            searched(tmp_path, 3, url)
        monkeypatch.setattr(Engine, "_observe", original)
        programs = binaries()
        again = ["-D", str(tmp_path / "postgres"), "-o", options_of(tmp_path, url), "-l", str(tmp_path / "postgres" / "log"), "-w"]
        subprocess.run(
            ["runuser", "-u", "postgres", "--", str(programs / "pg_ctl"), *again, "start"],  # type: ignore[operator]
            check=True,
            capture_output=True,
            cwd="/",
        )
        study = searched(tmp_path, 3, url)
        trials = study.get_trials()
        settle(study)
        assert len(finished(trials)) == 3
        assert [t.user_attrs.get(study_schema.CAUSE) for t in trials].count(study_schema.INTERRUPTED) == 1


def options_of(folder: Path, url: str) -> str:
    port = url.rpartition(":")[2].partition("/")[0]
    return f"-F -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -p {port}"


# What a person points at


def test_a_study_is_found_by_folder_file_and_url(tmp_path: Path) -> None:
    searched(tmp_path, 1, None)
    folder = tmp_path / "runs" / "s"
    for source in (str(folder), str(folder / "study.db"), f"sqlite:///{folder}/study.db", f"sqlite:///{folder}/study.db#s"):
        assert open_existing(source).study_name == "s"


def test_what_holds_no_study_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "no.db", Path("softmax-digits")):
        with pytest.raises(UsageError, match="holds no study"):
            database(source)


def test_of_several_studies_one_must_be_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/two.db"
    for name in ("a", "b"):
        searched(tmp_path, 1, url, name)
    with pytest.raises(UsageError, match=r"holds 2 studies \(a, b\): name one with --name"):
        open_existing(url)
    assert open_existing(url, "b").study_name == "b"
    with pytest.raises(UsageError, match="holds no study 'c'; there are a, b"):
        open_existing(url, "c")


@needs_postgres
@pytest.mark.slow
def test_a_worker_waits_while_its_postgresql_is_away_and_no_longer_than_it_has_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_storage, "AWAY_PAUSE", 0.05)
    with postgres(tmp_path) as url:
        study = optuna.create_study(storage=open_storage(url))
        trial = study.ask()
        with ThreadPoolExecutor() as pool:
            with postgres_away(tmp_path, url):
                reported = pool.submit(trial.report, 0.5, 0)
                told = pool.submit(trial.set_user_attr, "epochs", [1])
                with pytest.raises(TimeoutError):
                    reported.result(timeout=0.3)
            reported.result(timeout=60)
            told.result(timeout=60)
            study.tell(trial, 0.5)
            (kept,) = study.get_trials()
            assert (kept.intermediate_values, kept.user_attrs, kept.value) == ({0: 0.5}, {"epochs": [1]}, 0.5)
        monkeypatch.setattr(study_storage, "PATIENCE", 0.1)
        with postgres_away(tmp_path, url), pytest.raises(optuna.exceptions.StorageInternalError):
            study.ask()
        close(study._storage)
        monkeypatch.setattr(study_storage, "PATIENCE", 1000)
        hurried = open_storage(url, waits=False)
        with postgres_away(tmp_path, url), pytest.raises(optuna.exceptions.StorageInternalError):
            hurried.get_all_studies()
        close(hurried)
        with pytest.raises(OperationalError):  # one that was never there is not waited for
            open_storage(url.replace("127.0.0.1:", "127.0.0.2:"))
