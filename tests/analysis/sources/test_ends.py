"""However a trial ends, its study, its run files alone and our server name the same state and cause."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from paretune.analysis.history import RunRecord, load_runs
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.runs.outcome_file import packed
from paretune.search.engine import in_process, in_subprocess, time_limit, worker
from paretune.search.engine.in_process import InProcess
from paretune.search.spec.sweep import read_sweep
from paretune.trainers.softmax import Softmax
from tests.analysis.truth import written_out
from tests.samples import ROOT, small_data
from tests.service import serving

SOURCES = ("study", "run files", "server")
LIMIT = 60.0
LATE = f"it took longer than its trial_timeout of {LIMIT / 60:.0f} m"
DIED = f"its worker died {worker.MOST_ATTEMPTS} times, last on an unknown machine"
# of a program: how it ends, the state and the cause; the rows that it logs are ROWS
SPENT = "of a dead worker"  # the combination of the grid that a trial has whose worker died too often
THEIR_ENDS = {
    "well": ("pass", "finished", ""),
    SPENT: ("pass", "finished", ""),
    "breaks a constraint": ("pass", "finished", ""),
    "exit code": ("sys.exit(3)", "failed", "the program exited with code 3 without a message"),
    "exit code after the end of its run": ("sys.exit(3)", "failed", "the program exited with code 3 without a message"),
    "exit code of the run alone": (
        *("pass", "failed", "the program ended its W&B run with exit code 1, as by run.finish(exit_code=1)"),
    ),
    "exception": ("raise ValueError('no')", "failed", "the program exited with code 1; its last line: ValueError: no"),
    "signal": ("os.kill(os.getpid(), 9)", "failed", "the program was killed by SIGKILL without a message"),
    "signal after the end of its run": (
        *("os.kill(os.getpid(), 9)", "failed", "the program was killed by SIGKILL without a message"),
    ),
    "os._exit": (
        *("os._exit(0)", "failed"),
        "the program exited with code 0 and left its W&B run unfinished, so that its last rows may be missing: it must end "
        "without os._exit, or call run.finish() first",
    ),
    "os._exit before anything is written": (
        *("os._exit(0)", "failed"),
        "the program exited with code 0 before W&B's client had written anything of its run (run-t0000011.wandb holds 7 bytes): it "
        "must end without os._exit, or call run.finish() first",
    ),
    "NaN": ("pass", "failed", "loss was never a finite number"),
    "NaN in the end": ("pass", "failed", "loss was no finite number in the end"),
    "no value": ("pass", "failed", "the program never logged loss; it logged other"),
    "time limit": ("time.sleep(60)", "failed", LATE),
    "interrupted": ("time.sleep(60)", "interrupted", "interrupted"),
    "pruned": ("time.sleep(60)", "pruned", ""),
}
ROWS: dict[str, list[dict[str, float]]] = {
    "breaks a constraint": [{"loss": 9.0}] * 2,
    "NaN": [{"loss": math.nan}] * 2,
    "NaN in the end": [{"loss": 0.5}, {"loss": math.nan}],
    "no value": [{"other": 1.0}],
    "pruned": [{"loss": 100.0}] * 3,
}
UNENDED = {"os._exit", "signal", "time limit", "interrupted", "pruned"}  # whose run file has no end
EMPTY = {"os._exit before anything is written"}
# copies a run file that was laid out beforehand, with the run's id: W&B's client takes a second to start
PROGRAM = """\
import os, pathlib, struct, sys, time, zlib
name = os.environ["WANDB_RUN_ID"]
to = pathlib.Path(os.environ["WANDB_DIR"], "wandb", "offline-run-20260101_000000-" + name)
to.mkdir(parents=True)
end = pathlib.Path(__file__).parent / "ends" / sys.argv[1].removeprefix("--end=")
raw = (end / "run.wandb").read_bytes().replace(b"laid-out", name.encode())
if len(raw) > 7:
    length, kind = struct.unpack_from("<HB", raw, 11)
    first = raw[14 : 14 + length]
    raw = raw[:7] + struct.pack("<I", zlib.crc32(first, zlib.crc32(bytes([kind])))) + raw[11:]
(to / ("run-" + name + ".wandb")).write_bytes(raw)
exec((end / "end.py").read_text())
"""
THEIRS: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"end": {"values": list(THEIR_ENDS)}},
    "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
    "controller": {"type": "local", "search": {"constraints": ["loss <= 5"]}},
}
# of our own trainers, by the seed of the trial
OUR_ENDS = [
    ("well", "finished", ""),
    (SPENT, "finished", ""),
    ("breaks a constraint", "finished", ""),
    ("NaN", "failed", "test_loss was never a finite number"),
    ("no value", "failed", "it logged no epoch"),
    ("exception", "failed", "ValueError: no"),
    ("exception before the first epoch", "failed", "ValueError: no"),
    ("no configuration that can be built", "failed", "hidden must be a list."),
    ("time limit", "failed", LATE),
    ("interrupted", "interrupted", "interrupted"),
    ("interrupted between epochs", "interrupted", "interrupted"),
    ("pruned", "pruned", ""),
]
OURS: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "test_loss", "goal": "minimize"},
    "parameters": {"seed": {"values": list(range(len(OUR_ENDS)))}},
    "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2},
    "controller": {"type": "local", "search": {"constraints": ["test_loss <= 5"]}},
}
LOST = [("died", "interrupted", "interrupted"), ("died too often", "failed", DIED)]  # trials whose worker was killed


def laid_out(end: str) -> bytes:
    """Return the run file that a program of such an end leaves."""
    if end in EMPTY:
        return packed([])
    records: list[Any] = [Record(run={"run_id": "laid-out", "project": "theirs", "start_time": {"seconds": 1_800_000_000}})]
    records[0].run.config.update.add(key="end", value_json=json.dumps(end))
    rows = ROWS.get(end, [{"loss": 1.0}, {"loss": 0.5}])
    for step, row in enumerate(rows):
        record = Record()
        for name, value in {**row, "_step": step}.items():
            record.history.item.add(key=name, value_json=json.dumps(value))
        records.append(record)
    summary = Record()
    for name, value in rows[-1].items():
        summary.summary.update.add(key=name, value_json=json.dumps(None if math.isnan(value) else value))
    code = 1 if end in ("exit code", "exception", "exit code of the run alone") else 0
    records += [] if end in UNENDED else [summary, Record(exit={"exit_code": code})]
    return packed(record.SerializeToString() for record in records)


def lost(study: optuna.Study, folder: Path) -> None:
    """Leave trials as a worker leaves them that is killed before W&B's client has written anything."""
    for number, (end, _, _) in enumerate(LOST):
        trial = study.ask()
        run_id = f"lost{number}"
        path = folder / "wandb" / f"offline-run-20260101_00000{number}-{run_id}"
        path = path if "ours" in folder.name else folder / "trials" / run_id / "wandb" / path.name
        path.mkdir(parents=True)
        (path / f"run-{run_id}.wandb").write_bytes(packed([]))
        shown = path if "ours" in folder.name else folder / "trials" / run_id
        config = {"end": end, "learning_rate": 0.5}
        trial.set_user_attr(study_schema.RUN, {"id": run_id, "path": str(shown.relative_to(folder)), "config": config})
        trial.set_user_attr(study_schema.ATTEMPT, worker.MOST_ATTEMPTS - 1 if end == "died too often" else 0)


class Clock:
    """Passes the time limit of a trial, and interrupts one, as the ends of the trials want it."""

    def __init__(self, ends: Path) -> None:
        self.ends, self.seconds = ends, 0.0
        self.interrupted: set[str] = set()
        self._wait = in_subprocess.wait_for_end

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds

    def interrupt(self, end: str) -> None:
        if end.startswith("interrupted") and end not in self.interrupted:
            self.interrupted.add(end)
            raise KeyboardInterrupt

    def wait(self, process: Any, seconds: float) -> None:
        """Take the place of the pause between two looks at a program."""
        self._wait(process, min(seconds, 0.05))
        end = process.args[-1].removeprefix("--end=")
        begun = (self.ends / end / "begun").exists()
        self.seconds = 2 * LIMIT if begun and end == "time limit" else 0.0
        if begun:
            self.interrupt(end)

    def epochs(self, configs: Any, *_: Any, **__: Any) -> Iterator[list[Epoch]]:
        """Take the place of a training of ours, which ends as its seed says."""
        end = OUR_ENDS[configs[0].seed][0]
        if end == "no value":
            return
        if end == "no configuration that can be built":
            raise UsageError("hidden must be a list.")
        if end == "exception before the first epoch":
            raise ValueError("no")
        loss = {"breaks a constraint": 9.0, "NaN": math.nan, "pruned": 100.0}.get(end, 0.5)
        for number in range(1, 4):
            self.seconds = 2 * LIMIT if end == "time limit" else 0.0
            try:
                yield [Epoch(number, {"test_loss": loss, "precision": 0.5, "recall": 0.5, "f1": 0.5}, number == 3)]
            finally:
                self.seconds = 0.0
            if end == "exception":
                raise ValueError("no")
            if end == "interrupted":
                self.interrupt(end)

    @property
    def observe(self) -> Any:
        """What takes the place of the engine's turn between two epochs."""
        number = [end for end, _, _ in OUR_ENDS].index("interrupted between epochs")

        def observed(engine: worker.Engine, trial: optuna.Trial, *more: Any) -> Any:
            if trial.params.get("seed") == number:
                self.interrupt("interrupted between epochs")
            return OBSERVE(engine, trial, *more)

        return observed


OBSERVE = worker.Engine._observe


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two sweeps whose trials end in every way."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "train.py").write_text(PROGRAM)
    for end, (code, _, _) in THEIR_ENDS.items():
        (folder / "ends" / end).mkdir(parents=True)
        (folder / "ends" / end / "run.wandb").write_bytes(laid_out(end))
        once = "(end / 'begun').exists() or ((end / 'begun').touch(), time.sleep(60))"
        (folder / "ends" / end / "end.py").write_text(once if "sleep" in code else code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_subprocess, "LATE_SECONDS", 0.3)
        patch.setattr(in_process, "load_data", lambda options, **_: small_data())
        patch.setattr(InProcess, "shape", lambda *_: None)
        patch.setattr(worker, "run_id_of", lambda study, number, attempt: f"t{number:07}")
        patch.setattr(worker, "MOST_FAILURES", 1000)
        for name, program, definition in (("theirs", str(folder / "train.py"), THEIRS), ("ours", "trainers/softmax.py", OURS)):
            clock = Clock(folder / "ends")
            patch.setattr(time_limit, "time", clock)
            patch.setattr(in_subprocess, "wait_for_end", clock.wait)
            patch.setattr(Softmax, "fit_population", clock.epochs)
            patch.setattr(worker.Engine, "_observe", clock.observe)
            (folder / f"{name}.yaml").write_text(yaml.safe_dump({**definition, "program": program, "name": name, "project": name}))
            sweep = read_sweep(folder / f"{name}.yaml")
            options: dict[str, Any] = {
                "trials": 100,
                "name": name,
                "device": "cpu",
                "runs": folder / "runs",
                "trial_timeout": LIMIT,
            }
            with pytest.raises(KeyboardInterrupt):
                worker.run(sweep, **options, before=lambda study, name=name: lost(study, folder / "runs" / name))
            for _ in range(2):
                try:
                    worker.run(sweep, **options)
                except KeyboardInterrupt:
                    continue
    for path in (folder / "runs" / "ours" / "wandb").glob("offline-run-*-t*"):
        written_out(path)
    return folder


Ends = dict[str, tuple[str, str]]


def ends_of(runs: Sequence[RunRecord]) -> Ends:
    """Return state and cause of each run, by how it was to end; of those that were tried again, of both."""
    found: Ends = {}
    for run in sorted(runs, key=lambda run: run.run):
        end = run.config["end"] if "end" in run.config else OUR_ENDS[run.config["seed"]][0]
        found[f"{end}, tried again" if end in found else end] = (run.state, run.cause)
    return found


@pytest.fixture(scope="module")
def ends(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Ends]]:
    """What each source says, by sweep."""
    folder = tmp_path_factory.mktemp("server")
    found: dict[str, dict[str, Ends]] = {name: {} for name in ("theirs", "ours")}
    for name in found:
        alone = folder / f"{name} alone"
        shutil.copytree(searched / "runs" / name, alone, symlinks=True)
        for file in alone.glob("study.db*"):
            file.unlink()
        found[name] = {"study": ends_of(load_runs(searched / "runs" / name)), "run files": ends_of(load_runs(alone))}
    program = f"""
        import json
        from paretune.analysis.history import load_runs
        from paretune.search.sync import main
        from tests.analysis.sources.test_ends import ends_of
        assert main([{str(searched / "runs")!r}]) == 0
        print(json.dumps({{name: ends_of(load_runs(f"someone/{{name}}")) for name in ("theirs", "ours")}}))
    """
    with serving.listening(folder) as address:
        paths = {"PYTHONPATH": str(ROOT), "WANDB_CACHE_DIR": str(folder / "cache")}
        for name, runs in serving.client(address, folder / "client", program, **paths).items():
            found[name]["server"] = {end: tuple(said) for end, said in runs.items()}
    return found


EXPECTED = [
    *(("theirs", *said) for said in LOST),
    *(("ours", *said) for said in LOST),
    *(("theirs", end, *said[1:]) for end, said in THEIR_ENDS.items() if end != SPENT),
    *(("ours", *said) for said in OUR_ENDS if said[0] != SPENT),
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("sweep", "end", "state", "cause"), EXPECTED, ids=[f"{sweep}: {end}" for sweep, end, *_ in EXPECTED])
def test_state_and_cause_are_the_same_in_every_source(
    sweep: str, end: str, state: str, cause: str, source: str, ends: dict[str, dict[str, Ends]]
) -> None:
    assert ends[sweep][source][end] == (state, cause)


@pytest.mark.parametrize("sweep", ["theirs", "ours"])
def test_no_source_has_other_runs(sweep: str, ends: dict[str, dict[str, Ends]]) -> None:
    assert ends[sweep]["study"] == ends[sweep]["run files"] == ends[sweep]["server"]
    assert {end for end in ends[sweep]["study"] if "tried again" in end} >= {"interrupted, tried again"}
