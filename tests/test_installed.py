"""The package as others get it: an sdist, a wheel that is built from it, installed where nothing of the checkout is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.samples import ROOT, environment

LIGHT = ("pydantic", "PyYAML", "numpy", "tqdm")  # what reading and checking a sweep file needs
SCRIPT = """\
import argparse

import wandb


def accuracy_of(rate: float, depth: int, epoch: int) -> float:
    return 0.9 - abs(rate - 0.3) / 2 - abs(depth - 3) / 20 - 0.2 / epoch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--depth", type=int, required=True)
    values = parser.parse_args()
    with wandb.init(config=vars(values)) as run:
        for epoch in range(1, 6):
            accuracy = accuracy_of(values.rate, values.depth, epoch)
            run.log({"epoch": epoch, "accuracy": accuracy, "cost": values.depth * epoch})


if __name__ == "__main__":
    main()
"""
SWEEP = {
    "program": "mine.py",
    "method": "random",
    "metrics": [{"name": "accuracy", "goal": "maximize"}, {"name": "cost", "goal": "minimize"}],
    "parameters": {"rate": {"min": 0.0, "max": 1.0}, "depth": {"values": [1, 2, 3, 4]}},
}


def call(*command: str, cwd: Path, code: int = 0, **more: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**environment(cwd), **more}, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from an sdist that was built from what git knows of the checkout."""
    folder = tmp_path_factory.mktemp("built")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if name.startswith("tests/") or not (ROOT / name).exists():
            continue
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "tree" / name, follow_symlinks=False)
    build = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"
    call(sys.executable, "-c", build.format("sdist"), str(folder), cwd=folder / "tree")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(folder / "unpacked", filter="data")
    (tree,) = (folder / "unpacked").iterdir()
    call(sys.executable, "-c", build.format("wheel"), str(folder), cwd=tree)
    (built,) = folder.glob("*.whl")
    return built


def installed(wheel: Path, folder: Path, python: str) -> Path:
    """Make an environment with the wheel alone; return the folder of its programs."""
    call(python, "-m", "venv", str(folder / "venv"), cwd=folder)
    programs = folder / "venv" / "bin"
    call(str(programs / "python"), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel), cwd=folder)
    return programs


def other_python(version: str) -> str | None:
    """Return a Python of this version: the one on the path, or one that pyenv has."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places = [shutil.which(f"python{version}"), *map(str, root.glob(f"versions/{version}.*/bin/python{version}"))]
    return next((place for place in places if place and subprocess.run([place, "-V"], capture_output=True).returncode == 0), None)


@pytest.mark.slow
def test_a_wheel_from_the_sdist_sweeps_a_script_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    programs = installed(wheel, tmp_path, sys.executable)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    # what it depends on comes from the tests' own environment, whose links to checkouts do not count at second hand
    (site / "pinned.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.py").write_text(SCRIPT)
    (work / "mine.yaml").write_text(yaml.safe_dump(SWEEP))
    where = call(str(programs / "python"), "-c", "import paretune.analysis; print(paretune.analysis.__file__)", cwd=work)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    paretune, path = str(programs / "paretune"), f"{programs}{os.pathsep}{os.environ['PATH']}"
    call(paretune, "sweep", "mine.yaml", "--trials=4", "--name=s", cwd=work, PATH=path)
    assert (work / "runs" / "s" / "study.db").is_file(), "results go below the folder that it is started from"
    assert "on the front" in call(paretune, "pareto", "runs/s", cwd=work)
    call(paretune, "report", "runs/s", "--to=report", cwd=work)
    assert "accuracy" in (work / "report" / "report.html").read_text(encoding="utf-8")
    assert (work / "report" / "report.pdf").read_bytes().startswith(b"%PDF")
    trained = call(paretune, "sweep", str(ROOT / "sweeps" / "softmax.yaml"), "--trials=1", "--name=own", "--epochs=1", cwd=work)
    assert "runs/own" in trained


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_other_pythons_check_a_sweep_file(version: str, wheel: Path, tmp_path: Path) -> None:
    python = other_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    programs = installed(wheel, tmp_path, python)
    pinned = [line for line in (ROOT / "requirements.txt").read_text().split() if line.partition("==")[0] in LIGHT]
    install = [str(programs / "python"), "-m", "pip", "install", "-q", *pinned]
    if subprocess.run(install, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("nothing can be installed here")
    call(str(programs / "python"), "-W", "error", "-m", "compileall", "-q", str(tmp_path / "venv" / "lib"), cwd=tmp_path)
    assert "usage: paretune" in call(str(programs / "paretune"), "--help", cwd=tmp_path)
    for name in ("ann", "svm", "softmax", "autoencoder"):
        assert name in call(str(programs / "paretune"), "check", str(ROOT / "sweeps" / f"{name}.yaml"), cwd=tmp_path)
    assert json.loads(
        call(str(programs / "python"), "-c", "import json, sys; print(json.dumps(sys.version_info[:2]))", cwd=tmp_path)
    )
