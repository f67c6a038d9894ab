"""Names that we reserve mean what they do with us in runs of ours alone; in all others they are ordinary keys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.analysis import choose, diagnose, history, importance, pareto
from paretune.analysis.findings.confidence import configurations
from paretune.analysis.findings.parameters import tried
from paretune.analysis.history import load_runs
from paretune.analysis.sources.run_record import COLUMNS, RunRecord, column_of, columns_of, metric_of, runs_table, tidy
from paretune.core.provenance import written_by_us
from paretune.runs.sweep_outcome import SweepOutcome
from paretune.runs.wandb_files import ended
from paretune.search.engine import worker
from paretune.search.spec.sweep import read_sweep
from tests.analysis.truth import written_out
from tests.samples import start

RESERVED = {
    "classifier": "tree",
    "provenance": "a cellar",
    "evaluation_split": "test",
    "data": "mine",
    "average": "weighted",
    "best_metric": "other",
    "image_size": [3],
    "repeats": "many",
    "repeats_over": 5,
    "n_folds": "x",
    "fold": {"a": 1},
    "preset": "none",
    "holdout": 0.5,
}


@pytest.mark.parametrize(
    ("config", "ours"),
    [
        ({"classifier": "ann", "provenance": {"schema": 1}}, True),
        ({"classifier": "ann", "provenance": {"fingerprints": {"test": "x"}}}, True),
        ({"classifier": "ann", "provenance": {"commit": "x"}}, False),
        ({"classifier": "ann", "provenance": "schema"}, False),
        ({"classifier": "ann"}, False),
        ({"provenance": {"schema": 1}}, False),
        (RESERVED, False),
    ],
)
def test_a_run_of_ours_is_known_by_its_provenance(config: dict[str, Any], ours: bool) -> None:
    assert written_by_us(config) is ours
    assert RunRecord("a", config=config).ours is ours


@given(st.text(alphabet="metric.stateconfig", max_size=24) | st.sampled_from(COLUMNS).map(lambda name: f"metric.{name}"))
def test_every_metric_has_a_column_of_its_own_and_keeps_its_name(name: str) -> None:
    assert column_of(name) not in COLUMNS
    assert not column_of(name).startswith(("config.", "summary."))
    assert metric_of(column_of(name)) == name


@pytest.mark.parametrize("name", [*COLUMNS, "config.width", "summary.width", "metric.state", "last", "pruned", "paretune"])
def test_a_metric_of_any_name_overwrites_no_column_and_is_seen(name: str) -> None:
    plain = RunRecord("a", "called", "of", "swept", "finished", 5.0, "there", columns=columns_of([{"_step": 0, "loss": 1.0}]))
    logged = [{"_step": 0, "loss": 1.0, name: 3.0}, {"_step": 1, "loss": 0.5, name: 4.0}]
    named = RunRecord("a", "called", "of", "swept", "finished", 5.0, "there", {"width": 8}, columns_of(logged))
    for table, values in ((tidy([named]), [3.0, 4.0]), (runs_table([named]), [4.0])):
        assert table[column_of(name)].tolist() == values
        for column in tidy([plain]).columns.intersection(table.columns):
            if column not in ("epoch", "loss"):
                assert set(table[column]) == set(tidy([plain])[column]), column
    line = runs_table([named]).iloc[0]
    assert (line["epochs"], line["feasible"], line["baseline"], line["picked"]) == (2, True, False, False)
    in_summary = RunRecord("b", columns=columns_of([{"loss": 1.0}]), read_summary=lambda: {name: 7.0})
    assert runs_table([in_summary])[column_of(name)][0] == 7.0


def test_reserved_names_in_a_foreign_config_steer_nothing_and_stay_parameters() -> None:
    runs = [
        RunRecord(
            f"r{place}",
            state="finished",
            created=float(place),
            config={**RESERVED, "data": f"mine {place % 2}", "average": place, "fold": {"a": place}},
            columns=columns_of([{"_step": 0, "f1": place / 10, "precision": 0.5, "recall": 0.5, "test_accuracy": 0.5}]),
        )
        for place in range(4)
    ]
    table = runs_table(runs)
    assert table["evaluation_split"].tolist() == ["unknown"] * 4
    assert table[["classifier", "data", "average", "provenance.images"]].isin([""]).all().all()
    assert {"data", "average"} <= set(tried(runs).values)
    assert [one.n_images for one in configurations(runs, table)] == [None] * 4
    assert choose.choose(table, "f1", records=runs).run["run"] == "r3"
    assert tidy(runs)["config.provenance"].tolist() == ["a cellar"] * 4


@pytest.mark.parametrize(
    "summary", [{"pruned": 0.5}, {"pruned": 3, "feasible": False}, {"paretune": 1}, {"paretune": {"pruned": 3}}]
)
def test_a_foreign_summary_says_nothing_of_a_sweep(summary: dict[str, Any]) -> None:
    assert ended("finished", {}, summary) == "finished"
    assert ended("finished", {"classifier": "x"}, summary) == "finished"


def test_what_a_sweep_says_of_any_run_is_trusted() -> None:
    summary = SweepOutcome({"state": "minimize"}, True, False, 4).to_summary()
    assert ended("finished", {}, summary) == ended("killed", {}, summary) == "pruned"
    assert ended("running", {}, summary) == "running"
    run = RunRecord("a", read_summary=lambda: {**summary, "own": 1.0})
    assert run.summary == {"own": 1.0}
    ours = {"classifier": "ann", "provenance": {"schema": 1}}
    assert ended("finished", ours, {"pruned": 2}) == "pruned", "as older versions wrote it"
    assert RunRecord("a", config=ours, tags=["baseline"]).baseline
    assert not RunRecord("a", tags=["baseline"]).baseline


SCRIPT = """\
import wandb
for number in range(12):
    config = {**RESERVED, "average": number, "seed": number}
    with wandb.init(project="theirs", tags=["baseline"], config=config) as run:
        for step in range(8):
            run.log({"loss": 1 / (step + 1) + number / 10, "state": 0.5, "run": 2, "epochs": 70, "created": 1, "last": 5})
        run.summary["feasible"] = False
        run.summary["name"] = 5
        run.summary["pruned"] = 0.1
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a script whose every name is one of ours."""
    folder = tmp_path_factory.mktemp("reserved")
    (folder / "train.py").write_text(SCRIPT.replace("RESERVED", repr(RESERVED)))
    result = start("python", "train.py", cwd=folder, WANDB_MODE="offline", WANDB_SILENT="true")
    assert result.returncode == 0, result.stderr
    written_out(folder / "wandb")
    return folder / "wandb"


def test_every_step_takes_such_runs(theirs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = load_runs(theirs)
    assert {(run.state, run.feasible, run.baseline, run.ours) for run in runs} == {("finished", True, False, False)}
    aims = ["--metrics", "loss", "metric.run", "--goals", "minimize", "maximize"]
    assert history.main([str(theirs), "--to", str(tmp_path / "h.csv"), "--runs", str(tmp_path / "r.csv")]) == 0
    assert "metric.state" in (tmp_path / "h.csv").read_text().splitlines()[0]
    assert pareto.main([str(theirs), *aims]) == 0
    assert "1 of 12 finished runs are on the front" in capsys.readouterr().out
    assert choose.main([str(theirs), *aims, "--rule", "max:metric.state"]) == 0
    assert diagnose.main([str(theirs), "--train", "metric.epochs", "--test", "loss"]) == 0
    assert importance.main([str(theirs), "--metric", "loss"]) == 0
    assert "average" in capsys.readouterr().out


def test_a_name_of_ours_is_refused_as_a_metric_with_the_one_that_is_meant(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        pareto.main([str(theirs), "--metrics", "loss", "state", "--goals", "minimize", "minimize"])
    assert "metric.state" in capsys.readouterr().err
    assert math.isfinite(load_runs(theirs, history.Filters(metrics=["state"]))[0].columns["metric.state"][0])


OBJECTIVES = """\
import wandb
with wandb.init() as run:
    for step in range(3):
        run.log({"last": run.config["x"] + 1 / (step + 1), "state": run.config["x"], "epochs": 9})
"""


def test_objectives_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OBJECTIVES)
    metrics = "[{name: last, goal: minimize}, {name: state, goal: maximize}]"
    definition = f"program: {tmp_path}/train.py\nmethod: grid\nmetrics: {metrics}\nparameters: {{x: {{values: [1, 2]}}}}\n"
    (tmp_path / "own.yaml").write_text(definition)
    study = worker.run(read_sweep(tmp_path / "own.yaml"), trials=2, name="own", runs=tmp_path / "runs")
    assert [value for trial in study.trials for value in sorted(trial.values)] == pytest.approx([1, 4 / 3, 2, 7 / 3])
    for source in (tmp_path / "runs" / "own", f"sqlite:///{tmp_path}/runs/own/study.db"):
        runs = load_runs(source)
        assert {tuple(run.goals.items()) for run in runs} == {(("last", "minimize"), ("metric.state", "maximize"))}
        table = runs_table(runs).sort_values("metric.state")
        assert table["last"].tolist() == pytest.approx([1 + 1 / 3, 2 + 1 / 3])
        assert table["state"].tolist() == ["finished", "finished"]
        assert choose.choose(table, "knee", records=runs).metrics == ("last", "metric.state")
