"""What a sweep says of a run that another program wrote, in one more file of that run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from paretune.core.errors import UsageError
from paretune.runs.outcome_file import packed, send_outcome, write_outcome
from paretune.runs.sweep_outcome import SweepOutcome, outcome_of
from paretune.runs.wandb_files import BLOCK, RunFile, read_records, read_run
from paretune.runs.whole_runs import merge_run_files
from tests.analysis.truth import written_out
from tests.samples import environment

PROGRAM = """\
import wandb
with wandb.init(project="p", id="own", name="called", group="g", tags=["t"], config={"lr": 0.1, "sizes": [1, None]}) as run:
    run.define_metric("loss", summary="min")
    for step in range(4):
        run.log({"loss": 1 / (step + 1), "odd name/x": step})
    run.summary["own"] = {"deep": 3}
"""
OUTCOME = SweepOutcome(
    {"loss": "minimize", "odd name/x": "maximize"}, True, False, cause="loss was never a finite number", created=1.5e9
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, env=environment(folder, WANDB_MODE="offline"), check=True)
    (found,) = written_out(folder)
    return found


def read(*files: Path) -> RunFile:
    (run,) = merge_run_files(run for run in map(read_run, files) if run is not None)
    return run


def kinds(file: Path) -> list[str]:
    records: list[Any] = [wandb_internal_pb2.Record.FromString(raw) for raw in read_records(file)]  # type: ignore[attr-defined]
    return [record.WhichOneof("record_type") for record in records]


def test_both_files_are_one_run_that_says_what_its_sweep_says(file: Path, tmp_path: Path) -> None:
    before, alone = file.read_bytes(), read(file)
    added = write_outcome(alone, OUTCOME, tmp_path)
    assert file.read_bytes() == before
    run = read(added, file)
    assert (run.outcome.goals, run.outcome.baseline, run.outcome.feasible) == (OUTCOME.goals, True, False)
    assert (run.outcome.cause, run.exit_code) == (OUTCOME.cause, 0)
    assert run.outcome.created == OUTCOME.created
    assert run.created == alone.created
    assert run.rows == alone.rows
    assert {name: value for name, value in run.summary.items() if name != "paretune"} == alone.summary
    assert (run.run_id, run.name, run.group, run.tags, run.config, run.state, run.file) == (
        *("own", "called", "g", ["t"], {"lr": 0.1, "sizes": [1, None]}, "failed", str(file)),
    )


def test_the_added_file_repeats_all_that_an_upload_would_overwrite(file: Path, tmp_path: Path) -> None:
    found = kinds(write_outcome(read(file), OUTCOME, tmp_path))
    assert {"run", "metric", "summary", "exit"} <= set(found)
    assert not {"history", "stats", "output"} & set(found)
    assert found.index("summary") < found.index("exit")


def test_each_file_has_a_folder_of_its_own_that_wandb_sync_takes(file: Path, tmp_path: Path) -> None:
    files = [write_outcome(read(file), OUTCOME, tmp_path) for _ in range(3)]
    assert len({path.parent for path in files}) == 3
    assert all(path.parent.name.startswith("offline-run-") and path.name == "run-own.wandb" for path in files)


@pytest.mark.parametrize("error", [WandbApiFailedError(""), WandbApiFailedError("no such run"), RuntimeError("gone")])
def test_whatever_the_client_raises_is_a_sentence(error: Exception, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def api(**_: Any) -> Any:
        raise error

    monkeypatch.setattr("wandb.Api", api)
    with pytest.raises(UsageError, match=f"^W&B did not take it: {str(error) or 'WandbApiFailedError'}$"):
        send_outcome(read(file), OUTCOME)


def test_a_run_that_its_sweep_has_ended_is_pruned(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "offline-run-20260101_000000-own" / "run-own.wandb"
    cut.parent.mkdir()
    ends = ("exit", "footer")
    cut.write_bytes(packed(raw for raw, kind in zip(read_records(file), kinds(file), strict=True) if kind not in ends))
    assert read(cut).state == "running"
    run = read(cut, write_outcome(read(cut), SweepOutcome({"loss": "minimize"}, pruned=3), tmp_path))
    assert (run.state, run.outcome.pruned) == ("pruned", 3)


@pytest.mark.parametrize(("cause", "state"), [("its worker died", "failed"), ("interrupted", "interrupted"), ("", "finished")])
def test_a_run_of_which_nothing_was_written_says_what_the_study_knows(cause: str, state: str, tmp_path: Path) -> None:
    empty = tmp_path / "wandb" / "offline-run-20260101_000000-own" / "run-own.wandb"
    empty.parent.mkdir(parents=True)
    empty.write_bytes(packed([]))
    assert read_run(empty) is None
    config = {"lr": 0.1, "sizes": [1, None]}
    known = RunFile("own", "called", "g", project="p", created=1.8e9, config=config, tags=["t"], file=str(empty))
    run = read(write_outcome(known, SweepOutcome({"loss": "minimize"}, cause=cause, created=1.7e9), tmp_path))
    assert (run.run_id, run.name, run.group, run.project, run.tags, run.config) == ("own", "called", "g", "p", ["t"], config)
    assert (run.state, run.outcome.cause, run.outcome.created) == (state, cause, 1.7e9)
    assert run.exit_code == (1 if cause else 0)


def test_the_end_of_a_run_is_that_of_its_newest_file_and_its_sweep_has_the_last_word(file: Path, tmp_path: Path) -> None:
    added = write_outcome(read(file), SweepOutcome(cause="no value"), tmp_path)
    later = write_outcome(read(file, added), SweepOutcome(cause="no value"), tmp_path)
    summary_of_program_alone = [raw for raw, kind in zip(read_records(later), kinds(later), strict=True) if kind != "summary"]
    later.write_bytes(packed(summary_of_program_alone))
    assert read(later).state == "finished"
    assert read(file, added, later).state == "failed"


@pytest.mark.parametrize("sizes", [[0], [1, BLOCK - 20, 5], [BLOCK - 21, 7], [3 * BLOCK, 2]])
def test_records_of_any_size_are_read_back(sizes: list[int], tmp_path: Path) -> None:
    records = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    (tmp_path / "run-x.wandb").write_bytes(packed(records))
    assert list(read_records(tmp_path / "run-x.wandb")) == records


@pytest.mark.parametrize(
    "change",
    [
        lambda known: known.pop("schema"),
        lambda known: known.update(schema="1"),
        lambda known: known.update(goals=3, feasible="no", pruned="x", created="y", baseline=1, cause=5),
    ],
)
def test_what_paretune_did_not_write_says_nothing(change: Callable[[dict[str, Any]], Any]) -> None:
    summary = SweepOutcome({"loss": "minimize"}, True, False, 2).to_summary()
    change(summary["paretune"])
    assert outcome_of(summary) == SweepOutcome()
    assert outcome_of({"paretune": 5}) == outcome_of({}) == SweepOutcome()


def test_the_order_of_the_objectives_survives_a_server_that_sorts_names() -> None:
    told = json.loads(json.dumps(SweepOutcome({"loss": "minimize", "accuracy": "maximize"}).to_summary(), sort_keys=True))
    assert list(outcome_of(told).goals) == ["loss", "accuracy"]
