"""The tables through time: every older database becomes today's, by steps that agree with the tables."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from starlette.testclient import TestClient

from paretune.core.errors import UsageError
from paretune.service.store import migrations, run_values, runs, streams
from paretune.service.store.database import Database
from paretune.service.store.migrations.__main__ import write_step
from paretune.service.store.tables import Base, Element, Run, Value
from tests.postgres import binaries, postgres
from tests.service.serving import Asked, authorization

OLD_CONFIG = '{"lr": {"value": 0.5}}'
OLD_KEYS = '{"loss": {"number": 8}}'  # as the first version kept them; a colon before a number would be SQLAlchemy's


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'service.db'}"
        return
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    url = request.getfixturevalue("server").replace("postgresql:", "postgresql+psycopg:")
    execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    yield url


def execute(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def first_tables(url: str, *, says_version: bool) -> None:
    """Make the tables as the first step leaves them, with a user and a run in them."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        take_first_step(connection)
    engine.dispose()
    time = "'2026-01-01 00:00:00'"
    run = "id, project_id, name, display_name, description, state, stop_asked, config, summary, system, tags, history_keys"
    counts = "last_step, history_lines, event_lines, log_lines, created_at, heartbeat_at"
    execute(
        url,
        "INSERT INTO entity (id, name, is_team) VALUES (1, 'someone', FALSE)",
        f"INSERT INTO project (id, entity_id, name, description, created_at) VALUES (1, 1, 'p', '', {time})",
        f"INSERT INTO run ({run}, {counts}) VALUES "
        f"(1, 1, 'r', 'r', '', 'finished', FALSE, '{OLD_CONFIG}', '{{}}', '{{}}', '[]', '{OLD_KEYS}', 7, 8, 0, 0, {time}, {time})",
        "INSERT INTO run_value (run_id, place, key, number) VALUES (1, 'c', 'lr', 0.5)",
        *([] if says_version else [f"DROP TABLE {migrations.VERSION_TABLE}"]),
    )


def take_first_step(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, migrations.FIRST)


def difference(url: str) -> list[object]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrations.VERSION_TABLE, "compare_type": True})
        found = compare_metadata(context, Base.metadata)
    engine.dispose()
    return list(found)


def test_the_steps_lead_to_the_tables(url: str) -> None:
    first_tables(url, says_version=True)
    assert migrations.head() == migrations.FIRST or difference(url), "the first step alone is not all of them"
    Database(url).close()
    assert difference(url) == []


def test_a_new_database_has_the_tables_and_the_version(url: str) -> None:
    database = Database(url)
    with database.engine.connect() as connection:
        assert migrations.version_of(connection) == migrations.head()
    database.close()
    assert difference(url) == []


@pytest.mark.parametrize("says_version", [True, False])
def test_an_older_database_keeps_what_is_in_it(url: str, says_version: bool) -> None:
    first_tables(url, says_version=says_version)
    database = Database(url)
    with database.session() as session:
        run = session.scalars(sa.select(Run)).one()
        assert (run.name, run.history_lines, run.project.entity.name) == ("r", 8, "someone")
        assert session.execute(sa.text("SELECT kind, number FROM run_value")).all() == [("n", 0.5)]
        keys = streams.history_keys(run)
        assert keys is not None
        assert keys["keys"]["loss"]["typeCounts"] == [{"type": "number", "count": 8}]
    with database.session(writing=True) as session:
        run = session.scalars(sa.select(Run)).one()
        streams.append(session, run, streams.HISTORY, 8, ['{"_step": 8, "loss": 0.5}'])
        assert json.loads(run.history_keys)["loss"] == {"kinds": {"number": 9}, "last": 0.5}, "it goes on"
    with database.session(writing=True) as session, pytest.raises(sa.exc.IntegrityError):
        session.execute(sa.text("INSERT INTO project (id, entity_id, name, description, created_at) VALUES (2, 99, 'q', '', NULL)"))
    database.close()
    assert difference(url) == []


HEARTBEAT = "mutation H($id: ID!, $state: JSONString) { agentHeartbeat(input: {id: $id, runState: $state}) { commands } }"
BEGIN = "mutation M($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"


def as_the_first_version_kept_it(new: str, old: str) -> None:
    """Copy a database of today's tables into those of the first step, as far as these have a place for it."""
    engines = sa.create_engine(new), sa.create_engine(old)
    with engines[0].connect() as today, engines[1].begin() as then:
        take_first_step(then)
        kept = sa.MetaData()
        kept.reflect(then)
        for table in kept.sorted_tables:
            if table.name not in Base.metadata.tables:
                continue
            names = [column.name for column in table.columns]
            columns = Base.metadata.tables[table.name].columns
            rows = today.execute(sa.select(*(columns[name] for name in names if name in columns))).mappings().all()
            if rows:
                then.execute(table.insert(), [dict(row) for row in rows])
            if then.dialect.name == "postgresql" and rows and "id" in names:
                count = sa.text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM {table.name}))")
                then.execute(count)
    for engine in engines:
        engine.dispose()


def test_agents_go_on_with_the_sweep_of_an_older_database(url: str, tmp_path: Path) -> None:
    before = Asked(tmp_path)
    definition = {
        "method": "grid",
        "program": "train.py",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": {"values": [0, 1, 2]}},
    }
    place = {"entityName": "someone", "projectName": "tried"}
    sweep = before.ask(
        "mutation M($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name } } }",
        input={**place, "config": json.dumps(definition)},
    )["upsertSweep"]["sweep"]["name"]
    create = "mutation M($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } } }"
    agents = [
        before.ask(create, input={**place, "sweep": sweep, "host": host})["createAgent"]["agent"]["id"] for host in ("one", "two")
    ]

    def heard(asked: Asked, agent: str, *going: str) -> list[dict[str, Any]]:
        answer = asked.ask(HEARTBEAT, id=agent, state=json.dumps(dict.fromkeys(going, True)))
        return json.loads(answer["agentHeartbeat"]["commands"])

    def begins(asked: Asked, run: str, **values: Any) -> None:
        asked.ask(BEGIN, input={"name": run, "modelName": "tried", "sweep": sweep, **values})

    first, second = (heard(before, agent)[0] for agent in agents)
    begins(before, first["run_id"])  # the second has been handed out, and its program has not begun
    before.database.close()
    before.searches.close()
    as_the_first_version_kept_it(f"sqlite:///{tmp_path / 'service.db'}", url if "postgresql" in url else f"{url}.old")
    after = Asked.__new__(Asked)  # the same folder, and the older database
    after.storage, after.files = before.storage, before.files
    after.database = Database(url if "postgresql" in url else f"{url}.old")
    after.client = TestClient(after.application(tmp_path), headers=authorization(), raise_server_exceptions=False)
    assert heard(after, agents[0], first["run_id"]) == []  # it trains on
    assert heard(after, agents[1]) == [second]
    summary = {"files": {"wandb-summary.json": {"offset": 0, "content": ['{"loss": 0.5}']}}, "complete": True, "exitcode": 0}
    for run in (first["run_id"], second["run_id"]):
        begins(after, run)
        assert after.stream(run, **summary).status_code == 200
    (third,) = heard(after, agents[0])
    tried = [command["args"]["x"]["value"] for command in (first, second, third)]
    assert sorted(tried) == [0, 1, 2]
    begins(after, third["run_id"])
    assert after.stream(third["run_id"], **summary).status_code == 200
    assert [heard(after, agent)[0]["type"] for agent in agents] == ["exit", "exit"]
    after.searches.close()
    after.database.close()


def test_lists_nulls_and_booleans_of_older_runs_are_found(url: str) -> None:
    first_tables(url, says_version=True)
    config = {"lr": {"value": 0.5}, "fast": {"value": True}, "hidden": {"value": [64, "x"]}, "none": {"value": None}, "_wandb": {}}
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE run SET config = :c, summary = :s"), {"c": json.dumps(config), "s": '{"nan": NaN}'})
        connection.execute(sa.text("INSERT INTO run_value (run_id, place, key, text) VALUES (1, 'c', 'fast', 'true')"))
    engine.dispose()
    database = Database(url)
    with database.session() as session:
        run = session.scalars(sa.select(Run)).one()
        for filters, count in (
            ({"config.lr": 0.5, "config.fast": True, "config.hidden": 64, "config.none": {"$exists": True}}, 1),
            ({"summary_metrics.nan": {"$exists": True}, "config.hidden": {"$size": 2}}, 1),
            ({"config.fast": "true"}, 0),
            ({"config._wandb": {"$exists": True}}, 0),
        ):
            assert runs.count_runs(session, run.project, json.dumps(filters)) == count, filters
    database.close()


def test_values_of_older_runs_are_indexed_as_those_of_new_ones(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first_tables(url, says_version=True)
    long = "x" * 600
    values = {"lr": 0.5, "fast": True, "long": long, "k" * 300: 1, "deep": {"l": [[1, None], {"a": long}]}, "none": None}
    values |= {"h": {"_type": "histogram", "values": [1, 2]}, "large": [0] * 20_000, "i": math.inf, "nan": math.nan, "q" * 2000: 1}
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM run_value"))
        connection.execute(
            sa.text("UPDATE run SET config = :c, summary = :s"),
            {"c": json.dumps({key: {"value": one} for key, one in values.items()}), "s": json.dumps(values)},
        )
        for key, text in (("fast", "true"), ("long", long[:512]), (("k" * 256), None), ("deep.gone", "x")):  # as they were cut off
            row = {"key": key, "number": None if text else 1.0, "text": text}
            connection.execute(
                sa.text("INSERT INTO run_value (run_id, place, key, number, text) VALUES (1, 'c', :key, :number, :text)"), row
            )
    engine.dispose()
    database = Database(url)
    assert f"is brought from version 0001 to {migrations.head()}" in capsys.readouterr().err
    found, elements = run_values.rows_of(values)
    with database.session() as session:
        for place in ("c", "s"):
            rows = session.scalars(sa.select(Value).where(Value.place == place)).all()
            assert {row.key: run_values.Kept(row.kind, row.number, row.text, row.size) for row in rows} == found
            listed = session.scalars(sa.select(Element).where(Element.place == place)).all()
            assert {
                run_values.Place(row.key, row.position, row.is_element): run_values.Kept(row.kind, row.number, row.text, row.size)
                for row in listed
            } == elements
        project = session.scalars(sa.select(Run)).one().project
        assert runs.count_runs(session, project, json.dumps({"config.long": long, f"config.{'k' * 300}": 1})) == 1
    database.close()
    Database(url).close()
    assert capsys.readouterr().err == "", "there is nothing more to do"


def test_steps_do_not_change_with_the_program() -> None:
    for path in (migrations.FOLDER / "versions").glob("[0-9]*.py"):
        assert "import paretune" not in path.read_text(), path
        assert "from paretune" not in path.read_text(), path


def test_a_number_of_a_deleted_row_is_not_given_again(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / name}" for name in ("new.db", "old.db")]
    first_tables(urls[1], says_version=True)
    tables = ("run", "run_file", "sweep", "agent")
    for url in urls:
        Database(url).close()
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            for table in tables:
                made = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": table})
                assert "PRIMARY KEY AUTOINCREMENT" in made, (url, made)
            pointing = connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE name = 'run_value'"))
            assert "REFERENCES run (id) ON DELETE CASCADE" in pointing.replace('"', "")
            assert connection.execute(sa.text("PRAGMA foreign_key_check")).all() == []
        indexes = sorted((table, one["name"]) for table in tables for one in sa.inspect(engine).get_indexes(table))
        assert indexes == sorted((table, index.name) for table in tables for index in Base.metadata.tables[table].indexes)
        engine.dispose()


def test_many_processes_open_an_old_database_at_once(url: str) -> None:
    first_tables(url, says_version=False)
    program = "import sys; from paretune.service.store.database import Database; "
    program += "Database(sys.argv[1]).close()"
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: subprocess.run([sys.executable, "-c", program, url], capture_output=True), range(4)))
    assert [one.stderr.decode()[-500:] for one in done if one.returncode] == []
    assert difference(url) == []


def test_a_database_of_a_newer_program_is_refused(url: str) -> None:
    Database(url).close()
    execute(url, f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(UsageError, match="of version 9999, and this program knows"):
        Database(url)


def test_the_steps_are_numbered_one_after_the_other() -> None:
    numbers = sorted(path.name[:4] for path in (migrations.FOLDER / "versions").glob("[0-9]*.py"))
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_a_step_is_written_from_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    for path in [*migrations.FOLDER.glob("*.py"), *migrations.FOLDER.glob("*.mako"), *migrations.FOLDER.glob("versions/*.py")]:
        (folder / path.relative_to(migrations.FOLDER)).write_text(path.read_text())
    monkeypatch.setattr(migrations, "FOLDER", folder)
    last = migrations.head()
    table = sa.Table("added", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
    try:
        written = write_step("Something is added.", tmp_path)
    finally:
        Base.metadata.remove(table)
    assert written.name == f"{int(last) + 1:04}_something_is_added.py"
    assert f'down_revision = "{last}"' in written.read_text().replace("'", '"')
    assert "create_table('added'" in written.read_text()
    assert migrations.head() == written.name[:4]


def test_a_database_of_this_version_is_opened_without_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from paretune.service.store.database import Database; "
        "Database(sys.argv[1]).close(); print('alembic' in sys.modules)"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program, f"sqlite:///{tmp_path / 's.db'}"], capture_output=True, text=True)
        assert done.stdout.strip() == "False", done.stderr
