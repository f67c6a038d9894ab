"""The report of other people's runs: what it says of where they come from, and no sentence of it that is true of ours alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paretune.analysis import report
from paretune.analysis.document.language import catalogue
from paretune.core.provenance import git_commit
from tests.analysis.foreign import METRICS, PROGRAMS, write_runs
from tests.analysis.reading import Page

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module", params=PROGRAMS)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of one program's runs; of one of them in Spanish, as that needs no other runs."""
    folder = tmp_path_factory.mktemp(request.param)
    source = write_runs(folder, request.param, COMMIT if request.param == "keras" else "")
    language = "es" if request.param == "lightning" else "en"
    given = [str(source), "--metrics", *METRICS[request.param], "--models", str(folder), "--to", str(folder / "report")]
    assert report.main([*given, "--language", language]) == 0
    found = Page(folder / "report" / "report.html")
    found.text = " ".join(found.text.split())
    return found


def test_the_commit_and_the_versions_are_the_runs_own_or_not_recorded(page: Page) -> None:
    program = next(name for name in PROGRAMS if f"/home/them/{name}.py --data 'my data'" in page.text)
    assert ("python 3.12.1, wandb 0.31.0" in page.text, COMMIT in page.text) == (True, program == "keras")
    words = {"keras": "", "grid": "commitnot recorded", "lightning": "commitno consta"}
    assert words[program] in page.text
    assert (git_commit() or "no commit").removesuffix("+changes") not in page.text
    assert "scikit-learn" not in page.text


def test_nothing_is_said_that_is_known_of_our_classifiers_alone(page: Page) -> None:
    for word in (
        "hold-out (",
        "on the hold-out.",
        "locked",
        "classifier",
        "trial",
        "fingerprints",
        "The sweep",
        " nan",
        "too high",
    ):
        assert word not in page.text, word
    for word in ("validación)", "bloqueado", "clasificador", "ensayo", "barrido buscó", "demasiado altos"):
        assert word not in page.text, word
    assert re.search(r"better in one[ .]", page.text.replace("better in one of them", "")) is None


def test_one_objective_has_a_front_of_the_best(tmp_path: Path, page: Page) -> None:
    if "mean_test_score" not in page.text:
        pytest.skip("of two objectives")
    assert "With mean_test_score alone to weigh, the front is the best run, with those that equal it." in page.text
    assert "the hyper-parameters in which the runs differ." in page.text
    assert "last epoch" not in page.text


def test_the_runs_that_are_left_out_are_counted_in_the_section_of_the_front(page: Page) -> None:
    if "keras" in page.text:
        assert "Other runs have no place on it (keras: 1 without a finite epoch/val_loss or evaluation/top_5" in page.text
        assert "unstable 1" in page.text


def test_every_text_of_the_spanish_report_is_spanish(page: Page) -> None:
    if "Elección" not in page.text:
        return
    parts = [part for english in catalogue("es") if len(english) > 12 for part in re.split(r"\{[^}]*\}", english) if len(part) > 12]
    assert [part for part in parts if part in page.text and part not in " ".join(catalogue("es").values())] == []
