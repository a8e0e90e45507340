"""How the answers of each kind are compared: what their options allow, and what each does with two answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.grading import FailureReason, Grade

Pairs = Sequence[tuple[str, str]]  # of a gold answer and an answer
Labels = list[int | None]  # the cluster of each answer of a question; None if it has no vote
_Own = TypeVar("_Own", bound="Rules")


class Rules(BaseModel, ABC):
    """The rules by which a task compares answers; subclasses are the kinds of answers, their fields the options."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    KIND: ClassVar[str]
    MATCH: ClassVar[str] = ""  # the metric, if it is not named after the kind

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
