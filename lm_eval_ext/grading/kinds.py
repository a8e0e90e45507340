"""The kinds of answers, each with its rules and its extractor: one entry here, one template in `tasks/`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Literal

from lm_eval_ext.choices import BOTH, EITHER, LETTERS, shown_texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.boxes import last_boxed
from lm_eval_ext.grading.choosing import chosen_option, is_cut
from lm_eval_ext.grading.code import CodeRules
from lm_eval_ext.grading.declarations import declarations, last_declared
from lm_eval_ext.grading.expressions import ExpressionRules
from lm_eval_ext.grading.extraction import settled
from lm_eval_ext.grading.grading import FailureReason, Grade, compare, gold_answer, grades
from lm_eval_ext.grading.items import ListRules
from lm_eval_ext.grading.letters import (
    ALL,
    capital,
    chosen_letter,
    several_letters,
    several_named,
)
from lm_eval_ext.grading.numbers import NumberRules
from lm_eval_ext.grading.option_texts import OptionTexts
from lm_eval_ext.grading.rules import (
    Answer,
    BaseExtractor,
    Extractor,
    Labels,
    Outputs,
    Pairs,
    Rules,
    clusters,
    clusters_by,
)
from lm_eval_ext.grading.structure import JsonRules
from lm_eval_ext.grading.texts import TextRules

_OPTION = re.compile(r"[\W_]*(?:\\text\w*\{)?\(?[A-J](?:[).:*}\]]|, i\.e\.|\s[–—-]\s|$)(?!\s[A-Z]\.)")
_LISTED = re.compile(r"\(([A-J])\)")
_FEW = 7  # words of an option that stands in the last line
_SHORT = 200  # characters of a text that may be nothing but a letter and its choice


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


class MathRules(Rules):
    """Mathematical answers: equal by Math-Verify."""

    KIND: ClassVar[str] = "math"
    MATCH: ClassVar[str] = "math_verify"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = MathExtractor

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer equals the gold one."""
        return compare([(gold_answer(gold), answer) for gold, answer in pairs])

    def grades(self, pairs: Pairs) -> list[Grade]:
        """The grade of each answer; one that is nothing but markup is none."""
        return grades(pairs)

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Answers vote together if they are equal."""
        return clusters(questions)

    def fault(self, gold: str) -> str:
        """Why a gold answer cannot be compared: it does not equal itself."""
        (itself,) = grades([(gold, gold_answer(gold))])
        return "" if itself.correct else "cannot be read as mathematics"


@dataclass(frozen=True, kw_only=True)
class ChoiceExtractor(Extractor):
    """Extracts the letters that samples chose, among the letters of their question.

    Attributes:
        letters: the allowed letters if a question does not list its choices; by default A to J.
        choices: the dataset's field that lists the choices, or one field per choice.
        shuffle: the field by whose hash the choices are shuffled; false if they are shown as listed. If known, a
            choice may be named by its text, and a letter with the text of another choice is no answer.
        several: whether an answer is a set of letters, such as `A, C`.
    """

    letters: str = ""
    choices: str | Sequence[str] = "choices"
    shuffle: str | Literal[False] | None = None
    several: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shuffle is not None and self.shuffle is not False and not isinstance(self.shuffle, str):
            raise TaskError(f"answer filter: shuffle={self.shuffle!r}; expected the name of a field, or false")

    def answers(self, outputs: Outputs, docs: Sequence[object] = ()) -> list[list[Answer]]:
        """The letter of every sample; empty if it has none."""
        found = []
        listed = [self._listed(doc) for doc in docs] or [[]] * len(outputs)
        for samples, parts, some in zip(outputs, self.parts(outputs), listed, strict=True):
            letters = LETTERS[: len(some)] or self.letters
            texts = OptionTexts([] if self.several or self.shuffle is None else some)
            chosen_in = partial(self.chosen, letters=letters or ALL, texts=texts)
            chosen = [settled(part, chosen_in) for part in parts]
            found.append([Answer.of(output, letter) for output, letter in zip(samples, chosen, strict=True)])
            for answer in found[-1]:
                answer.options = len(letters) or None
        return found

    def _listed(self, doc: object) -> list[str]:
        """The choices of a question that lists them; empty for any other, and if the row was not saved."""
        columns = [self.choices] if isinstance(self.choices, str) else self.choices
        try:
            return shown_texts(doc, columns, self.shuffle or "") if isinstance(doc, Mapping) else []
        except TaskError:
            return []

    def chosen(self, text: str, letters: str, texts: OptionTexts) -> str:
        """The letter chosen in the text after the thinking, or several in alphabetical order: `A, C`.

        Taken from the final answer; if that names no letter, from a box, a declaration, or a short text as a whole.
        """
        read = several_letters if self.several else chosen_letter

        def named(candidates: Iterable[tuple[str, str]]) -> str | None:
            """The first letter of answers, each as it is read and as it is written; empty if its text is another's."""
            found = ((letter, written) for answer, written in candidates if (letter := read(answer, letters)))
            letter, written = next(found, ("", ""))
            return None if not letter else "" if texts.is_contradicted(letter, written) else letter

        whole, text = text, texts.without_own(text)
        final, *declared = [super().of(text), *declarations(text)]
        boxed, last_line = last_boxed(text), text.rstrip().rpartition("\n")[2]
        first = [(capital(final), final), (capital(boxed, boxed=True), boxed)]
        if (letter := named([*first, *((capital(some), some) for some in declared)])) is not None:
            return letter
        if letter := next(filter(None, map(texts.letter_of, (final, boxed, *declared, last_declared(whole)))), ""):
            return letter
        ends = [(end, last_line) for end in (several_named(text) if self.several else [chosen_option(text, letters)])]
        if not declared:
            ends += [(some, some) for some in _as_option(text, whole=self.several)]
        return texts.said_in(whole) if (letter := named(ends)) is None else letter


def _as_option(text: str, *, whole: bool) -> list[str]:
    """A text, or its last or first line, that is an option with its letter: `C) 5 m/s`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    labelled = sum(_OPTION.match(line) is not None for line in lines)
    if labelled > 1 or is_cut(text) or not lines:
        return []
    alone = capital(lines[0])
    if len(lines) == 1:
        others = re.search(r"\S\s[A-J][):]\s|\.\s\([a-j]\)\s", lines[0]) or len(set(_LISTED.findall(lines[0]))) > 2
        return [alone] if len(text) < _SHORT and (whole or (_OPTION.match(alone) and not others)) else []
    ends = [line for line in (lines[-1], lines[0]) if re.match(r"[\W_]*[A-J][).*]", line)]
    return [line for line in ends if len(line.split()) <= _FEW or re.match(r"\*\*[A-J]\*\*\s?[:–—-]\s", line)]


class ChoiceRules(Rules):
    """Letters of options; a gold answer with several is `A|C` if either is right, `A, C` if both are needed."""

    KIND: ClassVar[str] = "choice"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = ChoiceExtractor

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each letter is the right one."""
        return [answer in (gold, *gold.split(EITHER)) if answer else False for gold, answer in pairs]

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """The same letters vote together."""
        return clusters_by([[answer or None for answer in answers] for answers in questions])

    def extra(self, gold: str, answers: Sequence[str]) -> dict[str, float]:
        """`chance`: the score of guessing, if the number of options is known."""
        listed = getattr(answers[0], "options", None) if answers else None
        if not listed:
            return {}
        several = BOTH in gold  # then one of all sets of options but the empty one
        return {"chance": 1 / (2**listed - 1) if several else len(gold.split(EITHER)) / listed}

    def fault(self, gold: str) -> str:
        """Why a gold answer cannot be compared: it is not a letter."""
        letters = gold.replace(BOTH, EITHER).split(EITHER)
        return "" if all(len(one) == 1 and one.isalpha() and one.isupper() for one in letters) else "is not a letter"


KINDS: dict[str, type[Rules]] = {
    kind.KIND: kind
    for kind in (MathRules, ChoiceRules, TextRules, NumberRules, JsonRules, ListRules, ExpressionRules, CodeRules)
}
MATCHING = tuple(kind.match_name() for kind in KINDS.values())  # the metrics that grade answers
FILTERS = {kind.filter_name(): kind.EXTRACTOR for kind in KINDS.values()}  # by lm-eval's name
GRADED = tuple(kind.graded_name() for kind in KINDS.values())  # those that give the reasons of the grades


def kind_of_metric(name: str) -> type[Rules] | None:
    """The kind of answers that a metric grades or gives reasons for; None if it is not one of ours."""
    return next((kind for kind in KINDS.values() if name in (kind.match_name(), kind.graded_name())), None)


def extractor(filter_name: str, options: Mapping[str, Any]) -> BaseExtractor:
    """The extractor of one of our filters, with its options.

    Raises:
        TaskError: an unknown option, or an unknown place in `find`.
    """
    made = FILTERS[filter_name]
    known = [one.name for one in fields(made)]
    if unknown := next((option for option in options if option not in known), None):
        raise TaskError(f"unknown option {unknown!r} of the filter {filter_name}; expected one of: {', '.join(known)}")
    return made(**options)
