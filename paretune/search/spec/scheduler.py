"""W&B's `scheduler: {engine: optuna, source, optimizer, search_space}`: the person's own Optuna code, run offline.

`optimizer` names a function in `source` that takes the sweep's facts and returns an `optuna.Study`, or such a study and a
function `terminator(study) -> bool`. `search_space` names a function that takes an `optuna.Trial`, calls its `suggest_…` and
returns a mapping of values. Source: wandb 0.31, `wandb sweep-scheduler --help`.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretune.core.errors import UsageError, did_you_mean, excerpt
from paretune.search.spec.yaml_lines import Definition, check_keys

if TYPE_CHECKING:
    import optuna

ENGINES = ("optuna", "ax", "wandb")
KEYS = ("engine", "source", "optimizer", "search_space")
PLACE = "scheduler"


@dataclass(frozen=True)
class SweepInfo:
    """What W&B's scheduler hands to the person's `optimizer` function; offline the ids are the study's name."""

    id: str
    name: str
    entity: str
    project: str
    config: dict[str, Any]
    controller_run_name: str


@dataclass(frozen=True)
class Scheduler:
    """The `scheduler` section: the engine, the file, and the names of the functions in it."""

    engine: str
    source: Path | None = None
    optimizer: str | None = None
    search_space: str | None = None

    def study_of(self, info: SweepInfo) -> tuple[optuna.Study | None, Callable[[optuna.Study], bool] | None]:
        """Call the person's `optimizer` function; return its study and terminator, (None, None) where there is none.

        Raises:
            UsageError: if it fails, or does not return what it must.
        """
        import optuna

        if self.optimizer is None:
            return None, None
        made = _called(self._function(self.optimizer), info, f"{self.source}: {self.optimizer}")
        study, terminator = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(study, optuna.Study) or not (terminator is None or callable(terminator)):
            raise UsageError(
                f"{self.source}: {self.optimizer} must return an optuna.Study, or a study and a function of it. "
                f"Got {excerpt(repr(made))}."
            )
        goals = [metric.get("goal", "minimize") for metric in info.config.get("metrics") or [info.config.get("metric") or {}]]
        directions = [direction.name.lower() for direction in study.directions]
        if directions != goals:
            raise UsageError(f"{self.source}: {self.optimizer} must make a study with directions={goals}. Got {directions}.")
        return study, terminator

    def space_of(self) -> Callable[[optuna.Trial], Mapping[str, Any]] | None:
        """Return the person's define-by-run space as a function of a trial; None where `parameters` are searched."""
        if self.search_space is None:
            return None
        function, where = self._function(self.search_space), f"{self.source}: {self.search_space}"

        def values_of(trial: optuna.Trial) -> Mapping[str, Any]:
            values = _called(function, trial, where)
            if not isinstance(values, Mapping):
                raise UsageError(f"{where} must return a mapping of parameters to values. Got {excerpt(repr(values))}.")
            return {str(name): plain(value) for name, value in values.items()}

        return values_of

    def _function(self, name: str) -> Callable[[Any], Any]:
        assert self.source is not None
        spec = importlib.util.spec_from_file_location(f"sweep_source_{self.source.stem}", self.source)
        if spec is None or spec.loader is None:
            raise UsageError(f"{self.source} cannot be imported: scheduler.source must be a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise UsageError(f"{self.source} cannot be imported ({type(error).__name__}: {excerpt(str(error))}).") from error
        function = getattr(module, name, None)
        if not callable(function):
            raise UsageError(f"{self.source} must define a function {name}. Got {excerpt(repr(function))}.")
        return function


def plain(value: Any) -> Any:
    """Return a value with Python's own numbers and lists in place of numpy's, which neither Optuna nor W&B's config can keep."""
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _called(function: Callable[[Any], Any], argument: Any, where: str) -> Any:
    import optuna

    try:
        return function(argument)
    except (UsageError, optuna.TrialPruned):
        raise
    except Exception as error:
        raise UsageError(f"{where} failed ({type(error).__name__}: {excerpt(str(error))}).") from error


def read_scheduler(definition: Definition) -> Scheduler | None:
    """Read the `scheduler` section; its functions are looked for in the source, not run. Faults go to the definition."""
    given = definition.values.get(PLACE)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        definition.fault((PLACE,), f"{PLACE} must be a mapping with engine, and source, optimizer, search_space. Got {given!r}.")
        return None
    check_keys(definition, given, KEYS, (PLACE,), PLACE)
    engine = given.get("engine")
    if engine not in ENGINES:
        near = did_you_mean(str(engine), ENGINES) or "."
        definition.fault((PLACE, "engine"), f"{PLACE}.engine must be {' or '.join(ENGINES)}. Got {engine!r}{near}")
        return None
    named = {key: given[key] for key in ("optimizer", "search_space") if given.get(key) is not None}
    if definition.elsewhere:  # it runs under wandb sweep-scheduler, where its file is
        return Scheduler(engine, None, named.get("optimizer"), named.get("search_space"))
    if engine != "optuna":
        if named:
            definition.fault(
                (PLACE, "engine"), f"{PLACE}: functions of engine {engine} run only under wandb sweep-scheduler; use optuna."
            )
        definition.notes.append(f"{PLACE}.engine {engine} is W&B's; offline Optuna searches the parameters.")
        return Scheduler(engine)
    source = _source(definition, given.get("source"), needed=bool(named))
    functions = _functions_in(definition, source) if source is not None else None
    for key, name in named.items():
        if functions is not None and name not in functions:
            near = did_you_mean(str(name), functions) or f"; it defines {', '.join(functions) or 'none'}."
            definition.fault((PLACE, key), f"{PLACE}.{key} must name a function in {source}. Got {name!r}{near}")
    return Scheduler(engine, source, named.get("optimizer"), named.get("search_space"))


def _source(definition: Definition, given: Any, *, needed: bool) -> Path | None:
    if given is None and not needed:
        return None
    place = (PLACE, "source")
    if not isinstance(given, str):
        definition.fault(place, f"{PLACE}.source must name the Python file of optimizer and search_space. Got {given!r}.")
        return None
    for path in (Path(given), definition.path.parent / given):
        with contextlib.suppress(OSError, ValueError):  # a name that is too long, or holds a zero byte
            if path.is_file():
                return path.resolve()
    definition.fault(place, f"{PLACE}.source {given!r} is neither here nor beside the sweep file.")
    return None


def _functions_in(definition: Definition, source: Path) -> list[str] | None:
    """Return the names that a file may bind at its top level; None where that cannot be seen without running it."""
    try:
        with warnings.catch_warnings():  # Python's own, on '\\d' and the like, come when the file is run
            warnings.simplefilter("ignore")
            waiting: list[ast.AST] = [ast.parse(source.read_text(encoding="utf-8"))]
    except SyntaxError as error:
        fault = f"{PLACE}.source {source} is not valid Python (line {error.lineno}: {error.msg})."
        definition.fault((PLACE, "source"), fault)
        return None
    except (OSError, ValueError, MemoryError, RecursionError) as error:
        definition.fault((PLACE, "source"), f"{PLACE}.source {source} cannot be read as a Python file ({error}).")
        return None
    names: list[str] = []
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
            continue  # what stands inside is not of the top level; inside if, try and with it is
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, ast.alias):
            names.append(node.asname or node.name.partition(".")[0])
        elif not isinstance(node, ast.expr) or isinstance(node, ast.Tuple | ast.List | ast.Starred | ast.NamedExpr):
            waiting += ast.iter_child_nodes(node)
    return None if "*" in names else names
