"""Folders of offline runs: programs of other people, filters, and what is kept of a reading."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from paretune.analysis import choose, history, pareto
from paretune.analysis.document.study import differing_parameters
from paretune.analysis.history import Filters, load_history, load_runs, runs_table
from paretune.analysis.sources import offline, parquet_cache
from paretune.analysis.sources.run_record import RunRecord, columns_of
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.runs import study_schema, tracking
from tests.analysis.truth import Run, written_out
from tests.samples import start

SCRIPT = """\
import wandb
for rate in (0.1, 0.2, 0.3):
    config = {"rate": rate, "net": {"width": 8}}
    with wandb.init(project="theirs", group="swept", tags=["slow"] if rate > 0.15 else [], config=config) as run:
        for step in range(4):
            run.log({"val": {"loss": rate / (step + 1)}, "lr": rate})
            run.log({"images": wandb.Histogram([1, 2, 3])})
        run.log({"acc": 1 - rate})
        run.summary["size"] = 10 * rate
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offline runs of a script that knows nothing of us."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "train.py").write_text(SCRIPT)
    result = start(sys.executable, "train.py", cwd=folder, WANDB_MODE="offline", WANDB_SILENT="true", closed=True)
    assert result.returncode == 0, result.stderr
    written_out(folder / "wandb")
    return folder / "wandb"


def test_runs_of_a_script_that_is_not_ours_are_one_table(theirs: Path) -> None:
    table = load_history(theirs)
    assert len(table) == 3 * 5  # the rows of histograms hold no number
    assert sorted(set(table["config.rate"])) == [0.1, 0.2, 0.3]
    assert table["config.net"][0] == {"width": 8}
    losses = table.loc[table["config.rate"] == 0.2, "val.loss"].dropna()
    assert losses.tolist() == pytest.approx([0.2, 0.1, 0.2 / 3, 0.05])
    assert table["epoch"].tolist()[:5] == [0.0, 2.0, 4.0, 6.0, 8.0]  # W&B's steps: the script logs no epoch


def test_a_scripts_run_stands_with_its_last_values_and_its_summary(theirs: Path) -> None:
    table = runs_table(load_runs(theirs)).sort_values("lr")
    assert table["acc"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert table["val.loss"].tolist() == pytest.approx([0.025, 0.05, 0.075])
    assert table["size"].tolist() == pytest.approx([1.0, 2.0, 3.0])


def test_a_scripts_runs_have_a_front_and_a_choice(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pareto.main([str(theirs), "--metrics", "acc", "size", "--goals", "maximize", "maximize"]) == 0
    assert "3 of 3 finished runs are on the front" in capsys.readouterr().out
    assert choose.main([str(theirs), "--metrics", "acc", "val.loss", "--rule", "min:val.loss"]) == 0
    assert "lowest val.loss, 0.0250, of 1 run on the front" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        choose.main([str(theirs)])
    assert "no run has the metric 'precision'" in capsys.readouterr().err


def test_the_front_and_the_choice_read_a_scripts_run_at_the_same_row(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goals = ["--metrics", "val.loss", "size", "--goals", "maximize", "maximize"]  # the first row has the highest loss: not counted
    assert pareto.main([str(theirs), *goals]) == 0
    printed = capsys.readouterr().out
    assert "last (8)" in printed
    assert " 0.0750 " in printed
    assert choose.main([str(theirs), *goals, "--rule", "max:val.loss"]) == 0
    assert "highest val.loss, 0.0750" in capsys.readouterr().out
    assert history.main([str(theirs)]) == 0
    assert "best_epoch" not in capsys.readouterr().out


# -- which runs


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        (["--tag", "slow"], [0.2, 0.3]),
        (["--group", "swept", "--state", "finished"], [0.1, 0.2, 0.3]),
        (["--has", "acc", "--has", "size", "--tag", "slow", "--tag", "other"], [0.2, 0.3]),
    ],
)
def test_filters_choose_runs(theirs: Path, flags: list[str], rates: list[float], tmp_path: Path) -> None:
    target = tmp_path / "all.parquet"
    assert history.main([str(theirs), *flags, "--to", str(target)]) == 0
    assert sorted(set(pd.read_parquet(target)["config.rate"])) == rates


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--tag", "quick"], "none of the 3 runs of {source} is let through by --tag quick (states: finished)"),
        (["--has", "f1", "--state", "failed"], "is let through by --state failed, --has f1"),
        (["--filter", '{"state": "finished"}'], "--filter is for W&B's server, and {source} is on this machine"),
        (["--filter", "state=finished"], "--filter must be a JSON mapping"),
    ],
)
def test_a_filter_that_cannot_be_is_one_sentence(
    theirs: Path, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        history.main([str(theirs), *flags])
    errors = capsys.readouterr().err
    assert sentence.format(source=theirs) in errors
    assert errors.count("\n") == 1


def test_the_table_of_runs_holds_config_and_summary(theirs: Path, tmp_path: Path) -> None:
    assert history.main([str(theirs), "--runs", str(tmp_path / "runs.csv")]) == 0
    table = pd.read_csv(tmp_path / "runs.csv").sort_values("config.rate")
    assert table["summary.size"].tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert table["config.net"].tolist() == ['{"width": 8}'] * 3


# -- run files that hold no run, and runs that ended without a word


@pytest.fixture
def ten(theirs: Path, tmp_path: Path) -> Path:
    """The three runs, and seven files that hold none."""
    folder = Path(shutil.copytree(theirs, tmp_path / "wandb", symlinks=True))
    whole = next(folder.rglob("run-*.wandb")).read_bytes()
    broken = [b"", whole[:3], whole[:7], whole[:20], bytes(range(256)) * 200, b"text", whole[1:]]
    for place, content in enumerate(broken):
        inner = folder / f"offline-run-20200101_00000{place}-bad{place}"
        inner.mkdir()
        (inner / f"run-bad{place}.wandb").write_bytes(content)
    return folder


@pytest.mark.parametrize("worthwhile", [2, 100])
@pytest.mark.parametrize(
    ("command", "flags"), [(history, []), (pareto, ["--metrics", "acc"]), (choose, ["--metrics", "acc", "--rule", "max:acc"])]
)
def test_run_files_that_hold_no_run_are_counted_and_named(
    ten: Path,
    command: ModuleType,
    flags: list[str],
    worthwhile: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_CACHE_DIR", str(ten.parent / "cache"))
    monkeypatch.setattr(parquet_cache, "WORTHWHILE", worthwhile)
    for _ in ("read", "kept"):
        assert command.main([str(ten), *flags]) == 0
        named = "run-bad0.wandb, run-bad1.wandb, run-bad2.wandb and 4 more"
        assert f"{ten}: no run can be read from 7 run files: {named}; left out here\n" in capfd.readouterr().err


def test_where_no_file_holds_a_run_the_files_are_named(ten: Path) -> None:
    (file,) = ten.rglob("run-bad4.wandb")
    for source in (file, file.parent):
        with pytest.raises(UsageError, match=r"holds no run: .* \(no run can be read from 1 run file: run-bad4.wandb\)\.$"):
            load_runs(source)


@pytest.mark.parametrize("worthwhile", [2, 100])
def test_a_run_whose_file_ends_without_a_word_crashed_after_an_hour(
    theirs: Path, tmp_path: Path, worthwhile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(parquet_cache, "WORTHWHILE", worthwhile)
    folder = Path(shutil.copytree(theirs, tmp_path / "wandb", symlinks=True))
    file, *_ = sorted(folder.rglob("run-*.wandb"))
    os.truncate(file, file.stat().st_size - 40)
    for age, state in ((0, "running"), (3500, "running"), (3700, "crashed")):
        then = time.time() - age
        os.utime(file, (then, then))
        for source in (folder, folder, file):
            assert [run.state for run in load_runs(source) if run.file == str(file)] == [state]


def test_a_kept_run_that_was_alive_crashes_as_time_goes_by(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, *_ = sorted(many.rglob("run-*.wandb"))
    os.truncate(file, file.stat().st_size - 40)
    now = time.time()
    for later, state in ((0.0, "running"), (3700.0, "crashed"), (0.0, "running")):
        monkeypatch.setattr(offline.time, "time", lambda later=later: now + later)
        assert [run.state for run in load_runs(many) if run.file == str(file)] == [state]


def test_a_run_without_a_name_is_called_by_its_id(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [run.run for run in load_runs(theirs)]
    assert all(names)
    assert [run.name for run in load_runs(theirs)] == names
    assert load_history(theirs)["name"].unique().tolist() == names
    assert choose.main([str(theirs), "--metrics", "acc", "--rule", "max:acc"]) == 0
    assert f"{theirs}: {names[0]} by rule" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_source_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match=r"^SOURCE is an empty text: give a study's folder"):
        load_runs(source)


# -- what is kept


@pytest.fixture
def many(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same runs, where so few are worth to be kept."""
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(parquet_cache, "WORTHWHILE", 2)
    return Path(shutil.copytree(theirs, tmp_path / "wandb", symlinks=True))


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The run files that are read from now on."""
    seen: list[Path] = []
    read = offline.read_run_file

    def noted(path: Path) -> RunRecord | None:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(offline, "read_run_file", noted)
    return seen


def test_a_second_reading_takes_only_what_has_changed(many: Path, read_files: list[Path]) -> None:
    first = load_history(many)
    assert len(read_files) == 3
    pd.testing.assert_frame_equal(load_history(many), first)
    assert runs_table(load_runs(many))["size"].notna().all()
    assert len(read_files) == 3
    changed = read_files[1]
    os.truncate(changed, changed.stat().st_size - 40)
    again = load_runs(many)
    assert read_files[3:] == [changed]
    assert [run.state for run in again if run.file == str(changed)] == ["running"], "its end is cut off"


def test_a_run_that_is_gone_is_not_kept(many: Path, read_files: list[Path]) -> None:
    load_history(many)
    shutil.rmtree(read_files[0].parent)
    assert len(load_runs(many)) == 2
    assert len(load_runs(many)) == 2
    assert len(read_files) == 3


def test_what_is_kept_may_be_broken_or_of_another_version(many: Path, read_files: list[Path]) -> None:
    first = load_history(many)
    place = parquet_cache.place_of("offline", many.resolve())
    place.write_bytes(b"PAR1 nothing")
    pd.testing.assert_frame_equal(load_history(many), first)
    assert len(read_files) == 6


def test_where_nothing_can_be_kept_nothing_is_lost(many: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "file"))
    assert len(load_runs(many)) == 3


def test_a_metric_of_other_runs_is_not_given_to_a_run_that_never_logged_it(tmp_path: Path) -> None:
    runs = [
        RunRecord("a", file="a", columns=columns_of([{"epoch": 1, "f1": float("nan")}, {"epoch": 2, "f1": 0.5}])),
        RunRecord("b", file="b", columns=columns_of([{"epoch": 1, "loss": 1.0}]), read_summary=lambda: {"size": [1, "x", None]}),
        RunRecord("c", file="c"),
    ]
    parquet_cache.write(tmp_path / "x.parquet", [("m", run) for run in runs])
    back = [run for _, run in parquet_cache.read(tmp_path / "x.parquet")]
    assert [list(run.columns) for run in back] == [["epoch", "f1"], ["epoch", "loss"], []]
    assert repr([run.rows for run in back]) == repr([run.rows for run in runs])
    assert back[1].summary == {"size": [1, "x", None]}


# -- studies


def test_a_program_that_names_its_run_itself_is_one_run_of_its_trial(copied_study: Path, truth: list[Run], tmp_path: Path) -> None:
    with tracking.track(mode="offline", quiet=True, directory=copied_study / "trials" / truth[0].run, run_id="own") as tracker:
        for row in truth[0].epochs:
            tracker.log(Epoch(int(row["epoch"]), {"mine": 2.0}))
    written_out(copied_study)
    shutil.rmtree(next(copied_study.rglob(f"run-{truth[0].run}.wandb")).parent)
    found = load_runs(copied_study)
    assert [run.run for run in found] == [*(run.run for run in truth[1:]), truth[0].run]  # its client was started just now
    assert found[-1].columns["mine"].tolist() == [2.0] * len(truth[0].epochs)


@pytest.fixture
def copied_study(study_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study_folder, tmp_path / "tiny", symlinks=True))


@pytest.mark.parametrize("source", ["{folder}/none", "{folder}", "{folder}/empty"])
def test_a_bad_source_is_one_sentence(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no run|is no folder here"):
        load_runs(source.format(folder=tmp_path), Filters())


@pytest.mark.parametrize("fixed", [False, True])
def test_what_older_versions_added_to_a_trial_is_no_parameter_of_a_study_that_goes_on_now(fixed: bool, tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", study_name="s")
    own = {"best_metric": {"value": "mine"}} if fixed else {}
    study.set_user_attr(study_schema.SWEEP, {"program": "own.py", "parameters": {"lr": {"min": 0.0, "max": 1.0}, **own}})
    added = {"best_metric": "loss", "provenance": {"commit": None, "versions": {"python": "3"}}}
    for number, (old, rate) in enumerate(((True, 0.1), (True, 0.2), (False, 0.3))):
        trial = study.ask()
        config = {"lr": trial.suggest_float("lr", 0, 1), **({"best_metric": "mine"} if fixed else {}), **(added if old else {})}
        trial.set_user_attr(study_schema.RUN, {"id": f"r{number}", "config": config})
        study.tell(trial, rate)
    runs = offline.study_runs(tmp_path / "study.db")
    assert [run.engine for run in runs] == [added["provenance"], added["provenance"], {}]
    assert [set(run.config) for run in runs] == [{"lr", *own}] * 3
    assert fixed or differing_parameters(runs) == ["lr"]


def test_a_trial_that_failed_before_its_run_began_is_counted(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="s")
    for cause in ("the search space of space.py failed", study_schema.INTERRUPTED):
        trial = study.ask()
        trial.set_user_attr(study_schema.CAUSE, cause)
        study.tell(trial, state=TrialState.FAIL)
    study.ask()
    assert [(run.run, run.state) for run in offline.study_runs(tmp_path / "study.db")] == [("s-0", "failed")]


def test_broken_constraints_stand_in_the_order_in_which_the_sweep_states_them(tmp_path: Path) -> None:
    stated = ["rate >= 1", "`val acc` <= 0.5", "depth <= 2"]
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", study_name="ordered")
    study.set_user_attr(study_schema.SWEEP, {"search": {"constraints": stated}})
    trial = study.ask()
    trial.set_user_attr(study_schema.RUN, {"id": "a", "config": {}})
    for text in reversed(stated):
        trial.set_constraint(text, 1.0)
    study.tell(trial, 1.0)
    (run,) = load_runs(tmp_path)
    assert run.broken == stated
