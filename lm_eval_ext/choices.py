"""Multiple choice: a question's options in their order or shuffled, and the letters of the right ones.

`options`, `lettered` and `letter_of` are filters of the templates that `tasks sync` writes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal, NamedTuple

from jinja2 import pass_context

from lm_eval_ext.errors import TaskError
from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import Dataset
    from jinja2.runtime import Context

LETTERS = ascii_uppercase
Record = Mapping[str, object]
Counted = Literal["", "letter", "index", "number", "text", "label"]
EITHER, BOTH = "|", ", "  # between the letters of a gold answer: either is right, or all are needed
_NOTHING = object()
_AROUND = " ().:[]"  # around a letter, as in `(B)`


def column(record: Record, name: str) -> object:
    """A field of a record; `choices.text` is the field `text` within `choices`.

    Raises:
        TaskError: the record has no such field.
    """
    found: object = record
    for part in [name] if name in record else name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise TaskError(f"no field {name}; the question has: {', '.join(sorted(map(str, record)))}")
        found = found[part]
    return found


def record_of(context: Context) -> Record:
    """The row that a template is rendered for, without what Jinja adds."""
    added = context.environment.globals
    return {name: value for name, value in context.get_all().items() if added.get(name, _NOTHING) is not value}


def texts(record: Record, columns: Sequence[str]) -> list[str]:
    """The options of a question, in the dataset's order.

    Args:
        record: a row of the dataset.
        columns: a column with a list (or with a mapping from letters), or one column per option; those without a value
            are left out.

    Raises:
        TaskError: there are fewer than two, or more than there are letters.

    >>> texts({"a": " red", "b": "blue ", "c": None}, ["a", "b", "c"])
    ['red', 'blue']
    """
    return [text for _, text in _present(record, columns)]


def _present(record: Record, columns: Sequence[str]) -> list[tuple[int, str]]:
    """The options with their positions among the columns, or in the list."""
    if len(columns) == 1:
        given = column(record, columns[0])
        some = given.values() if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else ()
        found = [(at, one) for at, one in enumerate(some) if one not in (None, "")]
    else:
        found = [(at, one) for at, one in enumerate(column(record, name) for name in columns) if one not in (None, "")]
    if not 2 <= len(found) <= len(LETTERS):
        raise TaskError(
            f"choices.from={', '.join(columns)}: {len(found)} options; expected a column with a list of 2 to "
            f"{len(LETTERS)}, or one column per option"
        )
    return [(at, str(one).strip()) for at, one in found]


def _order(record: Record, some: Sequence[str], shuffle: str) -> list[int]:
    """The options' positions in the dataset, in the order shown: by a hash of the record and the option.

    So the order depends neither on a seed nor on other records.
    """
    if not shuffle:
        return list(range(len(some)))
    key = str(column(record, shuffle))
    return sorted(range(len(some)), key=lambda at: hashlib.sha256(f"{key}\n{some[at]}".encode()).digest())


@pass_context
def options(context: Context, columns: Sequence[str], shuffle: str = "") -> list[str]:
    """A question's options in the order shown; for the arguments, see `texts` and `_order`."""
    return shown_texts(record_of(context), columns, shuffle)


def shown_texts(record: Record, columns: Sequence[str], shuffle: str = "") -> list[str]:
    """The options of a question in the order shown; for the arguments, see `texts` and `_order`."""
    some = texts(record, columns)
    return [some[at] for at in _order(record, some, shuffle)]


def lettered(some: Sequence[str]) -> str:
    r"""Options with their letters.

    >>> lettered(["red", "blue"])
    'A) red\nB) blue'
    """
    return "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, some, strict=False))


@pass_context
def letter_of(
    context: Context, answer: str, columns: Sequence[str] = (), *, letters: str = "", labels: str = "",
    counted: Counted = "", shuffle: str = "", several: Literal["", "any", "all"] = "",
) -> str:  # fmt: skip
    """The letter of the right option; of several `A|C` or `A, C`.

    Args:
        context: the template's.
        answer: the column with the right option.
        columns, shuffle: as in `options`; without columns, the question lists its options itself.
        letters: the letters of the options that the question lists.
        labels: a column with the options' names, if these are not their letters.
        counted: how `answer` names an option; by default whatever is unambiguous.
        several: whether `answer` lists several options: `any` of them is right, or `all` are needed.

    Raises:
        TaskError: the answer is none of the options, or could be two of them.
    """
    record = record_of(context)
    present = _present(record, columns) if columns else list(enumerate(letters))
    some = [text for _, text in present]
    given = column(record, answer)
    ways = _Ways([at for at, _ in present], some if columns else [], _labels(record, labels, columns))
    wanted = {ways.position(one, counted) for one in (listed(given) if several else [given])}
    order = _order(record, some, shuffle)
    places = sorted(order.index(at) for at in wanted)
    return (EITHER if several == "any" else BOTH).join((LETTERS if columns else letters)[at] for at in places)


def _labels(record: Record, labels: str, columns: Sequence[str]) -> list[str]:
    given = column(record, labels) if labels else column(record, columns[0]) if len(columns) == 1 else None
    if isinstance(given, Mapping):
        return [str(name) for name in given]
    return [str(one).strip() for one in given] if labels and isinstance(given, (list, tuple)) else []


def listed(given: object) -> list[object]:
    """The options that an answer names: the items of a list, of `A, C`, or of `AC`.

    Raises:
        TaskError: it names none.
    """
    if isinstance(given, (list, tuple)):
        found = list(given)
    elif re.fullmatch(r"\s*[A-Z]{2,}\s*", str(given)):  # `ABD`
        found = list(str(given).strip())
    else:
        found = [part.strip() for part in str(given).replace(";", ",").split(",") if part.strip()]
    if not found:
        raise TaskError("choices.answer: no option is right; expected at least one")
    return found


class _Ways(NamedTuple):
    """The ways to name an option.

    Attributes:
        places: the options' places in the dataset; some may be empty.
        some: their texts; none if the question lists them.
        labels: their names, if they are not letters.
    """

    places: Sequence[int]
    some: Sequence[str]
    labels: Sequence[str]

    def position(self, given: object, counted: Counted) -> int:
        """Which of the options is meant."""
        text = str(given).strip()
        tried = [counted] if counted else ["text", "index", *(["label"] if self.labels else ["letter"])]
        found = {at for way in tried if (at := self._by(way, text)) is not None}
        if len(found) == 1:
            return found.pop()
        if not found:
            raise TaskError(
                f"choices.answer={text[:60]!r}: none of {len(self.places)} options (read as {', '.join(tried)})"
            )
        raise TaskError(f"choices.answer={text[:60]!r}: could be several options; declare as: letter, index or text")

    def _by(self, way: str, text: str) -> int | None:
        if way == "text":
            return self.some.index(text) if text in self.some else None
        if way == "label":
            place = self.labels.index(text) if text in self.labels else -1
        elif way == "letter":
            letter = text.strip(_AROUND).upper()
            place = LETTERS.find(letter) if len(letter) == 1 else -1
        else:
            place = int(text) - (way == "number") if text.isdecimal() else -1
        return self.places.index(place) if place in self.places else None


@usable_from_yaml
def shuffled(dataset: Dataset) -> Dataset:
    """Add `choices` (a list of four texts) and `letter` (that of the correct choice) to GPQA's records.

    Kept for task YAMLs that name it; `metadata.choices` does the same for any dataset.
    """
    return dataset.map(_with_choices)


def _with_choices(record: dict[str, object]) -> dict[str, object]:
    columns = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    some = [str(record[name]).strip() for name in columns]
    order = _order(record, some, "Record ID" if record.get("Record ID") else "Question")
    return {"choices": [some[at] for at in order], "letter": LETTERS[order.index(0)]}


_OPTION = re.compile(r"(?m)^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*?)[ \t]*$")


def lettered_lists(prompt: str) -> list[dict[str, str]]:
    """The lists of options that a prompt shows, by letter: lines such as `A. Rome`, each from A on.

    >>> lettered_lists("Which?\\nA) Rome\\nB) Paris\\n\\nAnswer with a letter.")
    [{'A': 'Rome', 'B': 'Paris'}]
    """
    found: list[dict[str, str]] = []
    for letter, option in _OPTION.findall(prompt):
        if letter == "A":
            found.append({})
        if found and len(found[-1]) < len(LETTERS) and letter == LETTERS[len(found[-1])]:
            found[-1][letter] = option
    return [some for some in found if len(some) > 1]
