"""Exact values of arithmetic: numbers, `+ - * /` and parentheses, as Python writes them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from operator import add, mul, sub, truediv
from typing import NamedTuple

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.Div: truediv,
}  # fmt: skip


class Computed(NamedTuple):
    """The value of an expression, and the numbers in it."""

    value: Fraction
    used: Counter[Fraction]


def computed(text: str) -> Computed | None:
    """The value of an expression and the numbers in it; None for any other text.

    >>> computed("(2 + 4) * 0.5").value, computed("6 // 2"), computed("1 / 0")
    (Fraction(3, 1), None, None)
    """
    try:
        return _of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _of(node: ast.expr) -> Computed:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        value = Fraction(str(node.value))
        return Computed(value, Counter([value]))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        inner = _of(node.operand)
        return inner._replace(value=-inner.value if isinstance(node.op, ast.USub) else inner.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _of(node.left), _of(node.right)
        return Computed(_OPERATIONS[type(node.op)](left.value, right.value), left.used + right.used)
    raise ValueError("not arithmetic")
