"""Limits on a query's size, depth and overlapping fields, on the lists that it sends, and on the size of its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    Executor,
    FieldNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    Undefined,
    get_named_type,
    type_from_ast,
    value_from_ast_untyped,
)
from graphql.language import DocumentNode, FragmentDefinitionNode, FragmentSpreadNode, InlineFragmentNode, SelectionSetNode

PAGE, MOST_IN_PAGE = 50, 1000
WHOLE = {("Sweep", "runs"), ("Sweep", "priorRuns"), ("Sweep", "agents")}  # pages as large as can be unless a size is asked for
DEPTH = 15  # the client's deepest has 11, the question what a schema holds 15
MOST_VALUES = 500_000  # the client's longest, of pages of 1,000, may have 423,000
MOST_FRAGMENTS = 50  # the client's document of most has 15
MOST_FIELDS = 500  # of a document with its fragments written out; the client's longest has 72
MOST_ALIKE = 10  # fields of one response name in one place; validation compares each with each
MOST_ITEMS = 20_000  # of a list that is sent; the client sends at most 10,000 files at once
MOST_ANSWER = 64 * 2**20  # characters of an answer
STEP = 1024  # characters after which an answer's size and time are looked at again
LARGE_ANSWER = 4 * 2**20  # characters from which on answers are made one at a time
LARGE_SECONDS, MOST_LARGE = 10.0, 8  # for which one waits for another, and how many wait: each has a thread and a connection
READING, READING_COSTS = ("history", "events", "sampledHistory"), 100  # fields that read a history; each counts as many values
MOST_SECONDS = 30.0  # of a processor, for a document that only reads; W&B's client waits 20 s for an answer


def check_form(document: DocumentNode) -> None:
    """Refuse a document whose validation would take long.

    Raises:
        GraphQLError: that says what is too much.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    if len(fragments) > MOST_FRAGMENTS:
        raise GraphQLError(f"a document may have at most {MOST_FRAGMENTS} fragments. Got {len(fragments)}.")
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
            _check_alike([node.selection_set], fragments, iter(range(MOST_FIELDS)))


def _check_alike(sets: list[SelectionSetNode], fragments: Mapping[str, FragmentDefinitionNode], budget: Iterator[int]) -> None:
    """Count the fields of selection sets that answer in one place, with those below; a fragment as often as it is spread."""
    below: dict[str, list[FieldNode]] = {}
    waiting = [node for selected in sets for node in selected.selections]
    while waiting:
        node = waiting.pop()
        if next(budget, None) is None:
            raise GraphQLError(f"a document may have at most {MOST_FIELDS} fields, those of a fragment wherever it is spread.")
        if isinstance(node, FieldNode):
            below.setdefault((node.alias or node.name).value, []).append(node)
        elif isinstance(node, FragmentSpreadNode):
            known = fragments.get(node.name.value)
            waiting += () if known is None else known.selection_set.selections
        elif isinstance(node, InlineFragmentNode):
            waiting += node.selection_set.selections
    for name, nodes in below.items():
        if len(nodes) > MOST_ALIKE:
            raise GraphQLError(f"a document may ask for {name!r} at most {MOST_ALIKE} times in one place. Got {len(nodes)}.")
        _check_alike([node.selection_set for node in nodes if node.selection_set is not None], fragments, budget)


def check_items(value: Any) -> None:
    """Refuse variables with a list that is too long.

    Raises:
        GraphQLError: that says so.
    """
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list) and len(found) > MOST_ITEMS:
            raise GraphQLError(f"a list may have at most {MOST_ITEMS:,} items. Got {len(found):,}: send them in several requests.")
        if isinstance(found, dict | list):
            waiting += found.values() if isinstance(found, dict) else found


class TooLargeAnswer(BaseException):
    """An answer grows too large. It is no Exception, of each of which graphql-core makes a null, and goes on."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the answer {what}: ask for smaller pages, fewer rows or fewer fields.")


class BusyAnswer(BaseException):
    """An answer grows large, and others do already: its client shall ask again. No Exception either."""


class AnswerSize:
    """The size of one answer while it is made: execution stops where it grows too large.

    Of answers that become large, one is made at a time, as each takes several times its size in
    memory until it is sent.

    Args:
        waits: whether it may wait for another; not while it keeps others from the database.
    """

    _large, _waiting = threading.Lock(), threading.BoundedSemaphore(MOST_LARGE)

    def __init__(self, *, waits: bool) -> None:
        self.size = self.next = 0
        self.waits, self.is_alone = waits, False
        self.begun = time.thread_time()

    def add(self, value: Any) -> None:
        """Count a value of the answer.

        Raises:
            TooLargeAnswer: if they are too many.
            BusyAnswer: if the answer is large, and it is not the turn of such a one in time.
        """
        self.size += 16 + len(value) if value.__class__ is str else 16 + STEP if value.__class__ in (list, dict) else 16
        if self.size >= self.next:
            self._check(_length(value) if value.__class__ in (list, dict) else 0)

    def _check(self, more: int) -> None:
        self.size += more
        self.next = self.size + STEP
        if self.size > MOST_ANSWER:
            raise TooLargeAnswer(f"would have more than {MOST_ANSWER:,} characters")
        if self.waits and time.thread_time() - self.begun > MOST_SECONDS:
            raise TooLargeAnswer(f"took more than {MOST_SECONDS:g} s of the server's processor")
        if self.size > LARGE_ANSWER and self.waits and not self.is_alone:
            self.is_alone = self._is_its_turn()
            if not self.is_alone:
                raise BusyAnswer

    def _is_its_turn(self) -> bool:
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._large.acquire(timeout=LARGE_SECONDS)
        finally:
            self._waiting.release()

    def __enter__(self) -> AnswerSize:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alone:
            self.is_alone = False
            self._large.release()


class CountingExecutor(Executor[Any]):
    """Counts every value of an answer with the `answer` of its context; a middleware would take half as long again."""

    def complete_leaf_value(self, return_type: GraphQLLeafType, result: Any) -> Any:  # type: ignore[override]
        value = return_type.coerce_output_value(result)
        if value.__class__ is str:  # nearly all are, and there are many
            answer = self.context_value.answer
            answer.size += 16 + len(value)
            if answer.size >= answer.next:
                answer.add("")
            return value
        if value is None or value is Undefined:
            return super().complete_leaf_value(return_type, result)
        self.context_value.answer.add(value)
        return value


def _length(value: Any) -> int:
    """Return about how many characters a value has as JSON."""
    if isinstance(value, str):
        return len(value) + 3
    if isinstance(value, list):
        return sum(map(_length, value))
    if isinstance(value, dict):
        return sum(len(key) + 6 + _length(one) for key, one in value.items() if isinstance(key, str))
    return 8


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
        if field is None:
            return depth + 1, 1 + values
        return depth + 1, 1 + (
            self._times(node, field, parent) * values if node.selection_set else READING_COSTS * self._readings(node)
        )

    def _definition(self, name: str, parent: Any) -> GraphQLField | None:
        return parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None

    def _arguments(self, node: FieldNode) -> dict[str, Any]:
        return {argument.name.value: value_from_ast_untyped(argument.value, self.variables) for argument in node.arguments or ()}

    def _readings(self, node: FieldNode) -> int:
        """Return how many histories a field reads."""
        specs = self._arguments(node).get("specs", ())
        return len(specs) if isinstance(specs, list) else int(node.name.value in READING)

    def _times(self, node: FieldNode, field: GraphQLField, parent: Any) -> int:
        if not get_named_type(field.type).name.endswith("Connection"):
            return 1
        given = self._arguments(node)
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
