"""The report of two tiny sweeps: one page that needs nothing else, the same on paper, and the numbers in it."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from paretune.analysis import report
from paretune.analysis.document import origins, sections, sweep_report
from paretune.analysis.document.document import Paragraph, Table
from paretune.analysis.document.language import catalogue, spoken
from paretune.analysis.document.study import Study
from paretune.analysis.document.sweep_report import build_document, comparable, read_study, write_report
from paretune.analysis.findings.repeats import RUNS
from paretune.analysis.locked_part import load_kept
from paretune.analysis.retrain import main as retrain_main
from paretune.core.errors import UsageError
from paretune.models.saved_models import write_json
from tests.analysis.reading import Page, characters_of, is_a_drawing, pages_of, pictures_of
from tests.analysis.truth import written_out
from tests.samples import start


@pytest.fixture(scope="module")
def written(models: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the report of both sweeps."""
    to = tmp_path_factory.mktemp("reports") / "tiny"
    assert report.main([*map(str, models.sources), "--models", str(models.folder), "--to", str(to)]) == 0
    return to


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written / "report.html")


@pytest.fixture
def studies(models: SimpleNamespace) -> list[Study]:
    return [read_study(str(source), "f1", models.folder) for source in models.sources]


def test_the_page_loads_nothing_from_anywhere(page: Page) -> None:
    assert page.loaded() == []
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    images = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 4
    assert all(source.startswith("data:image/png;base64,") for source in images)


def test_the_page_draws_the_front_by_a_script_of_its_own(written: Path, page: Page) -> None:
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert scripts
    assert all("src" not in attributes for attributes in scripts)
    assert "Plotly.newPlot" in (written / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["tiny", "tiny-svm"])
def test_the_page_holds_the_numbers_beside_the_models(model: str, page: Page, models: SimpleNamespace) -> None:
    metrics = json.loads((models.folder / model / "metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]
    for name in ("accuracy", "precision", "recall", "f1", "loss"):
        assert f"{test[name]:.4f}" in page.text, name
    for name, scores in test["per_class"].items():
        assert re.search(rf"\b{name}\s*{scores['precision']:.4f}\s*{scores['recall']:.4f}\s*{scores['f1']:.4f}", page.text), name
    right = int(np.trace(test["confusion"]))
    assert f"{right} of 360" in page.text
    assert metrics["locked_part_read"] in page.text
    assert f"{metrics['holdout']['f1']:.4f}" in page.text


def test_the_page_names_the_chosen_run_the_rule_and_the_reason(page: Page, studies: list[Study]) -> None:
    for study in studies:
        assert f"Rule f1 chose run {study.choice.run['name']} ({study.chosen.run}): {study.choice.reason}." in page.text
    assert "left out: 1 stopped early" in page.text


def test_the_page_says_which_figure_comes_from_which_images(page: Page) -> None:
    assert re.search(r"Pareto front, F1 against cost, search\s*hold-out", page.text)
    assert re.search(r"Confusion matrix, per-class report\s*locked test part, after the retrain", page.text)
    assert "evaluated on the locked test part (360 images)" in page.text
    assert "On record, it was read once for each of them." in page.text
    assert "hold-out (216 images" in page.text
    assert "on all 1,437 training images" in page.text


def test_a_dash_stands_where_an_svm_has_no_loss(studies: list[Study]) -> None:
    (table, *_) = [block for block in sections.baseline_section(studies) if isinstance(block, Table)]
    by_name = {row[0]: row for row in table.rows}
    assert list(by_name) == ["softmax, default", "softmax, tuned", "svm, default", "svm, tuned"]
    assert by_name["svm, default"][1] == "–"
    assert re.fullmatch(r"\d\.\d{4}", by_name["softmax, default"][1])
    assert all(re.fullmatch(r"\d\.\d{4}", cell) for row in table.rows for cell in row[2:])


def test_without_a_baseline_there_is_no_section_about_one(studies: list[Study]) -> None:
    for study in studies:
        for run in study.runs:
            run.baseline = False
    assert sections.baseline_section(studies) == []


def test_the_paper_has_pages_pictures_and_the_words_of_the_page(written: Path) -> None:
    paper = written / "report.pdf"
    assert paper.read_bytes().startswith(b"%PDF")
    assert pages_of(paper) >= 3
    assert pictures_of(paper) >= 5
    assert set("Choosing and testing classifiers 0.9") - {" "} <= characters_of(paper)


def test_every_figure_is_written_and_shows_something(written: Path) -> None:
    names = {file.name for file in (written / "figures").iterdir()}
    assert {"pareto.png", "search.png", "curves-softmax.png", "confusion-softmax.png", "confusion-svm.png"} <= names
    assert "curves-svm.png" not in names  # one epoch is no curve
    for file in (written / "figures").iterdir():
        assert is_a_drawing(file), file


def test_the_folder_holds_the_report_and_its_figures_alone(written: Path) -> None:
    assert {file.name for file in written.iterdir()} == {"report.html", "report.pdf", "figures"}


def test_names_with_special_characters_survive_in_both(studies: list[Study], tmp_path: Path) -> None:
    odd = '<b>#let $x$ *y* @z & "q"</b>'
    study = studies[0]
    test = study.models["chosen"]["test"]
    test["per_class"] = {odd if name == "3" else name: scores for name, scores in test["per_class"].items()}
    study.chosen.config["optimizer"] = odd
    html, pdf = write_report([study], tmp_path)
    page = Page(html)
    assert page.text.count(odd) >= 2
    assert "b" not in {tag for tag, _ in page.tags}
    assert set('<#$*@&"') <= characters_of(pdf)


@pytest.mark.parametrize("count", [1, 2])
def test_a_report_is_written_of_any_number_of_sweeps_and_of_one_run(count: int, studies: list[Study], tmp_path: Path) -> None:
    for study in studies:
        only = study.choice.run["run"]
        study.runs = [run for run in study.runs if run.run == only]
        study.table = study.table[study.table["run"] == only]
        study.front = study.front[study.front["run"] == only]
    html, pdf = write_report(studies[-count:], tmp_path)
    assert Page(html).loaded() == []
    assert pages_of(pdf) >= 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "macro averages: the mean over the classes, each counting alike."),
        ({"average": "macro"}, "macro averages: the mean over the classes, each counting alike."),
        ({"average": "weighted"}, "weighted averages: the mean over the classes, weighted by"),
        ({"average": "binary", "positive_class": "cat"}, "Precision, recall and F1 are those of the class cat."),
    ],
)
def test_the_averages_are_said_in_words(config: dict[str, Any], words: str) -> None:
    assert words in sections.average_in_words(config)


@pytest.mark.parametrize(
    ("average", "positive", "words"), [("weighted", None, "are weighted averages"), ("binary", "1", "are those of the class 1")]
)
def test_a_report_of_other_averages_does_not_speak_of_macro_averages(
    average: str, positive: str | None, words: str, studies: list[Study], tmp_path: Path
) -> None:
    study = studies[0]
    for run in study.runs:
        run.config = {**run.config, "average": average, "positive_class": positive}
    document = build_document([study], tmp_path)
    texts = [block.text for block in document.blocks if isinstance(block, Paragraph)]
    assert any(words in text for text in texts)
    assert not [text for text in texts if "macro" in text]


def test_columns_are_headed_by_trial_numbers_and_by_names_where_these_do_not_tell_runs_apart() -> None:
    assert sections._column_heads(["ann-digits-3", "ann-digits-14"], [True, False]) == ["3 (chosen)", "14"]
    assert sections._column_heads(["lr-0.1", "decay-0.1"], [False, False]) == ["lr-0.1", "decay-0.1"]
    long = ["a_sweep_of_many_networks_lr-1", "a_sweep_of_many_networks_wd-1"]
    heads = sections._column_heads(long, [False, False])
    assert len(set(heads)) == 2
    assert max(map(len, heads)) <= 16


# -- mistakes


def test_without_a_model_the_report_says_what_it_leaves_out(
    models: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(models.sources[0]), "--models", str(tmp_path), "--to", str(tmp_path / "report")]) == 0
    assert "the locked part is left out: python -m analysis.retrain trains the chosen run for it" in capsys.readouterr().out
    page = Page(tmp_path / "report" / "report.html")
    assert "nothing here was measured on data that nobody chose with" in page.text
    assert "Confusion matrix of the retrained" not in page.text
    assert "How sure the choice is" in page.text


def test_runs_of_another_program_have_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        "import wandb\nfor rate in (0.1, 0.2, 0.3, 0.4):\n    with wandb.init(project='theirs', config={'rate': rate}) as run:\n"
        "        for step in range(5):\n            run.log({'val/acc': rate * step / 2, 'latency_ms': 5 - rate})\n"
    )
    (tmp_path / "train.py").write_text(script)
    result = start(sys.executable, "train.py", cwd=tmp_path, WANDB_MODE="offline", WANDB_SILENT="true", closed=True)
    assert result.returncode == 0, result.stderr
    source = tmp_path / "wandb"
    written_out(source)
    given = [str(source), "--metrics", "val/acc", "latency_ms", "--goals", "maximize", "minimize", "--models", str(tmp_path)]
    assert report.main([*given, "--to", str(tmp_path / "report")]) == 0
    assert "the runs are of a program that analysis.retrain does not know" in capsys.readouterr().out
    page = Page(tmp_path / "report" / "report.html")
    assert "0.8000" in page.text
    assert "The search: val/acc of each run" in page.text
    assert "the runs do not say on which images they were scored" in page.text
    with pytest.raises(SystemExit, match="2"):
        retrain_main([str(source), "--rule", "max:val/acc", "--to", str(tmp_path / "model")])
    assert "is of a program of your own" in capsys.readouterr().err


@pytest.fixture(scope="module")
def in_spanish(models: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("informe")
    assert report.main([*map(str, models.sources), "--models", str(models.folder), "--to", str(to), "--language", "es"]) == 0
    return to


def test_the_spanish_report_holds_no_english_sentence(in_spanish: Path) -> None:
    html = (in_spanish / "report.html").read_text(encoding="utf-8")
    assert '<html lang="es">' in html
    text = Page(in_spanish / "report.html").text
    assert "El frente de Pareto" in text
    assert "La regla f1 eligió la ejecución" in text
    catalogued = [english for english in catalogue("es") if len(english) > 12]
    parts = [part for english in catalogued for part in re.split(r"\{[^}]*\}", english) if len(part) > 12]
    assert len(parts) > 100
    assert [part for part in parts if part in text and part not in " ".join(catalogue("es").values())] == []


def test_a_spanish_report_leaves_the_language_of_the_process_alone(in_spanish: Path) -> None:
    assert spoken() == "en"
    assert pages_of(in_spanish / "report.pdf") >= 3


def test_an_unknown_language_is_refused(models: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        report.main([str(models.sources[0]), "--models", str(models.folder), "--to", str(tmp_path / "to"), "--language", "fr"])
    assert "--language must be one of en (English), es (Spanish). Got 'fr'" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_a_broken_model_is_refused(models: SimpleNamespace, tmp_path: Path) -> None:
    folder = shutil.copytree(models.folder, tmp_path / "models")
    weights = folder / models.sources[0].name / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match="is a broken model"):
        read_study(str(models.sources[0]), "f1", folder)


def test_tuned_and_default_are_compared_on_the_images_that_only_one_reads_rightly(studies: list[Study]) -> None:
    from scipy.stats import binomtest

    study = studies[0]
    kept = [load_kept(folder) for folder in (study.folder, study.folder.with_name(f"{study.folder.name}-baseline"))]
    right = [one.predicted == one.labels for one in kept]
    gained, lost = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    text = " ".join(sections.tuned_against_default(study))
    if gained + lost:
        assert f"the tuned one reads {gained} and the default one {lost}" in text
        p = binomtest(gained, gained + lost).pvalue
        assert ("p < 0.001" if p < 0.001 else f"p = {p:.3f}") in text
    else:
        assert "read the same images" in text


def test_the_interval_of_the_accuracy_is_wilsons(studies: list[Study]) -> None:
    table = next(block for block in sections.summary_section(studies) if isinstance(block, Table))
    for study, row in zip(studies, table.rows, strict=True):
        share, n, z = np.trace(study.test["confusion"]) / 360, 360, 1.959963984540054
        middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
        assert row[-1] == f"{low:.4f}–{high:.4f}"


def test_the_model_of_another_run_is_refused(models: SimpleNamespace, tmp_path: Path, studies: list[Study]) -> None:
    shutil.copytree(models.folder / "tiny", tmp_path / "tiny")
    description = json.loads((tmp_path / "tiny" / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "tiny" / "config.json", {**description, "run": "another"})
    with pytest.raises(UsageError, match=f"does not hold run {studies[0].choice.run['name']}, which rule f1 chooses"):
        read_study(str(models.sources[0]), "f1", tmp_path)


def test_the_model_of_another_baseline_is_left_out(models: SimpleNamespace, tmp_path: Path) -> None:
    for name in ("tiny", "tiny-baseline"):
        shutil.copytree(models.folder / name, tmp_path / name)
    assert set(read_study(str(models.sources[0]), "f1", tmp_path).models) == {"chosen", "baseline"}
    description = json.loads((tmp_path / "tiny-baseline" / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "tiny-baseline" / "config.json", {**description, "run": "another"})
    assert set(read_study(str(models.sources[0]), "f1", tmp_path).models) == {"chosen"}


def test_a_mistake_is_one_sentence_and_exit_code_2(
    models: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        report.main([str(models.sources[0]), "--models", str(models.folder), "--rule", "f2", "--to", str(tmp_path / "report")])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_a_study_is_read_without_being_changed(studies: list[Study]) -> None:
    def contents() -> list[object]:
        return [(run.config, run.rows, run.state, run.tags) for study in studies for run in study.runs]

    before = copy.deepcopy(contents())
    sections.summary_section(studies)
    origins.sources_section(studies)
    assert contents() == before


def test_two_sweeps_of_one_classifier_keep_their_own_names_and_figures(studies: list[Study], tmp_path: Path) -> None:
    first = studies[0]
    pair = comparable([first, dataclasses.replace(first, source="other")])
    assert [study.name for study in pair] == [first.source, "other"]
    build_document(pair, tmp_path)
    assert {path.name for path in tmp_path.glob("confusion-*.png")} == {f"confusion-{first.source}.png", "confusion-other.png"}


def test_a_sweep_given_twice_is_refused(studies: list[Study]) -> None:
    with pytest.raises(UsageError, match="each sweep must be given once"):
        comparable([studies[0], studies[0]])


def test_sweeps_of_different_data_are_refused_in_one_report(studies: list[Study]) -> None:
    studies[1].chosen.config["data"] = "mnist"
    with pytest.raises(UsageError, match=r"one report holds sweeps of the same data\. Got digits, mnist"):
        comparable(studies)


def test_sweeps_of_different_folds_are_refused_in_one_report(studies: list[Study]) -> None:
    studies[1].chosen.config.update(n_folds=5, fold=1)
    studies[0].chosen.config.update(n_folds=5, fold=2)
    with pytest.raises(UsageError, match=r"one report holds sweeps of the same fold\. Got "):
        comparable(studies)


def test_a_sweep_older_than_the_folds_is_reported_beside_a_new_one(studies: list[Study]) -> None:
    for option in ("n_folds", "fold"):
        del studies[0].chosen.config[option]
    assert len(comparable(studies)) == 2


def test_the_report_says_when_the_locked_part_was_read_for_several_runs(studies: list[Study]) -> None:
    studies[0].models["chosen"]["locked_part_reads"] = [{"run": "another", "rule": "knee"}]  # beside the study's record
    text = sections.reads_in_words(studies)
    assert f"read for 2 runs of {studies[0].name}" in text
    assert "once" not in text


def test_a_default_that_won_is_said_and_not_set_beside_itself(studies: list[Study]) -> None:
    for study in studies:
        for run in study.runs:
            run.baseline = run.run == study.chosen.run
    blocks = sections.baseline_section(studies)
    assert not [block for block in blocks if isinstance(block, Table)]
    assert "the default configuration itself was chosen" in blocks[1].text


def test_broken_metrics_are_one_sentence(models: SimpleNamespace, tmp_path: Path) -> None:
    folder = shutil.copytree(models.folder, tmp_path / "models")
    (folder / models.sources[0].name / "metrics.json").write_text("{")
    with pytest.raises(UsageError, match=r"metrics.json cannot be read"):
        read_study(str(models.sources[0]), "f1", folder)


def test_a_folder_that_cannot_be_written_is_one_sentence(studies: list[Study], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(studies, tmp_path / "file" / "report")


def test_the_report_counts_the_runs_that_did_not_finish() -> None:
    import pandas as pd

    from paretune.analysis.document.sections import left_out_in_words

    class Searched:
        aims: ClassVar = {"f1": "maximize"}

        def __init__(self, name: str, *states: str, n_candidates: int = 1) -> None:
            self.name, self.table = name, pd.DataFrame({"state": states})
            rows = [(f"{number}",) for number in range(n_candidates)]
            self.front = pd.DataFrame({"on_front": [True] * n_candidates, RUNS: rows})

    words = left_out_in_words([Searched("ann", "finished", "pruned", "pruned", "failed"), Searched("svm", "finished")])  # type: ignore[list-item]
    assert words == "Other runs have no place on it (ann: 2 stopped early, 1 failed)."
    out = Searched("svm", *["finished"] * 3, n_candidates=0)
    out.table = out.table.assign(feasible=[True, False, False], diverged=[True, False, False])
    words = left_out_in_words([out])  # type: ignore[list-item]
    assert words == "Other runs have no place on it (svm: 2 breaking a constraint, 1 whose loss is not finite)."
    out.table = out.table.assign(broken=["", "a <= 1", "a <= 1; b <= 2"], diverged=False)
    assert "svm: 1 breaking the constraint a <= 1, 1 breaking the constraints a <= 1; b <= 2" in left_out_in_words([out])  # type: ignore[list-item]
    broken = Searched("svm", *["finished"] * 5)
    broken.table = broken.table.assign(feasible=[True, False, False, True, True], broken=["", "epochs <= 3", "epochs <= 3", "", ""])
    words = left_out_in_words([broken])  # type: ignore[list-item]
    assert words == "Other runs have no place on it (svm: 2 breaking the constraint epochs <= 3, 2 without a finite f1)."
    assert left_out_in_words([Searched("svm", "finished")]) == "Every run has finished."  # type: ignore[list-item]


def test_the_model_of_another_run_of_the_chosen_configuration_is_shown(
    models: SimpleNamespace, tmp_path: Path, studies: list[Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models.folder / "tiny", tmp_path / "tiny")
    description = json.loads((tmp_path / "tiny" / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "tiny" / "config.json", {**description, "run": "another"})
    chosen, source = studies[0].chosen, str(models.sources[0])
    repeat = dataclasses.replace(chosen, run="another", config={**chosen.config, "seed": 99}, created=chosen.created + 1)
    monkeypatch.setattr(sweep_report, "load_runs", lambda _: [*studies[0].runs, repeat])
    found = read_study(source, "f1", tmp_path)
    assert (found.choice.run["run"], found.test) == (chosen.run, studies[0].test)
    with pytest.raises(UsageError, match=f"does not hold run {chosen.name}, which rule run:{chosen.run} chooses"):
        read_study(source, f"run:{chosen.run}", tmp_path)
