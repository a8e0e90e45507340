"""Grades: whether an answer is correct, and the reason for the verdict. Every text is read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

from lm_eval_ext.grading import comparison, equivalence
from lm_eval_ext.grading.extraction import last_boxed
from lm_eval_ext.grading.reading import normalised
from lm_eval_ext.grading.workers import Failure, in_workers

Reason = Literal["correct", "wrong", "no answer", "unparsable", "timeout", "memory"]
FailureReason = Literal["unparsable"] | Failure


class Grade(NamedTuple):
    """A verdict on one answer.

    Attributes:
        correct: whether it equals the gold answer.
        reason: `correct`, `wrong`, `no answer`; `unparsable` if it is not mathematics, or too long or too deeply nested
            to be read; `timeout` or `memory` if reading or comparing it exceeded a limit.
    """

    correct: bool
    reason: Reason


class _Reading(NamedTuple):
    failure: FailureReason | None = None
    value: complex | None = None


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Pair = tuple[str, str]
_OFTEN = 2  # a text in more comparisons of a batch than this is read beforehand
_REMEMBERED = 1 << 17  # readings and verdicts kept for later calls


@dataclass(frozen=True)
class _Memory:
    """Cached readings and verdicts; a call keeps using the instance it started with."""

    readings: dict[str, _Reading] = field(default_factory=dict)
    verdicts: dict[_Pair, bool | FailureReason] = field(default_factory=dict)

    def failure(self, text: str) -> FailureReason | None:
        """Why a text could not be read; None if it could, or was not tried."""
        return self.readings[text].failure if text in self.readings else None

    def value(self, text: str) -> complex | None:
        """The value of a text that was read and is a number."""
        return self.readings[text].value if text in self.readings else None

    def verdict(self, pair: _Pair) -> bool | FailureReason:
        """The verdict on a pair that was compared."""
        if pair in self.verdicts:
            return self.verdicts[pair]
        return next(failure for text in pair if (failure := self.failure(text)))


_memory = _Memory()


def _remembered() -> _Memory:
    """The cache of earlier calls, without its oldest entries if it has grown too large."""
    global _memory  # noqa: PLW0603  # replaced and never emptied: another thread may be using it
    if max(len(_memory.readings), len(_memory.verdicts)) > _REMEMBERED:
        _memory = _Memory(_newer(_memory.readings), _newer(_memory.verdicts))
    return _memory


def _newer(found: dict[_Key, _Value]) -> dict[_Key, _Value]:
    entries = list(found.items())
    return dict(entries[-_REMEMBERED // 2 :])


def grades(pairs: Sequence[tuple[str, str]]) -> list[Grade]:
    """Grade many answers at once.

    Args:
        pairs: gold answer and answer, of any questions; an empty answer counts as no answer.
    """
    verdicts = compare([(gold_answer(gold), answer) for gold, answer in pairs])
    return [_grade(answer, verdict) for (_, answer), verdict in zip(pairs, verdicts, strict=True)]


def gold_answer(gold: str) -> str:
    """The answer in a gold field that holds a whole solution: the text after `####`, or in the last box."""
    if "####" in gold:
        return gold.rpartition("####")[2]
    return (last_boxed(gold) or gold) if "boxed" in gold else gold


def _grade(answer: str, verdict: bool | FailureReason) -> Grade:
    if verdict is True:
        return Grade(True, "correct")
    if not _plain(answer):
        return Grade(False, "no answer")
    return Grade(False, "wrong" if verdict is False else verdict)


def compare(pairs: Iterable[tuple[str, str]], *, often: int = _OFTEN) -> list[bool | FailureReason]:
    """Whether the two answers of each pair are equal, or why they could not be compared; symmetric.

    Args:
        pairs: any answers.
        often: a text in more comparisons than this is read beforehand.
    """
    memory = _remembered()
    ordered = [_ordered(_plain(one), _plain(other)) for one, other in pairs]
    new = {pair: equivalence.plainly_equal(*pair) for pair in set(ordered) - memory.verdicts.keys()}
    memory.verdicts.update((pair, verdict) for pair, verdict in new.items() if verdict is not None)
    unsettled = sorted(pair for pair, verdict in new.items() if verdict is None)
    counts = Counter(text for pair in unsettled for text in pair)
    _look_at(memory, counts)
    _read(memory, [text for text, count in counts.items() if count > often])
    _settle(memory, [pair for pair in unsettled if not any(map(memory.failure, pair))])
    return [memory.verdict(pair) for pair in ordered]


def same_answer(pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
    """For voting: whether the two answers of each pair are equal; None if the second cannot be compared."""
    verdicts = compare(pairs, often=0)
    return [
        verdict if isinstance(verdict, bool) else False if _memory.failure(_plain(first)) else None
        for (first, _), verdict in zip(pairs, verdicts, strict=True)
    ]


@lru_cache(maxsize=1 << 16)
def _plain(answer: str) -> str:
    return normalised(answer) if len(answer) <= equivalence.LONGEST_ANSWER else answer.strip()


def _ordered(one: str, other: str) -> _Pair:
    return (one, other) if one <= other else (other, one)


def _look_at(memory: _Memory, texts: Iterable[str]) -> None:
    """Record what needs no algebra: texts that must not be read, and the values of plain numbers."""
    for text in texts:
        if text not in memory.readings and equivalence.refused(text):
            memory.readings[text] = _Reading("unparsable")
        elif text not in memory.readings and (value := equivalence.value(text)) is not None:
            memory.readings[text] = _Reading(value=value)


def _read(memory: _Memory, texts: Iterable[str]) -> None:
    """Read texts in a worker, so that a problematic one fails once and not in every comparison."""
    unread = sorted(set(texts) - memory.readings.keys())
    for text, outcome in zip(unread, in_workers(comparison.read, [(text,) for text in unread]), strict=True):
        readable, value = outcome.value or (False, None)
        memory.readings[text] = _Reading(outcome.failure or (None if readable else "unparsable"), value)


def _settle(memory: _Memory, pairs: Sequence[_Pair]) -> None:
    apart = {pair for pair in pairs if equivalence.far_apart(*map(memory.value, pair))}
    memory.verdicts.update((pair, False) for pair in apart)
    rest = [pair for pair in pairs if pair not in apart]
    for pair, outcome in zip(rest, in_workers(comparison.compared, rest), strict=True):
        memory.verdicts[pair] = outcome.failure or ("unparsable" if outcome.value is None else outcome.value)
