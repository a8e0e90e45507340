"""Extractors find the final answers of all samples of a task, one class for each kind of answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.extraction import (
    PLACES,
    answer_part,
    declarations,
    final_answer,
    last_boxed,
    last_declared,
)
from lm_eval_ext.grading.letters import ALL, capital, chosen_letter, letters_named, several_letters, several_named
from lm_eval_ext.grading.structure import json_in
from lm_eval_ext.thinking_formats import ends_thinking, opens_thinking

logger = logging.getLogger("lm_eval.tts")

_SHORT = 200  # characters of a text that may be nothing but a letter and its choice
_ONE_LINE = 100  # characters of a text that may be nothing but its answer


class Extractor:
    """Extracts the answers of all samples of a task.

    Args:
        find: where to look, in this order: `boxed`, `declared` ("The answer is ...", "Answer: ..."), `last_expression`
            (the last formula or number, which may be just a step of the solution).
        thinking_end: a marker that ends the thinking, besides the known ones.

    Raises:
        TaskError: `find` names an unknown place.
    """

    def __init__(self, find: Sequence[str] = ("boxed", "declared"), thinking_end: str | None = None) -> None:
        if isinstance(find, str) or not find or not set(find) <= PLACES.keys():
            raise TaskError(f"answer filter: find={find!r}; expected a list of: {', '.join(PLACES)}")
        self.find = tuple(find)
        self.thinking_end = thinking_end

    def answers(self, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """The final answer of every sample, by question; empty if a sample has none."""
        return [[self.of(part) for part in samples] for samples in self.parts(questions)]

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        return final_answer(_Part(text), self.find)

    def parts(self, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """The text after the thinking, of every sample; empty if it was cut before."""
        needs_end = self.needs_end(questions)
        return [
            [answer_part(output, self.ends, needs_end=needs_end) or "" for output in samples] for samples in questions
        ]

    def needs_end(self, questions: Sequence[Sequence[str]]) -> bool:
        """Whether a sample without an end-of-thinking marker was cut while thinking."""
        needed = self.thinking_end is not None or _starts_in_the_prompt(questions)
        if needed:
            _warn_of_cut_samples(questions, self.ends)
        return needed

    @property
    def ends(self) -> tuple[str, ...]:
        """Markers that end the thinking, besides the known ones."""
        return (self.thinking_end,) if self.thinking_end else ()


class ChoiceExtractor(Extractor):
    """Extracts the letters that samples chose.

    Args:
        places: where to look.
        allowed: the letters of each question; by default all.
        several: whether an answer is a set of letters.
    """

    def __init__(self, places: Extractor, allowed: Sequence[str] = (), *, several: bool = False) -> None:
        super().__init__(places.find, places.thinking_end)
        self.allowed = allowed
        self.several = several

    def answers(self, questions: Sequence[Sequence[str]]) -> list[list[str]]:
        """The letter of every sample, by question; empty if a sample has none."""
        chosen = self.letters if self.several else self.letter
        allowed = self.allowed or [ALL] * len(questions)
        return [
            [chosen(part, letters) for part in samples]
            for samples, letters in zip(self.parts(questions), allowed, strict=True)
        ]

    def letter(self, text: str, letters: str = ALL) -> str:
        """The letter chosen in the text after the thinking.

        Taken from the final answer; if that names no letter, from a box, a declaration, or a short text as a whole.
        """
        return next((letter for answer in self._candidates(text) if (letter := chosen_letter(answer, letters))), "")

    def letters(self, text: str, letters: str = ALL) -> str:
        """The letters chosen, in alphabetical order: `A, C`."""
        candidates = [*self._candidates(text), *several_named(text)]
        return next((some for answer in candidates if (some := several_letters(answer, letters))), "")

    def _candidates(self, text: str) -> list[str]:
        declared = [final_answer(_Part(text), self.find), *declarations(text), *letters_named(text)]
        answers = [capital(declared[0]), capital(last_boxed(text), boxed=True), *map(capital, declared[1:])]
        return [*answers, text.strip()] if len(text) < _SHORT else answers


class TextExtractor(Extractor):
    """Extracts answers in words: a box, else a declaration, else an answer of one short line as a whole."""

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        found = {"boxed": self.boxed, "declared": last_declared}
        places = (found.get(place, PLACES[place])(text) for place in self.find)
        return next((answer for answer in places if answer), "") or self.otherwise(text)

    def boxed(self, text: str) -> str:
        """The answer in the last box."""
        return last_boxed(text)

    def otherwise(self, text: str) -> str:
        """The answer in a text that neither boxes nor declares it."""
        whole = text.strip()
        one_line = len(whole) <= _ONE_LINE and not re.search(r"\n|[.!?:]\s|\\boxed", whole)
        return whole if one_line else ""


class ListExtractor(TextExtractor):
    """Extracts answers with several items: boxes, else a declaration, else a JSON list."""

    def boxed(self, text: str) -> str:
        """The answers in the last boxes, each as often as it is there."""
        return last_boxed(text, distinct=False)

    def otherwise(self, text: str) -> str:
        """The last JSON list, or a short line as a whole."""
        listed = json_in(text)
        return listed if listed.startswith("[") else super().otherwise(text)


class JsonExtractor(Extractor):
    """Extracts answers that are JSON, from anywhere after the thinking."""

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        return json_in(text)


class _Part(str):
    """A text that is entirely answer, its thinking already removed."""

    @property
    def answer(self) -> str:
        return self


def _warn_of_cut_samples(questions: Sequence[Sequence[str]], ends: Sequence[str]) -> None:
    texts = [output for samples in questions for output in samples if not hasattr(output, "answer")]
    cut = sum(not ends_thinking(output, ends) for output in texts)
    if cut:
        logger.warning("%d of %d samples were cut while thinking (others end it) and have no answer", cut, len(texts))


def _starts_in_the_prompt(questions: Sequence[Sequence[str]]) -> bool:
    """Whether the model's prompt opens the thinking: some text ends a thinking it did not start.

    If so, a text without any marker was cut while thinking.
    """
    return any(
        ends_thinking(output) and not opens_thinking(output)
        for samples in questions
        for output in samples
        if not hasattr(output, "answer")
    )


EXTRACTORS: dict[str, type[Extractor]] = {  # by kind of answer, for those that need no more than the text
    "math": Extractor,
    "text": TextExtractor,
    "number": Extractor,
    "json": JsonExtractor,
    "list": ListExtractor,
    "expression": TextExtractor,
}
