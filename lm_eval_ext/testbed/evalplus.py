"""HumanEval+ and MBPP+ (EvalPlus, arXiv 2305.01210): each input of a row's script of tests as a test of its own.

A script compares by `assertion`, which takes an empty list for every number, as `assert_allclose` does, and a few are
wrong as published: HumanEval/32 evaluates a polynomial with its arguments exchanged, and three of MBPP+ compute whether
something is found without asserting it. EvalPlus's own evaluator has none of that; what it asks for is asked for here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import Dataset

_EXCHANGED = "_poly(*candidate(*inp), inp)"
_INTENDED = "abs(_poly(*inp, candidate(*inp)))"
_FOUND = "exp == (out is not None)"  # how a script compares where the result is whether something is found
# Beside the script's own comparison: what EvalPlus's evaluator asks for where numbers may differ a little.
_STRICT = """
_assertion = assertion

def assertion(out, exp, atol):
    try:
        if {found}:
            assert (out if isinstance(out, bool) else out is not None) == exp
            return
        _assertion(out, exp, atol)
        if (atol != 0 or is_floats(exp)) and out != exp:
            assert type(out) is type(exp) and np.shape(out) == np.shape(exp)
    except AssertionError:
        given = ", ".join(repr(one)[:60] for one in inp)
        raise AssertionError(f"({{given}}) gave {{out!r:.60}}, expected {{exp!r:.60}}") from None
"""


@usable_from_yaml
def by_input(dataset: Dataset) -> Dataset:
    """The rows with `tests`, a list with a test for each input; a script of another form stays one test."""
    return dataset.map(_with_tests)


def _with_tests(row: Mapping[str, Any]) -> dict[str, list[str]]:
    return {"tests": cases_of(str(row["test"]))}


def cases_of(script: str) -> list[str]:
    r"""The tests in a script, one for each input; before the first of them is what all need.

    >>> first, second = cases_of("inputs = [[1], [2]]\nfor inp in inputs:\n    assert f(*inp) > 0")
    >>> print(second)
    inp = _cases[1]
    assert f(*_deepcopy(inp)) > 0
    """
    script = script.replace(_EXCHANGED, _INTENDED)
    try:
        module = ast.parse(script)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [script]
    check = next((one for one in module.body if isinstance(one, ast.FunctionDef) and one.name == "check"), None)
    body = check.body if check else module.body
    loop = body[-1] if body else None
    inputs = next((one.value for one in body if isinstance(one, ast.Assign) and _name(one) == "inputs"), None)
    functions = {one.name for one in module.body if isinstance(one, ast.FunctionDef)}
    if not (isinstance(loop, ast.For) and isinstance(inputs, ast.List) and inputs.elts):
        return [script]
    lines = script.split("\n")
    before = [one for one in module.body if one not in (check, loop)]
    inside = [one for one in body if one is not loop] if check else []
    parts = ["from copy import deepcopy as _deepcopy"]
    parts += ["\n".join(lines[_first(one) - 1 : one.end_lineno]) for one in before]
    parts += ["if True:\n" + "\n".join(lines[_first(one) - 1 : one.end_lineno]) for one in inside]
    target = ast.unparse(loop.target)
    if {"assertion", "is_floats"} <= functions and re.search(r"\binp\b", target):
        parts.append(_STRICT.format(found=_FOUND in script))
    parts.append(f"_cases = list({ast.unparse(loop.iter)})")
    tested = re.sub(
        r"\b(?!_poly\b|ref_func\b)(\w+)\(\*inp\)", r"\1(*_deepcopy(inp))", "\n".join(map(ast.unparse, loop.body))
    )
    first, *others = [f"{target} = _cases[{number}]\n{tested}" for number in range(len(inputs.elts))]
    return ["\n".join([*parts, first]), *others]


def _name(assigned: ast.Assign) -> str:
    (target, *_) = assigned.targets
    return target.id if isinstance(target, ast.Name) else ""


def _first(statement: ast.stmt) -> int:
    """The line in which a statement begins, with its decorators."""
    decorators = statement.decorator_list if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else []
    return min([statement.lineno, *(one.lineno for one in decorators)])
