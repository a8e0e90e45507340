r"""Answers that are an arithmetic expression which reaches a target from given numbers, as in the Countdown game.

>>> gold = '{"target": 24, "numbers": [2, 3, 4]}'
>>> ExpressionRules().compare([(gold, "2*3*4 = 24"), (gold, r"(2 \times 4) \times 3"), (gold, "4*6")])
[True, True, False]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field

from lm_eval_ext.grading.arithmetic import computed
from lm_eval_ext.grading.grading import FailureReason
from lm_eval_ext.grading.latex import Nodes, UnreadableError, is_sign, nodes, split
from lm_eval_ext.grading.rules import BaseExtractor, Labels, Pairs, Rules, clusters_by
from lm_eval_ext.grading.texts import TextExtractor
from lm_eval_ext.grading.wrapping import bare

_LONGEST = 300  # characters of an expression
_SIGNS = {"+": "+", "-": "-", "*": "*", "·": "*", "×": "*", "/": "/", "÷": "/"}


class _Task(NamedTuple):
    target: Fraction
    numbers: Counter[Fraction]


class ExpressionRules(Rules):
    """Options of answers that are an expression; a gold answer is JSON with `target` and `numbers`."""

    KIND: ClassVar[str] = "expression"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = TextExtractor
    all_numbers: Annotated[bool, Field(description="whether every number must be used; each at most once")] = True

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer reaches the target with the numbers it may use."""
        return [self._verdict(_task(gold), answer) for gold, answer in pairs]

    def _verdict(self, task: _Task | None, answer: str) -> bool | FailureReason:
        if not answer or task is None:
            return False
        sides = [found for side in _sides(answer) if (found := computed(side)) is not None]
        if not sides:
            return "unparsable"
        if any(side.value != task.target for side in sides):
            return False  # `2 * 3 * 4 = 25`
        return any(side.used == task.numbers or (not self.all_numbers and side.used <= task.numbers) for side in sides)

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Expressions vote together if they are the same but for spelling; many may be right."""
        return clusters_by(
            [[next(iter(_sides(answer)), answer or None) for answer in answers] for answers in questions]
        )

    def fault(self, gold: str) -> str:
        """Why no answer could be compared: the gold answer has no target or no numbers."""
        return "" if _task(gold) else 'is not JSON such as {"target": 24, "numbers": [2, 3, 4]}'


@lru_cache(maxsize=4096)
def _task(gold: str) -> _Task | None:
    try:
        found = json.loads(gold)
        numbers = Counter(Fraction(str(number)) for number in found["numbers"])
        return _Task(Fraction(str(found["target"])), numbers) if numbers else None
    except (ValueError, TypeError, KeyError, RecursionError, ZeroDivisionError):
        return None


def _sides(answer: str) -> list[str]:
    """The expressions in an answer as Python writes them: both of `2 * 3 * 4 = 24`; empty where it is none."""
    try:
        some = bare(nodes(answer)) if len(answer) <= _LONGEST else ()
    except UnreadableError:
        return []
    if some and some[-1].name == "()" and any(is_sign(node, "=") for node in some[-1].parts[0]):  # `4 * 6 (= 24)`
        some = (*some[:-1], *some[-1].parts[0])
    return [_python(side) for side in split(some, "=", "≈", "→") if side]


def _python(some: Nodes) -> str:
    found = ""
    for node in some:
        match node.kind:
            case "number" | "sign":
                piece = node.name if node.kind == "number" else _SIGNS.get(node.name, "")
            case "group":
                piece = f"({_python(node.parts[0])})"
            case "text":
                piece = _python(nodes(node.name))
            case "macro" if node.name == "frac":
                piece = "(({})/({}))".format(*map(_python, node.parts))
            case _:
                piece = "*" if node.name == "x" else ""
        if not piece:
            return ""
        beside = (found[-1:].isdigit() and piece[0] == "(") or (found[-1:] == ")" and piece[0] in "(0123456789")
        found += f"*{piece}" if beside else piece
    return found
