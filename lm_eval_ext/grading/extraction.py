"""Finds the final answer in a model's output: the last answer declared after the thinking."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile

from lm_eval_ext.grading.letters import SPECIES, chosen_letter
from lm_eval_ext.grading.units import is_bare_unit, unit_of
from lm_eval_ext.thinking_formats import answer_after_thinking

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*+(?:\{|(?P<bare>\d|[A-Za-z](?![A-Za-z])))")
# The text after "answer is" or "Answer:", or after such a heading, in markdown or plain text and several languages.
_LATIN = (
    r"answer|ans|respuesta|réponse|antwort|antwoord|risposta|resposta|odpowiedź|cevap|jawaban|jibu|svar|đáp án|ответ|"
    "відповідь"
)
_OTHER = r"答案|解答|答え|回答|答|正解|故选|정답|답|الجواب|الإجابة|उत्तर|উত্তর|కి సమాధానం|సమాధానం|คำตอบ"
_ANSWER = rf"(?:\b(?:{_LATIN})\b|{_OTHER})"
_IS_WORD = (
    r"(?:is|es|est|ist|lautet|beträgt|è|é|là|adalah|ni|är|это|(?:must|would|should|will|has to)\s+be|equals)\b"
    r"|[:=：是为為は은는هو]|है|হলো|হল|คือ|అవుతుంది"
)
# Quantifiers are possessive (`*+`), to avoid backtracking: an output may be a hundred thousand line breaks.
_NO_REPEAT = rf"(?!\W*+(?:final\s++)?{_ANSWER})"
_NO_OTHER = rf"(?!\W*+(?:the\s++)?(?:final\s++)?{_ANSWER})"
_IS = rf"(?:\**+\s*+(?:{_IS_WORD})++[\s:：*]*+|(?<=answer)\**+[ \t]*+\n\s*+|(?<=సమాధానం)[ \t]++)"
_DECLARED = re.compile(rf"(?i){_ANSWER}{_IS}{_NO_OTHER}(?=\S)")
_MOST_DECLARED = 50  # declarations considered, from the last; an output that loops has thousands
_LONGEST = 2_000  # characters of one
_FINAL = re.compile(
    rf"(?im)^[^\w\n]*+(?:(?:so|thus|hence|therefore)\W++)?(?:(?:the|my)\s++)?(?:final\s++answer|最终答案|最終答案)\b\**+\s*+"
    rf"(?:is\s*+)?[:：][\s*]*+{_NO_REPEAT}\S"
)
_OPENING = re.compile(r"\$\$|(?<!\\)\$|\\\(|\\\[")
_CLOSINGS = {
    "$$": re.compile(r"\$\$"),
    "$": re.compile(r"(?<!\\)\$"),
    r"\(": re.compile(r"\\\)"),
    r"\[": re.compile(r"\\\]"),
}
_NUMBER = (
    r"(?<![A-Za-z\d_.])"
    r"(?P<number>[+-]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d*[.,]?\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?)"
)
_EXPRESSION = re.compile(rf"([+-]?\\[dt]?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}})|{_NUMBER}")
_DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2}|\d{4,})$|^([+-]?0),(\d+)$")
# Text allowed between the boxes or formulas of one enumeration.
_BETWEEN = re.compile(
    r"(?:[\s,;$.]|\\[()\[\],; ]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b|\b[A-Za-z](?:_\d)?\s*=)*"
)
_FEW = 3  # words of an answer in words
# Special tokens that some servers leave at the end of a text.
_ENDING = re.compile(r"<\|[a-z_]{1,40}\|>|</s>|<eos>|<end_of_turn>|<\uff5c[^<>]{1,40}\uff5c>")
_MOST_ENDINGS = 20
_MARKED = re.compile(r"####[ \t]++(\S[^\n]{0,2000})$")
_BRACE = re.compile(r"(?<!\\)[{}]")
_ENDS_IN_A_NUMBER = re.compile(r"\d[})\s]*$")
_UNIT = re.compile(
    r"(?:\\[,;: ]|[~ $])*+(?:(?P<text>\\(?:text|mathrm|rm)\s*+\{[^{}]*+\}(?:\^\{?-?\d\}?)?)"
    r"|(?<=[~ $])(?P<plain>[A-Za-zµμΩ°]{1,12}(?:[/^*·][A-Za-z\d]{1,6}){0,3}))(?=[\s$]*+(?:[.,;:!)]|\n|$))"
)
_NO_UNITS = ("in", "a", "at", "min", "as", "am", "pm")  # words that are units too
_SENTENCE = re.compile(r"\b(?:is|are|equals)\s+")
# "8 (the old ones) + 6 (the new ones) = 14", "Ben now has 2 + 7 = 9"
_TERM = r"[+-]?\d+(?:\.\d+)?(?:\s*\([A-Za-z][^()=\d]*\))?"
_IN_WORDS = re.compile(
    rf"^(?=[^=]*[A-Za-z]{{2}})(?:[A-Za-z][^-=+*/\d\\]*\s)?{_TERM}(?:\s*[-+*/×]\s*{_TERM})+\s*=\s*{_NUMBER}$"
)
_BULLET = re.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.)])\s+\S")
_SENTENCE_END = re.compile(r"(?<=[a-z]{4})[.!?]\s+(?=[A-Z])|[。！？]")  # not after `St.` or an initial
_REASON = re.compile(r",?(?<!\s)\s++(?:since|because|as|which|where|so)\b|\s[-–—]\s(?=[A-Za-z]{2})")


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
    text = _without_endings(text)
    if "declared" in find and (final := says_final(text)):
        answer = _declared(final)
        if _has_content(answer) or not _boxes(text):  # `Final answer: see the box above`
            return answer
    return next((answer for place in find if (answer := PLACES[place](text))), "")


def _without_endings(text: str) -> str:
    for _ in range(_MOST_ENDINGS):
        text = text.rstrip()
        start = text.rfind("<", max(0, len(text) - 50))
        if start < 0 or not _ENDING.fullmatch(text, start):
            break
        text = text[:start]
    return text


def _has_content(answer: str) -> bool:
    return bool(re.search(r"[\d\\=^]", answer) or chosen_letter(answer) or len(answer.split()) < _FEW)


def last_boxed(text: str, *, distinct: bool = True) -> str:
    """Content of the last `\\boxed{...}` with balanced braces; empty if there is none.

    Boxes are never concatenated, but boxes separated only by commas, `and` or `or` are joined into a list.
    """
    return _enumerated(text, _boxes(text), distinct=distinct)


def boxed_quantity(text: str) -> str:
    r"""The same, with the unit that stands right after the box of a number.

    >>> boxed_quantity(r"It is \boxed{10}\text{ km/h}."), boxed_quantity(r"\boxed{10} in total")
    ('10\\text{ km/h}', '10')
    """
    boxes = _boxes(text)
    answer = _enumerated(text, boxes)
    unit = _UNIT.match(text, boxes[-1][1]) if boxes and _ENDS_IN_A_NUMBER.search(answer) else None
    return answer + _measured(unit["text"] or unit["plain"]) if unit else answer


def _measured(name: str) -> str:
    """A unit as text; empty if it is none, or a counted noun, which may be missing."""
    plain = not name.startswith("\\")
    known = not plain or all(is_bare_unit(word) for word in re.findall(r"[A-Za-z]+", name))
    unit = unit_of(name) if known and name not in _NO_UNITS else None
    if unit is None or "[" not in unit.dimension:
        return ""
    return rf"\text{{ {name}}}" if plain else name


def _boxes(text: str) -> list[tuple[int, int, int, int]]:
    """Start and end of each box, then start and end of its content."""
    closing = _closing_braces(text)
    found = []
    for match in _BOXED.finditer(text):
        if match["bare"]:
            found.append((match.start(), match.end(), match.start("bare"), match.end()))
        elif (end := closing.get(match.end() - 1)) is not None:
            found.append((match.start(), end + 1, match.end(), end))
    return found


def _enumerated(text: str, found: Sequence[tuple[int, int, int, int]], *, distinct: bool = True) -> str:
    """The last of the matches in a text, with those enumerated right before it; empty matches are skipped.

    Args:
        text: the text searched.
        found: start and end of each match, then start and end of its content.
        distinct: whether a repeated content counts once.
    """
    members: list[str] = []
    next_start = None
    for start, end, inside, outside in reversed(found):
        if next_start is not None and not _joins(text[end:next_start]):
            break
        if content := text[inside:outside].strip():
            next_start = start
            members.append(content)
    members.reverse()
    return ", ".join(dict.fromkeys(members) if distinct else members)


def _joins(between: str) -> bool:
    words = bool(re.search(r"[,;]|and|or", between))
    return words and "\n\n" not in between and "." not in between and bool(_BETWEEN.fullmatch(between))


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


def _declared(text: str) -> str:
    """The last declaration that contains a number, a formula or a letter; or what is marked as the answer."""
    return _marked(text) or next(iter(declarations(text)), "")


def _marked(text: str) -> str:
    """The text after `####` in the last line, or within the last `<answer>`."""
    before, tag, _ = text.rpartition("</answer>")
    if tag and "<answer>" in before:
        return _whole(before.rpartition("<answer>")[2].strip())
    last = _MARKED.match(text.rstrip().rpartition("\n")[2])
    return _whole(last[1].strip()) if last else ""


def declarations(text: str) -> list[str]:
    """Declared answers, the last one first; those without content come at the end."""
    places = deque((match.end() for match in _DECLARED.finditer(text)), maxlen=_MOST_DECLARED)
    answers = [_of_declaration(text, place) for place in reversed(places)]
    return sorted(answers, key=lambda answer: not (re.search(r"[\d\\=^]", answer) or chosen_letter(answer)))


def last_declared(text: str) -> str:
    """The last declared answer as it is written, for answers that are not mathematics; empty if there is none.

    It is a formula, a block of bullets, or a line up to the end of its first sentence.
    """
    places = deque((match.end() for match in _DECLARED.finditer(text)), maxlen=1)
    if not places:
        return ""
    given = text[places[0] : places[0] + _LONGEST]
    if formula := next(_formulas(given, only_at_start=True), None):
        return given[formula[2] : formula[3]].strip()
    lines = given.splitlines()
    bullets = list(takewhile(_BULLET.match, lines))
    if len(bullets) > 1:
        return "\n".join(line.strip() for line in bullets)
    return _SENTENCE_END.split(lines[0].replace("**", "").strip())[0].strip().rstrip("*.。")


def says_final(text: str) -> str:
    """The text from a "Final Answer:" after the last box, which takes precedence over it; empty if there is none."""
    finals = [match.start() for match in _FINAL.finditer(text)]
    return text[finals[-1] :] if finals and not _BOXED.search(text, finals[-1]) else ""


def _of_declaration(text: str, place: int) -> str:
    line = text[place : place + _LONGEST]
    continental = not re.search(r"(?i)(?:answer|ans)\W*$", _IS_AT_END.sub("", text[max(0, place - 30) : place]))
    if formula := next(_formulas(line, only_at_start=True), None):
        return _with_what_follows(line, formula)
    line = line.partition("\n")[0]
    if continental and (decimal := _CONTINENTAL.match(line)):
        return f"{decimal[1]}.{decimal[2]}"
    answer = re.split(rf"\.\s(?!(?:{SPECIES})\b)|。", line.strip().strip("*").strip())[0]
    answer = _POLITE.sub("", re.sub(r"[.。]\s*$", "", _REASON.split(answer)[0])).strip().rstrip("*")
    if len(answer) < _LONGEST // 5 and (computed := _IN_WORDS.match(answer)):
        return computed["number"]
    if re.match(_NUMBER, answer) or chosen_letter(answer):
        return _IN_ALL.sub("", answer)
    return _of_sentence(_SENTENCE.split(answer)[-1])


_IS_AT_END = re.compile(rf"(?i){_IS}$")
_CONTINENTAL = re.compile(r"\s*([+-]?\d+),(\d{1,2}|\d{4,})(?=\s*(?:[.!。]|$|[^\W\d]))")
_POLITE = re.compile(r"(?:です|でした|である|だ|입니다|이다|이에요|예요|है|हैं)\s*[.。!]?\s*$")
_IN_ALL = re.compile(r"\s+(?:in (?:all|total)|altogether)$")
_NEXT = re.compile(r"(?:\s|[,;]|\b(?:and|or)\b)*")
_CLAUSE_END = re.compile(r"[.!?。](?=\s|$)|\n|[。！？]")
_CHANGES = re.compile(
    r"(?i)\b(?:less|more|fewer|greater|smaller|larger|than|least|most|not|between|minus|plus|times|divided|multiplied|over|"
    r"under|below|above|half|twice|double|almost|nearly|percent|mod|modulo|squared|cubed|to|choose|million|billion|thousand|"
    r"hundred|dozen|thirds?|halves|quarters?)\b|[-+*/^=<>%!×÷]"
)


def _with_what_follows(line: str, formula: tuple[int, int, int, int]) -> str:
    """A formula with those enumerated after it; with the rest of its clause where that changes its value."""
    answer, rest = line[formula[2] : formula[3]].strip(), line[formula[1] :]
    members = [answer]
    while (joined := _NEXT.match(rest)) and re.search(r"[,;]|and|or", joined[0]):
        following = next(_formulas(rest[joined.end() :], only_at_start=True), None)
        if following is None:
            break
        after = rest[joined.end() :]
        members.append(after[following[2] : following[3]].strip())
        rest = after[following[1] :]
    clause = _POLITE.sub("", _REASON.split(_CLAUSE_END.split(rest, maxsplit=1)[0])[0]).strip(" *,")
    answer = ", ".join(members)
    if not clause or clause.startswith("("):
        return answer
    if unit := _UNIT.match(f" {clause}"):
        return answer + _measured(unit["text"] or unit["plain"]) if unit.end() == len(clause) + 1 else answer
    if _CHANGES.search(clause) or re.search(r"\d|\$", clause):
        return f"{answer} {clause}".replace("$", "")
    return answer


def _whole(answer: str) -> str:
    """An answer without dollars around it."""
    formula = next(_formulas(answer, only_at_start=True), None)
    return _with_what_follows(answer, formula) if formula else answer.rstrip(".").strip()


def _formulas(text: str, *, only_at_start: bool = False) -> Iterator[tuple[int, int, int, int]]:
    r"""Start and end of each formula in dollars or in `\(...\)` or `\[...\]`, then start and end of its content."""
    place, unclosed = 0, set[str]()
    while match := (_OPENING.match(text, place) if only_at_start else _OPENING.search(text, place)):
        end = None if match[0] in unclosed else _CLOSINGS[match[0]].search(text, match.end() + 1)
        if end is not None:
            yield match.start(), end.end(), match.end(), end.start()
        else:
            unclosed.add(match[0])
        if only_at_start:
            return
        place = end.end() if end else match.end()


def _of_sentence(answer: str) -> str:
    """`12` from "there are 12 apples in all"; any other text unchanged."""
    numbers = [match["number"] for match in re.finditer(_NUMBER, answer)]
    if numbers and _CHANGES.search(answer.replace(numbers[0], "")):
        return answer
    plain = len(numbers) == 1 and len(re.findall(r"[A-Za-z]{2,}", answer)) > 1 and not re.search(r"[\\=^{]", answer)
    return numbers[0] if plain and not chosen_letter(answer) else answer


def _last_expression(text: str) -> str:
    """The last formula, fraction or number, with those enumerated right before it."""
    formulas = list(_formulas(text))
    covered = iter([*formulas, (len(text), len(text), 0, 0)])
    start, end, *_ = next(covered)
    found = []
    for match in _EXPRESSION.finditer(text):
        while match.start() >= end and end < len(text):
            start, end, *_ = next(covered)
        if not start <= match.start() < end:
            found.append((match.start(), match.end(), match.start(), match.end()))
    both = sorted([*formulas, *found])
    answer = _enumerated(text, both)
    return _DECIMAL_COMMA.sub(r"\1\3.\2\4", answer) if both and both[-1] in found[-1:] else answer


PLACES = {"boxed": boxed_quantity, "declared": _declared, "last_expression": _last_expression}
