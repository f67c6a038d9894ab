"""The person's own Optuna code, run offline: study factory, terminator, define-by-run space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.search.command_line import main
from paretune.search.engine import in_process
from paretune.search.engine.stopping_rules import Plan
from paretune.search.engine.study import finished, open_study
from paretune.search.engine.worker import run
from paretune.search.sampling.slot_sampler import draw
from paretune.search.spec.scheduler import plain
from paretune.search.spec.sweep import Sweep, read_sweep
from paretune.search.spec.user_study import bring_own_study
from tests.samples import small_data

SOURCE = """\
from pathlib import Path
import optuna

class Low(optuna.samplers.RandomSampler):
    def sample_independent(self, study, trial, name, distribution):
        return distribution.low if hasattr(distribution, "low") else distribution.choices[-1]

def study(sweep):
    Path(__file__).with_suffix(".seen").write_text(f"{sweep.id} {sweep.config['metric']} {sweep.config['parameters']['epochs']}")
    made = optuna.create_study(direction="maximize", sampler=Low(seed=1), pruner=optuna.pruners.NopPruner())
    return made, lambda study: len([trial for trial in study.trials if trial.state.is_finished()]) >= 3

def pruned(sweep):
    return optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=2))

def wrong(sweep):
    return optuna.create_study(direction="minimize")

def broken(sweep):
    raise KeyError("in the factory")

def none(sweep):
    return 3

def space(trial):
    name = trial.suggest_categorical("optimizer", ["sgd", "adam"])
    values = {"optimizer": name, "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)}
    if name == "sgd":
        values["momentum"] = trial.suggest_float("momentum", 0.0, 0.9)
    return values

def list_space(trial):
    return [trial.suggest_float("learning_rate", 0.1, 0.2)]
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())


def sweep_of(folder: Path, source: str = SOURCE, **functions: str) -> Sweep:
    (folder / "mine.py").write_text(source)
    parameters: dict[str, Any] = {"epochs": {"value": 3}}
    if "search_space" not in functions:
        parameters |= {"learning_rate": {"min": 0.01, "max": 0.5}, "batch_size": {"values": [16, 32]}}
    definition = {
        "program": "trainers/softmax.py",
        "method": "custom",
        "metric": {"name": "f1", "goal": "maximize"},
        "scheduler": {"engine": "optuna", "source": "mine.py", **functions},
        "parameters": parameters,
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(definition))
    return read_sweep(path)


def searched(sweep: Sweep, trials: int) -> list[FrozenTrial]:
    study = run(sweep, trials=trials, name="own", mode="disabled", device="cpu", runs=sweep.path.parent / "runs")
    return study.get_trials()


def test_the_sampler_of_the_persons_study_suggests(tmp_path: Path) -> None:
    trials = searched(sweep_of(tmp_path, optimizer="study"), 2)
    assert [trial.params for trial in trials if study_schema.BASELINE not in trial.user_attrs] == [
        {"learning_rate": 0.01, "batch_size": 32}
    ] * len([trial for trial in trials if study_schema.BASELINE not in trial.user_attrs])
    assert (tmp_path / "mine.seen").read_text() == "own {'name': 'f1', 'goal': 'maximize'} {'value': 3}"


def test_the_terminator_ends_the_sweep_also_when_it_goes_on(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, optimizer="study")
    assert len(finished(searched(sweep, 2))) == 2
    assert len(finished(searched(sweep, 10))) == 3
    assert len(finished(searched(sweep, 20))) == 3


def test_that_the_terminator_ended_the_sweep_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep_of(tmp_path, optimizer="study")
    line = [str(tmp_path / "own.yaml"), "--name=own", f"--runs={tmp_path}/runs", "--wandb=disabled", "--device=cpu"]
    said = f"the sweep has ended: the terminator of {tmp_path}/mine.py says so, after 3 trials"
    for trials, ended in ((2, False), (5, True), (9, True), (3, False)):
        assert main([*line, f"--trials={trials}"]) == 0
        assert (said in capsys.readouterr().out) == ended


def test_the_pruner_of_the_persons_study_stops_runs(tmp_path: Path) -> None:
    trials = searched(sweep_of(tmp_path, optimizer="pruned"), 2)
    assert [trial.state for trial in trials] == [TrialState.PRUNED] * 2
    assert {trial.user_attrs[study_schema.PRUNED] for trial in trials} == {2}


def test_a_space_with_a_branch_is_searched_and_goes_on(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, search_space="space")
    first = searched(sweep, 5)
    trials = searched(sweep, 8)
    assert [trial.params for trial in trials[:5]] == [trial.params for trial in first]
    assert {trial.params["optimizer"] for trial in trials} == {"sgd", "adam"}
    for trial in trials:
        assert trial.state == TrialState.COMPLETE
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        config = trial.user_attrs[study_schema.RUN]["config"]
        assert {name: config[name] for name in trial.params} == trial.params
        assert config["epochs"] == 3


def test_a_space_and_a_study_of_ones_own_work_together(tmp_path: Path) -> None:
    trials = searched(sweep_of(tmp_path, optimizer="study", search_space="space"), 5)
    assert [trial.params for trial in trials] == [{"optimizer": "adam", "learning_rate": 1e-4}] * 3


@pytest.mark.parametrize(
    ("functions", "sentence"),
    [
        ({"optimizer": "wrong"}, r"mine.py: wrong must make a study with directions=\['maximize'\]. Got \['minimize'\]"),
        ({"optimizer": "broken"}, r"mine.py: broken failed \(KeyError: 'in the factory'\)"),
        ({"optimizer": "none"}, r"mine.py: none must return an optuna.Study, or a study and a function of it. Got 3"),
    ],
)
def test_a_factory_that_makes_no_fitting_study_is_refused(tmp_path: Path, functions: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as error:
        searched(sweep_of(tmp_path, **functions), 1)
    assert "\n" not in str(error.value)


def test_a_space_that_returns_no_mapping_fails_with_its_sentence(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, search_space="list_space")
    try:
        searched(sweep, 5)
    except UsageError as error:
        assert "the first 3 trials failed" in str(error)  # noqa: PT017
    study = optuna.load_study(study_name="own", storage=f"sqlite:///{tmp_path}/runs/own/study.db")
    ended = finished(study.get_trials())
    assert len(ended) >= 3
    for trial in ended:
        assert trial.state == TrialState.FAIL
        assert "list_space must return a mapping of parameters to values. Got [0.1" in trial.user_attrs[study_schema.CAUSE]


def test_a_space_that_raises_fails_with_its_error(tmp_path: Path) -> None:
    source = SOURCE.replace(
        "    name = trial", "    if trial.number == 1:\n        raise RuntimeError('not this one')\n    name = trial"
    )
    trials = searched(sweep_of(tmp_path, source, search_space="space"), 3)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "space failed (RuntimeError: not this one)" in trials[1].user_attrs[study_schema.CAUSE]


def test_a_space_whose_values_the_trainer_refuses_fails_with_the_trainers_sentence(tmp_path: Path) -> None:
    source = SOURCE.replace('{"optimizer": name,', '{"optimizr": name,')
    with pytest.raises(UsageError, match="the first 3 trials failed; the last one: optimizr is not a hyper-parameter"):
        searched(sweep_of(tmp_path, source, search_space="space"), 5)


SEEDED = {
    "random": "optuna.samplers.RandomSampler(seed=3)",
    "tpe": "optuna.samplers.TPESampler(seed=3, n_startup_trials=2)",
    "cmaes": "optuna.samplers.CmaEsSampler(seed=3, n_startup_trials=2, warn_independent_sampling=False)",
    "nsga2": "optuna.samplers.NSGAIISampler(seed=3, population_size=2)",
    "fixed": "optuna.samplers.PartialFixedSampler({'batch_size': 16}, optuna.samplers.RandomSampler(seed=3))",
    "generator": "Drawn(np.random.default_rng(3))",
    "state": "Drawn(np.random.RandomState(3))",
    "python": "Drawn(random.Random(3))",
}
DRAWN = """\
import random
import numpy as np
import optuna

class Drawn(optuna.samplers.BaseSampler):
    def __init__(self, source):
        self.source = source
    def infer_relative_search_space(self, study, trial):
        return {}
    def sample_relative(self, study, trial, space):
        return {}
    def sample_independent(self, study, trial, name, distribution):
        return distribution.low + (distribution.high - distribution.low) * self.source.random_sample() \\
            if hasattr(self.source, "random_sample") else distribution.low + self.source.random() * 0.1

def space(trial):
    return {"learning_rate": trial.suggest_float("learning_rate", 0.01, 0.5), "momentum": trial.suggest_float("momentum", 0.0, 0.9)}

def study(sweep):
    return optuna.create_study(direction="maximize", sampler=SAMPLER)
"""


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("kind", SEEDED)
def test_a_seeded_sampler_of_ones_own_suggests_in_parts_what_it_does_at_once(tmp_path: Path, kind: str) -> None:
    def suggested(folder: str, *parts: int) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir()
        source = DRAWN.replace("SAMPLER", SEEDED[kind])
        sweep = sweep_of(tmp_path / folder, source, optimizer="study", search_space="space")
        return [trial.params for count in parts for trial in searched(sweep, count)][-parts[-1] :]

    whole = suggested("whole", 6)
    assert suggested("parts", 2, 3, 6) == whole
    assert len({tuple(params.items()) for params in whole}) == 6


def test_two_workers_with_the_same_seeded_sampler_of_ones_own_never_suggest_the_same(tmp_path: Path) -> None:
    source = DRAWN.replace("SAMPLER", SEEDED["random"])
    sweep = sweep_of(tmp_path, source, optimizer="study", search_space="space")
    studies = []
    for _ in range(2):  # each process makes a study of its own by the factory
        study = open_study(sweep, f"sqlite:///{tmp_path}/s.db", "own", seed=0)
        bring_own_study(sweep, study, "own")
        studies.append(study)
    assert sweep.scheduler is not None
    drawn = [draw(studies[place % 2].ask(), sweep, sweep.scheduler.space_of())["learning_rate"] for place in range(6)]
    assert len(set(drawn)) == 6


EXHAUSTED = """\
import optuna

def grid(sweep):
    sampler = optuna.samplers.GridSampler({"learning_rate": [0.1, 0.4], "batch_size": [16, 32]})
    return optuna.create_study(direction="maximize", sampler=sampler)

def brute(sweep):
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.BruteForceSampler())

def space(trial):
    return {"learning_rate": trial.suggest_float("learning_rate", 0.1, 0.4, step=0.3),
            "batch_size": trial.suggest_categorical("batch_size", [16, 32])}
"""


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("optimizer", ["grid", "brute"])
def test_a_sampler_of_ones_own_that_has_tried_everything_ends_the_sweep(tmp_path: Path, optimizer: str) -> None:
    sweep = sweep_of(tmp_path, EXHAUSTED, optimizer=optimizer, search_space="space")
    assert len(searched(sweep, 3)) == 3
    for _ in range(2):
        trials = searched(sweep, 9)
        assert sorted(tuple(trial.params.values()) for trial in trials) == [(0.1, 16), (0.1, 32), (0.4, 16), (0.4, 32)]
        assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    named = {"grid": "GridSampler", "brute": "BruteForceSampler"}[optimizer]
    assert Plan(sweep, 9).reason(trials) == f"{named}, the sampler of the file's own study, has nothing left to try"


HOLDING = """\
import numpy as np
import optuna

def study(sweep):
    made = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))
    made.enqueue_trial({"learning_rate": np.float64(0.123), "batch_size": 16})
    distributions = {"learning_rate": optuna.distributions.FloatDistribution(0.01, 0.5),
                     "batch_size": optuna.distributions.CategoricalDistribution([16, 32])}
    params = {"learning_rate": 0.2, "batch_size": 32}
    made.add_trial(optuna.trial.create_trial(value=0.25, params=params, distributions=distributions))
    made.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    made.enqueue_trial({"learning_rate": 0.321})
    return made

def outside(sweep):
    made = optuna.create_study(direction="maximize")
    made.enqueue_trial({"learning_rate": 7.0, "batch_size": 16})
    return made

def one_cell(sweep):
    sampler = optuna.samplers.GridSampler({"learning_rate": [0.1], "batch_size": [32]})
    made = optuna.create_study(direction="maximize", sampler=sampler)
    made.enqueue_trial({"learning_rate": 0.3, "batch_size": 16})
    return made

def space(trial):
    return {"learning_rate": trial.suggest_float("learning_rate", 0.01, 0.5),
            "batch_size": trial.suggest_categorical("batch_size", [16, 32])}
"""


@pytest.mark.parametrize("functions", [{}, {"search_space": "space"}], ids=["parameters", "own space"])
def test_the_trials_of_the_persons_study_are_taken_over_once(
    tmp_path: Path, functions: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = sweep_of(tmp_path, HOLDING, optimizer="study", **functions)
    searched(sweep, 2)
    assert "mine.py: study: 2 to be tried first, 1 learnt from, 1 left out, neither waiting nor complete" in capsys.readouterr().out
    trials = searched(sweep, 4)
    assert "to be tried first" not in capsys.readouterr().out
    tried = [trial for trial in trials if study_schema.POINT in trial.user_attrs]
    assert tried[0].params == {"learning_rate": 0.123, "batch_size": 16}
    assert [trial.params["learning_rate"] for trial in tried] == [0.123, 0.321]
    assert {trial.state for trial in tried} == {TrialState.COMPLETE}
    [known] = [trial for trial in trials if study_schema.PRIOR in trial.user_attrs]
    assert (known.values, known.params) == ([0.25], {"learning_rate": 0.2, "batch_size": 32})
    assert len(finished(trials)) == 4


def test_a_waiting_trial_of_the_persons_study_outside_the_space_is_refused(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, HOLDING, optimizer="outside")
    with pytest.raises(UsageError, match=r"mine.py: outside: trial 0: learning_rate must lie in the space of .*own.yaml. Got 7.0"):
        searched(sweep, 1)


def test_a_given_trial_beside_a_grid_of_ones_own_does_not_disturb_it(tmp_path: Path) -> None:
    trials = searched(sweep_of(tmp_path, HOLDING, optimizer="one_cell"), 5)
    assert [trial.params for trial in trials] == [
        {"learning_rate": 0.3, "batch_size": 16},
        {"learning_rate": 0.1, "batch_size": 32},
    ]


def test_a_space_that_prunes_ends_its_trial_and_the_sweep_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = SOURCE.replace("    name = trial", "    if trial.number % 2:\n        raise optuna.TrialPruned()\n    name = trial")
    trials = searched(sweep_of(tmp_path, source, search_space="space"), 4)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert "trial 1: pruned by its search space" in capsys.readouterr().err


def test_numpys_values_of_a_space_reach_the_trainer_as_pythons(tmp_path: Path) -> None:
    source = """\
import numpy as np

def space(trial):
    power = trial.suggest_int("power", 4, 5)
    return {"batch_size": np.int64(2 ** power), "learning_rate": np.float32(0.25), "weight_decay": np.array(0.5)}
"""
    [trial] = searched(sweep_of(tmp_path, source, search_space="space"), 1)
    assert trial.state == TrialState.COMPLETE
    config = trial.user_attrs[study_schema.RUN]["config"]
    assert {name: (config[name], type(config[name])) for name in ("batch_size", "learning_rate", "weight_decay")} == {
        "batch_size": (2 ** trial.params["power"], int),
        "learning_rate": (0.25, float),
        "weight_decay": (0.5, float),
    }


TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=3)  # at whose end numpy drops it


@given(
    value=st.recursive(
        st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans() | TEXTS | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    )
)
def test_numpys_values_become_pythons_at_any_depth(value: Any) -> None:
    def as_numpy(part: Any) -> Any:
        if isinstance(part, dict):
            return {np.str_(name): as_numpy(item) for name, item in part.items()}
        if isinstance(part, list):
            return tuple(as_numpy(item) for item in part)
        return part if part is None else np.array(part)[()] if not isinstance(part, str) else np.str_(part)

    found = plain(as_numpy(value))
    assert json.dumps(found) == json.dumps(value)


def test_a_sampler_of_ones_own_that_cannot_suggest_fails_the_trial_with_a_sentence(tmp_path: Path) -> None:
    source = EXHAUSTED.replace('GridSampler({"learning_rate"', 'GridSampler({"learning_rat"')
    cause = "the last one: GridSampler cannot suggest a trial .ValueError: .*learning_rate, is not found in the given grid"
    with pytest.raises(UsageError, match=cause) as error:
        searched(sweep_of(tmp_path, source, optimizer="grid"), 9)
    assert "\n" not in str(error.value)
