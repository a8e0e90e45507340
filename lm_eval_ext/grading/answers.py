"""The final answers of all samples of a task, as its filter extracts them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval_ext.choices import LETTERS, texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.extractors import (
    ChoiceExtractor,
    Extractor,
    JsonExtractor,
    ListExtractor,
    TextExtractor,
)
from lm_eval_ext.grading.grading import grades
from lm_eval_ext.grading.letters import ALL

PLACES = ("boxed", "declared")  # where answers are looked for, unless a task says otherwise
TRACE = ("thinking_tokens", "answer_tokens", "forced", "looped")  # what our generations record about themselves

Outputs = Sequence[Sequence[str]]  # texts by question, then sample


class Answer(str):
    """A final answer that carries the trace of the generation it came from, if it has one.

    `options` is the number of letters that the question allows; None for a free-form answer.
    """

    trace: dict[str, float] | None = None
    options: int | None = None

    @classmethod
    def of(cls, output: str, text: str) -> Answer:
        """The answer `text`, found in `output`."""
        answer = cls(text)
        if all(hasattr(output, name) for name in TRACE):
            answer.trace = {name: float(getattr(output, name)) for name in TRACE}
        return answer


def math_answers(
    outputs: Outputs,
    docs: Sequence[object],
    gold: str = "answer",
    find: Sequence[str] = PLACES,
    thinking_end: str | None = None,
) -> list[list[Answer]]:
    """The final answer of every sample: the last box after the thinking, or the declared answer.

    Also grades them all at once, so that metrics, which run question by question, find the verdicts cached.

    Args:
        outputs: texts by question, then sample.
        docs: the dataset's rows.
        gold: the dataset's field with the gold answer, case-insensitive. If no such field exists, or it holds a whole
            solution of several lines, answers are graded later, question by question.
        find: where to look for answers, in this order: `boxed`, `declared`, `last_expression`.
        thinking_end: the marker that ends the thinking, for a stock model whose marker is not a known one.

    Raises:
        TaskError: `find` names an unknown place.
    """
    answers = _remembering(outputs, Extractor(find, thinking_end).answers(outputs))
    golds = [_field(doc, gold) for doc in docs]
    grades([(gold, answer) for gold, some in zip(golds, answers, strict=True) if gold for answer in some])
    return answers


def _field(doc: object, name: str) -> str | None:
    fields = {str(key).lower(): value for key, value in doc.items()} if isinstance(doc, Mapping) else {}
    value = fields.get(name.lower())
    return str(value) if isinstance(value, (str, int)) and "\n" not in str(value) else None


def choice_answers(
    outputs: Outputs,
    docs: Sequence[object],
    letters: str = "",
    choices: str | Sequence[str] = "choices",
    several: bool = False,
    find: Sequence[str] = PLACES,
    thinking_end: str | None = None,
) -> list[list[Answer]]:
    """The letter that each sample chose, among the letters of its question.

    Args:
        outputs, docs, find, thinking_end: as in `math_answers`.
        letters: the allowed letters if a question does not list its choices; by default A to J.
        choices: the dataset's field that lists the choices, or one field per choice.
        several: whether an answer is a set of letters, such as `A, C`.
    """
    listed = [_letters_of(doc, [choices] if isinstance(choices, str) else choices) for doc in docs]
    allowed = [some or letters or ALL for some in listed]
    extractor = ChoiceExtractor(Extractor(find, thinking_end), allowed, several=several)
    answers = _remembering(outputs, extractor.answers(outputs))
    for question, some in zip(answers, listed, strict=True):
        for answer in question:
            answer.options = len(some) or len(letters) or None
    return answers


def _letters_of(doc: object, choices: Sequence[str]) -> str:
    """The letters of a question that lists its choices; empty for any other, and if the row was not saved."""
    try:
        return LETTERS[: len(texts(doc, choices))] if isinstance(doc, Mapping) else ""
    except TaskError:
        return ""


def text_answers(
    outputs: Outputs, docs: Sequence[object], find: Sequence[str] = PLACES, thinking_end: str | None = None
) -> list[list[Answer]]:
    """The answer of every sample in words; arguments as in `math_answers`."""
    return _remembering(outputs, TextExtractor(find, thinking_end).answers(outputs))


def number_answers(
    outputs: Outputs, docs: Sequence[object], find: Sequence[str] = PLACES, thinking_end: str | None = None
) -> list[list[Answer]]:
    """The number that every sample gives; arguments as in `math_answers`."""
    return _remembering(outputs, Extractor(find, thinking_end).answers(outputs))


def list_answers(
    outputs: Outputs, docs: Sequence[object], find: Sequence[str] = PLACES, thinking_end: str | None = None
) -> list[list[Answer]]:
    """The items that every sample gives, as written; arguments as in `math_answers`."""
    return _remembering(outputs, ListExtractor(find, thinking_end).answers(outputs))


def expression_answers(
    outputs: Outputs, docs: Sequence[object], find: Sequence[str] = PLACES, thinking_end: str | None = None
) -> list[list[Answer]]:
    """The expression that every sample gives; arguments as in `math_answers`."""
    return _remembering(outputs, TextExtractor(find, thinking_end).answers(outputs))


def json_answers(outputs: Outputs, docs: Sequence[object], thinking_end: str | None = None) -> list[list[Answer]]:
    """The JSON that every sample gives; arguments as in `math_answers`."""
    return _remembering(outputs, JsonExtractor(thinking_end=thinking_end).answers(outputs))


def _remembering(outputs: Outputs, found: Sequence[Sequence[str]]) -> list[list[Answer]]:
    return [
        [Answer.of(output, text) for output, text in zip(*question, strict=True)]
        for question in zip(outputs, found, strict=True)
    ]


FINDERS: dict[str, Callable[..., list[list[Answer]]]] = {  # by lm-eval filter name
    "math_answer": math_answers,
    "choice_answer": choice_answers,
    "text_answer": text_answers,
    "number_answer": number_answers,
    "list_answer": list_answers,
    "json_answer": json_answers,
    "expression_answer": expression_answers,
}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the options of a filter before any sample is generated.

    Raises:
        TaskError: an unknown option, or an unknown place in `find`.
    """
    known = list(inspect.signature(FINDERS[name]).parameters)[2:]
    if unknown := next((option for option in options if option not in known), None):
        raise TaskError(f"unknown option {unknown!r} of the filter {name}; expected one of: {', '.join(known)}")
    Extractor(**{option: options[option] for option in ("find", "thinking_end") if option in options})
