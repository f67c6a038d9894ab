"""The unmodified client against the service: what it logs is what is read back."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.service import serving
from tests.service.serving import KEY, client

pytestmark = pytest.mark.slow


def test_a_run_is_read_back_as_it_was_logged(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        config = {"lr": 0.1, "nested": {"q": 3}, "text": "ü", "none": None}
        words = {"name": "first", "notes": "hello", "group": "g", "job_type": "j"}
        run = wandb.init(project="tried", id="logged", config=config, tags=["a", "b"], **words)
        for step in range(30):
            value = float("nan") if step == 3 else float("inf") if step == 4 else float(step)
            run.log({"loss": 1 / (step + 1), "odd": value, "deep": {"x": step}, "a.b/c": step})
        print("a line of the console")
        run.summary["best"] = 0.25
        run.finish()
        api = wandb.Api()
        run = api.run("someone/tried/logged")
        rows = run.history(pandas=False)
        picked = run.history(keys=["loss", "odd"], pandas=False)
        scanned = list(run.scan_history())
        some = list(run.scan_history(keys=["loss", "a.b/c"], min_step=10, max_step=20))
        run.file("config.yaml").download(root="fetched")
        print(json.dumps({
            "state": run.state, "name": run.name, "config": run.config, "tags": run.tags, "notes": run.notes, "group": run.group,
            "summary": {key: run.summary[key] for key in ("loss", "best")}, "last": run.lastHistoryStep, "rows": len(rows),
            "odd": [repr(row["odd"]) for row in rows[3:5]], "picked": picked[2:5], "scanned": len(scanned),
            "deep": scanned[7]["deep"], "some": [row["loss"] for row in some], "user": run.user.username,
            "files": sorted(file.name for file in run.files()), "yaml": "lr" in open("fetched/config.yaml").read(),
            "log": run.file("output.log").download(root="fetched").read(), "url": run.url, "job": run.job_type,
        }))
        """,
    )
    assert found["config"] == {"lr": 0.1, "nested": {"q": 3}, "text": "ü", "none": None}
    assert (found["state"], found["name"], found["notes"], found["group"], found["job"]) == ("finished", "first", "hello", "g", "j")
    assert (found["tags"], found["summary"], found["user"]) == (["a", "b"], {"loss": 1 / 30, "best": 0.25}, "someone")
    assert (found["last"], found["rows"], found["scanned"], found["deep"]) == (29, 30, 30, {"x": 7})
    assert found["odd"] == ["nan", "inf"]
    assert [row["odd"] for row in found["picked"]] == [2, "NaN", "Infinity"]
    assert found["some"] == [1 / (step + 1) for step in range(10, 20)]
    assert {"config.yaml", "output.log", "wandb-metadata.json", "wandb-summary.json"} <= set(found["files"])
    assert found["yaml"]
    assert "a line of the console" in found["log"]
    assert found["url"] == f"{address}/someone/tried/runs/logged"


def test_resume_goes_on_where_the_run_stood(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        def log(how, id, first):
            run = wandb.init(project="tried", id=id, resume=how)
            for value in range(first, first + 5):
                run.log({"value": value})
            run.finish()
        log("never", "resumed", 0)
        log("must", "resumed", 5)
        log("allow", "resumed", 10)
        log("allow", "fresh", 0)
        refused = []
        for how, id in (("never", "resumed"), ("must", "absent")):
            try:
                wandb.init(project="tried", id=id, resume=how, settings=wandb.Settings(init_timeout=20))
            except Exception as error:
                refused.append(type(error).__name__)
        api = wandb.Api()
        rows = [(row["_step"], row["value"]) for row in api.run("someone/tried/resumed").scan_history()]
        print(json.dumps({"rows": rows, "fresh": len(list(api.run("someone/tried/fresh").scan_history())), "refused": refused}))
        """,
    )
    assert found["rows"] == [[step, step] for step in range(15)]
    assert found["fresh"] == 5
    assert found["refused"] == ["UsageError", "UsageError"]


def test_runs_are_listed_filtered_ordered_changed_and_deleted(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        for number in range(4):
            tags = ["even"] if number % 2 == 0 else []
            run = wandb.init(project="listed", name=f"run{number}", config={"lr": 10.0 ** -number}, tags=tags)
            run.log({"loss": (number - 1.5) ** 2, "number": number})
            run.finish(exit_code=int(number == 3))
        api = wandb.Api()
        def names(filters=None, order="+created_at"):
            return [run.name for run in wandb.Api().runs("someone/listed", filters=filters, order=order, per_page=3)]
        run = api.runs("someone/listed", filters={"display_name": "run1"})[0]
        run.config["note"], run.tags = "seen", ["changed"]
        run.summary["late"] = 7
        run.update()
        again = wandb.Api().run("/".join(run.path))
        result = {
            "all": names(), "state": names({"state": "failed"}), "small": names({"config.lr": {"$lt": 0.05}}),
            "both": names({"$and": [{"tags": "even"}, {"summary_metrics.number": {"$gt": 1}}]}),
            "order": names(order="-summary_metrics.loss"), "count": len(api.runs("someone/listed")),
            "changed": [again.config["note"], again.tags, again.summary["late"], again.state],
            "projects": sorted(project.name for project in api.projects("someone")), "viewer": api.viewer.username,
        }
        run.delete()
        result["left"] = names()
        print(json.dumps(result))
        """,
    )
    assert found["all"] == ["run0", "run1", "run2", "run3"]
    assert found["state"] == ["run3"]
    assert found["small"] == ["run2", "run3"]
    assert found["both"] == ["run2"]
    assert found["order"] == ["run3", "run0", "run2", "run1"]
    assert (found["count"], found["viewer"]) == (4, "someone")
    assert found["changed"] == ["seen", ["changed"], 7, "finished"]
    assert "listed" in found["projects"]
    assert found["left"] == ["run0", "run2", "run3"]


def test_an_offline_run_is_synced_once_however_often(address: str, tmp_path: Path) -> None:
    program = """
        import json, wandb
        run = wandb.init(project="synced", id="offline", config={"a": 1})
        for step in range(40):
            run.log({"value": step})
        run.finish()
        print(json.dumps(run.dir))
        """
    client(address, tmp_path, program, WANDB_MODE="offline")
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    again = """
        import json, wandb
        run = wandb.Api().run("someone/synced/offline")
        print(json.dumps([run.state, [row["value"] for row in run.scan_history()], run.config]))
        """
    for _ in range(2):
        command = [str(Path(serving.PYTHON).with_name("wandb")), "sync", "--include-synced", str(folder)]
        environment = {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert client(address, tmp_path, again) == ["finished", list(range(40)), {"a": 1}]


def test_processes_that_share_a_run_lose_no_row(address: str, tmp_path: Path) -> None:
    tmp_path.joinpath("worker.py").write_text(
        textwrap.dedent(
            """
            import sys, wandb
            rank = int(sys.argv[1])
            settings = wandb.Settings(mode="shared", x_label=f"rank{rank}", x_primary=rank == 0, x_update_finish_state=rank == 0)
            run = wandb.init(project="shared", id="one", config={f"rank{rank}": rank}, settings=settings)
            for number in range(5):
                run.log({f"loss{rank}": number, "both": rank})
                print("line", rank, number)
            run.finish()
            """
        )
    )
    found = client(
        address,
        tmp_path,
        """
        import json, subprocess, sys, wandb
        started = [subprocess.Popen([sys.executable, "worker.py", rank]) for rank in "12"]
        assert [process.wait() for process in started] == [0, 0]
        assert subprocess.run([sys.executable, "worker.py", "0"]).returncode == 0
        run = wandb.Api().run("someone/shared/one")
        rows = list(run.scan_history())
        print(json.dumps({
            "rows": sorted((rank, row[f"loss{rank}"]) for row in rows for rank in range(3) if row.get(f"loss{rank}") is not None),
            "config": {key: value for key, value in run.config.items() if key.startswith("rank")},
            "summary": {f"loss{rank}": run.summary.get(f"loss{rank}") for rank in range(3)},
            "state": run.state,
        }))
        """,
    )
    assert found["rows"] == [[rank, number] for rank in range(3) for number in range(5)]
    assert found["config"] == {"rank0": 0, "rank1": 1, "rank2": 2}
    assert found["summary"] == {"loss0": 4, "loss1": 4, "loss2": 4}
    assert found["state"] == "finished"


def test_a_stopped_run_ends_with_all_its_rows(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, time, wandb
        run = wandb.init(project="tried", id="stopped", settings=wandb.Settings(x_file_stream_transmit_interval=1))
        logged = 0
        try:
            for step in range(600):
                run.log({"value": step})
                logged += 1
                if step == 20:
                    wandb.Api().run("someone/tried/stopped").stop()
                time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        run.finish()
        kept = wandb.Api().run("someone/tried/stopped")
        print(json.dumps([logged, len(list(kept.scan_history())), kept.state]))
        """,
    )
    logged, kept, state = found
    assert 20 < logged < 600, "the client was told to stop"
    assert kept - logged in (0, 1), "the interrupt may come between a row and its count"
    assert state == "killed"


def test_a_wrong_key_is_refused_at_once(address: str, tmp_path: Path) -> None:
    program = """
        import json, wandb
        try:
            wandb.Api().viewer.username
            print(json.dumps("let in"))
        except Exception as error:
            print(json.dumps(str(error)))
        """
    said = client(address, tmp_path, program, WANDB_API_KEY="local-" + "x" * 40)
    assert "401" in json.dumps(said) or "key" in said.lower()
