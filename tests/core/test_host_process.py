"""Using the library leaves a host process as it is; commands may set it up for speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.samples import ROOT, start

USED = """\
import gc, inspect, json, os, signal, sys
import matplotlib, optuna, torch
def state():
    backends = torch.backends
    return {
        "optimizer": [vars(method).get("__dynamo_disable") is method  # under which name torch itself keeps another one
                      for name in ("add_param_group", "state_dict", "load_state_dict")
                      for method in [inspect.unwrap(getattr(torch.optim.Optimizer, name))]],
        "backend": matplotlib.rcParams._get_backend_or_none() if hasattr(matplotlib.rcParams, "_get_backend_or_none") else None,
        "rc": {key: str(matplotlib.rcParams[key]) for key in ("font.size", "axes.grid", "axes.spines.top", "legend.frameon")},
        "gc": [gc.get_threshold(), gc.get_freeze_count() > 0, gc.isenabled()],
        "environment": {key: os.environ.get(key) for key in ("OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES", "PATH")},
        "threads": torch.get_num_threads(),
        "optuna": optuna.logging.get_verbosity(),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "torch": [torch.get_float32_matmul_precision(), backends.cudnn.benchmark, torch.is_grad_enabled(), torch.initial_seed()],
    }
torch.manual_seed(3)
before = state()
from pathlib import Path
from paretune.analysis.history import load_runs
from paretune.analysis.document.sweep_report import read_study, write_report
from paretune.analysis import retrain
from paretune.data.dataset import load_data
from paretune.data.options import DataOptions
from paretune.models.saved_models import load, save
from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from paretune.trainers.ann import Ann, AnnConfig
data = load_data(DataOptions(data="digits"))
model = Ann(AnnConfig(epochs=1, hidden=[16]), device="cpu").fit(data)
save(model, "model", metrics={})
load("model", device="cpu").predict(data.test.x)
Path("s.yaml").write_text(json.dumps({
    "program": "trainers/softmax.py", "method": "random", "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"learning_rate": {"min": 0.001, "max": 0.1}, "epochs": {"value": 1}},
}))
run(read_sweep("s.yaml"), trials=2, name="s", mode="disabled", device="cpu", runs=Path("runs"))
assert len(load_runs("runs/s")) == 2
write_report([read_study("runs/s", None, Path("models"))], Path("report"))
after = state()
print(json.dumps([before, after]))
"""


def test_the_library_leaves_its_host_as_it_is(tmp_path: Path) -> None:
    done = start(sys.executable, "-c", USED, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after == before


def test_a_command_says_that_its_process_is_its_own(tmp_path: Path) -> None:
    program = (
        "import os\nfrom paretune.core.command_line import exit_with_sentence\nfrom paretune.core.host_process import is_ours\n"
        "print(is_ours(), end=' ')\nwith exit_with_sentence():\n    print(is_ours(), os.environ['OMP_WAIT_POLICY'])"
    )
    done = start(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout.split() == ["False", "True", "PASSIVE"], done.stderr


IMPORTED = """\
import importlib, pkgutil, sys
import matplotlib
matplotlib.rcParams["backend"] = sys.argv.pop(1)
before = dict(matplotlib.rcParams)
import paretune, studies
programs = ("__main__", "die_with_parent", ".env")  # they do at once what they are started for
folders = [(package.__path__, f"{package.__name__}.") for package in (paretune, studies)]
modules = [module.name for path, prefix in folders for module in pkgutil.walk_packages(path, prefix)]
for name in modules:
    if not name.endswith(programs):
        importlib.import_module(name)
    assert "matplotlib.pyplot" not in sys.modules, f"{name} imports pyplot"
    assert dict(matplotlib.rcParams) == before, f"{name} changes matplotlib's settings"
import pandas as pd
from pathlib import Path
from paretune.analysis.figures.runs import save_figure, search_figure
table = pd.DataFrame({"run": ["a", "b"], "state": "finished", "f1": [0.5, 0.6]})
save_figure(search_figure({"ann": table}), Path("search.png"))
assert "matplotlib.pyplot" not in sys.modules, "a figure imports pyplot"
assert dict(matplotlib.rcParams) == before, "a figure changes matplotlib's settings"
print(len(modules), matplotlib.get_backend())
"""


@pytest.mark.parametrize("backend", ["svg", "pdf"])
def test_no_import_and_no_figure_switches_the_backend_of_matplotlib(backend: str, tmp_path: Path) -> None:
    done = start(sys.executable, "-c", IMPORTED, backend, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    count, kept = done.stdout.split()
    assert int(count) > 200
    assert kept == backend
