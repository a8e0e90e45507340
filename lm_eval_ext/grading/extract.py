"""The final answer in a model's output: what follows the thinking, and in that the last thing declared final."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from lm_eval_ext.errors import TaskError

logger = logging.getLogger("lm_eval.tts")

# Markers that end the thinking, and those that open it, in the text of models that know nothing of our Generation.
_ENDS = (
    "</think>",
    "[/THINK]",
    "</seed:think>",
    "<|END_THINKING|>",
    "<|im_start|>answer",
    "<|channel|>final<|message|>",
)
_STARTS = (
    "<think>",
    "[THINK]",
    "<seed:think>",
    "<|START_THINKING|>",
    "<|im_start|>think",
    "<|channel|>analysis",
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
# What follows "answer is" or "Answer:", or a heading of its own, markdown or not, in any language.
_LATIN = r"answer|respuesta|réponse|antwort|risposta|resposta|odpowiedź|cevap|jawaban|đáp án|ответ|відповідь"
_OTHER = r"答案|解答|答え|答|정답|답|الجواب|الإجابة|उत्तर|উত্তর|คำตอบ"
_ANSWER = rf"(?:\b(?:{_LATIN})\b|{_OTHER})"
_IS_WORD = r"(?:is|es|est|ist|è|é|là|adalah|это)\b|[:=：是为為はは은는هو]|है"
# Quantifiers give nothing back (`*+`): an output may be a hundred thousand line breaks.
_NO_REPEAT = rf"(?!\W*+(?:final\s++)?{_ANSWER})"
_NO_OTHER = rf"(?!\W*+(?:the\s++)?(?:final\s++)?{_ANSWER})"
_IS = rf"(?:\**+\s*+(?:{_IS_WORD})++[\s:：*]*+|(?<=answer)\**+[ \t]*+\n\s*+)"
_DECLARED = re.compile(rf"(?i){_ANSWER}{_IS}{_NO_OTHER}(?P<answer>\S[^\n]*)")
_FINAL = re.compile(rf"(?i)(?:\bfinal\s++answer\b|最终答案|最終答案)\**+\s*+[:：][\s*]*+{_NO_REPEAT}\S")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = (
    r"(?<![A-Za-z\d_.])"
    r"(?P<number>[+-]?(?:\d{1,3}(?:[ ,]\d{3})+(?!\d)(?:\.\d+)?|\d*[.,]?\d+)(?:\s*/\s*\d+)?(?:\s*\\?%)?)"
)
_EXPRESSION = re.compile(rf"{_FORMULA.pattern}|([+-]?\\[dt]?frac\{{[^{{}}]*\}}\{{[^{{}}]*\}})|{_NUMBER}", re.DOTALL)
_DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2}|\d{4,})$|^([+-]?0),(\d+)$")
# What may stand between the members of one enumeration of boxes or formulas.
_BETWEEN = re.compile(r"(?:[\s,;$.]|\\[()\[\],; ]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)*")
_BRACE = re.compile(r"(?<!\\)[{}]")
_SENTENCE = re.compile(r"\b(?:is|are|equals)\s+")
# "8 (the old ones) + 6 (the new ones) = 14", "Ben now has 2 + 7 = 9"
_TERM = r"[+-]?\d+(?:\.\d+)?(?:\s*\([A-Za-z][^()=\d]*\))?"
_IN_WORDS = re.compile(
    rf"^(?=[^=]*[A-Za-z]{{2}})(?:[A-Za-z][^-=+*/\d\\]*\s)?{_TERM}(?:\s*[-+*/×]\s*{_TERM})+\s*=\s*{_NUMBER}$"
)
_REASON = re.compile(r",?\s+(?:since|because|as|which|where|so)\b|\s[-–—]\s(?=[A-Za-z]{2})")
_NAMED = r"(?:(?:the\s+)?(?:answer|option|choice)\b\W*(?:is\b)?\W*)?"
_LETTER = re.compile(rf"(?i:^\W*(?:\\(?:text|math)\w*\{{)?\W*{_NAMED})([A-H])(?=$|[^A-Za-z0-9_])")


class Extractor:
    """Finds the answers of all samples of a task.

    Args:
        find: where, in this order: `boxed`, `declared` ("The answer is ...", "Answer: ..."), `last_expression` (the
            last formula or number; it takes what was meant as a step for an answer).
        thinking_end: what ends the thinking, besides the known markers.

    Raises:
        TaskError: a place to look in that is not one of these.
    """

    def __init__(self, find: Sequence[str] = ("boxed", "declared"), thinking_end: str | None = None) -> None:
        if isinstance(find, str) or not find or not set(find) <= _PLACES.keys():
            raise TaskError(f"find={find!r} of an answer filter; allowed: a list of {', '.join(_PLACES)}")
        self.find = tuple(find)
        self.thinking_end = thinking_end

    def answers(self, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """The final answer of every sample by question; empty where a sample has none."""
        needs_end = self.thinking_end is not None or _starts_in_the_prompt(questions)
        if needs_end:
            _warn_of_cut_samples(questions, (self.thinking_end or _ENDS[0], *_ENDS))
        return [[self._answer(output, needs_end) for output in samples] for samples in questions]

    def _answer(self, output: str, needs_end: bool) -> str:
        ends = (self.thinking_end, *_ENDS) if self.thinking_end else _ENDS
        return final_answer(output, self.find, ends, needs_end=needs_end)


def _warn_of_cut_samples(questions: Sequence[Sequence[str]], ends: Sequence[str]) -> None:
    texts = [output for samples in questions for output in samples if not hasattr(output, "answer")]
    cut = sum(not any(end in output for end in ends) for output in texts)
    if cut:
        logger.warning("%d of %d samples do not end their thinking, as others do: they have no answer", cut, len(texts))


def _starts_in_the_prompt(questions: Sequence[Sequence[str]]) -> bool:
    """Whether these are texts of a thinking model whose prompt opens the thinking: one ends what it did not start.

    A text among them without any marker then was cut in its thinking.
    """
    return any(
        any(end in output for end in _ENDS) and not any(start in output for start in _STARTS)
        for samples in questions
        for output in samples
        if not hasattr(output, "answer")
    )


def answer_part(output: str, ends: Sequence[str] = _ENDS, *, needs_end: bool = False) -> str | None:
    """The part after the thinking; None where the output was cut before it ended.

    A generation of ours says itself what its answer is; in any other text the markers are looked for, and a text
    without any of them is all answer, unless it `needs_end`.
    """
    if hasattr(output, "answer"):
        answer: str | None = output.answer
        return answer
    last_end = max((output.rfind(end) + len(end) for end in ends if end in output), default=-1)
    if last_end >= 0:
        reopened = any(start in output[last_end:] for start in _STARTS)
        return None if reopened else output[last_end:]
    return None if needs_end or any(start in output for start in _STARTS) else output


def final_answer(
    output: str,
    find: Sequence[str] = ("boxed", "declared"),
    ends: Sequence[str] = _ENDS,
    *,
    needs_end: bool = False,
) -> str:
    """The last `\\boxed{}` after the thinking, else what is declared as the answer; empty where there is none.

    A "Final Answer:" that comes after the last box takes its place.
    """
    text = answer_part(output, ends, needs_end=needs_end)
    if text is None:
        return ""
    finals = [match.start() for match in _FINAL.finditer(text)] if "declared" in find else []
    if finals and not _BOXED.search(text, finals[-1]):
        return _declared(text[finals[-1] :])
    return next((answer for place in find if (answer := _PLACES[place](text))), "")


def last_boxed(text: str) -> str:
    """Content of the last `\\boxed{...}` with balanced braces; empty where there is none.

    Boxes are never run together; an enumeration, nothing but commas, `and` and `or` between its boxes, is a list.
    """
    closing = _closing_braces(text)
    boxes = [(match.start(), match.end(), closing.get(match.end() - 1)) for match in _BOXED.finditer(text)]
    found = [(start, end + 1, text[inside:end].strip()) for start, inside, end in boxes if end is not None]
    return _enumerated(text, [box for box in found if box[2]])


def _enumerated(text: str, found: Sequence[tuple[int, int, str]]) -> str:
    """The last of what was found in a text (start, end, content), with those enumerated right before it."""
    members: list[str] = []
    next_start = None
    for start, end, content in reversed(found):
        if next_start is not None and not _joins(text[end:next_start]):
            break
        next_start = start
        members.insert(0, content)
    return ", ".join(dict.fromkeys(members))


def _joins(between: str) -> bool:
    words = bool(re.search(r"[,;]|and|or", between))
    return words and "\n\n" not in between and "." not in between and bool(_BETWEEN.fullmatch(between))


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace that is closed closes; an escaped brace is a symbol."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            closing[opened.pop()] = brace.start()
    return closing


def _declared(text: str) -> str:
    """What the last declaration says that says something: a number, a formula, a letter."""
    answers = [_of_declaration(text, match) for match in _DECLARED.finditer(text)]
    telling = [answer for answer in answers if re.search(r"[\d\\=^]", answer) or _LETTER.match(answer)]
    return (telling or answers or [""])[-1]


def _of_declaration(text: str, match: re.Match[str]) -> str:
    formula = _FORMULA.match(text, match.start("answer"))
    if formula:
        return next(group for group in formula.groups() if group).strip()
    answer = re.split(r"\.\s|。", match["answer"].strip().strip("*").strip())[0]
    answer = re.sub(r"[.。]\s*$", "", _REASON.split(answer)[0]).strip()
    if computed := _IN_WORDS.match(answer):
        return computed["number"]
    if re.match(_NUMBER, answer) or _LETTER.match(answer):
        return answer
    return _of_sentence(_SENTENCE.split(answer)[-1])


def _of_sentence(answer: str) -> str:
    """The number of "there are 12 apples in all"; what is no such sentence stays as it is."""
    numbers = [match["number"] for match in re.finditer(_NUMBER, answer)]
    plain = len(numbers) == 1 and len(re.findall(r"[A-Za-z]{2,}", answer)) > 1 and not re.search(r"[\\=^{]", answer)
    return numbers[0] if plain and not _LETTER.match(answer) else answer


def _last_expression(text: str) -> str:
    return _enumerated(text, [(match.start(), match.end(), _content(match)) for match in _EXPRESSION.finditer(text)])


def _content(match: re.Match[str]) -> str:
    if match["number"]:
        return _DECIMAL_COMMA.sub(r"\1\3.\2\4", match["number"])
    return next(group for group in match.groups() if group).strip()


_PLACES = {"boxed": last_boxed, "declared": _declared, "last_expression": _last_expression}


def choice_letter(answer: str) -> str:
    """The letter in a final answer to a multiple-choice question; empty where there is none."""
    match = _LETTER.match(answer)
    return match[1] if match else ""
