"""The final answers of all samples of a task, as its filter asks for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.extraction import ChoiceExtractor, Extractor
from lm_eval_ext.grading.grading import grades
from lm_eval_ext.grading.letters import ALL

TRACE = ("thinking_tokens", "answer_tokens", "forced", "looped")  # what our generations know of how they came about

Outputs = Sequence[Sequence[str]]  # texts by question and sample


class Answer(str):
    """A final answer that remembers how its text came about, where the text knows."""

    trace: dict[str, float] | None = None

    @classmethod
    def of(cls, output: str, text: str) -> Answer:
        """The answer `text` that was found in `output`."""
        answer = cls(text)
        if all(hasattr(output, name) for name in TRACE):
            answer.trace = {name: float(getattr(output, name)) for name in TRACE}
        return answer


def math_answers(
    outputs: Outputs,
    docs: Sequence[object],
    gold: str = "answer",
    find: Sequence[str] = ("boxed", "declared"),
    thinking_end: str | None = None,
) -> list[list[Answer]]:
    """The final answer of every sample: the last box after the thinking, or what is declared as the answer.

    They are graded in one go as well, so that metrics, which are asked question by question, find that done.

    Args:
        outputs: texts by question and sample.
        docs: the dataset's rows.
        gold: the dataset's field that holds the gold answer, in any case; where there is none of that name, or it
            holds a whole solution of several lines, answers are graded later, question by question.
        find: where answers are looked for, in this order: `boxed`, `declared`, `last_expression`.
        thinking_end: what ends the thinking, for a stock model whose marker is not among the known ones.

    Raises:
        TaskError: `find` names another place.
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
    letters: str = ALL,
    choices: str = "choices",
    find: Sequence[str] = ("boxed", "declared"),
    thinking_end: str | None = None,
) -> list[list[Answer]]:
    """The letter that every sample chose, of those that its question has.

    Args:
        outputs, docs, find, thinking_end: as of `math_answers`.
        letters: those allowed where a question does not list its choices.
        choices: the dataset's field that does.
    """
    allowed = [_letters_of(doc, choices) or letters for doc in docs]
    return _remembering(outputs, ChoiceExtractor(Extractor(find, thinking_end), allowed).answers(outputs))


def _letters_of(doc: object, choices: str) -> str:
    listed = doc.get(choices) if isinstance(doc, Mapping) else None
    return ascii_uppercase[: len(listed)] if isinstance(listed, (list, tuple)) else ""


def _remembering(outputs: Outputs, found: Sequence[Sequence[str]]) -> list[list[Answer]]:
    return [
        [Answer.of(output, text) for output, text in zip(*question, strict=True)]
        for question in zip(outputs, found, strict=True)
    ]


FINDERS: dict[str, Callable[..., list[list[Answer]]]] = {  # by the names of lm-eval's filters
    "math_answer": math_answers,
    "choice_answer": choice_answers,
}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check the options of a filter before any sample is there.

    Raises:
        TaskError: an option that it has not, or a place to look in that there is not.
    """
    known = list(inspect.signature(FINDERS[name]).parameters)[2:]
    if unknown := next((option for option in options if option not in known), None):
        raise TaskError(f"unknown option {unknown!r} of the filter {name}; expected one of: {', '.join(known)}")
    Extractor(**{option: options[option] for option in ("find", "thinking_end") if option in options})
