"""Guesses which columns of a dataset hold the options of multiple choice, and how the right one is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.authoring.task_fields import Choices
from lm_eval_ext.choices import LETTERS, column, listed, texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.letters import ALL

_LETTER = re.compile(r"\(?([A-Z])\)?\.?")
_USUAL = (
    "options",
    "choices",
    "candidates",
    "answers",
    "endings",
    "answer_choices",
    "alternatives",
    "choice",
    "option",
)
_NUMBERED = re.compile(r"(?i)(?:opt|option|choice|answer|ending|candidate)?[ _-]?([a-j]|\d)")
_SURE = 20  # questions, of which one would have the first option as the right one
Records = Sequence[Mapping[str, object]]


class _Options(NamedTuple):
    """Columns with the options, and one with their names, if they have names that are no letters."""

    columns: tuple[str, ...]
    labels: str = ""


def option_columns(records: Records, answer: str, known: Sequence[str]) -> tuple[str, ...]:
    """The columns with the options, by their usual names, if the answers name one of them; empty if there are none.

    Args:
        records: rows of the dataset.
        answer: the column with the gold answer.
        known: the dataset's columns.
    """
    for columns in _candidates(records, known):
        if answer not in columns and _fits(records, answer, columns):
            return columns
    return ()


def _candidates(records: Records, known: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for name in sorted(known, key=lambda name: _USUAL.index(name.lower()) if name.lower() in _USUAL else len(_USUAL)):
        if name.lower() in _USUAL:
            value = records[0][name]
            nested = isinstance(value, Mapping) and isinstance(value.get("text"), (list, tuple))
            yield (f"{name}.text",) if nested else (name,)
    numbered = [name for name in known if _NUMBERED.fullmatch(name)]
    if len(numbered) > 1:
        yield tuple(numbered)


def _fits(records: Records, answer: str, columns: Sequence[str]) -> bool:
    try:
        options = _options(records, columns)
        return bool(_ways(records, answer, options) or _ways(records, answer, options, several=True))
    except TaskError:
        return False


def declared_choices(
    records: Records, answer: str, columns: Sequence[str], way: str | None = None
) -> dict[str, object]:
    """What `metadata.choices` declares.

    Args:
        records: rows of the dataset.
        answer: the column with the gold answer.
        columns: columns with the options; none if the question lists them.
        way: how the answers name an option, if that was said.

    Raises:
        TaskError: the answers don't name options, or could do so in several ways.
    """
    if not columns:
        return _in_the_question(records, answer)
    options = _options(records, columns)
    several = not _ways(records, answer, options)
    ways = _ways(records, answer, options, several=several)
    if way is not None and way not in ways:
        said = f"; they fit as {' or '.join(ways)}" if ways else ""
        raise TaskError(f"--as {way}: the answers in {answer} don't name options so{said}")
    if not ways:
        raise TaskError(f"answer={answer}: not a letter, an index or the text of a choice in every record")
    if len(ways) > 1 and way is None:
        raise TaskError(f"answer={answer}: could be {' or '.join(ways)} of an option; say which with --as")
    declared: dict[str, object] = {"from": columns[0] if len(columns) == 1 else list(columns), "answer": answer}
    declared |= {"labels": options.labels} if (way or ways[0]) == "label" and options.labels else {}
    declared |= {"as": way or ways[0]} | ({"several": "all"} if several else {})
    Choices.model_validate(declared)
    return declared


def _in_the_question(records: Records, answer: str) -> dict[str, object]:
    parts = [listed(record[answer]) for record in records]
    letters = {match[1] for some in parts for one in some if (match := _LETTER.fullmatch(str(one).strip()))}
    if not letters:
        raise TaskError(f"answer={answer}: not letters; give --choices, the columns with the options")
    declared: dict[str, object] = {
        "letters": LETTERS[: max(2, LETTERS.index(max(letters)) + 1)], "answer": answer
    }  # fmt: skip
    return declared | ({"several": "all"} if any(len(some) > 1 for some in parts) else {})


def are_letters(golds: Sequence[object]) -> bool:
    """Whether every answer is one letter, or several such as `A, C`."""
    parts = [listed(gold) if str(gold).strip() else [""] for gold in golds]
    alone = [str(one).strip() for some in parts for one in some]
    return len(set(alone)) > 1 and all(_LETTER.fullmatch(one) and one.strip("().") in ALL for one in alone)


def _options(records: Records, columns: Sequence[str]) -> _Options:
    for record in records:
        texts(record, columns)  # fails if there are none
    beside = columns[0].removesuffix(".text") + ".label" if columns[0].endswith(".text") else ""
    try:
        labels = beside if beside and isinstance(column(records[0], beside), (list, tuple)) else ""
    except TaskError:
        labels = ""
    return _Options(tuple(columns), labels)


def _ways(records: Records, answer: str, options: _Options, *, several: bool = False) -> list[str]:
    """Every way in which all answers name an option."""
    golds = [listed(record[answer]) if several else [record[answer]] for record in records]
    written = [[str(one).strip() for one in some] for some in golds]
    shown = [texts(record, options.columns) for record in records]
    pairs = [(one, some) for some, named in zip(shown, written, strict=True) for one in named]
    labels = [_labels(record, options) for record in records]
    labelled = [(one, some) for some, named in zip(labels, written, strict=True) for one in named]
    numbers = [(int(one), len(some)) for one, some in pairs if one.isdecimal()]
    enough = len(records) >= _SURE and all(number for number, _ in numbers)
    fits: dict[str, Callable[[], bool]] = {
        "letter": lambda: all(
            len(one.strip("().")) == 1 and one.strip("().") in ALL[: len(some)] for one, some in pairs
        ),
        "text": lambda: all(one in some for one, some in pairs),
        "label": lambda: bool(options.labels) and all(one in some for one, some in labelled),
        "index": lambda: len(numbers) == len(pairs) and not enough and all(at < count for at, count in numbers),
        "number": lambda: len(numbers) == len(pairs) and all(0 < at <= count for at, count in numbers),
    }
    found = [way for way, fit in fits.items() if fit()]
    same = labels == [list(LETTERS[: len(some)]) for some in shown]
    return (
        [way for way in found if way != ("label" if same else "letter")] if {"letter", "label"} <= {*found} else found
    )


def _labels(record: Mapping[str, object], options: _Options) -> list[str]:
    found = column(record, options.labels) if options.labels else []
    return [str(one).strip() for one in found] if isinstance(found, (list, tuple)) else []
