"""A person's own Optuna code: found in its file without being run, called, and answered in words where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from paretune.core.errors import UsageError
from paretune.search.spec.scheduler import Scheduler, SweepInfo, read_scheduler
from paretune.search.spec.yaml_lines import Definition

SOURCE = '''
"""A study factory with a terminator, and a define-by-run space."""
from __future__ import annotations

import dataclasses

import optuna


@dataclasses.dataclass
class Limits:
    most: int = 3


def make_study(info):
    study = optuna.create_study(directions=["maximize"], sampler=optuna.samplers.RandomSampler(seed=len(info.name)))
    return study, lambda study: len(study.trials) >= Limits().most


def plain_study(info):
    return optuna.create_study(direction="maximize")


def space(trial):
    kernel = trial.suggest_categorical("kernel", ["linear", "poly"])
    return {"kernel": kernel, **({"degree": trial.suggest_int("degree", 2, 4)} if kernel == "poly" else {})}


def pruning_space(trial):
    raise optuna.TrialPruned


def failing(argument):
    raise RuntimeError("no luck")


def wrong(argument):
    return 3


def wrong_pair(info):
    return optuna.create_study(direction="maximize"), "soon"


def wrong_direction(info):
    return optuna.create_study()


by_name = lambda trial: {"x": trial.suggest_float("x", 0, 1)}
number: int = 3

try:
    from nowhere_to_be_found import tuned
except ImportError:
    def tuned(trial):
        return {}
'''
INFO = SweepInfo("id", "mine", "e", "p", {"metric": {"name": "f1", "goal": "maximize"}}, "")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return path


def read(folder: Path, given: Any) -> Scheduler | None:
    definition = Definition(folder / "a.yaml", {"scheduler": given})
    scheduler = read_scheduler(definition)
    definition.check()
    return scheduler


def own(source: Path, **named: str) -> Scheduler:
    scheduler = read(source.parent, {"engine": "optuna", "source": source.name, **named})
    assert scheduler is not None
    assert scheduler.source == source.resolve()
    return scheduler


def test_without_a_section_there_is_no_scheduler(tmp_path: Path) -> None:
    assert read(tmp_path, None) is None


def test_the_engine_alone_is_enough(tmp_path: Path) -> None:
    scheduler = read(tmp_path, {"engine": "optuna"})
    assert scheduler == Scheduler("optuna")
    assert scheduler.study_of(INFO) == (None, None)
    assert scheduler.space_of() is None


@pytest.mark.parametrize("engine", ["ax", "wandb"])
def test_the_other_engines_are_wandbs(tmp_path: Path, engine: str) -> None:
    definition = Definition(tmp_path / "a.yaml", {"scheduler": {"engine": engine}})
    assert read_scheduler(definition) == Scheduler(engine)
    assert definition.notes == [f"scheduler.engine {engine} is W&B's; offline Optuna searches the parameters."]


def test_a_study_factory_may_come_with_a_terminator(source: Path) -> None:
    study, terminator = own(source, optimizer="make_study").study_of(INFO)
    assert study is not None
    assert terminator is not None
    assert isinstance(study.sampler, optuna.samplers.RandomSampler)
    assert [terminator(study) for _ in range(4) if study.ask() is not None] == [False, False, True, True]


def test_a_study_factory_alone_ends_nothing(source: Path) -> None:
    study, terminator = own(source, optimizer="plain_study").study_of(INFO)
    assert isinstance(study, optuna.Study)
    assert terminator is None


@pytest.mark.parametrize("name", ["space", "by_name", "tuned"])
def test_a_space_is_drawn_run_by_run(source: Path, name: str) -> None:
    values_of = own(source, search_space=name).space_of()
    assert values_of is not None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        trial = study.ask()
        values = values_of(trial)
        assert values == trial.params
        assert values.get("kernel") != "linear" or "degree" not in values


def test_a_space_may_prune_a_trial(source: Path) -> None:
    values_of = own(source, search_space="pruning_space").space_of()
    assert values_of is not None
    with pytest.raises(optuna.TrialPruned):
        values_of(optuna.create_study().ask())


@pytest.mark.parametrize(
    ("optimizer", "sentence"),
    [
        ("failing", "failing failed (RuntimeError: no luck)."),
        ("wrong", "wrong must return an optuna.Study, or a study and a function of it. Got 3."),
        ("wrong_pair", "wrong_pair must return an optuna.Study, or a study and a function of it. Got ("),
        ("wrong_direction", "wrong_direction must make a study with directions=['maximize']. Got ['minimize']."),
        ("number", "own.py must define a function number. Got 3."),
    ],
)
def test_a_wrong_factory_is_refused_in_words(source: Path, optimizer: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        own(source, optimizer=optimizer).study_of(INFO)
    assert str(refusal.value).startswith(str(source.resolve()))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ("failing", "failing failed (RuntimeError: no luck)."),
        ("wrong", "wrong must return a mapping of parameters to values. Got 3."),
    ],
)
def test_a_wrong_space_is_refused_in_words(source: Path, space: str, sentence: str) -> None:
    values_of = own(source, search_space=space).space_of()
    assert values_of is not None
    with pytest.raises(UsageError) as refusal:
        values_of(optuna.create_study().ask())
    assert sentence in str(refusal.value)


def test_a_file_that_fails_when_it_is_imported_is_said(source: Path) -> None:
    source.write_text("import optuna\ndef f(info): pass\n1 / 0\n")
    with pytest.raises(UsageError, match=r"own.py cannot be imported \(ZeroDivisionError: division by zero\)"):
        own(source, optimizer="f").study_of(INFO)


def test_a_file_is_read_without_being_run(source: Path) -> None:
    source.write_text("raise SystemExit\ndef f(info): pass\n")
    assert own(source, optimizer="f").optimizer == "f"


def test_a_function_that_is_not_there_is_answered_with_those_that_are(source: Path) -> None:
    source.write_text("def first(info): pass\ndef second(trial): pass\n")
    with pytest.raises(UsageError, match=r"Got 'zzzzz'; it defines first, second\."):
        own(source, optimizer="zzzzz")
    source.write_text("")
    with pytest.raises(UsageError, match=r"Got 'zzzzz'; it defines none\."):
        own(source, optimizer="zzzzz")


def test_what_a_file_takes_from_elsewhere_is_seen_only_when_it_runs(source: Path) -> None:
    source.write_text("from somewhere import *\n")
    assert own(source, optimizer="f").optimizer == "f"
    source.write_text("from somewhere import g as f\nif True:\n    h, (k, *rest) = 1, (2, 3)\nclass C:\n    inner = 1\n")
    for name in ("f", "h", "k", "rest", "C"):
        assert own(source, optimizer=name).optimizer == name
    with pytest.raises(UsageError, match="must name a function in"):
        own(source, optimizer="inner")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("optuna", "scheduler must be a mapping with engine, and source, optimizer, search_space. Got 'optuna'."),
        ({}, "scheduler.engine must be optuna or ax or wandb. Got None."),
        ({"engine": "optnua"}, "Got 'optnua'; did you mean 'optuna'?"),
        ({"engine": ["optuna"]}, "scheduler.engine must be optuna or ax or wandb. Got ['optuna']"),
        ({"engine": "optuna", "sorce": "x"}, "scheduler.sorce is not a key of scheduler; did you mean 'source'?"),
        (
            {"engine": "optuna", "optimizer": "f"},
            "scheduler.source must name the Python file of optimizer and search_space. Got None.",
        ),
        ({"engine": "optuna", "source": 3}, "scheduler.source must name the Python file"),
        ({"engine": "optuna", "source": "away.py"}, "scheduler.source 'away.py' is neither here nor beside the sweep file."),
        ({"engine": "optuna", "source": "x" * 5000}, "is neither here nor beside the sweep file."),
        ({"engine": "optuna", "source": "\0"}, "is neither here nor beside the sweep file."),
        ({"engine": "optuna", "source": "own.py", "optimizer": "make_stduy"}, "Got 'make_stduy'; did you mean 'make_study'?"),
        ({"engine": "optuna", "source": "own.py", "search_space": 3}, "scheduler.search_space must name a function in"),
        ({"engine": "optuna", "source": "broken.py", "optimizer": "f"}, "broken.py is not valid Python (line 2: "),
        ({"engine": "optuna", "source": "latin.py", "optimizer": "f"}, "latin.py cannot be read as a Python file ("),
        ({"engine": "ax", "source": "own.py", "optimizer": "wrong"}, "functions of engine ax run only under wandb sweep-scheduler"),
    ],
)
def test_an_unfit_section_is_refused_in_words(source: Path, given: Any, sentence: str) -> None:
    (source.parent / "broken.py").write_text("x = 1\ndef f(:\n")
    (source.parent / "latin.py").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError) as refusal:
        read(source.parent, given)
    assert sentence in str(refusal.value)
