r"""Finds the final answer in a model's output: a box, what the text declares, or a text that is a value.

What counts is the model's own turn, without what it takes back: `The answer is 5. Wait, that is wrong: it is 6.`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from lm_eval_ext.grading.boxes import NUMBER, Box, boxed_quantity, boxes_in, enumerated, formulas_in
from lm_eval_ext.grading.concluding import concluded, last_side, said_last
from lm_eval_ext.grading.declarations import (
    MARKUP,
    clause,
    declared,
    last_declared,
    said_after,
    said_before_remarks,
    without_denied,
)
from lm_eval_ext.grading.words import alternatives
from lm_eval_ext.thinking_formats import answer_after_thinking

_EXPRESSION = re.compile(rf"[+-]?\\[dt]?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}}|(?<![A-Za-z\d_.]){NUMBER}")
_DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2}|\d{4,})$|^([+-]?0),(\d+)$")


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
    find: Sequence[str] = ("boxed", "declared", "concluded"),
    ends: Sequence[str] = (),
    *,
    needs_end: bool = False,
) -> str:
    """The last `\\boxed{}` after the thinking, else what is declared, else what the text concludes with; or empty.

    A "Final Answer:" after the last box takes precedence over it, and so does any other value that is declared there.
    """
    text = answer_part(output, ends, needs_end=needs_end)
    if text is None:
        return ""
    return settled(text, lambda some: found_in(some, find), lambda some: found_last(some, find))


def found_in(text: str, find: Sequence[str]) -> str:
    """The answer in a text, such as all after the thinking or a part of that: see `final_answer`."""
    boxes = boxes_in(text) if "boxed" in find else []
    if "declared" in find and boxes and (final := said_before_remarks(text, boxes)):
        return final
    if "declared" in find and (final := said_after(text, boxes[-1].end if boxes else 0)):
        return final
    return next((answer for place in find if (answer := PLACES[place](text))), "")


def found_last(text: str, find: Sequence[str]) -> str:
    """What the last sentence says without any word that concludes: for a text that takes nothing back."""
    return said_last(text) if "concluded" in find else ""


# The model's own turn ---------------------------------------------------------------------------------

# Special tokens that some servers leave in a text; the first ones end a turn.
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|endoftext|end_of_text|end_of_turn|start_header_id|end|return|user)\|>|</s>"
    r"|<eos>|<(?:end|start)_of_turn>|<\uff5c(?:end▁of▁sentence|User)\uff5c>|\[EOS\]|\[/?INST\]"
)
_TOKENS = re.compile(r"(?:(?:<\|[A-Za-z_]{1,40}\|>|<\uff5c[^<>]{1,40}\uff5c>)\s*+)*+\Z")
_PROVED = re.compile(r"\s*\$?\\(?:blacksquare|square|Box|qed)\b\$?\s*\Z")
_LAST = 400  # characters at the end that may be special tokens
# What a model that goes on writes before the next question.
_NEXT = re.compile(
    rf"(?im)^[#*> \t]*+(?:{alternatives('next_question')})(?:[ \t]*+\d*+[ \t]*+\**+[:：]|[ \t]++\d++\.[ \t])"
)
_START = r"(?:^|(?<=[.!?…$}\n—–。！？-]))\s{0,3}"
_INTERJECTION = rf"(?:(?:{alternatives('interjections')})(?!\w)[\s,，、:.!…—–-]*+)"
_TAKEN_BACK = re.compile(
    rf"(?im)(?:{_START}{_INTERJECTION}{{0,4}}|,\s{{0,3}}{_INTERJECTION}{{1,4}})(?:{alternatives('taken_back')})(?!\w)"
    r"[\s,，。:;.!—–-]*+"
)
_RECONSIDERED = re.compile(rf"(?im){_START}{_INTERJECTION}{{1,4}}")
_SAYS_MORE = re.compile(
    rf"(?i)\\boxed|{alternatives('answer', 'other')}|richtig ist|\b(?:{alternatives('answer', 'european')})(?!\w)"
    rf"|\b(?:{alternatives('answer', 'english')}|so|therefore|thus|hence|should (?:be|have been)"
    r"|makes it|forgot)\b"
)
_CORRECTS = re.compile(r"(?i)(?:correction|erratum):")
_CORRECTION = re.compile(r"(?i)(?:correction|erratum|edit|p\.\s?s\.)[:.]")
# What leaves an answer open that was said before, mostly at the end.
_UNDECIDED = re.compile(
    r"(?i)\bI(?: really| honestly| still)? (?:can(?:no|['’])t|am unable to) (?:decide|tell|say)(?: between| which|\W*$)"
    r"|\bignore the (?:box|answer) above|\byou choose\b|\bI made an? (?:mistake|error) above\W*$"
    r"|\bI (?:don['’]t|do not) (?:know which|have a better)"
    r"|\bI(?: can(?:no|['’])t|(?: a|['’])m not able to)"
    r" (?:find the (?:mistake|error|correct|right|answer)|determine|choose)\b[^.]*\.?\W*$"
    r"|\bthe answer above is (?:wrong|incorrect)\W*$|\bnone(?: of (?:the|these|them)[^.]{0,20})? (?:works?|fits?)\W*$"
    r"|\band so is \W*[A-J]\W*$|\b[A-J]\W* is (?:equally|just as) (?:right|correct|good|valid)\W*$"
    r"|\bdepending on (?:the|which|how)\b[^.\n]*\.?\W*$"
    r"|\b(?:under|with) the (?:second|other) (?:interpretation|reading)\b"
)
_REFUTED = (
    r"(?i)\b(?:so|and|thus|hence|therefore|means),? (?:the value )?{}(?: [a-z]+)? (?:is (?:wrong|incorrect"
    r"|not (?:right|correct|possible|valid)|invalid|ruled out)|can(?:no|['’])t be right)"
    r"\W*(?:sorry\W*|i (?:have to|must) (?:discard|reject) it\W*|i (?:don['’]t|do not) have [^.\n]*\W*)?$"
)
# Two answers side by side, of which neither takes the other back: `Answer: 16` and `Answer: 18`.
_SIDE_BY_SIDE = re.compile(
    r"(?i)((?:the |my )?(?:final |correct )*answer(?: is|:)|####)[ *]*([A-J]|-?\d[\d.]*?)[*.]*\s+\1(?: also)?[ *]*"
    r"([A-J]|-?\d[\d.]*?)\W*$"
)
_STRUCK = re.compile(r"(?<!\S)~~(?=\S)[^~\n]{1,100}(?<=\S)~~(?=\s)")
_SHORT = 2  # words of a correction that says nothing else
_MOST_TURNS = 2  # places considered at which a text may go on with something else


def settled(
    text: str,
    answer_in: Callable[[str], str],
    otherwise: Callable[[str], str] = lambda _: "",
    *,
    in_words: bool = False,
) -> str:
    """The answer that stands at the end of the model's own turn.

    Args:
        text: the text after the thinking, perhaps with further turns that the model made up.
        answer_in: finds the answer in a text; empty if there is none.
        otherwise: finds an answer in a text that takes nothing back and where `answer_in` finds none.
        in_words: whether answers are words, so that a remark after one looks like another.

    >>> settled("It is 5. No wait, 6.", lambda some: "".join(re.findall(r"\\d", some)))
    '6'
    """
    text = _STRUCK.sub("", own_turn(text, last_declared if in_words else answer_in))
    both = _SIDE_BY_SIDE.search(text[-_LAST:])
    if both and _number_or_letter(both[2]) != _number_or_letter(both[3]):
        return ""
    text = without_denied(text)
    if _UNDECIDED.search(text[-_LAST:]):
        return ""
    for pattern, final in ((_TAKEN_BACK, True), (_RECONSIDERED, False)):
        for match in list(pattern.finditer(text))[: -_MOST_TURNS - 1 : -1]:
            rest = text[match.end() :]
            number = re.search(r"\d[\d.,]*(?<=\d)", match[0])
            if number and number[0] not in answer_in(text[: match.start()]):
                continue  # another value is wrong
            more = (
                final
                or _CORRECTION.search(match[0])
                or len(rest.split()) <= _SHORT
                or _SAYS_MORE.search(rest)
                or _CORRECTED.match(rest)
            )
            if more and (final or not in_words) and answer_in(text[: match.start()]):
                answer = answer_in(rest)
                if answer or final or (_CORRECTS.search(match[0]) and re.search(r"\d", rest)):
                    return answer
    answer = answer_in(text) or otherwise(text)
    number = re.match(NUMBER, answer)
    refuted = number and re.search(_REFUTED.format(re.escape(number[0])), text[-_LAST:])
    return "" if refuted else answer


def _number_or_letter(answer: str) -> Fraction | str:
    try:
        return Fraction(answer.rstrip("."))
    except ValueError:
        return answer.lower()


def own_turn(text: str, answer_in: Callable[[str], str] | None = None) -> str:
    """A text up to its end-of-turn token, or to the next question if `answer_in` has found an answer to the first."""
    while (token := _TURN_END.match(text.lstrip())) is not None:
        text = text.lstrip()[token.end() :]
    if ended := _TURN_END.search(text):
        text = text[: ended.start()]
    text = text[:-_LAST] + _PROVED.sub("", _TOKENS.sub("", text[-_LAST:]))
    if answer_in is None or re.match(r"(?i)\W*Q\s?1\b", text):  # `Q1` begins parts of its own
        return text
    for _, match in zip(range(_MOST_TURNS), _NEXT.finditer(text), strict=False):
        if match.start() and answer_in(text[: match.start()]):
            return text[: match.start()].rstrip()
    return text


# Places to look ---------------------------------------------------------------------------------------

_CORRECTED = re.compile(
    r"(?i)^(?:(?:it|that)(?: is|['’]s| must be| should (?:be|have been))\s+|应该是|應該是|应为|正しくは"
    r"|richtig ist(?: also)?\s+)"
)
_ALONE = re.compile(rf"(?:[$€£]?{NUMBER}(?:\s+[^\W\d_]+)?|\((?:\s*{NUMBER}\s*,)+\s*{NUMBER}\s*\))")
_LINE = 100  # characters of a text that may be nothing but its answer


def _declared(text: str) -> str:
    return declared(text) or _alone(text)


def _alone(text: str) -> str:
    """A text that is nothing but a value, in one line; empty for any other."""
    plain = _CORRECTED.sub("", MARKUP.sub("", text).strip().rstrip(".。").replace("−", "-"))
    plain = plain.removesuffix("です")
    if not plain or len(plain) > _LINE or "\n" in plain:
        return ""
    formula = next(formulas_in(plain, only_at_start=True), None)
    whole = formula is not None and formula.end == len(plain)
    if whole:
        return last_side(clause(plain, kind="english"))
    return _DECIMAL_COMMA.sub(r"\1\3.\2\4", clause(plain, kind="english")) if _ALONE.fullmatch(plain) else ""


def _last_expression(text: str) -> str:
    """The last formula, fraction or number, with those enumerated right before it."""
    formulas = list(formulas_in(text))
    covered = iter([*formulas, Box(len(text), len(text), 0, 0)])
    current = next(covered)
    found = []
    for match in _EXPRESSION.finditer(text):
        while match.start() >= current.end and current.end < len(text):
            current = next(covered)
        if not current.start <= match.start() < current.end:
            found.append(Box(match.start(), match.end(), match.start(), match.end()))
    both = sorted([*formulas, *found])
    answer = enumerated(text, both)
    return _DECIMAL_COMMA.sub(r"\1\3.\2\4", answer) if both and both[-1] in found[-1:] else answer


PLACES = {
    "boxed": boxed_quantity, "declared": _declared, "concluded": concluded, "last_expression": _last_expression,
}  # fmt: skip
