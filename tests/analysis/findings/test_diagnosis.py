"""The least number of epochs that is judged. What a judgement says of known curves: tests/analysis/test_diagnose.py."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.findings.diagnosis import FINE, TOO_SHORT, UNSTABLE, diagnose, diagnose_runs
from paretune.analysis.sources.run_record import RunRecord, last_values, tidy


@pytest.mark.parametrize(("n_epochs", "judged"), [(1, False), (5, False), (6, True), (7, True)])
def test_six_epochs_are_the_fewest_that_are_judged(n_epochs: int, judged: bool) -> None:
    epochs = np.arange(1.0, n_epochs + 1)
    losses = {"train_loss": np.exp(-epochs), "test_loss": np.exp(-epochs / 2)}
    accuracies = {"train_accuracy": 1 - np.exp(-epochs), "test_accuracy": 1 - np.exp(-epochs / 2)}
    found = diagnose(pd.DataFrame({"epoch": epochs, **losses, **accuracies}))
    assert (found.kind != TOO_SHORT) is judged


def test_another_program_with_a_classifier_in_its_config_is_told_what_it_logged() -> None:
    config, columns = {"classifier": "svc"}, {"epoch": np.ones(1), "score": np.ones(1)}
    runs = [RunRecord(name, state="finished", config=config, columns=columns, ours=name == "ours") for name in ("theirs", "ours")]
    theirs, ours = diagnose_runs(tidy(runs), ours={run.run for run in runs if run.ours})["reason"]
    assert "it logged score: name the loss curves by --train" in theirs
    assert ours == "it logged neither a finite train loss nor a finite hold-out loss"


def losses(*, pause: int, lost: float, which: str) -> RunRecord:
    """Return a run of 30 epochs whose hold-out loss comes every `pause` epochs, and one of whose losses is NaN from one on."""
    epochs = np.arange(1.0, 31)
    values = {"loss": 0.1 + np.exp(-epochs / 3), "val_loss": 0.2 + np.exp(-epochs / 3)}
    values["val_loss"][epochs % pause != 0] = np.nan
    values[which] = np.where(epochs >= lost, np.nan, values[which])
    latest = {name: math.nan if name == which and lost <= 30 else 0.1 for name in values}
    return RunRecord(which, state="finished", columns={"epoch": epochs, **values}, read_summary=lambda: latest)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("pause", "lost", "which", "kind"),
    [
        (1, 7, "val_loss", UNSTABLE),
        (1, 7, "loss", UNSTABLE),
        (5, 15, "val_loss", UNSTABLE),
        (5, 99, "val_loss", FINE),
        (4, 99, "val_loss", FINE),
    ],
)
def test_one_loss_that_is_nan_while_the_other_goes_on_is_unstable(
    pause: int, lost: int, which: str, kind: str, known: bool
) -> None:
    run = losses(pause=pause, lost=lost, which=which)
    found = diagnose_runs(tidy([run]), last_values={run.run: last_values(run)} if known else None).iloc[0]
    assert found["diagnosis"] == kind
    assert found["epoch"] == lost or kind == FINE or not known


def test_a_loss_that_is_nan_in_its_last_value_alone_is_told_from_one_that_was_not_logged() -> None:
    run = losses(pause=1, lost=30, which="val_loss")
    found = diagnose_runs(tidy([run]), last_values={run.run: last_values(run)}).iloc[0]
    assert (found["diagnosis"], found["epoch"]) == (UNSTABLE, 30)
    assert diagnose_runs(tidy([run]), last_values={run.run: {"val_loss": 0.2}})["diagnosis"].tolist() == [FINE]
