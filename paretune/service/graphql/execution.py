"""GraphQL as W&B's client speaks it: documents are read once, what this server does not know of an input is dropped.

A newer client sends inputs with fields that this server has never heard of; the specification would refuse the whole request.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from ariadne import load_schema_from_path, make_executable_schema
from graphql import (
    REMOVE,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    execute_sync,
    get_named_type,
    parse,
    specified_rules,
    type_from_ast,
    validate,
    value_from_ast_untyped,
    visit,
)
from graphql.language import DocumentNode, ObjectFieldNode
from graphql.validation import NoUnusedVariablesRule

from paretune.core.errors import UsageError, first_line
from paretune.service.graphql import query_limits
from paretune.service.graphql.query_limits import CountingExecutor, TooLargeAnswer
from paretune.service.sweeps import definitions

SCHEMA = Path(__file__).with_name("schema")
MOST_CHARACTERS = 100_000  # of a document; the client's longest has 6,000
MOST_TOKENS = 5_000
SHORT = 8_000  # characters of a document that is remembered, which then takes about a megabyte
RULES = [rule for rule in specified_rules if rule is not NoUnusedVariablesRule]  # what is dropped may leave a variable unused
OWN_TRANSACTIONS = {"agentHeartbeat"}  # it may ask a study, which takes time
WITHOUT_WRITING = {"createRunFiles", "markRunFilesUploaded"}  # mutations that only read
UNFIT = (sa.exc.DataError, OverflowError)  # of the database, at a number that is larger than its columns
UNFIT_SENTENCE = "a value in this request does not fit the database"
log = logging.getLogger("service.graphql")


class Schema:
    """The SDL with the functions that answer its fields.

    Args:
        resolvers: what ariadne's `make_executable_schema` binds.
    """

    def __init__(self, *resolvers: Any) -> None:
        self.schema: GraphQLSchema = make_executable_schema(load_schema_from_path(str(SCHEMA)), *resolvers)
        self._remembered = functools.lru_cache(maxsize=128)(self._parsed)

    def read(self, query: str) -> DocumentNode:
        """Return a document of one operation.

        Raises:
            GraphQLError: if it is no document of this schema.
        """
        return self._remembered(query) if len(query) <= SHORT else self._parsed(query)

    def writes(self, document: DocumentNode) -> bool:
        """Whether a document is answered in a transaction that writes: a mutation is, but for those with transactions of their own.

        Raises:
            GraphQLError: if it mixes the two.
        """
        operation = operation_of(document)
        if operation.operation is not OperationType.MUTATION:
            return False
        if not all(isinstance(node, FieldNode) for node in operation.selection_set.selections):
            raise GraphQLError("the fields of a mutation must stand in itself, not in a fragment.")
        named = {node.name.value for node in operation.selection_set.selections if isinstance(node, FieldNode)}
        if len(named) > 1 and named & OWN_TRANSACTIONS:
            raise GraphQLError(f"{', '.join(sorted(named & OWN_TRANSACTIONS))} must be the only thing that a mutation asks for.")
        return not named & OWN_TRANSACTIONS and not named <= WITHOUT_WRITING

    def prepare(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        """Do what takes time before the transaction in which a document is answered.

        Raises:
            GraphQLError: if something in the variables is too much.
            UsageError: if a sweep has faults.
        """
        query_limits.check_items(variables)
        operation = operation_of(document)
        for node in operation.selection_set.selections:
            if isinstance(node, FieldNode) and node.name.value == "upsertSweep":
                text = _sent(node, "input", variables).get("config")
                if isinstance(text, str) and text:
                    definitions.read_definition(definitions.fit_definition(text), "sweep")  # which remembers it

    def execute(self, document: DocumentNode, variables: Mapping[str, Any], context: Any) -> ExecutionResult:
        """Answer a document of one operation.

        Args:
            context: its `answer` counts the size.

        Raises:
            GraphQLError: if it asks for too much.
        """
        known = self._known_variables(document, variables)
        query_limits.check(self.schema, document, known)
        try:
            return execute_sync(
                self.schema, document, context_value=context, variable_values=known, executor_class=CountingExecutor
            )
        except TooLargeAnswer as error:
            raise GraphQLError(str(error)) from None

    def _parsed(self, query: str) -> DocumentNode:
        if len(query) > MOST_CHARACTERS:
            raise GraphQLError(f"a document may have at most {MOST_CHARACTERS:,} characters.")
        document = parse(query, max_tokens=MOST_TOKENS, no_location=True)
        operation_of(document)
        query_limits.check_form(document)
        document = self._known_fields(document)
        faults = validate(self.schema, document, RULES)
        if faults:
            names = [node.name.value for node in document.definitions if isinstance(node, OperationDefinitionNode) and node.name]
            log.warning("not served: %s (%s)", ", ".join(names) or "an operation without a name", faults[0].message)
            raise faults[0]
        return document

    def _known_fields(self, document: DocumentNode) -> DocumentNode:
        """Return the document without the fields of input objects that the schema does not have."""
        info = TypeInfo(self.schema)

        class Dropper(Visitor):
            def enter_object_field(self, node: ObjectFieldNode, *_: Any) -> Any:
                parent = get_named_type(info.get_parent_input_type())
                if isinstance(parent, GraphQLInputObjectType) and node.name.value not in parent.fields:
                    return REMOVE
                return None

        return visit(document, TypeInfoVisitor(info, Dropper()))

    def _known_variables(self, document: DocumentNode, variables: Mapping[str, Any]) -> dict[str, Any]:
        kinds = {
            node.variable.name.value: type_from_ast(self.schema, node.type)
            for node in operation_of(document).variable_definitions or ()
        }
        return {name: known_values(kinds[name], value) for name, value in variables.items() if name in kinds}


def _sent(node: FieldNode, name: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object that a field is sent as an argument; an empty one where it is none."""
    found = [
        value_from_ast_untyped(argument.value, dict(variables)) for argument in node.arguments or () if argument.name.value == name
    ]
    return found[0] if found and isinstance(found[0], dict) else {}


def operation_of(document: DocumentNode) -> OperationDefinitionNode:
    """Return the one operation of a document.

    Raises:
        GraphQLError: if it has none, or several.
    """
    found = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if len(found) != 1:
        raise GraphQLError(f"a document must hold one operation. Got {len(found)}.")
    return found[0]


def name_of(document: DocumentNode) -> str:
    """Return the name of a document's operation; empty where it has none."""
    name = operation_of(document).name
    return "" if name is None else name.value


def known_values(kind: Any, value: Any) -> Any:
    """Return a variable's value without the fields that its input type does not have; those that say something are logged."""
    if isinstance(kind, GraphQLNonNull):
        return known_values(kind.of_type, value)
    if isinstance(kind, GraphQLList) and isinstance(value, list):
        return [known_values(kind.of_type, one) for one in value]
    if isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
        unknown = [name for name in value if name not in kind.fields]
        said = [name for name in unknown if value[name] is not None]
        if said:
            log.info("dropped from %s: %s", kind.name, ", ".join(said))
        return {name: known_values(kind.fields[name].type, one) for name, one in value.items() if name not in unknown}
    return value


def refused(error: GraphQLError) -> dict[str, Any]:
    """Return what is sent where a document is not executed."""
    return {"data": None, "errors": [{"message": error.message}]}


def answered(result: ExecutionResult, failed: Callable[[BaseException], None]) -> dict[str, Any]:
    """Return what is sent of a result: a fault of the asker by its sentence, any other as a failure of this server.

    Args:
        failed: is told of the latter.
    """
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        answer["errors"] = [_message(error, failed) for error in result.errors]
    return answer


def _message(error: GraphQLError, failed: Callable[[BaseException], None]) -> dict[str, Any]:
    cause = error.original_error
    if cause is None or isinstance(cause, UsageError | GraphQLError):
        return {"message": str(cause or error.message), "path": error.path}
    if isinstance(cause, UNFIT):
        return {"message": f"{UNFIT_SENTENCE} ({first_line(cause)}).", "path": error.path}
    failed(cause)
    return {"message": "the server failed at this; its log says why.", "path": error.path}
