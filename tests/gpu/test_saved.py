"""A model that the GPU has trained and saved is used on the CPU, and the other way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paretune.kernel_svm import batched_solver
from paretune.models.evaluation import evaluate
from paretune.models.saved_models import load, save
from tests.gpu.comparing import data, trained

pytestmark = pytest.mark.gpu

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dense": ("ann", "fp32", {"hidden": [16], "epochs": 3}),
    "convolutional in bf16": ("ann", "bf16", {"n_conv": 1, "channels": 8, "hidden": [16], "batch_norm": True, "epochs": 3}),
    "svm": ("svm", "fp32", {"C": 10.0, "probability": True}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_classifier_predicts_and_scores_alike_on_both_sides(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_solver, "FROM", 0)
    classifier, precision, values = MODELS[name]
    model, _ = trained(classifier, "cuda", precision=precision, **values)
    save(model, tmp_path / "model", metrics={})
    sides: list[Any] = [load(tmp_path / "model", device=device) for device in ("cuda", "cpu")]
    test = data().test
    whole, gpu, cpu = ([*side.predict_with_proba(test.x), evaluate(side, test, data()).metrics] for side in (model, *sides))
    for found, wanted in ((gpu, whole), (cpu, gpu)):
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-4)  # fp32 on both sides, whatever it was trained in
        assert found[2] == pytest.approx(wanted[2], abs=1e-4)


def test_a_saved_autoencoder_gives_the_same_pictures_on_both_sides(tmp_path: Path) -> None:
    model, _ = trained("autoencoder", "cuda", hidden=[12], epochs=3)
    save(model, tmp_path / "model", metrics={})
    x = data().test.x
    gpu, cpu = (load(tmp_path / "model", device=device).reconstruct(x) for device in ("cuda", "cpu"))  # type: ignore[attr-defined]
    np.testing.assert_allclose(cpu, gpu, atol=1e-5)
    np.testing.assert_allclose(gpu, model.reconstruct(x), atol=1e-5)


def test_images_of_the_gpu_are_taken_as_those_of_the_cpu() -> None:
    model, _ = trained("ann", "cuda", hidden=[16], epochs=2)
    x = data().test.x
    np.testing.assert_array_equal(model.predict_proba(x.to("cuda")), model.predict_proba(x))
    assert isinstance(model.predict(x), np.ndarray)
    assert torch.device("cuda", 0) == model.device
