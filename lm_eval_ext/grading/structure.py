"""Answers that are a JSON object, such as a filled puzzle grid: compared field by field.

A field that the gold answer doesn't have is ignored (a model may add its reasons); a list must have the same length.
`null` is the same as no field: a column of `datasets` has all fields of all rows, with `null` where a row has none.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar

from lm_eval_ext.grading.grading import FailureReason
from lm_eval_ext.grading.rules import BaseExtractor, Labels, Pairs, Rules, clusters_by
from lm_eval_ext.grading.texts import TextRules

_FENCED = re.compile(r"```[ \t]*+(?:json|JSON)?[ \t]*+\n(.*?)(?:```|\Z)", re.DOTALL)
# A number in text; one with leading zeros or an exponent may be a code, such as `007`.
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,400})(?:\.\d{1,400})?(?:e[+-]\d{1,3})?")
_OPENING = re.compile(r"[{\[]")
_LAST_COMMA = re.compile(r'("(?:[^"\\\n]|\\.)*+"?)|,(?=\s*+[}\]])')  # or a string, in which commas stay
_MOST_TRIED = 500  # openings from which a value may start; the last ones
_LONGEST = 200_000  # characters of an answer
_DEEPEST = 50
_TEXTS = TextRules()
_Path = tuple[str, ...]
Json = Any  # whatever a JSON text may be
_LENGTH = ("#",)  # path of a list's length, which is no cell of its own


@dataclass(frozen=True, kw_only=True)
class JsonExtractor(BaseExtractor):
    """Extracts answers that are JSON, from anywhere after the thinking."""

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        return json_in(text)


class JsonRules(Rules):
    """Answers that are JSON; texts in it are compared as `_text` compares them, numbers by value."""

    KIND: ClassVar[str] = "json"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = JsonExtractor

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer has all cells of the gold one."""
        return [self._verdict(gold, answer) for gold, answer in pairs]

    def _verdict(self, gold: str, answer: str) -> bool | FailureReason:
        if not answer:
            return False
        found = cells(answer, like=gold)
        return "unparsable" if found is None else found == cells(gold, like=gold)

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Answers with the same cells vote together; what is not JSON votes alone, by its text."""
        return clusters_by([_keys(answers) for answers in questions])

    def extra(self, gold: str, answers: Sequence[str]) -> dict[str, float]:
        """`cells`: the share of the gold answer's cells that are right, mean over samples."""
        wanted = {path: one for path, one in (cells(gold, like=gold) or {}).items() if path[-1:] != _LENGTH}
        found = [cells(answer, like=gold) or {} for answer in answers]
        shares = [sum(one.get(path) == value for path, value in wanted.items()) / max(1, len(wanted)) for one in found]
        return {"cells": sum(shares) / len(shares)} if shares else {}

    def fault(self, gold: str) -> str:
        """Why a gold answer cannot be compared: it is not JSON, or has no cells."""
        found = cells(gold, like=gold)
        if found is None:
            return "is not a JSON object or list"
        if found and all(value in ("", "___") for path, value in found.items() if path[-1:] != _LENGTH):
            return "is masked, not filled"
        return "" if found else "has no cells"


def _keys(answers: Sequence[str]) -> list[Hashable | None]:
    """What answers vote by: the fields that at least half of them have, so that one may give its reasons beside."""
    found = [
        dict(_leaves(_bare(value), None, ())) if (value := _parsed(answer)) is not None else None for answer in answers
    ]
    counts = Counter(path for one in found if one for path in one)
    usual = {path for path, count in counts.items() if 2 * count >= sum(one is not None for one in found)}
    return [
        None if not answer else answer if one is None else frozenset((path, one[path]) for path in usual & one.keys())
        for answer, one in zip(answers, found, strict=True)
    ]


def _bare(value: Json) -> Json:
    """An answer without the field around it, such as `solution`, beside which there are only texts."""
    inner = [one for one in value.values() if isinstance(one, (dict, list))] if isinstance(value, dict) else []
    others = [one for one in value.values() if not isinstance(one, str)] if inner else []
    return _bare(inner[0]) if len(inner) == 1 == len(others) and isinstance(inner[0], dict) else value


@lru_cache(maxsize=4096)
def cells(answer: str, *, like: str) -> dict[_Path, Hashable] | None:
    """The values of a JSON answer by their path, restricted to the fields of another; None if it is not JSON."""
    value, wanted = _parsed(answer), _parsed(like)
    if value is None or wanted is None:
        return None
    return dict(_leaves(_unwrapped(value, wanted), wanted, ()))


def _parsed(text: str) -> Json:
    try:
        found = json.loads(text, object_pairs_hook=_without_duplicates) if len(text) <= _LONGEST else None
        return found if isinstance(found, (dict, list)) and _depth(found) <= _DEEPEST else None
    except (ValueError, RecursionError):
        return None


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = {_name(name): value for name, value in pairs}
    if len(found) < len(pairs):
        raise ValueError("a field appears twice")
    return found


def _name(name: str) -> str:
    return _TEXTS.key(name.replace("_", " "))


def _depth(value: Json) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, below), default=0)


def _unwrapped(value: Json, wanted: Json) -> Json:
    """The part of the answer with the gold answer's fields, if it stands in a field such as `solution`."""
    if isinstance(value, list) and isinstance(wanted, dict) and len(wanted) == 1:
        (name,) = wanted  # `[...]` for `{"rows": [...]}`
        return {name: value}
    if not isinstance(value, dict) or (isinstance(wanted, dict) and wanted.keys() & value.keys()):
        return value
    inner = [
        one for one in value.values()
        if type(one) is type(wanted) and (isinstance(one, list) or wanted.keys() & one.keys())
    ]  # fmt: skip
    return inner[0] if len(inner) == 1 else value


def _leaves(value: Json, wanted: Json, path: _Path) -> Iterator[tuple[_Path, Hashable]]:
    if isinstance(value, dict):
        names = {name for name in wanted if wanted[name] is not None} if isinstance(wanted, dict) else value.keys()
        for name in (name for name in names & value.keys() if value[name] is not None):
            yield from _leaves(value[name], wanted[name] if isinstance(wanted, dict) else None, (*path, name))
    elif isinstance(value, list):
        yield (*path, *_LENGTH), len(value)
        for at, one in enumerate(value):
            same = isinstance(wanted, list) and at < len(wanted)
            yield from _leaves(one, wanted[at] if same else None, (*path, str(at)))
    else:
        yield path, _scalar(value)


def _scalar(value: Json) -> Hashable:
    """A value for comparison: numbers by value also if one is written as text, texts without differences of form."""
    if isinstance(value, bool) or value is None:
        return str(value).casefold() if value is not None else "null"
    text = str(value) if isinstance(value, (int, float)) else _TEXTS.key(str(value))
    return Fraction(text) if _NUMBER.fullmatch(text) else text


def json_in(text: str) -> str:
    """The JSON that a text gives as its answer: the last fenced block, else the last object, else the last list.

    A comma after the last element is left out. Empty if there is none; what begins like one and is broken is returned
    as it is.
    """
    text = _LAST_COMMA.sub(lambda found: found[1] or "", text)
    blocks = [block.strip() for block in _FENCED.findall(text) if block.strip()[:1] in ("{", "[")]
    if blocks:
        return _compact(blocks[-1])
    values = list(_values(text))
    objects = [value for value in values if value.startswith("{")] or values
    if objects:
        return objects[-1]
    broken = text.rfind('{"')
    return text[broken:][:_LONGEST].strip() if broken >= 0 else ""


def _compact(text: str) -> str:
    """JSON on one line; unchanged if it is broken or names a field twice."""
    if _parsed(text) is None:
        return text[:_LONGEST]
    return json.dumps(json.loads(text), ensure_ascii=False)


def _values(text: str) -> Iterator[str]:
    """The JSON objects and lists in a text, outermost ones."""
    decoder, end = json.JSONDecoder(object_pairs_hook=_without_duplicates), 0
    text = text[-_LONGEST:]
    for match in list(_OPENING.finditer(text))[-_MOST_TRIED:]:
        if match.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if value:
            yield _compact(text[match.start() : end])
