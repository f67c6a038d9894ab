"""Programs of the person's own: started as W&B's agent starts them, their metrics read from their offline run file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from paretune.analysis.history import load_runs
from paretune.analysis.pareto import main as pareto
from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.runs import study_schema
from paretune.runs.wandb_files import read_run
from paretune.search.engine.in_process import Attempt
from paretune.search.engine.in_subprocess import Command, command_line, wait_for_end
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import Sweep, read_sweep
from tests.analysis.truth import written_out
from tests.samples import ROOT, environment, start
from tests.search.killing import Killed
from tests.waiting import wait_until

VALUES: dict[str, Any] = {
    "rate": 1e-05,
    "layers": [64, 32],
    "flag": True,
    "off": False,
    "none": None,
    "name": "a b='c'",
    "net": {"width": 3, "deep": {"act": "relu"}},
}
MACROS = (
    *("${env}", "${interpreter}", "${program}", "${args}", "${args_no_hyphens}", "${args_no_boolean_flags}", "${args_no_equals}"),
    *("${args_json}", "${args_append_hydra}", "${args_override_hydra}"),
    *("${envvar:THERE}", "${envvar:NOT_THERE}", "--to=${envvar:THERE}/${envvar:THERE}", "${envvar:lower}", "${unknown}", "plain"),
)
LOGS = """\
import wandb
with wandb.init() as run:
    for row in {rows}:
        run.log(row)
"""


def script(folder: Path, text: str, **changes: Any) -> Sweep:
    """Write a program and a sweep file over it; return the sweep."""
    (folder / "train.py").write_text(text)
    definition: dict[str, Any] = {
        "program": str(folder / "train.py"),
        "method": "random",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"rate": {"min": 0.0, "max": 1.0}},
        **changes,
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in definition.items() if value is not None}))
    return read_sweep(path)


def trained(sweep: Sweep, folder: Path, values: dict[str, Any] | None = None) -> list[Epoch]:
    """Run the program once; return its epochs."""
    attempt = Attempt("abc", "own-0", "own", ["first"], folder / "runs", lambda config, path: None)
    batches = Command(sweep).epochs(attempt, {"rate": 0.5} if values is None else values)
    known = {epoch.number: epoch for batch in batches for epoch in batch.epochs}
    return [known[number] for number in sorted(known)]


def output(folder: Path) -> str:
    return (folder / "runs" / "trials" / "abc" / "output.log").read_text()


# The command line


@pytest.fixture
def of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], list[str]]:
    """The command line that W&B's own agent starts for a run with VALUES."""
    from wandb import wandb_agent

    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda command, **_: SimpleNamespace(command=command))
    for name, value in {"SWEEP_ID": "s", "RUN_ID": "r", "SWEEP_PARAM_PATH": "p", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)

    def agent(command: list[str]) -> list[str]:
        made = object.__new__(wandb_agent.Agent)
        made._sweep_command, made._function, made._in_jupyter, made._forward_signals = list(command), None, False, False
        made._run_processes = {}
        args = {name: {"value": value} for name, value in VALUES.items()}
        made._command_run({"run_id": "r", "program": "my train.py", "args": args})
        return list(made._run_processes["r"].command)

    return agent


@pytest.mark.parametrize("macro", MACROS)
def test_every_macro_gives_what_wandb_agent_gives(
    macro: str, of_wandb: Callable[[list[str]], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THERE", "a value")
    monkeypatch.setenv("lower", "never read")
    monkeypatch.delenv("NOT_THERE", raising=False)
    command = ["first", macro, "last"]
    assert command_line(command, "my train.py", VALUES, tmp_path / "ours.json") == of_wandb(command)


def test_the_file_of_arguments_holds_what_that_of_wandb_agent_holds(
    of_wandb: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    command = ["run", "${args_json_file}"]
    ours, theirs = command_line(command, "train.py", VALUES, tmp_path / "ours.json"), of_wandb(command)
    assert Path(ours[1]).read_text() == Path(theirs[1]).read_text()
    assert json.loads(Path(ours[1]).read_text()) == VALUES


def test_no_file_of_arguments_is_written_where_none_is_asked_for(tmp_path: Path) -> None:
    command_line(["${args_json}"], "train.py", VALUES, tmp_path / "ours.json")
    assert not (tmp_path / "ours.json").exists()


# What a program gets


def test_values_come_by_config_alone_nested_ones_nested(tmp_path: Path) -> None:
    text = (
        "import json, wandb\nwith wandb.init() as run:\n    print('GOT', json.dumps(dict(run.config)))\n    run.log({'loss': 1})\n"
    )
    sweep = script(tmp_path, text, command=["${env}", "${interpreter}", "${program}"])
    trained(sweep, tmp_path, VALUES)
    (line,) = [line for line in output(tmp_path).splitlines() if line.startswith("GOT ")]
    assert json.loads(line.removeprefix("GOT ")) == VALUES


def test_values_come_by_arguments_also_where_paths_hold_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    text = "import sys, wandb\nwith wandb.init() as run:\n    print(sys.argv[1:])\n    run.log({'loss': float(sys.argv[1][7:])})\n"
    epochs = trained(script(folder, text), folder, {"rate": 0.25, "name": "two words"})
    assert "['--rate=0.25', '--name=two words']" in output(folder)
    assert [epoch.metrics["loss"] for epoch in epochs] == [0.25]


def test_the_run_is_named_grouped_and_tagged_for_its_sweep(tmp_path: Path) -> None:
    from paretune.runs.wandb_files import read_run

    trained(script(tmp_path, LOGS.format(rows=[{"loss": 1.0}])), tmp_path)
    (found,) = [read_run(path) for path in (tmp_path / "runs").rglob("run-*.wandb")]
    assert found is not None
    assert (found.run_id, found.name, found.group, found.tags) == ("abc", "own-0", "own", ["first"])
    assert found.config["rate"] == 0.5


# What is read of it


def test_every_row_that_holds_the_metric_is_an_epoch(tmp_path: Path) -> None:
    rows = [{"loss": 3.0, "val": {"accuracy": 0.5}}, {"other": 1}, {"loss": float("nan")}, {"loss": 2, "text": "x", "n": 10**400}]
    epochs = trained(script(tmp_path, LOGS.format(rows=rows).replace("nan", "float('nan')")), tmp_path)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert [epoch.metrics["loss"] for epoch in epochs][::2] == [3.0, 2.0]
    assert epochs[0].metrics["val.accuracy"] == 0.5
    assert epochs[-1].last


def test_what_is_only_in_the_summary_counts_as_the_one_row(tmp_path: Path) -> None:
    text = "import wandb\nrun = wandb.init()\nrun.log({'step': 1})\nrun.summary['loss'] = 0.75\nrun.finish()\n"
    epochs = trained(script(tmp_path, text), tmp_path)
    assert [(epoch.number, epoch.metrics["loss"], epoch.last) for epoch in epochs] == [(1, 0.75, True)]


def test_only_the_last_row_of_a_program_that_ended_well_is_the_last(tmp_path: Path) -> None:
    rows = [{"loss": float(place)} for place in range(30)]
    assert [epoch.number for epoch in trained(script(tmp_path, LOGS.format(rows=rows)), tmp_path) if epoch.last] == [30]


def test_a_program_that_fails_after_its_run_has_finished_has_failed(tmp_path: Path) -> None:
    sweep = script(tmp_path, LOGS.format(rows=[{"loss": 1.0}]) + "raise SystemExit('after the run')\n")
    (trial,) = run(sweep, trials=1, name="own", runs=tmp_path / "runs").get_trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[study_schema.CAUSE] == "the program exited with code 1; its last line: after the run"
    assert [(row["loss"], row[study_schema.LAST]) for row in study_schema.epochs_of(trial.user_attrs)] == [(1.0, False)]


def test_a_worker_that_dies_while_it_writes_what_came_at_once_leaves_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = optuna.Trial.set_user_attr, list[str]()

    def dying(self: optuna.Trial, key: str, value: Any) -> None:
        written.append(key)
        if sum(key.startswith("epoch") for key in written) == 3:
            raise Killed
        write(self, key, value)

    rows = [{"loss": 1 - place / 500} for place in range(450)]
    sweep = script(tmp_path, LOGS.format(rows=rows))
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "set_user_attr", dying)
        with pytest.raises(Killed):
            run(sweep, trials=1, name="own", runs=tmp_path / "runs")
    trials = run(sweep, trials=1, name="own", runs=tmp_path / "runs").get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    kept = study_schema.epochs_of(trials[0].user_attrs)  # of two writes; how many rows each had, the program's pace decides
    assert [row["loss"] for row in kept] == [row["loss"] for row in rows[: len(kept)]]
    assert 2 <= len(kept) < len(rows)
    assert not any(row[study_schema.LAST] for row in kept)
    assert trials[1].value == rows[-1]["loss"]


def test_many_rows_come_into_the_study_by_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []
    for name in ("set_trial_user_attr", "set_trial_intermediate_value"):
        original = getattr(optuna.storages._CachedStorage, name)

        def counted(self: Any, *arguments: Any, name: str = name, original: Any = original) -> Any:
            writes.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(optuna.storages._CachedStorage, name, counted)
    rows = [{"loss": 1 - place / 1000} for place in range(400)]
    (trial,) = run(script(tmp_path, LOGS.format(rows=rows)), trials=1, name="own", runs=tmp_path / "runs").get_trials()
    assert len(writes) < 80
    assert [(row["epoch"], row["loss"]) for row in study_schema.epochs_of(trial.user_attrs)] == [
        (place + 1, row["loss"]) for place, row in enumerate(rows)
    ]
    assert trial.intermediate_values[400] == rows[-1]["loss"]


def test_objectives_may_stand_in_different_rows(tmp_path: Path) -> None:
    metrics = [{"name": "val/accuracy", "goal": "maximize"}, {"name": "size", "goal": "minimize"}]
    rows = [{"val/accuracy": 0.5}, {"train/loss": 1}, {"val/accuracy": 0.7}, {"size": 12}]
    late = script(tmp_path, LOGS.format(rows=rows), metric=None, metrics=metrics)
    (trial,) = run(late, trials=1, name="late", runs=tmp_path / "runs").get_trials()
    assert trial.values == [0.7, 12.0]
    first = script(tmp_path, LOGS.format(rows=[rows[-1], rows[0], rows[2]]), metric=None, metrics=metrics)
    (trial,) = run(first, trials=1, name="first", runs=tmp_path / "runs").get_trials()
    assert trial.values == [0.7, 12.0]
    summary = LOGS.format(rows=rows[:3]) + "    run.summary['size'] = 13\n"
    (trial,) = run(script(tmp_path, summary, metric=None, metrics=metrics), trials=1, name="x", runs=tmp_path / "runs").get_trials()
    assert trial.values == [0.7, 13.0]
    never = script(tmp_path, LOGS.format(rows=rows[:3]), metric=None, metrics=metrics)
    (trial,) = run(never, trials=1, name="never", runs=tmp_path / "runs").get_trials()
    assert trial.user_attrs[study_schema.CAUSE] == "size was never a finite number"


def test_a_program_may_name_its_run_and_project_itself(tmp_path: Path) -> None:
    text = LOGS.format(rows=[{"loss": 1.0}]).replace("init()", "init(id='mine', project='elsewhere', name='x')")
    assert [epoch.metrics["loss"] for epoch in trained(script(tmp_path, text), tmp_path)] == [1.0]


def test_without_a_metric_the_run_time_counts(tmp_path: Path) -> None:
    rows = "[{'a': 1}, {'a': 2}]:\n        __import__('time').sleep(0.3)\n        _ = {}"
    sweep = script(tmp_path, LOGS.format(rows=rows).replace("_ = {}:", "_ = row"), metric=None)
    assert sweep.metric == "_runtime"
    epochs = trained(sweep, tmp_path)
    assert len(epochs) == 1
    assert epochs[0].metrics["_runtime"] > 0.5


def test_a_program_that_runs_again_shows_its_new_rows_alone(tmp_path: Path) -> None:
    text = "import sys, wandb\nwith wandb.init() as run:\n    run.log({'loss': float(sys.argv[1][7:])})\n"
    sweep = script(tmp_path, text)
    assert [[e.metrics["loss"] for e in trained(sweep, tmp_path, {"rate": rate})] for rate in (1.0, 2.0)] == [[1.0], [2.0]]


def test_long_histories_are_kept_in_part_with_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.search.engine.in_subprocess.KEPT", 3)
    rows = [{"loss": 10.0 - (place == 17)} for place in range(21)]
    epochs = trained(script(tmp_path, LOGS.format(rows=rows)), tmp_path)
    numbers = [epoch.number for epoch in epochs]
    assert numbers == [1, 2, 3, 5, 7, 21], "three, of the next three each second, and so on"
    assert epochs[-1].metrics["loss"] == 10.0


# What fails


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "print('before')\nraise ValueError('the rate is too high')\n",
            "exited with code 1; its last line: ValueError: the rate is too high$",
        ),
        ("import os\nos.kill(os.getpid(), 9)\n", "was killed by SIGKILL without a message$"),
        ("import os\nos.kill(os.getpid(), 40)\n", "was killed by signal 40 without a message$"),
        (
            "print('its own')\nprint('\\x1b[1;34mwandb\\x1b[0m: the client')\nraise SystemExit(3)\n",
            "exited with code 3; its last line: its own$",
        ),
        ("print('done')\n", "wrote no W&B run below .*abc: it must call wandb.init"),
        ("print('line ' * 20_000_000)\nraise SystemExit('the end')\n", "exited with code 1; its last line: the end$"),
        ("import os\nos._exit(3)\n", "^the program exited with code 3 without a message$"),
        ("import os\nprint('epoch 5', flush=True)\nos._exit(3)\n", "exited with code 3; its last line: epoch 5$"),
        ("import os\nprint('epoch 5', flush=True)\nos.kill(os.getpid(), 11)\n", "was killed by SIGSEGV; its last line: epoch 5$"),
        ("import os\nos._exit(137)\n", r"exited with code 137 \(a shell's way to say SIGKILL\) without a message$"),
    ],
)
def test_a_program_that_ends_without_wandb_fails_with_its_cause(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(UsageError, match=cause):
        trained(script(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "raise ValueError('x' * 100_000)\n",
        "print('y' * 100_000)\nimport os; os.abort()\n",
        LOGS.format(rows=[{f"metric_{place}": 1.0 for place in range(2000)}]),
    ],
    ids=["exception", "output", "metrics"],
)
def test_at_most_500_letters_of_a_program_are_quoted(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        trained(script(tmp_path, text), tmp_path)
    assert 500 < len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os._exit(0)", "exited with code 0"),
        ("os._exit(7)", "exited with code 7"),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_a_program_that_leaves_its_run_unfinished_has_failed_whatever_it_logged(tmp_path: Path, end: str, how: str) -> None:
    text = f"import os, wandb\nrun = wandb.init()\nfor row in range(2000):\n    run.log({{'loss': 1 / (row + 1)}})\n{end}\n"
    (trial,) = run(script(tmp_path, text), trials=1, name="own", runs=tmp_path / "runs").get_trials()
    assert (trial.state, trial.values) == (TrialState.FAIL, None)
    assert trial.user_attrs[study_schema.CAUSE].startswith(f"the program {how}")
    assert not any(row[study_schema.LAST] for row in study_schema.epochs_of(trial.user_attrs))


LATE = """\
import os, pathlib, subprocess, sys
whole = pathlib.Path({whole!r})
folder = pathlib.Path(os.environ["WANDB_DIR"], "wandb", whole.parent.name)
folder.mkdir(parents=True)
(folder / "rest").write_bytes(whole.read_bytes())
(folder / whole.name).write_bytes(whole.read_bytes()[:{shown}])
late = "import os, time; time.sleep(1.5); os.replace('rest', 'run-abc.wandb')"
subprocess.Popen([sys.executable, "-c", late], cwd=folder, start_new_session=True)
"""


def test_the_end_of_a_run_that_wandb_writes_after_the_program_has_ended_is_waited_for(tmp_path: Path) -> None:
    program = LOGS.format(rows=[{"loss": 2.0}, {"loss": 1.0}])
    of_run = environment(tmp_path, WANDB_MODE="offline", WANDB_RUN_ID="abc")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=of_run, check=True)
    (whole,) = written_out(tmp_path)
    for shown in (-30, 7):  # all but its end, or the file's header alone
        folder = tmp_path / str(shown)
        folder.mkdir()
        epochs = trained(script(folder, LATE.format(whole=str(whole), shown=shown)), folder)
        assert (epochs[-1].metrics["loss"], epochs[-1].last) == (1.0, True)


def test_a_program_that_crashes_in_its_run_fails_with_its_own_last_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"code 1; its last line: KeyError: 'no such key'$"):
        trained(script(tmp_path, LOGS.format(rows=[{"loss": 1.0}]) + "    {}['no such key']\n"), tmp_path)
    assert "KeyError" in output(tmp_path)


def test_a_program_that_logs_other_metrics_is_told_which(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the program never logged loss; did you mean 'los'"):
        trained(script(tmp_path, LOGS.format(rows=[{"los": 1.0}])), tmp_path)


def test_a_program_that_logs_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the program never logged loss; it logged nothing$"):
        trained(script(tmp_path, "import wandb\nwandb.init().finish()\n"), tmp_path)


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^\./nowhere cannot be started \(No such file or directory\)\.$"):
        trained(script(tmp_path, "", command=["./nowhere", "${args}"]), tmp_path)


# A whole sweep


def test_a_sweep_of_a_program_takes_the_latest_value_of_each_run(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "import wandb\nwith wandb.init() as run:\n    rate = run.config['rate']\n    assert rate < 0.4, 'too fast'\n"
        "    for row in (3.0, 1.0, 2.0):\n        run.log({'loss': row * rate, 'score': -row})\n"
    )
    sweep = script(
        away, text, method="grid", parameters={"rate": {"values": [0.1, 0.2, 0.9]}, "net": {"parameters": {"n": {"value": 1}}}}
    )
    trials = run(sweep, trials=3, name="own", runs=away / "runs").get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.value for trial in trials[:2]] == [0.2, 0.4]
    assert trials[2].user_attrs[study_schema.CAUSE] == "the program exited with code 1; its last line: AssertionError: too fast"
    kept = trials[0].user_attrs[study_schema.RUN]
    assert kept["config"]["net"] == {"n": 1}
    assert (away / "runs" / "own" / kept["path"] / "output.log").is_file()

    runs = load_runs(away / "runs" / "own")
    assert [record.state for record in runs] == ["finished", "finished", "failed"]
    assert [row["loss"] for row in runs[0].rows] == pytest.approx([0.3, 0.1, 0.2])
    assert pareto([str(away / "runs" / "own"), "--metrics", "loss", "score"]) == 0
    assert "evaluation_split" not in kept["config"], "nobody knows what a program of one's own measures on"
    capsys.readouterr()
    assert pareto([str(away / "runs" / "own")]) == 0
    assert "1 of 2 finished runs are on the front (loss minimized;" in capsys.readouterr().out, (
        "the sweep's one objective is the default"
    )


def test_a_poor_program_is_ended_by_sigterm_and_counts_as_pruned(tmp_path: Path) -> None:
    text = (
        "import signal, sys, time, wandb\nfrom pathlib import Path\n"
        "def end(*_):\n    (Path(__file__).parent / 'ended').write_text('SIGTERM')\n    sys.exit(143)\n"
        "run = wandb.init()\nsignal.signal(signal.SIGTERM, end)\n"
        "for step in range(40):\n    run.log({'loss': run.config['rate'], 'padding': 'x' * 4000})\n"  # W&B writes 32 KiB at a time
        "if run.config['rate'] > 1:\n    time.sleep(500)\n"
        "run.finish()\n"
    )
    rule = {"type": "hyperband", "min_iter": 3, "eta": 3}
    sweep = script(tmp_path, text, method="grid", parameters={"rate": {"values": [0.1, 9.0]}}, early_terminate=rule)
    trials = run(sweep, trials=2, name="own", runs=tmp_path / "runs").get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert trials[1].user_attrs[study_schema.PRUNED] >= 3
    assert (tmp_path / "ended").read_text() == "SIGTERM"


def test_ctrl_c_twice_ends_the_program_and_gives_its_trial_back(tmp_path: Path) -> None:
    script(tmp_path, "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(100)\n")
    line = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "own.yaml", "--trials=1", "--runs=runs"]
    with subprocess.Popen(line, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        wait_until(lambda: (tmp_path / "pid").is_file() and bool((tmp_path / "pid").read_text()))
        pid = int((tmp_path / "pid").read_text())
        process.send_signal(signal.SIGINT)
        assert "once more to give it back" in "".join(process.stderr.readline() for _ in range(2))
        os.kill(pid, 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    wait_until(lambda: not alive(pid))
    from paretune.search.status import open_existing

    trials = open_existing(str(tmp_path / "runs" / "own")).get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.WAITING]
    assert trials[0].user_attrs[study_schema.CAUSE] == study_schema.INTERRUPTED


def killed_sweep(folder: Path, text: str) -> int:
    """Start a sweep of a program that writes its number into a file, and kill it; return the program's number."""
    script(folder, text)
    line = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "own.yaml", "--trials=1", "--runs=runs"]
    with subprocess.Popen(line, cwd=folder, env=environment(folder), stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: (folder / "pid").is_file() and bool((folder / "pid").read_text()))
        process.kill()
    return int((folder / "pid").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_a_killed_sweep_takes_its_program_with_it(tmp_path: Path) -> None:
    pid = killed_sweep(tmp_path, "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(100)\n")
    wait_until(lambda: not alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says when a process began")
def test_what_a_killed_sweep_left_behind_is_ended_before_the_trial_is_tried_again(tmp_path: Path) -> None:
    text = (
        "import os, signal, time, wandb\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if not os.path.exists('pid'):\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(100)\n"
        "stat = f\"/proc/{open('pid').read()}/stat\"\n"
        "with wandb.init() as run:\n    run.log({'loss': float(os.path.exists(stat) and ' Z ' not in open(stat).read())})\n"
    )
    pid = killed_sweep(tmp_path, text)
    assert alive(pid), "it does not listen to SIGTERM"
    line = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "own.yaml", "--trials=1", "--runs=runs"]
    assert start(*line, cwd=tmp_path).returncode == 0
    from paretune.search.status import open_existing

    trials = open_existing(str(tmp_path / "runs" / "own")).get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[1].value == 0.0, "the first was still running beside the second"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_without_a_run_file_nothing_can_be_read_so_disabled_is_refused(tmp_path: Path) -> None:
    script(tmp_path, "")
    result = start(
        sys.executable,
        str(ROOT / "sweeps" / "offline.py"),
        "own.yaml",
        "--trials=1",
        "--wandb=disabled",
        "--runs=runs",
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "use --wandb=offline." in result.stderr


def test_a_sweep_of_a_program_needs_no_network(tmp_path: Path) -> None:
    script(tmp_path, LOGS.format(rows=[{"loss": 1.0}]))
    line = [sys.executable, str(ROOT / "sweeps" / "offline.py"), "own.yaml", "--trials=1", "--runs=runs", "--rate=0.5"]
    result = start(*line, cwd=tmp_path, closed=True)
    assert result.returncode == 0, result.stderr
    assert "own: 1 complete" in result.stdout


def test_a_pause_ends_with_the_program() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        wait_for_end(process, 0.01)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        wait_for_end(process, 3600)
        assert process.poll() == 0


# Several runs of one trial


FOLDS = """
import wandb
with wandb.init() as run:
    for fold, loss in enumerate((0.1, 0.6, 0.8)):
        with wandb.init(id=f"{run.id}-fold-{fold}", reinit="create_new") as member:
            member.log({"loss": loss})
            member.log({"loss": loss + 0.01})
    run.log({"loss": 0.5})
"""


def written(folder: Path, program: str) -> list[Epoch]:
    return trained(script(folder, program), folder)


def test_the_runs_of_folds_say_nothing_of_their_trial(tmp_path: Path) -> None:
    assert [epoch.metrics["loss"] for epoch in written(tmp_path, FOLDS)] == [0.5]


def test_the_only_run_counts_whatever_its_id(tmp_path: Path) -> None:
    program = "import wandb\nwith wandb.init(id='mine') as run:\n    run.log({'loss': 0.3})\n    run.log({'loss': 0.2})\n"
    assert [epoch.metrics["loss"] for epoch in written(tmp_path, program)] == [0.3, 0.2]


def test_a_run_in_two_files_is_one_whose_later_rows_overwrite_and_extend(tmp_path: Path) -> None:
    program = """
import wandb
for losses in ((0.1, 0.2, 0.3), (0.9, 0.8)):
    with wandb.init() as run:
        for loss in losses:
            run.log({"loss": loss, f"of {len(losses)}": 1})
"""
    epochs = written(tmp_path, program)
    assert [epoch.metrics["loss"] for epoch in epochs] == [0.9, 0.8, 0.3]
    assert {"of 3", "of 2"} <= epochs[0].metrics.keys()


def test_several_runs_none_of_which_has_the_id_that_was_handed_out_are_refused(tmp_path: Path) -> None:
    program = "import wandb\nfor name in 'ab':\n    with wandb.init(id=name) as run:\n        run.log({'loss': 0.3})\n"
    with pytest.raises(
        UsageError, match=r"wrote 2 W&B runs, none of which has the id that it was handed, abc: log loss to the run of"
    ):
        written(tmp_path, program)


@pytest.mark.parametrize("program_in_git", [True, False])
def test_the_commit_of_a_run_is_that_of_its_program_whatever_checkout_holds_the_study(program_in_git: bool, tmp_path: Path) -> None:
    def commit(folder: Path) -> str:
        git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", str(folder)], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    program, checkout = tmp_path / "program", tmp_path / "checkout"
    for folder in (program, checkout):
        folder.mkdir()
    of_program = commit(program) if program_in_git else None
    assert commit(checkout) != of_program
    sweep = script(program, "import wandb\nrun = wandb.init()\nrun.log({'loss': 1.0})\nrun.finish()\n")
    trained(sweep, checkout)
    (run,) = {run.run_id: run for file in checkout.rglob("run-abc.wandb") if (run := read_run(file))}.values()
    assert run.environment.get("commit") == of_program
