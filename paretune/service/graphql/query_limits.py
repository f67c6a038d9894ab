"""What a document may cost: how deep its fields stand, and how many values it may answer with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    get_named_type,
    type_from_ast,
    value_from_ast_untyped,
)
from graphql.language import DocumentNode, FragmentDefinitionNode, FragmentSpreadNode, InlineFragmentNode, SelectionSetNode

PAGE, MOST_IN_PAGE = 50, 1000
WHOLE = {("Sweep", "runs"), ("Sweep", "priorRuns"), ("Sweep", "agents")}  # pages as large as can be unless a size is asked for
DEPTH = 15  # the client's deepest has 11, the question what a schema holds 15
MOST_VALUES = 500_000  # the client's longest pages of runs have 30,000


def check(schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
    """Refuse a document that asks for too much; it has been validated.

    Raises:
        GraphQLError: that says what is too much.
    """
    depth, values = measured(schema, document, variables)
    if depth > DEPTH:
        raise GraphQLError(f"fields may stand at most {DEPTH} deep in each other. Got {depth}.")
    if values > MOST_VALUES:
        raise GraphQLError(
            f"this may answer with {values:,} values, and {MOST_VALUES:,} are the most: ask for smaller pages, or for less in each."
        )


def measured(schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> tuple[int, int]:
    """Return how deep a document's fields stand, and how many values it may answer with: each field, in each place of its pages."""
    return _Measure(schema, document, variables).measured()


class _Measure:
    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self.schema, self.document = schema, document
        self.variables = {**_defaults(document), **variables}
        self.fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
        self.known: dict[str, tuple[int, int]] = {}  # a fragment is measured once, however often it is spread

    def measured(self) -> tuple[int, int]:
        found = [
            self._of_set(node.selection_set, self.schema.get_root_type(node.operation))
            for node in self.document.definitions
            if isinstance(node, OperationDefinitionNode)
        ]
        return max(depth for depth, _ in found), sum(values for _, values in found)

    def _of_set(self, selections: SelectionSetNode | None, parent: Any) -> tuple[int, int]:
        deepest = values = 0
        for node in () if selections is None else selections.selections:
            if isinstance(node, FieldNode):
                depth, own = self._of_field(node, parent)
            elif isinstance(node, FragmentSpreadNode):
                depth, own = self._of_fragment(node.name.value)
            else:
                assert isinstance(node, InlineFragmentNode)
                kind = parent if node.type_condition is None else type_from_ast(self.schema, node.type_condition)
                depth, own = self._of_set(node.selection_set, kind)
            deepest, values = max(deepest, depth), values + own
        return deepest, values

    def _of_fragment(self, name: str) -> tuple[int, int]:
        if name not in self.known:
            node = self.fragments[name]
            self.known[name] = self._of_set(node.selection_set, type_from_ast(self.schema, node.type_condition))
        return self.known[name]

    def _of_field(self, node: FieldNode, parent: Any) -> tuple[int, int]:
        field = self._definition(node.name.value, parent)
        kind = None if field is None else get_named_type(field.type)
        depth, values = self._of_set(node.selection_set, kind)
        times = 1 if field is None or node.selection_set is None else self._times(node, field, parent)
        return depth + 1, 1 + times * values

    def _definition(self, name: str, parent: Any) -> GraphQLField | None:
        return parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None

    def _times(self, node: FieldNode, field: GraphQLField, parent: Any) -> int:
        if not get_named_type(field.type).name.endswith("Connection"):
            return 1
        given = {argument.name.value: value_from_ast_untyped(argument.value, self.variables) for argument in node.arguments or ()}
        asked = [given[name] for name in ("first", "last") if isinstance(given.get(name), int)]
        size = max(asked, default=MOST_IN_PAGE if (parent.name, node.name.value) in WHOLE else PAGE)
        return max(1, min(size, MOST_IN_PAGE))


def _defaults(document: DocumentNode) -> dict[str, Any]:
    """Return what the variables are that are not given."""
    return {
        variable.variable.name.value: value_from_ast_untyped(variable.default_value)
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
        for variable in node.variable_definitions or ()
        if variable.default_value is not None
    }
