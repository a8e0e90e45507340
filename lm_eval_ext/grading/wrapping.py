"""What stands around an answer and says nothing about it: introductions, brackets, ordinals, quantifiers."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

from lm_eval_ext.grading.formula import ANY_COUNT, ANY_POSITIVE, ANY_REAL, ANY_WHOLE, number_set
from lm_eval_ext.grading.latex import Node, Nodes, UnreadableError, flat, is_sign, joins, nodes, written
from lm_eval_ext.grading.units import is_physical, unit_of
from lm_eval_ext.grading.words import leads, lexicon


def normalised(text: str) -> str:
    r"""An answer as plain LaTeX: the tree as it is written, or the text itself if it is none.

    >>> normalised("= 3\\dfrac12 ")
    '3\\frac{1}{2}'
    """
    try:
        found = written(bare(nodes(_without_markdown(text))), styled=True)
    except UnreadableError:
        return " ".join(text.split())
    return found.rstrip(" .,;") if not found.endswith("..") else found


def _without_markdown(text: str) -> str:
    """Without headings and emphasis; and with commas between lines that each give a variable's value."""
    text = re.sub(r"^#{1,6} +|(?<![\w*)\]}])(\*{1,2})(?![\s*])([^*\n]+)(?<!\s)\1(?![\w*({\[])", r"\2", text)
    text = re.sub(r"(?<=\d)\s*(?:\\text\s*\{)?\s*out of\s*\}?\s*(?=\d)", "/", text)
    text = re.sub(r"^(\d+)\s*(?:\\text\s*\{)?\s*in\s*\}?\s*(\d+)$", r"\1/\2", text.strip())
    text = re.sub(r"(?<=\d)\{,\}(?=\d{1,2}(?!\d)|\d{4})", ".", text)
    text = re.sub(r"\\[\"'`]\{?([A-Za-z])\}?(?=[a-z])", r"\1", text)  # an accent on a letter of a name
    text = re.sub(r"(?<=\w)\\text\{( [A-Za-z]+[²³\d^]*) (and|or) \}|\\text\{( ?[A-Za-z/]+) (and|or) \}", _apart, text)
    lines = text.split("\n")
    return ", ".join(lines) if len(lines) > 1 and all(re.match(r"\s*[A-Za-z]\w?\s*=", line) for line in lines) else text


def _apart(text: re.Match[str]) -> str:
    """A unit and the word behind it that joins two quantities, each as a text of its own."""
    unit, joiner = (text[1] or text[3]), (text[2] or text[4])
    return rf"\text{{{unit}}}\text{{ {joiner} }}"


_OPTION = re.compile(r"\([A-E]\)")  # before its value, as in `\\textbf{(C) } 12`


def bare(some: Nodes) -> Nodes:
    """Without what stands around an answer: full stops, an equals sign before it, braces and brackets, emphasis."""
    while some:
        first, last = some[0], some[-1]
        only = [one.kind in ("text", "letters") and one.name.lower() in ("only", "(only)") for one in (first, last)]
        if only[1] or (is_sign(last, ".", ",", ";", "\\") and not (len(some) > 1 and is_sign(some[-2], "."))):
            some = some[:-1]
        elif (
            (first.kind == "text" and len(some) > 1 and _OPTION.fullmatch(first.name) and not is_sign(some[1], ","))
            or only[0]
            or is_sign(first, "=", "\\", ":", "⇒", "→", "∴", ",")
        ):
            some = some[1:]
        elif len(some) > 4 and all(is_sign(one, "*") for one in (*some[:2], *some[-2:])):
            some = some[2:-2]
        elif [one.kind for one in some] == ["group"] and first.name == "{}" and _builds(first.parts[0]):
            return (replace(first, name=r"\{\}"),)
        elif [one.kind for one in some] == ["group"] and (
            first.name == "{}" or (first.name == "()" and not (has_comma(first.parts[0]) or _is_cycle(first.parts[0])))
        ):
            some = first.parts[0]
        elif 0 < (lead := _lead(some)) < len(some):
            some = some[lead:]
        elif 0 < (end := _trail(some)) < len(some):
            some = some[:end]
        elif len(some) > 2 and is_sign(first, '"', "'", "`") and first.name == last.name:
            some = some[1:-1]
        else:
            break
    return some


def _is_cycle(inner: Nodes) -> bool:
    """Whether brackets hold several numbers side by side, as those of a cycle of a permutation do."""
    return len(inner) > 1 and all(one.kind == "number" for one in inner)


def _builds(inner: Nodes) -> bool:
    """Whether plain braces hold a condition, as in `{x ∈ ℤ | x ≥ 2}`."""
    return any(is_sign(one, "∈") for one in inner) and any(is_sign(one, "|", "∣") for one in inner)


def _lead(some: Nodes) -> int:
    """Number of nodes at the start that only introduce the answer, such as `The answer is` or `about`."""
    words = ""
    for at, node in enumerate(some):
        if node.name == "SO":  # a group, or oxygen and sulfur
            return 0
        if node.kind not in ("text", "letters") and not (words and is_sign(node, ":")):
            if words.rsplit(" ", maxsplit=1)[-1] in _CONNECTING and is_sign(node, ","):  # `Therefore, the value is`
                continue
            return 0
        words = f"{words} {node.name}".strip().lower().rstrip(":").strip()
        if words in leads() or (_SAYS.search(words) and not _changes(words) and _says_value(some[at + 1 :])):
            return at + 1 + any(is_sign(one, ":", "=") for one in some[at + 1 : at + 2])
    return 0


_SAYS = re.compile(
    r"\w (?:is|are|was|were|equals|is equal to|are equal to|converges to|tends to|comes to|becomes)(?: at)?$"
)


_TRAIL = 12  # nodes at the end that may only say what an answer is


def _trail(some: Nodes) -> int:
    """Where words at the end begin that only say what the answer is, such as `is the smallest constant`; else 0."""
    for at in range(max(1, len(some) - _TRAIL), len(some)):
        words = written(some[at:]).replace(r"\text{", "").replace("}", "").strip().lower()
        if _only_words(some[at:]) and re.match(r"(?:is|are) the \w", words) and not _changes(words):
            return at
    return 0


def _says_value(some: Nodes) -> bool:
    """Whether nodes begin with a value, or with an order such as `at least`."""
    article = some[:1] and some[0].name in ("a", "an", "the") and _only_words(some[1:2])
    return with_order(some) != some or not (article or _only_words(some[:1]))


def _only_words(some: Nodes) -> bool:
    return all(one.kind == "text" or (one.kind == "letters" and len(one.name) > 1) for one in some)


def _changes(words: str) -> bool:
    """Whether words say something else than what an answer is."""
    return not _changing().isdisjoint(re.findall(r"\w+", words))


@cache
def _changing() -> frozenset[str]:
    return frozenset((*lexicon()["changing"], *lexicon()["transforming"]))


# The first labels of parts, each kind in order.
_LABELS = ("abcdefgh", "ABCDEFGH", "12345678", ("i", "ii", "iii", "iv", "v", "vi"), ("I", "II", "III", "IV", "V", "VI"))
_LABEL = re.compile(r"[,;]? ?(?:and )?(?:[Pp]art )?\(?([a-hA-H1-8]|i{1,3}|iv|vi?|I{1,3}|IV|VI?)\)? ?[:.)]?")


def labelled_parts(some: Nodes) -> list[Nodes]:
    r"""The answers of `(a) 5, (b) -2` in the order of their labels; empty where nodes aren't several parts like these.

    In brackets, `(i)` and `(1)` would be factors otherwise.
    """
    labels, parts = [], list[list[Node]]()
    for node in some:
        if label := _label(node):
            labels.append(label)
            parts.append([])
        elif parts:
            parts[-1].append(node)
        else:
            return []
    order = next((kind for kind in _LABELS if sorted(labels) == sorted(kind[: len(labels)])), ())
    for part in parts:
        while part and (is_sign(part[-1], ",", ";") or joins(part[-1])):
            part.pop()
    factors = any(
        not part or (part[0].kind == "letters" and not part[0].spaced) or is_sign(part[-1], *"+-*/·×=")
        for part in parts
    )
    return [] if factors or len(parts) < 2 else [tuple(parts[labels.index(label)]) for label in order[: len(labels)]]


def _label(node: Node) -> str:
    r"""The label that a node is: `a` of `(a)`, `\text{(a) }` and `\text{Part (a): }`; empty for any other node."""
    inner = node.parts[0] if node.kind == "group" and node.name == "()" else ()
    text = f"({inner[0].name})" if [one.kind for one in inner] in (["letters"], ["number"]) else ""
    text = node.name if node.kind == "text" and ("(" in node.name or ")" in node.name) else text
    found = _LABEL.fullmatch(text.strip())
    return found[1] if found else ""


def with_thousands(some: Nodes) -> Nodes:
    """Nodes in which `1,234,567` is one number, if there are no other commas; `1.234,5` alone is one, too."""
    text = "".join((" " if node.spaced and at else "") + node.name for at, node in enumerate(some))
    if len(some) == 3 and re.fullmatch(r"\d{1,3}\.\d{3},\d{1,2}", text):
        return (replace(some[0], name=text.replace(".", "").replace(",", ".")),)
    if len(some) in (3, 4) and [one.kind for one in some[:3]] == ["number", "sign", "number"] and is_sign(some[1], ","):
        digits = some[2].name
        together = not (some[1].spaced or some[2].spaced) and digits.isdecimal() and len(digits) != 3
        measured = some[3:] and (unit := unit_of(written(some[3:]))) and is_physical(unit)
        if together and (measured or (some[0].name == "0" and len(some[2].name) > 1 and len(some) == 3)):
            return (replace(some[0], name=f"{some[0].name}.{some[2].name}"), *some[3:])  # a decimal comma
    for at, node in enumerate(some):
        end = at + 1
        while (
            end + 1 < len(some) and is_sign(some[end], ",") and re.fullmatch(r"\d{3}(\.\d+)?", some[end + 1].name)
            and not (some[end].spaced or some[end + 1].spaced)
        ):  # fmt: skip
            end += 2
        if end > at + 1 and node.kind == "number" and re.fullmatch(r"\d{1,3}", node.name):
            digits = "".join(one.name for one in some[at:end] if one.kind == "number")
            others = has_comma((*some[:at], *some[end:]))
            return some if others else (*some[:at], replace(node, name=digits), *some[end:])
    return some


def with_order(some: Nodes) -> Nodes:
    """`at least 5` and `all real numbers greater than 4` with the sign that these words say."""
    words = ""
    for at, node in enumerate(some[:-1]):
        if node.kind not in ("text", "letters"):
            break
        words = f"{words} {node.name}".strip().lower()
        order = re.sub(r"^(?:all |any |every |the |real |numbers? |reals |values |that are |which are )+", "", words)
        if order in lexicon()["orders"]:
            return (Node("sign", lexicon()["orders"][order]), *some[at + 1 :])
    return some


def without_ordinal(some: Nodes) -> Nodes:
    r"""`12` for `12^{\text{th}}` and `12th`."""
    if len(some) in (2, 3) and some[-2].kind == "number" and all(is_sign(node, "-") for node in some[:-2]):
        said = re.sub(r"\\text\{ ?|[{}^\s]", "", written(some[-1:])).lower()
        return some[:-1] if said in ("st", "nd", "rd", "th") else some
    return some


def has_comma(some: Nodes) -> bool:
    """Whether there are commas or semicolons outside brackets."""
    return any(is_sign(node, ",", ";") for node in some)


_CONNECTING = ("so", "thus", "therefore", "hence", "then", "finally")
_CONSTANTS = {
    f"{lead} {some} {kind}".strip()
    for lead in ("for", "with")
    for some in ("any", "some", "every", "a")
    for kind in ("constant", "real constant", "real number", "real")
}
_REAL = (
    r"(?:\\text\{ ?)?(?:with|where|for)? ?(?:some |any |all |every )?(?:real )?(?:constants?)? ?\}? ?"
    r"([a-z])\\in ?(?:\\mathbb\{R\}|\\reals)"
    r"|(?:(?:\\text\{ )?where\}?)? ?([a-zABCK]) ?(?:\\text\{ )?(?:is )?an? "
    r"(?:arbitrary )?(?:real )?(?:constant|number)\}?"
)
_OF_INTEGRATION = "ABCK"
_ANY = re.compile(r"(?:\\text\{ )?for (?:all|any|every|each)(?: real)?\}? ?[a-z]")
# Sets of whole numbers that a parameter may be taken from: how they are written, and what their numbers are called.
_SETS = {
    ANY_WHOLE: (r"\\mathbb\{Z\}|\\integers|Z", "integer"),
    ANY_POSITIVE: (
        r"\\mathbb\{N\}|\\naturals|N|(?:\\mathbb\{Z\}|\\integers)(?:[\^_]\{\+\}|_\{>0\}|_\{\\ge 1\})",
        "(?:positive integer|natural number)",
    ),
    ANY_COUNT: (r"(?:\\mathbb\{N\}|\\naturals)_\{0\}|(?:\\mathbb\{Z\}|\\integers)_\{\\ge 0\}", "non-?negative integer"),
}
# How an answer says that a parameter is any of these; the group is the name of the parameter.
_WHOLE = (
    (re.compile(r"([a-z])=0,1,2,\\ldots"), ANY_COUNT),
    (re.compile(r"([a-z])=1,2,3,\\ldots"), ANY_POSITIVE),
    *(
        (re.compile(form.replace("SET", written_as).replace("NUMBER", called)), parameter)
        for parameter, (written_as, called) in _SETS.items()
        for form in (
            r"(?:\\text\{ ?)?(?:for|where|with|and)? ?(?:any |all |every |some |an )?\}? ?([a-z])\\in ?(?:SET)",
            r"\\text\{ (?:where |for )?(?:any |all |every |some |an? )?NUMBERs?\}? ?(?:\\text\{ )?([a-z])\}?",
            r"(?:\\text\{ ?(?:where|with)? ?)?\}? ?([a-z]) ?(?:\\text\{ )? ?(?:is an?|is any|any|an?) NUMBER\}?",
            r"(?:for )?(?:any |all |every |some )?NUMBERs? ([a-z])",
        )
    ),
)


def without_quantifier(some: Nodes) -> Nodes:
    """Without `for all x`, which says nothing about the value; the parameter of `where k is an integer` is renamed."""
    *before, aside = some
    inner = aside.parts[0] if before and aside.name == "()" else ()
    if any(is_sign(one, "∈") or re.fullmatch(r".*\b(?:integer|constant)", one.name) for one in inner):
        some = (*before, Node("sign", ","), *inner)  # `(k \in Z)`, `(k an integer)`
    for at, node in enumerate(some):
        if not at:
            continue
        kept = some[:at][: -1 if is_sign(some[at - 1], ",") else None]
        said, after = node.name.lower() if node.kind in ("text", "letters", "command") else "", some[at + 1 :]
        if said in ("for all real numbers", "for all reals", "for all real x") and not after:
            return kept
        *words, last = some[at:]
        if words and last.kind == "letters" and " ".join(one.name for one in words).lower() in _CONSTANTS:
            return _with_constant(kept, last.name)
        if said in ("for all", "forall", "for any", "for every", "for all real", "for real") and after:
            variable, *where = after
            named = variable.kind in ("letters", "command") and len(variable.name) == 1
            among = len(where) == 2 and is_sign(where[0], "∈") and number_set(where[1]) in _usual_sets(variable.name)
            if named and (among or not where):
                return kept
        rest = written(some[at:]).strip(" ,") if is_sign(node, ",") or said else ""
        if _ANY.fullmatch(rest):
            return kept
        if real := re.fullmatch(_REAL, rest):
            return _with_constant(kept, real[1] or real[2])
        whole = ((found[1], name) for form, name in _WHOLE if (found := form.fullmatch(rest)))
        family, parameter = next(whole, ("", ""))
        if family and any(one.kind == "letters" and family in one.name for one in flat(kept)):
            return renamed(kept, family, parameter)
    return some


def _with_constant(some: Nodes, name: str) -> Nodes:
    """Nodes in which a letter stands for any real number; constants of integration keep their names."""
    return some if name in _OF_INTEGRATION else renamed(some, name, ANY_REAL)


def _usual_sets(variable: str) -> tuple[Any, ...]:
    """The sets of numbers that a variable is taken from without a word."""
    from sympy import Integers, Naturals, Reals

    return (Integers, Naturals) if variable in ("k", "m", "n") else (Reals,)


def renamed(some: Nodes, parameter: str, name: str = ANY_WHOLE) -> Nodes:
    """Nodes in which a letter stands for any whole number, or any real one."""
    return tuple(
        replace(
            node,
            name=node.name.replace(parameter, name) if node.kind == "letters" and len(node.name) < 4 else node.name,
            parts=tuple(renamed(part, parameter, name) for part in node.parts),
        )
        for node in some
    )
