"""Runs of one configuration: which they are, and that every step of the analysis says the same of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.analysis import choose as choose_step
from paretune.analysis import confidence as confidence_step
from paretune.analysis import pareto as pareto_step
from paretune.analysis import report as report_step
from paretune.analysis.choose import choose
from paretune.analysis.document.sections import front_table
from paretune.analysis.document.sweep_report import read_study
from paretune.analysis.findings.confidence import configurations, table_of
from paretune.analysis.findings.front import front_of
from paretune.analysis.findings.repeats import REPEATS, RUNS, configurations_in
from paretune.analysis.history import load_runs
from paretune.analysis.sources.run_record import RunRecord, runs_table
from paretune.models.registry import model_class
from paretune.models.run_config import configure, inactive_in, run_values
from tests.analysis.truth import written_out
from tests.samples import start

AIMS = {"acc": "maximize"}


def run_of(name: str, config: dict[str, Any], created: float = 0.0, **metrics: float) -> RunRecord:
    columns = {"epoch": np.array([1.0]), **{metric: np.array([value]) for metric, value in metrics.items()}}
    return RunRecord(name, state="finished", created=created, config=config, columns=columns, goals=AIMS)


def pair(one: dict[str, Any], other: dict[str, Any], **metrics: float) -> list[RunRecord]:
    """Return two runs, the later one with better scores unless `metrics` gives both the same."""
    return [run_of("a", one, 1.0, **(metrics or {"acc": 0.5})), run_of("b", other, 2.0, **(metrics or {"acc": 0.7}))]


def ours(classifier: str, **values: Any) -> dict[str, Any]:
    kind = model_class(classifier)
    parts = configure(kind, values)
    return {**run_values(kind, *parts), "provenance": {"fingerprints": {}, "inactive": inactive_in(*parts)}}


SAME: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no seed": ({"lr": 0.1}, {"lr": 0.1}, "runs"),
    "seed": ({"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1}, "seeds"),
    "one seed, other scores": ({"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 0}, "runs"),
    "random_state": ({"lr": 0.1, "random_state": 0}, {"lr": 0.1, "random_state": 42}, "seeds"),
    "randomSeed": ({"randomSeed": 3, "lr": 1}, {"lr": 1, "randomSeed": 4}, "seeds"),
    "SEED": ({"SEED": "3", "lr": 1}, {"lr": 1, "SEED": "4"}, "seeds"),
    "random-seed": ({"random-seed": 3, "lr": 1}, {"lr": 1, "random-seed": 4}, "seeds"),
    "train/seed": ({"train/seed": 3.0, "lr": 1}, {"lr": 1, "train/seed": 4.0}, "seeds"),
    "nested": ({"train": {"seed": 3, "lr": 1}}, {"train": {"lr": 1.0, "seed": 4}}, "seeds"),
    "two seeds": ({"data_seed": 3, "seed": 1, "lr": 1}, {"data_seed": 4, "seed": 1, "lr": 1}, "seeds"),
    "null seed": ({"seed": None, "lr": 1}, {"lr": 1, "seed": None}, "runs"),
    "fold": ({"lr": 0.1, "fold": 0}, {"lr": 0.1, "fold": 1}, "folds"),
    "lists, mappings and null": (
        {"hidden": [64, 32], "net": {"a": 1, "b": None}},
        {"net": {"b": None, "a": 1}, "hidden": [64, 32]},
        "runs",
    ),
    "a float that is whole": ({"batch": 16}, {"batch": 16.0}, "runs"),
    "the noise of a float": ({"lr": 0.3, "hidden": [0.1]}, {"lr": 0.1 + 0.2, "hidden": [0.1 + 1e-17]}, "runs"),
    "inactive under rbf": (ours("svm", degree=2), ours("svm", degree=3, coef0=1.0), "runs"),
    "momentum of adam": (ours("ann", momentum=0.1, seed=0), ours("ann", momentum=0.9, seed=1), "seeds"),
    "a preset's name": (ours("ann"), {**ours("ann"), "preset": "simple_cnn"}, "runs"),
}
DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another value": ({"lr": 0.1}, {"lr": 0.1001}),
    "True is not 1": ({"flag": True}, {"flag": 1}),
    "a text is no number": ({"batch": "16"}, {"batch": 16}),
    "null is not missing": ({"clip": None, "lr": 1}, {"lr": 1}),
    "another order of a list": ({"hidden": [64, 32]}, {"hidden": [32, 64]}),
    "whether a seed is set": ({"use_seed": True, "seed": True}, {"use_seed": False, "seed": False}),
    "a number that is no seed": ({"seed": 0.25}, {"seed": 0.5}),
    "how many folds": ({"n_folds": 5}, {"n_folds": 10}),
    "no config": ({}, {}),
    "the images of ours": (ours("ann", split_seed=0), ours("ann", split_seed=1)),
    "momentum of sgd": (ours("ann", optimizer="sgd", momentum=0.1), ours("ann", optimizer="sgd", momentum=0.9)),
}


@pytest.mark.parametrize(("one", "other", "over"), SAME.values(), ids=SAME)
def test_what_is_one_configuration_is_a_mean_of_its_repeats(one: dict[str, Any], other: dict[str, Any], over: str) -> None:
    runs = pair(one, other)
    (found,) = configurations_in(runs_table(runs), runs)
    assert (found.runs, found.repeats, found.over) == (("a", "b"), ("a", "b"), over)
    (estimate,) = configurations(runs, runs_table(runs))
    assert (estimate.means["acc"], estimate.n_repeats, estimate.over) == (0.6, 2, over)
    choice = choose(runs_table(runs), "max:acc", AIMS, records=runs)
    assert (choice.run["run"], choice.run["acc"], choice.candidates) == ("a", 0.6, ["a"])
    assert "means over 2 runs of one configuration" in choice.reason
    assert choose(runs_table(runs), "run:b", AIMS, records=runs).run["acc"] == 0.7, "a named run stands for itself"


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_two_configurations(one: dict[str, Any], other: dict[str, Any]) -> None:
    runs = pair(one, other)
    assert [found.runs for found in configurations_in(runs_table(runs), runs)] == [("a",), ("b",)]
    assert choose(runs_table(runs), "max:acc", AIMS, records=runs).run["run"] == "b"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ours("svm", degree=2), ours("svm", degree=3)),
        (ours("svm", seed=0), ours("svm", seed=1)),
        (ours("ann", momentum=0.1), ours("ann", momentum=0.5)),
        ({"lr": 0.1}, {"lr": 0.1}),
        ({"lr": 0.1, "seed": 1}, {"lr": 0.1, "seed": 1}),
    ],
)
def test_copies_count_once_and_claim_no_spread(one: dict[str, Any], other: dict[str, Any]) -> None:
    runs = pair(one, other, acc=0.9, loss=0.25)
    runs[1].columns["seconds"] = np.array([3.0])
    (found,) = configurations_in(runs_table(runs), runs)
    assert (found.runs, found.repeats, found.over) == (("a", "b"), ("a",), "")
    (estimate,) = configurations(runs, runs_table(runs))
    assert (estimate.runs, estimate.n_repeats, estimate.interval("acc")) == (("a", "b"), 1, None)
    front, _ = front_of(runs_table(runs), ["acc"], ["maximize"], runs)
    assert (front["run"].tolist(), front[RUNS].tolist(), front[REPEATS].tolist()) == (["a"], [("a", "b")], [("a",)])


def test_repeats_that_agree_in_part_all_count_where_no_seed_is_known() -> None:
    runs = [run_of(name, {"lr": 1}, acc=value) for name, value in zip("abc", (0.5, 0.5, 0.8), strict=True)]
    (found,) = configurations_in(runs_table(runs), runs)
    assert found.repeats == ("a", "b", "c")


def test_repeats_of_other_seeds_count_though_they_agree() -> None:
    runs = [run_of(name, {"lr": 1, "seed": place}, acc=0.5) for place, name in enumerate("abc")]
    (found,) = configurations_in(runs_table(runs), runs)
    assert (found.repeats, found.over) == (("a", "b", "c"), "seeds")


def test_a_configuration_whose_run_breaks_a_constraint_is_a_mean_of_the_others() -> None:
    runs = [
        run_of(name, {"lr": 1}, place, acc=value) for place, (name, value) in enumerate(zip("abc", (0.9, 0.5, 0.7), strict=True))
    ]
    runs[0].feasible = False
    front, left_out = front_of(runs_table(runs), ["acc"], ["maximize"], runs)
    assert (front["run"].tolist(), front["acc"].tolist()) == (["b"], [0.6])
    assert sum(left_out.values()) == 1


def test_the_earliest_run_stands_for_a_configuration_in_whatever_order_sources_are_given() -> None:
    runs = [run_of("later", {"lr": 1}, 9.0, acc=0.9), run_of("first", {"lr": 1}, 1.0, acc=0.5)]
    for given in (runs, runs[::-1]):
        assert choose(runs_table(given), "max:acc", AIMS, records=given).run["run"] == "first"


def test_equal_means_are_equal_numbers() -> None:
    runs = [run_of(f"a{value}", {"lr": 1}, 1, acc=value) for value in (0.1, 0.2, 0.6)]
    runs += [run_of(f"b{value}", {"lr": 2}, 2, acc=value) for value in (0.6, 0.2, 0.1)] + [run_of("c", {"lr": 3}, 3, acc=0.3)]
    front, _ = front_of(runs_table(runs), ["acc"], ["maximize"], runs)
    assert front["acc"].tolist() == [0.3, 0.3, 0.3]
    assert front["on_front"].all()


def test_another_programs_repeats_key_is_an_ordinary_one() -> None:
    runs = pair({"repeats": 4, "provenance": "mine"}, {"repeats": "many"})
    assert [estimate.n_repeats for estimate in configurations(runs, runs_table(runs))] == [1, 1]


SCRIPT = """\
import sys, wandb
for width, score in ((8, 0.80), (16, 0.90), (8, 0.96), (16.0, 0.92), (8, 0.88), (32, 0.5)):
    config = {"width": width, "hidden": [width, 4], "net": {"clip": None}}
    with wandb.init(project="theirs", config=config) as run:
        run.log({"val/acc": score, "ms": 5.0 - score})
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders of runs of a script without a seed: width 8 has the luckiest run (0.96), width 16 the better mean (0.91)."""
    folders = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "train.py").write_text(SCRIPT)
        result = start(sys.executable, "train.py", cwd=folder, WANDB_MODE="offline", WANDB_SILENT="true", closed=True)
        assert result.returncode == 0, result.stderr
        written_out(folder / "wandb")
        folders.append(folder / "wandb")
    return folders


WEIGHED = ["--metrics", "val/acc", "ms", "--goals", "maximize", "minimize"]


def test_every_command_takes_the_mean_of_a_scripts_repeats(
    theirs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(theirs[0])
    runs = load_runs(source)
    names = [[run.name for run in runs if run.config["width"] == width] for width in (8, 16, 32)]
    assert choose_step.main([source, *WEIGHED, "--rule", "max:val/acc"]) == 0
    said = capsys.readouterr().out
    assert f"{names[1][0]} (" in said
    assert "highest val/acc, 0.9100, of 1 configuration on the front; its values are means over 2 runs of one configuration" in said
    assert "how sure: " in said
    assert pareto_step.main([source, *WEIGHED]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].split() == ["run", "name", "val/acc", "ms", "epoch", "runs"]
    assert said.splitlines()[1].split()[-1] == "2"
    assert "0.9100" in said.splitlines()[1]
    assert "1 of 3 configurations of 6 finished runs are on the front" in said
    assert confidence_step.main([source, *WEIGHED]) == 0
    said = capsys.readouterr().out
    assert f"{names[1][0]}" in said
    assert "0.9100 [" in said
    study = read_study(source, "max:val/acc", tmp_path, ["val/acc", "ms"], ["maximize", "minimize"])
    assert study.choice.run["run"] == study.marked
    (table,) = front_table(study)
    assert table.rows[0][1:] == ["0.9100"]
    assert ["runs", "2"] in table.rows
    shown = [*WEIGHED, "--rule", "max:val/acc", "--models", str(tmp_path), "--to", str(tmp_path / "report")]
    assert report_step.main([source, *shown]) == 0
    assert "1 of 3 configurations of 6 finished runs on the val/acc and ms front" in capsys.readouterr().out


def test_runs_of_several_sources_are_repeats_and_a_run_given_twice_is_one(
    theirs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = map(str, theirs)
    for sources in ([first, second], [second, first, first]):
        assert pareto_step.main([*sources, *WEIGHED]) == 0
        assert "1 of 3 configurations of 12 finished runs are on the front" in capsys.readouterr().out
    runs = [run for source in theirs for run in load_runs(source)]
    table, _ = table_of(runs, {"val/acc": "maximize", "ms": "minimize"})
    assert table["repeats"].tolist() == [4]


def test_a_run_that_its_study_knows_to_be_ours_is_read_as_ours() -> None:
    # a study's record of a run lacks its provenance
    of_study = [
        run_of(name, {"classifier": "ann", "split_seed": place, "repeats": 3}, place, acc=0.5) for place, name in enumerate("ab")
    ]
    assert len(configurations_in(runs_table(of_study), of_study)) == 1, "a program of a person's own may call its seed so"
    for run in of_study:
        run.ours = True
    assert len(configurations_in(runs_table(of_study), of_study)) == 2, "ours draws other images by it"
    assert [estimate.n_repeats for estimate in configurations(of_study, runs_table(of_study))] == [3, 3]
