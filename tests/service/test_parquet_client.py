"""The unmodified client reads the same of a run before and after its history has become Parquet, which it then reads itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paretune.service.http.app import application
from paretune.service.store import compaction
from paretune.service.store.accounts import add_user
from paretune.service.store.database import Database
from paretune.service.store.files import Files
from paretune.service.sweeps.searches import Searches
from tests.listening import listening
from tests.service.serving import KEY, client

pytestmark = pytest.mark.slow
LOG = """
    import json, wandb
    plain = wandb.init(project="p", id="plain", resume="allow")
    for step in range(30):
        value = float("nan") if step == 3 else float("inf") if step == 4 else float(step)
        plain.log({"loss": 1 / (step + 1), "odd": value, "a.b/c": step, "flag": step % 2 == 0, "word": "ü"})
    plain.finish()
    mixed = wandb.init(project="p", id="mixed", resume="allow")
    for step in range(30):
        sometimes = {"rare": step, "none": None} if step % 7 == 0 else {}
        mixed.log({"loss": 1 / (step + 1), "deep": {"x": step, "y": [1, "t"]}, **sometimes})
    mixed.finish()
    print(json.dumps(None))
    """
READ = """
    import json, math, wandb
    found = {}
    for name in ("plain", "mixed"):
        run = wandb.Api().run(f"someone/p/{name}")
        found[name] = {
            "scan": list(run.scan_history()),
            "keys": list(run.scan_history(keys=["loss", "_step"])),
            "part": list(run.scan_history(keys=["loss"], min_step=10, max_step=40, page_size=7)),
            "paged": list(run.scan_history(min_step=3, max_step=50, page_size=4)),
            "sampled": run.history(keys=["loss"], pandas=False),
            "history": run.history(pandas=False),
            "beta": list(run.beta_scan_history()),
            "frame": len(run.history()), "system": len(run.history(stream="system")), "last": run.lastHistoryStep,
        }
    odd = [row["odd"] for row in wandb.Api().run("someone/p/plain").scan_history(keys=["odd"])]
    rare = [row["rare"] for row in wandb.Api().run("someone/p/mixed").scan_history(keys=["rare"])]
    deep = [row["deep.x"] for row in wandb.Api().run("someone/p/mixed").scan_history(keys=["deep.x"])]
    print(json.dumps({"runs": found, "odd": [float(value) for value in odd], "rare": rare, "deep": deep}))
    """
EXPORT = """
    import json, wandb
    import pyarrow.parquet as pq
    found = {}
    for name in ("plain", "mixed"):
        run = wandb.Api().run(f"someone/p/{name}")
        kept = run.download_history_exports(f"exports-{name}", require_complete_history=False)
        found[name] = [pq.read_table(path).column("loss").to_pylist() for path in sorted(kept.paths)]
    print(json.dumps(found))
    """


@contextlib.contextmanager
def service(folder: Path) -> Iterator[tuple[str, Database, Files]]:
    database, files = Database(f"sqlite:///{folder / 'service.db'}"), Files(folder / "files")
    add_user(database, "someone", key=KEY)
    with listening(application(database, files, Searches(f"sqlite:///{folder / 'studies.db'}"))) as address:
        yield address, database, files
    database.close()


def as_texts(found: Any) -> Any:
    """Return what was read with NaN made equal to itself."""
    if isinstance(found, dict):
        return {key: as_texts(value) for key, value in sorted(found.items())}
    if isinstance(found, list):
        return [as_texts(value) for value in found]
    return repr(found) if isinstance(found, float) else found


def test_every_way_of_reading_gives_the_same_before_and_after(tmp_path: Path) -> None:
    with service(tmp_path) as (address, database, files):
        client(address, tmp_path / "c", LOG)
        before = client(address, tmp_path / "c", READ)
        assert compaction.compact_due(database, files) == 60
        after = client(address, tmp_path / "c", READ)
        assert as_texts(after) == as_texts(before)
        read = after["runs"]["plain"]
        assert [row["_step"] for row in read["scan"]] == list(range(30))
        assert read["scan"][7].keys() == {"loss", "odd", "a.b/c", "flag", "word", "_step", "_runtime", "_timestamp"}
        assert (read["scan"][7]["a.b/c"], read["scan"][7]["flag"], read["scan"][7]["word"]) == (7, False, "ü")
        assert [repr(value) for value in after["odd"][3:6]] == ["nan", "inf", "5.0"]
        assert after["rare"] == [0, 7, 14, 21, 28]
        assert after["deep"] == list(range(30))
        exported = client(address, tmp_path / "c", EXPORT)
        assert exported["plain"] == [[1 / (step + 1) for step in range(30)]]
        assert exported["mixed"] == [], "a file whose rows the client would change is not published"


def test_a_run_that_is_resumed_after_compaction_goes_on(tmp_path: Path) -> None:
    with service(tmp_path) as (address, database, files):
        client(address, tmp_path / "c", LOG)
        compaction.compact_due(database, files)
        client(address, tmp_path / "c", READ)  # the client keeps the file
        client(address, tmp_path / "c", LOG)
        between = client(address, tmp_path / "c", READ)
        assert compaction.compact_due(database, files) == 60
        after = client(address, tmp_path / "c", READ)
        assert as_texts(after) == as_texts(between)
        for name in ("plain", "mixed"):
            assert [row["_step"] for row in after["runs"][name]["scan"]] == list(range(60))
            assert [row["loss"] for row in after["runs"][name]["keys"]] == [1 / (step + 1) for step in range(30)] * 2
        exported = client(address, tmp_path / "c", EXPORT)
        assert exported["plain"] == [[1 / (step + 1) for step in range(30)]] * 2
