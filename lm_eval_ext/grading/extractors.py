"""Extractors find the final answers of all samples of a task, one class for each kind; their fields are its options."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lm_eval_ext.choices import LETTERS, texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.extraction import (
    PLACES,
    answer_part,
    declarations,
    final_answer,
    last_boxed,
    last_declared,
)
from lm_eval_ext.grading.grading import grades
from lm_eval_ext.grading.letters import ALL, capital, chosen_letter, letters_named, several_letters, several_named
from lm_eval_ext.grading.structure import json_in
from lm_eval_ext.thinking_formats import ends_thinking, opens_thinking

logger = logging.getLogger("lm_eval.tts")

TRACE = ("thinking_tokens", "answer_tokens", "forced", "looped")  # what our generations record about themselves
_SHORT = 200  # characters of a text that may be nothing but a letter and its choice
_ONE_LINE = 100  # characters of a text that may be nothing but its answer
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


@dataclass(frozen=True, kw_only=True)
class _Extractor:
    """Extracts the answers of all samples of a task.

    Attributes:
        thinking_end: a marker that ends the thinking, besides the known ones.
    """

    thinking_end: str | None = None

    def answers(self, outputs: Outputs, docs: Sequence[object] = ()) -> list[list[Answer]]:
        """The final answer of every sample, by question; empty if a sample has none.

        Args:
            outputs: texts by question, then sample.
            docs: the dataset's rows.
        """
        return [
            [Answer.of(output, self.of(part)) for output, part in zip(samples, parts, strict=True)]
            for samples, parts in zip(outputs, self.parts(outputs), strict=True)
        ]

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        raise NotImplementedError

    def parts(self, outputs: Outputs) -> list[list[str]]:
        """The text after the thinking, of every sample; empty if it was cut before."""
        ends, needs_end = self._ends, self.needs_end(outputs)
        return [[answer_part(output, ends, needs_end=needs_end) or "" for output in samples] for samples in outputs]

    def needs_end(self, outputs: Outputs) -> bool:
        """Whether a sample without an end-of-thinking marker was cut while thinking.

        So it is if the model's prompt opens the thinking: then some text ends a thinking that it did not start.
        """
        texts = [output for samples in outputs for output in samples if not hasattr(output, "answer")]
        opened = any(ends_thinking(output) and not opens_thinking(output) for output in texts)
        needed = self.thinking_end is not None or opened
        cut = sum(not ends_thinking(output, self._ends) for output in texts) if needed else 0
        if cut:
            message = "%d of %d samples were cut while thinking (others end it) and have no answer"
            logger.warning(message, cut, len(texts))
        return needed

    @property
    def _ends(self) -> tuple[str, ...]:
        return (self.thinking_end,) if self.thinking_end else ()


@dataclass(frozen=True, kw_only=True)
class Extractor(_Extractor):
    """Extracts answers that are a number or mathematics.

    Attributes:
        find: where to look, in this order: `boxed`, `declared` ("The answer is ...", "Answer: ..."), `last_expression`
            (the last formula or number, which may be just a step of the solution).

    Raises:
        TaskError: `find` names an unknown place.
    """

    find: Sequence[str] = ("boxed", "declared")

    def __post_init__(self) -> None:
        if isinstance(self.find, str) or not self.find or not set(self.find) <= PLACES.keys():
            raise TaskError(f"answer filter: find={self.find!r}; expected a list of: {', '.join(PLACES)}")

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        return final_answer(_Part(text), self.find)


@dataclass(frozen=True, kw_only=True)
class MathExtractor(Extractor):
    """Extracts mathematical answers, and grades them all, so that metrics, question by question, have the verdicts.

    Attributes:
        gold: the dataset's field with the gold answer, case-insensitive. If no such field exists, or it holds a whole
            solution of several lines, answers are graded later.
    """

    gold: str = "answer"

    def answers(self, outputs: Outputs, docs: Sequence[object] = ()) -> list[list[Answer]]:
        """The final answer of every sample: the last box after the thinking, or the declared answer."""
        found = super().answers(outputs)
        golds = [_field(doc, self.gold) for doc in docs]
        grades([(gold, answer) for gold, some in zip(golds, found, strict=False) if gold for answer in some])
        return found


def _field(doc: object, name: str) -> str | None:
    values = {str(key).lower(): value for key, value in doc.items()} if isinstance(doc, Mapping) else {}
    value = values.get(name.lower())
    return str(value) if isinstance(value, (str, int)) and "\n" not in str(value) else None


@dataclass(frozen=True, kw_only=True)
class ChoiceExtractor(Extractor):
    """Extracts the letters that samples chose, among the letters of their question.

    Attributes:
        letters: the allowed letters if a question does not list its choices; by default A to J.
        choices: the dataset's field that lists the choices, or one field per choice.
        several: whether an answer is a set of letters, such as `A, C`.
    """

    letters: str = ""
    choices: str | Sequence[str] = "choices"
    several: bool = False

    def answers(self, outputs: Outputs, docs: Sequence[object] = ()) -> list[list[Answer]]:
        """The letter of every sample; empty if it has none."""
        found = []
        listed = [self._listed(doc) for doc in docs] or [""] * len(outputs)
        for samples, parts, some in zip(outputs, self.parts(outputs), listed, strict=True):
            chosen = [self.chosen(part, some or self.letters or ALL) for part in parts]
            found.append([Answer.of(output, letter) for output, letter in zip(samples, chosen, strict=True)])
            for answer in found[-1]:
                answer.options = len(some) or len(self.letters) or None
        return found

    def _listed(self, doc: object) -> str:
        """The letters of a question that lists its choices; empty for any other, and if the row was not saved."""
        columns = [self.choices] if isinstance(self.choices, str) else self.choices
        try:
            return LETTERS[: len(texts(doc, columns))] if isinstance(doc, Mapping) else ""
        except TaskError:
            return ""

    def chosen(self, text: str, letters: str) -> str:
        """The letter chosen in the text after the thinking, or several in alphabetical order: `A, C`.

        Taken from the final answer; if that names no letter, from a box, a declaration, or a short text as a whole.
        """
        final, *declared = [super().of(text), *declarations(text), *letters_named(text)]
        candidates = [capital(final), capital(last_boxed(text), boxed=True), *map(capital, declared)]
        candidates += [text.strip()] if len(text) < _SHORT else []
        if self.several:
            candidates += several_named(text)
        named = several_letters if self.several else chosen_letter
        return next((found for answer in candidates if (found := named(answer, letters))), "")


@dataclass(frozen=True, kw_only=True)
class TextExtractor(Extractor):
    """Extracts answers in words: a box, else a declaration, else an answer of one short line as a whole."""

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        places = {"boxed": self._boxed, "declared": last_declared}
        answers = (places.get(place, PLACES[place])(text) for place in self.find)
        return next((answer for answer in answers if answer), "") or self._otherwise(text)

    def _boxed(self, text: str) -> str:
        return last_boxed(text)

    def _otherwise(self, text: str) -> str:
        """The answer in a text that neither boxes nor declares it."""
        whole = text.strip()
        one_line = len(whole) <= _ONE_LINE and not re.search(r"\n|[.!?:]\s|\\boxed", whole)
        return whole if one_line else ""


@dataclass(frozen=True, kw_only=True)
class ListExtractor(TextExtractor):
    """Extracts answers with several items: boxes, each as often as it is there, else a declaration or a JSON list."""

    def _boxed(self, text: str) -> str:
        return last_boxed(text, distinct=False)

    def _otherwise(self, text: str) -> str:
        listed = json_in(text)
        return listed if listed.startswith("[") else super()._otherwise(text)


@dataclass(frozen=True, kw_only=True)
class JsonExtractor(_Extractor):
    """Extracts answers that are JSON, from anywhere after the thinking."""

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        return json_in(text)


class _Part(str):
    """A text that is entirely answer, its thinking already removed."""

    @property
    def answer(self) -> str:
        return self


EXTRACTORS: dict[str, type[_Extractor]] = {  # by kind of answer
    "math": MathExtractor,
    "choice": ChoiceExtractor,
    "text": TextExtractor,
    "number": Extractor,
    "json": JsonExtractor,
    "list": ListExtractor,
    "expression": TextExtractor,
}
FILTERS = {f"{kind}_answer": kind for kind in EXTRACTORS}  # by lm-eval's name


def extractor(filter_name: str, options: Mapping[str, Any]) -> _Extractor:
    """The extractor of one of our filters, with its options.

    Raises:
        TaskError: an unknown option, or an unknown place in `find`.
    """
    made = EXTRACTORS[FILTERS[filter_name]]
    known = [one.name for one in fields(made)]
    if unknown := next((option for option in options if option not in known), None):
        raise TaskError(f"unknown option {unknown!r} of the filter {filter_name}; expected one of: {', '.join(known)}")
    return made(**options)
