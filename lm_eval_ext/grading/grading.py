"""Grades: whether an answer is correct, and the reason for the verdict. Every text is read once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

from lm_eval_ext.grading import reading
from lm_eval_ext.grading.boxes import last_boxed
from lm_eval_ext.grading.formula_equality import TOLERANCE
from lm_eval_ext.grading.latex import UnreadableError, nodes
from lm_eval_ext.grading.wrapping import normalised
from lm_eval_ext.workers import Failure, Outcome, Workers

SECONDS_PER_ANSWER = 2.0  # of CPU time
Reason = Literal["correct", "wrong", "no answer", "unparsable", "timeout", "memory", "error", "output"]
FailureReason = Literal["unparsable", "error", "output"] | Failure
Verdict = bool | FailureReason
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_Pair = tuple[str, str]
_OFTEN = 2  # a text in more comparisons of a batch than this is read beforehand
_REMEMBERED = 1 << 17  # readings and verdicts kept for later calls
_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,3})?|[+-]?\d{1,400}/\d{1,400}")
_POWER = re.compile(r"(?<=\d)\\(?:times|cdot)10\^\{?([+-]?\d{1,3})\}?$")
_FRACTION = re.compile(r"^([+-]?)\\frac\{([+-]?\d+)\}\{(\d+)\}$")
_BASE = re.compile(r"(?<=\d)_\{\d{1,2}\}$")
_LOOSE_SPACE = re.compile(r"(?<!\w) | (?!\w)")  # one between two words or two numbers is significant
_workers = Workers(reading.warm_up)


class Grade(NamedTuple):
    """A verdict on one answer.

    Attributes:
        correct: whether it equals the gold answer.
        reason: `correct`, `wrong`, `no answer`; `unparsable` if it is not mathematics, or too long or too deeply nested
            to be read; `timeout` or `memory` if reading or comparing it exceeded a limit. Of a program, `error` if it
            raises an exception, `output` if it prints too much.
    """

    correct: bool
    reason: Reason

    @classmethod
    def of(cls, answer: str, verdict: Verdict) -> Grade:
        """The grade of an answer, which is none if there is nothing in it."""
        if isinstance(verdict, str):
            return cls(False, verdict if answer.strip() else "no answer")
        return cls(verdict, "correct" if verdict else "wrong" if answer.strip() else "no answer")


class _Reading(NamedTuple):
    failure: FailureReason | None = None
    value: complex | None = None


@dataclass(frozen=True)
class _Memory:
    """Cached readings and verdicts; a call keeps using the instance it started with."""

    readings: dict[str, _Reading] = field(default_factory=dict)
    verdicts: dict[_Pair, Verdict] = field(default_factory=dict)

    def reading(self, text: str) -> _Reading:
        """What is known of a text: why it could not be read, or its value if it is a number."""
        return self.readings.get(text, _Reading())


_memory = _Memory()


def _remembered() -> _Memory:
    """The cache of earlier calls, without its oldest entries if it has grown too large."""
    global _memory  # noqa: PLW0603  # replaced and never emptied: another thread may be using it
    if max(len(_memory.readings), len(_memory.verdicts)) > _REMEMBERED:
        _memory = _Memory(_newer(_memory.readings), _newer(_memory.verdicts))
    return _memory


def _newer(found: dict[_Key, _Value]) -> dict[_Key, _Value]:
    return dict(list(found.items())[-_REMEMBERED // 2 :])


def in_workers(
    function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], *, seconds: float = SECONDS_PER_ANSWER
) -> list[Outcome[_Value]]:
    """Outcomes of a function for each call, in the processes that read answers."""
    return _workers.run(function, calls, seconds=seconds)


def grades(pairs: Sequence[_Pair]) -> list[Grade]:
    """Grade many answers at once.

    Args:
        pairs: gold answer and answer, of any questions; an empty answer counts as no answer.
    """
    verdicts = compare([(gold_answer(gold), answer) for gold, answer in pairs])
    return [Grade.of(_plain(answer), verdict) for (_, answer), verdict in zip(pairs, verdicts, strict=True)]


def gold_answer(gold: str) -> str:
    """The answer in a gold field that holds a whole solution: the text after `####`, or in the last box."""
    if "####" in gold:
        return gold.rpartition("####")[2]
    return (last_boxed(gold) or gold) if "boxed" in gold else gold


def same_answer(pairs: Sequence[_Pair]) -> list[bool | None]:
    """For voting: whether the two answers of each pair are equal; None if the second cannot be compared."""
    verdicts = compare(pairs, often=0)
    return [
        verdict if isinstance(verdict, bool) else False if _memory.reading(_plain(first)).failure else None
        for (first, _), verdict in zip(pairs, verdicts, strict=True)
    ]


def compare(pairs: Iterable[_Pair], *, often: int = _OFTEN) -> list[Verdict]:
    """Whether the two answers of each pair are equal, or why they could not be compared; symmetric.

    Args:
        pairs: any answers.
        often: a text in more comparisons than this is read beforehand.
    """
    memory = _remembered()
    ordered = [(min(pair), max(pair)) for pair in ((_plain(one), _plain(other)) for one, other in pairs)]
    new = set(ordered) - memory.verdicts.keys()
    memory.verdicts.update((pair, verdict) for pair in new if (verdict := plainly_equal(*pair)) is not None)
    unsettled = sorted(new - memory.verdicts.keys())
    counts = Counter(text for pair in unsettled for text in pair)
    _read(memory, counts, often)
    asked: list[_Pair] = []
    for pair in unsettled:
        first, second = map(memory.reading, pair)
        if failure := first.failure or second.failure:
            memory.verdicts[pair] = failure
        elif first.value is not None and second.value is not None and _far_apart(first.value, second.value):
            memory.verdicts[pair] = False
        else:
            asked.append(pair)
    for pair, outcome in zip(asked, in_workers(reading.compared, asked), strict=True):
        memory.verdicts[pair] = outcome.failure or ("unparsable" if outcome.value is None else outcome.value)
    return [memory.verdicts[pair] for pair in ordered]


def _read(memory: _Memory, counts: Counter[str], often: int) -> None:
    """Read texts that are compared often in a worker, so that a problematic one fails once; and all plain numbers."""
    unread = sorted(counts.keys() - memory.readings.keys())
    for text in unread:
        try:
            nodes(text)
            if (number := rational(text)) is not None:
                memory.readings[text] = _Reading(value=complex(number))
        except UnreadableError:
            memory.readings[text] = _Reading("unparsable")
        except OverflowError:  # beyond the range of a float
            pass
    unread = [text for text in unread if counts[text] > often and text not in memory.readings]
    for text, outcome in zip(unread, in_workers(reading.read, [(text,) for text in unread]), strict=True):
        readable, value = outcome.value or (False, None)
        memory.readings[text] = _Reading(outcome.failure or (None if readable else "unparsable"), value)


def _far_apart(one: complex, other: complex) -> bool:
    """Whether two values differ by more than any rounding."""
    return abs(one - other) > 10 * TOLERANCE * max(abs(one), abs(other))


def plainly_equal(one: str, other: str) -> bool | None:
    """The verdict on two `normalised` answers if it can be reached without algebra, else None."""
    if _LOOSE_SPACE.sub("", one) == _LOOSE_SPACE.sub("", other):
        return one != ""
    if not one or not other:
        return False
    digits = [_BASE.sub("", text) for text in (one, other)]
    if (digits[0] == one) != (digits[1] == other) and all(map(str.isdecimal, digits)):
        return digits[0] == digits[1] or None  # of one of them, the base is understood
    values = rational(one), rational(other)
    if None in values:
        return None
    decimals = [re.search(r"[.e]", text) is not None or "10^" in text for text in (one, other)]
    fractions = ["/" in text or r"\frac" in text for text in (one, other)]
    # A decimal may be a rounded fraction.
    return True if values[0] == values[1] else None if any(decimals) and any(fractions) else False


@lru_cache(maxsize=4096)
def rational(text: str) -> Fraction | None:
    """The value of an integer, a decimal or a simple fraction; None for anything else."""
    plain = _FRACTION.sub(r"\1\2/\3", _POWER.sub(r"e\1", _LOOSE_SPACE.sub("", text)))
    try:
        return Fraction(plain) if _NUMBER.fullmatch(plain) else None
    except ZeroDivisionError:
        return None


@lru_cache(maxsize=1 << 16)
def _plain(answer: str) -> str:
    return normalised(answer)
