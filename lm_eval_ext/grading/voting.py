"""Majority voting by mathematical equivalence: `1/2`, `0.5` and `\\frac{1}{2}` are one vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lm_eval_ext.grading.grading import same_answer

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
