"""Every reading of the locked part is on record, with the model and with its study, whoever reads; the report sums them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from paretune.analysis import embed, report, retrain
from paretune.analysis.document import sections
from paretune.analysis.document.sweep_report import read_study
from paretune.analysis.locked_part import FILE
from paretune.models import evaluation, locked_readings, train_command
from paretune.models.locked_readings import KEY, of_model, of_study, on_record, together
from paretune.trainers import evaluate
from tests.analysis.conftest import copied

N_LOCKED = 360


@pytest.fixture
def place(study_folder: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the sweep, `runs/tiny`, and its retrained models."""
    copied(study_folder, tmp_path / "runs")
    assert again(tmp_path, "models/tiny") == 0
    return tmp_path


def again(place: Path, to: str, *flags: str) -> int:
    return retrain.main([str(place / "runs" / "tiny"), "--to", str(place / to), "--device", "cpu", *flags])


def said(place: Path) -> str:
    return sections.reads_in_words([read_study(str(place / "runs" / "tiny"), "f1", place / "models")])


def readers(readings: list[dict[str, Any]]) -> list[str]:
    return [reading["by"].rpartition(".")[2] for reading in readings]


def test_a_retrain_is_on_record_with_model_and_study(place: Path) -> None:
    ours = of_model(place / "models" / "tiny")
    default = of_model(place / "models" / "tiny-baseline")
    assert readers(ours) == readers(default) == ["retrain"]
    assert of_study(str(place / "runs" / "tiny")) == together(ours, default)
    (reading,) = ours
    metrics = json.loads((place / "models" / "tiny" / "metrics.json").read_text())
    config = json.loads((place / "models" / "tiny" / "config.json").read_text())
    assert reading["accuracy"] == metrics["test"]["accuracy"]
    assert reading["fingerprint"] == config["provenance"]["fingerprints"]["test"]
    assert said(place) == "On record, it was read once for each of them."


READINGS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another retrain": (lambda place: again(place, "elsewhere"), "retrain"),
    "evaluate": (lambda place: evaluate.main([str(place / "models" / "tiny"), "--device=cpu"]), "evaluate"),
    "embed": (
        lambda place: embed.main([
            str(place / "models" / "tiny"), "--layer=output", "--method=pca", "--device=cpu", f"--to={place / 'map.png'}"
        ]),
        "embed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("read", "by"), READINGS.values(), ids=READINGS)
def test_whoever_reads_again_is_on_record_and_in_the_report(read: Callable[[Path], Any], by: str, place: Path) -> None:
    before = of_study(str(place / "runs" / "tiny"))
    read(place)
    new = [reading for reading in of_study(str(place / "runs" / "tiny")) if reading not in before]
    assert set(readers(new)) == {by}
    text = said(place)
    assert f"{len(before) + len(new)} readings of it are on record (softmax: " in text
    assert f"{len(new) + (len(before) if by == 'retrain' else 0)} by {'trainers' if by == 'evaluate' else 'analysis'}.{by}" in text
    assert "once" not in text


def test_a_reading_of_the_hold_out_is_none_of_the_locked_part(place: Path) -> None:
    before = of_model(place / "models" / "tiny")
    assert embed.main([
        str(place / "models" / "tiny"), "--split=train", "--layer=output", "--method=pca", "--device=cpu", f"--to={place / 'm.png'}"
    ]) == 0  # fmt: skip
    assert of_model(place / "models" / "tiny") == before


def test_the_whole_report_counts_and_says_it_in_spanish_as_well(place: Path) -> None:
    evaluation.evaluate_saved(str(place / "models" / "tiny"), device="cpu")
    for language, words in (("en", "3 readings of it are on record"), ("es", "Constan 3 lecturas de él")):
        to = place / language
        arguments = [str(place / "runs" / "tiny"), "--models", str(place / "models"), "--to", str(to), "--language", language]
        assert report.main(arguments) == 0
        text = (to / "report.html").read_text(encoding="utf-8")
        assert words in text
        assert "read once" not in text


def test_a_reading_that_is_broken_off_is_on_record(place: Path) -> None:
    def breaks_off() -> None:
        with on_record(place / "models" / "tiny", "abc", "trainers.evaluate"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaks_off()
    for readings in (of_model(place / "models" / "tiny"), of_study(str(place / "runs" / "tiny"))):
        assert [(reading["by"], reading["accuracy"]) for reading in readings if reading["fingerprint"] == "abc"] == [
            ("trainers.evaluate", None)
        ]


def test_readings_of_other_data_are_not_summed(place: Path) -> None:
    with on_record(place / "models" / "tiny", "abc", "trainers.evaluate"):
        pass
    assert said(place) == "On record, it was read once for each of them."


def test_a_model_whose_study_is_gone_is_read_and_keeps_its_record(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(place / "runs")
    evaluation.evaluate_saved(str(place / "models" / "tiny"), device="cpu")
    assert readers(of_model(place / "models" / "tiny")) == ["retrain", "evaluate"]
    assert capsys.readouterr().err.count("is not on the study's record: ") == 1


def test_a_model_that_cannot_be_written_is_evaluated_and_that_is_said(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locked_readings, "write_down", full)
    assert evaluation.evaluate_saved(str(place / "models" / "tiny"), device="cpu").n_samples == N_LOCKED
    note = capsys.readouterr().err
    assert note.count("is not on the record of") == 1
    assert "No space left on device" in note


def test_a_model_of_an_older_version_was_read_an_unknown_number_of_times(place: Path) -> None:
    file = place / "models" / "tiny" / "metrics.json"
    metrics = json.loads(file.read_text())
    del metrics[KEY], metrics["locked_part_read"]
    file.write_text(json.dumps(metrics))
    assert said(place) == "How often it was read is unknown."
    evaluation.evaluate_saved(str(place / "models" / "tiny"), device="cpu")
    assert "an unknown command" in said(place)


def _reads(model: str) -> None:
    for _ in range(5):
        with on_record(model, "abc", "trainers.evaluate"):
            pass


def test_processes_that_read_at_the_same_time_lose_no_record(place: Path) -> None:
    model = str(place / "models" / "tiny")
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    processes = [context.Process(target=_reads, args=(model,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for readings in (of_model(model), of_study(str(place / "runs" / "tiny"))):
        assert len([reading for reading in readings if reading["fingerprint"] == "abc"]) == 20


def test_a_trainer_that_is_judged_on_the_locked_part_has_each_time_on_record(tmp_path: Path) -> None:
    for holdout, n_reads in ((0, 1), (0, 2), (0.15, 2)):
        flags = ["--epochs=1", "--data=digits", f"--holdout={holdout}", "--wandb=disabled", "--device=cpu"]
        train_command.main("softmax", [*flags, f"--save={tmp_path / 'model'}"])
        assert readers(of_model(tmp_path / "model")) == ["softmax"] * n_reads
    assert not (tmp_path / "model" / FILE).exists()
