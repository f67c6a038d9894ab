"""The diagnosis of curves whose truth is known by construction, with and without noise, and of real runs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paretune.analysis import diagnose as step
from paretune.analysis.figures.diagnosis import diagnosis_figure
from paretune.analysis.figures.runs import save_figure
from paretune.analysis.findings.diagnosis import (
    FINE,
    IMPROVING,
    KIND_WORDS,
    NO_LOSS,
    OVER,
    RUNNING,
    TOO_SHORT,
    UNDER,
    UNSTABLE,
    diagnose,
    diagnose_runs,
    rules_table,
)
from paretune.analysis.sources.run_record import RunRecord
from tests.analysis.known_curves import FAMILIES, draw
from tests.analysis.reading import is_a_drawing

Curves = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def learning(epochs: np.ndarray, *, speed: float = 0.5, end: float = 0.1) -> np.ndarray:
    return end + (2.2 - end) * np.exp(-speed * (epochs - 1))


def fine(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return learning(epochs), learning(epochs, end=0.14), 0.97 - 0.9 * np.exp(-epochs), 0.95 - 0.9 * np.exp(-epochs)


def over(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, _, train_accuracy, test_accuracy = fine(epochs)
    return train, learning(epochs, end=0.2) + 0.02 * np.maximum(epochs - 12, 0), train_accuracy, test_accuracy


def apart(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, test, train_accuracy, test_accuracy = fine(epochs)
    return train, test, train_accuracy, test_accuracy - 0.2 * (epochs > 12)


def under(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    accuracy = 0.6 - 0.5 * np.exp(-epochs)
    return learning(epochs, end=1.1), learning(epochs, end=1.15), accuracy, accuracy - 0.01


def improving(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    accuracy = 0.9 - 0.8 * np.exp(-0.1 * epochs)
    return learning(epochs, speed=0.06), learning(epochs, speed=0.055), accuracy, accuracy


def unstable(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, test, train_accuracy, test_accuracy = fine(epochs)
    return train + 0.6 * (epochs % 2) * (epochs > 5), test + 0.6 * (epochs % 2) * (epochs > 5), train_accuracy, test_accuracy


def coming_apart(epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    train, test, train_accuracy, test_accuracy = fine(epochs)
    rise = 0.2 * np.maximum(epochs - 15, 0)
    return train + rise, test + rise, train_accuracy, test_accuracy


TRUTH: dict[str, tuple[Curves, str]] = {
    "fine": (fine, FINE),
    "hold-out loss rises": (over, OVER),
    "accuracies part": (apart, OVER),
    "low accuracy": (under, UNDER),
    "falls to the end": (improving, IMPROVING),
    "jumps": (unstable, UNSTABLE),
    "train loss rises": (coming_apart, UNSTABLE),
}


def history_of(curves: Curves, n_epochs: int = 30, *, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Return curves with multiplicative noise on the losses and a tenth of it, added, on the accuracies."""
    random, epochs = np.random.default_rng(seed), np.arange(1.0, n_epochs + 1)
    train, test, train_accuracy, test_accuracy = curves(epochs)
    return pd.DataFrame(
        {
            "epoch": epochs,
            "train_loss": train * np.exp(noise / 2 * random.standard_normal(n_epochs)),
            "test_loss": test * np.exp(noise * random.standard_normal(n_epochs)),
            "train_accuracy": train_accuracy + noise / 20 * random.standard_normal(n_epochs),
            "test_accuracy": test_accuracy + noise / 10 * random.standard_normal(n_epochs),
        }
    )


@pytest.mark.parametrize("name", list(TRUTH))
def test_curves_without_noise_are_named_for_what_they_are(name: str) -> None:
    curves, kind = TRUTH[name]
    assert diagnose(history_of(curves)).kind == kind


@pytest.mark.parametrize(("noise", "expected"), [(0.03, 0.98), (0.1, 0.85)], ids=["3 % noise", "10 % noise"])
@pytest.mark.parametrize("name", list(TRUTH))
def test_noise_on_the_hold_out_hides_the_truth_in_few_of_100_runs(name: str, noise: float, expected: float) -> None:
    curves, kind = TRUTH[name]
    found = [diagnose(history_of(curves, noise=noise, seed=seed)).kind for seed in range(100)]
    assert found.count(kind) >= 100 * expected, f"{name} at noise {noise}: {Counter(found)}"


@pytest.mark.parametrize("curves", [over, apart], ids=["hold-out loss rises", "accuracies part"])
def test_over_fitting_is_dated_to_where_the_curves_part(curves: Curves) -> None:
    exact = diagnose(history_of(curves)).epoch
    noisy = [diagnose(history_of(curves, noise=0.03, seed=seed)).epoch or 0 for seed in range(100)]
    assert exact is not None
    assert abs(exact - 12) <= 2
    assert np.mean(np.abs(np.array(noisy) - 12) <= 3) >= 0.9


@pytest.mark.parametrize("turn", [7, 12, 20])
@pytest.mark.parametrize("rise", [0.015, 0.04, 0.3])
@pytest.mark.parametrize("fall", [0.1, 0.6])
def test_over_fitting_begins_at_the_lowest_loss_of_the_hold_out(turn: int, rise: float, fall: float) -> None:
    epochs = np.arange(40.0)
    test = 1 + fall * np.maximum(turn - epochs, 0) / turn + rise * np.maximum(epochs - turn, 0)
    found = diagnose(pd.DataFrame({"epoch": epochs, "train_loss": 1.5 * np.exp(-epochs / 8), "test_loss": test}))
    assert (found.kind, found.epoch) == (OVER, turn)
    assert "rose from 1 in epoch" in found.reason


@pytest.mark.parametrize("noise", [0.002, 0.005, 0.01])
def test_over_fitting_after_a_noisy_plateau_is_hardly_dated_too_early(noise: float) -> None:
    away = []
    for seed in range(40):
        random, epochs = np.random.default_rng(seed), np.arange(50.0)
        turn = int(random.integers(10, 40))
        test = (1 + 0.6 * np.exp(-epochs / 3) + 0.04 * np.maximum(epochs - turn, 0)) * np.exp(noise * random.standard_normal(50))
        found = diagnose(pd.DataFrame({"epoch": epochs, "train_loss": 1.5 * np.exp(-epochs / 8) + 0.01, "test_loss": test}))
        assert found.kind == OVER
        away.append((found.epoch or 0) - turn)
    assert abs(np.mean(away)) <= 2
    assert np.median(np.abs(away)) <= 1


def test_a_lone_dip_is_not_where_over_fitting_begins() -> None:
    epochs = np.arange(30.0)
    test = 1 + 0.5 * np.exp(-epochs / 2) + 0.05 * np.maximum(epochs - 15, 0)
    test[14] = 0.5
    found = diagnose(pd.DataFrame({"epoch": epochs, "train_loss": np.exp(-epochs / 8), "test_loss": test}))
    assert found.epoch in (13, 15)


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("family", [name for name, (kind, _) in FAMILIES.items() if kind in (OVER, FINE)])
def test_both_halves_of_a_sentence_name_the_epochs_that_both_curves_logged(family: str, noise: float) -> None:
    for seed in range(3):
        history = draw(family, seed, [noise])
        found = diagnose(history)
        first, *others = re.findall(r"in epoch (\d+)|\(epoch (\d+)\)", found.reason) or [("", "")]
        epochs = ["".join(first), *map("".join, others)]
        if "while" in found.reason:
            assert epochs[:2] == epochs[2:], found.reason
        elif "in training" in found.reason and "on the hold-out" in found.reason:
            assert epochs[0] == epochs[1], found.reason


def test_a_training_that_comes_apart_is_dated_to_its_best_epoch() -> None:
    found = diagnose(history_of(coming_apart))
    assert found.epoch is not None
    assert abs(found.epoch - 15) <= 2


def test_a_loss_that_is_not_finite_at_the_end_is_unstable_from_its_first_such_epoch() -> None:
    for lost in (math.nan, math.inf):
        history = history_of(fine)
        history.loc[7:, ["train_loss", "test_loss"]] = lost
        found = diagnose(history)
        assert (found.kind, found.epoch) == (UNSTABLE, 8)


@pytest.mark.parametrize("missing", [["train_loss"], ["test_loss"], ["train_loss", "test_loss"]], ids=" and ".join)
def test_a_run_without_a_loss_has_no_diagnosis(missing: list[str]) -> None:
    for history in (history_of(fine).drop(columns=missing), history_of(fine).assign(**dict.fromkeys(missing, np.nan))):
        assert diagnose(history).kind == NO_LOSS
    assert diagnose(history_of(fine).iloc[:0]).kind == NO_LOSS


def test_a_loss_that_never_was_finite_is_no_loss_that_is_missing() -> None:
    history = history_of(fine).assign(run="a", name="a", state="finished")
    lost = history.assign(run="b", name="b", train_loss=np.nan, test_loss=np.nan)
    both = pd.concat([history, lost], ignore_index=True)
    losses = ["train_loss", "test_loss"]
    assert list(diagnose_runs(both, logged={"a": losses, "b": losses})["diagnosis"]) == [FINE, UNSTABLE]
    assert list(diagnose_runs(both, logged={"a": losses, "b": []})["diagnosis"]) == [FINE, NO_LOSS]
    other = lost.rename(columns={"train_loss": "loss", "test_loss": "val_loss"}).assign(epoch=lost["epoch"] - 1)
    found = diagnose(other, never_finite=["loss", "val_loss"])
    assert (found.kind, found.epoch) == (UNSTABLE, 0)


@pytest.mark.parametrize("n_epochs", [1, 3, 5])
def test_few_epochs_tell_too_little(n_epochs: int) -> None:
    assert diagnose(history_of(over, n_epochs)).kind == TOO_SHORT


def test_a_run_of_another_script_may_log_its_parts_in_rows_of_their_own_and_no_accuracy() -> None:
    history = history_of(over)[["epoch", "train_loss", "test_loss"]]
    apart_rows = pd.concat([history.assign(test_loss=np.nan), history.assign(train_loss=np.nan)]).sort_values("epoch")
    assert diagnose(apart_rows) == diagnose(history)
    assert diagnose(history).kind == OVER


@pytest.mark.parametrize(
    ("loss", "accuracy"),
    [
        (("train/loss", "val/loss"), ("train/acc", "val/acc")),
        (("train.loss", "val.loss"), ("train.accuracy", "val.accuracy")),
        (("training_loss", "valid_loss"), ("training_acc", "valid_acc")),
        (("loss", "val_loss"), ("accuracy", "val_accuracy")),
        (("train/loss", "eval/loss"), ("train_acc", "eval/accuracy")),
    ],
)
@pytest.mark.parametrize("name", list(TRUTH))
def test_the_curves_of_other_programs_are_found_by_common_names(
    name: str, loss: tuple[str, str], accuracy: tuple[str, str]
) -> None:
    history = history_of(TRUTH[name][0])
    theirs = history.rename(columns=dict(zip(history.columns[1:], (*loss, *accuracy), strict=True)))
    assert diagnose(theirs) == diagnose(history)
    runs = theirs.assign(run="a", name="a", state="finished")
    assert diagnose_runs(runs)["diagnosis"].tolist() == [diagnose(history, attainable=history["test_accuracy"].max()).kind]


def test_a_bare_loss_without_its_hold_out_is_of_nobody_knows_what() -> None:
    history = history_of(fine)[["epoch", "train_loss"]].rename(columns={"train_loss": "loss"})
    assert "no train and no hold-out loss is known by its name; it logged loss: " in diagnose(history).reason


def test_a_run_of_unknown_names_is_told_what_it_logged_and_how_to_name_it() -> None:
    theirs = history_of(over)[["epoch", "train_loss", "test_loss"]].set_axis(["epoch", "objective", "check"], axis=1)
    found = diagnose(theirs)
    assert found.kind == NO_LOSS
    assert found.reason == (
        "no train and no hold-out loss is known by its name; it logged objective, check: name the loss curves by --train and "
        "--test of python -m analysis.diagnose"
    )
    assert diagnose(theirs, train="objective", test="check").kind == OVER
    assert "it logged objective, check: name" in diagnose(theirs, train="objective").reason  # and no name of ours for it
    many = theirs.assign(**{f"weights/{number}": 1.0 for number in range(50)}, **{"my loss": 1.0})
    assert "it logged my loss, objective, check, weights/0" in diagnose(many).reason
    assert "and 33 more: name the loss curves by --train and --test" in diagnose(many).reason
    assert "no hold-out loss is known by its name; it logged objective, check" in diagnose(theirs, train="objective").reason


def test_train_and_hold_out_logged_in_alternate_epochs_are_each_judged_by_their_own() -> None:
    for curves in (fine, over):
        history = history_of(curves, 60)
        history.loc[::2, "train_loss"] = np.nan
        history.loc[1::2, "test_loss"] = np.nan
        assert diagnose(history).kind == diagnose(history_of(curves, 60)).kind


def test_a_run_that_still_runs_is_not_judged() -> None:
    running = history_of(over).assign(run="a", name="a", state="running")
    (line,) = diagnose_runs(running).to_dict("records")
    assert (line["diagnosis"], line["reason"]) == (RUNNING, "30 epochs so far")
    assert diagnose_runs(running.assign(state="finished"))["diagnosis"].tolist() == [OVER]


def test_the_command_takes_the_names_of_the_curves(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main([str(study_folder), "--train", "test_loss", "--test", "train_loss"]) == 0
    with pytest.raises(SystemExit) as exit_info:
        step.main([str(study_folder), "--train", "trian_loss"])
    assert exit_info.value.code == 2
    assert "--train must be a metric that the runs logged. Got 'trian_loss'; did you mean 'train_loss'?" in capsys.readouterr().err


def test_what_is_attainable_comes_from_the_best_run_on_the_same_data() -> None:
    low = history_of(under).assign(run="low", name="low", state="finished", **{"config.data": "photos"})
    best = history_of(fine).assign(run="best", name="best", state="finished", **{"config.data": "digits"})
    alone = diagnose_runs(low).set_index("run")["diagnosis"]
    together = diagnose_runs(pd.concat([low.assign(**{"config.data": "digits"}), best], ignore_index=True)).set_index("run")[
        "diagnosis"
    ]
    elsewhere = diagnose_runs(pd.concat([low, best], ignore_index=True)).set_index("run")["diagnosis"]
    assert (alone["low"], together["low"], elsewhere["low"]) == (FINE, UNDER, FINE)
    assert together["best"] == FINE


def test_the_scale_of_the_loss_does_not_matter() -> None:
    for curves, kind in TRUTH.values():
        history = history_of(curves, noise=0.03, seed=1)
        history[["train_loss", "test_loss"]] *= 1e-3
        assert diagnose(history).kind == kind


def judged(seed: int, noises: Sequence[float]) -> list[str]:
    """Return the families of known curves, one curve each, whose diagnosis is not the truth."""
    found = {name: (kind, diagnose(draw(name, seed, noises))) for name, (kind, _make) in FAMILIES.items()}
    return [f"{name} is {kind}, judged {one.kind}: {one.reason}" for name, (kind, one) in found.items() if one.kind != kind]


@pytest.mark.parametrize(("seed", "noises"), [(0, (0, 0.01, 0.03)), (1000, (0.02, 0.05)), (2026, (0.04,))])
def test_of_40_curves_of_every_kind_at_least_38_are_named_for_what_they_are(seed: int, noises: Sequence[float]) -> None:
    wrong = judged(seed, noises)
    assert len(FAMILIES) == 40
    assert len(wrong) <= 2, "\n".join(wrong)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_number_of_a_reason_was_logged_in_the_epoch_beside_it(name: str) -> None:
    history = draw(name, 3, (0.03,))
    found = diagnose(history)
    assert found.epoch is None or found.epoch in history["epoch"].astype(int).to_list()
    logged = {f"{value:{form}}" for value in history.drop(columns="epoch").to_numpy().ravel() for form in (".3g", ".4g")}
    by_epoch = history.assign(epoch=history["epoch"].astype(int)).groupby("epoch")
    said = re.findall(r"(-?\d[\d.e+-]*) in epoch (\d+)", found.reason)
    for value, epoch in said:
        rows = by_epoch.get_group(int(epoch)).drop(columns="epoch").to_numpy().ravel()
        assert value in {f"{one:{form}}" for one in rows for form in (".3g", ".4g")}, found.reason
    words = re.findall(r"(?:loss|accuracy|from|to|and|above) (-?\d+\.\d[\d.e+-]*)", found.reason)
    assert set(words) <= logged, found.reason
    assert said or "accuracy" in found.reason or found.kind in (TOO_SHORT, NO_LOSS, UNSTABLE)


def test_an_accuracy_is_never_compared_with_a_loss() -> None:
    history = history_of(under).drop(columns="train_accuracy")
    found = diagnose(history)
    assert found.kind == UNDER
    assert found.reason == "accuracy 0.59 on the hold-out (epoch 29); attainable is 0.9"
    assert "loss" not in found.reason


def test_runs_of_one_program_count_in_percent_together() -> None:
    learnt, dead = history_of(fine), history_of(under)
    for history, factor in ((learnt, 100.0), (dead, 1.0)):  # the dead one guesses 1 of 100 classes: 1 %
        history[["train_accuracy", "test_accuracy"]] *= factor
    dead[["train_accuracy", "test_accuracy"]] = 1.0
    runs = [history.assign(run=run, name=run, state="finished") for run, history in (("learnt", learnt), ("dead", dead))]
    assert diagnose_runs(pd.concat(runs, ignore_index=True))["diagnosis"].tolist() == [FINE, UNDER]


def test_shares_beside_percent_under_the_same_names_are_each_judged_in_their_own_unit() -> None:
    runs = []
    for run, curves, factor in (("share", fine, 1.0), ("percent", fine, 100.0), ("low", under, 1.0), ("low percent", under, 100.0)):
        history = history_of(curves).assign(run=run, name=run, state="finished")
        history[["train_accuracy", "test_accuracy"]] *= factor
        runs.append(history)
    assert diagnose_runs(pd.concat(runs, ignore_index=True))["diagnosis"].tolist() == [FINE, FINE, UNDER, UNDER]


def test_a_short_steep_fall_is_no_jump() -> None:
    train = [2.0, 0.95, 0.468, 0.259, 0.15, 0.094]
    history = pd.DataFrame(
        {"epoch": np.arange(1.0, 7), "train_loss": train, "test_loss": [1.57, 0.795, 0.482, 0.276, 0.174, 0.145]}
    )
    assert diagnose(history).kind == IMPROVING


def test_a_run_whose_loss_rose_for_ten_epochs_is_not_advised_more_of_them() -> None:
    test = [0.3, 0.08, 0.06, 0.05, 0.04, 0.03, 0.022, 0.015, 0.012, 0.01, *np.linspace(0.011, 0.0224, 10)]
    history = pd.DataFrame({"epoch": np.arange(1.0, 21), "train_loss": np.geomspace(1, 1e-3, 20), "test_loss": test})
    assert diagnose(history).kind == OVER


def test_a_pruned_run_that_improved_is_not_advised_more_epochs() -> None:
    assert "more epochs may help" in diagnose(history_of(improving).assign(state="finished")).reason
    pruned = diagnose(history_of(improving).assign(state="pruned"))
    assert (pruned.kind, pruned.reason.endswith("when the run was pruned")) == (IMPROVING, True)


def test_rows_of_other_metrics_after_the_last_epoch_are_no_loss_that_became_nan() -> None:
    history = history_of(fine).assign(rate=0.1)
    for extra in ({"epoch": 31.0, "final/score": 0.9}, {"epoch": 31.0, "test_accuracy": 0.9}, {"epoch": 31.0, "test_loss": 0.14}):
        assert diagnose(pd.concat([history, pd.DataFrame([extra])], ignore_index=True)).kind == FINE
    silent = pd.DataFrame({"epoch": [31.0, 32.0], "rate": [0.1, 0.1], "train_accuracy": 0.1, "test_accuracy": 0.1})
    found = diagnose(pd.concat([history, silent], ignore_index=True))
    assert (found.kind, found.epoch) == (UNSTABLE, 31)
    losses = history_of(fine)[["epoch", "train_loss", "test_loss"]]
    losses.loc[20:, ["train_loss", "test_loss"]] = np.nan  # a program that logs nothing else
    assert diagnose(losses).kind == UNSTABLE


def test_every_diagnosis_has_its_rule() -> None:
    assert [kind for kind, _ in rules_table()] == [RUNNING, NO_LOSS, TOO_SHORT, UNSTABLE, OVER, IMPROVING, UNDER, FINE]
    assert set(KIND_WORDS) == {kind for kind, _ in rules_table()}


def test_the_command_names_every_run_its_diagnosis_and_the_rules_and_draws_those_with_curves(
    study_folder: Path, svm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step.main([str(study_folder), str(svm_folder), "--figures", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "7 runs: 5 too few epochs, 2 no loss" in printed
    for kind, condition in rules_table():
        assert f"{kind:<16} {condition}" in printed
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 5
    assert all(map(is_a_drawing, pictures))


@pytest.mark.parametrize("name", list(TRUTH))
def test_the_figure_marks_the_epoch_and_gives_the_reason(name: str, tmp_path: Path) -> None:
    history = history_of(TRUTH[name][0], noise=0.05)
    found = diagnose(history)
    figure = diagnosis_figure(history, found, title="run-7")
    for axes, part in zip(figure.axes, ("loss", "accuracy"), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", part)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), history[f"train_{part}"])
        np.testing.assert_array_equal(axes.lines[1].get_ydata(), history[f"test_{part}"])
        marked = [line.get_xdata()[0] for line in axes.lines[2:]]
        assert marked == ([] if found.epoch is None else [found.epoch])
    written = " ".join((figure.get_suptitle()).split())
    assert written == f"run-7: {found.kind}; {found.reason}"
    assert is_a_drawing(save_figure(figure, tmp_path / "curves.png"))


def test_runs_of_one_name_are_told_apart_by_their_ids(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [RunRecord(run, "same", state="finished", columns={"epoch": np.ones(1)}) for run in ("a1", "b2")]
    monkeypatch.setattr(step, "sources_of", lambda _options: runs)
    assert step.main(["runs"]) == 0
    printed = capsys.readouterr().out
    assert "same (a1)" in printed
    assert "same (b2)" in printed
