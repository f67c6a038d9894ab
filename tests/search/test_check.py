"""`python -m paretune.search.check`: each file's summary and notes, every fault on stderr, and an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from paretune.search.check import main
from paretune.search.spec.sweep import read_sweep
from tests.samples import ROOT

GOOD: dict[str, Any] = {
    "program": "trainers/softmax.py",
    "method": "grid",
    "metric": {"name": "f1", "goal": "maximize"},
    "parameters": {"batch_size": {"values": [8, 16]}, "epochs": {"min": 1, "max": 3}, "seed": {"value": 1}},
}


def written(folder: Path, name: str, **changes: Any) -> str:
    path = folder / name
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return str(path)


def test_the_sweeps_of_ours_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path) for path in sorted((ROOT / "sweeps").glob("*.yaml"))]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count(".yaml: ") == len(list((ROOT / "sweeps").glob("*.yaml")))


def test_a_good_file_gets_a_summary_and_its_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a.yaml", kind="sweep")
    assert main([path]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{path}: grid over 2 parameters, 6 combinations, 1 fixed; maximize f1",
        "  note: kind is W&B's alone, and without effect offline.",
    ]
    assert err == ""


def test_a_bad_file_among_good_ones_is_the_only_one_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        written(tmp_path, "a.yaml"),
        written(tmp_path, "b.yaml", run_cap=0, metod=1),
        written(tmp_path, "c.yaml", method="random"),
    ]
    assert main([*paths, str(tmp_path / "away" / "d.yaml")]) == 2
    out, err = capsys.readouterr()
    assert [line.partition(": ")[0] for line in out.splitlines()] == [paths[0], paths[2]]
    lines = Path(paths[1]).read_text().splitlines()
    places = {key: next(i for i, line in enumerate(lines, 1) if line.startswith(key)) for key in ("run_cap", "metod")}
    assert sorted(err.splitlines()) == sorted(
        [
            f"error: {paths[1]}:{places['run_cap']}: run_cap must be a whole number of at least 1. Got 0.",
            f"error: {paths[1]}:{places['metod']}: metod is not a key of a sweep; did you mean 'method'?",
            f"error: {tmp_path / 'away' / 'd.yaml'}: there is no such file; give the path of a sweep YAML.",
        ]
    )


def test_no_file_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help_says_that_it_takes_several_files(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m paretune.search.check SWEEP.yaml [SWEEP.yaml ...]" in capsys.readouterr().out


def test_repeats_of_a_program_of_ones_own_are_refused_with_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").touch()
    search = {"type": "local", "search": {"repeats": {"seeds": 2}}}
    path = written(tmp_path, "a.yaml", program=str(tmp_path / "own.py"), controller=search)
    assert main([path]) == 2
    line = next(i for i, text in enumerate(Path(path).read_text().splitlines(), 1) if "repeats" in text)
    assert capsys.readouterr().err.startswith(f"error: {path}:{line}: controller.search.repeats is for the trainers here")


def test_a_program_beside_its_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").touch()
    assert main([written(tmp_path, "a.yaml", program="own.py")]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path}/own.py is one: start this from {tmp_path}, or write 'program: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "search", "beside"),
    [
        ({}, {}, None),
        ({}, {"repeats": {"seeds": 2}}, "repeats"),
        ({}, {"stop": {"trials": 5}}, "stop"),
        ({}, {"sampler": "random"}, "the sampler random"),
        ({}, {"constraints": ["seconds < 9"]}, "the metric seconds"),
        ({"metric": {"name": "f1", "goal": "maximize", "target": 0.9}}, {}, "a target"),
        ({"metric": {"name": "seconds", "goal": "minimize"}}, {}, "the metric seconds"),
        ({"method": "random"}, {}, "method random"),
        ({"method": "grid"}, {}, "method grid"),
        ({"program": "my.py"}, {}, "a program of your own"),
    ],
)
@pytest.mark.parametrize(("name", "value"), [("at_once", 4), ("ahead", True)])
def test_what_is_without_effect_is_noted(
    name: str,
    value: Any,
    changes: dict[str, Any],
    search: dict[str, Any],
    beside: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").touch()
    if name == "ahead" and beside == "a program of your own":
        beside = None
    definition = {
        "program": "trainers/softmax.py",
        "method": "bayes",
        "metric": {"name": "f1", "goal": "maximize"},
        "parameters": {"batch_size": {"values": [16, 32]}},
        "controller": {"type": "local", "search": {name: value, **search}},
    }
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({**definition, **changes}))
    notes = [note for note in read_sweep(path).notes if name in note]
    assert notes == ([] if beside is None else [f"controller.search.{name} is without effect beside {beside}."])
