"""Networks trained with and without augmentation, their drawings, and what is said of them: on 8x8 digits, in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits

from paretune.analysis import augmentation as step
from paretune.analysis import drawn_report
from paretune.analysis.document.language import speak
from paretune.analysis.drawn_digits import FORMED, FULL, _over_seeds, plan_of, read_drawings
from paretune.analysis.drawn_report import gallery_figure, table_of, words_of
from paretune.core.errors import UsageError
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.saved_models import describe, load
from paretune.networks.loop import GradientModel
from tests.analysis.reading import Page, is_a_drawing, pictures_of

LABELS = (1, 3, 7)  # of the ten classes
PRESET = "hidden: [8]\nepochs: 2\nlearning_rate: 0.01\nbatch_size: 10\nflip: true\nrotate: 30.0\nearly_stopping: 1\nseed: 9\n"


def draw(folder: Path, count: int = 8) -> Path:
    """Write digits as the painter does: filling the small image, in a corner of the large one."""
    digits = load_digits()
    for label in LABELS:
        for number, index in enumerate(np.flatnonzero(digits.target == label)[-count:]):
            digit = Image.fromarray((digits.images[index] * 15).astype(np.uint8))
            full = Image.new("L", (80, 80))
            full.paste(digit.resize((48, 48)), (32, 0))
            for form, image in ((FORMED, digit.resize((28, 28))), (FULL, full)):
                path = folder / form / str(label) / f"d{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What a finished command left: two seeds, 100 images, two epochs."""
    root = tmp_path_factory.mktemp("augmentation")
    preset = root / "tiny.yaml"
    preset.write_text(PRESET, encoding="utf-8")
    drawn, to, models = draw(root / "drawn"), root / "report", root / "models"
    command = ["--drawings", str(drawn), "--preset", str(preset), "--data", "digits", "--seeds", "2", "--train_size", "100"]
    command += ["--to", str(to), "--models", str(models), "--device", "cpu"]
    assert step.main(command) == 0
    results = json.loads((to / "results.json").read_text(encoding="utf-8"))
    return SimpleNamespace(command=command, drawn=drawn, preset=preset, to=to, models=models, results=results)


def pixels(folder: Path) -> tuple[list[str], torch.Tensor, np.ndarray]:
    """Read a folder of drawings by hand: names, images (n, 1, 8, 8), digits."""
    files = sorted(folder.glob("*/*.png"))
    shrunk = [np.asarray(Image.open(file).resize((8, 8), Image.Resampling.BILINEAR), dtype=np.float32) / 255 for file in files]
    names = [f"{file.parent.name}/{file.stem}" for file in files]
    return names, torch.from_numpy(np.stack(shrunk)[:, None]), np.array([int(file.parent.name) for file in files])


def test_the_numbers_are_those_of_the_models_asked_again(done: SimpleNamespace) -> None:
    test = load_data(DataOptions(holdout=0.0)).test
    parts = {"test": (test.x, test.y.numpy())}
    parts |= {name: pixels(done.drawn / form)[1:] for name, form in (("drawings", FORMED), ("shrunk", FULL))}
    right: dict[tuple[bool, str], list[float]] = {}
    for one in done.results["models"]:
        model = load(one["model"], device="cpu")
        assert (model.config.seed, model.config.augment) == (one["seed"], one["augment"])
        for part, (x, y) in parts.items():
            accuracy = float(np.mean(model.predict(x) == y))
            assert one["accuracy"][part] == accuracy
            right.setdefault((one["augment"], part), []).append(accuracy)
    assert [(one["seed"], one["augment"]) for one in done.results["models"]] == [(0, False), (0, True), (1, False), (1, True)]
    assert done.results["n_images"] == {"test": 360, "drawings": 24, "shrunk": 24}
    for part, (_, y) in parts.items():
        for side, augment in (("without", False), ("with", True)):
            values, found = right[augment, part], done.results["accuracy"][side][part]
            assert found["mean"] == pytest.approx(np.mean(values))
            low, high = found["wilson_interval"]
            for end in (low, high):  # where the score test's statistic is at its limit
                z = (np.mean(values) - end) / np.sqrt(end * (1 - end) / len(y))
                assert abs(z) == pytest.approx(stats.norm.ppf(0.975))
            assert low < np.mean(values) < high
        difference = done.results["difference"][part]
        paired = stats.ttest_rel(right[True, part], right[False, part])
        assert difference["mean"] == pytest.approx(np.subtract(right[True, part], right[False, part]).mean())
        if difference["t_interval"] is not None:
            interval = paired.confidence_interval(0.95)
            assert difference["t_interval"] == pytest.approx(np.clip([interval.low, interval.high], -1, 1))
    assert any(found["t_interval"] for found in done.results["difference"].values())


def test_the_two_models_of_a_seed_differ_in_augmentation_alone_and_never_flip(done: SimpleNamespace) -> None:
    for seed in (0, 1):
        without, augmented = (describe(one["model"]) for one in done.results["models"] if one["seed"] == seed)
        assert {**without["config"], "augment": True} == augmented["config"]
        assert without["fingerprints"] == augmented["fingerprints"]
        config = augmented["config"]
        assert (config["flip"], config["rotate"], config["early_stopping"], config["seed"]) == (False, 30.0, None, seed)
    assert done.results["settings"]["augmentation"]["flip"] is False
    assert done.results["n_train"] == 100


def test_the_gallery_lists_exactly_the_drawings_that_one_of_the_pair_reads_rightly(done: SimpleNamespace) -> None:
    names, x, y = pixels(done.drawn / FORMED)
    read = {one["augment"]: load(one["model"], device="cpu").predict(x) for one in done.results["models"] if one["seed"] == 0}
    expected = [
        {"drawing": name, "label": str(label), "without": str(without), "with": str(augmented)}
        for name, label, without, augmented in zip(names, y, read[False], read[True], strict=True)
        if (without == label) != (augmented == label)
    ]
    found = done.results["read_by_one"]
    assert expected
    assert found["drawings"] == expected
    gained = sum(one["with"] == one["label"] for one in expected)
    assert (found["with_alone"], found["without_alone"]) == (gained, len(expected) - gained)
    assert found["p"] == pytest.approx(min(1.0, 2 * stats.binom.cdf(min(gained, len(expected) - gained), len(expected), 0.5)))
    drawings = read_drawings(done.drawn, load_data(DataOptions(holdout=0.0)))
    figure = gallery_figure(done.results, drawings)
    assert figure is not None
    for axes, one in zip(figure.axes, expected, strict=False):
        assert axes.get_title().split("\n")[1:] == [f"without: {one['without']}", f"with: {one['with']}"]
        np.testing.assert_allclose(axes.images[0].get_array(), x[names.index(one["drawing"]), 0], atol=1e-6)
    assert sum(bool(axes.images) for axes in figure.axes) == len(expected)


def test_a_second_run_trains_nothing_anew(
    done: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was trained again")

    monkeypatch.setattr(GradientModel, "fit_epochs", trained)

    def written() -> dict[Path, int]:  # without what holds the readings of the locked part, of which this is one more
        return {path: path.stat().st_mtime_ns for path in done.models.glob("*/*") if path.name != "metrics.json"}

    before = written()
    assert step.main(done.command) == 0
    assert written() == before
    assert json.loads((done.to / "results.json").read_text(encoding="utf-8")) == done.results
    printed = capsys.readouterr().out
    for row in table_of(done.results)[1]:
        assert all(cell in printed for cell in row)
    assert all(text in printed for text in words_of(done.results))


def test_the_page_loads_nothing_and_shows_the_table_and_both_figures(done: SimpleNamespace) -> None:
    page = Page(done.to / "report.html")
    assert page.loaded() == []
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    assert all(cell in page.text for row in table_of(done.results)[1] for cell in row)
    assert all(text in page.text for text in words_of(done.results))
    assert f"of the {len(done.results['read_by_one']['drawings'])} drawings that only one" in page.text
    assert pictures_of(done.to / "report.pdf") == 4  # two figures, and the mask of each
    assert is_a_drawing(done.to / "figures" / "augmented.png")


def test_the_report_speaks_spanish(done: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*done.command, "--language", "es"]
    command[command.index("--to") + 1] = str(tmp_path)
    assert step.main(command) == 0
    assert "sin aumento de datos" in capsys.readouterr().out
    page = Page(tmp_path / "report.html")
    assert ("html", {"lang": "es"}) in page.tags
    assert "Dibujos que solo uno de los dos lee bien" in page.text
    with speak("es"):
        assert all(text in page.text for text in words_of(done.results))


@pytest.mark.parametrize(("values", "is_known"), [([0.02, 0.02, 0.02], False), ([0.02], False), ([0.02, 0.03], True)])
def test_seeds_that_all_agree_say_nothing_about_the_spread(values: list[float], is_known: bool) -> None:
    found = _over_seeds(np.array(values), (0.0, 1.0))
    assert found["mean"] == pytest.approx(np.mean(values))
    assert (found["t_interval"] is not None) is is_known


def test_a_models_own_configuration_and_data_are_taken(done: SimpleNamespace, tmp_path: Path) -> None:
    known = {"format": 1, "classifier": "ann", "config": {"width": 5, "epochs": 7, "augment": True, "seed": 3}}
    known["data_options"] = {**DataOptions().to_dict(), "classes": ["1", "3"], "holdout": 0.3}
    (tmp_path / "config.json").write_text(json.dumps(known), encoding="utf-8")
    plan = plan_of(None, str(tmp_path), n_seeds=1)
    assert (plan.name, plan.n_epochs, plan.values["width"]) == (tmp_path.name, 7, 5)
    assert (plan.options.data, plan.options.classes, plan.options.holdout) == ("digits", ["1", "3"], 0.0)
    assert plan_of(None, str(tmp_path), "mnist", n_epochs=2).options.classes is None
    assert plan_of(None, None).options.data == "mnist"
    assert plan_of(None, None).values["conv"]
    with pytest.raises(UsageError, match="7 is named by no class of digits; there are 1, 3: rename or remove it"):
        read_drawings(done.drawn, load_data(plan.options))


# Bad input


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        step.main(command)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1
    return error


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([], "give either SOURCE, whose runs are compared, or --drawings DIR, to train and compare. Got neither."),
        (["runs", "--drawings", "d"], "to train and compare. Got both."),
        (["runs", "--seeds", "5"], "--seeds goes with --drawings, which is not given"),
        (["--drawings", "d", "--metric", "recall"], "--metric goes with SOURCE, which is not given"),
        (["--drawings", "d", "--tag", "x"], "--tag goes with SOURCE, which is not given"),
        (["--drawings", "d", "--preset", "simple_cnn", "--model", "m"], "--preset and --model both say what is trained"),
        (["--drawings", "d", "--preset", "simple_cn"], "did you mean 'simple_cnn'?"),
        (["--drawings", "d", "--model", "nowhere"], "nowhere is not a saved model"),
        (["--drawings", "d", "--seeds", "0"], "--seeds must be from 1 to 100. Got 0."),
        (["--drawings", "d", "--epochs", "0"], "epochs must be"),
        (["--drawings", "d", "--train_size", "0"], "train_size must be"),
        (["--drawings", "d", "--data", "digit"], "data 'digit' is not a set; did you mean 'digits'?"),
        (["--drawings", "d", "--device", "abacus"], "abacus"),
        (["--drawings", "d", "--language", "xx"], "--language must be one of"),
        (
            ["--drawings", "d", "--data", "digits"],
            f"--drawings d must hold a folder {FORMED} with a sub-folder of drawings per class",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    command: list[str], sentence: str, away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--drawings" in command and "--models" not in command:
        command = [*command, "--models", "models"]
    assert sentence in refused(command, capsys)
    assert not (away / "models").exists() or not any((away / "models").iterdir())


def test_the_sentence_of_a_folder_without_drawings_names_the_painter(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "make paint" in refused(["--drawings", str(away), "--data", "digits", "--models", "models"], capsys)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda folder: (folder / FORMED / "3").rename(folder / FORMED / "three"),
            "three is named by no class of digits; there are",
        ),
        (lambda folder: shutil.rmtree(folder / FULL), f"must hold a folder {FULL} with the drawings of {FORMED}"),
        (lambda folder: (folder / FULL / "3" / "d1.png").unlink(), f"3/d1 is not there: remove it from {FORMED}, or draw it anew"),
        (lambda folder: (folder / FORMED / "5").mkdir(), "5 holds no picture"),
        (
            lambda folder: [shutil.rmtree(folder / FORMED / label) for label in "13"],
            "must hold at least two sub-folders, one per class. Got 1.",
        ),
        (lambda folder: (folder / FORMED / "3" / "d1.png").write_text("no picture"), "d1.png is not a readable picture"),
        (
            lambda folder: Image.new("RGB", (28, 28), "red").save(folder / FORMED / "3" / "d1.png"),
            "must hold grey pictures of equal sides, as the images of digits are. Got colour ones",
        ),
        (
            lambda folder: Image.new("L", (28, 28)).save(folder / FORMED / "3" / "d1.bmp"),
            "must hold each drawing once. Got 3/d1 in two formats",
        ),
    ],
)
def test_a_folder_of_drawings_that_is_unfit_is_refused_before_training(
    spoil: Any, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drawn_report, "train_and_read", lambda *_, **__: pytest.fail("something was trained"))
    spoil(draw(tmp_path / "drawn", count=2))
    command = ["--drawings", str(tmp_path / "drawn"), "--data", "digits", "--device", "cpu", "--to", str(tmp_path / "report")]
    assert sentence in refused([*command, "--models", str(tmp_path / "models")], capsys)


def test_a_drawing_that_the_painter_did_not_finish_is_left_out_and_the_others_stay_paired(tmp_path: Path) -> None:
    folder, data = draw(tmp_path, count=3), load_data(DataOptions(holdout=0.0))
    whole = read_drawings(folder, data)
    (folder / FORMED / "3" / "d1.png").unlink()
    rest = read_drawings(folder, data)
    kept = [place for place, name in enumerate(whole.names) if name != "3/d1"]
    assert rest.names == [whole.names[place] for place in kept]
    for ours, theirs in ((rest.formed, whole.formed), (rest.shrunk, whole.shrunk)):
        torch.testing.assert_close(ours.x, theirs.x[kept])
        assert ours.y.tolist() == theirs.y[kept].tolist() == [int(name[0]) for name in rest.names]


def test_a_configuration_that_augments_by_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "still.yaml").write_text("{hidden: [8], translate: 0.0, scale: 0.0, rotate: 0.0, flip: true}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"augments by nothing \(translate, scale, rotate and crop are 0\)"):
        plan_of(str(tmp_path / "still.yaml"), None)


def test_only_the_configuration_of_an_ann_is_trained_anew(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "classifier": "svm", "config": {}}', encoding="utf-8")
    with pytest.raises(UsageError, match="--model must be a model of ann, which can augment its images"):
        plan_of(None, str(tmp_path))


def test_folders_that_cannot_be_written_are_refused_before_training(
    done: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    command = list(done.command)
    command[command.index("--to") + 1] = str(tmp_path / "file" / "report")
    assert "choose another folder with --to" in refused(command, capsys)
    command = list(done.command)
    command[command.index("--models") + 1] = str(tmp_path / "file")
    assert "choose another folder for the model" in refused(command, capsys)


def test_readings_that_agree_but_for_rounding_have_no_interval() -> None:
    assert _over_seeds(np.array([0.3, 0.1 + 0.2, 0.3]), (0.0, 1.0))["t_interval"] is None
