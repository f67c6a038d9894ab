"""Programs on PyTorch Lightning and XGBoost, searched offline and by `wandb agent` on our service, in an environment of theirs.

OTHER_PROGRAMS is the Python of an environment with tests/search/other-programs.txt; .ci/run makes one.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import optuna
import pytest

from paretune.search.engine.worker import run
from paretune.search.spec.sweep import read_sweep
from tests.service.serving import listening
from tests.service.sweeps.test_sweeps import command

PYTHON = os.environ.get("OTHER_PROGRAMS", "")
LIGHTNING = """\
import argparse, torch, pytorch_lightning as pl
from pytorch_lightning.loggers import WandbLogger
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
rate = parser.parse_args().rate
pl.seed_everything(0)
x = torch.randn(256, 4)
loader = DataLoader(TensorDataset(x, x @ torch.tensor([1.0, -2.0, 3.0, 0.5])), 64)

class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(4, 1)
    def loss(self, batch):
        return ((self.line(batch[0])[:, 0] - batch[1]) ** 2).mean()
    def training_step(self, batch, number):
        return self.loss(batch)
    def validation_step(self, batch, number):
        self.log("loss", self.loss(batch))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=rate)

off = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
trainer = pl.Trainer(max_epochs=3, logger=WandbLogger(), accelerator="cpu", log_every_n_steps=1, **off)
trainer.fit(Line(), loader, loader)
print("RIGHT", rate, float(trainer.callback_metrics["loss"]), flush=True)
"""
XGBOOST = """\
import wandb, xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from wandb.integration.xgboost import WandbCallback

x, x_held, y, y_held = train_test_split(*load_breast_cancer(return_X_y=True), random_state=0)
run = wandb.init()
rate, curve = run.config["rate"], {}
settings = {"eta": rate, "objective": "binary:logistic", "eval_metric": "logloss", "nthread": 1}
held = [(xgboost.DMatrix(x_held, y_held), "held")]
logged = [WandbCallback(log_model=False)]
xgboost.train(settings, xgboost.DMatrix(x, y), 60, evals=held, evals_result=curve, callbacks=logged, verbose_eval=False)
print("RIGHT", rate, min(curve["held"]["logloss"]), flush=True)
run.finish()
"""


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="OTHER_PROGRAMS names no Python with tests/search/other-programs.txt")
@pytest.mark.parametrize(("text", "metric"), [(LIGHTNING, "loss"), (XGBOOST, "held-logloss")], ids=["lightning", "xgboost"])
def test_a_trial_has_the_right_value_offline_and_under_an_agent(away: Path, text: str, metric: str) -> None:
    Path("train.py").write_text(text)
    definition: dict[str, Any] = {
        "program": "train.py",
        "command": [PYTHON, "${program}", *(["${args}"] if text is LIGHTNING else [])],
        "method": "grid",
        "metric": {"name": metric, "goal": "minimize"},
        "parameters": {"rate": {"values": [0.05, 0.6]}},
    }
    Path("sweep.yaml").write_text(json.dumps(definition))
    trials = run(read_sweep("sweep.yaml"), trials=2, name="own", runs=Path("runs")).get_trials()
    outputs = [path.read_text() for path in Path("runs/own/trials").glob("*/output.log")]
    right = {float(rate): float(value) for output in outputs for rate, value in re.findall(r"RIGHT (\S+) (\S+)", output)}
    assert sorted(right) == [0.05, 0.6]
    assert {trial.params["rate"]: trial.value for trial in trials} == pytest.approx(right)

    (away / "service").mkdir()
    with listening(away / "service") as address:
        made = command(address, away, "sweep", "--project", "theirs", "sweep.yaml")
        assert made.returncode == 0, made.stderr
        name = made.stderr.split("sweeps/")[1].split()[0]
        assert command(address, away, "agent", f"someone/theirs/{name}").returncode == 0
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{away / 'service' / 'studies.db'}")
    assert {trial.params["rate"]: trial.value for trial in study.trials} == pytest.approx(right)
