"""The letter named by an answer to a multiple-choice question."""

from __future__ import annotations

import re
from functools import cache

ALL = "ABCDEFGHIJ"
_LONGEST = 1_000  # characters in which the letter stands, so that no output takes long to search
_NAMED = r"(?:(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?:answer|option|choice)\b\W*(?:is\b)?\W*)?"
_OPENING = r"(?:\\(?:text|math)\w*\s*\{)?[\s*_$({\[\"'`:]*"
_CORRECT = re.compile(r"(?i)\b(?:correct|right|best)\s+(?:option|choice)\s+(?:is|would be|must be)\b[\s:]*(?=\S)")


def chosen_letter(answer: str, letters: str = ALL) -> str:
    """The one letter that an answer begins with; empty if there is none, or several are named.

    Args:
        answer: a final answer, such as `(C)`, `C. 12 cm` or `option C`.
        letters: the letters that the task allows.

    >>> chosen_letter("(B), since it is even")
    'B'
    """
    match = _pattern(letters).match(answer[:_LONGEST])
    return match[1] if match else ""


@cache
def _pattern(letters: str) -> re.Pattern[str]:
    some = f"[{re.escape(letters)}]"
    closed = r"[\s*_$)}\]\"'`.,:]*"
    others = rf"{closed}(?:\b(?:and|or)\b|&|/)?{closed}(?:\\text\s*\{{)?\s*\(?{some}\)?(?![\w'])"
    article = r"(?<=[AI])\s+[a-z]"  # a sentence that begins with `A` or `I`
    operator = r"[(^=+/\\-]|\s*(?:[=+^]|\\[A-Za-z])|\*(?=\s*\w)"
    end = rf"(?!\w|{operator}|{article}|{others})"
    return re.compile(rf"(?i:^\W*{_NAMED}){_OPENING}({some}){end}")


def letters_named(text: str) -> list[str]:
    """The options or choices that a text calls correct, the last first."""
    return [text[match.end() : match.end() + 200] for match in reversed(list(_CORRECT.finditer(text)))]


def several_letters(answer: str, letters: str = ALL) -> str:
    r"""The letters that an answer consists of, in order; empty if it is anything else.

    >>> several_letters(r"\text{C and A}"), several_letters("(B)"), several_letters("AC"), several_letters("A cat")
    ('A, C', 'B', 'A, C', '')
    """
    text = re.sub(r"\\(?:text|math)\w*|\b(?:and|or|options?|choices?|answers?)\b", " ", answer)
    found = re.findall(r"\w+", text)
    if len(found) == 1:
        found = list(found[0])
    return ", ".join(sorted(set(found))) if found and all(len(one) == 1 and one in letters for one in found) else ""
