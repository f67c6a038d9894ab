"""Packed models are the same bytes each time, and their checksums check."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from paretune.core.errors import UsageError
from paretune.models.pack import main, pack
from paretune.models.saved_models import load, save
from paretune.trainers.softmax import Softmax, SoftmaxConfig
from tests.samples import small_data


@pytest.fixture
def models(tmp_path: Path) -> Path:
    classifier = Softmax(SoftmaxConfig(epochs=1), device="cpu").fit(small_data())
    for name in ("one", "two"):
        save(classifier, tmp_path / "models" / name, metrics={"f1": 0.5})
    (tmp_path / "models" / "no model").mkdir()
    return tmp_path / "models"


def test_every_model_is_packed_and_its_checksum_checks(models: Path, tmp_path: Path) -> None:
    packed = pack(models, tmp_path / "dist")
    assert sorted(path.name for path in packed) == ["one.zip", "two.zip"]
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "dist", capture_output=True, text=True)
    assert check.returncode == 0
    assert check.stdout.count("OK") == 2


def test_an_unpacked_model_loads(models: Path, tmp_path: Path) -> None:
    pack(models, tmp_path / "dist")
    with zipfile.ZipFile(tmp_path / "dist" / "one.zip") as archive:
        archive.extractall(tmp_path / "there")
    assert load(tmp_path / "there" / "one").class_names == ["c0", "c1", "c2"]


def test_the_same_model_packs_to_the_same_bytes(models: Path, tmp_path: Path) -> None:
    first = pack(models, tmp_path / "dist")
    for path in models.rglob("*.json"):
        path.touch()
    assert list(pack(models, tmp_path / "again").values()) == list(first.values())


def test_without_a_model_one_sentence_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="holds no saved model; train one first: make sweep"):
        pack(tmp_path, tmp_path / "dist")
    with pytest.raises(SystemExit) as exit_:
        main([str(tmp_path)])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")
