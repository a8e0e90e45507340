r"""Notations that say no number: logic, sets of letters, groups, permutations, chemical formulas, electrons in shells.

Each is read as words in a standard form, in which what means the same is written alike: `q \land p` as `p \wedge q`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

from lm_eval_ext.grading.formula import expression
from lm_eval_ext.grading.latex import Node, Nodes, UnreadableError, is_sign, split, written
from lm_eval_ext.grading.meaning import Reading, Value, Words
from lm_eval_ext.grading.words import lexicon
from lm_eval_ext.grading.wrapping import bare


def no_product(some: Nodes) -> list[Reading]:
    """What nodes say that would else be products: cycles, electrons in shells, `0x1F`; empty for all others."""
    from sympy import Integer

    if cycles := _cycles(some):  # of which one alone has brackets that belong to it
        return [Words(cycles)]
    plain = _plain(bare(some))
    if hexadecimal := re.fullmatch(r"0x([\dA-Fa-f]{1,200})", plain):
        return [Value(Integer(int(hexadecimal[1], 16)))]
    return [Words(shells)] if (shells := _electrons(plain)) else []


def _plain(some: Nodes) -> str:
    text = written(some).replace(r"\to ", "→").replace(r"\rightleftharpoons ", "⇌").replace(r"\implies ", "→")
    return re.sub(r"\\text\{ ?|\\(?:mathfrak|mathbb)(?=\{)|[{}\\\s]", "", text)


def notated(some: Nodes) -> Iterator[Words]:
    """What nodes say in each of the notations that they may be of."""
    some = bare(some)
    plain = _plain(some)
    for form in (_formulas(plain), _note(plain), _matrix_group(plain)):
        if form:
            yield Words(form)
    for read in (_boolean, _abelian, _field, _mutual):
        try:
            if form := read(some):
                yield Words(form)
        except UnreadableError:
            continue


# Logic and sets ---------------------------------------------------------------------------------------


class _Term(NamedTuple):
    """An operator with its terms; a letter is one without any."""

    operator: str
    terms: tuple[_Term, ...] = ()


_LEVELS = (("⇔",), ("⇒", "→"), ("or", "∪"), ("and", "∩", "∖"))
_OF_SETS, _OF_LOGIC = {"∪", "∩", "∖"}, {"⇔", "⇒", "or", "and", "not"}
_MOST_LETTERS = 6


def _boolean(some: Nodes) -> str:
    r"""A formula of logic or of sets, by what it is for all values of its letters.

    An implication isn't what it is equivalent to: the contrapositive may be what is asked for.
    """
    only_sets = all(node.kind in ("letters", "group") or is_sign(node, "-") for node in some)
    if only_sets and written(some).replace("-", "").isupper():  # `A - B`
        some = tuple(Node("sign", "∖") if is_sign(node, "-") else node for node in some)
    term, rest = _level(list(some), 0)
    operators = set(_operators(term))
    of_sets, of_logic = bool(operators & _OF_SETS), bool(operators & _OF_LOGIC)
    return f"{'set' if of_sets else 'statement'} {_standard(term)}" if of_sets != of_logic and not rest else ""


def _operators(term: _Term) -> Iterator[str]:
    if term.terms:
        yield term.operator
    for inner in term.terms:
        yield from _operators(inner)


def _operator(node: Node) -> str:
    if node.kind == "sign":
        return node.name
    return node.name if node.kind == "command" and node.name in ("or", "and") else ""


def _level(left: list[Node], level: int) -> tuple[_Term, list[Node]]:
    """A term of operators that bind at least as closely as those of a level, and what stands behind it."""
    if level == len(_LEVELS):
        return _unary(left)
    term, left = _level(left, level + 1)
    while left and (operator := _operator(left[0])) in _LEVELS[level]:
        other, left = _level(left[1:], level + (level != 1))  # implications are read from the right
        term = _Term("⇒" if operator == "→" else operator, (term, other))
    return term, left


def _unary(left: list[Node]) -> tuple[_Term, list[Node]]:
    if not left:
        raise UnreadableError("an operator without a term")
    node, *left = left
    if (node.kind == "command" and node.name == "neg") or is_sign(node, "~"):
        term, left = _unary(left)
        return _Term("not", (term,)), left
    if node.kind == "macro" and node.name in ("overline", "bar"):
        inner, rest = _level(list(node.parts[0]), 0)
        term = _Term("complement", (inner,))
        if rest:
            raise UnreadableError(written((node,)))
    elif node.kind == "group" and node.name in ("()", "[]", "{}"):
        term, rest = _level(list(node.parts[0]), 0)
        if rest:
            raise UnreadableError(written((node,)))
    elif node.kind == "letters" and len(node.name) == 1:
        name = node.name
        while left and (left[0].kind == "sub" or (left[0].name == "()" and len(left[0].parts[0]) == 1)):
            name += written((left.pop(0),))
        term = _Term(name)
    else:
        raise UnreadableError(written((node,)))
    while left and (is_sign(left[0], "'") or (left[0].kind == "sup" and written(left[0].parts[0]) in ("c", "C", "'"))):
        term, left = _Term("complement", (term,)), left[1:]
    return term, left


@cache
def _standard(term: _Term) -> str:
    """A term in a form that all equal ones share."""
    if term.operator == "⇒":
        return "({} ⇒ {})".format(*map(_standard, term.terms))
    if term.operator == "⇔":
        return "({} ⇔ {})".format(*sorted(map(_standard, term.terms)))
    if not term.terms:
        return term.operator
    letters = sorted(set(_letters(term)))
    if len(letters) > _MOST_LETTERS:
        raise UnreadableError("too many letters")
    rows = product((False, True), repeat=len(letters))
    return f"{letters}: {[row for row in rows if _holds(term, dict(zip(letters, row, strict=True)))]}"


def _letters(term: _Term) -> Iterator[str]:
    """What a table of truth has columns for: letters, and implications as a whole."""
    if term.operator in ("⇒", "⇔") or not term.terms:
        yield _standard(term)
    else:
        for inner in term.terms:
            yield from _letters(inner)


_HOLDS: dict[str, Callable[..., bool]] = {
    "or": lambda one, other: one or other,
    "and": lambda one, other: one and other,
    "∖": lambda one, other: one and not other,
    "not": lambda one: not one,
}
_HOLDS |= {"∪": _HOLDS["or"], "∩": _HOLDS["and"], "complement": _HOLDS["not"]}


def _holds(term: _Term, values: dict[str, bool]) -> bool:
    if term.operator in ("⇒", "⇔") or not term.terms:
        return values[_standard(term)]
    return _HOLDS[term.operator](*(_holds(inner, values) for inner in term.terms))


# Groups and fields ------------------------------------------------------------------------------------


def _abelian(some: Nodes) -> str:
    r"""A product of cyclic groups, by the orders of its parts: `\mathbb{Z}/6\mathbb{Z}`, `Z_2 \times C_3`."""
    factors = split(tuple(Node("sign", "×") if node.name == "oplus" else node for node in some), "×")
    orders, rank = list[int](), 0
    for factor in factors:
        name = re.sub(r"\\mathbb\{(\w)\}|[{}()\s]", r"\1", written(factor).replace(r"\integers", "Z"))
        if finite := re.fullmatch(r"[ZC]_(\d{1,6})|Z/(\d{1,6})Z?", name):
            orders.append(int(finite[1] or finite[2]))
        elif free := re.fullmatch(r"Z(?:\^(\d))?", name):
            rank += int(free[1] or 1)
        else:
            return ""
    if not orders and rank < 2:
        return ""
    from sympy import factorint

    powers = Counter(base**power for order in orders for base, power in factorint(order).items())
    return f"abelian group {sorted(powers.elements())} of rank {rank}"


_MATRICES = re.compile(r"(P?[GS][LOU]|Sp)(?:_(\w)\((?:F_)?(\w+)\)|\((\w)(?:,(?:F_)?(\w+))?\)|_(\w))")


def _matrix_group(text: str) -> str:
    """A group of matrices, or of all permutations: `GL_2(F_3)` as `GL(2,3)`, `Sym(4)` as `S_4`."""
    if every := re.fullmatch(r"(?:S|Sym)(?:_(\d)|\((\d)\))", text):
        return f"symmetric group of {every[1] or every[2]}"
    found = _MATRICES.fullmatch(text)
    if found is None:
        return ""
    name, size, field = found[1], found[2] or found[4] or found[6], found[3] or found[5] or ""
    return f"{name}({size},{'' if (name, field) in (('SO', 'R'), ('SU', 'C')) else field})"


def _field(some: Nodes) -> str:
    r"""An extension of the rational numbers: `\mathbb{Q}(\sqrt3, \sqrt2)`, `\mathbb{Q}[i]`."""
    bold = [one.style for one in some[:1]] == ["bold"] and some[0].name == "Q"
    if not (bold or written(some[:1]) in (r"\mathbb{Q}", r"\rationals")) or [one.name for one in some[1:]] not in (
        ["()"],
        ["[]"],
    ):
        return ""
    added = [expression(part).value for part in split(some[1].parts[0], ",")]
    algebraic = all(one.is_algebraic for one in added)  # of which the ring is a field
    return f"rationals with {sorted(map(str, added))}{'' if algebraic else some[1].name}"


def _cycles(some: Nodes) -> str:
    r"""A permutation by its cycles, which have no number in common: `(1\,3\,5)(2\,4)`, `(12)(34)`."""
    cycles = []
    for node in some:
        parts = node.parts[0] if node.kind == "group" and node.name == "()" else ()
        if len(parts) == 1 and len(some) > 1:  # digits without spaces
            parts = tuple(Node("number", digit) for digit in parts[0].name)
        names = [part.name for part in parts]
        if len(names) < 2 or not all(map(str.isdecimal, names)):  # with commas, they would be points
            return ""
        first = names.index(min(names, key=int))
        cycles.append(names[first:] + names[:first])
    numbers = [name for cycle in cycles for name in cycle]
    return f"permutation {sorted(cycles)}" if len(set(numbers)) == len(numbers) else ""


# Chemistry and physics --------------------------------------------------------------------------------


_ARROWS = {"<=>": "⇌", "<->": "⇌", "->": "→"}
_GROUP = r"(?:[A-Z][a-z]?\d*|\((?:[A-Z][a-z]?\d*)+\)\d*)"
_SPECIES = re.compile(rf"(\d*)({_GROUP}+)(\^(?:\d*[+-]|[+-]\d)|[+-])?(\((?:aq|s|l|g)\))?")
_NUCLIDE = re.compile(r"\^\d+(?:_\d+)?[A-Z][a-z]?")


def _formulas(text: str) -> str:
    r"""`H_2SO_4`, `\mathrm{SO_4^{2-}}`, `^{14}_6C` and `2H_2 + O_2 \to 2H_2O`, if they are made up of elements."""
    for arrow, sign in _ARROWS.items():
        text = text.replace(arrow, sign)
    if _NUCLIDE.fullmatch(text):
        return text
    arrow = next((sign for sign in "→⇌" if text.count(sign) == 1), "")
    sides = []
    for side in text.replace("_", "").split(arrow) if arrow else [text.replace("_", "")]:
        species = [_SPECIES.fullmatch(one) for one in (re.split(r"(?<!\^)(?<!\^\d)\+", side) if arrow else [side])]
        elements = re.findall(r"[A-Z][a-z]?", side)
        if not all(species) or not all(name in lexicon()["elements"] for name in elements):
            return ""
        if not arrow and (text in elements or species[0][1]):  # type: ignore[index]  # all are matches
            return ""
        sides.append(" + ".join(sorted(f"{one[1]} {one[2]}{_charge(one[3])}{one[4] or ''}" for one in species if one)))
    return f" {arrow} ".join(sides)


def _charge(written_as: str | None) -> str:
    """`^2+` for `^2+` and `^+2`."""
    return "^" * bool(written_as) + "".join(sorted((written_as or "").strip("^"), key=lambda one: not one.isdecimal()))


_SHELLS = re.compile(r"(?:\[(He|Ne|Ar|Kr|Xe)\])?((?:\d[spdf]\^\d{1,2})+)")
# What each noble gas adds to the one before.
_ADDED = {"He": "1s^2", "Ne": "2s^22p^6", "Ar": "3s^23p^6", "Kr": "3d^104s^24p^6", "Xe": "4d^105s^25p^6"}


def _electrons(text: str) -> str:
    """A configuration of electrons, with all of its shells: `[He]2s^2` as `1s^2 2s^2`."""
    found = _SHELLS.fullmatch(text)
    if found is None:
        return ""
    gases = list(_ADDED)[: list(_ADDED).index(found[1]) + 1] if found[1] else []
    shells = "".join(_ADDED[gas] for gas in gases) + found[2]
    some = re.findall(r"\d[spdf]\^\d{1,2}(?=\d[spdf]|$)", shells)
    return " ".join(sorted(some)) if len(some) > 1 else ""


def _note(text: str) -> str:
    """A note of music, such as `A#`."""
    return f"note {text[0]}#" if re.fullmatch(r"[A-G][#♯]", text) else ""


def _mutual(some: Nodes) -> str:
    r"""`AB \parallel CD` and `AB \perp CD`, which are the same from either side."""
    for sign in ("∥", "⊥"):
        sides = [written(side) for side in split(some, sign)]
        if len(sides) == 2 and all(re.fullmatch(r"[A-Z]{2}|[a-z]", side) for side in sides):
            return f" {sign} ".join(sorted(sides))
    return ""
