"""Boxes and formulas in a text: where they stand, what belongs to the value of a box, which make one list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lm_eval_ext.grading.units import is_bare_unit, is_countable, is_physical, unit_of
from lm_eval_ext.grading.words import alternatives, lexicon

_BESIDE = 300  # characters before and after a box that may belong to its value
_TIME = "second|minute|hour|day|week|month|year"
_EACH = re.compile(rf" (?:an?|each|every) ({_TIME})\b")
_PER = re.compile(rf"[\s$)}}]*(?P<words>(?:per|each|every) (?:{_TIME})\b)")
_NO_UNITS = frozenset(
    ("are", "in", "a", "at", "min", "as", "am", "pm", "mil", "an", "on", "per", "y", "e", "o", "acc")
)  # though they are
NUMBER = r"[+\-−]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d+(?:[.,]\d+)?|[.,]\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?"
BOLD = r"\*\*(?!(?:(?<=[\d)]\*\*)|(?<=\b[A-Za-z]\*\*))[\w(])"  # but not a power, as in `2**10`
BOXED = re.compile(
    r"(?:\\(?:boxed|fbox|framebox)|(?<![\\A-Za-z])boxed(?=\{))\s*+(?:\{|(?P<bare>\d|[A-Za-z](?![A-Za-z])|\\[A-Za-z]++(?![\[{])))"
)
_WRONG = re.compile(
    r"(?i)[\s$},(.]*(?:which\s+|(?:(?:but|however),?\s+)?(?:this|that|it|my)\s+(?:(?:answer|value|result)\s+)?)?"
    r"(?:can['’]?t be\s+(?:right|correct)|(?:is|was)(?:(?:n['’]t|\s+not)\s+(?:correct|right|the answer)"
    r"|\s+(?:wrong|incorrect)))\b"
    r"(?!\s(?:if|for|unless|when|only|in|to|that|of|we|you|one|i)\b)"
    r"|[\s$},(.]*(?:is|was)\s+(?:the|an?)\s+(?:wrong|incorrect)\s+(?:answer|value|result)\b"
)
# Before a box that does not hold the answer: what denies it, or says that it is another's.
_DENIED = re.compile(
    r"(?i)(?:\b(?:ignore|disregard)\s(?:(?:the|this|that|my)\s)?(?:(?:value|answer|box|result|number)\s)?"
    r"|\bnot|\bnever|n['’]t(?: be)?|\bcannot be)\s*\$*$"
    r"|\b(?:mistake|would have (?:been|given)|wrongly|incorrectly|tempted)\b[^.!?\n]*$"
)
_OF_ANOTHER = re.compile(r"(?i)\b(?:comparison|(?<!answer )would (?:be|give))\b[^.!?\n]*$")
_STEP = re.compile(r"(?im)^\W*step \d")
_OPERAND = r"(?!(?:an?|per|each)\b)\S+"  # but not `3 times a day`
# What follows a box that holds only a part of the value.
_AFTER = re.compile(
    rf"(?:\$|\\\))?(?P<more>\s?(?:out of|in)\s\$?{NUMBER}|/\s?\d+|[²³½¼¾⅓⅔π]+"
    rf"|\s(?:times|plus|minus)\s{_OPERAND}"
    r"|\sand (?:a|one) (?:half|third|quarter)|k\b|\s?(?:\\?%|percent) of\s\S+"
    r"|\s?\(should be [^)]*\))"
)
_ROUNDED = re.compile(
    rf"[^.\n]{{0,40}}\brounded (?:up |down |off )?to\s\$?({NUMBER})(?!\d)"
    r"(?!\s*(?:decimal|significant|places|digits|figures))"
)
# Where or when what is counted is: `chairs in the 3 rooms`.
_PLACED = r"(?:in|on|at|from|for|into|among|over|during) (?:(?:the|all|these|those|her|his|their) )?(?:\d+ )?[a-z]+"
_TO = re.compile(r"[\s$]*(?:to|:|–|-|by|plus|minus|times)[\s$]*")
_CASES = re.compile(r"[\s$,]*(?:if|when)\s[^.!?\n]{1,60}(?:,|;|\band|\bor)[\s$]*")
# What changes a number, right behind it or its unit.
_CHANGED = re.compile(
    r"(?i)[\s$)}]*(?P<words>(?:or (?:more|less|fewer|greater)|at (?:most|least)|squared|cubed|north|south|east|west"
    rf"|(?:minus|plus|times|multiplied by|divided by)\s+{_OPERAND}"
    r"|degrees? (?:celsius |fahrenheit )?below|below zero)\b)"
)
_NAMED = re.compile(r"([A-Za-z])\s*=\s*\$*$")
_PLACEHOLDERS = ("your answer", "answer", "final answer", "your final answer", "...", r"\ldots")
_STYLED = re.compile(r"^\\text\w*\{([^{}]*)\}$")
_OPENING = re.compile(r"\$\$|(?<!\\)\$|\\\(|\\\[")
_CLOSINGS = {
    "$$": re.compile(r"\$\$"),
    "$": re.compile(r"(?<!\\)\$"),
    r"\(": re.compile(r"\\\)"),
    r"\[": re.compile(r"\\\]"),
}
# What stands between the signs of two amounts: `$3 per pen and she pays $`.
_AMOUNT = re.compile(r"\d[\d.,]*[.,;:!?)]*\s+(?:[A-Za-z'’]+[,.;:]?\s+)*?[a-z]{2,},?\s+[a-z]{2,}\b(?!\{)")
_UNCLOSED = re.compile(r"((?:[^{}$\n]|\{[^{}$\n]*\}){1,100}?)(\$|\\\)|\\\])")  # a formula that ends before its box does
_BRACE = re.compile(r"(?<!\\)[{}]")
_JOINER = rf"(?:{alternatives('joiners')})"
# What may stand between the boxes or formulas of one enumeration.
_ITEM = r"\n\s*(?:[-*•]|\(?\w[.)])\s"
_BETWEEN = re.compile(
    rf"(?i)(?:{_ITEM}|\b[A-Za-z](?:_\d)?\s*=|\([a-e]\)|(?<!\w){_JOINER}(?!\w)|\\text\s*\{{\s*{_JOINER}\s*\}}"
    r"|[\s,;$.]|\\[()\[\],; ]|\\q?quad)*+"
)
_LISTED = re.compile(rf"(?i)[,;]|(?<!\w){_JOINER}(?!\w)|{_ITEM}")
_RELATION = re.compile(
    r"=|\\(?:approx|implies|to|therefore|equiv|iff|sim|hline|[A-Za-z]*arrow|q?quad)(?![A-Za-z])|:(?![a-z])|&|\\\\"
    r"|\\text\s*\{[^{}]*\}|,(?![^()\[\]]*[)\]])"
)
_LAYOUT = (
    r"(?:\\(?:displaystyle|left|right|quad|qquad|,|;|!| |:|checkmark|blacksquare|square|Box)(?![A-Za-z])|[\s~.,;:{}$]"
    r"|\\tag\{[^{}]*\})"
)


class Box(NamedTuple):
    """Where a box or formula starts and ends, and where its content does."""

    start: int
    end: int
    inside: int
    outside: int


def last_boxed(text: str, *, distinct: bool = True) -> str:
    """Content of the last `\\boxed{...}` with balanced braces; empty if there is none.

    Boxes are never concatenated, but those that are enumerated, with commas, `and` or `or`, are joined into a list.
    """
    return enumerated(text, boxes_in(text), distinct=distinct)


def boxed_quantity(text: str) -> str:
    r"""The same, with what stands beside it in its formula, and with a unit or a scale after it.

    >>> [boxed_quantity(text) for text in (r"It is \boxed{10}\text{ km/h}.", r"$x>\boxed{10}$", r"\boxed{1} in total")]
    ['10\\text{ km/h}', 'x>10', '1']
    """
    boxes = boxes_in(text)
    answer = enumerated(text, boxes)
    if not boxes or answer != text[boxes[-1].inside : boxes[-1].outside].strip():
        between = boxes and re.search(r"(?i)\bbetween\s*\$*$", text[max(0, boxes[-2].start - 20) : boxes[-2].start])
        return f"between {answer}" if between else answer
    box = boxes[-1]
    if len(boxes) > 1 and (joined := _in_one(text, boxes[-2], box)):
        return joined
    if rounded := _ROUNDED.match(text, box.end):
        return rounded[1]
    if more := _AFTER.match(text, box.end):
        return answer + more["more"].removesuffix(".").replace("$", "")
    if text[: box.start].rstrip("$").endswith("-") and re.fullmatch(r"[\d.,]+", answer):
        return f"-{answer}"
    start, end = _formula_around(text, box)
    before = _RELATION.split(text[max(start, box.start - _BESIDE) : box.start])[-1]
    after = re.sub(r"\\end\{[a-z]+\*?\}.*", "", text[box.end : min(end, box.end + _BESIDE)], flags=re.DOTALL)
    before = re.sub(rf"^{_LAYOUT}+$|^\s*\\text\s*\{{[^{{}}]*\}}\s*$", "", before).lstrip().rstrip("\\")
    if changed := re.search(
        rf"(?i)(?:^|\s)({alternatives('before_box')})\s*\$*\s*$", text[max(0, box.start - 30) : box.start]
    ):
        return f"{changed[1]} {answer}"
    beside = re.sub(rf"^{_LAYOUT}+|{_LAYOUT}+$", "", after)
    if before or (beside and _belongs(beside)):
        opened = before.count("{") > before.count("}")
        kept = after if opened or before.count("(") > before.count(")") else re.split(r"\\q?quad|[.;?]?\s*$", after)[0]
        plain = opened or re.fullmatch(r"[\w.]+", answer) is not None
        return f"{before}{answer if plain else f'{{{answer}}}'}{kept}".strip()
    measured = re.search(r"\d[})\s]*$", answer) or re.fullmatch(rf"{NUMBER}\s*\\text\{{[^{{}}]*\}}", answer)
    return with_unit(answer, text[box.end :]) if measured else answer


def _in_one(text: str, first: Box, last: Box) -> str:
    """Two boxes that are one answer: `\\boxed{3} to \\boxed{8}`, `x = \\boxed{5}. Then y = \\boxed{3}`; else empty."""
    contents = [text[box.inside : box.outside].strip() for box in (first, last)]
    between = text[first.end : last.start]
    if _TO.fullmatch(between):
        return f" {between.strip(' $')} ".join(contents)
    names = [_NAMED.search(text, max(0, box.start - 20), box.start) for box in (first, last)]
    if _CASES.fullmatch(between) and re.compile(r"[\s$,]*(?:if|when|otherwise)\b").match(text, last.end):
        return ", ".join(contents)  # `3 if n is even and 5 if it is odd`
    unit = unit_after(between)
    if unit and unit.removeprefix(r"\text{ ").rstrip("}") == re.sub(r" and$", "", between.strip(" $")):
        return f"{contents[0]}{unit} {contents[1]}{unit_after(text[last.end :])}"  # `5 hours 30 minutes`
    if len(between) < 40 and all(names) and len({name[1] for name in names if name}) == 2:
        return ", ".join(f"{name[1]} = {content}" for name, content in zip(names, contents, strict=True) if name)
    return ""


def _formula_around(text: str, box: Box) -> tuple[int, int]:
    """Where the content of the formula in which a box stands starts and ends; of none, the box itself."""
    for formula in formulas_in(text):
        if formula.inside <= box.start and box.end <= formula.outside:
            content = re.sub(r"\\text\s*\{[^{}]*\}", "", text[formula.inside : formula.outside][: 4 * _BESIDE])
            prose = re.search(r"[a-z]{2,} [a-z]{2,}|\.\s+[A-Z]", content)  # between amounts in dollars
            return (box.start, box.end) if prose else (formula.inside, formula.outside)
    return box.start, box.end


def _belongs(beside: str) -> bool:
    """Whether what follows a box in its formula belongs to its value; else it is a unit, or another statement."""
    belongs = re.match(
        r"\^|(?:[<>≤≥]|\\[lg]eq?(?![a-z]))\s*[a-zA-Z]|\\?[!%]|[-+*/·×√π±]|[a-zA-Z0-9)\]]|,\d{3}|,\s*[^\s\\]|\\\}"
        r"|\\(?:sqrt|pi|cdot|times|pm|mp|div|frac|ln|log|sin|cos|tan|left)(?![A-Za-z])",
        beside,
    )
    return belongs is not None


def with_unit(value: str, after: str) -> str:
    """A value with the unit, or the scale, that the text right after it names, and with the words that change it."""
    unit, end = _unit_at(after)
    measured = re.search(r"[A-Za-z]\W*$", value + unit) is not None
    changed = _CHANGED.match(after, end) or (_PER.match(after, end) if measured else None)
    return value + unit + (f" {changed['words']}" if changed else "")


def unit_after(text: str) -> str:
    """The unit, or the scale, that the text right after a number names; empty if it names none."""
    return _unit_at(text)[0]


def _unit_at(text: str) -> tuple[str, int]:
    """The same, and where it ends in the text."""
    match = re.match(
        r"(?:\\[,;: ]|[~ $]|\\\))*+(?:(?P<text>(?:\\,|\\?(?:text|mathrm|rm)\s*+\{[^{}]*+\}(?:\^\{?-?\d\}?)?){1,4})"
        r"|(?<=[~ $)])(?P<plain>[^\W\d_][^\s\d.,;:!?()$\\]*(?:[ /][^\W\d_]{1,12}){0,5}(?:\$?\^\{?\d\}?\$?)?))",
        text[:100],
    )
    if match is None:
        return "", 0
    if match["text"]:
        return (match["text"], match.end()) if _counts(match["text"]) else ("", 0)
    words = match["plain"].replace("$", "").split(" ")
    for length in range(len(words), 0, -1):
        name = " ".join(words[:length])
        if _counts(name):
            end = match.start("plain") + len(name)
            more = re.compile(rf"(?:,| and)?\s+\$?(?:\\boxed\{{)?({NUMBER})\}}?\$?(?=\s)").match(text, end)
            further, ended = _unit_at(text[more.end() :]) if more else ("", 0)
            if more and further:
                return rf"\text{{ {name}}} {more[1]}{further}", more.end() + ended
            return rf"\text{{ {name}}}", end
    return "", 0


def _counts(name: str) -> bool:
    """Whether words after a number change it: a unit, which counts, or a scale such as `million`."""
    plain = " ".join(re.sub(r"\\(?:text|mathrm|rm)|[{}\\,]", " ", name).split())
    plain = _EACH.sub(r" per \1", plain.replace("²", "^2").replace("³", "^3"))
    if plain.lower().partition(" ")[0] in lexicon()["scales"] or plain.lower() in lexicon()["shares"]:
        return True
    words = re.findall(r"[^\W\d_]+", plain)
    known = all(
        word in ("square", "cubic", "per", "squared", "cubed") or (is_bare_unit(word) and word not in _NO_UNITS)
        for word in words
    )
    unit = unit_of(rf"\text{{{plain}}}") if words and known and plain not in _NO_UNITS else None
    return unit is not None and is_physical(unit)


def boxes_in(text: str) -> list[Box]:
    """The boxes of a text whose braces are balanced, without those that hold a place."""
    closing = _closing_braces(text)
    found = []
    for match in BOXED.finditer(text):
        if match["bare"]:
            found.append(Box(match.start(), match.end(), match.start("bare"), match.end()))
        elif (end := closing.get(match.end() - 1)) is not None:
            found.append(Box(match.start(), end + 1, match.end(), end))
        elif (unclosed := _UNCLOSED.match(text, match.end())) and _is_opened(text, match.start(), unclosed[2]):
            found.append(Box(match.start(), unclosed.end(1), match.end(), unclosed.end(1)))
    real = [
        box for box in found
        if _STYLED.sub(r"\1", text[box.inside : box.outside].strip().lower()) not in _PLACEHOLDERS
        and not _WRONG.match(text, box.end)
    ]  # fmt: skip
    kept = [box for box in real if not (_said_before(_DENIED, text, box) or _is_of_a_step(text, box))]
    return [box for box in kept if not _said_before(_OF_ANOTHER, text, box)] or kept


def _is_opened(text: str, place: int, closing: str) -> bool:
    """Whether a formula that ends with a sign begins before a place in its line."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line.count("$") % 2 == 1 if closing == "$" else {"\\)": "\\(", "\\]": "\\["}[closing] in line


def _said_before(pattern: re.Pattern[str], text: str, box: Box) -> bool:
    return pattern.search(text, max(0, box.start - _BESIDE // 2), box.start) is not None


def _is_of_a_step(text: str, box: Box) -> bool:
    """Whether a box stands in a step that another one follows."""
    line = text.rfind("\n", 0, box.start) + 1
    return _STEP.match(text, line) is not None and _STEP.search(text, box.end) is not None


def _closing_braces(text: str) -> dict[int, int]:
    """Position of the closing brace by that of the opening one; escaped braces are ignored."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            closing[opened.pop()] = brace.start()
    return closing


def enumerated(text: str, found: Sequence[Box], *, distinct: bool = True) -> str:
    """The last of the matches in a text, with those enumerated right before it; empty matches are skipped.

    Args:
        text: the text searched.
        found: the boxes, formulas or numbers.
        distinct: whether a repeated content counts once.
    """
    members: list[str] = []
    following: Box | None = None
    for box in reversed(found):
        content = text[box.inside : box.outside].strip()
        if following is not None and not joins(text[box.end : following.start], content, members[-1]):
            break
        if content:
            following = box
            members.append(content)
    members.reverse()
    return ", ".join(dict.fromkeys(members) if distinct else members)


def joins(between: str, one: str = "", other: str = "") -> bool:
    """Whether what stands between two boxes makes one enumeration of them."""
    if len(between) > _BESIDE:
        return False
    if re.fullmatch(r"[\s$\\]*", between):  # of two variables
        names = [re.match(r"\s*([A-Za-z])\s*=", content) for content in (one, other)]
        return all(names) and len({name[1] for name in names if name}) == 2
    items = re.sub(_ITEM, "\n", between)
    ended = re.search(r"\.(?!\s)|\.\s+\S", items) is not None or (items == between and "\n\n" in between)
    return not ended and _LISTED.search(between) is not None and _BETWEEN.fullmatch(between) is not None


def is_counted(rest: str) -> bool:
    """Whether words after a number only say what is counted: a noun of those that are counted, and no condition."""
    rest = re.sub(
        r"\s?of (?:the |an? |her |his |their |its )?[a-z]+(?: [a-z]+)?$", "", re.sub(r"^\\text\{|\}$", "", rest)
    )
    rest = re.sub(rf"^more (?!than)|\s(?:are|is) (?:needed|required)$|\s{_PLACED}$", "", rest)
    words = rest.split()
    if re.fullmatch(r"(?:square |cubic )?units?", rest):
        return True
    return any(is_countable(" ".join(words[:length])) for length in (3, 2, 1) if len(words) >= length) and not (
        re.search(r"\d", rest) or re.search(rf"(?i)\b(?:{'|'.join(lexicon()['not_nouns'])}|or|and)\b", rest)
    )


def formulas_in(text: str, *, only_at_start: bool = False) -> Iterator[Box]:
    r"""Start and end of each formula in dollars or in `\(...\)` or `\[...\]`, then start and end of its content."""
    place, unclosed = 0, set[str]()
    while match := (_OPENING.match(text, place) if only_at_start else _OPENING.search(text, place)):
        end = None if match[0] in unclosed else _CLOSINGS[match[0]].search(text, match.end() + 1)
        if end is not None and match[0] == "$" and _AMOUNT.match(text, match.end(), end.start()):
            place = match.end()
            if only_at_start:
                return
            continue
        if end is not None:
            yield Box(match.start(), end.end(), match.end(), end.start())
        else:
            unclosed.add(match[0])
        if only_at_start:
            return
        place = end.end() if end else match.end()


def without_formulas(text: str) -> tuple[str, list[Box]]:
    """A text of the same length in which formulas are `#`, and the formulas."""
    masked, formulas = list(text), list(formulas_in(text))
    for formula in formulas:
        masked[formula.start : formula.end] = "#" * (formula.end - formula.start)
    return "".join(masked), formulas
