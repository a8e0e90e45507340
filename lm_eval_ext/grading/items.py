"""Answers that are several items, in order or not; duplicates count."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lm_eval_ext.grading.grading import FailureReason, compare
from lm_eval_ext.grading.rules import Labels, Pairs, Rules, clusters_by
from lm_eval_ext.grading.spelling import parts
from lm_eval_ext.grading.texts import TextRules
from lm_eval_ext.grading.voting import clusters

_AND = re.compile(r",?\s*(?:\\(?:text|mathrm)\s*\{\s*(?:and|or)\s*\}|(?<![\w\\])and(?!\w))\s*")
_WRAPPED = re.compile(r"^\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}$")  # the whole answer as one text
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")
_BRACKETS = (("[", "]"), ("(", ")"), (r"\{", r"\}"), ("{", "}"))
_MOST = 1_000  # items of an answer


class ListRules(Rules):
    """Options of answers with several items."""

    KIND: ClassVar[str] = "list"
    ordered: Annotated[bool, Field(description="whether the order counts")] = False
    items: Annotated[
        Literal["text", "math"], Field(description="how items are compared: as `_text` or as `_math` compares answers")
    ] = "text"

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer has the same items as the gold one, each as often."""
        split = [(items_of(gold), items_of(answer)) for gold, answer in pairs]
        return self._mathematical(split) if self.items == "math" else [self._same_words(*pair) for pair in split]

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Answers with the same items vote together."""
        if self.items == "math":
            return clusters(questions, lambda pairs: [v if isinstance(v, bool) else None for v in self.compare(pairs)])
        return clusters_by([[self._key(items_of(answer)) for answer in answers] for answers in questions])

    def fault(self, gold: str) -> str:
        """Why a gold answer cannot be compared: it has no items."""
        return "" if items_of(gold) else "has no items"

    def _key(self, items: Sequence[str]) -> Hashable | None:
        keys = [_WORDS.key(item) for item in items]
        return (tuple(keys) if self.ordered else frozenset(Counter(keys).items())) if keys else None

    def _same_words(self, gold: Sequence[str], answer: Sequence[str]) -> bool:
        return bool(answer) and self._key(gold) == self._key(answer)

    def _mathematical(self, split: Sequence[tuple[list[str], list[str]]]) -> list[bool | FailureReason]:
        alike = [len(gold) == len(answer) > 0 for gold, answer in split]
        asked = [
            (left, right)
            for same, (gold, answer) in zip(alike, split, strict=True)
            if same
            for left, right in (zip(gold, answer, strict=True) if self.ordered else _all_pairs(gold, answer))
        ]
        verdicts = dict(zip(asked, compare(asked), strict=True))
        return [
            _matched(gold, answer, verdicts, ordered=self.ordered) if same else False
            for same, (gold, answer) in zip(alike, split, strict=True)
        ]


_WORDS = TextRules()


def _all_pairs(gold: Sequence[str], answer: Sequence[str]) -> list[tuple[str, str]]:
    return [(left, right) for left in gold for right in answer]


def _matched(
    gold: Sequence[str], answer: Sequence[str], verdicts: dict[tuple[str, str], bool | FailureReason], *, ordered: bool
) -> bool | FailureReason:
    """Whether each gold item has an equal one of its own; equality is transitive, so the first that fits will do."""
    left = list(answer)
    for item in gold:
        candidates = left[:1] if ordered else left
        at = next((at for at, other in enumerate(candidates) if verdicts[item, other] is True), None)
        if at is None:
            failures = [verdicts[item, other] for other in candidates if verdicts[item, other] is not False]
            return failures[0] if failures else False
        del left[at]
    return True


def items_of(answer: str) -> list[str]:
    r"""The items of an answer: of a JSON list, of lines, or of an enumeration with commas, semicolons or `and`.

    >>> items_of("[3, 5]"), items_of(r"\{x, y\}"), items_of("(1,2), (3,4) and (5,6)")
    (['3', '5'], ['x', 'y'], ['(1,2)', '(3,4)', '(5,6)'])
    """
    text = answer.strip().strip("$").strip()
    text = _WRAPPED.sub(r"\1", text)
    if found := _json_list(text):
        return found[:_MOST]
    for opening, closing in _BRACKETS:
        inner = text[len(opening) : len(text) - len(closing)]
        if text.startswith(opening) and text.endswith(closing) and _balanced(inner):
            text = inner.strip()
            break
    lines = [_BULLET.sub("", line).strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return lines[:_MOST]
    enumerated = _AND.sub(",", text)
    separator = ";" if len(parts(enumerated, ";")) > 1 else ","
    return [part.strip().strip("\"'`") for part in parts(enumerated, separator) if part.strip()][:_MOST]


def _json_list(text: str) -> list[str]:
    try:
        found = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        return []
    return [one if isinstance(one, str) else json.dumps(one) for one in found] if isinstance(found, list) else []


def _balanced(text: str) -> bool:
    """Whether no bracket closes one that was opened before the text: `(1,2), (3,4)` is not one tuple."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0
