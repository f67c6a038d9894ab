"""The unmodified client's artifacts, models, tables and media against the service."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.service import serving
from tests.service.serving import KEY, client

pytestmark = pytest.mark.slow


def test_what_is_logged_is_used_downloaded_and_found(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        from pathlib import Path
        Path("data/sub").mkdir(parents=True)
        Path("data/a.txt").write_text("alpha")
        Path("data/sub/ü b.bin").write_bytes(bytes(range(256)) * 50)
        def things(more=None):
            art = wandb.Artifact("things", "dataset", description="some", metadata={"n": 3, "deep": {"x": [1, 2]}})
            art.add_dir("data")
            art.add_file("data/a.txt", name="again/named.txt")
            if more:
                with art.new_file("more.txt") as file:
                    file.write(more)
            return art
        with wandb.init(project="arts", id="logs") as run:
            first = run.log_artifact(things(), aliases=["first"], tags=["raw"]).wait()
            same = run.log_artifact(things()).wait()
            second = run.log_artifact(things("more"), aliases=["best"]).wait()
        said = [[art.version, art.aliases, art.tags, art.size, art.file_count, art.state] for art in (first, same, second)]
        with wandb.init(project="arts", id="uses") as run:
            latest, old = run.use_artifact("things:latest"), run.use_artifact("things:v0")
            old.download(root="got")
            old.verify(root="got")
            one = wandb.Artifact("single", "dataset")
            one.add_file("data/a.txt")
            run.log_artifact(one).wait()
            single = Path(run.use_artifact("single:latest").file()).read_text()
            direct = Path(latest.get_entry("more.txt").download(root="entry")).read_text()  # by an address the client builds
            by_path = Path(latest.get_path("a.txt").download(root="entry")).read_text()
        api = wandb.Api()
        best = api.artifact("someone/arts/things:best")
        result = {
            "said": said, "used": [latest.version, old.version], "single": single, "direct": direct, "by_path": by_path,
            "files": sorted(str(path.relative_to("got")) for path in Path("got").rglob("*") if path.is_file()),
            "same": Path("got/sub/ü b.bin").read_bytes() == bytes(range(256)) * 50,
            "best": [best.version, best.type, best.description, best.metadata, best.aliases, best.digest == second.digest],
            "listed": [(file.name, file.size) for file in best.files()], "some": [f.name for f in best.files(names=["a.txt"])],
            "versions": [art.name for art in api.artifacts("dataset", "someone/arts/things", per_page=1)],
            "types": [kind.name for kind in api.artifact_types("someone/arts")],
            "type": api.artifact_type("dataset", "someone/arts").name,
            "names": sorted(one.name for one in api.artifact_collections("someone/arts", "dataset")),
            "ordered": [one.name for one in api.project("arts", "someone").collections(order="+name")],
            "exists": [api.artifact_exists(f"someone/arts/things:{name}") for name in ("v1", "first", "v2", "none")],
            "collection": [api.artifact_collection_exists(f"someone/arts/{name}", "dataset") for name in ("things", "none")],
            "logged": [art.name for art in api.run("someone/arts/logs").logged_artifacts()],
            "inputs": [art.name for art in api.run("someone/arts/uses").used_artifacts()],
            "by": [best.logged_by().id, [run.id for run in api.artifact("someone/arts/things:v0").used_by()]],
        }
        try:
            with wandb.init(project="arts") as run:
                other = wandb.Artifact("things", "model")
                other.add_file("data/a.txt")
                run.log_artifact(other)
        except ValueError as error:
            result["refused"] = str(error)
        print(json.dumps(result))
        """,
    )
    v0 = ["v0", ["first", "latest"], ["raw"], 12810, 3, "COMMITTED"]
    assert found["said"] == [v0, v0, ["v1", ["latest", "best"], [], 12814, 4, "COMMITTED"]]
    assert (found["used"], found["single"], found["direct"], found["by_path"]) == (["v1", "v0"], "alpha", "more", "alpha")
    assert found["files"] == ["a.txt", "again/named.txt", "sub/ü b.bin"]
    assert found["same"]
    assert found["best"] == ["v1", "dataset", "some", {"n": 3, "deep": {"x": [1, 2]}}, ["latest", "best"], True]
    assert found["listed"] == [["a.txt", 5], ["again/named.txt", 5], ["more.txt", 4], ["sub/ü b.bin", 12800]]
    assert found["some"] == ["a.txt"]
    assert found["versions"] == ["things:v1", "things:v0"]
    assert (found["types"], found["type"]) == (["dataset"], "dataset")
    assert (found["names"], found["ordered"]) == (["single", "things"], ["single", "things"])
    assert (found["exists"], found["collection"]) == ([True, True, False, False], [True, False])
    assert found["logged"] == ["things:v0", "things:v1"]
    assert found["inputs"] == ["things:v0", "things:v1", "single:v0"]
    assert found["by"] == ["logs", ["uses"]]
    assert "already exists with type 'dataset'" in found["refused"]


def test_artifacts_and_collections_are_edited_drafted_and_deleted(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        from pathlib import Path
        for number in range(2):
            with wandb.init(project="edits") as run:
                art = wandb.Artifact("things", "dataset")
                with art.new_file("a.txt") as file:
                    file.write(str(number))
                with art.new_file("same.txt") as file:
                    file.write("same")
                run.log_artifact(art, aliases=["best"], tags=["old"])
        art = wandb.Api().artifact("someone/edits/things:best")
        art.aliases.append("edited")
        art.aliases.remove("best")
        art.tags, art.description = ["x y"], "new"
        art.metadata["k"] = [1.5]
        art.save()
        art = wandb.Api().artifact("someone/edits/things:edited")
        result = {"edited": [art.version, sorted(art.aliases), art.tags, art.description, art.metadata]}
        draft = art.new_draft()
        draft.remove("a.txt")
        with draft.new_file("b.txt") as file:
            file.write("added")
        with wandb.init(project="edits") as run:
            draft = run.log_artifact(draft).wait()
        folder = Path(draft.download(root="draft"))
        result["draft"] = [draft.version, {path.name: path.read_text() for path in folder.iterdir()}]
        things = wandb.Api().artifact_collection("dataset", "someone/edits/things")
        result["aliases"] = sorted(things.aliases)
        things.name, things.description, things.tags, things.type = "stuff", "described", ["t1", "t2"], "data"
        things.save()
        things.tags = ["t2"]
        things.save()
        stuff = wandb.Api().artifact_collection("data", "someone/edits/stuff")
        result["stuff"] = [stuff.name, stuff.description, stuff.tags, stuff.type, [art.version for art in stuff.artifacts()]]
        try:
            wandb.Api().artifact("someone/edits/stuff:v1").delete()
        except Exception as error:
            result["refused"] = str(error)
        wandb.Api().artifact("someone/edits/stuff:v1").delete(delete_aliases=True)
        wandb.Api().artifact("someone/edits/stuff:v0").delete()
        result["left"] = [art.name for art in wandb.Api().artifacts("data", "someone/edits/stuff")]
        stuff.delete()
        result["gone"] = wandb.Api().artifact_exists("someone/edits/stuff:v2")
        print(json.dumps(result))
        """,
    )
    assert found["edited"] == ["v1", ["edited", "latest"], ["x y"], "new", {"k": [1.5]}]
    assert found["draft"] == ["v2", {"same.txt": "same", "b.txt": "added"}]
    assert found["aliases"] == ["edited", "latest"]
    assert found["stuff"] == ["stuff", "described", ["t2"], "data", ["v2", "v1", "v0"]]
    assert "stuff:v1 has the aliases edited: pass delete_aliases=True" in found["refused"]
    assert (found["left"], found["gone"]) == (["stuff:v2"], False)


def test_models_and_links(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        from pathlib import Path
        Path("net.bin").write_bytes(b"weights" * 100)
        with wandb.init(project="models", id="m") as run:
            run.log_model("net.bin", name="net", aliases=["prod"])
        with wandb.init(project="models") as run:
            used = Path(run.use_model("net:prod")).read_bytes() == b"weights" * 100
            linked = run.link_model("net.bin", "registered", name="net", aliases=["live"])
            again = Path(run.use_model("someone/model-registry/registered:live")).name
            fresh = wandb.Artifact("fresh", "model")
            fresh.add_file("net.bin")
            draft = run.link_artifact(fresh, "someone/model-registry/freshly", aliases=["new"])
        source = wandb.Api().artifact("someone/models/net:v0")
        link = source.link("someone/shown/best", aliases=["chosen"])
        result = {
            "used": used, "linked": linked.qualified_name, "again": again, "draft": [draft.qualified_name, sorted(draft.aliases)],
            "link": [link.name, link.is_link, sorted(link.aliases), link.source_name, link.source_artifact.qualified_name],
            "links": sorted(one.qualified_name for one in source.linked_artifacts),
            "names": [Path(link.download(root="linked"), "net.bin").stat().st_size],
        }
        link.aliases.append("more")
        link.save()
        both = [wandb.Api().artifact(f"someone/{name}") for name in ("shown/best:more", "models/net:v0")]
        result["more"] = [sorted(one.aliases) for one in both]
        wandb.Api().artifact("someone/shown/best:chosen").unlink()
        result["unlinked"] = [wandb.Api().artifact_exists(f"someone/{name}") for name in ("shown/best:v0", "models/net:v0")]
        try:
            source.link("wandb-registry-model/best")
        except Exception as error:
            result["refused"] = str(error)
        print(json.dumps(result))
        """,
    )
    assert (found["used"], found["linked"], found["again"]) == (True, "someone/model-registry/registered:v0", "net.bin")
    assert found["draft"] == ["someone/model-registry/freshly:v0", ["latest", "new"]]
    assert found["link"] == ["best:v0", True, ["chosen", "latest"], "net:v0", "someone/models/net:v0"]
    assert found["links"] == ["someone/model-registry/registered:v0", "someone/shown/best:v0"]
    assert found["names"] == [700]
    assert found["more"] == [["chosen", "latest", "more"], ["latest", "prod"]]
    assert found["unlinked"] == [False, True]
    assert "this server has no registries" in found["refused"]


def test_references_increments_and_parts_of_several_processes(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, os, wandb
        from pathlib import Path
        Path("outside").mkdir()
        Path("outside/there.txt").write_text("referenced")
        Path("a.bin").write_bytes(b"a" * 300)
        result = {}
        with wandb.init(project="refs") as run:
            art = wandb.Artifact("refs", "dataset")
            art.add_reference(Path("outside/there.txt").resolve().as_uri())
            art.add_reference("https://example.invalid/x.csv", name="web.csv", checksum=False)
            art.add_reference("other://bucket/key", name="key", checksum=False)
            art.add_file("a.bin")
            run.log_artifact(art).wait()
            got = wandb.Api().artifact("someone/refs/refs:latest")
            got.get_entry("there.txt").download(root="got")
            result["refs"] = {name: entry.ref and entry.ref.split(":")[0] for name, entry in got.manifest.entries.items()}
            result["there"] = [Path("got/there.txt").read_text(), got.size, got.file_count]
            derived = wandb.Artifact("derived", "dataset")
            derived.add_reference(got.get_entry("a.bin").ref_url(), name="again.bin")
            run.log_artifact(derived).wait()
            folder = wandb.Api().artifact("someone/refs/derived:latest").download(root="derived")
            result["derived"] = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
            for number in range(2):
                art = wandb.Artifact("grows", "dataset", incremental=number > 0)
                with art.new_file(f"{number}.txt") as file:
                    file.write(str(number))
                art = run.log_artifact(art).wait()
            grown = wandb.Api().artifact("someone/refs/grows:latest")
            grown.verify(root=grown.download(root="grown"))
            result["grown"] = [grown.version, sorted(os.listdir("grown"))]
            for number in range(3):
                art = wandb.Artifact("parts", "dataset")
                with art.new_file(f"part{number}.txt") as file:
                    file.write(str(number))
                log = run.upsert_artifact if number < 2 else run.finish_artifact
                art = log(art, distributed_id="together")
            art.wait()
            whole = wandb.Api().artifact("someone/refs/parts:latest")
            whole.verify(root=whole.download(root="whole"))
            result["whole"] = [whole.version, sorted(os.listdir("whole"))]
            run.log_code(".", name="code", include_fn=lambda path: path.endswith(".bin"))
        result["code"] = [(art.name, art.type) for art in wandb.Api().run("/".join(run.path.split("/"))).logged_artifacts()][-1]
        print(json.dumps(result))
        """,
    )
    assert found["refs"] == {"there.txt": "file", "web.csv": "https", "key": "other", "a.bin": None}
    assert found["there"] == ["referenced", 310, 4]
    assert found["derived"] == {"again.bin": 300}
    assert found["grown"] == ["v1", ["0.txt", "1.txt"]]
    assert found["whole"] == ["v0", ["part0.txt", "part1.txt", "part2.txt"]]
    assert found["code"] == ["code:v0", "code"]


def test_tables_and_media_in_artifacts(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, wandb
        import numpy as np
        with wandb.init(project="tables", id="t") as run:
            pictures = [wandb.Image(np.full((4, 4), value, dtype=np.uint8)) for value in (0, 255)]
            table = wandb.Table(columns=["x", "y", "picture"], data=[[1, "a", pictures[0]], [2, None, pictures[1]]])
            art = wandb.Artifact("tables", "dataset")
            art.add(table, "table")
            run.log_artifact(art)
            other = wandb.Artifact("others", "dataset")
            other.add(table, "borrowed")
            run.log_artifact(other).wait()
            run.log({"shown": wandb.Table(columns=["a"], data=[[1], [2.5]])})
        api = wandb.Api()
        read = api.artifact("someone/tables/tables:latest").get("table")
        borrowed = api.artifact("someone/tables/others:latest").get("borrowed")
        hidden = [art for art in api.run("someone/tables/t").logged_artifacts() if art.type == "run_table"]
        print(json.dumps({
            "columns": read.columns, "rows": [row[:2] for row in read.data], "picture": int(np.array(read.data[1][2].image).max()),
            "borrowed": [row[:2] for row in borrowed.data], "ref": borrowed.data[0][2] is not None,
            "hidden": [art.name for art in hidden], "shown": hidden[0].get("shown").data,
        }))
        """,
    )
    assert (found["columns"], found["rows"], found["picture"]) == (["x", "y", "picture"], [[1, "a"], [2, None]], 255)
    assert (found["borrowed"], found["ref"]) == ([[1, "a"], [2, None]], True)
    assert (found["hidden"], found["shown"]) == (["run-t-shown:v0"], [[1], [2.5]])


def test_media_and_numbers_that_are_none_come_back(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, math, wandb
        import numpy as np
        nan, inf = math.nan, math.inf
        with wandb.init(project="media", id="m", config={"inf": inf, "deep": {"a": {"b": [1, None, "x"]}}}) as run:
            picture = wandb.Image(np.arange(64, dtype=np.uint8).reshape(8, 8), caption="<b>c</b>")
            odd = {"nan": nan, "inf": inf, "ninf": -inf, "deep": {"x": {"y": 1.5, "odd": nan}}}
            run.log({"picture": picture, "pictures": [picture] * 2, "histogram": wandb.Histogram([1, 2, 3, 3], num_bins=4), **odd})
            matrix = wandb.plot.confusion_matrix(y_true=[0, 1, 1], preds=[0, 1, 0], class_names=["u", "v"])
            run.log({"matrix": matrix, "page": wandb.Html("<p>hi</p>"), "table": wandb.Table(columns=["a"], data=[[nan]])})
            run.summary["best"], run.summary["deep2"] = -inf, {"k": [1, {"z": nan}]}
        run = wandb.Api().run("someone/media/m")
        history, scanned = run.history(pandas=False), list(run.scan_history())
        files = [file.name for file in run.files()]
        image = next(file for file in run.files() if file.name.startswith("media/images/picture_")).download(root="got")
        from PIL import Image
        print(json.dumps({
            "config": [repr(run.config["inf"]), run.config["deep"]],
            "rows": [[repr(rows[0][key]) for key in ("nan", "inf", "ninf")] for rows in (history, scanned)],
            "deep": [sorted((key, repr(value)) for key, value in rows[0]["deep"]["x"].items()) for rows in (history, scanned)],
            "keys": list(run.scan_history(keys=["nan", "inf", "deep.x.y"])),
            "sampled": run.history(keys=["ninf"], pandas=False),
            "summary": [repr(run.summary[key]) for key in ("nan", "inf", "best", "deep2")],
            "picture": [history[0]["picture"][key] for key in ("_type", "caption", "width")],
            "count": history[0]["pictures"]["count"],
            "histogram": history[0]["histogram"]["values"], "matrix": history[1]["matrix_table"]["_type"],
            "media": sorted({name.split("_")[0] for name in files if name.startswith("media/")}),
            "pixels": np.array(Image.open(image.name)).ravel().tolist() == list(range(64)),
            "data": json.loads(next(f for f in run.files() if "matrix_table" in f.name).download(root="got").read())["data"],
        }))
        """,
    )
    assert found["config"] == ["inf", {"a": {"b": [1, None, "x"]}}]
    assert found["rows"] == [["nan", "inf", "-inf"]] * 2
    assert found["deep"] == [[["odd", "nan"], ["y", "1.5"]]] * 2
    assert found["keys"] == [{"_step": 0, "nan": "NaN", "inf": "Infinity", "deep.x.y": 1.5}]
    assert found["sampled"] == [{"_step": 0, "ninf": "-Infinity"}]
    assert found["summary"] == ["nan", "inf", "-inf", "{'k': [1, {'z': nan}]}"]
    assert (found["picture"], found["count"], found["histogram"]) == (["image-file", "<b>c</b>", 8], 2, [1, 0, 1, 2])
    assert found["matrix"] == "table-file"
    assert found["media"] == [
        "media/html/page",
        "media/images/picture",
        "media/images/pictures",
        "media/table/matrix",
        "media/table/table",
    ]
    assert found["pixels"]
    assert sorted(found["data"]) == [["u", "u", 1], ["u", "v", 0], ["v", "u", 1], ["v", "v", 1]]


def run_command(address: str, folder: Path, *command: str) -> str:
    """Run W&B's command line against the service; return what it says."""
    environment = {"WANDB_BASE_URL": address, "WANDB_API_KEY": KEY, "HOME": str(folder), "PATH": os.environ["PATH"]}
    program = str(Path(serving.PYTHON).with_name("wandb"))
    done = subprocess.run([program, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_the_command_line_puts_gets_and_lists(address: str, tmp_path: Path) -> None:
    (tmp_path / "put").mkdir()
    (tmp_path / "put/a.txt").write_text("put here")
    run_command(address, tmp_path, "artifact", "put", "put", "--name", "someone/cli/thing", "--type", "dataset", "--alias", "mine")
    run_command(address, tmp_path, "artifact", "get", "someone/cli/thing:mine", "--root", "got")
    assert (tmp_path / "got/a.txt").read_text() == "put here"
    assert "thing:v0" in run_command(address, tmp_path, "artifact", "ls", "someone/cli")


def test_an_offline_run_is_synced_with_its_artifacts(address: str, tmp_path: Path) -> None:
    program = """
        import json, wandb
        from pathlib import Path
        Path("a.txt").write_text("written offline")
        with wandb.init(project="synced", id="offline") as run:
            art = wandb.Artifact("offline", "dataset")
            art.add_file("a.txt")
            run.log_artifact(art, aliases=["mine"])
            run.log({"table": wandb.Table(columns=["a"], data=[[1]])})
        print(json.dumps(0))
        """
    client(address, tmp_path, program, WANDB_MODE="offline")
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    read = """
        import json, wandb
        from pathlib import Path
        logged = wandb.Api().run("someone/synced/offline").logged_artifacts()
        art = wandb.Api().artifact("someone/synced/offline:mine")
        print(json.dumps([sorted(art.name for art in logged), Path(art.download(root="got"), "a.txt").read_text()]))
        """
    for _ in range(2):
        run_command(address, tmp_path, "sync", "--include-synced", str(folder))
        assert client(address, tmp_path, read) == [["offline:v0", "run-offline-table:v0"], "written offline"]


def test_runs_that_log_to_one_collection_at_once(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, subprocess, sys, wandb
        program = '''
        import wandb
        with wandb.init(project="crowd") as run:
            for number in range(4):
                art = wandb.Artifact("shared", "dataset")
                with art.new_file("a.txt") as file:
                    file.write(f"{run.id} {number}")
                run.log_artifact(art)
        '''
        import textwrap
        started = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) for _ in range(3)]
        codes = [process.wait() for process in started]
        arts = list(wandb.Api().artifacts("dataset", "someone/crowd/shared"))
        latest = [art.version for art in arts if "latest" in art.aliases]
        print(json.dumps([codes, [art.version for art in arts], latest, len({art.digest for art in arts})]))
        """,
    )
    codes, numbers, latest, different = found
    assert codes == [0, 0, 0]
    assert numbers == [f"v{number}" for number in reversed(range(12))]
    assert (latest, different) == (["v11"], 12)


def test_what_else_logs_and_uses(address: str, tmp_path: Path) -> None:
    found = client(
        address,
        tmp_path,
        """
        import json, os, wandb
        from datetime import timedelta
        from pathlib import Path
        Path("folder").mkdir()
        Path("folder/a.txt").write_text("a")
        def draft(name):
            art = wandb.Artifact(name, "dataset")
            art.add_dir("folder")
            return art
        result = {}
        with wandb.init(project="ways", id="one") as run:
            run.log({"x": 1})
            run.log({"x": 2})
            art = run.log_artifact("folder", name="by_path", type="dataset").wait()
            used = run.use_artifact(draft("used_draft"))
            saved = draft("saved")
            saved.save()
            table = wandb.Table(columns=["n"], log_mode="INCREMENTAL")
            for number in range(3):
                table.add_data(number)
                run.log({"grows": table})
        alone = draft("alone")
        alone.save(project="ways")
        result["names"] = [art.name, used.name, saved.wait().name, alone.wait().name]
        result["art"] = [art.history_step, art.commit_hash == art.digest, art.url, "sequenceName" in art.json_encode()]
        with wandb.init(project="ways", id="two") as run:
            pass
        two = wandb.Api().run("someone/ways/two")
        two.use_artifact(art)
        aliases = ["public"] if wandb.__version__ != "0.28.2" else None  # that one sends aliases as no server takes them
        two.log_artifact(art, aliases=aliases)
        two = wandb.Api().run("someone/ways/two")
        result["two"] = [[one.name for one in arts] for arts in (two.used_artifacts(), two.logged_artifacts())]
        result["aliases"] = sorted(wandb.Api().artifact("someone/ways/by_path:v0").aliases)
        ttls = []
        for art.ttl in (timedelta(days=2), None):
            art.save()
            ttls.append(str(wandb.Api().artifact("someone/ways/by_path:v0").ttl))
        result["ttls"] = ttls
        Path("out").mkdir()
        Path("out/stale").write_text("x")
        art.checkout(root="out")
        result["out"] = os.listdir("out")
        one = wandb.Api().run("someone/ways/one")
        result["tables"] = [art.name for art in one.logged_artifacts() if art.type == "wandb-run-incremental-table"]
        one.delete(delete_artifacts=True)
        result["gone"] = [wandb.Api().artifact_exists(f"someone/ways/{name}:v0") for name in ("saved", "alone")]
        print(json.dumps(result))
        """,
    )
    assert found["names"] == ["by_path:v0", "used_draft:v0", "saved:v0", "alone:v0"]
    assert found["art"] == [1, True, f"{address}/someone/ways/artifacts/dataset/by_path/v0", True]
    assert found["two"] == [["by_path:v0"], ["by_path:v0"]]
    assert found["aliases"] in (["latest", "public"], ["latest"])
    assert (found["ttls"], found["out"]) == (["2 days, 0:00:00", "None"], ["a.txt"])
    assert found["tables"] == [f"run-one-incr-grows:v{number}" for number in range(3)]
    assert found["gone"] == [False, True]
