"""The kinds of answers, each with its rules: one entry here, one template in `tasks/`, one extractor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lm_eval_ext.choices import BOTH, EITHER
from lm_eval_ext.grading.expressions import ExpressionRules
from lm_eval_ext.grading.grading import FailureReason, Grade, compare, gold_answer, grades
from lm_eval_ext.grading.items import ListRules
from lm_eval_ext.grading.numbers import NumberRules
from lm_eval_ext.grading.rules import Labels, Pairs, Rules, clusters_by
from lm_eval_ext.grading.structure import JsonRules
from lm_eval_ext.grading.texts import TextRules
from lm_eval_ext.grading.voting import clusters


class MathRules(Rules):
    """Mathematical answers: equal by Math-Verify."""

    KIND: ClassVar[str] = "math"
    MATCH: ClassVar[str] = "math_verify"

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


class ChoiceRules(Rules):
    """Letters of options; a gold answer with several is `A|C` if either is right, `A, C` if both are needed."""

    KIND: ClassVar[str] = "choice"

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
    kind.KIND: kind for kind in (MathRules, ChoiceRules, TextRules, NumberRules, JsonRules, ListRules, ExpressionRules)
}
MATCHING = tuple(kind.match_name() for kind in KINDS.values())  # the metrics that grade answers
GRADED = tuple(kind.graded_name() for kind in KINDS.values())  # those that give the reasons of the grades


def kind_of_metric(name: str) -> type[Rules] | None:
    """The kind of answers that a metric grades or gives reasons for; None if it is not one of ours."""
    return next((kind for kind in KINDS.values() if name in (kind.match_name(), kind.graded_name())), None)
