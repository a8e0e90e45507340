"""Prompt and gold letter of a multiple-choice benchmark, from a dataset's columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.letters import ALL
from lm_eval_ext.runs.untrusted import sequence

INSTRUCTION = "Please reason step by step, and put the letter of your final answer within \\boxed{}."


def as_choices(
    records: Sequence[Mapping[str, object]], question: str, answer: str, choices: Sequence[str]
) -> list[str]:
    """YAML lines of a task whose answer is a letter.

    Args:
        records: the dataset's records.
        question: the field with the question.
        answer: the field with the correct choice: its letter, its index from 0 or from 1, or its text.
        choices: the field with a list of choices, or one field per choice.

    Raises:
        TaskError: there are more choices than letters, or the answer is not one of the choices.
    """
    listed = len(choices) == 1
    options = [sequence(record[choices[0]]) if listed else [record[name] for name in choices] for record in records]
    if any(not 1 < len(some) <= len(ALL) for some in options):
        raise TaskError(
            f"choices={', '.join(choices)}: expected a field with a list of 2 to {len(ALL)}, or one field per choice"
        )
    several = choices[0] if listed else f"[{', '.join(choices)}]"
    target = _target([record[answer] for record in records], options, answer, several)
    shown = "{% for choice in " + several + " %}" + f"{{{{ '{ALL}'[loop.index0] }}}}" + ". {{ choice }}\n{% endfor %}"
    letters = f"choices: {choices[0]}" if listed else f"letters: {ALL[: len(choices)]}"
    text = f"{{{{{question}}}}}\n\n{shown}\n{INSTRUCTION}"
    return [
        "include: ../_choice",
        f"doc_to_text: {json.dumps(text)}",
        f"doc_to_target: {json.dumps(target)}",
        f"filter_list: [{{name: answer, filter: [{{function: choice_answer, {letters}}}]}}]",
    ]


def _target(golds: Sequence[object], options: Sequence[Sequence[object]], answer: str, several: str) -> str:
    """A template that renders the gold letter."""
    pairs = list(zip(golds, options, strict=True))
    if all(isinstance(gold, str) and gold.strip() in ALL[: len(some)] and gold.strip() for gold, some in pairs):
        return f"{{{{ {answer} | trim }}}}"
    if all(gold in some for gold, some in pairs):
        return f"{{{{ '{ALL}'[{several}.index({answer})] }}}}"
    if all(str(gold).strip().isdecimal() for gold in golds):
        first = 0 if any(int(str(gold)) == 0 for gold in golds) else 1
        if all(first <= int(str(gold)) < first + len(some) for gold, some in pairs):
            return f"{{{{ '{ALL}'[({answer} | int) - {first}] }}}}"
    raise TaskError(f"answer={answer}: not a letter, an index or the text of a choice in every record")
