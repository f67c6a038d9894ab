"""The least number of epochs that is judged. What a judgement says of known curves: tests/analysis/test_diagnose.py."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from paretune.analysis.findings.diagnosis import TOO_SHORT, diagnose


@pytest.mark.parametrize(("n_epochs", "judged"), [(1, False), (5, False), (6, True), (7, True)])
def test_six_epochs_are_the_fewest_that_are_judged(n_epochs: int, judged: bool) -> None:
    epochs = np.arange(1.0, n_epochs + 1)
    losses = {"train_loss": np.exp(-epochs), "test_loss": np.exp(-epochs / 2)}
    accuracies = {"train_accuracy": 1 - np.exp(-epochs), "test_accuracy": 1 - np.exp(-epochs / 2)}
    found = diagnose(pd.DataFrame({"epoch": epochs, **losses, **accuracies}))
    assert (found.kind != TOO_SHORT) is judged
