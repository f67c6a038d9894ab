"""The shape that docs/decisions.md explains, read from the source: who imports whom, where W&B is, what README promises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples import ROOT

OURS = ("trainers", "search", "analysis", "demo", "service", "studies", "benchmarks")
MAY_IMPORT = {
    "trainers": {"trainers"},
    "search": {"search", "trainers"},
    "analysis": {"analysis", "trainers"},
    "demo": {"demo", "trainers"},
    "studies": {"studies", "search", "analysis", "trainers"},
    "service": {"service", "search", "analysis", "demo", "trainers"},  # its pages show what the analysis computes
}
# Where runs are written, where they are read and shown, and where the command line hands over to W&B.
MAY_IMPORT_WANDB = {
    "trainers/tracking.py",
    "trainers/run_files.py",
    "analysis/server.py",
    "analysis/dashboard.py",
    "search/online.py",
    "search/sync.py",
    "search/agent.py",
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

PACKAGES = [package for package in MAY_IMPORT if (ROOT / package).is_dir()]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TEXTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "sweeps").glob("*.md")), *sorted((ROOT / "docs").glob("sweeps.md")))
    if path.is_file()
]


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too, and by name through import_module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)} imports relatively"
            yield node.module or ""
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "import_module",
            "__import__",
        }:
            yield from (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))


def top(module: str) -> str:
    return module.partition(".")[0]


every_module = pytest.mark.parametrize("path", MODULES, ids=place)


def test_the_packages_are_there() -> None:
    assert {"trainers", "search", "analysis"} <= set(PACKAGES)


@every_module
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    found = {top(module) for module in imports(path)} & {*OURS, "sweeps", "tests"}
    assert found <= MAY_IMPORT[package]


@every_module
def test_wandb_is_imported_only_where_runs_are_written_read_or_handed_over(path: Path) -> None:
    if "wandb" in {top(module) for module in imports(path)}:
        assert place(path) in MAY_IMPORT_WANDB


@every_module
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@every_module
def test_no_module_is_a_drawer(path: Path) -> None:
    assert path.stem not in DRAWERS
    assert not path.stem.endswith(("_utils", "_helpers", "_impl"))
    assert not path.stem.startswith("base_")


@every_module
def test_no_module_loads_a_pickle(path: Path) -> None:
    assert not {top(module) for module in imports(path)} & {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def test_sweeps_is_a_plain_folder() -> None:
    assert (ROOT / "sweeps").is_dir()
    assert not (ROOT / "sweeps" / "__init__.py").exists(), "it would shadow W&B's own package of that name"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_one(package: str) -> None:
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_every_classifier_has_trainer_and_sweep() -> None:
    from trainers import MODELS

    for name in MODELS:
        assert (ROOT / "trainers" / f"{name}.py").is_file()
        assert (ROOT / "sweeps" / f"{name}.yaml").is_file()


# What the texts promise


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z_-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def code_in(text: str) -> list[str]:
    """Every fenced block's lines and every `span` of a Markdown text."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", rest)


def test_readme_is_there() -> None:
    assert (ROOT / "README.md").is_file()


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_every_make_target_that_a_text_names_exists(path: Path) -> None:
    named = {match for code in code_in(path.read_text()) for match in re.findall(r"(?:^|[\s;&|])make ([a-z][a-z_-]*)", code)}
    assert named <= targets()


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_every_path_that_a_text_names_exists(path: Path) -> None:
    text = path.read_text()
    kept = r"(?:trainers|search|analysis|demo|service|benchmarks|sweeps|docs|tests)/[\w./-]*[\w/]"
    named = {match for code in code_in(text) for match in re.findall(rf"(?:^|[\s=(])({kept})", code)}
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    missing = {name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists()}
    assert not missing


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_every_module_that_a_text_starts_exists(path: Path) -> None:
    named = {
        match
        for code in code_in(path.read_text())
        for match in re.findall(r"-m ((?:trainers|search|analysis|demo|service)\.\w[\w.]*)", code)
    }
    missing = {
        name
        for name in named
        if not (ROOT / f"{name.replace('.', '/')}.py").is_file() and not (ROOT / name / "__main__.py").is_file()
    }
    assert not missing


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_every_flag_of_a_trainer_that_a_text_shows_is_one(path: Path) -> None:
    from trainers import MODELS, model_class
    from trainers.command_line import build_parser, with_underscores

    for line in code_in(path.read_text()):
        for name in MODELS:
            if re.search(rf"\bpython\S* \S*trainers/{name}\.py\b", line):
                flags = [with_underscores([flag])[0] for flag in re.findall(r"(?<=\s)(--[a-z][\w-]*)", line)]
                assert set(flags) <= set(build_parser(name, model_class(name))._option_string_actions), line


def test_every_row_of_the_conformance_table_is_ours_and_backed_by_a_test() -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "::" in line]
    assert len(rows) >= 45
    for row in rows:
        *_, ours, test = (cell.strip() for cell in row.strip("|").split("|"))
        file, _, name = test.strip("`").partition("::")
        path = ROOT / "tests" / "search" / file
        assert ours.startswith(("yes", "accepted")), row
        assert path.is_file(), row
        assert re.search(rf"^def {name}\(", path.read_text(), flags=re.MULTILINE), row
