"""Models in a person's own file: found without running it, trained in process, saved with the file's hash, loaded only by it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from paretune.core.errors import UsageError
from paretune.models import programs, registry
from paretune.models.effective_configuration import effective_configuration
from paretune.models.programs import load_program, models_in, program_model
from paretune.models.saved_models import load, save
from paretune.runs.wandb_files import read_run
from tests.samples import ROOT, small_data, start

MINE = '''\
"""A network of the person's own: an ann whose pixels are squared first."""
from __future__ import annotations

import sys
from typing import Any, ClassVar

from pydantic import Field

from beside import POWER
from paretune.trainers.ann import Ann, AnnConfig


class MineConfig(AnnConfig):
    """What an ann takes, and the power."""

    power: float = Field(POWER, gt=0, description="of the pixels")


class Mine(Ann):
    """An ann on pixels to a power."""

    name: ClassVar[str] = "mine"
    Config: ClassVar[Any] = MineConfig

    def inputs(self, x: Any) -> Any:
        return super().inputs(x**self.config.power)


if __name__ == "__main__":
    from paretune.models.train_command import main

    sys.exit(main(__file__))
'''
OWN = "from paretune.core.config import ActiveWhen"
SWEEP = {
    "program": "mine.py",
    "method": "random",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {
        "power": {"min": 0.5, "max": 2.0},
        "hidden": {"value": [16]},
        "epochs": {"value": 3},
        "learning_rate": {"value": 0.01},
    },
}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test loads, no other knows."""
    path = list(sys.path)
    yield
    registry.LOADED.clear()
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("paretune_program_") or name == "beside"]:
        del sys.modules[name]


@pytest.fixture
def mine(away: Path) -> Path:
    """A repository of the person's own."""
    (away / "beside.py").write_text("POWER = 1.5\n")
    (away / "mine.py").write_text(MINE)
    (away / "mine.yaml").write_text(yaml.safe_dump(SWEEP))
    return away


MAIN = "if __name__ == '__main__':\n    from paretune.models.train_command import main\n    main(__file__)\n"
GUARD = "if __name__ == '__main__':\n    main(__file__)\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"from paretune.trainers.ann import Ann\nclass A(Ann): ...\n{GUARD}", ["A"]),
        (f"from paretune.trainers.ann import Ann as Base\nclass A(Base): ...\n{GUARD}", ["A"]),
        (f"from paretune.trainers import ann\nclass A(ann.Ann): ...\n{GUARD}", ["A"]),
        (f"import paretune.trainers.ann\nclass A(paretune.trainers.ann.Ann): ...\n{GUARD}", ["A"]),
        (f"import paretune.trainers.svm as svm\nclass A(svm.Svm): ...\n{GUARD}", ["A"]),
        (f"from paretune.models.contract import Classifier\nclass Step(Classifier): ...\nclass A(Step): ...\n{GUARD}", ["A"]),
        (f"from paretune.trainers.ann import Ann\nclass A(Ann): ...\nclass B(Ann): ...\n{GUARD}", ["A", "B"]),
        ("from paretune.trainers.ann import Ann\nclass A(Ann): ...\nif '__main__' == __name__:\n    main()\n", ["A"]),
        ("from paretune.trainers.ann import Ann\nclass A(Ann): ...\nmain()\n", []),
        (f"from paretune.trainers.ann import AnnConfig\nclass A(AnnConfig): ...\n{GUARD}", []),
        (f"from torch import nn\nclass A(nn.Module): ...\n{GUARD}", []),
        (f"from paretune.trainers.ann import Ann\nmodel = Ann()\n{GUARD}", []),
        (f"from paretune.nowhere import Ann\nclass A(Ann): ...\n{GUARD}", []),
        (f"def f():\n    from paretune.trainers.ann import Ann\n    class A(Ann): ...\n{GUARD}", []),
        ("class A(Ann:\n", []),
        ("\0", []),
    ],
)
def test_a_model_is_found_in_the_syntax_tree(text: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(text + "\nraise SystemExit('it was run')\n")
    assert models_in(tmp_path / "x.py") == found


def test_what_is_no_text_holds_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_bytes(b"\xff\xfe")
    assert models_in(tmp_path / "x.py") == models_in(tmp_path) == models_in(tmp_path / "nowhere.py") == []


@pytest.mark.usefixtures("mine")
def test_a_program_is_imported_once_and_known_by_its_name() -> None:
    kind = load_program("mine.py")
    assert kind is load_program("mine.py") is registry.model_class("mine") is program_model("mine.py")
    assert (kind.name, kind.Config().power) == ("mine", 1.5)
    assert kind.source is not None
    assert Path(kind.source.file) == Path("mine.py").resolve()


def test_without_a_name_of_its_own_a_model_has_the_file_s(away: Path) -> None:
    Path("other.py").write_text(f"from paretune.trainers.softmax import Softmax\nclass A(Softmax): ...\n{GUARD}")
    assert load_program("other.py").name == "other"
    assert away.is_dir()


@pytest.mark.usefixtures("away")
def test_modules_beside_a_program_come_first() -> None:
    Path("analysis.py").write_text("VALUE = 7\n")
    text = f"from analysis import VALUE\nfrom paretune.trainers.softmax import Softmax\nclass A(Softmax):\n    v = VALUE\n{GUARD}"
    Path("own.py").write_text(text)
    kind: Any = load_program("own.py")
    del sys.modules["analysis"]
    assert kind.v == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("print()", "x.py must hold one class whose base it imports from paretune, .* Got none"),
        (f"from paretune.trainers.ann import Ann\nclass A(Ann): ...\nclass B(Ann): ...\n{GUARD}", "Got the models A, B"),
        (f"import nowhere\nfrom paretune.trainers.ann import Ann\nclass A(Ann): ...\n{GUARD}", "x.py cannot be imported .*nowhere"),
        (f"from paretune.trainers.ann import Ann\nclass A(Ann):\n    name = 'ann'\n{GUARD}", "a name of its own. Got 'ann'"),
        (f"from paretune.models.contract import Model\nclass A(Model): ...\n{GUARD}", "A must define .*fit_epochs"),
        (f"from paretune.trainers.ann import Ann\nclass A(Ann):\n    name = 'a/../b'\n{GUARD}", "the name of A must be of letters"),
        (f"import sys\nfrom paretune.trainers.ann import Ann\nclass A(Ann): ...\nsys.exit(3)\n{GUARD}", "cannot be imported .*3"),
        (
            "from paretune.trainers.ann import Ann, AnnConfig\nclass C(AnnConfig):\n    data: int = 1\n    save: int = 2\n"
            f"class A(Ann):\n    Config = C\n{GUARD}",
            "A.Config must not have data, save",
        ),
    ],
)
@pytest.mark.usefixtures("away")
def test_a_program_that_does_not_do_is_one_sentence(text: str, sentence: str) -> None:
    Path("x.py").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        load_program("x.py")


@pytest.mark.usefixtures("mine")
def test_a_saved_model_is_loaded_by_its_very_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = load_program("mine.py")
    save(kind(kind.Config(epochs=1, hidden=[4]), device="cpu").fit(small_data()), "model", metrics={})
    assert type(load("model", device="cpu")) is kind
    registry.LOADED.clear()
    with monkeypatch.context() as patch:
        patch.setattr(programs, "_imported_module", lambda *_: pytest.fail("a program was imported by itself"))
        with pytest.raises(
            UsageError, match=r"model is of the program .*mine\.py, and programs are never imported automatically: pass"
        ):
            load("model", device="cpu")
    Path("mine.py").write_text(MINE.replace("to a power", "to any power"))
    load_program("mine.py")
    with pytest.raises(UsageError, match=r"--program must be the file that it was trained with, SHA-256 [0-9a-f]{12}…\. Got"):
        load("model", device="cpu")


OVERRIDDEN = {
    "inputs": "    def inputs(self, x):\n        return super().inputs(x**self.config.epsilon)\n",
    "loss": "    def loss(self, *given):\n        return self.config.epsilon * super().loss(*given)\n",
    "fit_epochs": "    def fit_epochs(self, data):\n        for epoch in super().fit_epochs(data):\n"
    "            epoch.metrics['train_loss'] *= self.config.epsilon\n            yield epoch\n",
    "changed": "    def changed(self, images):\n        return super().changed(images) * self.config.epsilon\n",
}


NETS = {
    "a layer of one's own": """\
class Layer(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 0.1
def changed(net):
    layers = list(net)
    return nn.Sequential(*layers[:-1], Layer(layers[-1].in_features, layers[-1].out_features))
""",
    "a hook": "def changed(net):\n    net[-1].register_forward_hook(lambda layer, given, out: out * 0.1)\n    return net\n",
    "a dropout of one's own": """\
class Drop(nn.Dropout):
    def forward(self, x):
        return x * 0.5
def changed(net):
    layers = list(net)
    return nn.Sequential(*layers[:-1], Drop(0.5), layers[-1])
""",
    "a parametrization": "def changed(net):\n    nn.utils.parametrizations.spectral_norm(net[-1])\n    return net\n",
}


def made(text: str) -> Any:
    """Load a program with a model, written into this folder."""
    Path("own.py").write_text(f"{text}\n{GUARD}")
    return load_program("own.py")


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.usefixtures("away")
def test_a_network_of_ones_own_is_scored_as_it_predicts(net: str) -> None:
    kind = made(
        f"from torch import nn\nfrom paretune.trainers.ann import Ann\n{net}\n"
        "class Own(Ann):\n    def network(self):\n        return changed(super().network())"
    )
    assert_scored_as_it_predicts(kind(kind.Config(epochs=3, hidden=[8]), device="cpu"))


def assert_scored_as_it_predicts(model: Any) -> None:
    data = small_data()
    assert data.holdout is not None
    *_, last = model.fit_epochs(data)
    assert last.metrics["test_loss"] == pytest.approx(model.mean_loss(data.holdout.x, data.holdout.y), rel=1e-4)


@pytest.mark.usefixtures("away")
def test_an_autoencoder_gives_back_what_its_network_is_given() -> None:
    kind = made(
        "from paretune.trainers.autoencoder import Autoencoder\n"
        "class Own(Autoencoder):\n    def inputs(self, x):\n        return 1 - super().inputs(x)"
    )
    assert_scored_as_it_predicts(kind(kind.Config(epochs=3, hidden=[8]), device="cpu"))


@pytest.mark.usefixtures("away")
def test_an_input_may_depend_on_what_trials_of_one_program_differ_in() -> None:
    kind = made(
        "from paretune.trainers.ann import Ann\n"
        "class Own(Ann):\n    def inputs(self, x):\n        return super().inputs(x) * (1 + self.config.seed)"
    )
    configs = [kind.Config(epochs=2, hidden=[8], seed=seed) for seed in range(3)]
    alone = [[epoch.metrics["train_loss"] for epoch in kind(config, device="cpu").fit_epochs(small_data())] for config in configs]
    together = list(kind.fit_population(configs, small_data(), device="cpu"))
    assert [[epochs[place].metrics["train_loss"] for epochs in together] for place in range(3)] == alone


@pytest.mark.parametrize(
    ("method", "passed"), [("_prepared(self, x, *, fit=False)", "_prepared(x, fit=fit)"), ("decisions(self, x)", "decisions(x)")]
)
@pytest.mark.usefixtures("away")
def test_an_svm_that_overrides_something_is_scored_by_it(method: str, passed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paretune.kernel_svm.gram.FROM", 0)  # as of large data
    kind = made(f"from paretune.trainers.svm import Svm\nclass Own(Svm):\n    def {method}:\n        return -super().{passed}")
    data = small_data()
    assert data.holdout is not None
    model = kind(device="cpu")
    *_, last = model.fit_epochs(data)
    right = float((model.predict(data.holdout.x) == data.holdout.y.numpy()).mean())
    assert last.metrics["test_accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("method", OVERRIDDEN)
def test_trials_of_a_model_that_overrides_a_method_are_as_each_alone(method: str, away: Path) -> None:
    text = f"""\
from paretune.trainers.ann import Ann, AnnConfig
class OwnConfig(AnnConfig):
    epsilon: float = 1.0
class Own(Ann):
    Config = OwnConfig
{OVERRIDDEN[method]}
{GUARD}"""
    Path("own.py").write_text(text)
    kind: Any = load_program("own.py")
    data = small_data()
    configs = [kind.Config(epochs=2, hidden=[8], epsilon=epsilon) for epsilon in (0.5, 1.0, 3.0)]
    alone = [[epoch.metrics["train_loss"] for epoch in kind(config, device="cpu").fit_epochs(small_data())] for config in configs]
    assert len({tuple(losses) for losses in alone}) == 3, "the method counts"
    assert away.is_dir()
    for shared in (data, small_data()):
        together = list(kind.fit_population(configs, shared, device="cpu"))
        losses = [[epochs[place].metrics["train_loss"] for epochs in together] for place in range(3)]
        assert losses == [pytest.approx(one, rel=1e-5) for one in alone]


def ran(*arguments: str, code: int = 0) -> str:
    """Start Python in the person's repository."""
    done = start(sys.executable, *arguments, cwd=Path(), PYTHONPATH=str(ROOT))
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.usefixtures("mine")
def test_a_config_of_ones_own_says_in_the_run_what_is_inactive() -> None:
    own = "    shift: Annotated[float, ActiveWhen(lambda config: config.power > 5)] = 0.5\n    momentum: float = 0.0\n"
    text = MINE.replace('description="of the pixels")\n', f'description="of the pixels")\n{own}')
    text = text.replace("import Any", "import Annotated, Any").replace("from beside", f"{OWN}\nfrom beside")
    Path("mine.py").write_text(text)
    ran("mine.py", "--epochs=1", "--hidden=[8]", "--wandb=offline", "--device=cpu", "--save=none")
    (file,) = Path("wandb").rglob("run-*.wandb")
    run = read_run(file)
    assert run is not None
    inactive = run.config["provenance"]["inactive"]
    assert {"shift", "width"} <= set(inactive)
    assert "momentum" not in inactive, "the class declares it anew"
    assert not {"shift", "width", "provenance"} & set(effective_configuration(run.config))


@pytest.mark.slow
@pytest.mark.usefixtures("mine")
def test_a_model_in_another_repository_goes_the_whole_way() -> None:
    assert "pixels" in ran("mine.py", "--help")
    Path("silent.py").write_text(f"from paretune.trainers.softmax import Softmax\nclass A(Softmax): ...\n{MAIN}")
    assert "silent" in ran("silent.py", "--help")
    ran("mine.py", "--epochs=1", "--hidden=[8]", "--power=2", "--wandb=disabled", "--device=cpu", "--save=alone")
    flags = ["--trials=3", "--device=cpu", "--wandb=offline", "--runs=runs", "--name=s"]
    ran(str(ROOT / "sweeps" / "offline.py"), "mine.yaml", *flags)
    (trials,) = [path for path in Path("runs").iterdir() if path.name == "s"]
    assert not (trials / "trials").exists(), "it trained in process"
    assert "power" in ran("-m", "paretune.search.status", "runs/s")
    assert "every epoch is as recorded" in ran("-m", "paretune.search.run", "runs/s", "--trial=1", "--device=cpu")
    assert "best_epoch" in ran("-m", "paretune.analysis.pareto", "runs/s")
    retrain = ["-m", "paretune.analysis.retrain", "runs/s", "--to=kept", "--device=cpu"]
    assert "--program" in ran(*retrain, code=2)
    ran(*retrain, "--program=mine.py")
    known = json.loads(Path("kept/config.json").read_text())
    assert (known["classifier"], Path(known["program"]["file"]).name) == ("mine", "mine.py")
    said = ran("-m", "paretune.trainers.evaluate", "kept", "--program=mine.py", "--device=cpu", "--json")
    accuracy: Any = json.loads(said.splitlines()[-1])["accuracy"]
    assert accuracy == json.loads(Path("kept/metrics.json").read_text())["test"]["accuracy"] > 0.5
    assert "--program" in ran("-m", "paretune.trainers.evaluate", "kept", "--device=cpu", code=2)
    ran("-m", "paretune.analysis.embed", "kept", "--program=mine.py", "--layer=output", "--method=pca", "--device=cpu")
    assert "--program" in ran("-m", "paretune.models.export", "kept", code=2)
    ran("-m", "paretune.analysis.report", "runs/s", "--models=.", "--to=report")
    Path("mine.py").write_text(MINE.replace("to a power", "to any power"))
    for command in (retrain, ["-m", "paretune.trainers.evaluate", "kept", "--device=cpu"]):
        assert "SHA-256" in ran(*command, "--program=mine.py", code=2)
    assert "another program" in ran(str(ROOT / "sweeps" / "offline.py"), "mine.yaml", *flags, code=2)
