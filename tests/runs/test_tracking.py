"""Which mode a run takes, and what its files and summary hold. Nothing here reaches a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretune.core.epoch import Epoch
from paretune.core.errors import UsageError
from paretune.runs.tracking import Tracker, logged_in, resolve_mode, track
from tests.samples import ROOT, run_config, run_history, run_records, run_summary, start

HELD_OUT = {"evaluation_split": "holdout", "best_metric": "f1"}
ON_TEST = {"evaluation_split": "test", "best_metric": "f1"}
ROWS = [
    {"f1": 0.5, "test_loss": 3.0, "test_accuracy": 0.9},
    {"f1": 0.8, "test_loss": 2.0, "test_accuracy": 0.6},
    {"f1": 0.7, "test_loss": 1.0, "test_accuracy": 0.7},
]


def tracked(tracker: Tracker, values: dict[str, Any]) -> Tracker:
    tracker.describe(values, {"commit": "abc"})
    for number, metrics in enumerate(ROWS, start=1):
        tracker.log(Epoch(number, metrics, number == len(ROWS)))
    return tracker


@pytest.mark.usefixtures("away")
def test_a_python_without_the_client_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb  # noqa: F401  whole, before a part of it is taken away

    monkeypatch.setitem(sys.modules, "wandb.sdk.lib", None)
    monkeypatch.delitem(sys.modules, "wandb.sdk.lib.wbauth", raising=False)
    with pytest.raises(UsageError, match=r"wandb is not installed for .*activate the environment"):
        logged_in()


def test_without_credentials_a_run_is_offline() -> None:
    assert resolve_mode("auto") == "offline"


@pytest.mark.usefixtures("away")
def test_with_a_key_a_run_is_online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert resolve_mode("auto") == "online"


@pytest.mark.usefixtures("away")
def test_credentials_of_another_host_do_not_count(away: Path) -> None:
    (away / ".netrc").write_text(f"machine other.example\n  login user\n  password {'a' * 40}\n")
    assert resolve_mode("auto") == "offline"


@pytest.mark.parametrize(
    ("asked", "mode"), [("online", "online"), ("offline", "offline"), ("disabled", "disabled"), ("dryrun", "offline")]
)
def test_wandb_mode_is_respected(monkeypatch: pytest.MonkeyPatch, asked: str, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", asked)
    assert resolve_mode("auto") == mode


def test_the_flag_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert resolve_mode("offline") == "offline"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UsageError, match=r"wandb must be one of auto, online, offline, disabled. Got 'on'."):
        resolve_mode("on")


def test_the_summary_holds_the_best_epoch_whole_and_the_last_one() -> None:
    summary = tracked(Tracker(), HELD_OUT).summarize()
    assert summary == {**ROWS[1], "epoch": 2.0, "best_epoch": 2, "last": {**ROWS[2], "epoch": 3.0}}


def test_the_best_is_picked_by_the_metric_asked_for() -> None:
    summary = tracked(Tracker(), {**HELD_OUT, "best_metric": "test_loss"}).summarize()
    assert (summary["best_epoch"], summary["f1"]) == (3, 0.7)


def test_on_the_locked_part_nothing_is_picked() -> None:
    assert tracked(Tracker(), ON_TEST).summarize() == {**ROWS[2], "epoch": 3.0}


def test_without_a_finite_metric_the_summary_is_the_last_epochs() -> None:
    tracker = Tracker()
    tracker.describe(HELD_OUT, {})
    tracker.log(Epoch(1, {"f1": float("nan")}))
    assert "best_epoch" not in tracker.summarize()


def test_a_run_without_epochs_has_no_summary() -> None:
    assert Tracker().summarize() == {}


def test_what_is_measured_at_the_end_belongs_to_the_last_epoch() -> None:
    tracker = tracked(Tracker(), ON_TEST)
    tracker.log_final({"test_accuracy": 0.95})
    assert tracker.summarize()["test_accuracy"] == 0.95
    assert len(tracker.rows) == 3


def test_disabled_tracking_leaves_nothing_behind(away: Path) -> None:
    with track(mode="disabled") as tracker:
        tracked(tracker, HELD_OUT)
        tracker.log_confusion(np.eye(2, dtype=int), ["a", "b"])
        tracker.log_model(away, "m")
        assert (tracker.run, tracker.path, tracker.sweep_values) == (None, None, {})
    assert list(away.iterdir()) == []


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one tracked offline run, and what was in its process's path."""
    from tests.samples import ROOT, start

    folder = tmp_path_factory.mktemp("tracked")
    code = (
        "from pathlib import Path; import numpy as np\n"
        "from tests.runs.test_tracking import HELD_OUT, tracked\n"
        "from paretune.runs.tracking import track\n"
        "with track(mode='offline', project='p', name='n', group='g', job_type='j', tags=['t'], run_id='abc',\n"
        "           directory=Path('here'), quiet=True) as tracker:\n"
        "    tracked(tracker, {**HELD_OUT, 'hidden': [3, 4]})\n"
        "    tracker.log_confusion(np.array([[3, 1], [0, 2]]), ['x', 'y'])\n"
        "    print(tracker.path)\n"
    )
    result = start(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert (folder / result.stdout.strip()).parent.parent == folder / "here"
    return folder / "here"


def test_a_run_file_holds_project_group_job_type_and_tags(offline_run: Path) -> None:
    run = next(record.run for record in run_records(offline_run) if record.HasField("run"))
    assert (run.run_id, run.project, run.display_name, run.run_group, run.job_type) == ("abc", "p", "n", "g", "j")
    assert list(run.tags) == ["t"]


def test_a_run_file_holds_the_config_with_provenance_apart(offline_run: Path) -> None:
    config = run_config(offline_run)
    assert (config["evaluation_split"], config["hidden"], config["provenance"]) == ("holdout", [3, 4], {"commit": "abc"})


def test_a_run_file_holds_one_row_an_epoch(offline_run: Path) -> None:
    rows = run_history(offline_run)
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"confusion_matrix.path", "confusion_matrix"} & set(rows[-1])


def test_a_run_file_ends_with_the_best_epochs_summary(offline_run: Path) -> None:
    summary = run_summary(offline_run)
    assert (summary["f1"], summary["test_loss"], summary["best_epoch"]) == (0.8, 2.0, 2)
    assert summary["last"]["f1"] == 0.7


def test_dashboards_plot_against_the_epoch(offline_run: Path) -> None:
    defined = [record.metric for record in run_records(offline_run) if record.HasField("metric")]
    assert any((metric.glob_name or metric.name) == "*" and metric.step_metric == "epoch" for metric in defined)


@pytest.mark.parametrize(
    ("said", "mode"),
    [(["offline"], "offline"), (["disabled"], "disabled"), (["offline", "online"], "online"), (["disabled", "enabled"], "online")],
    ids=str,
)
@pytest.mark.parametrize("flag", ["auto", "offline"])
def test_what_wandb_s_own_command_has_said_is_respected(said: list[str], mode: str, flag: str, tmp_path: Path) -> None:
    for word in said:
        assert start(str(Path(sys.executable).with_name("wandb")), word, cwd=tmp_path).returncode == 0
    asked = f"from paretune.runs.tracking import resolve_mode; print(resolve_mode({flag!r}))"
    answer = start(sys.executable, "-c", asked, cwd=tmp_path, PYTHONPATH=str(ROOT), WANDB_API_KEY="a" * 40)
    assert answer.stdout.strip() == (mode if flag == "auto" else flag), answer.stderr


def test_after_wandb_disabled_a_training_writes_no_run(tmp_path: Path) -> None:
    assert start(str(Path(sys.executable).with_name("wandb")), "disabled", cwd=tmp_path).returncode == 0
    flags = ["--epochs=1", "--save=none", "--device=cpu"]
    trained = start(sys.executable, str(ROOT / "trainers" / "softmax.py"), *flags, cwd=tmp_path, WANDB_API_KEY="a" * 40)
    assert trained.returncode == 0, trained.stderr
    assert not list((tmp_path / "wandb").glob("*run*"))
