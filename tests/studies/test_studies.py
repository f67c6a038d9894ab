"""Every study in its reduced form: it ends, draws its figures, and its numbers are those of the runs and models that it kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from paretune.analysis.history import load_runs
from paretune.core.errors import UsageError
from paretune.data.dataset import data_root
from paretune.models.saved_models import load
from studies.__main__ import main
from studies.base import STUDIES, Study, entry_of, mean_with_interval
from studies.faces import separation
from studies.pages import write, write_report
from tests.analysis.reading import Page, is_a_drawing, pages_of
from tests.samples import ROOT, SMALL_BACKBONE

FOLDERS = {"fashion_mnist": "FashionMNIST/raw", "mnist": "MNIST/raw", "cifar10": "cifar10", "faces": "faces"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


def done(name: str, folder: Path, *more: str) -> dict[str, object]:
    """Do a study in its reduced form, with the runs and models that earlier ones left; return its results."""
    data = STUDIES[name].data
    if not (data_root() / FOLDERS[data]).exists():
        pytest.skip(f"{data} is not below DATA_ROOT")
    parts = [f"--{part}={folder / part}" for part in ("to", "runs", "models")]
    assert main([name, "--quick", "--device=cpu", *parts, *more]) == 0
    return json.loads((folder / "to" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_reduced_form_has_its_table_figures_and_page(name: str, folder: Path) -> None:
    found = done(name, folder)
    assert found["quick"]
    assert found["reduction"]
    assert found["lines"]
    assert all(line["reached"] is None for line in found["lines"]), "a reduced form reaches nothing"  # type: ignore[attr-defined]
    for figure in found["figures"]:  # type: ignore[attr-defined]
        assert is_a_drawing(folder / "to" / figure["file"])
    page = Page(folder / "to" / f"{name}.html")
    assert page.loaded() == []
    assert f"Reduced form: {found['reduction']}." in page.text
    for line in found["lines"]:  # type: ignore[attr-defined]
        assert line["ours"] in page.text


@pytest.mark.needs_data
@pytest.mark.slow
def test_a_model_of_a_study_is_that_of_its_curve(folder: Path) -> None:
    done("f4", folder)
    runs = load_runs(folder / "runs" / "study-f3-quick")
    first = min(runs, key=lambda run: run.config["seed"])
    from paretune.data.dataset import load_data
    from paretune.data.options import DataOptions

    data = load_data(DataOptions.from_dict({"data": "fashion_mnist", "holdout": 0.0}))
    predicted = load(folder / "models" / "study-f3-quick", device="cpu").predict(data.test.x)  # type: ignore[attr-defined]
    assert (predicted == data.test.y.numpy()).mean() == pytest.approx(first.columns["test_accuracy"][-1])


def test_every_grid_of_a_study_is_a_sweep_that_compares_only() -> None:
    from paretune.search.spec.sweep import read_sweep

    files = sorted((ROOT / "sweeps" / "studies").glob("*.yaml"))
    assert len(files) >= 12
    for file in files:
        sweep = read_sweep(file)
        assert sweep.method == "grid"
        assert sweep.space.fixed["curves_on_test"] is True
        assert any("no run is chosen by them" in note for note in sweep.notes)


def test_the_grid_of_e2_is_the_documents() -> None:
    from paretune.search.spec.sweep import read_sweep

    sweep = read_sweep(ROOT / "sweeps" / "studies" / "e2.yaml")
    steps = [round(0.05 * step, 2) for step in range(1, 20)]
    values = {name: parameter.distribution.choices for name, parameter in sweep.space.parameters.items()}  # type: ignore[union-attr]
    assert {name: sorted(map(float, found)) for name, found in values.items()} == {"learning_rate": steps, "momentum": steps}
    assert sweep.space.n_combinations() == 361


def test_an_unknown_study_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no study 'f33'; did you mean 'f3'"):
        entry_of("f33")


def test_the_results_are_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, reached in (("k5", np.True_), ("f3", False), ("c1", None)):
        study = Study(name, "A title", to=tmp_path, runs=tmp_path, models=tmp_path)
        study.line("accuracy", "87 %", "0.8800", reached=reached)
        study.line("loss", "-", "0.3")
        write(study)
    capsys.readouterr()
    assert main(["--table", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| F3 | accuracy | 87 % | 0.8800 | NO |",
        "|  | loss | - | 0.3 |  |",
        "| C1 | accuracy | 87 % | 0.8800 |  |",
        "|  | loss | - | 0.3 |  |",
        "| K5 | accuracy | 87 % | 0.8800 | yes |",
        "|  | loss | - | 0.3 |  |",
    ]
    with pytest.raises(SystemExit, match="2"):
        main(["--table", "--to", str(tmp_path / "none")])
    assert "holds no results of a study" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "name a study, such as f3, or all" in capsys.readouterr().err


def test_a_mean_stands_with_its_interval_and_its_values() -> None:
    from scipy.stats import t

    values = np.array([0.87, 0.88, 0.885])
    half = t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    wanted = f"{values.mean():.4f} [{values.mean() - half:.4f}, {values.mean() + half:.4f}] (0.8700, 0.8800, 0.8850)"
    assert mean_with_interval(values) == wanted
    assert mean_with_interval([0.5]) == "0.5000"


def test_groups_are_as_far_apart_as_their_means_in_deviations() -> None:
    values = np.array([0.0, 2.0, 10.0, 12.0])
    assert separation(values, np.array([True, True, False, False])) == pytest.approx(10 / np.sqrt(2))


@pytest.mark.needs_data
@pytest.mark.slow
def test_the_report_has_every_study_of_the_folder(folder: Path) -> None:
    for name in ("k5", "k1"):
        done(name, folder)
    page = Page(folder / "to" / "report.html")
    assert page.loaded() == []
    assert page.text.index("K1. Principal components of faces") < page.text.index("K5. Softmax regression by hand")
    for file in (folder / "to").glob("*.json"):
        for line in json.loads(file.read_text(encoding="utf-8"))["lines"]:
            assert line["ours"] in page.text
    assert pages_of(folder / "to" / "report.pdf") > len(list((folder / "to").glob("*.json")))


def test_results_of_another_version_are_named(tmp_path: Path) -> None:
    for text in ('{"name": "k5", "lines": []}', "cut"):
        (tmp_path / "k5.json").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=r"k5\.json is not what this version's studies leave: run python -m studies k5"):
            write_report(tmp_path)


def test_a_backbone_is_for_the_study_that_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["k1", "--backbone", "resnet18"])
    assert "--backbone is for the study c5 alone. Got k1." in capsys.readouterr().err


@pytest.mark.needs_data
@pytest.mark.slow
def test_c5_takes_a_network_of_torchvision(
    tmp_path: Path, fetched_weights: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    found = done("c5", tmp_path, f"--backbone={SMALL_BACKBONE}")
    assert f"torchvision's {SMALL_BACKBONE} with its ImageNet weights" in " ".join(found["notes"])  # type: ignore[arg-type]
    model = load(tmp_path / "models" / f"study-c5-{SMALL_BACKBONE}-head-fine-tuned-0-quick", device="cpu")
    frozen = model.state()["net.backbone.net.conv1.0.weight"]
    np.testing.assert_array_equal(frozen, fetched_weights["conv1.0.weight"].numpy())


def test_a_table_that_is_longer_than_a_page_goes_on_on_the_next(tmp_path: Path) -> None:
    study = Study("k5", "A title", to=tmp_path, runs=tmp_path, models=tmp_path)
    for number in range(150):
        study.line(f"line {number}", "-", "0.5")
    write(study)
    assert pages_of(write_report(tmp_path)[1]) >= 6, "the table of all, and that of the study: at least three pages each"
