"""Finds the final answer in a model's output: the last box, or the last answer declared after the thinking.

An answer is the whole of what is declared: its clause up to the end, and what stands around a box in its formula. What
only introduces it or gives reasons for it is left out; anything else stays, and then it may be no answer that can be
read. The words of each language are in `extraction.yaml`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from lm_eval_ext.grading.letters import SPECIES, chosen_letter
from lm_eval_ext.grading.units import is_bare_unit, is_countable, is_physical, unit_of
from lm_eval_ext.grading.words import lexicon, number_in_words, table
from lm_eval_ext.thinking_formats import answer_after_thinking

_TABLE: dict[str, Any] = table("extraction")


def _words(name: str, kind: str = "") -> str:
    """Alternatives of the table, of one kind of language or of all."""
    return re.sub(r"\|\s+", "|", str(_TABLE[kind][name] if kind else _TABLE[name]))


def _declaration(kind: str) -> str:
    """A declaration in one kind of language: `answer`, adjectives, `is` or a colon or dash."""
    answer, adjective, copula, lead = (_words(name, kind) for name in ("answer", "adjective", "is", "lead"))
    word, end = (r"\b", r"\b") if kind != "other" else ("", "")
    said = rf"\s*+(?:(?:{copula}){end}|[:：=])[:：=\s*_\"]*+|\s+(?:[-–—]|→)\s++"
    heading = (
        r"|\**+[ \t]*+\n\s*+" if kind == "english" else r"|(?<=సమాధానం)[ \t]++|(?<=उत्तर)[ \t]++(?=[$\d(\\])|(?=\b[A-J]\b)"
    )
    return (
        rf"(?P<{kind}>{word}(?:{answer}){end}(?:[\s*_]*+(?:{adjective})){{0,2}}[*_)\]\"]*+(?:{said}{heading})"
        rf"(?:(?:{copula}){end}\s*+)?(?:(?:{lead}){end}[,\s]*+)*+)"
    )


_ANY = "|".join(_words("answer", kind) for kind in ("european", "other", "english"))
_DECLARED = re.compile(
    rf"(?i)(?:{'|'.join(map(_declaration, ('european', 'other', 'english')))})"
    rf"(?!\W*+(?:the\s++)?(?:final\s++)?(?:{_ANY}))(?=\S)"
)
_FINAL = re.compile(
    r"(?im)^[^\w\n]*+(?:(?:so|thus|hence|therefore)\W++)?(?:(?:the|my)\s++)?(?:final\s++answer|最终答案|最終答案)\b"
)
_DENIED = re.compile(rf"(?i)(?:{_words('denied')})$")
_NO_UNITS = frozenset(
    ("in", "a", "at", "min", "as", "am", "pm", "mil", "an", "on", "per", "y", "e", "o")
)  # though they are
_MOST_DECLARED = 50  # declarations considered, from the last; an output that loops has thousands
_LONGEST = 2_000  # characters of one
_BESIDE = 300  # characters before and after a box that may belong to its value
_BEFORE = 80  # characters before a declaration that may deny it

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*+(?:\{|(?P<bare>\d|[A-Za-z](?![A-Za-z])))")
_WRONG = re.compile(r"[\s$},]*(?:which\s+)?(?:is|was)\s+(?:not\s+(?:correct|right|the answer)|wrong|incorrect)\b")
_PLACEHOLDERS = ("your answer", "answer", "final answer", "your final answer", "...", r"\ldots", r"\text{answer}")
_OPENING = re.compile(r"\$\$|(?<!\\)\$|\\\(|\\\[")
_CLOSINGS = {
    "$$": re.compile(r"\$\$"),
    "$": re.compile(r"(?<!\\)\$"),
    r"\(": re.compile(r"\\\)"),
    r"\[": re.compile(r"\\\]"),
}
_BRACE = re.compile(r"(?<!\\)[{}]")
_JOINER = rf"(?:{_words('joiners')})"
# What may stand between the boxes or formulas of one enumeration.
_ITEM = r"\n\s*(?:[-*•]|\(?\w[.)])\s"
_BETWEEN = re.compile(
    rf"(?i)(?:[\s,;$.]|\\[()\[\],; ]|\\q?quad|\\text\s*\{{\s*{_JOINER}\s*\}}|(?<!\w){_JOINER}(?!\w)"
    rf"|\b[A-Za-z](?:_\d)?\s*=|\([a-e]\)|{_ITEM})*"
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
_NUMBER = r"[+\-−]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d*[.,]?\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?"
_EXPRESSION = re.compile(rf"[+-]?\\[dt]?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}}|(?<![A-Za-z\d_.]){_NUMBER}")
_DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2}|\d{4,})$|^([+-]?0),(\d+)$")
# Special tokens that some servers leave at the end of a text.
_ENDING = re.compile(r"<\|[A-Za-z_]{1,40}\|>|</s>|<eos>|<end_of_turn>|<\uff5c[^<>]{1,40}\uff5c>|\[/INST\]")
_MOST_ENDINGS = 20
_MARKED = re.compile(r"####[ \t]*+(\S[^\n]{0,2000})$")
_MARKUP = re.compile(r"\*\*|__(?!\w*_)|`|</?(?:b|i|strong|em|p)>|[✅✓✔️□■\U0001f300-\U0001faff]")
_BULLET = re.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.)])\s+(?=\S)")
_SENTENCE_END = re.compile(
    rf"(?<![A-Z])(?<!\bapprox)(?<!\bca)(?<!\bi\.e)(?<!\bsq)(?<!\bft)[.?](?=\s(?!(?:{SPECIES})\b)|$)"
    r"|!(?=\s*$|\s+[A-Z])|[。．！？।]|\n"
)
_REASON = re.compile(
    rf"(?i),?\s++(?:{_words('reasons')})(?!\w)|,?\s*\((?:{_words('in_brackets')})\b[^()]*\)"
    r"|\s[–—-]\s(?=(?:[A-Z]?[a-z]+,? ){2})"
)
_POLITE = re.compile(rf"\s*(?:{_words('endings')})\s*$")
_QUANTITY = re.compile(rf"(?P<number>\$?{_NUMBER})(?P<rest>\s*+[^\d]*)$")
# `there are 12 apples`, `she has 12 apples`
_FRAME = re.compile(
    rf"(?i)^(?:[a-z',’ -]{{0,80}}\b(?:{_words('verbs')})\s+)(?:exactly\s+|only\s+|about\s+|a total of\s+)?(?=[$\d+−-])"
)
# `Jane started 3 hours ago`: the only number, of a quantity, with nothing before it that takes it.
_BEFORE_NUMBER = re.compile(rf"(?i)^[a-z',’ -]{{0,80}}\b(?!(?:{_words('taking')})\b)[a-z]+\s+(?=[$\d])")
_CONDITION = re.compile(r"(?i)\b(?:when|if|where|unless|except|than|that|not|but|least|most|without)\b|n['’]t\b")
_AFTERWARDS = re.compile(r"\s+(?:in (?:all|total)|altogether)$")
_VALUE = re.compile(
    r"[+\-−±√∞π<>≤≥=|]?\s*(?:[\d.\\({\[$∅π∞√]|-?\d)|[A-Za-z](?:_?\d)?(?:\s*[=<>≤≥∈^+*/(,-]|$)|[A-Za-z]\w{0,7}\s*=\s*\S"
)
_CONTINENTAL = re.compile(r"(?<![\d.,])([+\-−]?\d+),(\d{1,2}|\d{4,})(?![\d.,])")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+)(?![\d.,])")
_IN_WORDS = re.compile(
    r"^(?=[^=]*[A-Za-z]{2})(?:[A-Za-z][^-=+*/\d\\]*\s)?[+-]?\d+(?:\.\d+)?(?:\s*\([A-Za-z][^()=\d]*\))?"
    rf"(?:\s*[-+*/×]\s*[+-]?\d+(?:\.\d+)?(?:\s*\([A-Za-z][^()=\d]*\))?)+\s*=\s*({_NUMBER})$"
)  # "8 (the old ones) + 6 (the new ones) = 14"
# Not after `St.` or an initial.
_TEXT_END = re.compile(r"(?<=[a-z\d]{2})(?<!\b[A-Z][a-z])(?<!\bMrs)(?<!\bRev)(?<!\bGen)[.!?]\s+(?=[A-Z])|[。！？]")


class _Box(NamedTuple):
    """Where a box or formula starts and ends, and where its content does."""

    start: int
    end: int
    inside: int
    outside: int


def answer_part(output: str, ends: Sequence[str] = (), *, needs_end: bool = False) -> str | None:
    """The part after the thinking; None if the output was cut before the thinking ended.

    Our own generations record where their answer starts; any other text is searched for markers, and a text without
    any is all answer, unless `needs_end`.
    """
    if hasattr(output, "answer"):
        answer: str | None = output.answer
        return answer
    return answer_after_thinking(output, ends, needs_end=needs_end)


def final_answer(
    output: str,
    find: Sequence[str] = ("boxed", "declared"),
    ends: Sequence[str] = (),
    *,
    needs_end: bool = False,
) -> str:
    """The last `\\boxed{}` after the thinking, else the declared answer; empty if there is none.

    A "Final Answer:" after the last box takes precedence over it.
    """
    text = answer_part(output, ends, needs_end=needs_end)
    if text is None:
        return ""
    text = without_endings(text)
    if "declared" in find and (final := says_final(text)):
        answer = _declared(final)
        if _is_value(answer) or not _boxes(text):  # `Final answer: see the box above`
            return answer
    return next((answer for place in find if (answer := PLACES[place](text))), "")


def without_endings(text: str) -> str:
    """A text without the special tokens that some servers leave at its end."""
    for _ in range(_MOST_ENDINGS):
        text = text.rstrip()
        start = max(text.rfind("<", max(0, len(text) - 50)), text.rfind("[", max(0, len(text) - 10)))
        if start < 0 or not _ENDING.fullmatch(text, start):
            break
        text = text[:start]
    return text


# Boxes ------------------------------------------------------------------------------------------------


def last_boxed(text: str, *, distinct: bool = True) -> str:
    """Content of the last `\\boxed{...}` with balanced braces; empty if there is none.

    Boxes are never concatenated, but those that are enumerated, with commas, `and` or `or`, are joined into a list.
    """
    return _enumerated(text, _boxes(text), distinct=distinct)


def boxed_quantity(text: str) -> str:
    r"""The same, with what stands beside it in its formula, and with a unit or a scale after it.

    >>> [boxed_quantity(text) for text in (r"It is \boxed{10}\text{ km/h}.", r"$x>\boxed{10}$", r"\boxed{1} in total")]
    ['10\\text{ km/h}', 'x>10', '1']
    """
    boxes = _boxes(text)
    answer = _enumerated(text, boxes)
    if not boxes or answer != text[boxes[-1].inside : boxes[-1].outside].strip():
        return answer
    box = boxes[-1]
    start, end = _formula_around(text, box)
    before = _RELATION.split(text[max(start, box.start - _BESIDE) : box.start])[-1]
    after = re.sub(r"\\end\{[a-z]+\*?\}.*", "", text[box.end : min(end, box.end + _BESIDE)], flags=re.DOTALL)
    before = re.sub(rf"^{_LAYOUT}+$|^\s*\\text\s*\{{[^{{}}]*\}}\s*$", "", before).lstrip().rstrip("\\")
    if changed := re.search(
        rf"(?i)(?:^|\s)({_words('before_box')})\s*\$*\s*$", text[max(0, box.start - 30) : box.start]
    ):
        return f"{changed[1]} {answer}"
    beside = re.sub(rf"^{_LAYOUT}+|{_LAYOUT}+$", "", after)
    if before or (beside and _belongs(beside)):
        opened = before.count("{") > before.count("}")
        kept = after if opened or before.count("(") > before.count(")") else re.split(r"\\q?quad|[.;?]?\s*$", after)[0]
        plain = opened or re.fullmatch(r"[\w.]+", answer) is not None
        return f"{before}{answer if plain else f'{{{answer}}}'}{kept}".strip()
    return answer + _unit_after(text[box.end :]) if re.search(r"\d[})\s]*$", answer) else answer


def _formula_around(text: str, box: _Box) -> tuple[int, int]:
    """Where the content of the formula in which a box stands starts and ends; of none, the box itself."""
    for formula in _formulas(text):
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


def _unit_after(text: str) -> str:
    """The unit, or the scale, that the text right after a number names; empty if it names none."""
    match = re.match(
        r"(?:\\[,;: ]|[~ $]|\\\))*+(?:(?P<text>(?:\\,|\\?(?:text|mathrm|rm)\s*+\{[^{}]*+\}(?:\^\{?-?\d\}?)?){1,4})"
        r"|(?<=[~ $)])(?P<plain>[^\W\d_][^\s\d.,;:!?()$\\]*(?:[ /][^\W\d_]{1,12}){0,3}(?:\$?\^\{?\d\}?\$?)?))",
        text[:100],
    )
    if match is None:
        return ""
    if match["text"]:
        return match["text"] if _counts(match["text"]) else ""
    words = match["plain"].replace("$", "").split(" ")
    for length in range(len(words), 0, -1):
        name = " ".join(words[:length])
        if _counts(name):
            rest = text[match.start("plain") + len(name) :]
            more = re.match(rf"(?:,| and)?\s+\$?(?:\\boxed\{{)?({_NUMBER})\}}?\$?(?=\s)", rest)
            further = _unit_after(rest[more.end() :]) if more else ""
            return rf"\text{{ {name}}}" + (f" {more[1]}{further}" if more and further else "")
    return ""


def _counts(name: str) -> bool:
    """Whether words after a number change it: a unit, which counts, or a scale such as `million`."""
    plain = " ".join(re.sub(r"\\(?:text|mathrm|rm)|[{}\\,]", " ", name).split())
    plain = plain.replace("²", "^2").replace("³", "^3")
    if plain.lower().partition(" ")[0] in lexicon()["scales"] or plain.lower() in lexicon()["shares"]:
        return True
    words = re.findall(r"[^\W\d_]+", plain)
    known = all(word in ("square", "cubic", "per") or (is_bare_unit(word) and word not in _NO_UNITS) for word in words)
    unit = unit_of(rf"\text{{{plain}}}") if words and known and plain not in _NO_UNITS else None
    return unit is not None and is_physical(unit)


def _boxes(text: str) -> list[_Box]:
    """The boxes of a text whose braces are balanced, without those that hold a place."""
    closing = _closing_braces(text)
    found = []
    for match in _BOXED.finditer(text):
        if match["bare"]:
            found.append(_Box(match.start(), match.end(), match.start("bare"), match.end()))
        elif (end := closing.get(match.end() - 1)) is not None:
            found.append(_Box(match.start(), end + 1, match.end(), end))
    real = [
        box for box in found
        if text[box.inside : box.outside].strip().lower() not in _PLACEHOLDERS and not _WRONG.match(text, box.end)
    ]  # fmt: skip
    return [box for box in real if not re.search(r"\bnot\s*\$*$", text[max(0, box.start - 10) : box.start])] or real


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


def _enumerated(text: str, found: Sequence[_Box], *, distinct: bool = True) -> str:
    """The last of the matches in a text, with those enumerated right before it; empty matches are skipped.

    Args:
        text: the text searched.
        found: the boxes, formulas or numbers.
        distinct: whether a repeated content counts once.
    """
    members: list[str] = []
    following: _Box | None = None
    for box in reversed(found):
        content = text[box.inside : box.outside].strip()
        if following is not None and not _joins(text[box.end : following.start], content, members[-1]):
            break
        if content:
            following = box
            members.append(content)
    members.reverse()
    return ", ".join(dict.fromkeys(members) if distinct else members)


def _joins(between: str, one: str, other: str) -> bool:
    """Whether what stands between two boxes makes one enumeration of them."""
    if len(between) > _BESIDE:
        return False
    if re.fullmatch(r"[\s$\\]*", between):  # of two variables
        names = [re.match(r"\s*([A-Za-z])\s*=", content) for content in (one, other)]
        return all(names) and len({name[1] for name in names if name}) == 2
    items = re.sub(_ITEM, "\n", between)
    ended = re.search(r"\.(?!\s)|\.\s+\S", items) is not None or (items == between and "\n\n" in between)
    return not ended and _LISTED.search(between) is not None and _BETWEEN.fullmatch(between) is not None


# Declarations -----------------------------------------------------------------------------------------


def says_final(text: str) -> str:
    """The text from a "Final Answer:" after the last box, which takes precedence over it; empty if there is none."""
    finals = [
        match.start() for match in _FINAL.finditer(text) if _DECLARED.search(text, match.start(), match.end() + 40)
    ]
    return text[finals[-1] :] if finals and not _BOXED.search(text, finals[-1]) else ""


def _declared(text: str) -> str:
    """What is marked as the answer, or the last declaration that says a value."""
    return _marked(text) or next(iter(declarations(text)), "")


def _marked(text: str) -> str:
    """The text after `####` in the last line, or within the last `<answer>`."""
    inner = _as_marked(text)
    if "\n" in inner and _DECLARED.search(inner):
        return next(iter(declarations(inner)), "")
    answer = _MARKUP.sub("", inner.rpartition("\n")[2]).strip()
    formula = next(_formulas(answer, only_at_start=True), None)
    if formula:
        return _clause(answer, european=False)
    return re.sub(r"(?<!\.)\.$", "", answer)


def _as_marked(text: str) -> str:
    """What is marked as the answer, as it is written; empty if nothing is, or if it is a heading."""
    before, tag, _ = text.rpartition("</answer>")
    if tag and "<answer>" in before:
        return before.rpartition("<answer>")[2].strip()
    last = _MARKED.match(text.rstrip().rpartition("\n")[2])
    return (
        last[1].strip()
        if last and not re.match(r"\d+[.)]\s+[A-Z]|(?:Case|Note|Step|Part|Conclusion)\b", last[1])
        else ""
    )


def declarations(text: str) -> list[str]:
    """Declared answers, the last one first; those that say no value come at the end."""
    matches = deque((match for match in _DECLARED.finditer(text)), maxlen=_MOST_DECLARED)
    answers = [_of_declaration(text, match) for match in reversed(matches) if not _is_denied(text, match)]
    return sorted(answers, key=lambda answer: not _is_value(answer))


def _is_denied(text: str, declaration: re.Match[str]) -> bool:
    """Whether what stands before a declaration denies it, or makes it one of what would be otherwise."""
    before = text[max(0, declaration.start() - _BEFORE) : declaration.start()]
    sentence = re.split(r"[.!?]\s|\n", before)[-1]
    supposed = r"\b(?:if|had|without|otherwise|unless|were)\b" if "would be" in declaration[0] else r"^\W*otherwise\b"
    return _DENIED.search(before) is not None or re.search(f"(?i){supposed}", sentence) is not None


def last_declared(text: str) -> str:
    """The last declared answer as it is written, for answers that are not mathematics; empty if there is none.

    It is a formula, a block of bullets, or a line up to the end of its first sentence.
    """
    if said := _as_marked(text):
        return said
    matches = (match for match in _DECLARED.finditer(text) if not _is_denied(text, match))
    declared = deque((match.end() for match in matches), maxlen=_MOST_DECLARED)
    answers = [_as_written(text[place : place + _LONGEST]) for place in reversed(declared)]
    return next((answer for answer in answers if not _is_remark(answer)), answers[0] if answers else "")


def _as_written(given: str) -> str:
    if formula := next(_formulas(given, only_at_start=True), None):
        return given[formula.inside : formula.outside].strip()
    lines = given.splitlines()
    bullets = list(takewhile(_BULLET.match, lines))
    if len(bullets) > 1:
        return "\n".join(line.strip() for line in bullets)
    return _TEXT_END.split(lines[0].replace("**", "").strip())[0].strip().rstrip("*.。")


def _is_remark(answer: str) -> bool:
    """Whether a declaration says something about the answer, not what it is, such as `consistent with all cases`."""
    return re.match(rf"(?i)(?:{_words('remarks')})(?!\w)(?!\s*[=.)])", answer) is not None and len(answer) > 1


def _is_value(answer: str) -> bool:
    """Whether a declaration says a value: a number, a formula, a letter, or words that are an answer."""
    plain = answer.lower().strip(" .")
    if not answer or (_is_remark(answer) and not chosen_letter(answer)):
        return plain in lexicon()["nothing"] or plain in lexicon()["all_reals"]
    known = (*lexicon()["nothing"], *lexicon()["all_reals"], "none", "undefined", "infinity", "impossible")
    if _VALUE.match(answer) or chosen_letter(answer) or plain.startswith(known) or number_in_words(plain) is not None:
        return True
    return len(answer.split()) <= 3 and re.search(r"\d", answer) is None


def _of_declaration(text: str, match: re.Match[str]) -> str:
    """The value that a declaration says: its clause, or the lines below it."""
    given = text[match.end() : match.end() + _LONGEST]
    formula = next(_formulas(given, only_at_start=True), None)
    ended = formula.end if formula else next((found.end() for found in re.finditer(r"\\end\{[a-z*]+\}", given)), 0)
    if formula or given.startswith(r"\begin"):  # on several lines
        given = given[:ended].replace("\n", " ") + given[ended:]
    lines = given.split("\n")
    first, below = lines[0], "\n" in match[0]
    if below:
        first = lines[0] = re.sub(r"^>\s+", "", first)
    following = next((line for line in lines[1:] if line.strip()), "")
    below |= "" != _assigns(first) != _assigns(following) != ""
    below |= all(re.fullmatch(r"\W*[A-J]\W*", line) for line in (first, following))
    if not below and not (_BULLET.match(first) and "\n" in given) and not first.rstrip().endswith(","):
        sentence = _SENTENCE_END.search(first)
        if _FRAME.match(first) and sentence and re.search(r"\d", first[sentence.end() :]):
            return first.strip()  # a solution, of which this is the first step
        return _clause(first, european=match["european"] is not None)
    some: list[str] = []
    blank = False
    for line in lines if below or first.rstrip().endswith(",") else [first]:
        plain = _MARKUP.sub("", _without_bullet(line) if below else line).strip()
        if some and plain:
            listed = plain != line.strip() or "" != _assigns(plain) != _assigns(some[-1]) != ""
            another = (
                _VALUE.match(plain) and not re.match(r"\([A-Za-z]", plain) and ("=" not in plain or _assigns(plain))
            )
            if not another or (blank and not listed):
                break
        blank = not plain
        if plain:
            some.append(_clause(plain, european=match["european"] is not None).rstrip(","))
    return ", ".join(some)


def _without_bullet(line: str) -> str:
    """A line without its bullet, or its number if a value follows."""
    bullet = _BULLET.match(line)
    if bullet is None or (bullet[0].strip(" ().").isdecimal() and not _VALUE.match(line, bullet.end())):
        return line
    return line[bullet.end() :]


def _assigns(line: str) -> str:
    """The variable that a line gives the value of, as `a = 5` does; empty if it is anything else."""
    found = re.match(r"[\s$*]*([A-Za-z]\w?)\s*=\s*\S", line)
    return found[1] if found else ""


def _clause(line: str, *, european: bool) -> str:
    """An answer in the clause that declares it, without what only gives reasons; what is not understood stays."""
    line = re.sub(r"^(?:approx|ca)\.\s+", "", _MARKUP.sub("", line).strip().strip("\"'“”"))
    masked = list(line)
    formulas = list(_formulas(line))
    for formula in formulas:
        masked[formula.start : formula.end] = "#" * (formula.end - formula.start)
    clause = "".join(masked)
    end = next((found.start() for found in _SENTENCE_END.finditer(clause) if found.start()), len(clause))
    reason = next((found.start() for found in _REASON.finditer(clause, 0, end) if found.start()), end)
    answer = line[: min(end, reason)].strip()
    which = re.search(
        rf"(?:,\s+which\s+(?:is|equals)|,?\s+i\.e\.,?|,\s+that\s+is,?)\s+(\$?{_NUMBER}|\$[^$]+\$)[.\s]*$",
        line[:end] or line,
    )
    if which and not _VALUE.match(answer):
        answer = which[1]
    for _ in range(3):  # a counter, the end of a sentence and a full stop may follow each other
        answer = _POLITE.sub("", answer).strip().rstrip('*.。．।,;:!؟"”').strip()
    if sum(map(answer.count, ")]")) > sum(map(answer.count, "([")):
        answer = answer.removesuffix(")")
    formulas = [formula for formula in formulas if formula.end <= len(answer)]
    if formulas and formulas[0].start == 0:
        return _of_formulas(answer, formulas)
    if european:
        answer = _THOUSANDS.sub(lambda found: found[1].replace(".", ""), _CONTINENTAL.sub(r"\1.\2", answer))
    return _in_plain_words(answer.replace("$", "") if formulas else answer)


def _of_formulas(answer: str, formulas: Sequence[_Box]) -> str:
    """The formula that an answer begins with, and those enumerated after it; with the rest where that is no remark."""
    members = [answer[formulas[0].inside : formulas[0].outside].strip()]
    last = formulas[0]
    for formula in formulas[1:]:
        if not _joins(answer[last.end : formula.start], "", ""):
            break
        last = formula
        members.append(answer[formula.inside : formula.outside].strip())
    joined, rest = ", ".join(members), answer[last.end :].strip(" ,")
    if not rest:
        return joined
    if unit := _unit_after(f" {rest}"):
        return joined + unit
    return joined if _is_counted(rest) else f"{joined} {rest}".replace("$", "")


def _is_counted(rest: str) -> bool:
    """Whether words after a number only say what is counted: a noun of those that are counted, and no condition."""
    words = re.sub(r"^\\text\{|\}$", "", rest).split()
    return any(is_countable(" ".join(words[:length])) for length in (3, 2, 1) if len(words) >= length) and not (
        re.search(r"\d", rest) or re.search(rf"(?i)\b(?:{'|'.join(lexicon()['not_nouns'])}|or|and)\b", rest)
    )


def _in_plain_words(answer: str) -> str:
    """`12` from "there are 12 apples in all"; any other text unchanged."""
    if computed := _IN_WORDS.match(answer) if len(answer) < _LONGEST // 5 else None:
        return computed[1]
    short = len(answer) < _LONGEST // 5 and not chosen_letter(answer)
    frame = _FRAME.match(answer) or _BEFORE_NUMBER.match(answer) if short else None
    if frame and not _CONDITION.search(frame[0]):
        inner = answer[frame.end() :]
        quantity = _QUANTITY.match(inner)
        rest = quantity["rest"].strip() if quantity else ""
        if frame.re is _FRAME or _unit_after(f" {rest}") or _is_counted(rest):
            answer = inner
    answer = _AFTERWARDS.sub("", answer)
    counted = _QUANTITY.match(answer)
    if counted and (rest := counted["rest"].strip()) and not rest.startswith("\\"):
        if unit := _unit_after(f" {rest}"):
            return answer if unit.rstrip("}").endswith(rest.split()[-1]) else counted["number"] + unit
        if _is_counted(rest):
            return answer if is_countable(rest) and not frame else counted["number"]
    return answer


def _formulas(text: str, *, only_at_start: bool = False) -> Iterator[_Box]:
    r"""Start and end of each formula in dollars or in `\(...\)` or `\[...\]`, then start and end of its content."""
    place, unclosed = 0, set[str]()
    while match := (_OPENING.match(text, place) if only_at_start else _OPENING.search(text, place)):
        end = None if match[0] in unclosed else _CLOSINGS[match[0]].search(text, match.end() + 1)
        if end is not None:
            yield _Box(match.start(), end.end(), match.end(), end.start())
        else:
            unclosed.add(match[0])
        if only_at_start:
            return
        place = end.end() if end else match.end()


def _last_expression(text: str) -> str:
    """The last formula, fraction or number, with those enumerated right before it."""
    formulas = list(_formulas(text))
    covered = iter([*formulas, _Box(len(text), len(text), 0, 0)])
    current = next(covered)
    found = []
    for match in _EXPRESSION.finditer(text):
        while match.start() >= current.end and current.end < len(text):
            current = next(covered)
        if not current.start <= match.start() < current.end:
            found.append(_Box(match.start(), match.end(), match.start(), match.end()))
    both = sorted([*formulas, *found])
    answer = _enumerated(text, both)
    return _DECIMAL_COMMA.sub(r"\1\3.\2\4", answer) if both and both[-1] in found[-1:] else answer


PLACES = {"boxed": boxed_quantity, "declared": _declared, "last_expression": _last_expression}
