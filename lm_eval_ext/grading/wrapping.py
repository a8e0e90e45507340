"""What stands around an answer and says nothing about it: introductions, brackets, ordinals, quantifiers."""

from __future__ import annotations

import re
from dataclasses import replace

from lm_eval_ext.grading.formula import number_set
from lm_eval_ext.grading.latex import Nodes, UnreadableError, flat, is_sign, nodes, written
from lm_eval_ext.grading.words import leads


def normalised(text: str) -> str:
    r"""An answer as plain LaTeX: the tree as it is written, or the text itself if it is none.

    >>> normalised("= 3\\dfrac12 ")
    '3\\frac{1}{2}'
    """
    try:
        found = written(bare(nodes(text)), styled=True)
    except UnreadableError:
        return " ".join(text.split())
    return found.rstrip(" .,;") if not found.endswith("..") else found


def bare(some: Nodes) -> Nodes:
    """Without what stands around an answer: full stops, an equals sign before it, braces and brackets, emphasis."""
    while some:
        first, last = some[0], some[-1]
        only = [one.kind == "text" and one.name.lower() in ("only", "(only)") for one in (first, last)]
        if only[1] or (is_sign(last, ".", ",", ";", "\\") and not (len(some) > 1 and is_sign(some[-2], "."))):
            some = some[:-1]
        elif only[0] or is_sign(first, "=", "\\", ":", "⇒", "→", "∴"):
            some = some[1:]
        elif len(some) > 4 and all(is_sign(one, "*") for one in (*some[:2], *some[-2:])):
            some = some[2:-2]
        elif [one.kind for one in some] == ["group"] and (
            first.name == "{}" or (first.name == "()" and not has_comma(first.parts[0]))
        ):
            some = first.parts[0]
        elif 0 < (lead := _lead(some)) < len(some):
            some = some[lead:]
        elif len(some) > 2 and is_sign(first, '"', "'", "`") and first.name == last.name:
            some = some[1:-1]
        else:
            break
    return some


def _lead(some: Nodes) -> int:
    """Number of nodes at the start that only introduce the answer, such as `The answer is` or `about`."""
    words = ""
    for at, node in enumerate(some):
        if node.kind not in ("text", "letters") and not (words and is_sign(node, ":")):
            return 0
        words = f"{words} {node.name}".strip().lower().rstrip(":").strip()
        if words in leads():
            return at + 1 + any(is_sign(one, ":", "=") for one in some[at + 1 : at + 2])
    return 0


def with_thousands(some: Nodes) -> Nodes:
    """Nodes in which `1,234,567` is one number, if there are no other commas; `1.234,5` alone is one, too."""
    text = "".join((" " if node.spaced and at else "") + node.name for at, node in enumerate(some))
    if len(some) == 3 and re.fullmatch(r"\d{1,3}\.\d{3},\d{1,2}", text):
        return (replace(some[0], name=text.replace(".", "").replace(",", ".")),)
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


def without_ordinal(some: Nodes) -> Nodes:
    r"""`12` for `12^{\text{th}}` and `12th`."""
    if len(some) in (2, 3) and some[-2].kind == "number" and all(is_sign(node, "-") for node in some[:-2]):
        said = re.sub(r"\\text\{ ?|[{}^\s]", "", written(some[-1:])).lower()
        return some[:-1] if said in ("st", "nd", "rd", "th") else some
    return some


def has_comma(some: Nodes) -> bool:
    """Whether there are commas or semicolons outside brackets."""
    return any(is_sign(node, ",", ";") for node in some)


_CONSTANTS = {f"for {some} {kind}" for some in ("any", "some", "every") for kind in ("constant", "real constant")}
_WHOLE = r"([a-z])\\in ?(?:\\mathbb\{Z\}|\\integers|Z)|\\text\{ (?:where )?(\w) is an integer\}"


def without_quantifier(some: Nodes) -> Nodes:
    """Without `for all x` and `where k is an integer`, which say nothing about the value."""
    from sympy import Reals

    for at, node in enumerate(some):
        if not at:
            continue
        kept = some[:at][: -1 if is_sign(some[at - 1], ",") else None]
        said, after = node.name.lower() if node.kind in ("text", "letters", "command") else "", some[at + 1 :]
        if said in ("for all real numbers", "for all reals", "for all real x") and not after:
            return kept
        if said in _CONSTANTS and [one.kind for one in after] == ["letters"]:
            return kept
        if said in ("for all", "forall", "for any", "for every", "for all real", "for real") and after:
            variable, *where = after
            named = variable.kind in ("letters", "command") and len(variable.name) == 1
            among = len(where) == 2 and is_sign(where[0], "∈") and number_set(where[1]) is Reals
            if named and (among or not where):
                return kept
        family = re.fullmatch(_WHOLE, written(after)) if is_sign(node, ",") else None
        if family and any((family[1] or family[2]) == one.name for one in flat(some[:at])):
            return some[:at]
    return some
