"""Guesses which columns of a dataset hold question and answer, and of which kind the answers are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.authoring.task_fields import Choices
from lm_eval_ext.choices import LETTERS, column, listed, texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.grading.letters import ALL
from lm_eval_ext.grading.texts import TextRules, yes_no
from lm_eval_ext.grading.units import unit_of

_USUAL = {
    "question": ("question", "problem", "prompt", "query", "input", "puzzle", "quiz"),
    "answer": (
        "answer",
        "solution",
        "target",
        "gold",
        "label",
        "output",
        "final_answer",
        "expected_answer",
        "answerkey",
        "answer_index",
        "correct_answer",
        "correct",
        "gold_index",
        "answer_idx",
        "answers",
    ),
}
_NUMBER = re.compile(r"[+-]?(?=\.?\d)\d*(?:\.(?P<decimals>\d+))?(?P<power>[eE][+-]?\d+)?\s*(?P<unit>[^\d\s].*)?")
_CHOSEN = 6  # decimals at most of a number that somebody wrote
Records = Sequence[Mapping[str, object]]


class Guess(NamedTuple):
    """A kind of answers, what `metadata` declares for it, and why."""

    kind: str
    declared: dict[str, object]
    reason: str


def column_for(role: str, columns: Sequence[str]) -> str:
    """The column with the question or the answer, by its usual names.

    Raises:
        TaskError: there is none of them; the message lists the columns.
    """
    lowered = {name.lower(): name for name in columns}
    found = next((lowered[name] for name in _USUAL[role] if name in lowered), None)
    if found is None:
        raise TaskError(f"which column is the {role}? Give --{role}, one of: {', '.join(columns)}")
    return found


def guessed(
    records: Records, answer: str, choices: Sequence[str], kind: str | None, *, known: Sequence[str] = (),
    way: str | None = None,
) -> Guess:  # fmt: skip
    """The kind of a benchmark's answers.

    Args:
        records: rows of the dataset.
        answer: the column with the gold answer.
        choices: columns with the options of multiple choice; by default those with the usual names.
        kind: if it was said already.
        known: all columns, among which options are looked for.
        way: how the answers name an option, if that was said.

    Raises:
        TaskError: the kind is unknown, or there are options whose right one cannot be told.
    """
    if kind is not None and kind not in KINDS:
        raise TaskError(f"kind={kind!r}; expected one of: {', '.join(KINDS)}")
    if choices and kind not in (None, "choice"):
        raise TaskError(f"kind={kind!r} has no options; leave out --choices, or use --kind choice")
    golds = [record[answer] for record in records]
    columns = tuple(choices) or (option_columns(records, answer, known) if kind in (None, "choice") else ())
    found, reason = ("choice", f"its options are in {', '.join(columns)}") if columns else kind_of(golds)
    found, reason = (kind, "as given") if kind else (found, reason)
    if found == "choice":
        return Guess(found, {"choices": declared_choices(records, answer, columns, way)}, reason)
    if found == "expression":
        _check_expressions(golds, answer)
    options = _options(found, golds)
    if found == "number" and not options:
        reason += "; compared exactly, as whole numbers must be; metadata.grading may allow a tolerance"
    return Guess(found, {"answer": answer, **options}, reason)


def _check_expressions(golds: Sequence[object], answer: str) -> None:
    for gold in golds:
        if fault := KINDS["expression"]().fault(str(gold)):
            raise TaskError(
                f"answer={answer}: {fault}; compose it from the columns, as metadata.answer of tts_countdown does"
            )


def kind_of(golds: Sequence[object]) -> tuple[str, str]:
    """The kind that gold answers look like, and why."""
    written = [str(gold).strip() for gold in golds]
    for kind, reason, fits in _RULES:
        if fits(golds, written):
            return kind, reason
    return "math", "answers look like mathematics"


def _is_object(gold: object, text: str) -> bool:
    try:
        return isinstance(gold, dict) or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _are_yes_no(golds: Sequence[str]) -> bool:
    rules = TextRules(synonyms="yes_no")
    return len(set(golds)) > 1 and all(rules.key(gold) in yes_no() and len(gold) > 1 for gold in golds)


def _are_quantities(golds: Sequence[str]) -> bool:
    """Whether all are numbers, some of them with decimals or a unit."""
    found = [_NUMBER.fullmatch(gold) for gold in golds]
    return all(one and (not one["unit"] or _is_unit(one["unit"])) for one in found) and any(
        one and (one["decimals"] or one["unit"]) for one in found
    )


def _is_unit(text: str) -> bool:
    unit = unit_of(text)
    return unit is not None and "[" in unit.dimension


def _are_words(golds: Sequence[str]) -> bool:
    return not any(re.search(r"[\d\\^=]", gold) for gold in golds) and any(len(gold) > 1 for gold in golds)


_RULES: tuple[tuple[str, str, Callable[[Sequence[object], Sequence[str]], bool]], ...] = (  # the first that fits
    ("list", "every answer is a list", lambda golds, _: all(isinstance(one, (list, tuple)) for one in golds)),
    ("json", "every answer is a JSON object", lambda golds, written: all(map(_is_object, golds, written))),
    ("text", "every answer is yes or no, true or false", lambda _, written: _are_yes_no(written)),
    ("choice", "every answer is a letter", lambda golds, _: are_letters(golds)),
    ("number", "every answer is a number, some with decimals or units", lambda _, written: _are_quantities(written)),
    ("text", "every answer is in words", lambda _, written: _are_words(written)),
)


def _options(kind: str, golds: Sequence[object]) -> dict[str, object]:
    """The options of the comparison that the answers suggest."""
    written = [str(gold).strip() for gold in golds]
    if kind == "text" and _are_yes_no(written):
        return {"grading": {"synonyms": "yes_no"}}
    found = [_NUMBER.fullmatch(gold) for gold in written] if kind == "number" else []
    measured = [one for one in found if one and (one["decimals"] or one["power"])]
    if not found or len(measured) < len(found):
        return {}  # a tolerance would make 404 right for 408
    if all(len(one["decimals"] or "") <= _CHOSEN for one in measured):
        return {"grading": {"digits": "gold"}}
    # Many decimals were computed, and so may a whole number have been, written as 408.0.
    whole = any(set(one["decimals"] or "1") == {"0"} and not one["power"] for one in measured)
    return {} if whole else {"grading": {"relative": 0.01}}


_LETTER = re.compile(r"\(?([A-Z])\)?\.?")
_USUAL_CHOICES = (
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
    for name in sorted(
        known,
        key=lambda name: _USUAL_CHOICES.index(name.lower()) if name.lower() in _USUAL_CHOICES else len(_USUAL_CHOICES),
    ):
        if name.lower() in _USUAL_CHOICES:
            value = records[0][name]
            nested = isinstance(value, Mapping) and isinstance(value.get("text"), (list, tuple))
            yield (f"{name}.text",) if nested else (name,)
    numbered = [name for name in known if _NUMBERED.fullmatch(name)]
    if len(numbered) > 1:
        yield tuple(numbered)


def _fits(records: Records, answer: str, columns: Sequence[str]) -> bool:
    try:
        options = _option_texts(records, columns)
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
    options = _option_texts(records, columns)
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


def _option_texts(records: Records, columns: Sequence[str]) -> _Options:
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
