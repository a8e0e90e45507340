"""Guesses which columns of a dataset hold question and answer, and of which kind the answers are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.authoring.task_fields import Choices
from lm_eval_ext.choices import LETTERS, texts
from lm_eval_ext.errors import TaskError
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.grading.letters import ALL
from lm_eval_ext.grading.texts import TextRules, yes_no

_USUAL = {
    "question": ("question", "problem", "prompt", "query", "input", "puzzle", "quiz"),
    "answer": ("answer", "solution", "target", "gold", "label", "output", "final_answer", "expected_answer"),
}
_LETTER = re.compile(r"\(?([A-Z])\)?")
_DECIMAL = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
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


def guessed(records: Records, answer: str, choices: Sequence[str], kind: str | None) -> Guess:
    """The kind of a benchmark's answers.

    Args:
        records: rows of the dataset.
        answer: the column with the gold answer.
        choices: columns with the options of multiple choice.
        kind: if it was said already.

    Raises:
        TaskError: the kind is unknown, or there are options whose right one cannot be told.
    """
    if kind is not None and kind not in KINDS:
        raise TaskError(f"kind={kind!r}; expected one of: {', '.join(KINDS)}")
    if choices and kind not in (None, "choice"):
        raise TaskError(f"kind={kind!r} has no options; leave out --choices, or use --kind choice")
    golds = [record[answer] for record in records]
    found, reason = ("choice", "its options were given") if choices else _kind_of(golds)
    found, reason = (kind, "as given") if kind else (found, reason)
    if found == "choice":
        return Guess(found, {"choices": _choices(records, answer, choices)}, reason)
    return Guess(found, {"answer": answer, **_options(found, golds)}, reason)


def _kind_of(golds: Sequence[object]) -> tuple[str, str]:
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


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _are_yes_no(golds: Sequence[str]) -> bool:
    rules = TextRules(synonyms="yes_no")
    return len(set(golds)) > 1 and all(rules.key(gold) in yes_no() and len(gold) > 1 for gold in golds)


def _are_letters(golds: Sequence[str]) -> bool:
    return len(set(golds)) > 1 and all(_LETTER.fullmatch(gold) and gold.strip("()") in ALL for gold in golds)


def _are_decimals(golds: Sequence[str]) -> bool:
    return any(map(_DECIMAL.fullmatch, golds)) and all(map(_is_number, golds))


def _are_words(golds: Sequence[str]) -> bool:
    return not any(re.search(r"[\d\\^=]", gold) for gold in golds) and any(len(gold) > 1 for gold in golds)


_RULES: tuple[tuple[str, str, Callable[[Sequence[object], Sequence[str]], bool]], ...] = (  # the first that fits
    ("list", "every answer is a list", lambda golds, _: all(isinstance(one, (list, tuple)) for one in golds)),
    ("json", "every answer is a JSON object", lambda golds, written: all(map(_is_object, golds, written))),
    ("text", "every answer is yes or no, true or false", lambda _, written: _are_yes_no(written)),
    ("choice", "every answer is a letter", lambda _, written: _are_letters(written)),
    ("number", "every answer is a number, some with decimals", lambda _, written: _are_decimals(written)),
    ("text", "every answer is in words", lambda _, written: _are_words(written)),
)


def _options(kind: str, golds: Sequence[object]) -> dict[str, object]:
    """The options of the comparison that the answers suggest."""
    written = [str(gold).strip() for gold in golds]
    if kind == "text" and _are_yes_no(written):
        return {"grading": {"synonyms": "yes_no"}}
    decimals = [gold.partition(".")[2] for gold in written if _DECIMAL.fullmatch(gold)]
    if kind == "number" and decimals:  # many decimals were computed, few were chosen
        computed = any(len(one) > _CHOSEN for one in decimals)
        return {"grading": {"relative": 0.01} if computed else {"digits": "gold"}}
    return {}


def _choices(records: Records, answer: str, columns: Sequence[str]) -> dict[str, object]:
    if not columns:
        letters = {match[1] for record in records if (match := _LETTER.fullmatch(str(record[answer]).strip()))}
        if not letters:
            raise TaskError(f"answer={answer}: not letters; give --choices, the columns with the options")
        return {"letters": LETTERS[: max(2, LETTERS.index(max(letters)) + 1)], "answer": answer}
    some = [texts(record, columns) for record in records]
    way = _way([str(record[answer]).strip() for record in records], some)
    if way is None:
        raise TaskError(f"answer={answer}: not a letter, an index or the text of a choice in every record")
    declared: dict[str, object] = {
        "from": columns[0] if len(columns) == 1 else list(columns),
        "answer": answer,
        "as": way,
    }
    Choices.model_validate(declared)
    return declared


def _way(golds: Sequence[str], some: Sequence[Sequence[str]]) -> str | None:
    """How the golds name an option: the first way that fits all of them."""
    pairs = list(zip(golds, some, strict=True))
    if all(len(gold.strip("()")) == 1 and gold.strip("()") in ALL[: len(options)] for gold, options in pairs):
        return "letter"
    if all(gold in options for gold, options in pairs):
        return "text"
    if all(gold.isdecimal() for gold in golds):
        first = 0 if "0" in golds else 1
        if all(first <= int(gold) < first + len(options) for gold, options in pairs):
            return "number" if first else "index"
    return None
