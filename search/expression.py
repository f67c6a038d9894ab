"""Conditions and constraints: comparisons over parameter and metric names, such as `kernel in ['rbf', 'poly']`.

A small part of Python's expressions, read with `ast` and evaluated here; nothing of it is ever executed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_PARTS = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.Compare, ast.BinOp)
_PARTS += (ast.Name, ast.Attribute, ast.Load, ast.Constant, ast.List, ast.Tuple, *_COMPARISONS, *_ARITHMETIC)  # type: ignore[assignment]


@dataclass(frozen=True)
class Expression:
    """A checked expression: its text, its tree, and the names it speaks of (`a.b` for nested parameters)."""

    text: str
    tree: ast.expr
    names: frozenset[str]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values; a name without a value, or an impossible comparison, makes it false."""
        try:
            return bool(_value(self.tree, values))
        except (TypeError, ZeroDivisionError):
            return False

    def violation(self, values: Mapping[str, Any]) -> float:
        """Return by how much a constraint such as `n_parameters <= 1e6` is exceeded; at most 0 where it holds.

        Raises:
            TypeError: if a side is not a number, for example for want of a value.
        """
        assert isinstance(self.tree, ast.Compare)
        left, right = float(_value(self.tree.left, values)), float(_value(self.tree.comparators[0], values))
        return left - right if isinstance(self.tree.ops[0], ast.Lt | ast.LtE) else right - left


def read_expression(text: Any) -> Expression:
    """Read a condition.

    Raises:
        ValueError: with what is wrong, to follow the place where the text stands.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be an expression in quotes, such as \"kernel == 'rbf'\". Got {text!r}.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"must be an expression such as \"kernel in ['rbf', 'poly']\". Got {text!r}.") from None
    for node in ast.walk(tree):
        if not isinstance(node, _PARTS):
            raise ValueError(
                "may hold names, numbers, texts, lists, comparisons, and, or, not and + - * /. "
                f"Got {type(node).__name__} in {text!r}."
            )
    return Expression(text.strip(), tree.body, frozenset(_names(tree.body)))


def read_constraint(text: Any) -> Expression:
    """Read a constraint: two sides with <=, <, >= or > between them.

    Raises:
        ValueError: with what is wrong, to follow the place where the text stands.
    """
    expression = read_expression(text)
    tree = expression.tree
    if not (isinstance(tree, ast.Compare) and len(tree.ops) == 1 and isinstance(tree.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)):
        raise ValueError(f"must compare two sides by <=, <, >= or >, such as 'n_parameters <= 1e6'. Got {text!r}.")
    return expression


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        return {_dotted(node)}
    return set().union(*(_names(child) for child in ast.iter_child_nodes(node)))


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name() | ast.Attribute():
            return values.get(_dotted(node))
        case ast.List() | ast.Tuple():
            return [_value(item, values) for item in node.elts]
        case ast.BoolOp(op=ast.And()):
            return all(_value(part, values) for part in node.values)
        case ast.BoolOp():
            return any(_value(part, values) for part in node.values)
        case ast.UnaryOp(op=ast.Not()):
            return not _value(node.operand, values)
        case ast.UnaryOp():
            value = _value(node.operand, values)
            return -value if isinstance(node.op, ast.USub) else +value
        case ast.BinOp():
            return _ARITHMETIC[type(node.op)](_value(node.left, values), _value(node.right, values))
        case ast.Compare():
            sides = [_value(side, values) for side in (node.left, *node.comparators)]
            return all(_COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True))
    raise AssertionError(f"not a part of the language: {type(node).__name__}")
