"""Answers that are several items, in order or not; duplicates count."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lm_eval_ext.grading.boxes import last_boxed
from lm_eval_ext.grading.grading import FailureReason, compare
from lm_eval_ext.grading.rules import BaseExtractor, Labels, Pairs, Rules, clusters, clusters_by
from lm_eval_ext.grading.structure import json_in
from lm_eval_ext.grading.texts import TextExtractor, TextRules

_AND = re.compile(r"^(.*\S),?\s+(?:and|\\(?:text|mathrm)\s*\{\s*and\s*\})\s+(\S.*)$", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")
_TEXTS = re.compile(r"\\(?:text[a-z]*|math(?:rm|bf|it|sf|tt)|mbox)\s*\{([^{}]*)\}")
_LAYOUT = re.compile(r"\\(?:left|right)(?![a-z])|\\(?:begin|end)\s*\{[a-z]*\}(?:\{[clr|]*\})?")
_BRACKETS = (("[", "]"), (r"\{", r"\}"), ("{", "}"), (r"\langle", r"\rangle"))
_ARROW = re.compile(r"\s*(?:→|⟶|➔|\\(?:long)?rightarrow(?![A-Za-z])|\\to(?![A-Za-z])|-+>)\s*")
_MEMBER = re.compile(r"^[A-Za-z]\s*(?:\\in(?![A-Za-z])|∈)\s*(?=\\?\{)")
_SIGN = re.compile(r"\\pm(?![A-Za-z])|±")
_COMMA = re.compile(r",(?=\S)")
_PIECE = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_LONGEST = 20_000  # characters of an answer
_MOST = 1_000  # items
_NO_ITEMS = re.compile(
    r"(?i)\W*(?:emptyset|varnothing|none|∅|empty(?: set| list)?|no (?:items?|elements?|solutions?))?\W*"
)
_WORDS = TextRules()


@dataclass(frozen=True, kw_only=True)
class ListExtractor(TextExtractor):
    """Extracts answers with several items: boxes, each as often as it is there, else a declaration or a JSON list."""

    def _boxed(self, text: str) -> str:
        return last_boxed(text, distinct=False)

    def _otherwise(self, text: str) -> str:
        listed = json_in(text)
        return listed if listed.startswith("[") else super()._otherwise(text)


class ListRules(Rules):
    """Options of answers with several items."""

    KIND: ClassVar[str] = "list"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = ListExtractor
    ordered: Annotated[bool, Field(description="whether the order counts")] = False
    items: Annotated[
        Literal["text", "math"], Field(description="how items are compared: as `_text` or as `_math` compares answers")
    ] = "text"

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer has the same items as the gold one, each as often."""
        split = [(self._items(gold), self._items(answer)) for gold, answer in pairs]
        found = self._verdicts(split)
        for at, (gold, answer) in enumerate(pairs):
            if is_empty_list(gold):
                found[at] = is_empty_list(answer)
        # `salt and pepper` may be one item, `(a, b)` two: an answer is right if it is in one of these readings.
        wrong = [(at, *split[at]) for at, verdict in enumerate(found) if verdict is False]
        others = [(at, (gold, other)) for at, gold, answer in wrong for other in _otherwise(answer, len(gold))]
        for (at, _), verdict in zip(others, self._verdicts([pair for _, pair in others]), strict=True):
            found[at] = found[at] or verdict
        return found

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Answers with the same items vote together."""
        if self.items == "math":
            return clusters(questions, lambda pairs: [v if isinstance(v, bool) else None for v in self.compare(pairs)])
        return clusters_by([[self._key(self._items(answer), answer) for answer in answers] for answers in questions])

    def fault(self, gold: str) -> str:
        """What is wrong with a gold answer: it has no items."""
        return "" if self._items(gold) or is_empty_list(gold) else "has no items"

    def _items(self, answer: str) -> list[str]:
        return items_of(_TEXTS.sub(r"\1", answer) if self.items == "text" else answer)

    def _key(self, items: Sequence[str], answer: str = "") -> Hashable | None:
        keys = [_WORDS.key(item) for item in items]
        if is_empty_list(answer):
            return ()
        return (tuple(keys) if self.ordered else frozenset(Counter(keys).items())) if keys else None

    def _verdicts(self, split: Sequence[tuple[list[str], list[str]]]) -> list[bool | FailureReason]:
        if self.items == "text":
            return [bool(answer) and self._key(gold) == self._key(answer) for gold, answer in split]
        asked = [
            pair for gold, answer in split if len(gold) == len(answer)
            for pair in (zip(gold, answer, strict=True) if self.ordered else ((a, b) for a in gold for b in answer))
        ]  # fmt: skip
        verdicts = dict(zip(asked, compare(asked), strict=True))
        return [
            _matched(gold, answer, verdicts, ordered=self.ordered) if len(gold) == len(answer) > 0 else False
            for gold, answer in split
        ]


def is_empty_list(answer: str) -> bool:
    r"""Whether an answer says that there is no item, as `[]`, `\emptyset` or `none` do; an empty text says nothing.

    >>> is_empty_list(r"\{\}"), is_empty_list(r"\text{None}"), is_empty_list(""), is_empty_list("[1]")
    (True, True, False, False)
    """
    text = _TEXTS.sub(r"\1", answer.strip().strip("$").strip())
    return len(text) < 40 and re.search(r"[\[{∅A-Za-z]", text) is not None and _NO_ITEMS.fullmatch(text) is not None


def _matched(
    gold: Sequence[str], answer: Sequence[str], verdicts: dict[tuple[str, str], bool | FailureReason], *, ordered: bool
) -> bool | FailureReason:
    """Whether each gold item has an equal one of its own; equality is transitive, so the first that fits will do."""
    left = list(answer)
    for item in gold:
        candidates = left[:1] if ordered else left
        found = [verdicts[item, other] for other in candidates]
        if True not in found:
            return next((verdict for verdict in found if verdict is not False), False)
        del left[found.index(True)]
    return True


def items_of(answer: str) -> list[str]:
    r"""The items of an answer: of a JSON list, of lines, or of an enumeration with commas, semicolons or a last `and`.

    >>> items_of("[3, 5]"), items_of(r"\\{x, y\\}"), items_of("(1,2), (3,4) and (5,6)")
    (['3', '5'], ['x', 'y'], ['(1,2)', '(3,4)', '(5,6)'])
    """
    text = _MEMBER.sub("", answer[:_LONGEST].strip().strip("$").strip())
    try:
        listed = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        listed = None
    if listed:
        return [one if isinstance(one, str) else json.dumps(one) for one in listed][:_MOST]
    text = _LAYOUT.sub(" ", text).replace(r"\\", "\n").strip()
    for opening, closing in _BRACKETS:
        inner = text[len(opening) : len(text) - len(closing)]
        if text.startswith(opening) and text.endswith(closing) and _balanced(inner):
            text = inner.strip()
            break
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and not any(line.endswith((",", ";", " and")) for line in lines):
        return [_BULLET.sub("", line) for line in lines][:_MOST]
    return _enumerated(" ".join(lines))[:_MOST]


def _enumerated(text: str) -> list[str]:
    if len(_parts(text, ",;")) == 1:
        text = _ARROW.sub(", ", text)
    *before, last = _parts(text, ";" if len(_parts(text, ";")) > 1 else ",")
    joined = _AND.match(last)
    found = [*before, *(joined.groups() if joined else [last.removeprefix("and ") if before else last])]
    items = [item for one in found if (item := _BULLET.sub("", one).strip().strip("\"'`"))]
    return [_COMMA.sub(", ", item) if item[0] in "([" else item for item in items]


def _parts(text: str, separators: str) -> list[str]:
    """A text between separators that are outside all brackets."""
    depth, found = 0, [""]
    for piece in _PIECE.findall(text):
        depth += (piece in ("(", "[", "{", r"\{")) - (piece in (")", "]", "}", r"\}"))
        if depth == 0 and piece in separators:
            found.append("")
        else:
            found[-1] += piece
    return [part.strip() for part in found]


def _otherwise(items: Sequence[str], wanted: int) -> Iterator[list[str]]:
    """Other readings of an answer, if it has not as many items as the gold one."""
    if len(items) == wanted + 1 > 1:  # the last two may be one, with `and` in it
        yield [*items[:-2], f"{items[-2]} and {items[-1]}"]
    if len(items) + sum(_SIGN.search(item) is not None for item in items) == wanted > len(items):
        yield [one for item in items for one in dict.fromkeys(_SIGN.sub(sign, item) for sign in "+-")]
    if len(items) == 1 < wanted == items[0].count(">") + 1:  # an order: `a > b > c`
        yield [part.strip() for part in items[0].split(">")]
    if len(items) == 1 < wanted and items[0].startswith("(") and items[0].endswith(")") and _balanced(items[0][1:-1]):
        yield _enumerated(items[0][1:-1])


def _balanced(text: str) -> bool:
    """Whether no bracket closes one that was opened before the text: `(1,2), (3,4)` is not one tuple."""
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return False
    return depth == 0
