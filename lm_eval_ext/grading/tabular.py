"""What tables say: matrices and vectors, and the lines of systems and of functions by cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lm_eval_ext.grading.latex import Node, Nodes, is_sign, split, written
from lm_eval_ext.grading.meaning import Reading, Several, Value
from lm_eval_ext.grading.units import RELATIONS
from lm_eval_ext.grading.wrapping import bare

Read = Callable[[Nodes], tuple[Reading, ...]]  # all readings of some nodes


def is_transposed(some: Nodes) -> bool:
    """Whether nodes end with `^T`."""
    return len(some) > 1 and some[-1].kind == "sup" and written(some[-1].parts[0]) in ("T", r"\top")


def tabulated(some: Nodes, read: Read) -> Iterator[Reading]:
    """Matrices, vectors, and systems and cases of several lines; each cell, or line, is read by `read`."""
    some = _named_matrix(some) or some
    first = some[0]
    if len(some) == 1 and first.kind == "group" and [one.kind for one in first.parts[0]] == ["table"]:
        (inner,) = first.parts[0]
        some = (replace(inner, name="pmatrix"),) if inner.name in ("array", "matrix") else some
    elif [one.kind for one in some] == ["sign", "table", "sign"] and is_sign(first, "|") and is_sign(some[2], "|"):
        some = (replace(some[1], name="vmatrix"),)
    table, width = some[0], max(1, some[0].width)
    if table.kind == "table" and len(some) == 2 and is_transposed(some):
        rows = [table.parts[at : at + width] for at in range(0, len(table.parts), width)]
        table, some = (
            replace(table, parts=tuple(cell for column in zip(*rows, strict=False) for cell in column)),
            some[:1],
        )
        table, width = replace(table, width=len(rows)), len(rows)
    if len(some) != 1 or table.kind != "table":
        return
    related = any(is_sign(node, *RELATIONS) for cell in table.parts for node in cell)
    if table.name in ("lines", "cases", "dcases", "rcases") or (table.name == "array" and (related or width == 1)):
        rows = [table.parts[at : at + width] for at in range(0, len(table.parts), width)]
        lines = tuple(read(_line(row)) for row in rows)
        if lines and all(lines):
            yield Several("system", lines)
        return
    members = tuple(map(read, table.parts))
    height = len(members) // width
    determinant = table.name.lower() == "vmatrix"
    if not all(members):
        return
    if determinant and height == width:
        yield _determinant(members, width)
        return
    if not determinant and 1 in (width, height) and len(members) > 1:
        yield Several("tuple", members)
    yield Several("matrix", members, f"determinant {width}" if determinant else str(table.width))


def _named_matrix(some: Nodes) -> Nodes:
    r"""`\operatorname{diag}(4, 9)` and `I_3` as tables; nothing for any other nodes."""
    if len(some) != 2:
        return ()
    if some[0].name == "diag" and some[1].name == "()":
        diagonal = split(some[1].parts[0], ",")
    elif some[0].name == "I" and some[1].kind == "sub" and re.fullmatch("[2-9]", written(some[1].parts[0])):
        diagonal = [(Node("number", "1"),)] * int(written(some[1].parts[0]))
    else:
        return ()
    zero, size = (Node("number", "0"),), len(diagonal)
    cells = tuple(diagonal[row] if row == column else zero for row in range(size) for column in range(size))
    return (Node("table", "pmatrix", cells, size),)


def _determinant(members: Sequence[tuple[Reading, ...]], width: int) -> Value:
    from sympy import Matrix

    cells = [cell for cell, *_ in members if isinstance(cell, Value)]
    return Value(Matrix(width, width, [cell.expression for cell in cells]).det(), any(cell.rounded for cell in cells))


def _line(row: Sequence[Nodes]) -> Nodes:
    """A line of cases: its value and the condition, which belong together."""
    if len(row) != 2 or not row[1]:
        return tuple(one for cell in row for one in cell)
    value = row[0][:-1] if row[0] and is_sign(row[0][-1], ",") else row[0]
    row = [tuple(row[0]), bare(row[1])]
    row[1] = tuple(
        replace(one, name=re.sub(r"^is (?:an? )?", "", one.name)) if one.kind == "text" else one for one in row[1]
    )
    condition = tuple(
        one for one in row[1] if one.kind not in ("text", "letters") or one.name not in ("if", "for", "when")
    )
    if [one.name for one in condition] == ["otherwise"]:
        condition = (Node("text", "otherwise"),)
    return (Node("group", "()", ((*value, Node("sign", ","), *condition),)),)
