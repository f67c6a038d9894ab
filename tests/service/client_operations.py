"""The GraphQL operations of the installed client: those of its wandb-core, of its Python and of wandb-workspaces."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces
from wandb.apis.public.runs import RUN_FRAGMENT

FOLDER = Path(wandb.__file__).parent
WORKSPACES = Path(wandb_workspaces.__file__).parent  # W&B's package that saves workspaces and reports
OPENING = re.compile(r"\s*(?:#\s*graphql\s*)?(?:query|mutation)\b\s*(\w+)?\s*[({]")
EMBEDDED = re.compile(rb"\n((?:query|mutation) \w+ ?[({](?:[^\x00]*?)\n\}\n(?:fragment \w+ on \w+ \{[^\x00]*?\n\}\n)*)")
FORMATTED = {  # what Python puts into a text by str.format, by the operation's name
    "DeleteRun": ("$deleteArtifacts: Boolean", "deleteArtifacts: $deleteArtifacts"),
    "RunFullHistory": ("history",),
    "UpsertBucket": (RUN_FRAGMENT,),
}
COMPOSED = {  # what Python puts into a text when it runs, by the name that stands there
    "_PROJECT_QUERY_": "project { id name entity { id name } }",
}

USED = ("entityName", "projectName", "runName", "artifactID", "usedAs", "artifactEntityName", "artifactProjectName")
LOCAL = {  # what stands in a function of the client's, by the operation's name: all that it may hold
    "UseArtifact": {
        "query_vars": [f"${name}: {'ID!' if name == 'artifactID' else 'String'}{'!' * (name in USED[:3])}" for name in USED],
        "query_args": [f"{name}: ${name}" for name in USED],
    }
}


def operations() -> dict[str, list[str]]:
    """Return the texts of every operation by its name; an empty text where it is put together as the client runs."""
    found: dict[str, list[str]] = {}
    for text in (*_of_core(), *_of_python()):
        match = OPENING.match(text)
        assert match is not None, text
        found.setdefault(match[1] or "without a name", []).append(text)
    return found


def _of_core() -> Iterator[str]:
    for match in EMBEDDED.finditer((FOLDER / "bin" / "wandb-core").read_bytes()):
        yield match[1].decode()


def _of_python() -> Iterator[str]:
    for path in (*sorted(FOLDER.rglob("*.py")), *sorted(WORKSPACES.rglob("*.py"))):
        if not {"vendor", "proto"} & set(path.parts):
            source = path.read_text(encoding="utf-8")
            if "query" in source or "mutation" in source:
                yield from _of_source(path, source)


def _of_source(path: Path, source: str) -> Iterator[str]:
    tree = ast.parse(source)
    formatted = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in formatted for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside and OPENING.match(node.value):
            yield _filled(node.value)
    for node in formatted:
        plain = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if OPENING.match(plain):
            yield from _evaluated(path, node, plain)


def _filled(text: str) -> str:
    match = OPENING.match(text)
    if match is not None and "{{" in text:
        text = text.format(*FORMATTED[match[1]])
    for name, value in COMPOSED.items():
        text = text.replace(name, value)
    return text


def _evaluated(path: Path, node: ast.JoinedStr, plain: str) -> Iterator[str]:
    """Yield what an f-string comes to with its module's names and, for a fragment, with each fragment of the module."""
    name = ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    known: dict[str, Any] = dict(vars(importlib.import_module(name)))
    fragments = {key: value for key, value in known.items() if key.endswith("_FRAGMENT") and isinstance(value, str)}
    code = compile(ast.Expression(node), str(path), "eval")
    match = OPENING.match(plain)
    known |= LOCAL.get(match[1] if match else "", {})
    tried = [{"fragment": text, "fragment_name": _fragment_name(text)} for text in fragments.values()] or [{}]
    for more in tried:
        try:
            yield eval(code, known | more)
        except NameError:
            yield f"query {match[1] if match else ''} {{ composed_as_the_client_runs }}"


def _fragment_name(text: str) -> str:
    match = re.search(r"fragment (\w+)", text)
    assert match is not None, text
    return match[1]
