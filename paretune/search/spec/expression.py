"""Conditions and constraints: comparisons over parameter and metric names, such as `kernel in ['rbf', 'poly']`.

A small part of Python's expressions, read with `ast` and evaluated here; nothing of it is ever executed. A name that is no plain
word stands in backquotes. What speaks of a name without a value is unknown, and stays so under `not` (Kleene's three values).
"""

from __future__ import annotations

import ast
import keyword
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paretune.core.quoted_names import quoted, take_names, unquoted_name

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
UNKNOWN = object()  # what a comparison says of a name without a value
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

    A comparison is unknown where a name in it has no value (or NaN), or its sides cannot be compared or computed; `not` of it is
    unknown, too; `and` is false where a part is false, `or` is true where a part is true, whatever the others are.
    """

    text: str
    tree: ast.expr  # its names are the words of `quoted`
    names: frozenset[str]
    quoted: Mapping[str, str]  # the words that stand for names in backquotes, and the names

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is known to be true of these values."""
        try:
            found = self._value(self.tree, values)
        except (TypeError, ArithmeticError):
            return False
        return found is not UNKNOWN and bool(found)

    def violation(self, values: Mapping[str, Any]) -> float:
        """Return by how much a constraint such as `n_parameters <= 1e6` is exceeded; at most 0 where it holds.

        Raises:
            TypeError: if a side is not a number, for example for want of a value, or cannot be computed.
        """
        assert isinstance(self.tree, ast.Compare)
        try:
            left, right = (_number(self._value(side, values)) for side in (self.tree.left, self.tree.comparators[0]))
        except ArithmeticError as error:
            raise TypeError(str(error)) from None
        return left - right if isinstance(self.tree.ops[0], ast.Lt | ast.LtE) else right - left

    def _value(self, node: ast.AST, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name() | ast.Attribute():
                return _known(_dotted(node, self.quoted), values)
            case ast.List() | ast.Tuple():
                items = [self._value(item, values) for item in node.elts]
                return UNKNOWN if any(item is UNKNOWN for item in items) else items
            case ast.BoolOp():
                decides = isinstance(node.op, ast.Or)
                parts = [self._truth(part, values) for part in node.values]
                return decides if decides in parts else UNKNOWN if UNKNOWN in parts else not decides
            case ast.UnaryOp(op=ast.Not()):
                truth = self._truth(node.operand, values)
                return UNKNOWN if truth is UNKNOWN else not truth
            case ast.UnaryOp():
                value = _number(self._value(node.operand, values))
                return -value if isinstance(node.op, ast.USub) else value
            case ast.BinOp():
                left, right = _number(self._value(node.left, values)), _number(self._value(node.right, values))
                return _ARITHMETIC[type(node.op)](left, right)
            case ast.Compare():
                return self._compared(node, values)
        raise AssertionError(f"not a part of the language: {type(node).__name__}")

    def _truth(self, node: ast.AST, values: Mapping[str, Any]) -> Any:
        """Return True, False or UNKNOWN."""
        try:
            value = self._value(node, values)
        except (TypeError, ArithmeticError):
            return UNKNOWN
        return value if value is UNKNOWN else bool(value)

    def _compared(self, node: ast.Compare, values: Mapping[str, Any]) -> Any:
        try:
            sides = [self._value(side, values) for side in (node.left, *node.comparators)]
            if any(side is UNKNOWN for side in sides):
                return UNKNOWN
            return all(_COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True))
        except (TypeError, ArithmeticError):
            return UNKNOWN


def read_expression(text: Any, known: Sequence[str] = ()) -> Expression:
    """Read a condition.

    Args:
        known: names of parameters and metrics, which without backquotes would be taken for a division or a difference.

    Raises:
        ValueError: with what is wrong, to follow the place where the text stands.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be an expression in quotes, such as \"kernel == 'rbf'\". Got {text!r}.")
    try:
        plain, names = take_names(text.strip())
    except ValueError as error:
        raise ValueError(f"{error}. Got {text!r}.") from None
    unquoted = unquoted_name(text, known)
    if unquoted:
        apart = f" (or put spaces around {' and '.join(signs)}, to calculate)" if (signs := _signs(unquoted)) else ""
        raise ValueError(f"speaks of {unquoted} without backquotes: write {quoted(unquoted)}{apart}. Got {text!r}.")
    try:
        with warnings.catch_warnings():  # Python's own words on '\\d' or '1 is 1' help nobody here
            warnings.simplefilter("ignore")
            tree = ast.parse(plain.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        words = [name for name in known if keyword.iskeyword(name) and name in plain.split()]
        advice = f" A name that is no plain word stands in backquotes: `{words[0] if words else 'val loss'}`."
        raise ValueError(f"must be an expression such as \"kernel in ['rbf', 'poly']\". Got {text!r}.{advice}") from None
    _check(tree, text)
    return Expression(text.strip(), tree.body, frozenset(_names(tree.body, names)), names)


def _signs(name: str) -> list[str]:
    """Return the signs in a name that an expression calculates by."""
    return [sign for sign in "/-+*" if sign in name]


def read_constraint(text: Any, known: Sequence[str] = ()) -> Expression:
    """Read a constraint: two sides with <=, <, >= or > between them.

    Raises:
        ValueError: with what is wrong, to follow the place where the text stands.
    """
    expression = read_expression(text, known)
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


def _names(node: ast.AST, quoted: Mapping[str, str]) -> set[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        return {_dotted(node, quoted)}
    return set().union(*(_names(child, quoted) for child in ast.iter_child_nodes(node)))


def _dotted(node: ast.AST, quoted: Mapping[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, quoted)}.{node.attr}"
    return quoted.get(node.id, node.id) if isinstance(node, ast.Name) else "?"


def _known(name: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a name, UNKNOWN where it has none or NaN; `a.b` may also stand as {a: {b: …}}."""
    value: Any = values.get(name, values)
    for step in name.split(".") if name not in values else ():
        if not isinstance(value, Mapping) or step not in value:
            return UNKNOWN
        value = value[step]
    return UNKNOWN if isinstance(value, float) and math.isnan(value) else value


def _number(value: Any) -> float:
    """Return a value that can be calculated with: 'a' * 10**9 would fill the memory."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
