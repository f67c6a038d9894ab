"""trial_timeout: a trial that takes longer ends as failed and keeps why, however it trains; one that is over in time does not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from paretune.batched import training as population
from paretune.runs import study_schema
from paretune.runs.tracking import Tracker
from paretune.runs.wandb_files import read_run
from paretune.search.engine import batches, in_process, time_limit
from paretune.search.engine.study import open_study
from paretune.search.engine.time_limit import TimeLimit
from paretune.search.engine.worker import run
from paretune.search.places import process_groups
from paretune.search.spec.sweep import Sweep, read_sweep
from paretune.search.status import report
from tests.samples import ROOT, environment, small_data, start
from tests.waiting import wait_until

SOFTMAX: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "grid",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"epochs": {"value": 5}, "optimizer": {"value": "sgd"}, "learning_rate": {"values": [0.5, 0.4]}},
}
CAUSE = "it took longer than its trial_timeout of 25 s"
SECONDS = 10.0  # of each epoch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that goes on by SECONDS with each epoch that is logged, and not otherwise."""
    now, log = SimpleNamespace(seconds=0.0, epoch=SECONDS), Tracker.log

    def logged(self: Tracker, epoch: Any) -> None:
        now.seconds += now.epoch
        log(self, epoch)

    monkeypatch.setattr(in_process, "load_data", lambda options, **_: small_data())
    monkeypatch.setattr(Tracker, "log", logged)
    monkeypatch.setattr(time_limit, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def sweep_of(folder: Path, search: dict[str, Any], **changes: Any) -> Sweep:
    path = folder / "small.yaml"
    controller = {"type": "local", "search": {"trial_timeout": "25s", **search}}
    path.write_text(yaml.safe_dump({**SOFTMAX, "controller": controller, **changes}))
    return read_sweep(path)


def searched(sweep: Sweep, trials: int = 2, mode: str = "disabled", **more: Any) -> list[FrozenTrial]:
    study = run(sweep, trials=trials, name="s", mode=mode, device="cpu", runs=sweep.path.parent / "runs", **more)
    return study.get_trials()


def n_epochs(trial: FrozenTrial) -> int:
    return len(study_schema.epochs_of(trial.user_attrs))


@pytest.mark.parametrize("search", [{}, {"repeats": {"seeds": 2}}, {"repeats": {"folds": 2}}, {"ahead": True}], ids=str)
def test_a_trial_is_ended_between_two_epochs_and_not_tried_again(search: dict[str, Any], tmp_path: Path, clock: Any) -> None:
    trials = searched(sweep_of(tmp_path, search))
    assert [(trial.state, trial.user_attrs[study_schema.CAUSE]) for trial in trials] == [(TrialState.FAIL, CAUSE)] * 2
    assert [n_epochs(trial) for trial in trials] == [3, 3]
    assert not list((tmp_path / "runs").rglob("*.pt"))


def test_the_study_and_the_status_and_the_run_say_why(tmp_path: Path, clock: Any) -> None:
    study = run(sweep_of(tmp_path, {}), trials=2, name="s", mode="offline", device="cpu", runs=tmp_path / "runs")
    assert f"failed: trials 0, 1: {CAUSE}" in report(study)
    runs = [read_run(path) for path in (tmp_path / "runs").rglob("run-*.wandb")]
    assert [run.state for run in runs if run is not None] == ["failed", "failed"]


def test_the_command_lines_time_is_taken_before_the_files(tmp_path: Path, clock: Any) -> None:
    assert [trial.state for trial in searched(sweep_of(tmp_path, {}), trial_timeout=1000)] == [TrialState.COMPLETE] * 2


def test_a_trial_whose_last_epoch_has_come_is_not_late(tmp_path: Path, clock: Any) -> None:
    parameters = {**SOFTMAX["parameters"], "epochs": {"value": 3}}
    assert [trial.state for trial in searched(sweep_of(tmp_path, {}, parameters=parameters))] == [TrialState.COMPLETE] * 2


def test_at_the_epoch_of_the_end_a_stop_counts_before_the_time(tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.search.spec.hyperband.Hyperband.should_stop", lambda self, history, *_: history[-1][0] == 3)
    trials = searched(sweep_of(tmp_path, {}, early_terminate={"type": "hyperband", "min_iter": 3}))
    assert [trial.state for trial in trials] == [TrialState.PRUNED] * 2


@pytest.mark.parametrize(("slower", "state"), [(1, TrialState.COMPLETE), (3, TrialState.FAIL)])
def test_trials_that_train_together_have_the_time_of_all(
    slower: int, state: TrialState, tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone a trial takes 50 seconds of its 60; four together 200 of 240, or 600."""
    monkeypatch.setattr(batches, "STEPS", 1)
    monkeypatch.setattr(population.torch, "get_num_threads", lambda: 1)
    parameters = {**SOFTMAX["parameters"], "learning_rate": {"values": [0.5, 0.4, 0.3, 0.2, 0.1]}}
    limits: list[TimeLimit] = []
    made = time_limit.TimeLimit.__init__

    def kept(self: TimeLimit, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        limits.append(self)
        clock.epoch = SECONDS * (slower if self.n_trials > 1 else 1)

    monkeypatch.setattr(time_limit.TimeLimit, "__init__", kept)
    trials = searched(sweep_of(tmp_path, {"trial_timeout": 60}, parameters=parameters), 5)
    assert [limit.n_trials for limit in limits] == [1, 4, 4, 4, 4], "the first trial alone, the others together"
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, *[state] * 4]
    if state == TrialState.FAIL:
        causes = {trial.user_attrs[study_schema.CAUSE] for trial in trials[1:]}
        assert causes == {"it took longer than its trial_timeout of 1 m, as one of 4 that share their time"}


def test_the_time_may_change_while_a_study_runs(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    for seconds in ("25s", 90, "2h"):
        open_study(sweep_of(tmp_path, {"trial_timeout": seconds}), storage, "s", seed=0)


# Programs of the person's own


HANGING = """\
import os, signal, subprocess, sys, time, wandb
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stays = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stays])
open("pids", "a").write(f"{os.getpid()} {child.pid} ")
run = wandb.init()
run.log({"loss": 1.0})
print("before it hangs", flush=True)
time.sleep(600)
"""


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_hangs_is_ended_with_all_that_it_started(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_groups, "GRACE", 0.5)
    (away / "train.py").write_text(HANGING)
    own = {"program": "train.py", "metric": {"name": "loss"}, "parameters": {"rate": {"values": [1, 2]}}}
    begin = time.monotonic()
    trials = searched(sweep_of(away, {}, **own), 1, mode="offline", trial_timeout=6.0)
    assert 6 <= time.monotonic() - begin < 600, "it would have hung for so long"
    (cause,) = [trial.user_attrs[study_schema.CAUSE] for trial in trials]
    assert cause == "it took longer than its trial_timeout of 6 s"
    for process in (away / "pids").read_text().split():
        wait_until(lambda number=int(process): not is_alive(number))


# What hangs within an epoch


MODEL = """\
from __future__ import annotations

import sys, time
from typing import Any, ClassVar

from pydantic import Field

from paretune.trainers.softmax import Softmax, SoftmaxConfig


class HangingConfig(SoftmaxConfig):
    \"\"\"What a softmax takes, and whether it hangs.\"\"\"

    hangs: bool = Field(False, description="whether it hangs")


class Hanging(Softmax):
    \"\"\"A softmax that may hang.\"\"\"

    name: ClassVar[str] = "hanging"
    Config: ClassVar[Any] = HangingConfig

    def fit_epochs(self, data: Any) -> Any:
        for epoch in super().fit_epochs(data):
            if self.config.hangs:
                time.sleep(600)
            yield epoch


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main(__file__))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["--workers=2"]], ids=["one", "two"])
def test_a_model_that_hangs_within_an_epoch_is_killed_with_its_worker(workers: list[str], away: Path) -> None:
    (away / "hanging.py").write_text(MODEL)
    definition = {
        **SOFTMAX,
        "program": "hanging.py",
        "parameters": {"epochs": {"value": 1}, "train_size": {"value": 20}, "hangs": {"values": [False, True]}},
    }
    (away / "s.yaml").write_text(yaml.safe_dump(definition))
    line = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "s.yaml", "--name=s", "--runs=runs", "--device=cpu", *workers]
    done = subprocess.run(
        [*line, "--wandb=disabled", "--trial-timeout", "12s"],
        cwd=away,
        env=environment(away),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    cause = "it took longer than its trial_timeout of 12 s; its worker was killed, as the epoch did not end"
    assert "s: 1 complete, 1 failed" in done.stdout
    assert f"failed: trial 1: {cause}" in done.stdout
    assert (
        f"failed: trial 1: {cause}"
        in start(sys.executable, "-m", "paretune.search.status", str(away / "runs" / "s"), cwd=ROOT).stdout
    )


@pytest.mark.parametrize("text", ["0", "-1", "soon", "1e3", ""])
def test_what_is_no_time_is_refused_by_the_command_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from paretune.search.command_line import main

    with pytest.raises(SystemExit, match="2"):
        main(["s.yaml", f"--trial-timeout={text}"])
    assert f"must be a time such as 90s, 10m or 2h, above 0. Got {text!r}." in capsys.readouterr().err
