"""The report's sections beside front and choice: their numbers, counted again without them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.stats import binomtest, t

from paretune.analysis.document import confidence_and_models
from paretune.analysis.document.document import Heading, Paragraph, Picture, Table
from paretune.analysis.document.study import Study
from paretune.analysis.document.sweep_report import read_study
from paretune.analysis.figures.models import confusions_in_words


@pytest.fixture
def softmax(models: SimpleNamespace) -> Study:
    return read_study(str(models.sources[0]), "f1", models.folder)


@pytest.fixture
def svm(models: SimpleNamespace) -> Study:
    return read_study(str(models.sources[1]), "f1", models.folder)


def words(blocks: list[object]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Paragraph | Heading))


def test_the_interval_of_an_accuracy_is_wilsons(softmax: Study) -> None:
    (table,) = [block for block in confidence_and_models.confidence_section([softmax]) if isinstance(block, Table)]
    place = list(table.columns).index("test_accuracy")
    for row in table.rows:
        value, low, high = map(float, re.findall(r"\d\.\d+", row[place]))
        found = binomtest(round(value * 216), 216).proportion_ci(0.95, "wilson")
        assert (low, high) == pytest.approx((found.low, found.high), abs=6e-5)
    assert "216 hold-out images" in words(confidence_and_models.confidence_section([softmax]))


def test_the_seeds_of_a_retrain_stand_with_mean_and_interval(softmax: Study) -> None:
    scores = np.array([0.9, 0.92, 0.97])
    half = t.ppf(0.975, 2) * scores.std(ddof=1) / np.sqrt(3)
    entries = [{"seed": seed, "accuracy": value} for seed, value in enumerate(scores)]
    interval = {"accuracy": [scores.mean(), scores.mean() - half, scores.mean() + half]}
    chosen = {**softmax.models["chosen"], "seeds": entries, "interval": interval}
    text = words(confidence_and_models.confidence_section([dataclasses.replace(softmax, models={"chosen": chosen})]))
    assert f"with the seeds 0, 1, 2. Over them, on the locked test part: accuracy 0.9300 ({0.93 - half:.4f} to" in text
    assert "The model that is kept is that of seed 0" in text
    assert "retrained with the seeds" not in words(confidence_and_models.confidence_section([softmax])), "one seed has no interval"


def test_every_run_is_diagnosed_once_and_an_svm_has_no_curves(softmax: Study, svm: Study) -> None:
    text = words(confidence_and_models.training_section(softmax))
    counts = re.search(r"of (\d+) runs of softmax: (.*?)\.", text)
    assert counts is not None
    assert sum(int(number) for number in re.findall(r"\d+", counts[2])) == int(counts[1])
    assert int(counts[1]) == len(softmax.runs) > sum(run.n_rows > 1 for run in softmax.runs)
    assert confidence_and_models.training_section(svm) == []


def test_too_few_runs_have_no_importance_but_a_sentence(softmax: Study, tmp_path: Path) -> None:
    blocks = confidence_and_models.parameters_section(softmax, tmp_path)
    assert "No importance is given: the importance of hyper-parameters takes" in words(blocks)
    assert not any(isinstance(block, Picture) for block in blocks)


def test_what_the_model_does_is_drawn_from_the_one_reading(softmax: Study, tmp_path: Path) -> None:
    blocks = confidence_and_models.model_section(softmax, tmp_path)
    drawn = sorted(block.file.name for block in blocks if isinstance(block, Picture))
    assert drawn == [f"{kind}-softmax.png" for kind in ("calibration", "classes", "embedding", "hardest", "pr")]
    assert all((tmp_path / name).stat().st_size > 5000 for name in drawn)
    arrays = load_file(softmax.folder / "predictions.safetensors")
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (arrays["labels"], arrays["predicted"]), 1)
    assert confusion.tolist() == json.loads((softmax.folder / "metrics.json").read_text())["test"]["confusion"]
    np.fill_diagonal(confusion, 0)
    true, predicted = np.unravel_index(confusion.argmax(), confusion.shape)
    found = confusions_in_words(arrays["labels"], arrays["predicted"], [str(digit) for digit in range(10)])
    assert found in words(blocks)
    if (confusion == confusion.max()).sum() == 1 < confusion.max():
        assert f"{true} taken for {predicted} ({confusion.max()})" in found


def test_a_sweep_that_did_not_vary_augmentation_says_nothing_of_it(softmax: Study) -> None:
    assert confidence_and_models.augmentation_section(softmax) == []
