"""What every kind of answers is made of: an extractor, which finds them in texts, and rules, which compare them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.extraction import PLACES, answer_part, found_in, found_last, settled
from lm_eval_ext.grading.grading import FailureReason, Grade, same_answer
from lm_eval_ext.thinking_formats import ends_thinking, opens_thinking

logger = logging.getLogger("lm_eval.tts")

TRACE = ("thinking_tokens", "answer_tokens", "forced", "looped")  # what our generations record about themselves

Outputs = Sequence[Sequence[str]]  # texts by question, then sample
Pairs = Sequence[tuple[str, str]]  # of a gold answer and an answer
Labels = list[int | None]  # the cluster of each answer of a question; None if it has no vote
_Own = TypeVar("_Own", bound="Rules")


class Answer(str):
    """A final answer that carries the trace of the generation it came from, if it has one.

    `options` is the number of letters that the question allows; None for a free-form answer. `run` is what came of a
    program (`code.ProgramRun`); None for other answers.
    """

    trace: dict[str, float] | None = None
    options: int | None = None
    run: Any = None

    @classmethod
    def of(cls, output: str, text: str) -> Answer:
        """The answer `text`, found in `output`."""
        answer = cls(text)
        if all(hasattr(output, name) for name in TRACE):
            answer.trace = {name: float(getattr(output, name)) for name in TRACE}
        return answer


@dataclass(frozen=True, kw_only=True)
class BaseExtractor(ABC):
    """Extracts the answers of all samples of a task.

    Attributes:
        thinking_end: a marker that ends the thinking, besides the known ones.
    """

    IN_WORDS: ClassVar[bool] = False  # whether answers are words
    thinking_end: str | None = None

    def answers(self, outputs: Outputs, docs: Sequence[object] = ()) -> list[list[Answer]]:
        """The final answer of every sample, by question; empty if a sample has none.

        Args:
            outputs: texts by question, then sample.
            docs: the dataset's rows.
        """
        return [
            [
                Answer.of(output, settled(part, self.of, self.otherwise, in_words=self.IN_WORDS))
                for output, part in zip(samples, parts, strict=True)
            ]
            for samples, parts in zip(outputs, self.parts(outputs), strict=True)
        ]

    @abstractmethod
    def of(self, text: str) -> str:
        """The answer in a text, such as all after the thinking, or a part of that."""

    def otherwise(self, text: str) -> str:
        """The answer in a text that takes nothing back, and in which `of` finds none."""
        return ""

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
class Extractor(BaseExtractor):
    """Extracts answers that are a number or mathematics.

    Attributes:
        find: where to look, in this order: `boxed`, `declared` ("The answer is ...", "Answer: ..."), `concluded` (the
            one new value that the last sentence of the reply says), `last_expression` (the last
            formula or number, which may be just a step of the solution).

    Raises:
        TaskError: `find` names an unknown place.
    """

    find: Sequence[str] = ("boxed", "declared", "concluded")

    def __post_init__(self) -> None:
        if isinstance(self.find, str) or not self.find or not set(self.find) <= PLACES.keys():
            raise TaskError(f"answer filter: find={self.find!r}; expected a list of: {', '.join(PLACES)}")

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        return found_in(text, self.find)

    def otherwise(self, text: str) -> str:
        """What the last sentence says without any word that concludes."""
        return found_last(text, self.find)


class Rules(BaseModel, ABC):
    """The rules by which a task compares answers; subclasses are the kinds of answers, their fields the options."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    KIND: ClassVar[str]
    MATCH: ClassVar[str] = ""  # the metric, if it is not named after the kind
    EXTRACTOR: ClassVar[type[BaseExtractor]] = Extractor
    VOTES: ClassVar[bool] = True  # whether equal answers vote together

    @classmethod
    def match_name(cls) -> str:
        """The metric that grades such answers."""
        return cls.MATCH or f"{cls.KIND}_match"

    @classmethod
    def graded_name(cls) -> str:
        """The metric that gives the reason of each grade."""
        return f"{cls.KIND}_graded"

    @classmethod
    def filter_name(cls) -> str:
        """The filter that extracts such answers."""
        return f"{cls.KIND}_answer"

    def grades(self, pairs: Pairs) -> list[Grade]:
        """The grade of each answer."""
        return [Grade.of(answer, verdict) for (_, answer), verdict in zip(pairs, self.compare(pairs), strict=True)]

    @abstractmethod
    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer is correct, or why that cannot be told; an empty answer is not."""

    @abstractmethod
    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """For voting, a number for each answer of a question, the same for equal ones; None for an empty one."""

    def extra(self, gold: str, answers: Sequence[str]) -> dict[str, float]:  # for kinds that have any
        """Further scores of a question."""
        return {}

    @abstractmethod
    def fault(self, gold: str) -> str:
        """What is wrong with a gold answer; empty if nothing."""

    @classmethod
    def of(cls: type[_Own], options: dict[str, Any]) -> _Own:
        """The rules with some options.

        Raises:
            TaskError: an unknown option, or a value it cannot have.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[-1]  # of an option with several types the last, which is the general one
            name = ".".join(str(part) for part in first["loc"] if str(part).isidentifier() or isinstance(part, int))
            if first["type"] == "extra_forbidden":
                known = ", ".join(cls.model_fields) or "none"
                raise TaskError(f"unknown option {name!r} for {cls.KIND} answers; expected one of: {known}") from None
            given = " ".join(repr(first["input"]).split())[:60]
            message = str(first["msg"]).removeprefix("Value error, ").replace("tuple", "list")
            place = f"{name}={given}: " if name else ""
            raise TaskError(f"{cls.KIND} answers: {place}{message}") from None


def clusters_by(keys: Sequence[Sequence[Hashable | None]]) -> list[Labels]:
    """Clusters of answers that are equal if their keys are; an answer whose key is None has no vote."""
    numbers = ({key: number for number, key in enumerate(dict.fromkeys(some))} for some in keys)
    return [[None if key is None else known[key] for key in some] for some, known in zip(keys, numbers, strict=True)]


Same = Callable[[Sequence[tuple[str, str]]], Sequence[bool | None]]


def clusters(questions: Sequence[Sequence[str]], same: Same = same_answer) -> list[list[int | None]]:
    """Group the answers of each question into clusters of equal ones.

    The most frequent text represents its cluster, so labels do not depend on the order of the samples. The gold answer
    is not used. An answer that cannot be compared is a cluster of its own.

    Args:
        questions: each question's answers; empty if a sample has none.
        same: for pairs of answers, whether they are equal; None if the second cannot be compared and stays alone.

    Returns:
        For each question, the cluster number of each answer, from 0; None for an empty answer, which has no vote.
    """
    states = [_Question(answers) for answers in questions]
    while any(state.waiting for state in states):
        pairs = [pair for state in states for pair in state.next_pairs()]
        verdicts = iter(same(pairs))
        for state in states:
            state.sort(verdicts)
    return [state.labels() for state in states]


class _Question:
    """One question's distinct answers, with those not yet in a cluster in order."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = answers
        counts = Counter(answer for answer in answers if answer)
        self.waiting = sorted(counts, key=lambda answer: (-counts[answer], answer))
        self.label: dict[str, int] = {}
        self.found = 0

    def next_pairs(self) -> list[tuple[str, str]]:
        """The first answer without a cluster, paired with each of the others."""
        return [(self.waiting[0], other) for other in self.waiting[1:]]

    def sort(self, verdicts: Iterator[bool | None]) -> None:
        """Remove the first answer and those equal to it as a cluster, and each incomparable one as its own."""
        if not self.waiting:
            return
        first, *others = self.waiting
        verdict = {other: next(verdicts) for other in others}
        self._take([first, *(other for other in others if verdict[other])])
        for other in others:
            if verdict[other] is None:
                self._take([other])
        self.waiting = [other for other in others if verdict[other] is False]

    def _take(self, answers: list[str]) -> None:
        self.label.update(dict.fromkeys(answers, self.found))
        self.found += 1

    def labels(self) -> list[int | None]:
        """The cluster number of each answer."""
        return [self.label.get(answer) for answer in self.answers]
