"""What layers make of images: which images are drawn, where each stands in the table, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paretune.analysis import embed
from paretune.analysis.embed import Embedding, embeddings, write
from paretune.core.errors import UsageError
from tests.analysis.reading import is_a_drawing
from tests.samples import small_data


class Model:
    """A model whose layers are known: the pixels, and twice the pixels."""

    def check_layer(self, layer: str) -> None:
        if layer not in ("pixels", "twice"):
            raise UsageError(f"there is no layer {layer!r}.")

    def activations(self, x: Any, layer: str) -> np.ndarray:
        flat = x.reshape(len(x), -1).numpy()
        return flat if layer == "pixels" else 2 * flat


def test_each_layer_is_seen_on_the_same_images_of_the_part() -> None:
    data = small_data()
    found = embeddings(Model(), data, ["pixels", "twice"], split="train", most=20)
    assert len(found.images) == 20
    assert found.labels.tolist() == data.train.y.numpy()[found.images].tolist()
    np.testing.assert_allclose(found.layers["twice"], 2 * found.layers["pixels"], rtol=1e-3, atol=1e-3)
    assert found.class_names == list(data.class_names)
    every = embeddings(Model(), data, ["pixels"], split="test", most=10**6)
    assert every.images.tolist() == list(range(len(data.test)))


def test_a_layer_or_a_part_that_is_not_there_is_refused() -> None:
    data = small_data()
    with pytest.raises(UsageError, match="there is no layer 'none'"):
        embeddings(Model(), data, ["pixels", "none"])
    data = replace(data, holdout=None)
    with pytest.raises(UsageError, match="has no holdout part here, as the model was trained on all: use --split=test or train"):
        embeddings(Model(), data, ["pixels"], split="holdout")


def test_the_table_names_each_point_and_the_figure_is_drawn(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    layers = {name: random.normal(size=(6, 3)).astype(np.float32) for name in ("a", "b")}
    found = Embedding(layers, np.array([0, 1, 2, 0, 1, 2]), np.array([4, 5, 7, 8, 9, 11]), ["x", "y", "z"])
    figure, table = write(found, tmp_path / "map.png", method="pca")
    assert is_a_drawing(figure)
    lines = pd.read_csv(table)
    assert list(lines) == ["layer", "image", "class", "x", "y"]
    assert lines["layer"].tolist() == ["a"] * 6 + ["b"] * 6
    assert lines["image"].tolist() == found.images.tolist() * 2
    assert lines["class"].tolist() == ["x", "y", "z"] * 4


def test_too_few_images_make_no_map(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        embed.main(["nowhere", "--images=2"])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == "error: --images must be at least 3. Got 2.\n"
