"""Which runs stand on a front and by which metrics, and the command that shows it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from paretune.analysis import pareto
from paretune.analysis.findings.aims import candidates_by, default_metrics, goals_of, stated_goals
from paretune.analysis.findings.candidates import candidates
from paretune.analysis.findings.front import front_of
from paretune.analysis.findings.repeats import REPEATS, RUNS
from paretune.analysis.history import RunRecord, load_runs, runs_table
from paretune.analysis.sources.run_record import columns_of
from paretune.core.errors import UsageError
from tests.analysis.findings.test_front import by_definition
from tests.analysis.reading import Page, is_a_drawing
from tests.analysis.tables import runs_of, scored


def test_runs_that_did_not_finish_or_have_no_value_are_left_out_and_counted() -> None:
    table = runs_of(
        scored(0.5, 0.5),
        scored(0.9, 0.9, state="pruned"),
        scored(0.9, 0.9, state="failed"),
        scored(0.9, 0.9, state="pruned"),
        scored(0.9, 0.9, state="running"),
        scored(float("nan"), 0.9),
        scored(0.9, float("inf")),
    )
    rest, left_out = candidates(table, ["precision", "recall"])
    assert rest["run"].tolist() == ["a"]
    reasons = {"without a finite precision: run-f": 1, "with infinite recall: run-g": 1}
    assert left_out == {"pruned": 2, "failed": 1, "running": 1, **reasons}


def test_of_many_runs_without_a_value_ten_are_named_and_all_are_counted() -> None:
    nan = float("nan")
    _, left_out = candidates(runs_of(scored(0.5, 0.5), *[scored(nan, nan)] * 13), ["precision", "recall"])
    named = ", ".join(f"run-{letter}" for letter in "bcdefghijk")
    assert left_out == {f"without a finite precision and recall: {named} and 3 more": 13}


def test_other_peoples_runs_stand_on_one_front_whatever_their_keys_mean() -> None:
    own = {"evaluation_split": "unknown", "val_loss": 0.5}
    table = runs_of({**own, "data": "a.csv", "val_acc": 0.9}, {**own, "data": "b.csv", "val_acc": 0.8})
    front, _ = front_of(table, ["val_acc", "val_loss"])
    assert front["on_front"].tolist() == [True, False]
    with pytest.raises(UsageError, match=r"different data sets \(a.csv, b.csv\)"):
        candidates(runs_of(scored(1, 1, data="a.csv"), scored(1, 1, data="b.csv")), ["precision"])


def test_a_flag_of_the_runs_is_no_metric() -> None:
    with pytest.raises(
        UsageError, match=r"no run has the metric 'precision'; there are loss: name those to weigh, as in --metrics loss\."
    ):
        candidates(runs_of({"loss": 1.0, "baseline": True}), ["precision", "recall"])


# -- which metrics, and which way


def of_sweep(**goals: str) -> RunRecord:
    return RunRecord("a", goals=goals)


def test_by_default_the_objectives_of_the_sweep_are_weighed() -> None:
    two = {"n_parameters": "minimize", "x": "maximize"}
    assert default_metrics([of_sweep(**two), of_sweep(**two), of_sweep()]) == ("n_parameters", "x")
    for runs in ([of_sweep()], [of_sweep(**two), of_sweep(f1="maximize", x="maximize")]):
        assert default_metrics(runs) == ("precision", "recall")


def test_one_objective_is_weighed_alone_where_precision_and_recall_are_not_logged() -> None:
    ours = RunRecord("a", goals={"f1": "maximize"}, columns={name: np.ones(1) for name in ("precision", "recall", "f1")})
    assert default_metrics([ours]) == ("precision", "recall")
    assert default_metrics([of_sweep(loss="minimize")]) == ("loss",)


def test_a_run_that_breaks_a_constraint_of_its_sweep_is_no_candidate() -> None:
    table = runs_of(scored(0.9, 0.9, feasible=False), scored(0.5, 0.5, feasible=True))
    rest, left_out = candidates(table, ["precision", "recall"])
    assert rest["run"].tolist() == ["b"]
    assert [(key.partition(":")[0], count) for key, count in left_out.items()] == [("breaking a constraint of the sweep", 1)]


def test_a_run_that_diverged_is_no_candidate_though_its_scores_are_finite() -> None:
    rows = {"fine": 0.3, "lost": math.nan, "away": math.inf}
    runs = [
        RunRecord(
            name,
            state="finished",
            config={"classifier": "ann", "provenance": {"schema": 1}, "evaluation_split": "holdout"},
            columns=columns_of([{"epoch": 1.0, "train_loss": loss, "test_loss": loss, "precision": 0.5, "recall": 0.5, "f1": 0.5}]),
        )
        for name, loss in rows.items()
    ]
    front, left_out = front_of(runs_table(runs))
    assert front["run"].tolist() == ["fine"]
    assert left_out == {"whose loss is not finite: lost, away": 2}
    with pytest.raises(UsageError, match="2 whose loss is not finite: lost, away"):
        front_of(runs_table(runs[1:]))
    scores = {name: column for name, column in runs[0].columns.items() if "loss" not in name}
    without = RunRecord("svm", state="finished", config=runs[0].config, columns=scores)
    assert front_of(runs_table([runs[0], without]))[0]["run"].tolist() == ["fine", "svm"]


def test_what_the_sweep_states_goes_before_what_a_name_tells() -> None:
    stated = stated_goals([of_sweep(f1="minimize"), of_sweep(x="minimize"), of_sweep()])
    assert goals_of(["f1", "x", "test_loss", "val/acc"], stated) == ["minimize", "minimize", "minimize", "maximize"]
    with pytest.raises(UsageError, match="whether y and z shall be maximized or minimized: say it with --goals"):
        goals_of(["f1", "y", "x", "z"], stated)
    with pytest.raises(UsageError, match="one sweep here maximizes x and another minimizes it"):
        stated_goals([of_sweep(x="minimize"), of_sweep(x="maximize")])


def test_a_run_without_a_value_that_is_not_weighed_stays() -> None:
    rest, left_out = candidates(runs_of(scored(0.5, 0.5, test_loss=float("nan"))), ["precision", "recall"])
    assert len(rest) == 1
    assert left_out == {}


def test_where_no_finished_run_is_left_the_reasons_are_said() -> None:
    with pytest.raises(UsageError, match=r"no run has finished yet \(2 pruned, 1 failed\): run the sweep further first"):
        candidates(
            runs_of(scored(1, 1, state="pruned"), scored(1, 1, state="pruned"), scored(1, 1, state="failed")),
            ["precision", "recall"],
        )


def test_runs_scored_on_the_locked_test_part_are_refused() -> None:
    with pytest.raises(UsageError, match="locked test part cannot be compared"):
        candidates(runs_of(scored(1, 1, evaluation_split="test")), ["precision"])


@pytest.mark.parametrize("other", ["test", "unknown"])
def test_a_mix_of_evaluation_splits_is_refused(other: str) -> None:
    with pytest.raises(UsageError, match=r"locked test part|different evaluation splits \(holdout, unknown\)"):
        candidates(runs_of(scored(1, 1), scored(1, 1, evaluation_split=other)), ["precision"])


def test_a_pruned_run_of_another_split_does_not_spoil_the_comparison() -> None:
    assert len(candidates(runs_of(scored(1, 1), scored(1, 1, evaluation_split="test", state="pruned")), ["precision"])[0]) == 1


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("presicion", "did you mean 'precision'"),
        ("zzz", "there are .*precision, recall, f1"),
        ("name", "no run has the metric 'name'"),
    ],
)
def test_an_unknown_metric_is_refused_with_a_suggestion(metric: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        candidates(runs_of(scored(1, 1)), [metric, "recall"])


def test_goals_are_known_by_the_metrics_names() -> None:
    table = runs_of(scored(0.9, 0.5, test_loss=0.3), scored(0.8, 0.5, test_loss=0.1), scored(0.8, 0.5, test_loss=0.2))
    front, _ = front_of(table, ["precision", "test_loss"])
    assert front["on_front"].tolist() == [True, True, False]
    front, _ = front_of(table, ["precision", "test_loss"], ["maximize", "maximize"])
    assert front["on_front"].tolist() == [True, False, False]


def test_the_front_of_a_sweep_is_that_of_its_finished_runs(study_folder: Path) -> None:
    table = runs_table(load_runs(study_folder))
    front, left_out = front_of(table)
    assert left_out == {"pruned": 1}
    done = table[table["state"] == "finished"]
    expected = by_definition(done[["precision", "recall"]].to_numpy(), ["maximize", "maximize"])
    assert front["on_front"].tolist() == expected
    pd.testing.assert_frame_equal(front.drop(columns=["on_front", RUNS, REPEATS]), done)


# -- the command


def test_the_command_prints_the_front_and_what_was_left_out(
    study_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "front.png"
    assert pareto.main([str(study_folder), "--figure", str(picture)]) == 0
    out = capsys.readouterr().out
    front, _ = front_of(runs_table(load_runs(study_folder)))
    for run, on_front in zip(front["run"], front["on_front"], strict=True):
        assert (run in out) == on_front
    n_front = int(front["on_front"].sum())
    assert f"{n_front} of 4 finished runs are on the front (precision maximized, recall maximized; scored on the holdout)" in out
    assert "left out: 1 pruned" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_takes_any_number_of_metrics_and_their_goals(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--metrics", "f1", "test_loss", "seconds", "--goals", "minimize", "maximize", "maximize"]
    assert pareto.main([str(study_folder), *arguments]) == 0
    assert "f1 minimized, test_loss maximized, seconds maximized" in capsys.readouterr().out


def test_the_command_says_the_hypervolume_and_where_it_begins(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from optuna._hypervolume import compute_hypervolume

    front, _ = front_of(runs_table(load_runs(study_folder)))
    values = front[["precision", "recall"]].to_numpy(dtype=float)
    arguments = ["--metrics", "precision", "recall", "--reference", "0.1", "0.2"]
    assert pareto.main([str(study_folder), *arguments]) == 0
    area = compute_hypervolume(-values, np.array([-0.1, -0.2]))
    out = capsys.readouterr().out
    assert f"hypervolume {area:.6g}, from the reference point precision 0.1, recall 0.2 (as given)\n" in out
    assert f"{area:.4g} (after 4)\n" in out
    assert pareto.main([str(study_folder)]) == 0
    worst = f"precision {values[:, 0].min():.6g}, recall {values[:, 1].min():.6g} (the worst of each among the finished runs"
    assert worst in capsys.readouterr().out


def test_a_reference_point_that_no_run_passes_is_remarked_on(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remark = "no run is better than the reference point in every metric, so that nothing is measured: give a worse one.\n"
    for reference, said in ((["2", "2"], True), (["0", "0"], False)):
        assert pareto.main([str(study_folder), "--reference", *reference]) == 0
        assert (remark in capsys.readouterr().out) == said


def logged(name: str, value: float) -> RunRecord:
    """A run of another program that logged one value under three names."""
    columns = {"epoch": np.ones(1), **{metric: np.array([value]) for metric in ("own", "other", "third")}}
    return RunRecord(name, f"run-{name}", state="finished", config={"width": value}, columns=columns)


@pytest.mark.parametrize(
    ("metrics", "goals", "names"),
    [
        (["own", "other"], ["maximize", "minimize"], ["run-c", "run-a", "run-b"]),
        (["own", "other"], ["minimize", "maximize"], ["run-b", "run-a", "run-c"]),
        (["other", "own"], ["minimize", "maximize"], ["run-b", "run-a", "run-c"]),
    ],
)
def test_the_front_is_printed_from_the_best_by_its_first_metric(
    metrics: list[str], goals: list[str], names: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pareto, "sources_of", lambda _: [logged("a", 2.0), logged("b", 1.0), logged("c", 3.0)])
    assert pareto.main(["somewhere", "--metrics", *metrics, "--goals", *goals]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [word for line in lines for word in line.split() if word.startswith("run-")] == names


@pytest.mark.parametrize(("metrics", "drawn"), [(["own", "other"], "front"), (["own", "other", "third"], "pairs")])
def test_two_metrics_are_drawn_as_one_front_and_more_in_pairs(
    metrics: list[str], drawn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(pareto, "sources_of", lambda _: [logged("a", 2.0), logged("b", 1.0)])
    monkeypatch.setattr(pareto, "pareto_figure", lambda *_: "front")
    monkeypatch.setattr(pareto, "pairs_figure", lambda *_: "pairs")
    monkeypatch.setattr(pareto, "save_figure", lambda figure, path: saved.append(figure))
    goals = ["maximize"] * len(metrics)
    assert pareto.main(["x", "--metrics", *metrics, "--goals", *goals, "--figure", str(tmp_path / "a.png")]) == 0
    assert saved == [drawn]


def test_a_metric_that_is_asked_for_alone_is_named_by_its_own_flag() -> None:
    runs = [RunRecord("a", state="finished", columns={"loss": np.ones(1)})]
    with pytest.raises(UsageError, match=r"there are loss: name those to weigh, as in --metric loss\.$"):
        candidates_by(runs, "f1")
    table, goal = candidates_by(runs, "loss")
    assert (table["loss"].tolist(), goal) == ([1.0], "minimize")


def test_the_command_draws_pairs_the_hypervolume_and_a_page(study_folder: Path, tmp_path: Path) -> None:
    files = [tmp_path / "new" / name for name in ("pairs.png", "volume.png", "front.html")]
    flags = zip(("--figure", "--hypervolume", "--html"), map(str, files), strict=True)
    metrics = ["f1", "test_loss", "seconds"]
    assert pareto.main([str(study_folder), "--metrics", *metrics, *itertools.chain(*flags)]) == 0
    assert all(is_a_drawing(file) for file in files[:2])
    page = Page(files[2])
    assert page.loaded() == []
    run = load_runs(study_folder)[0]
    text = files[2].read_text(encoding="utf-8")
    assert run.name in text
    assert f"batch_size: {run.config['batch_size']}" in text


def test_a_sweep_of_another_objective_is_told_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage, study_name="own")
    study.set_user_attr("goals", {"loss": "minimize"})
    trial = study.ask()
    trial.set_user_attr("run", {"id": "a", "host": "here", "path": None, "config": {}})
    trial.set_user_attr("epoch:1", {"loss": 0.5, "cost": 2.0})
    study.tell(trial, 0.5)
    for arguments, sentence in (
        (
            ["--metrics", "precision"],
            "no run has the metric 'precision'; there are cost, loss: name those to weigh, as in --metrics cost.",
        ),
        (["--metrics", "loss", "cost"], "whether cost shall be maximized or minimized: say it with --goals"),
    ):
        with pytest.raises(SystemExit, match="2"):
            pareto.main([str(tmp_path), *arguments])
        assert sentence in capsys.readouterr().err
    assert pareto.main([str(tmp_path)]) == 0
    assert "1 of 1 finished run is on the front (loss minimized" in capsys.readouterr().out
    assert pareto.main([str(tmp_path), "--metrics", "loss", "cost", "--goals", "minimize", "minimize"]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 finished run is on the front (loss minimized, cost minimized; the runs do not say on which images)" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--metrics", "presicion"], "did you mean 'precision'?"),
        (
            ["--metrics", "precision", "recall", "--goals", "maximize"],
            "--goals must be one per metric, 2 (precision, recall). Got 1.",
        ),
        (["--goals", "maximize"], "--goals must come with --metrics, one for each"),
        (["--reference", "1", "2", "3"], "--reference must be one per metric, 2 (precision, recall). Got 3."),
        (["--reference", "0", "nan"], "--reference must be finite. Got 0.0, nan."),
        (["--reference", "0", "x"], "--reference"),
        (["--metrics", "f1", "recall", "f1"], "--metrics must name each metric once. Got f1 twice."),
        (["--metrics", "f1", "--figure", "front.png"], "--figure draws two metrics or more. Got 1."),
        (["--metrics", "f1", "--html", "front.html"], "--html draws two metrics or more. Got 1."),
        (["--html", "front.png"], "--html must end in .html. Got front.png."),
        (["--html", "/dev/null/front.html"], "/dev/null/front.html cannot be written"),
        (["--figure", "front.txt"], "front.txt must end in .png, .svg or .pdf."),
        (["--goals", "maximise", "maximize"], "maximise"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        pareto.main([str(study_folder), *arguments])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def scored_on(name: str, test: str, held: str = "h", **config: Any) -> RunRecord:
    origin = {"fingerprints": {"test": test, "holdout": held}}
    columns = {metric: np.array([0.5]) for metric in ("epoch", "precision", "recall", "f1")}
    config = {"classifier": "ann", "evaluation_split": "holdout", "provenance": origin, **config}
    return RunRecord(name, name, state="finished", columns=columns, config=config)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (scored_on("a", "t1"), scored_on("b", "t2")),
        (scored_on("a", "t1", "h1"), scored_on("b", "t1", "h2")),
        (scored_on("a", "t1", n_folds=4), scored_on("b", "t1", n_folds=5)),
        (scored_on("a", "t1", n_folds=4), scored_on("b", "t1")),
        (scored_on("a", "t1", image_size=8), scored_on("b", "t2", image_size=8)),
    ],
)
def test_runs_scored_on_other_images_do_not_stand_on_one_front(first: RunRecord, second: RunRecord) -> None:
    with pytest.raises(UsageError, match=r"runs must be scored on the same images to be compared. Those of a and b differ"):
        candidates(runs_table([first, second]), ["precision", "recall"])


@pytest.mark.parametrize(
    "second",
    [
        scored_on("b", "t1"),
        scored_on("b", "t2", "h2", image_size=16),
        replace(scored_on("b", "other"), config={"evaluation_split": "holdout", "provenance": {"fingerprints": "anything"}}),
        replace(scored_on("b", "t1"), config={"classifier": "ann", "evaluation_split": "holdout"}),
    ],
)
def test_runs_on_the_same_images_in_other_sizes_or_of_unknown_ones_do(second: RunRecord) -> None:
    found, _ = candidates(runs_table([scored_on("a", "t1"), second]), ["precision", "recall"])
    assert len(found) == 2


def test_folds_of_one_cut_are_compared() -> None:
    runs = [scored_on(str(fold), "t", f"h{fold}", n_folds=4, fold=fold) for fold in range(4)]
    assert len(candidates(runs_table(runs), ["precision", "recall"])[0]) == 4
