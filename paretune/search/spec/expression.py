"""Conditions and constraints: comparisons over parameter and metric names, such as `kernel in ['rbf', 'poly']`.

A small part of Python's expressions, read with `ast` and evaluated here; nothing of it is ever executed.
"""

from __future__ import annotations

import ast
import operator
import warnings
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


DEEPEST = 50
CALLED = {  # Python's name of a part -> a person's
    "Call": "a call",
    "Lambda": "a lambda",
    "Attribute": "a point behind something else than a name",
    "Subscript": "an index",
    "Pow": "**",
    "FloorDiv": "//",
    "Mod": "%",
    "Is": "is (compare by ==)",
    "IsNot": "is not (compare by !=)",
    "IfExp": "if … else",
    "JoinedStr": "an f-string",
    "Constant": "a constant that is neither number nor text",
    "Set": "a set (write a list: [1, 2])",
    "Dict": "a mapping",
}


@dataclass(frozen=True)
class Expression:
    """A checked expression: its text, its tree, and the names it speaks of (`a.b` for nested parameters).

    A comparison with a name that has no value is false, whatever it asks.
    """

    text: str
    tree: ast.expr
    names: frozenset[str]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values; what cannot be compared or computed makes it false."""
        try:
            return bool(_value(self.tree, values))
        except (TypeError, ArithmeticError):
            return False

    def violation(self, values: Mapping[str, Any]) -> float:
        """Return by how much a constraint such as `n_parameters <= 1e6` is exceeded; at most 0 where it holds.

        Raises:
            TypeError: if a side is not a number, for example for want of a value, or cannot be computed.
        """
        assert isinstance(self.tree, ast.Compare)
        try:
            left, right = (_number(_value(side, values)) for side in (self.tree.left, self.tree.comparators[0]))
        except ArithmeticError as error:
            raise TypeError(str(error)) from None
        return left - right if isinstance(self.tree.ops[0], ast.Lt | ast.LtE) else right - left


def read_expression(text: Any) -> Expression:
    """Read a condition.

    Raises:
        ValueError: with what is wrong, to follow the place where the text stands.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be an expression in quotes, such as \"kernel == 'rbf'\". Got {text!r}.")
    try:
        with warnings.catch_warnings():  # Python's own words on '\\d' or '1 is 1' help nobody here
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(f"must be an expression such as \"kernel in ['rbf', 'poly']\". Got {text!r}.") from None
    _check(tree, text)
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


def _check(tree: ast.AST, text: str) -> None:
    """Refuse what is not a part of the language, and what is nested so deeply that to evaluate it fails."""
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        for node in level:
            broken = isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Name | ast.Attribute)
            broken |= isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | None)
            if broken or not isinstance(node, _PARTS):
                raise ValueError(
                    "may hold names, numbers, texts, lists, comparisons, and, or, not and + - * /. "
                    f"Got {CALLED.get(type(node).__name__, type(node).__name__)} in {text!r}."
                )
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ValueError(f"must be nested at most {DEEPEST} levels deep: make it simpler.")


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
            return _known(_dotted(node), values)[1]
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
            left, right = _number(_value(node.left, values)), _number(_value(node.right, values))
            return _ARITHMETIC[type(node.op)](left, right)
        case ast.Compare():
            if not all(_known(name, values)[0] for name in _names(node)):
                return False
            sides = [_value(side, values) for side in (node.left, *node.comparators)]
            return all(_COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True))
    raise AssertionError(f"not a part of the language: {type(node).__name__}")


def _known(name: str, values: Mapping[str, Any]) -> tuple[bool, Any]:
    """Return whether a name has a value, and the value; `a.b` may also stand as {a: {b: …}}."""
    if name in values:
        return True, values[name]
    inner: Any = values
    for step in name.split("."):
        if not isinstance(inner, Mapping) or step not in inner:
            return False, None
        inner = inner[step]
    return True, inner


def _number(value: Any) -> float:
    """Return a value that can be calculated with: 'a' * 10**9 would fill the memory."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
