"""Intervals, p(front) and doubts against scipy, brute force and simulation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from paretune.analysis import confidence as step
from paretune.analysis.choose import choose
from paretune.analysis.drawn_digits import _over_seeds
from paretune.analysis.findings import confidence
from paretune.analysis.findings.confidence import (
    Estimate,
    configurations,
    doubt_of,
    front_probabilities,
    mean_interval,
    p_of_difference,
    range_of,
    t_interval,
    wilson_interval,
)
from paretune.analysis.history import RunRecord
from paretune.analysis.retrain import intervals
from tests.analysis.tables import OURS, runs_of, scored

GOALS = ["maximize", "maximize"]


def repeated(name: str, precision: list[float], recall: list[float], *, known: bool = True) -> Estimate:
    """An estimate of two metrics; `known` where the repeats' own values are."""
    values = {"precision": np.array(precision), "recall": np.array(recall)}
    means = {metric: float(array.mean()) for metric, array in values.items()}
    deviations = {metric: float(array.std(ddof=1)) for metric, array in values.items()}
    return Estimate(name, (name,), means, len(precision), "seeds", deviations, values if known else {})


def single(name: str, accuracy: float, n_images: int = 1000) -> Estimate:
    return Estimate(name, (name,), {"test_accuracy": accuracy, "f1": accuracy}, n_images=n_images)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_t_interval_is_that_of_scipys_t_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.9, 0.02, n)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(t_interval(values.mean(), values.std(ddof=1), n), (theirs.low, theirs.high))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (266, 270), (9_901, 10_000)])
def test_wilsons_interval_holds_the_proportions_that_the_score_test_does_not_refuse(hits: int, n: int) -> None:
    share, z = hits / n, stats.norm.ppf(0.975)

    def score(p: float) -> float:
        return (share - p) ** 2 - z**2 * p * (1 - p) / n

    low = 0.0 if hits == 0 else optimize.brentq(score, 0, share - 1e-12)
    high = 1.0 if hits == n else optimize.brentq(score, share + 1e-12, 1)
    np.testing.assert_allclose(wilson_interval(share, n), (low, high), atol=1e-9)


@pytest.mark.parametrize("k", [3, 5, 10])
def test_the_t_interval_of_normal_repeats_covers_the_truth_95_times_in_100(k: int) -> None:
    draws = np.random.default_rng(0).normal(0.9, 0.01, (40_000, k))
    low, high = t_interval(draws.mean(axis=1), draws.std(axis=1, ddof=1), k)
    assert 0.9467 < np.mean((low <= 0.9) & (high >= 0.9)) < 0.9533  # three standard errors of 40,000


@pytest.mark.parametrize("n", [270, 1000])
def test_wilsons_interval_covers_true_accuracies_95_times_in_100_on_average(n: int) -> None:
    truths = np.linspace(0.95, 0.995, 91)
    bounds = np.array([wilson_interval(hits / n, n) for hits in range(n + 1)])
    covered = [stats.binom.pmf(np.arange(n + 1), n, p) @ ((bounds[:, 0] <= p) & (p <= bounds[:, 1])) for p in truths]
    assert 0.94 < np.mean(covered) < 0.97


@pytest.mark.parametrize("known", [True, False], ids=["values known", "deviations alone"])
def test_p_front_is_calibrated_where_configurations_differ_by_more_than_the_noise(known: bool) -> None:
    generator = np.random.default_rng(1)
    said: list[float] = []
    true: list[bool] = []
    for _ in range(120):
        means = generator.normal(0.9, 0.03, (6, 2))
        repeats = means[:, None, :] + generator.normal(0, 0.01, (6, 5, 2))
        estimates = [repeated(str(i), list(one[:, 0]), list(one[:, 1]), known=known) for i, one in enumerate(repeats)]
        chances = front_probabilities(estimates, ["precision", "recall"], GOALS, n_draws=400)
        assert chances is not None
        said += list(chances)
        beaten = (means[:, None] < means[None]).all(axis=2).any(axis=1)
        true += list(~beaten)
    # 720 probabilities: their mean is right within three standard errors, and so is each third's
    order = np.argsort(said)
    for part in (order, *np.array_split(order, 3)):
        p, happened = np.array(said)[part], np.array(true)[part]
        assert abs(p.mean() - happened.mean()) < 3 * math.sqrt(np.mean(p * (1 - p)) / len(part)) + 0.02


def test_p_front_of_two_rivals_in_one_metric_is_the_probability_that_one_t_variable_exceeds_another() -> None:
    first, second = repeated("a", [0.90, 0.92, 0.94], [0.5] * 3), repeated("b", [0.90, 0.91, 0.95], [0.5] * 3)
    chances = front_probabilities([first, second], ["precision"], n_draws=40_000, seed=3)
    assert chances is not None

    expected = stats.t.expect(
        lambda x: stats.t.sf(x, 2, first.means["precision"], 0.02 / math.sqrt(3)),
        (2,),
        second.means["precision"],
        second.deviations["precision"] / math.sqrt(3),
    )
    assert chances[0] == pytest.approx(expected, abs=0.01)
    assert chances.sum() == pytest.approx(1.0)


def test_p_front_knows_that_precision_and_recall_fall_and_rise_together() -> None:
    # b is a shifted down in both: where the metrics move together, a's draws beat b's in both or in none
    moves = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    a = repeated("a", list(0.9 + moves), list(0.8 - moves))
    b = repeated("b", list(0.89 + moves), list(0.79 - moves))
    together, apart = (
        front_probabilities([a, b] if known else [repeated_alone(a), repeated_alone(b)], ["precision", "recall"], GOALS)
        for known in (True, False)
    )
    assert together is not None
    assert apart is not None
    # opposite moves keep precision + recall fixed: b is beaten in both far less often than under independence
    assert together[1] != pytest.approx(apart[1], abs=0.02)
    brute = correlated_by_hand(0.9, 0.89, moves)
    assert together[1] == pytest.approx(brute, abs=0.02)


def repeated_alone(estimate: Estimate) -> Estimate:
    return Estimate(estimate.name, estimate.runs, estimate.means, estimate.n_repeats, "seeds", estimate.deviations)


def correlated_by_hand(first: float, second: float, moves: np.ndarray) -> float:
    """Draw scipy's t for the one direction in which precision and recall move; b's chance not to be beaten in both."""
    scale = np.std(moves, ddof=1) / math.sqrt(len(moves))
    x, y = (stats.t.rvs(len(moves) - 1, scale=scale, size=200_000, random_state=seed) for seed in (1, 2))
    beaten = (first + x > second + y) & (0.8 - x > 0.79 - y)
    return float(1 - beaten.mean())


def test_p_front_needs_repeats_of_every_configuration() -> None:
    pair = [repeated("a", [0.9, 0.91], [0.8, 0.82]), single("b", 0.9)]
    assert front_probabilities(pair, ["precision", "recall"], GOALS) is None
    assert front_probabilities(pair[:1], ["precision", "f1"], GOALS) is None


def test_p_front_is_the_same_for_the_same_seed_and_differs_by_seed() -> None:
    pair = [repeated("a", [0.90, 0.92], [0.8, 0.82]), repeated("b", [0.89, 0.93], [0.8, 0.83])]
    first, again, other = (front_probabilities(pair, ["precision", "recall"], GOALS, n_draws=500, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def records_of(table: pd.DataFrame, configs: list[dict[str, Any]]) -> list[RunRecord]:
    return [RunRecord(run, config=config) for run, config in zip(table["run"], configs, strict=True)]


def test_runs_that_differ_in_seed_alone_are_repeats_and_copies_count_once() -> None:
    table = runs_of(*(scored(value, value) for value in (0.90, 0.94, 0.92, 0.92, 0.5)))
    configs = [{"width": 8, "seed": seed} for seed in (0, 1, 2, 2)] + [{"width": 9, "seed": 0}]
    first, second = configurations(records_of(table, configs), table)
    assert (first.runs, first.n_repeats, first.over) == (("a", "b", "c", "d"), 3, "seeds")
    assert (first.means["precision"], first.deviations["precision"]) == (pytest.approx(0.92), pytest.approx(0.02))
    assert first.interval("precision") == pytest.approx(stats.t.interval(0.95, 2, 0.92, 0.02 / math.sqrt(3)))
    assert (second.runs, second.n_repeats, second.interval("precision")) == (("e",), 1, None)


def test_runs_of_several_folds_are_repeats_over_folds() -> None:
    table = runs_of(scored(0.90, 0.9), scored(0.94, 0.9))
    (found,) = configurations(records_of(table, [{"n_folds": 2, "fold": fold, "seed": 0} for fold in (0, 1)]), table)
    assert (found.n_repeats, found.over) == (2, "folds")


def test_a_trial_of_repeats_brings_its_deviations_and_the_metrics_without_one_claim_nothing() -> None:
    table = runs_of(scored(0.9, 0.8, f1_std=0.02, test_accuracy=0.9, n_parameters=650.0))
    config = {"repeats": 4, "repeats_over": "seeds", **OURS}
    (found,) = configurations(records_of(table, [config]), table)
    assert found.interval("f1") == pytest.approx(stats.t.interval(0.95, 3, 0.5, 0.01))
    assert found.interval("precision") is None
    assert found.interval("test_accuracy") is None  # a mean of four accuracies is no proportion of 270 images
    assert found.interval("n_parameters") is None


SHARES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.9678, 1.0])), min_size=2, max_size=12)


@given(SHARES, st.sampled_from(["test_accuracy", "val/acc", "precision", "f1", "val.auc"]), st.sampled_from([1.0, 100.0]))
def test_every_interval_of_a_share_lies_within_its_range_and_holds_the_estimate(
    values: list[float], metric: str, whole: float
) -> None:
    array = whole * np.array(values)
    top = 1.0 if array.max() <= 1 else 100.0
    assert range_of(metric, array) == (0.0, top)
    low, high = mean_interval(array, range_of(metric, array))
    assert 0 <= low <= array.mean() <= high <= top
    found = Estimate("a", ("a",), {metric: float(array.mean())}, len(array), "seeds", {metric: float(array.std(ddof=1))})
    interval = found.interval(metric)
    if np.ptp(array) == 0:
        assert interval is None, "repeats that all agree say nothing about the spread"
    elif interval is not None:
        assert 0 <= interval[0] <= array.mean() <= interval[1] <= 100


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_wilsons_interval_lies_within_0_and_1_and_holds_the_proportion(n: int, share: float) -> None:
    for proportion in (share, 0.0, 1.0, round(share * n) / n):
        low, high = wilson_interval(proportion, n)
        assert 0 <= low <= proportion <= high <= 1
        assert low < high


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_the_interval_of_a_difference_of_shares_lies_between_minus_1_and_1(values: list[float]) -> None:
    found = _over_seeds(np.array(values), (-1.0, 1.0))
    if found["t_interval"] is not None:
        low, high = found["t_interval"]
        assert -1 <= low <= found["mean"] <= high <= 1


def test_a_loss_of_ours_ends_at_0_and_others_have_no_bounds() -> None:
    values = np.array([0.01, 0.02, 0.5])
    assert mean_interval(values, range_of("test_loss", values, ours=True))[0] == 0
    assert mean_interval(values, range_of("val/loss", values))[0] < 0
    assert range_of("accuracy", [-0.2, 0.5]) == (-math.inf, math.inf), "what lies outside is no share"
    assert range_of("reward", [0.2, 0.5]) == (-math.inf, math.inf)
    ours = Estimate("a", ("a",), {"test_loss": 0.1}, 2, "seeds", {"test_loss": 0.1}, n_images=270)
    interval = ours.interval("test_loss")
    assert interval is not None
    assert interval[0] == 0


@given(SHARES)
def test_the_intervals_of_a_retrain_over_seeds_lie_within_their_ranges(values: list[float]) -> None:
    for name, (mean, low, high) in intervals([{"accuracy": value, "loss": 3 * value} for value in values]).items():
        assert 0 <= low <= mean <= high
        assert name == "loss" or high <= 1


def test_without_repeats_accuracy_alone_has_an_interval() -> None:
    found = single("a", 0.99, 270)
    assert found.interval("test_accuracy") == wilson_interval(0.99, 270)
    assert found.interval("f1") is None
    assert Estimate("a", ("a",), {"test_accuracy": math.nan}, n_images=270).interval("test_accuracy") is None


def test_with_repeats_two_configurations_are_compared_by_welchs_test() -> None:
    ours, theirs = [0.90, 0.93, 0.94, 0.91], [0.89, 0.95, 0.99, 0.93]
    expected = stats.ttest_ind(ours, theirs, equal_var=False).pvalue
    assert p_of_difference(repeated("a", ours, ours), repeated("b", theirs, theirs), "recall") == pytest.approx(expected)


@pytest.mark.parametrize(("theirs", "p"), [([0.9, 0.9], 1.0), ([0.8, 0.8], 0.0)])
def test_repeats_that_all_came_out_alike_differ_or_do_not(theirs: list[float], p: float) -> None:
    assert p_of_difference(repeated("a", [0.9, 0.9], [0.9, 0.9]), repeated("b", theirs, theirs), "precision") == p


def test_without_repeats_accuracies_are_compared_by_the_two_proportion_test() -> None:
    expected = stats.chi2_contingency([[950, 50], [970, 30]], correction=False).pvalue
    assert p_of_difference(single("a", 0.95), single("b", 0.97), "f1") == pytest.approx(expected)
    assert p_of_difference(single("a", 1.0), single("b", 1.0), "f1") == 1.0


def test_what_was_repeated_is_not_compared_with_what_was_not() -> None:
    assert p_of_difference(repeated("a", [0.9, 0.91], [0.9, 0.9]), single("b", 0.9), "precision") is None
    assert p_of_difference(Estimate("a", ("a",), {"f1": 0.9}), single("b", 0.9), "f1") is None


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([0.989, 0.985, 0.8], "2 of 3 other configurations cannot be told apart from best, the runner-up 0 among them (two-prop"),
        ([0.8, 0.7], "best can be told apart from each of the 2 other configurations (two-prop"),
        ([0.8], "best can be told apart from the only other configuration (two-prop"),
        ([0.99], "1 of 1 other configuration cannot be told apart from best (two-prop"),
    ],
)
def test_a_doubt_is_one_sentence_with_a_count_and_the_test(others: list[float], sentence: str) -> None:
    rivals = [single(str(place), accuracy) for place, accuracy in enumerate(others)]
    text = doubt_of(single("best", 0.99), rivals, ["f1"], runner_up="0")
    assert text.startswith(sentence)
    assert "1,000 hold-out images" in text
    assert "conservative" in text


def test_the_configurations_within_noise_are_named_up_to_eight() -> None:
    rivals = [single(f"r{place}", 0.99) for place in range(11)]
    assert doubt_of(single("best", 0.99), [*rivals[:2], single("far", 0.5)], ["f1"]).endswith("): r0, r1")
    assert doubt_of(single("best", 0.99), rivals, ["f1"]).endswith("): r0, r1, r2, r3, r4, r5, r6, r7 and 3 more")


def test_there_is_no_doubt_without_rivals_or_about_counts() -> None:
    assert doubt_of(single("best", 0.99), [], ["f1"]) == ""
    assert doubt_of(single("best", 0.99), [single("a", 0.99)], ["n_parameters"]) == ""


def test_the_command_prints_the_front_with_its_intervals_and_the_doubt(
    study_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step.main([str(study_folder)]) == 0
    out = capsys.readouterr().out
    assert "95 % intervals in brackets: test_accuracy" in out
    assert "p(front) needs repeats" in out
    assert out.count("By the accuracies on the hold-out, ") == 1
    assert "By precision" not in out


def test_the_command_takes_one_metric_and_refuses_an_unknown_one(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main([str(study_folder), "--metrics", "test_loss"]) == 0
    assert "test_loss" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        step.main([str(study_folder), "--metrics", "presicion"])
    assert exit_info.value.code == 2
    assert "did you mean 'precision'?" in capsys.readouterr().err


def test_a_table_of_repeats_shows_p_front(monkeypatch: pytest.MonkeyPatch) -> None:
    deviations = {"precision_std": 0.01, "recall_std": 0.01}
    table = runs_of(scored(0.9, 0.8, **deviations), scored(0.8, 0.9, **deviations))
    monkeypatch.setattr(confidence, "runs_table", lambda runs: table)
    config = {"repeats": 5, "repeats_over": "seeds", **OURS}
    lines = confidence.summary(records_of(table, [{**config, "width": 8}, {**config, "width": 9}]))
    assert "p(front)" in lines[0]
    assert "0.9000 [0.8876, 0.9124]" in lines[0]  # 0.01 / sqrt(5) * 2.776


def test_deviations_that_lack_are_named_with_the_metrics_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    deviations = {"f1_std": 0.01, "n_parameters": 650.0}
    table = runs_of(scored(0.9, 0.8, **deviations), scored(0.8, 0.9, **deviations))
    monkeypatch.setattr(confidence, "runs_table", lambda runs: table)
    configs = [{"repeats": 5, "repeats_over": "seeds", "width": width, **OURS} for width in (8, 9)]
    lines = confidence.summary(records_of(table, configs), {"precision": "maximize", "recall": "maximize"})
    needs = "p(front) needs a deviation of precision and recall; these runs have those of f1: --metrics f1 gives it."
    assert needs in lines
    assert "p(front)" in confidence.summary(records_of(table, configs), {"f1": "maximize"})[0]


def accurate(f1: float, **others: Any) -> dict[str, Any]:
    return scored(f1, f1, f1, test_accuracy=0.9, **others)


def test_of_equal_scores_the_same_run_is_taken_as_by_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    table = runs_of(
        accurate(0.9, test_loss=0.4, n_parameters=10.0),
        accurate(0.9, test_loss=0.2, n_parameters=20.0),
        accurate(0.9, test_loss=0.2, n_parameters=12345.0),
        accurate(0.8, test_loss=0.1, n_parameters=5.0),
    )
    monkeypatch.setattr(confidence, "runs_table", lambda runs: table)
    records = records_of(table, [{**OURS, "width": width} for width in range(4)])
    aims = {"precision": "maximize", "recall": "maximize"}
    assert choose(table, "f1", aims, records=records).run["name"] == "run-b"
    shown, notes = confidence.table_of(records, aims)
    assert list(shown["name"]) == ["run-b", "run-c", "run-a"]
    assert notes[-1].startswith("By the accuracies on the hold-out, 3 of 3 other configurations cannot be told apart from run-b, ")
    notes = confidence.table_of(records, aims, chosen="d")[1]
    assert sum("told apart" in note for note in notes) == 1
    assert "cannot be told apart from run-d (two-proportion" in notes[-1], "run-b is not its runner-up"


def test_learnt_numbers_stand_as_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    table = runs_of(accurate(0.9, n_parameters=1234567.0))
    monkeypatch.setattr(confidence, "runs_table", lambda runs: table)
    shown = confidence.table_of(records_of(table, [{"width": 1}]), {"f1": "maximize", "n_parameters": "minimize"})[0]
    assert shown["n_parameters"].tolist() == ["1,234,567"]
