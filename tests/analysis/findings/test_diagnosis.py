"""The least number of epochs that is judged. What a judgement says of known curves: tests/analysis/test_diagnose.py."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.findings.diagnosis import TOO_SHORT, diagnose, diagnose_runs
from paretune.analysis.sources.run_record import RunRecord, tidy


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
    assert ours == "it logged no finite train and no hold-out loss"
