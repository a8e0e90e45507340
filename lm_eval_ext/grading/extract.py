"""The final answer in a model's output: what follows the thinking, and in that the last thing declared final."""

from __future__ import annotations

import re

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
# What follows "answer is" or "Answer:", or a heading of its own, markdown or not.
_NO_OTHER = r"(?!\W*(?:final\s+)?answer\b)"
_IS = r"(?:(?:is|:|=)+\s*[:*]*|(?<=answer)\**[ \t]*\n)"
_DECLARED = re.compile(rf"(?i)\banswer\b\**\s*{_IS}\s*{_NO_OTHER}(?P<answer>\S[^\n]*)")
_FINAL = re.compile(rf"(?i)\bfinal\s+answer\b\**\s*:\s*[*]*\s*{_NO_OTHER}\S")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NAMED = r"(?:(?:the\s+)?(?:answer|option|choice)\b\W*(?:is\b)?\W*)?"
_LETTER = re.compile(rf"(?i:^\W*(?:\\(?:text|math)\w*\{{)?\W*{_NAMED})([A-H])(?=$|[^A-Za-z0-9_])")


def answer_part(output: str) -> str | None:
    """The part after the thinking; None where the output was cut before it ended.

    A generation of ours says itself what its answer is; in any other text the known markers are looked for, and
    a text without any of them is all answer.
    """
    if hasattr(output, "answer"):
        answer: str | None = output.answer
        return answer
    last_end = max((output.rfind(end) + len(end) for end in _ENDS if end in output), default=-1)
    if last_end >= 0:
        return output[last_end:]
    return None if any(start in output for start in _STARTS) else output


def final_answer(output: str) -> str:
    """The last `\\boxed{}` after the thinking, else what is declared as the answer; empty where there is none.

    A "Final Answer:" that comes after the last box takes its place.
    """
    text = answer_part(output)
    if text is None:
        return ""
    finals = [match.start() for match in _FINAL.finditer(text)]
    if finals and not _BOXED.search(text, finals[-1]):
        return _declared(text[finals[-1] :])
    return last_boxed(text) or _declared(text)


def last_boxed(text: str) -> str:
    """Content of the last `\\boxed{...}` with balanced braces; empty where there is none."""
    for match in reversed(list(_BOXED.finditer(text))):
        content = _balanced(text, match.end())
        if content is not None:
            return content.strip()
    return ""


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for position in range(start, len(text)):
        if text[position] == "\\":
            continue
        if text[position - 1] == "\\" and text[position] in "{}":  # an escaped brace is a symbol
            continue
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


def _declared(text: str) -> str:
    matches = list(_DECLARED.finditer(text))
    if not matches:
        return ""
    answer = matches[-1]["answer"].strip().strip("*").strip()
    formula = _FORMULA.match(text, matches[-1].start("answer"))
    if formula:
        return next(group for group in formula.groups() if group).strip()
    return re.sub(r"[.。]\s*$", "", re.split(r"\.\s", answer)[0]).strip()


def choice_letter(output: str) -> str:
    """The letter chosen in a multiple-choice answer; empty where there is none."""
    match = _LETTER.match(final_answer(output))
    return match[1] if match else ""
