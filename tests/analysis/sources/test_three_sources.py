"""One set of runs means the same read from its study, from its run files alone, and from our server after `wandb sync`."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from paretune.analysis.history import load_runs
from paretune.runs.outcome_file import packed
from paretune.runs.wandb_files import read_records
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from tests.analysis.sources.seen import seen
from tests.analysis.truth import written_out
from tests.samples import ROOT
from tests.service import serving

SOURCES = ("study", "run files", "server")
# a program of a person's own: keys with `/` and spaces, names that we reserve, a run that is resumed
PROGRAM = """\
import wandb
run = wandb.init(tags=["theirs"])
run.config.update({"batch/size": 4, "what it is": "a net"})
rate, seed = run.config["learning_rate"], run.config["seed"]
run.define_metric("best", summary="min")
for step in range(6):
    if step == 3 and rate == 0.004 and seed == 1:
        run.finish()
        run = wandb.init(id=run.id, resume="allow")
    loss = {0.001: 0.6, 0.004: 0.5, 0.5: 0.3}[rate] + 0.01 * seed + 0.2 / (step + 1)
    row = {"val/loss": loss, "train/loss": loss - 0.1, "time per image": 0.5 - rate / 2 + 0.001 * seed, "best": loss}
    run.log({**row, "epochs": step, "state": 0.5, "pruned": 0.25, "feasible": 1, "run": 3, "picked": 7}, step=step)
run.summary["size"] = 12
run.summary["name"] = 4.0
run.finish()
"""
THEIRS = """\
name: theirs
project: theirs
program: {folder}/train.py
method: grid
metrics:
  - {{name: val/loss, goal: minimize}}
  - {{name: time per image, goal: minimize}}
controller: {{type: local, search: {{constraints: ["learning_rate <= 0.005", "0.1 > learning_rate"]}}}}
parameters:
  learning_rate: {{values: [0.001, 0.004, 0.5]}}
  seed: {{values: [0, 1]}}
  layers: {{value: [8, null]}}
  nothing: {{value: null}}
  data: {{value: mine}}
  evaluation_split: {{value: test}}
  classifier: {{value: tree}}
"""
OURS = """\
name: ours
project: ours
program: trainers/ann.py
method: random
metrics:
  - {name: test_loss, goal: minimize}
  - {name: n_parameters, goal: minimize}
controller: {type: local, search: {constraints: ["n_parameters <= 5000"]}}
parameters:
  epochs: {value: 3}
  train_size: {value: 300}
  hidden: {values: [null, [8], [96], [128, 8]]}
  learning_rate: {distribution: log_uniform_values, min: 0.001, max: 0.1}
"""


BY_HAND = [["first", 1_700_000_000.25], ["second", 1_700_000_100.25]]  # runs outside a sweep, and when they began


def write_by_hand(folder: Path) -> None:
    """Leave runs of a program that nobody searched; in the order in which they are uploaded, the first is the last."""
    for number, (name, begun) in enumerate(reversed(BY_HAND)):
        run: Any = Record(run={"run_id": name, "project": "by_hand", "start_time": {"seconds": int(begun) + 1}})
        run.run.config.update.add(key="rate", value_json="0.5")
        started: Any = Record(environment={"started_at": {"seconds": int(begun), "nanos": 250_000_000}, "writer_id": name})
        row, summary = Record(), Record()
        for target in (row.history.item, summary.summary.update):
            for key, value in {"loss": 1.0, "_step": 0, "_timestamp": begun + 5.0}.items():
                target.add(key=key, value_json=json.dumps(value))
        records = [run, started, row, summary, Record(exit={"exit_code": 0})]
        for place, record in enumerate(records):
            record.num = place + 1
        path = folder / f"offline-run-2026010{number + 1}_000000-{name}"
        path.mkdir(parents=True)
        (path / f"run-{name}.wandb").write_bytes(packed(record.SerializeToString() for record in records))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two sweeps, of whose runs one each has a damaged file."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "train.py").write_text(PROGRAM)
    for name, text, trials in (("theirs", THEIRS.format(folder=folder), 6), ("ours", OURS, 8)):
        (folder / f"{name}.yaml").write_text(text)
        sweep = read_sweep(folder / f"{name}.yaml")
        run(sweep, trials=trials, name=name, seed=1, device="cpu", runs=folder / "runs")
        written_out(folder / "runs" / name)
    write_by_hand(folder / "runs" / "by_hand")
    for name in ("theirs", "ours"):
        damage(damaged_run(folder / "runs" / name).file)
    return folder


def damaged_run(folder: Path) -> Any:
    """Return the run whose file is damaged: one that breaks the constraints, so that it decides nothing anywhere."""
    return [run for run in load_runs(folder) if not run.feasible][-1]


def damage(file: str) -> None:
    """Change one byte of a row in the middle of a run file."""
    path = Path(file)
    raw = path.read_bytes()
    rows = [raw for raw in read_records(path) if Record.FromString(raw).WhichOneof("record_type") == "history"]
    place = raw.index(rows[len(rows) // 2]) + 20
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x20]) + raw[place + 1 :])


@pytest.fixture(scope="module")
def sources(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """What is seen of each sweep, by source."""
    folder = tmp_path_factory.mktemp("server")
    found: dict[str, dict[str, Any]] = {name: {} for name in ("theirs", "ours")}
    for name in found:
        alone = folder / f"{name} alone"
        shutil.copytree(searched / "runs" / name, alone, symlinks=True)
        for file in alone.glob("study.db*"):
            file.unlink()
        found[name] |= {"study": seen(str(searched / "runs" / name)), "run files": seen(str(alone))}
    with serving.listening(folder) as address:
        paths = {"PYTHONPATH": str(ROOT), "WANDB_CACHE_DIR": str(folder / "cache")}
        sync = "import json, sys\nfrom paretune.search.sync import main\nmain(sys.argv[1:] or [{!r}])\nprint('{{}}')"
        serving.client(address, folder / "client", sync.format(str(searched / "runs")), **paths)
        for name in found:
            to = folder / f"{name}.pickle"
            read = f"import runpy, sys\nsys.argv[1:] = ['someone/{name}', {str(to)!r}]\n"
            read += "runpy.run_module('tests.analysis.sources.seen', run_name='__main__')"
            serving.client(address, folder / "client", read, **paths)
            found[name]["server"] = pickle.loads(to.read_bytes())
        read = "import json\nfrom paretune.analysis.history import load_runs\n"
        read += "print(json.dumps([[run.run, run.created] for run in load_runs('someone/by_hand')]))"
        found["by hand"] = {"server": serving.client(address, folder / "client", read, **paths)}
    return found


@pytest.fixture(params=("theirs", "ours"))
def compared(request: pytest.FixtureRequest, searched: Path, sources: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], str]:
    """What is seen of a sweep by source, and the id of the run whose file is damaged."""
    return sources[request.param], damaged_run(searched / "runs" / request.param).run


def test_every_step_sees_the_same_in_all_sources(compared: tuple[dict[str, dict[str, Any]], str]) -> None:
    by_source, damaged = compared
    plain = {source: {name: without(damaged, value) for name, value in found.items()} for source, found in by_source.items()}
    for name, value in plain["study"].items():
        for source in SOURCES[1:]:
            if name == "columns":
                assert by_source[source][name] == by_source["study"][name]
            elif name != "left out":
                assert plain[source][name] == value, (source, name)


def test_runs_outside_a_sweep_began_when_their_client_says_so_wherever_they_are_read(
    searched: Path, sources: dict[str, dict[str, Any]]
) -> None:
    assert [[run.run, run.created] for run in load_runs(searched / "runs" / "by_hand")] == BY_HAND
    assert sources["by hand"]["server"] == BY_HAND


def without(run: str, value: Any) -> Any:
    """Return what is seen, without the run whose file is damaged: of it each source has what it could read."""
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in (run, "left_out")}
    return [item for item in value if item != run and not (isinstance(item, dict) and item["run"] == repr(run))]


def test_no_run_that_breaks_a_constraint_competes_in_any_source(compared: tuple[dict[str, dict[str, Any]], str]) -> None:
    by_source, damaged = compared
    broken = {line["run"] for line in by_source["study"]["table"] if line["feasible"] == "False"}
    assert len(broken) > 1
    for source in SOURCES:
        found = by_source[source]
        assert not {repr(run) for run in [*found["front"], *found["choice"]["candidates"], *found["scores"]]} & broken
        assert {line["run"] for line in found["table"] if line["feasible"] == "False"} >= broken - {repr(damaged)}
        reasons = " ".join(found["left out"])
        assert re.search(r"breaking (a constraint|constraints) of the sweep", reasons)


def test_the_default_configuration_is_known_in_every_source(sources: dict[str, dict[str, dict[str, Any]]]) -> None:
    for source in SOURCES:
        lines = sources["ours"][source]["table"]
        assert [line["name"] for line in lines if line["baseline"] == "True"] == ["'ours-0'"]
        assert not any(line["baseline"] == "True" for line in sources["theirs"][source]["table"])


def test_a_damaged_run_is_known_as_such_and_keeps_the_rows_that_can_be_read(
    compared: tuple[dict[str, dict[str, Any]], str],
) -> None:
    by_source, damaged = compared
    lines = {source: [line for line in by_source[source]["history"] if line["run"] == repr(damaged)] for source in SOURCES}
    states = {source: {line["state"] for line in lines[source]} for source in SOURCES}
    # W&B's client uploads a damaged file up to the damage, and such a run has not finished
    assert states == {"study": {"'finished'"}, "run files": {"'damaged'"}, "server": {"'failed'"}}
    names = ("val/loss", "test_loss", "test_accuracy")  # a study counts the rows of a person's own program by itself
    whole = [[line.get(name) for name in names] for line in lines["study"]]
    readable = [[line.get(name) for name in names] for line in lines["run files"]]
    assert len(readable) == len(whole) - 1
    assert all(row in whole for row in readable)
    assert readable[-1] == whole[-1]


def test_names_that_we_reserve_are_ordinary_in_a_run_that_is_not_ours(
    sources: dict[str, dict[str, dict[str, Any]]], searched: Path
) -> None:
    damaged = damaged_run(searched / "runs" / "theirs").run
    for source in SOURCES:
        for line in without(damaged, sources["theirs"][source]["table"]):
            assert line["evaluation_split"] == "'unknown'"
            assert (line["classifier"], line["data"], line["picked"]) == ("''", "''", "False")
            assert line["metric.state"] == "0.5"
            assert (line["metric.run"], line["metric.picked"], line["metric.feasible"]) == ("3.0", "7.0", "1.0")
            assert line["metric.name"] == "4.0"
            assert line["pruned"] == "0.25"
            assert line["state"] != "'pruned'"
        assert {line["config.data"] for line in sources["theirs"][source]["history"]} == {"'mine'"}
