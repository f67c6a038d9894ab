"""The shape that docs/decisions.md explains, read from the source: who imports whom, where W&B is, what README promises."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

from tests.samples import ROOT

# What each package of paretune/ may import, beside itself: what stands before it. Trainers and analysis stand on all of them.
ORDER = (
    "core",
    "data",
    "runs",
    "models",
    "batched",
    "networks",
    "kernel_svm",
    "search",
    "painter",
    "service",
    "trainers",
    "analysis",
)
MAY_NOT_IMPORT = {("kernel_svm", "networks"), ("kernel_svm", "batched"), ("painter", "search")}
FULLEST = 20  # modules in a folder, its __init__.py aside
MOST_INSIDE = 40  # imports of our own modules inside functions
# Where runs are written, where they are read and shown, and where the command line hands over to W&B.
MAY_IMPORT_WANDB = {
    "paretune/runs/outcome_file.py",
    "paretune/runs/tracking.py",
    "paretune/runs/wandb_files.py",
    "analysis/sources/server.py",
    "analysis/dashboard.py",
    "paretune/search/online.py",
    "paretune/search/sync.py",
    "paretune/search/agent.py",
}
# Packages of which each module with logic has a test file of its own name; in which a module with so many decisions has logic.
TESTED = ("paretune/core", "paretune/search", "paretune/service/store", "paretune/service/sweeps", "analysis")
LOGIC = 5  # branches, loops, comprehensions, conditions joined by and or or, exceptions that are caught
DECISIONS = (
    *(ast.If, ast.IfExp, ast.For, ast.While, ast.Match, ast.comprehension, ast.BoolOp, ast.ExceptHandler),
    *(ast.AsyncFor, ast.TryStar),
)
TESTED_ELSEWHERE = {
    "analysis/document/sections.py": "tests/analysis/document/test_sweep_report.py: its sections are of whole studies",
    "analysis/figures/diagnosis.py": "tests/analysis/test_diagnose.py: on the curves whose diagnoses it draws",
    "analysis/figures/parameters.py": "tests/analysis/test_importance.py: on the runs whose importances it draws",
    "paretune/service/store/migrations": "tests/service/test_migrations.py: every step on databases of older versions",
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

FOLDERS = ("paretune", "trainers", "analysis", "studies")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)
TEXTS = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "sweeps").glob("*.md")), *sorted((ROOT / "docs").glob("sweeps.md")))
    if path.is_file()
]


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def name_of(path: Path) -> str:
    """The one name by which a module is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] in ("paretune", "studies") else ("paretune", *parts))
    return name.removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, for types alone too and by name through import_module; and whether inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)} imports relatively"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found = sorted((full & set(NAMES)) | ({node.module or ""} if full - set(NAMES) else set()))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in {
            "import_module",
            "__import__",
        }:
            found = [str(argument.value) for argument in node.args[:1] if isinstance(argument, ast.Constant)]
        yield from ((name, id(node) in inside) for name in found)


IMPORTS = {name: list(imports(path)) for name, path in NAMES.items()}
OURS = {name: {(to, inside) for to, inside in found if to in NAMES and to != name} for name, found in IMPORTS.items()}


def top(module: str) -> str:
    return module.partition(".")[0]


def package(module: str) -> str:
    return ([*module.split("."), ""])[1]


def circles() -> list[list[str]]:
    """Groups of modules each of which reaches all of its group by imports."""
    reached: dict[str, set[str]] = {}
    for name in OURS:
        seen, ahead = set[str](), [name]
        while ahead:
            new = {to for to, _ in OURS[ahead.pop()]} - seen
            seen |= new
            ahead += new
        reached[name] = seen
    groups = {tuple(sorted(to for to in reached[name] if name in reached[to])) for name in OURS if name in reached[name]}
    return sorted(map(list, groups))


def test_imports_go_one_way() -> None:
    wrong = []
    for name, found in OURS.items():
        mine = package(name)
        if top(name) == "studies" or mine in ("", "cli", "__main__"):
            continue
        for to, _ in found:
            theirs = package(to)
            up = theirs not in ORDER or ORDER.index(theirs) > ORDER.index(mine)
            if theirs != mine and (top(to) != "paretune" or up or (mine, theirs) in MAY_NOT_IMPORT):
                wrong.append(f"{name} -> {to}")
    assert not wrong


def test_there_are_no_circles() -> None:
    assert circles() == []


def test_no_folder_is_too_full() -> None:
    counts = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {place(folder): count for folder, count in counts.items() if count > FULLEST} == {}


def test_our_own_modules_are_imported_at_the_top() -> None:
    inside = sorted(f"{name} -> {to}" for name, found in OURS.items() for to, within in found if within)
    assert len(inside) <= MOST_INSIDE, inside


@pytest.mark.parametrize("name", ["trainers", "analysis"])
def test_the_links_lead_to_the_folders_that_people_work_in(name: str) -> None:
    assert (ROOT / "paretune" / name).resolve() == ROOT / name


def importing(*tops: str) -> set[str]:
    """The files that import one of these packages."""
    return {place(NAMES[name]) for name, found in IMPORTS.items() if {top(module) for module, _ in found} & set(tops)}


def test_wandb_is_imported_only_where_runs_are_written_read_or_handed_over() -> None:
    assert importing("wandb") - MAY_IMPORT_WANDB == set()


def test_no_module_loads_a_pickle() -> None:
    assert importing("pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal") == set()


def test_every_module_says_what_it_is() -> None:
    assert [place(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def test_no_module_is_a_drawer() -> None:
    ends = ("_utils", "_helpers", "_impl")
    drawers = (path for path in MODULES if path.stem in DRAWERS or path.stem.endswith(ends) or path.stem.startswith("base_"))
    assert [place(path) for path in drawers] == []


def test_every_module_with_logic_has_a_test_file_of_its_own_name() -> None:
    lacking = []
    for path in MODULES:
        name = place(path)
        decisions = sum(isinstance(node, DECISIONS) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        if not name.startswith(TESTED) or name.startswith(tuple(TESTED_ELSEWHERE)) or decisions < LOGIC:
            continue
        own = ROOT / "tests" / Path(name.removeprefix("paretune/")).with_name(f"test_{path.name}")
        lacking += [] if own.is_file() else [f"{name} has {decisions} decisions and no {place(own)}"]
    assert lacking == []


def test_what_is_tested_elsewhere_is_there_and_so_are_its_tests() -> None:
    for name, reason in TESTED_ELSEWHERE.items():
        assert (ROOT / name).exists()
        assert (ROOT / reason.partition(":")[0]).is_file()


def test_sweeps_is_a_plain_folder() -> None:
    assert (ROOT / "sweeps").is_dir()
    assert not (ROOT / "sweeps" / "__init__.py").exists(), "it would shadow W&B's own package of that name"


def test_every_package_is_one() -> None:
    folders = {path.parent for path in MODULES}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_every_classifier_has_trainer_and_sweep() -> None:
    from paretune.models.registry import MODELS

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
    kept = r"(?:paretune|trainers|analysis|benchmarks|sweeps|docs|tests)/[\w./-]*[\w/]"
    named = {match for code in code_in(text) for match in re.findall(rf"(?:^|[\s=(])({kept})", code)}
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    missing = {name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists()}
    assert not missing


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_every_module_that_a_text_starts_exists(path: Path) -> None:
    named = {
        match for code in code_in(path.read_text()) for match in re.findall(r"-m ((?:paretune|trainers|analysis)\.\w[\w.]*)", code)
    }
    missing = {
        name for name in named if not any((ROOT / f"{name.replace('.', '/')}{end}").is_file() for end in (".py", "/__main__.py"))
    }
    assert not missing


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_every_flag_of_a_trainer_that_a_text_shows_is_one(path: Path) -> None:
    from paretune.core.command_line import with_underscores
    from paretune.models.registry import MODELS, model_class
    from paretune.models.train_command import build_parser

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
        (path,) = (ROOT / "tests" / "search").rglob(file)
        assert ours.startswith(("yes", "accepted")), row
        assert path.is_file(), row
        assert re.search(rf"^def {name}\(", path.read_text(), flags=re.MULTILINE), row


def test_everything_that_is_imported_is_declared_and_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    declared = {canonical(requirement) for requirement in wanted}
    pins = [*(ROOT / "requirements.txt").read_text().splitlines(), *(ROOT / "requirements-extra.txt").read_text().splitlines()]
    pinned = {canonical(line) for line in pins if line and not line.startswith("#")}
    assert declared <= pinned, "each is tested in one exact version"
    known = {**packages_distributions(), "sklearnex": ["scikit-learn-intelex"], "cuml": [], "sweeps": []}
    foreign = {top(module) for found in IMPORTS.values() for module, _ in found} - set(sys.stdlib_module_names)
    for module in sorted(foreign - {"paretune", "studies", "__future__", "alembic_version"}):
        assert module in known, module
        names = {canonical(name) for name in known[module]}
        assert not names or names & declared, f"{module} is of {names}, which pyproject.toml does not declare"


def canonical(requirement: str) -> str:
    """The name of a distribution without extras, versions, capitals and underscores."""
    return re.split(r"[\[<>=!~;\s]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")
