r"""The options of a question by their texts: what a letter is for, where a reply writes the text as well, or alone.

>>> options = OptionTexts(["$x^2$", "$-x^2$", "The Nile"])
>>> options.letter_of(r"x^{2}"), options.letter_of("Nile."), options.letter_of("the Nile and the Po")
('A', 'C', '')
>>> options.is_contradicted("A", "A) $-x^2$, as it falls"), options.is_contradicted("A", "A: since it is even")
(True, False)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from lm_eval_ext.choices import LETTERS
from lm_eval_ext.grading.texts import TextRules

_LONGEST = 300  # characters of an answer that may be an option
_LINES = 50  # of a text, from the end, that may list the options
_WORDS = TextRules()
_IS_WORDS = re.compile(r"[^\W\d_]{2}")
_WRAPPER = re.compile(r"\\(?:text[a-z]*|math(?:rm|bf|it)|mbox|operatorname)\s*\{([^{}]*)\}")
_UNSEEN = re.compile(
    r"\\[,;:! ]|\\(?:left|right|displaystyle)(?![A-Za-z])|\\[()\[\]]|\*\*|[\s~$`]|\\(?=[$%])|_(?=\w)"
    r"|\\(?=(?:log|ln|exp|sin|cos|tan)(?![a-z]))"
)
_BRACED = re.compile(r"([\^_])\s*\{\s*(-?\\?\w+)\s*\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{(\w+)\}|(\d))\s*(?:\{(\w+)\}|(\d))")
_SPELLED = {"−": "-", "–": "-", "°": r"^\circ", r"\dfrac": r"\frac", r"\tfrac": r"\frac"}
# What may stand between a letter and the text of an option, and where a clause of that ends.
_BEHIND = r"(?:(?:\s?[)\]}.:*|])+\s*|\s[–—-]\s|,?\s\(|,\s)"
_BESIDE = r"(?<![\w'’]){letter}(?:\s[–—-]\s{text}(?!\w)|,?\s\({text}\)|,\s{text},)"
_CLAUSE_END = re.compile(r"[.;,)](?=\W|$)|\s(?:because|since|as|which|is|for|so)\s|\s[(–—-]\s?")
# What a last sentence says right before the text of an option: `The weak acid is CH3COOH.`
_SAYS = re.compile(
    r"(?i)(?:\b(?:is|are|was|were|(?:must|has to|have to) be|answer|choose|pick|ist|est|es|è|é|är)|['’]s|:)"
    r"[\s*\"“]+(?=\S)|\s\*{1,2}(?=[^*]+\*{1,2}[.!]?$)"
)
_DENIES = re.compile(r"(?i)\b(?:not|no|never|neither|if|whether|unless|than|would|could|might|may|assum\w+)\b|n['’]t\b")


class OptionTexts:
    """The options of a question, in the order in which it shows them.

    Args:
        texts: their texts, of A, B, and so on.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def letter_of(self, answer: str) -> str:
        """The letter of the only option that an answer is the text of; empty if there is none, or several."""
        if len(answer) > _LONGEST:
            return ""
        for key, keys in self._keys:
            wanted = key(answer)
            if (places := [place for place, text in enumerate(keys) if text == wanted]) and wanted:
                return LETTERS[places[0]] if len(places) == 1 else ""
        return ""

    def is_contradicted(self, letter: str, answer: str) -> bool:
        """Whether an answer has the text of another option behind its letter."""
        for match in re.finditer(rf"(?<![\w'’]){letter}{_BEHIND}(?=\S)([^\n]+)", answer[:_LONGEST]):
            said = next(filter(None, map(self.letter_of, _beginnings(match[1]))), letter)
            if said != letter:
                return True
        return False

    def without_own(self, text: str) -> str:
        """A text in which each letter stands without the text of its option: `Option B is` for `Option B, Mars, is`."""
        for letter, own in zip(LETTERS, self.texts, strict=False):
            if own in text:
                text = re.sub(_BESIDE.format(letter=letter, text=re.escape(own)), letter, text)
        return text

    def said_in(self, text: str) -> str:
        """The letter of the option that the last line of a text says, alone or as what something is."""
        *before, line = text.rstrip().splitlines()[-_LINES:] or [""]
        if len(line) > _LONGEST or line.endswith("?"):
            return ""
        if letter := self.letter_of(line):
            return "" if any(map(self.letter_of, before)) else letter  # which may be the last of a list
        if len(beside := self._beside(line)) == 1 and not self._beside("\n".join(before)) - beside:
            return beside.pop()
        sentence = re.split(r"(?<=[.!?;])\s", line)[-1]
        said = ((self.letter_of(sentence[verb.end() :]), sentence[: verb.end()]) for verb in _SAYS.finditer(sentence))
        return next((letter for letter, subject in said if letter and not _DENIES.search(subject)), "")

    def _beside(self, text: str) -> set[str]:
        """The letters that stand before the text of their option."""
        options = zip(LETTERS, self.texts, strict=False)
        return {
            letter
            for letter, own in options
            if own in text and re.search(rf"(?<![\w'’]){letter}(?:{_BEHIND}|\s?[—→-]\s?){re.escape(own)}(?!\w)", text)
        }

    @cached_property
    def _keys(self) -> list[tuple[Callable[[str], str], list[str]]]:
        """The ways to compare texts, the strictest first, with what each makes of the options."""
        return [(key, [key(text) for text in self.texts]) for key in (str.strip, _as_written, _in_words)]


def _beginnings(text: str) -> Iterator[str]:
    """A text, and each beginning of it that may be a clause, the longest first."""
    yield text
    for end in reversed(list(_CLAUSE_END.finditer(text))):
        yield text[: end.start()]


def _as_written(text: str) -> str:
    """A text without spaces and markup, in which signs and case count."""
    while (inner := _WRAPPER.sub(r"\1", text)) != text:
        text = inner
    text = _FRACTION.sub(r"\1\2/\3\4", _BRACED.sub(r"\1\2", text))
    text = _UNSEEN.sub("", text).rstrip(".")
    for spelled, plain in _SPELLED.items():
        text = text.replace(spelled, plain)
    return text


def _in_words(text: str) -> str:
    """A text of words without case, articles and punctuation; empty for one with digits or formulas."""
    return "" if re.search(r"[\d\\=^<>+/]", text) or not _IS_WORDS.search(text) else _WORDS.key(text)
