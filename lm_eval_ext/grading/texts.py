r"""Answers that are words: compared after a normalisation that the task declares.

>>> rules = TextRules(synonyms="yes_no")
>>> rules.key("\\text{The Eiffel Tower.}"), rules.key("**True**, since it rains")
('eiffel tower', 'yes')
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lm_eval_ext.grading.boxes import last_boxed
from lm_eval_ext.grading.declarations import last_declared
from lm_eval_ext.grading.extraction import PLACES
from lm_eval_ext.grading.grading import FailureReason
from lm_eval_ext.grading.rules import BaseExtractor, Extractor, Labels, Pairs, Rules, clusters_by
from lm_eval_ext.grading.words import table

Ignored = Literal["case", "articles", "punctuation", "accents", "spaces"]
_WRAPPER = re.compile(r"\\(?:text[a-z]*|math(?:rm|bf|it|sf|tt)|emph|underline|mbox|hbox|operatorname)\s*+\{([^{}]*)\}")
_SPACES = re.compile(r"(?:\\(?:[,; ]|q?quad\b|\\)|~|\s)+")
_MARKUP = re.compile(r"\*\*|__|`|\$|\\[()\[\]!]")
_ARTICLES = re.compile(r"(?i)\b(?:a|an|the)\s+(?=\w)")  # `vitamin A` keeps its A
_IN_WORD = re.compile(r"(?<=\w)'(?=\w)")
# Signs, decimal points and such belong to a number, `#` and `+` to a name.
_PUNCTUATION = re.compile(r"(?!(?<!\w)-(?=\.?\d)|(?<=\d)[.,/:](?=\d)|(?<=\d)%|(?<=\w)#)[^\w\s+<>=^|~$€£°√∞π]|_")
_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)
_CLAUSE = re.compile(r"[,.;:!?()]|\s-+\s|\b(?:because|since|as|for)\b")  # what ends one
_LEAD = re.compile(r"^(?:(?:so|thus|hence|therefore|then|clearly|definitely|certainly|absolutely|obviously) )+")
_SENTENCE = re.compile(r"(\w+) ((?:it|this|that|he|she|they|there|we|you|i) (?:\w+ ){0,3}\w+)$")  # after a verdict
_SAID = re.compile(r"^(?:so |thus |hence )?(?:\w+ ){0,4}(?:is|are|was|were) ")  # before a verdict: `the answer is`
_INITIALS = re.compile(r"\b([^\W\d_])\.(?=[^\W\d_]\b)")  # `U.S.A.`
_LONGEST = 2_000  # characters
_ONE_LINE = 100  # characters of a text that may be nothing but its answer


@dataclass(frozen=True, kw_only=True)
class TextExtractor(Extractor):
    """Extracts answers in words: a box, else a declaration, else an answer of one short line as a whole."""

    IN_WORDS: ClassVar[bool] = True
    find: Sequence[str] = ("boxed", "declared")

    def of(self, text: str) -> str:
        """The answer in the text after the thinking."""
        places = {"boxed": self._boxed, "declared": last_declared}
        answers = (places.get(place, PLACES[place])(text) for place in self.find)
        return next((answer for answer in answers if answer), "") or self._otherwise(text)

    def _boxed(self, text: str) -> str:
        return last_boxed(text)

    def _otherwise(self, text: str) -> str:
        """The answer in a text that neither boxes nor declares it."""
        whole = text.strip()
        one_line = len(whole) <= _ONE_LINE and not re.search(r"\n|[.!?:]\s|\\boxed", whole)
        return whole if one_line else ""


class TextRules(Rules):
    """Options of answers in words; a gold answer may hold several accepted ones, one per line."""

    KIND: ClassVar[str] = "text"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = TextExtractor
    ignore: Annotated[
        tuple[Ignored, ...], Field(description="differences that don't count; Unicode forms and markup never do")
    ] = ("case", "articles", "punctuation")
    synonyms: Annotated[
        Literal["yes_no", "true_false"] | dict[str, list[str]] | None,
        Field(description="words that mean the same: `yes_no` (which includes true and false), or a mapping"),
    ] = None

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer is one of the accepted ones."""
        return [self.key(answer) in self.accepted(gold) if answer else False for gold, answer in pairs]

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Answers vote together if they are the same after normalisation."""
        return clusters_by([[self.key(answer) or None for answer in answers] for answers in questions])

    def extra(self, gold: str, answers: Sequence[str]) -> dict[str, float]:  # the same for all
        """`chance`: one half for yes and no."""
        return {"chance": 0.5} if isinstance(self.synonyms, str) else {}

    def fault(self, gold: str) -> str:
        """Why a gold answer cannot be compared: it is empty, or as long as a whole solution."""
        if not self.accepted(gold):
            return "is empty"
        if isinstance(self.synonyms, str) and not self.accepted(gold) <= set(self._canonical.values()):
            return f"is not one of the words of synonyms={self.synonyms}"
        return "reads like a whole text, which no answer repeats word by word" if len(gold.split()) > 60 else ""

    def accepted(self, gold: str) -> set[str]:
        """The keys of the accepted answers."""
        return {self.key(line) for line in gold.splitlines()} - {""}

    def key(self, answer: str) -> str:
        """An answer without the differences that don't count; the name of its group if it is a synonym."""
        text = self._normalised(answer[:_LONGEST])
        if text in self._canonical or not self._canonical:
            return self._canonical.get(text, text)
        clauses = [self._normalised(clause) for clause in _CLAUSE.split(_plain(answer[:_LONGEST]))]
        first, *others = [clause for one in clauses if (clause := _LEAD.sub("", f"{one} ").strip())] or [""]
        said = _SENTENCE.match(first)
        verdict, rest = (said[1], said[2]) if said else (first, "")
        name = self._canonical.get(verdict) or self._canonical.get(_SAID.sub("", verdict))
        contradicted = any(
            self._canonical.get(other, name) != name for other in [*others, rest, _SAID.sub("", f"{rest}")]
        )
        return text if name is None or contradicted else name

    def _normalised(self, text: str) -> str:
        text = _plain(text)
        full = text = text.casefold() if "case" in self.ignore else text
        if "accents" in self.ignore:
            text = "".join(one for one in unicodedata.normalize("NFD", text) if not unicodedata.combining(one))
        if "articles" in self.ignore:
            text = _ARTICLES.sub(" ", text)
        if "punctuation" in self.ignore:
            text = _PUNCTUATION.sub(" ", _INITIALS.sub(r"\1", _IN_WORD.sub("", text)))
        text = ("" if "spaces" in self.ignore else " ").join(text.split())
        return unicodedata.normalize("NFC", text or " ".join(full.split()))  # only articles or punctuation

    @cached_property
    def _canonical(self) -> dict[str, str]:
        groups = self.synonyms if isinstance(self.synonyms, dict) else yes_no() if self.synonyms else {}
        return {
            self._normalised(word): self._normalised(name) for name, words in groups.items() for word in (name, *words)
        }


def yes_no() -> Mapping[str, Sequence[str]]:
    """The words for yes and no, true and false."""
    found: dict[str, list[str]] = table("yes_no")
    return found


def _plain(text: str) -> str:
    """The text without markup, quotes around it and differences of Unicode."""
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    while (inner := _WRAPPER.sub(r"\1", text)) != text:
        text = inner
    return _MARKUP.sub("", _SPACES.sub(" ", text)).strip().strip("\"'").strip()
