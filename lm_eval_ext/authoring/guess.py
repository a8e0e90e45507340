"""Guesses which columns of a dataset hold question and answer, and of which kind the answers are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.authoring.guess_choices import are_letters, declared_choices, option_columns
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.kinds import KINDS
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
