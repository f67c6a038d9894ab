"""Each rule on tables made by hand: the run that it takes, and the reason that it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paretune.analysis import choose as step
from paretune.analysis.choose import aims_by, choose
from paretune.analysis.history import RunRecord, load_runs, runs_table
from paretune.core.errors import UsageError
from tests.analysis.tables import OURS, runs_of, scored

# a, b and c are the front; d is dominated and e was stopped early, both with tempting scores
TABLE = runs_of(
    scored(0.95, 0.50, f1=0.60, test_loss=0.30, seconds=9.0, n_parameters=650.0),
    scored(0.80, 0.80, f1=0.80, test_loss=0.20, seconds=5.0, n_parameters=650.0),
    scored(0.50, 0.95, f1=0.60, test_loss=0.10, seconds=7.0, n_parameters=650.0),
    scored(0.40, 0.40, f1=0.99, test_loss=0.01, seconds=1.0, n_parameters=10.0),
    scored(1.00, 1.00, f1=1.00, test_loss=0.00, seconds=1.0, n_parameters=10.0, state="pruned"),
)
NAN = float("nan")


@pytest.mark.parametrize(
    ("rule", "chosen", "reason"),
    [
        ("f1", "b", "highest f1, 0.8000, of 3 runs on the front"),
        ("max:f1", "b", "highest f1, 0.8000, of 3 runs on the front"),
        ("max:precision", "a", "highest precision, 0.9500, of 3 runs on the front"),
        ("max:recall", "c", "highest recall, 0.9500, of 3 runs on the front"),
        ("min:test_loss", "c", "lowest test_loss, 0.1000, of 3 runs on the front"),
        ("min:seconds", "b", "lowest seconds, 5.0000, of 3 runs on the front"),
        ("knee", "b", "nearest to the best precision and recall of the front, of 3 runs"),
    ],
)
def test_a_rule_takes_its_run_from_the_front_and_says_why(rule: str, chosen: str, reason: str) -> None:
    choice = choose(TABLE, rule)
    assert choice.run["run"] == chosen
    assert choice.reason == reason
    assert choice.rule == rule
    assert choice.candidates == ["a", "b", "c"]
    assert choice.left_out == {"pruned": 1}


def test_the_knee_weighs_each_metric_by_its_span_over_the_front() -> None:
    # unscaled, b would be nearest: recall spans 0.02 alone, and c has nearly all of it
    table = runs_of(scored(0.9, 0.50), scored(0.80, 0.502), scored(0.7, 0.518), scored(0.5, 0.52))
    assert choose(table, "knee").run["run"] == "c"


def test_distances_of_the_knee_that_differ_by_rounding_are_equal() -> None:
    table = runs_of(scored(0.6, 0.885), scored(0.68, 0.845), scored(0.72, 0.825), scored(0.8, 0.785))
    choice = choose(table, "knee")
    assert choice.run["run"] == "c"
    assert choice.reason.endswith("of 4 runs; of 2 equals the one of higher precision")


def test_of_two_runs_of_one_name_an_id_says_which() -> None:
    table = TABLE.assign(name=["same", "same", "c", "d", "e"])
    with pytest.raises(UsageError, match="2 runs have the name same: give an id, run:a or run:b"):
        choose(table, "run:same")
    assert choose(table, "run:b").run["run"] == "b"


def test_a_metric_named_like_a_column_is_suggested() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'metric\.runs'"):
        choose(TABLE.assign(**{"metric.runs": 1.0}), "min:runs")


def test_the_knee_of_a_metric_that_is_equal_over_the_front_is_its_best_run() -> None:
    assert choose(runs_of(scored(0.9, 0.9)), "knee").run["run"] == "a"
    assert choose(runs_of(scored(0.9, 0.9), scored(0.9, 0.9)), "knee").reason.endswith("of 2 equals the earlier one")


def test_the_knee_knows_that_a_loss_is_minimized() -> None:
    table = runs_of(scored(0.9, 0, test_loss=0.9), scored(0.8, 0, test_loss=0.2), scored(0.1, 0, test_loss=0.1))
    assert choose(table, "knee", ["precision", "test_loss"]).run["run"] == "b"


@pytest.mark.parametrize(
    ("losses", "sizes", "chosen"),
    [
        ([0.2, 0.1, 0.3], [1.0, 9.0, 1.0], "b"),
        ([0.2, 0.2, 0.3], [9.0, 5.0, 1.0], "b"),
        ([NAN, NAN, NAN], [9.0, 5.0, 1.0], "c"),
        ([NAN, NAN, 0.9], [1.0, 5.0, 9.0], "c"),
        ([0.2, 0.2, 0.2], [5.0, 5.0, 5.0], "a"),
        ([NAN, NAN, NAN], [NAN, NAN, NAN], "a"),
    ],
    ids=["lower loss", "fewer parameters", "fewer without a loss", "a loss before none", "earlier", "earlier without numbers"],
)
@pytest.mark.parametrize("rule", ["f1", "knee", "max:precision", "min:seconds"])
def test_of_equals_the_lower_loss_then_the_smaller_then_the_earlier(
    rule: str, losses: list[float], sizes: list[float], chosen: str
) -> None:
    table = runs_of(
        *(
            scored(0.9, 0.9, f1=0.9, seconds=1.0, test_loss=loss, n_parameters=size)
            for loss, size in zip(losses, sizes, strict=True)
        )
    )
    assert choose(table, rule).run["run"] == chosen


def test_of_equals_the_earlier_where_there_is_neither_loss_nor_size() -> None:
    assert choose(runs_of(scored(0.9, 0.9), scored(0.9, 0.9))).run["run"] == "a"


@pytest.mark.parametrize(
    ("losses", "sizes", "words"),
    [
        ([0.1, 0.2, 0.9], [5.0, 5.0, 5.0], "of 2 equals the one of lower test_loss"),
        ([0.1, 0.1, 0.9], [5.0, 4.0, 5.0], "of 2 equals the one of fewer parameters"),
        ([NAN, NAN, 0.9], [5.0, 4.0, 5.0], "of 2 equals the one of fewer parameters"),
        ([0.1, 0.1, 0.9], [5.0, 5.0, 5.0], "of 2 equals the earlier one"),
    ],
)
def test_the_reason_names_what_told_equals_apart(losses: list[float], sizes: list[float], words: str) -> None:
    table = runs_of(
        scored(0.9, 0.9, f1=0.9, test_loss=losses[0], n_parameters=sizes[0]),
        scored(0.9, 0.9, f1=0.9, test_loss=losses[1], n_parameters=sizes[1]),
        scored(0.95, 0.8, f1=0.8, test_loss=losses[2], n_parameters=sizes[2]),
    )
    assert choose(table).reason == f"highest f1, 0.9000, of 3 runs on the front; {words}"


@pytest.mark.parametrize(
    ("rule", "chosen", "where"),
    [
        ("run:b", "b", "it is on the front"),
        ("run:run-c", "c", "it is on the front"),
        ("run:d", "d", "it is not on the front"),
    ],
)
def test_a_person_may_name_a_run_by_id_or_name_and_is_told_where_it_stands(rule: str, chosen: str, where: str) -> None:
    choice = choose(TABLE, rule)
    assert choice.run["run"] == chosen
    assert choice.reason == f"named by the person; {where}"
    assert choice.candidates == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("knees", "rule 'knees' is not known; did you mean 'knee'?"),
        ("best", "rule 'best' is not known; there are f1, knee, max:METRIC, min:METRIC, run:ID, METRIC>=NUMBER then RULE, "),
        ("max:", "rule 'max:' is not known"),
        ("max:presicion", "rule max:presicion: no run has the metric 'presicion'; did you mean 'precision'?"),
        ("min:name", "rule min:name: no run has the metric 'name'"),
        ("min:train_loss", "rule min:train_loss: no run on the front has"),
        ("run:run-x", "rule run:run-x: there is no finished run 'run-x'; did you mean 'run-"),
        ("run:e", "rule run:e: the run e cannot be chosen: it is pruned; name another one."),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_with_a_suggestion(rule: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        choose(TABLE.assign(train_loss=[NAN, NAN, NAN, 0.1, 0.1]), rule)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


SIZED = runs_of(
    scored(0.99, 0.90, f1=0.9400, test_loss=0.10, n_parameters=900.0),
    scored(0.97, 0.97, f1=0.9700, test_loss=0.20, n_parameters=800.0),
    scored(0.96, 0.96, f1=0.9660, test_loss=0.15, n_parameters=90.0),
    scored(0.95, 0.95, f1=0.9500, test_loss=0.30, n_parameters=10.0),
    scored(0.90, 0.99, f1=0.9430, test_loss=NAN, n_parameters=700.0),
    scored(1.00, 1.00, f1=1.0000, test_loss=0.01, n_parameters=1.0, state="pruned"),
)


@pytest.mark.parametrize(
    ("rule", "chosen", "candidates"),
    [
        ("recall>=0.95 then max:precision", "b", "bcde"),
        ("recall >= 0.95  then  max:precision", "b", "bcde"),
        ("recall>=0.98 then max:precision", "e", "e"),
        ("n_parameters<=100 then f1", "c", "cd"),
        ("recall>=0.95 and test_loss<=0.18 then min:n_parameters", "c", "c"),
        ("test_loss<=0.3 and precision>=0.95 and f1<=0.967 then max:f1", "c", "acd"),
        ("recall>=0.95 then knee", "b", "be"),  # the front of b, c, d and e
        ("min:n_parameters within 0.5% of best f1", "c", "bc"),
        ("min:n_parameters within 0% of best f1", "b", "b"),
        ("min:n_parameters within 5% of the best f1", "d", "abcde"),
        ("max:f1 within 60% of best test_loss", "c", "ac"),  # a loss may exceed the least by that share
        ("f1<=0.95 then min:n_parameters within 1.0% of best f1", "d", "de"),
    ],
)
def test_conditions_and_tolerances_look_at_every_finished_run(rule: str, chosen: str, candidates: str) -> None:
    choice = choose(SIZED, rule)
    assert choice.run["run"] == chosen
    assert choice.candidates == list(candidates)
    assert choice.rule == rule


def test_the_reason_of_a_condition_says_what_it_left() -> None:
    assert choose(SIZED, "n_parameters<=100 then f1").reason == (
        "highest f1, 0.9660, of 2 runs (those with n_parameters<=100); it is not on the front of precision and recall"
    )
    assert choose(SIZED, "min:n_parameters within 0.5% of best f1").reason == (
        "lowest n_parameters, 90, of 2 runs (those with f1 within 0.5% of the best, 0.9700); "
        "it is not on the front of precision and recall"
    )
    assert choose(SIZED, "recall>=0.95 then knee").reason.endswith("of 2 runs; of 2 equals the one of higher precision")


def test_of_equals_none_is_chosen_that_another_beats_in_what_else_is_weighed() -> None:
    runs = runs_of(scored(0.80, 0.9, seconds=5.0, test_loss=0.1), scored(0.88, 0.9, seconds=5.0, test_loss=0.2))
    choice = choose(runs, "precision>=0.8 then min:seconds", {"precision": "maximize", "seconds": "minimize"})
    assert choice.run["precision"] == 0.88
    assert choice.reason.endswith("of 2 equals the one of higher precision")


def test_a_rule_names_what_is_weighed_where_runs_log_nothing_else_known() -> None:
    run = RunRecord("a", state="finished", columns={"epoch": np.array([1.0]), "val/acc": np.array([0.5])})
    assert aims_by([run], "max:val/acc") == {"val/acc": "maximize"}
    assert aims_by([run], "max:val/acc", ["val/acc"], ["minimize"]) == {"val/acc": "minimize"}
    run.columns["precision"] = run.columns["val/acc"]  # without recall there is no front of the two
    assert aims_by([run], "max:val/acc") == {"val/acc": "maximize"}


def test_the_runner_up_is_next_by_the_same_rule() -> None:
    assert choose(SIZED, "min:n_parameters within 5% of best f1").runner_up == "run-c"
    assert choose(SIZED, "recall>=0.98 then f1").runner_up == ""
    assert choose(SIZED, "run:c").runner_up == ""


def test_where_no_run_satisfies_a_rule_the_nearest_is_named_with_what_it_has() -> None:
    with pytest.raises(UsageError) as refused:
        choose(SIZED, "recall>=0.965 and n_parameters<=100 then max:f1")
    assert str(refused.value).startswith(
        "rule recall>=0.965 and n_parameters<=100 then max:f1: none of 5 finished runs has recall>=0.965 and n_parameters<=100; "
        "the nearest, run-c, has recall 0.9600 and n_parameters 90"
    )


def test_the_nearest_run_is_near_by_the_spans_of_the_metrics_and_not_by_their_units() -> None:
    # run-a lacks 0.05 of a recall that spans 0.5 and 10 of 900 parameters: 1/10 + 1/90; run-b lacks 0.5 of recall: 1
    runs = runs_of(
        scored(0.9, 0.90, n_parameters=110.0), scored(0.9, 0.45, n_parameters=100.0), scored(0.9, 0.4, n_parameters=1000.0)
    )
    with pytest.raises(UsageError, match=r"the nearest, run-a, has recall 0\.9000 and n_parameters 110: loosen the rule"):
        choose(runs, "recall>=0.95 and n_parameters<=100 then f1")


def test_the_nearest_run_to_a_metric_that_all_have_alike_is_nearest_by_the_others() -> None:
    runs = runs_of(scored(0.9, 0.5, seconds=2.0), scored(0.9, 0.8, seconds=2.0), scored(0.9, 0.7, seconds=2.0))
    with pytest.raises(UsageError, match=r"the nearest, run-b, has recall 0\.8000 and seconds 2\.0000"):
        choose(runs, "recall>=0.9 and seconds<=1 then f1")


def test_of_another_metric_a_condition_says_what_is_there() -> None:
    with pytest.raises(UsageError, match=r"no run has the metric 'recal'; did you mean 'recall'\?"):
        choose(SIZED, "recal>=0.9 then f1")
    with pytest.raises(UsageError, match=r"no run has the metric 'sizes'"):
        choose(SIZED, "min:n_parameters within 1% of best sizes")


def recorded(table: pd.DataFrame, **config: Any) -> list[RunRecord]:
    return [RunRecord(run, config={"place": place, **config}) for place, run in enumerate(table["run"])]


def test_a_choice_within_noise_says_so_where_the_runs_tell_their_repeats() -> None:
    far = SIZED.assign(f1_std=0.0001, precision_std=0.0001)
    near = SIZED.assign(f1_std=0.1, precision_std=0.1)
    records = recorded(SIZED, repeats=5, repeats_over="seeds", **OURS)
    assert choose(far, "f1", records=records).doubt == (
        "run-b can be told apart from each of the 4 other configurations (Welch's t-test of f1 over 5 seeds at 5 %)"
    )
    doubt = choose(near, "f1", records=records).doubt
    assert doubt.startswith("4 of 4 other configurations cannot be told apart from run-b, the runner-up run-")
    assert choose(near, "recall>=0.98 then max:precision", records=records).doubt == ""  # nothing else satisfies it
    assert choose(near, "min:n_parameters", records=records).doubt == ""  # a count is not estimated
    assert choose(near, "f1").doubt == ""


def test_runs_of_the_locked_test_part_are_refused() -> None:
    with pytest.raises(UsageError, match="locked test part"):
        choose(TABLE.assign(evaluation_split="test"))


def test_a_choice_is_plain_json() -> None:
    choice = choose(TABLE, "knee")
    kept = json.loads(json.dumps(choice.to_dict()))
    assert kept == {
        "run": "b",
        "name": "run-b",
        "rule": "knee",
        "reason": choice.reason,
        "front": ["precision", "recall"],
        "candidates": ["a", "b", "c"],
        "left_out": {"pruned": 1},
        "runner_up": choice.runner_up,
        "doubt": "",
    }
    assert kept["runner_up"] in {"run-a", "run-c"}


def test_the_command_says_which_run_by_which_rule_and_why(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main([str(study_folder), "--rule", "max:recall"]) == 0
    table = runs_table(load_runs(study_folder))
    done = table[table["state"] == "finished"]
    best: Any = done.iloc[int(np.argmax(done["recall"]))]
    out = capsys.readouterr().out
    assert out.startswith(
        f"{study_folder}: {best['name']} ({best['run']}) by rule max:recall: highest recall, {best['recall']:.4f}"
    )


def test_a_mistake_is_one_sentence_and_exit_code_2(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        step.main([str(study_folder), "--rule", "best"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("error: rule 'best' is not known")


def test_an_empty_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="rule"):
        choose(SIZED, "")


def test_the_luckiest_seed_of_a_configuration_is_not_chosen() -> None:
    def run(name: str, rate: float, seed: int, score: float, created: float) -> RunRecord:
        columns = {key: np.array([score]) for key in ("precision", "recall", "f1", "test_accuracy")}
        config = {"classifier": "ann", "learning_rate": rate, "seed": seed, "evaluation_split": "holdout"}
        return RunRecord(name, state="finished", created=created, config=config, columns={"epoch": np.array([1.0]), **columns})

    lucky = [run(f"a{seed}", 0.1, seed, score, seed) for seed, score in enumerate((0.90, 0.99, 0.90))]
    steady = [run(f"b{seed}", 0.2, seed, score, 10 + seed) for seed, score in enumerate((0.95, 0.96, 0.94))]
    records = [*lucky, *steady]
    choice = choose(runs_table(records), "f1", records=records)
    assert choice.run["run"] == "b0"
    assert choice.run["f1"] == pytest.approx(0.95)
    assert choice.reason == (
        "highest f1, 0.9500, of 1 configuration on the front; its values are means over 3 runs of one configuration"
    )
    assert choice.candidates == ["b0"]
    assert "1 of 1 other configuration cannot be told apart from b0 (Welch's t-test of f1 over 3 seeds at 5 %): a0" in choice.doubt
    assert choose(runs_table(records), "run:a1", records=records).run["f1"] == 0.99


def test_a_sentence_counts_runs_or_where_several_tried_one_configurations() -> None:
    def records(*widths: int) -> list[RunRecord]:
        runs = []
        for place, width in enumerate(widths):
            values = {"epoch": 1.0, "precision": 0.5, "recall": 0.5, "f1": 0.5 + width / 100 + place / 1000}
            columns = {name: np.array([value]) for name, value in values.items()}
            runs.append(RunRecord(f"r{place}", state="finished", created=place, config={"width": width}, columns=columns))
        return runs

    for widths, tried, front in (
        ((1, 1, 2, 2), "2 configurations of 4 finished runs", "2 configurations on the front"),
        ((1, 1), "1 configuration of 2 finished runs", "1 configuration on the front"),
        ((1, 2), "2 finished runs", "2 runs on the front"),
        ((1,), "1 finished run", "1 run on the front"),
    ):
        runs = records(*widths)
        with pytest.raises(UsageError, match=f"none of {tried} has f1>=0.95"):
            choose(runs_table(runs), "f1>=0.95 then max:f1", records=runs)
        assert f"of {front}" in choose(runs_table(runs), "max:f1", records=runs).reason
