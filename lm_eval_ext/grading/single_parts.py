"""What an answer of a single part may say: words, a date, a time, a ratio, a congruence, a formula."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lm_eval_ext.grading.formula import (
    ANY_COUNT,
    ANY_POSITIVE,
    ANY_WHOLE,
    NotCommutativeError,
    expression,
    is_name,
    is_variable,
    symbol,
)
from lm_eval_ext.grading.latex import Node, Nodes, UnreadableError, flat, is_sign, nodes, split, written
from lm_eval_ext.grading.meaning import TIME, Numbers, Reading, Relation, Several, Unit, Value, Words
from lm_eval_ext.grading.units import is_countable, is_unit
from lm_eval_ext.grading.words import cased, leads, lexicon, number_in_words
from lm_eval_ext.grading.wrapping import bare

# What cannot be read, or what sympy can't build, such as a comparison of complex numbers.
IMPOSSIBLE = (
    UnreadableError, TypeError, ValueError, AttributeError, NotImplementedError, ArithmeticError, RecursionError,
)  # fmt: skip


def attempt(found: Iterator[Reading]) -> Iterator[Reading]:
    """The readings up to the first that is impossible."""
    try:
        yield from found
    except IMPOSSIBLE:
        return


_MONTHS = (
    r"jan(?:uary|\.)?|feb(?:ruary|\.)?|mar(?:ch|\.)?|apr(?:il|\.)?|may|june?\.?|july?\.?|aug(?:ust|\.)?|sept?(?:ember|\.)?"
    r"|oct(?:ober|\.)?|nov(?:ember|\.)?|dec(?:ember|\.)?"
)
_DATE = re.compile(
    rf"(?:the )?(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{_MONTHS})"
    rf"|(?P<month_first>{_MONTHS}) (?P<day_after>\d{{1,2}})(?:st|nd|rd|th)?)(?:,? (?P<year>\d{{4}}))?"
)


def worded(some: Nodes) -> Iterator[Reading | str]:
    """What words or a date say, if there is nothing else; a text is to be read in their place."""
    if date := _dated(re.sub(r"\\text\{ ?|[{}]", " ", written(some))):
        yield Words(date)
    elif (words := _words(some)) is not None:
        yield from _in_words(words)


def _dated(text: str) -> str:
    """The month, day and year of a date; empty for anything else."""
    found = _DATE.fullmatch(re.sub(r"\s+", " ", text.replace("^", "")).replace(" ,", ",").strip(" .").lower())
    if found is None:
        return ""
    parts = (found["month"] or found["month_first"])[:3], found["day"] or found["day_after"], found["year"] or ""
    return " ".join(parts).strip()


def is_word(node: Node) -> bool:
    """Whether a node can be nothing but a word."""
    return node.kind == "text" or (node.kind == "letters" and len(node.name) > 1 and not is_name(node.name))


def _words(some: Nodes) -> str | None:
    """The words of an answer made up of words only; None for any other answer."""
    certain, text = False, ""
    for at, node in enumerate(some):
        name = node.name
        if node.kind == "letters":
            certain |= name.lower() in lexicon()["short_words"] or (len(name) > 1 and name.isupper())
            certain |= len(name) > 3 and not is_name(name)
            certain |= name.lower() in lexicon()["alike"]
        elif node.kind != "text" and not (at and is_sign(node, "-", "'", ".", "’", "!", "?") and not node.spaced):
            return None
        certain |= node.kind == "text"
        text += (" " if node.spaced or node.kind == "text" else "") + name
    return " ".join(text.strip().rstrip(".!?").split()) if certain else None


def _in_words(text: str) -> Iterator[Reading | str]:
    from sympy import EmptySet, Integer, Integers, Interval, Naturals, Rationals, Reals, oo

    plain = text.casefold()
    if letter := re.fullmatch(r"\(?([A-Za-z])\)?\.?", text):
        yield letter[1]
        return
    if re.fullmatch(r"[A-Z](?:, ?[A-Z])+", text):
        yield text
        return
    if hour := {"noon": 12, "midnight": 0}.get(plain):
        yield f"{hour}:00"
    if negative := re.fullmatch(r"(?:minus|negative) (\d[\d.,]*)", plain):
        yield f"-{negative[1]}"
    elif plain in lexicon()["infinitely"]:
        yield Words("infinitely many")
        return
    elif plain in lexicon()["nothing"] or _NOTHING.fullmatch(plain):
        yield Numbers(EmptySet)
    elif plain in lexicon()["all_reals"]:
        yield Numbers(Reals)
    elif plain in lexicon()["all_integers"]:
        yield Numbers(Integers)
    elif plain in lexicon()["naturals"] or plain in lexicon()["rationals"]:
        yield Numbers(Naturals if plain in lexicon()["naturals"] else Rationals)
    elif part := _PART_OF_REALS.fullmatch(plain):
        zero = part[1].startswith("non")
        ends = (0, oo) if part[1] in ("positive", "nonnegative", "non-negative") else (-oo, 0)
        yield Numbers(Interval(*ends, not zero, not zero))
    elif plain in ("infinity", "positive infinity", "negative infinity"):
        yield Value(-oo if plain.startswith("negative") else oo)
    elif (number := number_in_words(plain)) is not None:
        yield Value(Integer(number.numerator) / number.denominator)
    elif parity := _PARITY.fullmatch(plain):
        odd, positive = int(parity[2] == "odd"), parity[1] or parity[3]
        yield Value(odd + 2 * symbol((ANY_COUNT if odd else ANY_POSITIVE) if positive else ANY_WHOLE))
    elif (measured := _measured(plain)) is not None:
        yield measured
    elif (inner := _mathematics(text)) is not None:
        yield inner
        return
    plain = lexicon()["alike"].get(plain, plain)
    if plain in lexicon()["alike"].values():
        yield Words(plain)
        return
    listed = plain.removesuffix(" only")
    if re.fullmatch(r"[a-z]+(?:, [a-z]+)*(?:,? (?:and|or) [a-z]+)?", listed) and len(listed.split()) > 1:
        form = next((word for word in ("and", "or") if f" {word} " in listed), "")
        words = tuple((Words(word),) for word in re.split(r",? (?:and|or) |, ", listed))
        yield Several("list", words, form) if form else Several("tuple", words)  # `true, false, true` has an order
    yield Words(
        re.sub(
            r"^(?:a|an|the) (?=\w{2})|^(?=(?:yes|no), (?!.*\b(?:yes|no|if|unless|only|except)\b))(\w+).*",
            r"\1",
            cased(text),
        )
    )


_PARITY = re.compile(
    r"(?:all |every |any |the |set of )*(positive )?(odd|even)(?: (positive))?(?: (?:integers?|numbers?))?(?: [a-z])?"
)
_PART_OF_REALS = re.compile(
    r"(?:all |the )?(?:set of )?(?:all )?(positive|negative|non-?negative|non-?positive) (?:real numbers?|reals)"
)
# `There are no positive integer solutions`, `there is no such n`.
_NOTHING = re.compile(
    r"(?:there (?:is|are|exists?) )?no (?:such |real |positive |negative |integer |rational |whole |complex |natural )*"
    r"(?:solutions?|numbers?|integers?|values?|roots?|[a-z]"
    r"|(?<=such )(?:functions?|pairs?|triples?|polynomials?|sequences?))"
    r"(?: exists?)?(?: in [a-z ]+)?"
)


def _measured(text: str) -> str | None:
    """`3 \\text{ years}` for `three years`; None unless a number in words has one noun or unit behind it."""
    words, _, unit = text.rpartition(" ")
    number = number_in_words(words) if words else None
    known = number is not None and (is_countable(unit) or is_unit(unit)) and unit not in lexicon()["scales"]
    return f"{number} \\text{{ {unit}}}" if known and number is not None and number.denominator == 1 else None


def _mathematics(text: str) -> str | None:
    """What a text in words holds besides an introduction, such as `42` in `The answer is 42`."""
    words = text.split()
    for at in range(len(words) - 1, 0, -1):
        if " ".join(words[:at]).casefold().rstrip(":") in leads():
            return " ".join(words[at:])
    return text if re.search(r"[\d=<>+]", text) else None


def with_base(some: Nodes) -> Nodes:
    """`204 (base 5)` and `1011 in binary` with the base as an index, `2A3_{16}` as one number, `minus 5` as `-5`."""
    if len(some) < 2 or some[0].kind not in ("number", "letters", "text"):
        return some
    if some[0].kind == "text" and some[1:] == some[-1:] and re.fullmatch(r"\d[\dA-Z]*", some[0].name.strip()):
        some = (*nodes(some[0].name.strip()), some[-1])
    if some[-1].kind == "sub" and re.fullmatch(r"\d+[A-Z]+\d[\dA-Z]*", written(some[:-1])):
        return (Node("group", "{}", (some[:-1],)), some[-1])
    if some[0].name.strip().casefold() in ("minus", "negative") and [one.kind for one in some[1:]] == ["number"]:
        return (Node("sign", "-"), *some[1:])
    said = re.sub(r"\\text\{ ?|[{}() ]", "", written(some[1:])).lower()
    named = re.fullmatch(r"(?:in)?base(\w+)|in(binary|octal|hexadecimal)", said)
    base = (named[1] or {"binary": "2", "octal": "8", "hexadecimal": "16"}[named[2]]) if named else ""
    return (some[0], Node("sub", "", (nodes(base),))) if base else some


# Values -----------------------------------------------------------------------------------------------


def of_single_part(some: Nodes) -> Iterator[Reading]:
    """What is written in a way of its own: a time, a residue, a ratio."""
    yield from attempt(_time(written(some)))
    yield from attempt(_modular(some))
    yield from attempt(_divides(some))
    yield from attempt(_ratio(some))


def formula(some: Nodes) -> Iterator[Reading]:
    """A value or a matrix; infinity only alone, and vectors of unit vectors as tuples."""
    from sympy import oo

    try:
        found = expression(some)
    except NotCommutativeError:
        yield Words(re.sub(r"\\cdot(?![a-z])|[\s*]", "", written(some)).replace("bmatrix", "pmatrix"))
        return
    if vector := _unit_vectors(found.value):
        yield from (Several("tuple", tuple((Value(part, found.rounded),) for part in parts)) for parts in vector)
    if found.value.is_Matrix:
        yield Several("matrix", tuple((Value(cell, found.rounded),) for cell in found.value), str(found.value.cols))
    elif found.value in (oo, -oo) or not found.value.has(oo):
        yield Value(found.value, found.rounded)


def _unit_vectors(value: Any) -> list[list[Any]]:
    r"""The components of `3\\mathbf{i} - 2\\mathbf{j}`, in three dimensions and in two; empty for anything else."""
    names = [symbol(f"hat {letter}") for letter in "ijk"]
    if value.is_Matrix or not value.free_symbols & set(names):
        return []
    parts = [value.expand().coeff(name) for name in names]
    rest = value - sum(part * name for part, name in zip(parts, names, strict=True))
    return [] if rest.expand() != 0 else [parts] if parts[2] != 0 else [parts, parts[:2]]


def _ratio(some: Nodes) -> Iterator[Reading]:
    """`1:2:3`, `3 to 4`; and `15:30` as a time."""
    parts = split(some, ":")
    if len(parts) == 1:
        some = tuple(
            Node("sign", ":") if node.kind in ("text", "letters") and node.name == "to" else node for node in some
        )
        parts = split(some, ":")
        if len(parts) == 1:
            return
    times = list(attempt(_time(":".join(map(written, parts)))))
    yield from times
    found = [expression(bare(part)) for part in parts]
    if all(one.value != 0 for one in found):
        members = tuple((Value(one.value, one.rounded),) for one in found)
        yield Several("ratio", members, TIME if times else "")


def _time(text: str) -> Iterator[Reading]:
    from sympy import Integer

    text = re.sub(r"\\text\{ ?|[{}. ]", "", text).lower()
    if (found := re.fullmatch(r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))?(am|pm)?", text)) is None or not (
        found[2] or found[4]
    ):
        return
    hours, half = int(found[1]), found[4]
    if hours <= (12 if half else 23):
        hours = hours % 12 + 12 * (half == "pm") if half else hours
        yield Value(Integer(hours * 3600 + int(found[2] or 0) * 60 + int(found[3] or 0)), unit=Unit("time of day"))


# Congruences ------------------------------------------------------------------------------------------


def congruent(side: Nodes) -> tuple[Nodes, Nodes]:
    r"""The number and the modulus of `3 \pmod 7`, `3 (mod 7)` and `3 \bmod 7`."""
    for at, node in enumerate(side):
        inner = node.parts[0] if node.kind in ("group", "macro") and node.parts else ()
        if node.name in ("pmod", "pod") or (inner and inner[0].name in ("mod", "modulo")):
            if at == len(side) - 1:
                return side[:at], inner[node.kind == "group" :]
        elif node.name == "mod":
            return side[:at], side[at + 1 :]
    raise UnreadableError("≡")


def _modular(some: Nodes) -> Iterator[Reading]:
    r"""`4 \pmod 7` as a value; without the modulus it is the same."""
    if some[-1].name in ("pmod", "pod"):
        number, divisor = congruent(some)
        found = expression(number)
        if found.value.is_Integer:
            yield Value(found.value, unit=Unit(f"modulo {expression(bare(divisor)).value}"))


def _divides(some: Nodes) -> Iterator[Reading]:
    r"""`3 \\mid n` as a congruence, and `1A_{16}` as a number."""
    from sympy import Integer

    text = re.sub(r"\\text\{ ?|[{}()\s]", "", written(some))
    if found := re.fullmatch(r"([\dA-Fa-f]*\d[\dA-Fa-f]*|[A-F]{2,}|[a-f]{2,})_(?:16|hex)", text):
        yield Value(Integer(int(found[1], 16)))
    sides = split(some, "∣")
    if len(sides) == 2 and all(sides):
        divisor, number = map(expression, sides)
        if divisor.value.is_Integer and number.value.is_Symbol:
            yield Relation("≡", number.value, Integer(0), divisor.value)


# Names ------------------------------------------------------------------------------------------------


def name_of(side: Nodes) -> str:
    """What a side names, such as `x`, `f(x)`, `AB` or `|z|`; empty for a computation or a number."""
    text = written(side)
    said = {word for node in flat(side) if node.kind == "text" for word in re.findall(r"[a-z]+", node.name.lower())}
    if said & set(lexicon()["changing"]):
        raise UnreadableError(text)
    if re.fullmatch(_ASKED_FOR, text):
        return re.sub(r"(\\(?:det|deg|dim)) ?\(?([A-Za-z])\)?", r"\1 \2", re.sub("(d.)/(d.)", r"\\frac{\1}{\2}", text))
    computes = not side or side[0].kind in ("number", "table") or (side[0].kind, side[0].name) in _COMPUTE
    for node in side:
        computes |= is_sign(node, "+", "-", "*", "/", "·", "÷", "×", "!", "%", "<", ">")
        computes |= node.kind == "command" and not (is_variable(node.name) or node.name in ("angle", "triangle"))
        computes |= node.kind == "sup" and written(node.parts[0]) not in ("-1", r"\prime")
        lengths = node.name == "frac" and all(re.fullmatch(r"[A-Z]{2}", written(part)) for part in node.parts)
        computes |= node.kind == "macro" and node.name in ("frac", "sqrt", "binom") and not lengths  # `\frac{AB}{CD}`
    return "" if computes else re.sub(r"\\text\{ ?|[{}\\\s]", "", text)


# `m+n`, `\\sin\\theta` and `\\frac{dy}{dx}`, which problems ask for.
_ASKED_FOR = (
    r"[A-Za-z](?: ?\+ ?[A-Za-z])+|\\(?:sin|cos|tan|cot|sec|csc) ?(?:\\angle ?[A-Z]{1,3}|\\[a-z]+|[A-Za-z])"
    r"|\\frac\{d[a-z]\}\{d[a-z]\}|d[a-z]/d[a-z]"
    r"|\\frac\{\\partial ?[a-z]\}\{\\partial ?[a-z]\}|\\(?:det|deg|dim) ?\(?[A-Za-z]\)?"
    r"|\\nabla ?[a-z]"
)
_FUNCTIONS = ("pi", "infty", "log", "ln", "sin", "cos", "tan", "sqrt")  # which begin a computation
_COMPUTE = {("command", name) for name in _FUNCTIONS}
