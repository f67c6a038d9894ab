"""A model is not taken for one that never saw its images: at the start of a training, when evaluated, and when mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretune.analysis import embed
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.evaluation import evaluate_saved
from paretune.models.saved_models import save
from paretune.models.seen_images import check_unseen
from paretune.trainers.evaluate import main
from paretune.trainers.softmax import Softmax, SoftmaxConfig


def pictures(folder: Path, *, first: int = 0, count: int = 20, size: int = 8) -> str:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            pixels = np.random.default_rng([number, len(label), ord(label[0])]).integers(0, 256, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:03}.png")
    return f"folder:{folder}"


def saved(folder: Path, name: str, **values: Any) -> str:
    options = DataOptions.from_dict({"data": name, "image_size": 8, **values})
    data = load_data(options)
    origin = {"data_options": options.to_dict(), "provenance": {"fingerprints": dict(data.fingerprints)}}
    return str(save(Softmax(SoftmaxConfig(epochs=1), device="cpu").fit(data), folder, metrics={}, origin=origin))


def started_from(model: str, name: str, **values: Any) -> None:
    data = load_data(DataOptions.from_dict({"data": name, "image_size": 8, **values}))
    Softmax(SoftmaxConfig(epochs=1, start_from=model), device="cpu").fit(data)


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))


def test_a_start_that_saw_the_locked_images_is_refused(tmp_path: Path) -> None:
    name = pictures(tmp_path / "set")
    pictures(tmp_path / "larger")
    other = pictures(tmp_path / "larger", first=20)  # its locked part is another one
    model = saved(tmp_path / "model", other)
    with pytest.raises(
        UsageError, match=r"start_from: .*model must not have seen the locked test images. It was trained on \d+ of the 8"
    ):
        started_from(model, name)


@pytest.mark.parametrize("values", [{}, {"holdout": 0.3}, {"n_folds": 4}], ids=str)
def test_a_start_on_the_same_split_is_fine(values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = pictures(tmp_path / "set")
    started_from(saved(tmp_path / "model", name, **values), name, **values)
    assert "start_from" not in capsys.readouterr().err


def test_a_start_that_saw_held_out_images_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = pictures(tmp_path / "set")
    started_from(saved(tmp_path / "model", name, holdout=0.0), name)
    assert "was trained on 5 of the 5 held-out images" in capsys.readouterr().err


def test_a_start_of_a_start_counts_as_well(tmp_path: Path) -> None:
    name, other = pictures(tmp_path / "set"), pictures(tmp_path / "other", first=100)
    first = saved(tmp_path / "first", pictures(tmp_path / "larger", count=40))
    second = saved(tmp_path / "second", other)
    config = json.loads((Path(second) / "config.json").read_text())
    config["config"]["start_from"] = first
    (Path(second) / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="second must not have seen the locked test images"):
        started_from(second, name)


@pytest.mark.parametrize("lost", ["data_options", "provenance", "files"])
def test_what_is_unknown_is_said(lost: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = pictures(tmp_path / "set")
    model = saved(tmp_path / "model", pictures(tmp_path / "first"))
    config = json.loads((Path(model) / "config.json").read_text())
    config.pop(lost, None)
    (Path(model) / "config.json").write_text(json.dumps(config))
    if lost == "files":
        (tmp_path / "first").rename(tmp_path / "elsewhere")
    check_unseen(model, load_data(DataOptions(data=name, image_size=8)))
    assert "is unknown" in capsys.readouterr().err


def test_pictures_in_another_size_are_the_same_pictures(tmp_path: Path) -> None:
    name = pictures(tmp_path / "set")
    model = saved(tmp_path / "model", pictures(tmp_path / "larger", count=40))
    with pytest.raises(UsageError, match="must not have seen the locked test images"):
        check_unseen(model, load_data(DataOptions(data=name, image_size=12)))


@pytest.mark.parametrize("split", ["test", "holdout"])
def test_a_part_that_has_changed_is_not_evaluated_or_mapped(split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = pictures(tmp_path / "set")
    model = saved(tmp_path / "model", name)
    evaluate_saved(model, split=split, device="cpu")
    pictures(tmp_path / "set", first=20, count=3)
    commands = (
        lambda: main([model, f"--split={split}", "--device=cpu"]),
        lambda: embed.main([model, "--layer=output", f"--split={split}", f"--to={tmp_path / 'map.png'}", "--device=cpu"]),
    )
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            command()
        assert ended.value.code == 2
        assert f"the {split} part of {name} must be the one that was set apart" in capsys.readouterr().err
    assert not (tmp_path / "map.png").exists()


def test_another_set_with_the_models_own_images_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", pictures(tmp_path / "larger", count=40))
    with pytest.raises(UsageError, match=r"--data: .* It was trained on \d of the 8"):
        evaluate_saved(model, data_name=pictures(tmp_path / "set"), device="cpu")
    evaluate_saved(model, data_name=pictures(tmp_path / "new", first=100), device="cpu")
