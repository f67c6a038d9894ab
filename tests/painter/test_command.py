"""`python -m paretune.painter`: what it prints, what it refuses, and the first model that it trains."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from paretune.core.errors import UsageError
from paretune.data.dataset import data_root, load_data
from paretune.data.options import DataOptions
from paretune.models.saved_models import describe, load, read_metrics, save
from paretune.painter.__main__ import main
from paretune.painter.first_model import NAME, train_first_model
from paretune.painter.server import models_of
from paretune.painter.sockets import open_socket, page_address
from paretune.trainers.svm import Svm, SvmConfig
from tests.painter.test_models import model_of
from tests.postgres import free_port
from tests.samples import ROOT


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    return capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere must be a saved model or a folder of them" in refused(["nowhere"], capsys)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", None), ("127.0.0.1", 70_000), ("not.an.address.invalid", None)])
def test_a_port_that_cannot_be_had_is_named_before_anything_is_trained(
    host: str, port: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = port if port is not None else taken.getsockname()[1]
        said = refused([str(tmp_path), "--host", host, "--port", str(wanted)], capsys)
    assert f"port {wanted} of {host} cannot be listened on" in said


def test_the_next_free_port_is_taken() -> None:
    first = open_socket("127.0.0.1", None)
    second = open_socket("127.0.0.1", None)
    ports = [opened.getsockname()[1] for opened in (first, second)]
    first.close()
    second.close()
    assert ports[0] < ports[1] < 8100


def test_the_address_is_one_that_a_browser_takes() -> None:
    for host, wanted in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")):
        try:
            opened = open_socket(host, 0)
        except UsageError:
            assert host == "::1", "a machine may be without IPv6"
            continue
        with opened:
            assert page_address(opened) == f"http://{wanted}:{opened.getsockname()[1]}/"


def test_a_model_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    save(model_of(names=["cat", "dog"]), tmp_path / NAME, metrics={"kept": 1})
    with pytest.raises(UsageError, match=f"{NAME} is there already and does not read drawings"):
        train_first_model(tmp_path, device="cpu")
    assert read_metrics(tmp_path / NAME) == {"kept": 1}


def test_nothing_is_trained_where_only_models_are_named_and_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_data(DataOptions(data="digits", holdout=0.0, train_size=100))
    save(Svm(SvmConfig(), device="cpu").fit(data), tmp_path / "small", metrics={}, origin={"data_options": {"data": "digits"}})
    monkeypatch.setattr("paretune.painter.server.train_first_model", lambda *_, **__: pytest.fail("it was trained"))
    assert [shown.name for shown in models_of([tmp_path / "small"], device="cpu").readers] == ["small"]


def test_what_is_trained_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(models: Path, *, device: str) -> Path:
        return save(model_of(), models / NAME, metrics={})

    monkeypatch.setattr("paretune.painter.server.train_first_model", train)
    monkeypatch.setattr("paretune.painter.server.ROOT", tmp_path)
    save(model_of(names=["cat", "dog"]), tmp_path / "pets", metrics={})
    assert [shown.name for shown in models_of([tmp_path / "pets"], device="cpu").readers] == [NAME]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [(["--drawings", "/etc/passwd"], "must be a folder that drawings can be saved in"), (["--device", "foo"], "device must be")],
)
def test_bad_flags_are_said_before_anything_else(
    flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused([str(tmp_path), *flags], capsys)


def test_answers_are_not_held_back_by_the_socket() -> None:
    with open_socket("127.0.0.1", 0) as opened:
        assert opened.proto == socket.IPPROTO_TCP, "asyncio turns Nagle's delay off for sockets that say so"


def test_without_a_model_and_without_mnist_the_sentence_says_where_it_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match=r"MNIST is not under .* and could not be downloaded .* put .*train-images-idx3-ubyte"):
        models_of([tmp_path / "models"], device="cpu")
    assert "no model reads 28x28 digits yet" in capsys.readouterr().out


def test_models_of_8x8_digits_serve_where_mnist_is_not_to_be_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load_data(DataOptions(data="digits", holdout=0.0, train_size=100))
    save(Svm(SvmConfig(), device="cpu").fit(data), tmp_path / "small", metrics={}, origin={"data_options": {"data": "digits"}})
    models = models_of([tmp_path], device="cpu")
    assert [shown.name for shown in models.readers] == ["small"]
    assert "note: MNIST is not under" in capsys.readouterr().err


@pytest.mark.needs_data
@pytest.mark.slow
def test_the_first_model_is_the_simple_cnn_after_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (data_root() / "MNIST" / "raw").exists():
        pytest.skip("MNIST is not below DATA_ROOT")
    folder = train_first_model(tmp_path, device="cpu", train_size=2000)
    assert folder == tmp_path / NAME
    description = describe(folder)
    assert description["config"]["epochs"] == 1
    assert description["data_options"]["data"] == "mnist"
    assert load(folder, device="cpu").n_parameters == 813_802
    assert set(read_metrics(folder)) == {"holdout"}, "the locked part is not read"
    assert read_metrics(folder)["holdout"]["test_accuracy"] > 0.6
    assert re.search(r"simple_cnn-mnist: batch 32/32 {2}the first model", capsys.readouterr().err)


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    save(model_of(), tmp_path / "models" / "one", metrics={})
    command = [
        sys.executable,
        "-m",
        "paretune.painter",
        str(tmp_path / "models"),
        "--drawings",
        str(tmp_path / "kept"),
        "--device",
        "cpu",
    ]
    port = free_port()
    with subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            assert lines[0] == "one: ann\n"
            assert lines[1].startswith(f"the painter is at http://127.0.0.1:{port}/ until Ctrl-C; drawings are saved in")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/models", timeout=20) as answer:
                assert b'"one"' in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
