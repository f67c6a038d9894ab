"""Finds the model in a user's program by its syntax tree; imports the program only to train or load that model.

Such a file has, at its top level, a class that derives from a model of paretune's, and a guarded entry point:

    from paretune.models.train_command import main
    from paretune.trainers.ann import Ann

    class Mine(Ann):
        name = "mine"

    if __name__ == "__main__":
        main(__file__)

It then trains in the process of a sweep, as the trainers that come with the package do. Any other file is started as a process.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paretune.core.errors import UsageError, excerpt
from paretune.core.provenance import Source
from paretune.data.options import DataOptions
from paretune.models.contract import Model
from paretune.models.registry import LOADED, MODELS, TRAINERS, model_class
from paretune.models.run_config import RunOptions

FLAGS = {"wandb", "project", "name", "group", "tags", "device", "save", "summary"}  # of a trainer's command, beside its values


def shipped_model(program: str) -> type[Model] | None:
    """Return the class of a trainer that comes with the package, by the path that a sweep names; None of other programs."""
    path = Path(program)
    by_name = path.as_posix().removeprefix("./") in {f"trainers/{name}.py" for name in MODELS}
    if by_name or (path.stem in MODELS and path.is_file() and path.resolve().parent == TRAINERS):
        return model_class(path.stem)
    return None


def program_model(program: str) -> type[Model] | None:
    """Return the model of a sweep's program: a shipped one, or one that is found in the file; None of other programs.

    Raises:
        UsageError: if the file holds a model and cannot be imported.
    """
    shipped = shipped_model(program)
    if shipped is not None:
        return shipped
    return load_program(program) if Path(program).is_file() and models_in(Path(program)) else None


def models_in(path: Path) -> list[str]:
    """Return the names of the models that a program holds, without running it; none where it is no Python of such a form.

    A class that another one in the file derives from is a step to it, and not named.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    if not any(isinstance(node, ast.If) and _guards(node.test) for node in tree.body):
        return []
    imported = dict(_imported(tree))
    found: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {_dotted(base) for base in node.bases}
            if bases & found.keys() or any(_is_model(base, imported) for base in bases):
                found[node.name] = bases
    steps = {base for bases in found.values() for base in bases}
    return [name for name in found if name not in steps]


def load_program(program: str | Path) -> type[Model]:
    """Import a program and return its model; `model_class` and loading a saved model know it from now on, in this process.

    Raises:
        UsageError: if it holds no model or several, or cannot be imported.
    """
    path = Path(program)
    names = models_in(path) if path.is_file() else []
    if len(names) != 1:
        came = f"the models {', '.join(names)}" if names else "none" if path.is_file() else "no such file"
        raise UsageError(
            f"{program} must hold one class whose base it imports from paretune, a model, and an entry point below "
            f"if __name__ == '__main__'. Got {came}."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kind: Any = getattr(_imported_module(path, digest), names[0])
    if "name" not in vars(kind):
        kind.name = path.stem
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise UsageError(f"{program}: {names[0]} must define {missing}: a model without them cannot be trained.")
    if kind.name in MODELS:
        raise UsageError(f"{program}: {names[0]} must have a name of its own. Got {kind.name!r}, which comes with paretune.")
    if not re.fullmatch(r"\w[\w.-]*", kind.name):
        raise UsageError(f"{program}: the name of {names[0]} must be of letters, digits, '_', '-' and '.'. Got {kind.name!r}.")
    taken = sorted(kind.Config.model_fields.keys() & {*DataOptions.model_fields, *RunOptions.model_fields, *FLAGS})
    if taken:
        raise UsageError(f"{program}: {names[0]}.Config must not have {', '.join(taken)}: flags of every trainer have that name.")
    kind.source = Source(str(path.resolve()), digest)
    LOADED[kind.name] = kind
    return kind


def load_programs(programs: Iterable[str]) -> None:
    """Import the programs that a command names by --program.

    Raises:
        UsageError: as `load_program`.
    """
    for program in programs:
        load_program(program)


def saved_class(directory: Path, description: Mapping[str, Any]) -> type[Model]:
    """Return the class of a saved model, by its config.json. A program is never imported by this.

    Raises:
        UsageError: if the class is unknown, or of a program that has not been loaded or has changed.
    """
    name, program = str(description.get("classifier")), description.get("program")
    if not isinstance(program, Mapping):
        return model_class(name)
    check_program(name, program, str(directory))
    return LOADED[name]


def check_program(name: str, program: Mapping[str, Any], where: str) -> None:
    """Refuse a program that has not been loaded, or is another one than what was trained with.

    Args:
        program: `file` and `sha256`, as they were recorded.
        where: what was trained with it, at the start of the sentence.

    Raises:
        UsageError: that says what to do.
    """
    file = program.get("file")
    if name not in LOADED:
        raise UsageError(f"{where} is of the program {file}, and programs are never imported automatically: pass --program {file}.")
    source = LOADED[name].source
    if source is None or source.sha256 != program.get("sha256"):
        raise UsageError(
            f"{where}: --program must be the file that it was trained with, SHA-256 {str(program.get('sha256'))[:12]}…. Got "
            f"{'another' if source is None else source.sha256[:12] + '…'}: restore {file}, or train anew."
        )


def _imported_module(path: Path, digest: str) -> Any:
    name = f"paretune_program_{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # modules beside it come first, as when it is started
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{path} cannot be imported ({type(error).__name__}: {excerpt(str(error))}): fix the error.") from error
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # for what it imports later
    return module


def _guards(test: ast.expr) -> bool:
    """Whether a condition is `__name__ == "__main__"`, in either order."""
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return False
    sides = [test.left, test.comparators[0]]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    return names == {"__name__"} and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names that a module imports of paretune, and what they stand for."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").partition(".")[0] == "paretune":
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "paretune":
                    yield (alias.asname, alias.name) if alias.asname else ("paretune", "paretune")


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _is_model(base: str, imported: Mapping[str, str]) -> bool:
    """Whether the base of a class is a model of paretune's; only modules of ours are imported to know."""
    first, _, rest = base.partition(".")
    if first not in imported:
        return False
    module, _, attribute = ".".join(filter(None, [imported[first], rest])).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    return inspect.isclass(found) and issubclass(found, Model)
