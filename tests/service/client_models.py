"""The generated operations of W&B's clients with the pydantic models by which each client reads their answers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    InlineFragmentNode,
    SelectionSetNode,
    is_abstract_type,
    parse,
)

from paretune.service.graphql.execution import operation_of
from tests.service.client_parsing import refused

NAME = re.compile(r"(?:query|mutation)\s+(\w+)")
PROGRAM = f"""
import json, runpy, sys
refused = runpy.run_path({str(Path(__file__).with_name("client_parsing.py"))!r})["refused"]
print(json.dumps(refused(json.load(sys.stdin))))
"""
SCALARS = {  # an answer of each scalar that the models take
    "ID": "QTox",
    "String": "text",
    "Int": 1,
    "Int64": 1,
    "Float": 0.5,
    "Boolean": True,
    "JSONString": "{}",
    "JSON": {},
    "DateTime": "2026-01-01T00:00:00Z",
}


@dataclass(frozen=True)
class Operation:
    """A generated operation: the package with its model, the name that both have, and its text."""

    package: str
    name: str
    text: str


def operations_of(folder: Path) -> Iterator[Operation]:
    """Yield the generated operations of the client that is installed in `folder`, without importing it."""
    for path in sorted(folder.rglob("_generated/operations.py")):
        package = ".".join(path.parent.relative_to(folder.parent).parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                match = NAME.search(node.value.value)
                assert match is not None, node.value.value
                yield Operation(package, match[1], node.value.value)


def folder_of(python: str) -> Path:
    """Return where the client of an interpreter lies."""
    if python == sys.executable:
        return Path(wandb.__file__).parent
    found = subprocess.run([python, "-c", "import wandb; print(wandb.__file__)"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip().splitlines()[-1]).parent


def faults_of(python: str, answers: Iterable[tuple[Operation, str, Any]]) -> list[tuple[str, str, str]]:
    """Return what the models of a client refuse of labelled answers, as (operation, label, reason), parsed in one process."""
    given = [[operation.package, operation.name, label, answer] for operation, label, answer in answers]
    if python == sys.executable:
        return refused(given)
    done = subprocess.run([python, "-c", PROGRAM], input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(fault) for fault in json.loads(done.stdout)]


class Answers:
    """Answers that a schema allows to an operation: a whole one for each choice of types, and each with one null."""

    def __init__(self, schema: GraphQLSchema, text: str) -> None:
        self.schema = schema
        document = parse(text)
        self.operation = operation_of(document)
        self.fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        root = self.schema.get_root_type(self.operation.operation)
        assert root is not None
        for choice in range(
            max(len(self.schema.get_possible_types(kind)) for kind in self.schema.type_map.values() if is_abstract_type(kind))
        ):
            nullable: list[tuple[str | int, ...]] = []
            whole = self._object(root, [self.operation.selection_set], choice, (), nullable)
            yield f"whole, types {choice}", whole
            for path in nullable:
                yield ".".join(map(str, path)), _with_null(whole, path)

    def _object(
        self,
        kind: GraphQLObjectType,
        selections: list[SelectionSetNode],
        choice: int,
        path: tuple[str | int, ...],
        nullable: list[Any],
    ) -> dict[str, Any]:
        fields: dict[str, list[FieldNode]] = {}
        for selection in selections:
            for node in self._fields(kind, selection):
                fields.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        answer: dict[str, Any] = {}
        for key, nodes in fields.items():
            name = nodes[0].name.value
            if name == "__typename":
                answer[key] = kind.name
                continue
            inner = [node.selection_set for node in nodes if node.selection_set is not None]
            answer[key] = self._value(kind.fields[name].type, inner, choice, (*path, key), nullable)
        return answer

    def _fields(self, kind: GraphQLObjectType, selection: SelectionSetNode) -> Iterator[FieldNode]:
        for node in selection.selections:
            if isinstance(node, FieldNode):
                yield node
                continue
            spread = self.fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            assert isinstance(spread, FragmentDefinitionNode | InlineFragmentNode)
            condition = None if spread.type_condition is None else self.schema.type_map[spread.type_condition.name.value]
            if condition in (None, kind) or (is_abstract_type(condition) and self.schema.is_sub_type(condition, kind)):
                yield from self._fields(kind, spread.selection_set)

    def _value(
        self, kind: GraphQLOutputType, inner: list[SelectionSetNode], choice: int, path: tuple[str | int, ...], nullable: list[Any]
    ) -> Any:
        if isinstance(kind, GraphQLNonNull):
            kind = kind.of_type
        else:
            nullable.append(path)
        if isinstance(kind, GraphQLList):
            return [self._value(kind.of_type, inner, choice, (*path, 0), nullable)]
        if is_abstract_type(kind):
            possible = self.schema.get_possible_types(kind)
            kind = possible[choice % len(possible)]
        if isinstance(kind, GraphQLObjectType):
            return self._object(kind, inner, choice, path, nullable)
        return next(iter(kind.values)) if isinstance(kind, GraphQLEnumType) else SCALARS[kind.name]


def _with_null(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return a copy of an answer with null at a path."""
    if not path:
        return None
    if isinstance(value, list):
        return [_with_null(value[0], path[1:])]
    return {**value, path[0]: _with_null(value[path[0]], path[1:])}
